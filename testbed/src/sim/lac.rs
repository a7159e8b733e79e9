//! A LAC that never gives up: it opens a tunnel, places a call for each of its subscribers, and begins anew whatever ends.
//!
//! The control connection is the protocol crate's own, in its opening role; a LAC commits nothing, so all that it has may leave.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::header::{self, DataHeader, Packet};
use holdfast_protocol::message::{Cdn, Iccn, Icrq};
use holdfast_protocol::{CallEnd, CloseReason, Connection, Dial, Event, SessionId, Settings, TunnelId};

use super::client::{self, Client};
use super::dice::Dice;
use super::facts::{About, Attempt, CallNumber, Fact, Loss};

/// How long a LAC goes on acknowledging in a tunnel that is over (RFC 2661 §5.7).
const MOURNING: Duration = Duration::from_secs(31);

/// How often, per mille, its subscribers stay away when a LAC has restarted.
const STAY_AWAY: u64 = 200;

/// A call and its subscriber.
#[derive(Debug)]
struct Call {
    serial: CallNumber,
    subscriber: usize,
    client: Client,
    /// The LNS's id, once it has answered.
    peer: Option<SessionId>,
}

/// A subscriber who wants to be online.
#[derive(Clone, Copy, Debug)]
enum Subscriber {
    Waiting {
        until: Duration,
    },
    Calling,
    /// He does not come back.
    Away,
}

/// See the module.
#[derive(Debug)]
pub struct Lac {
    pub number: usize,
    pub address: SocketAddr,
    connection: Connection,
    attempt: Attempt,
    established: bool,
    /// When the next tunnel is opened, if this one is over; until then it goes on acknowledging.
    reopen_at: Option<Duration>,
    /// Tunnels that are over and still acknowledge.
    mourned: Vec<(Duration, Connection)>,
    calls: BTreeMap<SessionId, Call>,
    subscribers: Vec<Subscriber>,
    settings: Settings,
    next_serial: CallNumber,
    /// When something is next done of the LAC's or a subscriber's own will.
    whim_at: Option<Duration>,
    whim_every: Duration,
    dice: Dice,
    out: Vec<Vec<u8>>,
    facts: Vec<Fact>,
}

impl Lac {
    pub fn new(now: Duration, number: usize, subscribers: usize, mut dice: Dice) -> Self {
        let address = SocketAddr::from((Ipv4Addr::from(0xc633_6400 + number as u32), 1701));
        let settings = Settings {
            host_name: format!("lac{number}").into_bytes(),
            hello_interval: dice.millis(4_000, 15_000),
            ..Settings::default()
        };
        let local = TunnelId::new(0x1000 + number as u16).expect("not zero");
        let whim_every = dice.millis(200, 4_000);
        Self {
            number,
            address,
            connection: Connection::initiate(settings.clone(), now, local),
            attempt: 0,
            established: false,
            reopen_at: None,
            mourned: Vec::new(),
            calls: BTreeMap::new(),
            subscribers: vec![Subscriber::Waiting { until: now }; subscribers],
            settings,
            // A number that no call of another LAC has.
            next_serial: (number as CallNumber) << 24,
            whim_at: Some(now + whim_every),
            whim_every,
            dice,
            out: Vec::new(),
            facts: vec![Fact::TunnelWanted { lac: number }],
        }
    }

    /// From now on nobody hangs up any more.
    pub fn calm_down(&mut self) {
        self.whim_at = None;
    }

    pub fn subscribers_up(&self) -> usize {
        self.calls.values().filter(|call| call.client.is_up()).count()
    }

    pub fn all_up(&self) -> bool {
        let wanting = self.subscribers.iter();
        let wanting = wanting.filter(|subscriber| !matches!(subscriber, Subscriber::Away));
        self.established && self.subscribers_up() == wanting.count()
    }

    /// What keeps it from being all up, for a report.
    pub fn describe(&self) -> String {
        let calls: Vec<_> = self
            .calls
            .values()
            .map(|call| (call.serial & 0xff_ffff, call.client.is_up()))
            .collect();
        format!(
            "LAC {}: tunnel {} to {:?}, state {:?}, {:?}, calls {calls:?}",
            self.number,
            self.connection.local(),
            self.connection.peer().tunnel,
            self.connection.state(),
            self.connection.progress(),
        )
    }

    /// LNS's session id and address of each subscriber who is online.
    pub fn online(&self) -> impl Iterator<Item = (TunnelId, SessionId, Ipv4Addr)> + '_ {
        let tunnel = self.connection.peer().tunnel;
        self.calls.values().filter_map(move |call| {
            let up = call.client.is_up();
            up.then_some((tunnel?, call.peer?, call.client.address()))
        })
    }

    /// A datagram from the LNS.
    pub fn handle_input(&mut self, now: Duration, datagram: &[u8], about: About) {
        match header::decode(datagram) {
            Ok(Packet::Control(packet)) => {
                if packet.header.tunnel == Some(self.connection.local()) {
                    if self.is_of_earlier(packet.header.ns, about) {
                        return;
                    }
                    // What is not in order is dropped, as it should be.
                    let _ = self.connection.handle_input(now, datagram);
                    self.note_control(packet.header.nr, about);
                } else {
                    for (_, connection) in &mut self.mourned {
                        if packet.header.tunnel == Some(connection.local()) {
                            let _ = connection.handle_input(now, datagram);
                        }
                    }
                }
            }
            Ok(Packet::Data(packet)) if packet.tunnel == Some(self.connection.local()) => {
                let call = packet.session.and_then(|session| self.calls.get_mut(&session));
                let Some(call) = call else { return };
                if let About::Call(meant_for) = about {
                    self.facts.push(Fact::FrameAtLac {
                        lac: self.number,
                        serial: call.serial,
                        meant_for,
                    });
                }
                call.client.handle_input(now, packet.payload);
            }
            _ => {}
        }
        self.settle(now);
    }

    /// A LAC that uses an id again may take what the LNS still says in the earlier tunnel for a message of the new one. No LNS can
    /// prevent that, so nothing is to be seen of it here.
    fn is_of_earlier(&self, ns: u16, about: About) -> bool {
        match self.connection.peer().tunnel {
            Some(tunnel) => About::Tunnel(tunnel) != about,
            None => ns != 0,
        }
    }

    /// What an earlier tunnel of the same id still says is not about this one.
    fn note_control(&mut self, nr: u16, about: About) {
        if let About::Tunnel(tunnel) = about
            && self.connection.peer().tunnel == Some(tunnel)
        {
            self.facts.push(Fact::ControlAtLac {
                lac: self.number,
                attempt: self.attempt,
                tunnel,
                nr,
            });
        }
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.begin(now, false);
        }
        self.connection.handle_timeout(now);
        self.mourned.retain(|(until, _)| *until > now);
        for (_, connection) in &mut self.mourned {
            connection.handle_timeout(now);
        }
        for call in self.calls.values_mut() {
            call.client.handle_timeout(now);
        }
        if self.whim_at.is_some_and(|at| at <= now) {
            self.whim_at = Some(now + self.dice.between(self.whim_every / 8, self.whim_every * 2));
            self.follow_whim(now);
        }
        self.settle(now);
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let waiting = self.subscribers.iter().filter_map(|subscriber| match subscriber {
            Subscriber::Waiting { until } if self.established => Some(*until),
            _ => None,
        });
        let clients = self.calls.values().filter_map(|call| call.client.poll_timeout());
        let mourned = self
            .mourned
            .iter()
            .flat_map(|(until, connection)| [Some(*until), connection.poll_timeout()]);
        [self.connection.poll_timeout(), self.reopen_at, self.whim_at]
            .into_iter()
            .chain(mourned)
            .flatten()
            .chain(waiting)
            .chain(clients)
            .min()
    }

    /// Datagrams for the LNS.
    pub fn take_out(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    pub fn take_facts(&mut self) -> Vec<Fact> {
        std::mem::take(&mut self.facts)
    }

    /// It loses its memory and opens a tunnel anew, from the same port and under the same id or another one. Sometimes
    /// its subscribers stay away: nobody takes the place of what the LNS still has of them.
    pub fn restart(&mut self, now: Duration) {
        self.end_calls(now, &Loss::Wanted);
        if self.dice.happens(STAY_AWAY) {
            self.subscribers.fill(Subscriber::Away);
        }
        let same = self.dice.happens(500);
        self.begin(now, same);
        self.mourned.clear();
        self.settle(now);
    }

    fn begin(&mut self, now: Duration, same_id: bool) {
        let local = match same_id {
            true => self.connection.local(),
            false => loop {
                let drawn = TunnelId::new(self.dice.below(0x1_0000) as u16);
                if let Some(id) = drawn.filter(|id| self.mourned.iter().all(|(_, old)| old.local() != *id)) {
                    break id;
                }
            },
        };
        let next = Connection::initiate(self.settings.clone(), now, local);
        let over = std::mem::replace(&mut self.connection, next);
        self.mourned.push((now + MOURNING, over));
        self.attempt += 1;
        (self.established, self.reopen_at) = (false, None);
        self.facts.push(Fact::TunnelWanted { lac: self.number });
    }

    /// All of its subscribers ask for an echo, and one does what it likes.
    pub fn bustle(&mut self, now: Duration) {
        if self.whim_at.is_some() {
            self.calls.values_mut().for_each(|call| call.client.send_echo());
            self.follow_whim(now);
            self.settle(now);
        }
    }

    /// Mostly a subscriber asks for an echo; some renegotiate or hang up, and the LAC clears a call or, rarely, closes the tunnel.
    fn follow_whim(&mut self, now: Duration) {
        let sessions: Vec<_> = self.calls.keys().copied().collect();
        let Some(session) = self.dice.pick(&sessions) else {
            return;
        };
        let call = self.calls.get_mut(&session).expect("it was picked from them");
        match self.dice.below(200) {
            0..110 => call.client.send_echo(),
            110..130 => call.client.renegotiate(now),
            130..160 if call.client.is_up() => call.client.hang_up(now),
            160..199 => self.clear_call(now, session),
            199 if self.established => {
                self.connection.close(now, ResultCode::new(6));
                self.end_tunnel(now, Loss::Wanted);
            }
            _ => {}
        }
    }

    fn clear_call(&mut self, now: Duration, session: SessionId) {
        let cdn = Cdn::new(ResultCode::new(1));
        if self.connection.close_call(now, session, cdn).is_ok() {
            self.end_call(now, session, Loss::Wanted);
        }
    }

    fn settle(&mut self, now: Duration) {
        while let Some(event) = self.connection.poll_event() {
            self.on_event(now, event);
        }
        self.settle_clients(now);
        self.place_calls(now);
        self.transmit(now);
    }

    fn on_event(&mut self, now: Duration, event: Event) {
        match event {
            Event::Established => {
                self.established = true;
                self.facts.push(Fact::TunnelUp { lac: self.number });
            }
            Event::CallAnswered { local, peer } => {
                if let Some(call) = self.calls.get_mut(&local) {
                    call.peer = Some(peer);
                    call.client.dial(now);
                }
            }
            Event::CallClosed {
                local: Some(local),
                reason,
                ..
            } => {
                let loss = match reason {
                    CallEnd::Local(result) => Loss::Cleared(format!("by itself: {result:?}")),
                    other => Loss::Cleared(format!("{other:?}")),
                };
                self.end_call(now, local, loss);
            }
            Event::Closed(reason) => {
                let loss = match reason {
                    CloseReason::NoAnswer => Loss::GaveUp,
                    other => Loss::Closed(format!("{other:?}")),
                };
                self.end_tunnel(now, loss);
            }
            _ => {}
        }
    }

    fn settle_clients(&mut self, now: Duration) {
        let sessions: Vec<_> = self.calls.keys().copied().collect();
        for session in sessions {
            let call = self.calls.get_mut(&session).expect("a call that there is");
            let mut over = false;
            for event in std::mem::take(&mut call.client.events) {
                match (event, self.connection.peer().tunnel, call.peer) {
                    (client::Event::Up(address), Some(tunnel), Some(session)) => {
                        self.facts.push(Fact::ClientUp {
                            lac: self.number,
                            serial: call.serial,
                            tunnel,
                            session,
                            address,
                        });
                    }
                    (client::Event::Up(_), _, _) => {}
                    (client::Event::Down(loss), _, _) => self.facts.push(Fact::ClientDown {
                        lac: self.number,
                        serial: call.serial,
                        loss,
                    }),
                    (client::Event::Over, _, _) => over = true,
                }
            }
            let frames = std::mem::take(&mut call.client.out);
            if let (Some(tunnel), Some(peer)) = (self.connection.peer().tunnel, call.peer) {
                self.out
                    .extend(frames.iter().map(|frame| data(tunnel, peer, frame)));
            }
            if over {
                self.clear_call(now, session);
            }
        }
    }

    fn place_calls(&mut self, now: Duration) {
        if !self.established || self.reopen_at.is_some() {
            return;
        }
        for subscriber in 0..self.subscribers.len() {
            if matches!(self.subscribers[subscriber], Subscriber::Waiting { until } if until <= now) {
                self.place_call(now, subscriber);
            }
        }
    }

    fn place_call(&mut self, now: Duration, subscriber: usize) {
        self.next_serial += 1;
        let serial = self.next_serial;
        let local = SessionId::new(serial as u16 | 1 << 15).expect("not zero");
        let icrq = Icrq {
            assigned_session_id: local,
            call_serial: serial,
            bearer_type: None,
            physical_channel: None,
            calling_number: None,
            called_number: None,
            sub_address: None,
            vendor_avps: Vec::new(),
        };
        let iccn = Iccn {
            tx_speed: 100_000_000,
            framing_type: 1,
            ..Iccn::default()
        };
        if self
            .connection
            .place_call(now, local, Dial { icrq, iccn })
            .is_err()
        {
            self.subscribers[subscriber] = Subscriber::Waiting {
                until: now + Duration::from_secs(1),
            };
            return;
        }
        let user = (self.number as u32) << 8 | subscriber as u32;
        let call = Call {
            serial,
            subscriber,
            client: Client::new(&user.to_string(), 0x5000_0000 | serial),
            peer: None,
        };
        self.subscribers[subscriber] = Subscriber::Calling;
        self.calls.insert(local, call);
    }

    fn end_call(&mut self, now: Duration, session: SessionId, loss: Loss) {
        let Some(mut call) = self.calls.remove(&session) else {
            return;
        };
        if call.client.is_up() {
            call.client.take_down(loss);
        }
        for event in call.client.events {
            if let client::Event::Down(loss) = event {
                self.facts.push(Fact::ClientDown {
                    lac: self.number,
                    serial: call.serial,
                    loss,
                });
            }
        }
        self.subscribers[call.subscriber] = Subscriber::Waiting {
            until: now + self.dice.millis(500, 4_000),
        };
    }

    fn end_calls(&mut self, now: Duration, loss: &Loss) {
        let sessions: Vec<_> = self.calls.keys().copied().collect();
        for session in sessions {
            self.end_call(now, session, loss.clone());
        }
    }

    fn end_tunnel(&mut self, now: Duration, loss: Loss) {
        self.end_calls(now, &loss);
        if loss != Loss::Wanted {
            self.facts.push(Fact::TunnelLost {
                lac: self.number,
                attempt: self.attempt,
                loss,
            });
        }
        self.established = false;
        self.reopen_at = Some(now + self.dice.millis(500, 3_000));
    }

    fn transmit(&mut self, now: Duration) {
        let mourned = self.mourned.iter_mut().map(|(_, connection)| connection);
        for connection in mourned.chain([&mut self.connection]) {
            // What befalls a tunnel that is over is of no interest.
            while connection.poll_event().is_some() {}
            connection.accept(now, connection.progress());
            while let Some(datagram) = connection.poll_transmit(now) {
                self.out.push(datagram);
            }
        }
    }
}

fn data(tunnel: TunnelId, session: SessionId, frame: &[u8]) -> Vec<u8> {
    let message = DataHeader::short(tunnel, session).message(frame);
    message.expect("a frame is not that long")
}
