//! One session as the LNS runs it: a PPP link over a row of the session table.
//!
//! Pure. Entering and leaving open become rows that the tunnel commits ([`SessionRequest::Put`]); the link holds its frames until
//! the table has accepted them. Who the subscriber is and which address they get is decided elsewhere and comes in as a [`Grant`].

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::commands::SessionKey;
use holdfast_cluster::records::SessionRow;
use holdfast_ppp::{AuthRequest, Cause, IpcpConfig, Link, LinkConfig, Output, Transition, Verdict};
use holdfast_protocol::SessionId;
use holdfast_protocol::message::Proxy;
use ipnet::Ipv6Net;

use super::tunnel::SessionRequest;
use super::{Now, rows};
use crate::aaa::Profile;

/// Data sequence numbers are reserved in blocks of this many, so that a successor can start after the block's end.
pub const SEQUENCE_BLOCK: u64 = 4096;

/// What the shell has to do for its session, in order.
#[derive(Debug)]
pub enum Command {
    /// Send this PPP frame to the subscriber.
    SendFrame(Vec<u8>),
    /// Ask who this is; the answer comes back through [`Session::handle_grant`] or [`Session::handle_refusal`].
    Authenticate {
        /// Names the question in the answer.
        serial: u32,
        /// What the subscriber offers.
        request: Box<AuthRequest>,
    },
    /// Ask the tunnel.
    Request(SessionRequest),
    /// The subscriber is online: the Configure-Ack has just been released.
    Online,
    /// A link that was open before opens again.
    Renegotiated,
    /// The link is dead; the call is being cleared.
    Ended(Cause),
    /// A frame or an attempt to count.
    Count(holdfast_ppp::Counter),
}

/// What authentication and address assignment granted.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What was decided; goes into the row, but for what is asked for by name and stands here below.
    pub profile: Profile,
    /// The subscriber's address; `None` gives no IPv4.
    pub address: Option<Ipv4Addr>,
    /// The prefix announced on the link.
    pub link_prefix: Option<Ipv6Net>,
    /// The prefix delegated by DHCPv6.
    pub delegated_prefix: Option<Ipv6Net>,
    /// The LNS's own IPv4 address in the session.
    pub local: Ipv4Addr,
    /// Name servers offered in IPCP.
    pub dns: [Option<Ipv4Addr>; 2],
    /// A stale session of the same user whose place this one takes.
    pub replaces: Option<SessionKey>,
}

/// Why a subscriber does not come in, as far as he is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denial {
    /// What goes into the CHAP Failure or PAP Nak.
    pub message: Vec<u8>,
    /// The `E=` number of MS-CHAP, unless it is the usual one.
    pub ms_chap_error: Option<u16>,
    /// Nobody could judge: he may well come in later.
    pub is_temporary: bool,
}

impl From<Vec<u8>> for Denial {
    fn from(message: Vec<u8>) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    row: Arc<SessionRow>,
    link: Link,
    grant: Option<Box<Grant>>,
    /// Rows asked for and not accepted yet.
    asked: VecDeque<(Serial, Arc<SessionRow>)>,
    next_serial: u32,
    commands: VecDeque<Command>,
}

/// Who asked for a row, to be told of its acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serial {
    Link(u32),
    Sequence,
}

impl Session {
    /// Born from its row: open if the row is open, from LCP on otherwise. `proxy` is what the ICCN brought of the LAC's own
    /// negotiation, if this is the first birth.
    pub fn born(
        now: Now,
        config: Arc<LinkConfig>,
        row: Arc<SessionRow>,
        proxy: Option<&Proxy>,
        seed: u64,
    ) -> Self {
        let id = row.id().expect("a row in the table has a session id");
        let link = match row.ppp.as_ref().filter(|ppp| ppp.is_open()) {
            Some(ppp) => Link::resume(now.monotonic, config, &rows::open_link(ppp), seed),
            None => Link::start(now.monotonic, config, proxy.map(rows::ppp_proxy).as_ref(), seed),
        };
        let mut session = Self {
            id,
            row,
            link,
            grant: None,
            asked: VecDeque::new(),
            // Answers to an earlier core of this session may still be on their way: ours must not look like them.
            next_serial: (seed >> 32) as u32,
            commands: VecDeque::new(),
        };
        session.settle(now);
        session
    }

    /// Our id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The row as last accepted.
    pub fn row(&self) -> &Arc<SessionRow> {
        &self.row
    }

    /// The table's own copy of the row: kept instead of ours if it says the same.
    pub fn share_row(&mut self, row: Arc<SessionRow>) {
        if self.row == row {
            self.row = row;
        }
    }

    /// A PPP control frame of the subscriber.
    pub fn handle_input(&mut self, now: Now, frame: &[u8]) {
        self.link.handle_input(now.monotonic, frame);
        self.settle(now);
    }

    /// Something came from the subscriber at this time, by the monotonic clock: the line is alive.
    pub fn note_heard(&mut self, at: Duration) {
        self.link.note_received(at);
    }

    /// Data came from the subscriber at some time since the last call: the line is alive and, if open, in use.
    pub fn note_data(&mut self, now: Now) {
        self.link.note_received(now.monotonic);
        self.link.set_data_seen();
    }

    /// The subscriber is who they say and has an address.
    pub fn handle_grant(&mut self, now: Now, serial: u32, grant: Grant) {
        let verdict = Verdict::Accept {
            ipcp: grant.address.map(|peer| IpcpConfig {
                local: grant.local,
                peer,
                dns: grant.dns,
            }),
            message: grant.profile.message.clone(),
            ms_chap_success: grant.profile.ms_chap_success.clone(),
        };
        self.grant = Some(Box::new(grant));
        self.link.verdict(now.monotonic, serial, verdict);
        self.settle(now);
    }

    /// The subscriber is refused; the text goes to them.
    pub fn handle_refusal(&mut self, now: Now, serial: u32, denial: impl Into<Denial>) {
        let Denial {
            message,
            ms_chap_error,
            is_temporary,
        } = denial.into();
        let verdict = match is_temporary {
            true => Verdict::Unavailable { message },
            false => Verdict::Reject {
                message,
                ms_chap_error,
            },
        };
        self.link.verdict(now.monotonic, serial, verdict);
        self.settle(now);
    }

    /// The row asked for under `serial` is accepted. Answers come in order; one that is not the next was for an earlier core.
    pub fn handle_accepted(&mut self, now: Now, serial: u32) {
        let awaited = self.next_serial.wrapping_sub(self.asked.len() as u32);
        if serial != awaited {
            return;
        }
        let Some((who, row)) = self.asked.pop_front() else {
            return;
        };
        let was_open = self.row.is_open();
        self.row = row;
        if let Serial::Link(link_serial) = who {
            self.link.commit_accepted(now.monotonic, link_serial);
        }
        if self.asked.is_empty() {
            // Open sessions are many and ask seldom: give the memory back.
            self.asked = VecDeque::new();
        }
        if matches!(who, Serial::Link(_)) && self.row.is_open() {
            self.grant = None;
        }
        self.settle(now);
        if !was_open && self.row.is_open() {
            self.commands.push_back(Command::Online);
        }
    }

    /// Half of the reserved data sequence numbers are used: reserve the next block.
    pub fn reserve_sequence(&mut self, now: Now) {
        if self.asked.iter().any(|(who, _)| *who == Serial::Sequence) {
            return;
        }
        let mut row = self.latest_row();
        row.sequence_reserved += SEQUENCE_BLOCK;
        self.ask(Serial::Sequence, row, None);
        self.settle(now);
    }

    /// Ends the link for a reason of ours: LCP Terminate, then the call is cleared.
    pub fn close(&mut self, now: Now, cause: Cause) {
        self.link.close(now.monotonic, cause);
        self.settle(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now) {
        self.link.handle_timeout(now.monotonic);
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.link.poll_timeout()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Command> {
        let command = self.commands.pop_front();
        if command.is_none() {
            // Silent for most of its life: a drained queue gives its memory back.
            self.commands = VecDeque::new();
        }
        command
    }

    fn settle(&mut self, now: Now) {
        while let Some(output) = self.link.poll_output() {
            match output {
                Output::Frame(frame) => self.commands.push_back(Command::SendFrame(frame)),
                Output::Authenticate { serial, request } => {
                    self.commands.push_back(Command::Authenticate { serial, request });
                }
                Output::Commit { serial, transition } => self.commit(now, serial, transition),
                Output::Finished(cause) => self.finish(cause),
                Output::Count(counter) => self.commands.push_back(Command::Count(counter)),
                Output::Up(_) | Output::Down(_) => {}
            }
        }
    }

    fn commit(&mut self, now: Now, serial: u32, transition: Transition) {
        let mut row = self.latest_row();
        let mut replaces = None;
        match transition {
            Transition::Open(link) => {
                if row.ppp.as_ref().is_some_and(|ppp| !ppp.is_open()) {
                    self.commands.push_back(Command::Renegotiated);
                }
                let opened_ms = row
                    .ppp
                    .as_ref()
                    .filter(|ppp| ppp.opened_ms > 0)
                    .map_or(now.table_ms, |ppp| ppp.opened_ms);
                row.ppp = Some(rows::ppp_row(
                    &link,
                    self.grant.as_deref(),
                    row.ppp.as_ref(),
                    opened_ms,
                ));
                replaces = self.grant.as_ref().and_then(|grant| grant.replaces);
            }
            Transition::Leave => rows::leave_open(&mut row),
        }
        self.ask(Serial::Link(serial), row, replaces);
    }

    fn ask(&mut self, who: Serial, row: SessionRow, replaces: Option<SessionKey>) {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        self.asked.push_back((who, Arc::new(row.clone())));
        self.commands.push_back(Command::Request(SessionRequest::Put {
            serial,
            row: Box::new(row),
            replaces,
        }));
    }

    /// The row that the next change builds upon: the newest one asked for.
    fn latest_row(&self) -> SessionRow {
        SessionRow::clone(self.asked.back().map_or(&self.row, |(_, row)| row))
    }

    fn finish(&mut self, cause: Cause) {
        self.commands.push_back(Command::Ended(cause));
        let (cdn, terminate_cause) = rows::cdn(cause);
        self.commands
            .push_back(Command::Request(SessionRequest::End { cdn, terminate_cause }));
    }
}

#[cfg(test)]
mod tests {
    use holdfast_cluster::records::{NcpRow, PppRow};

    use super::*;

    const NOW: Now = Now {
        monotonic: Duration::from_secs(1),
        table_ms: 1_000,
    };

    fn born(seed: u64) -> Session {
        let row = SessionRow {
            session_id: 5,
            peer_session_id: 6,
            ..SessionRow::default()
        };
        let mut session = Session::born(NOW, Arc::default(), Arc::new(row), None, seed);
        asked(&mut session);
        session
    }

    /// An open session that asks for a sign of life every 20 s, and counts on one in any.
    fn born_open() -> Session {
        let ncp = NcpRow {
            protocol: 0x8021,
            open: true,
            local: vec![100, 64, 0, 1],
            peer: vec![100, 64, 0, 2],
            request_hash: vec![0; 8],
            ..NcpRow::default()
        };
        let ppp = PppRow {
            local_magic: 7,
            peer_magic: 9,
            local_mru: 1492,
            peer_mru: 1492,
            ncps: vec![ncp],
            ..PppRow::default()
        };
        let row = SessionRow {
            session_id: 5,
            peer_session_id: 6,
            ppp: Some(ppp),
            ..SessionRow::default()
        };
        assert!(row.is_open());
        Session::born(NOW, Arc::default(), Arc::new(row), None, 1)
    }

    /// Lets an hour pass in which the subscriber answers no echo; whether the session outlives that.
    fn survives(mut meanwhile: impl FnMut(&mut Session, Duration)) -> bool {
        let mut session = born_open();
        while let Some(at) = session
            .poll_timeout()
            .filter(|at| *at < Duration::from_secs(3600))
        {
            meanwhile(&mut session, at);
            session.handle_timeout(Now { monotonic: at, ..NOW });
        }
        std::iter::from_fn(|| session.poll_output()).all(|command| !matches!(command, Command::Ended(_)))
    }

    #[test]
    fn a_subscriber_that_asks_and_never_answers_is_alive() {
        assert!(!survives(|_, _| {}));
        assert!(survives(
            |session, at| session.note_heard(at - Duration::from_secs(1))
        ));
    }

    fn asked(session: &mut Session) -> Vec<u32> {
        std::iter::from_fn(|| session.poll_output())
            .filter_map(|command| match command {
                Command::Request(SessionRequest::Put { serial, .. }) => Some(serial),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn an_answer_for_an_earlier_core_is_none_for_the_next() {
        let mut earlier = born(1 << 32);
        earlier.reserve_sequence(NOW);
        let stale = asked(&mut earlier)[0];
        let mut session = born(2 << 32);
        session.reserve_sequence(NOW);
        session.handle_accepted(NOW, stale);
        assert_eq!(session.row().sequence_reserved, 0);
        let serial = asked(&mut session)[0];
        session.handle_accepted(NOW, serial);
        assert_eq!(session.row().sequence_reserved, SEQUENCE_BLOCK);
        session.handle_accepted(NOW, serial);
        assert!(session.asked.is_empty());
    }
}
