//! One session as the LNS runs it: a PPP link over a row of the session table.
//!
//! Pure. Entering and leaving open become rows that the tunnel commits ([`SessionRequest::Put`]); the link holds its frames until
//! the table has accepted them. Router Solicitations and DHCPv6 come here too, and are answered from the row ([`ipv6`]). Who the subscriber is and which address they get is decided elsewhere and comes in as a [`Grant`].

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::commands::SessionKey;
use holdfast_cluster::records::{PppRow, SessionRow};
use holdfast_ppp::frame::Frame;
use holdfast_ppp::iana::protocol;
use holdfast_ppp::{
    AuthRequest, Cause, Direction, InterfaceId, IpcpConfig, Ipv6cpConfig, Link, LinkConfig, Ncp, Output,
    Transition, Verdict,
};
use holdfast_protocol::SessionId;
use holdfast_protocol::message::Proxy;
use ipnet::Ipv6Net;

use super::change::Change;
use super::entropy::Entropy;
use super::ipv6::dhcp6::Duid;
use super::ipv6::{self, Services};
use super::timeouts::Timeouts;
use super::tunnel::SessionRequest;
use super::{Now, rows};
use crate::aaa::Profile;

/// Data sequence numbers are reserved in blocks of this many, so that a successor can start after the block's end.
pub const SEQUENCE_BLOCK: u64 = 4096;

/// Our interface identifier: fe80::1 on every link.
const INTERFACE_ID: InterfaceId = [0, 0, 0, 0, 0, 0, 0, 1];

/// An interface identifier for a subscriber who has none: not universal (RFC 5072 §4.1), neither zero nor ours.
fn made_up(drawn: u64) -> InterfaceId {
    const UNIVERSAL: u64 = 0x02 << 56;
    (drawn & !UNIVERSAL).max(2).to_be_bytes()
}

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
    /// An IPv6 packet between the subscriber and us to count.
    CountIpv6(ipv6::Counter),
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
    timeouts: Timeouts,
    grant: Option<Box<Grant>>,
    /// While IPV6CP is open.
    ipv6: Option<Box<Services>>,
    duid: Duid,
    entropy: Entropy,
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
    Change,
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
            timeouts: Timeouts::default(),
            grant: None,
            ipv6: None,
            duid: Duid::default(),
            entropy: Entropy::new(seed),
            asked: VecDeque::new(),
            // Answers to an earlier core of this session may still be on their way: ours must not look like them.
            next_serial: (seed >> 32) as u32,
            commands: VecDeque::new(),
        };
        session.timeouts.follow(now, &session.row);
        if rows::has_open(&session.row, Ncp::Ipv6cp) {
            let seed = session.entropy.next_u64();
            session.ipv6 = Some(Box::new(Services::go_on(now.monotonic, seed)));
        }
        session.settle(now);
        session
    }

    /// Who we are to DHCPv6 clients: the same on all nodes of the cluster.
    pub fn serve_as(&mut self, duid: Duid) {
        self.duid = duid;
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

    /// A PPP control frame of the subscriber, or an IPv6 packet for us.
    pub fn handle_input(&mut self, now: Now, frame: &[u8]) {
        if is_terminate_request(frame) {
            self.note_ending(Cause::Terminated(Direction::Peer));
        }
        match Frame::parse(frame) {
            Ok(Frame {
                protocol: protocol::IPV6,
                information,
            }) if self.ipv6.is_some() => {
                self.link.note_received(now.monotonic);
                self.with_ipv6(|services, ppp, duid| {
                    services.handle_packet(now.monotonic, ppp, duid, information)
                });
            }
            _ => self.link.handle_input(now.monotonic, frame),
        }
        self.settle(now);
    }

    fn with_ipv6(&mut self, act: impl FnOnce(&mut Services, &PppRow, Duid) -> ipv6::Answer) {
        let (Some(services), Some(ppp)) = (&mut self.ipv6, &self.row.ppp) else {
            return;
        };
        let ipv6::Answer { frame, count } = act(services, ppp, self.duid);
        self.commands.extend(frame.map(Command::SendFrame));
        self.commands.extend(count.map(Command::CountIpv6));
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

    /// There was user data, either way, since the last call.
    pub fn note_traffic(&mut self, now: Now) {
        self.timeouts.note_traffic(now.monotonic);
    }

    /// The subscriber is who they say and has an address.
    pub fn handle_grant(&mut self, now: Now, serial: u32, grant: Grant) {
        let verdict = Verdict::Accept {
            ipcp: grant.address.map(|peer| IpcpConfig {
                local: grant.local,
                peer,
                dns: grant.dns,
            }),
            ipv6cp: self.ipv6cp(&grant),
            message: grant.profile.message.clone(),
            ms_chap_success: grant.profile.ms_chap_success.clone(),
        };
        self.grant = Some(Box::new(grant));
        self.link.verdict(now.monotonic, serial, verdict);
        self.settle(now);
    }

    /// IPv6 for whoever has a prefix, or an identifier set for them. Ours is the same in all sessions.
    fn ipv6cp(&mut self, grant: &Grant) -> Option<Ipv6cpConfig> {
        let set = grant.profile.interface_id;
        let has_prefix = grant.link_prefix.is_some() || grant.delegated_prefix.is_some();
        (has_prefix || set.is_some()).then(|| Ipv6cpConfig {
            local: INTERFACE_ID,
            peer: set.unwrap_or_else(|| made_up(self.entropy.next_u64())),
            fixed: set.is_some(),
        })
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
        match who {
            Serial::Link(link_serial) => self.link.commit_accepted(now.monotonic, link_serial),
            Serial::Change | Serial::Sequence => {}
        }
        if who != Serial::Sequence {
            self.timeouts.follow(now, &self.row);
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

    /// Replaces some of what the session is held to, if it is open. Whoever wants to know what came of it looks at the table.
    pub fn change(&mut self, now: Now, change: &Change) {
        if let Some(row) = change.applied(self.latest_row()) {
            self.ask(Serial::Change, row, None);
        }
        self.settle(now);
    }

    /// Ends the link for a reason of ours: LCP Terminate, then the call is cleared.
    pub fn close(&mut self, now: Now, cause: Cause) {
        self.note_ending(cause);
        self.link.close(now.monotonic, cause);
        self.settle(now);
    }

    /// The LAC may clear the call as soon as the subscriber hears of the end.
    fn note_ending(&mut self, cause: Cause) {
        let (_, terminate_cause) = rows::cdn(cause);
        let ending = SessionRequest::Ending { terminate_cause };
        self.commands.push_back(Command::Request(ending));
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now) {
        if let Some(cause) = self.timeouts.expired(now.monotonic) {
            self.note_ending(cause);
            self.link.close(now.monotonic, cause);
        }
        self.link.handle_timeout(now.monotonic);
        self.with_ipv6(|services, ppp, _| services.handle_timeout(now.monotonic, ppp));
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let own = self.timeouts.deadline();
        let ipv6 = self.ipv6.as_ref().map(|services| services.poll_timeout());
        self.link.poll_timeout().into_iter().chain(own).chain(ipv6).min()
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
                Output::Up(Ncp::Ipv6cp) => {
                    let seed = self.entropy.next_u64();
                    self.ipv6 = Some(Box::new(Services::begin(now.monotonic, seed)));
                }
                Output::Down(Ncp::Ipv6cp) => self.ipv6 = None,
                Output::Up(Ncp::Ipcp) | Output::Down(Ncp::Ipcp) => {}
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

/// LCP, code 5, with or without address and control field (RFC 1661 §5.5).
fn is_terminate_request(frame: &[u8]) -> bool {
    let frame = frame.strip_prefix(&[0xff, 0x03]).unwrap_or(frame);
    frame.starts_with(&[0xc0, 0x21, 0x05])
}

#[cfg(test)]
mod tests {
    use holdfast_cluster::records::NcpRow;

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
    fn a_change_of_an_open_session_is_a_row() {
        let mut session = born_open();
        asked(&mut session);
        let change = Change {
            rate_down: Some(8_000_000),
            session_timeout_s: Some(60),
            ..Change::default()
        };
        session.change(NOW, &change);
        let serial = asked(&mut session)[0];
        assert_eq!(
            session.row().ppp.as_ref().expect("open").session_timeout,
            0,
            "not yet"
        );
        session.handle_accepted(NOW, serial);
        let ppp = session.row().ppp.as_ref().expect("open");
        assert!(ppp.is_open());
        assert_eq!(ppp.service.as_ref().expect("a rate").rate_down, 8_000_000);
        let ends = session.poll_timeout().expect("it ends");
        session.handle_timeout(Now {
            monotonic: NOW.monotonic + Duration::from_secs(60),
            ..NOW
        });
        assert!(ends <= NOW.monotonic + Duration::from_secs(60));
        assert_eq!(asked(&mut session).len(), 1, "leaving open is committed first");
    }

    #[test]
    fn a_session_that_is_not_open_does_not_change() {
        let mut session = born(1);
        let change = Change {
            session_timeout_s: Some(60),
            ..Change::default()
        };
        session.change(NOW, &change);
        assert!(asked(&mut session).is_empty() && session.asked.is_empty());
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
