//! One tunnel at the LAC: opens it, places calls in it, notices its death (RFC 2661 §5, §6, §7.2, §7.4).
//!
//! It knows calls by their ids and subscribers by their number, and nothing of PPP. What it has to send waits in
//! its channel; what befalls it is told as [`Happening`]s.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_protocol::avp::{Context, ResultCode};
use holdfast_protocol::challenge;
use holdfast_protocol::header::ControlPacket;
use holdfast_protocol::iana::{MessageType, bearer, framing, stop_result};
use holdfast_protocol::message::{Cdn, Iccn, Icrq, Message, Scccn, Sccrp, Sccrq, StopCcn};
use holdfast_protocol::{Secret, SessionId, TunnelId};

use super::channel::{Channel, Departure, Incoming, Outgoing, Tag};
use super::timers::Reminder;

/// What befell a tunnel or a call in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    Up,
    /// It ended, not by us; its calls are gone.
    Down {
        reason: String,
        stuck: bool,
    },
    /// It ended as we asked.
    Closed,
    /// The LNS acknowledged a message of ours.
    Acknowledged(Tag),
    /// The LNS took a call.
    CallTaken {
        subscriber: u32,
        session: SessionId,
        peer: SessionId,
    },
    /// The LNS ended a call.
    CallEnded {
        subscriber: u32,
        reason: String,
    },
}

/// Where the tunnel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never opened, or over.
    Idle,
    /// The SCCRQ is out.
    WaitReply,
    Established,
    /// Our StopCCN is out.
    Closing,
}

/// What every tunnel of a LAC has in common.
#[derive(Clone, Debug)]
pub struct Traits {
    pub host_name: Vec<u8>,
    pub secret: Option<Secret>,
    /// Does not challenge the LNS.
    pub trusting: bool,
    pub receive_window: u16,
    /// Zero: the LAC sends no HELLOs of its own accord.
    pub hello_interval: Duration,
}

impl Traits {
    fn challenges(&self) -> bool {
        self.secret.is_some() && !self.trusting
    }
}

/// A tunnel as its LAC sees it.
#[derive(Debug)]
pub struct Tunnel {
    pub lac: u16,
    pub state: State,
    /// Our id; a new one for each opening.
    pub local: TunnelId,
    /// Where the LNS answers from.
    pub remote: SocketAddr,
    /// Subscribers who dial when the tunnel is up.
    pub waiting: Vec<u32>,
    channel: Channel,
    challenge: [u8; 16],
    /// Our session ids and whose they are.
    calls: HashMap<SessionId, u32>,
    last_session: u16,
    last_heard: Duration,
    hello_interval: Duration,
    hello_out: bool,
    /// It has been established in this opening.
    up: bool,
    /// A check waits for the answer to its HELLO.
    pub check_pending: bool,
    pub reminder: Reminder,
}

impl Tunnel {
    pub fn new(lac: u16, remote: SocketAddr) -> Self {
        Self {
            lac,
            state: State::Idle,
            local: TunnelId::new(1).expect("not zero"),
            remote,
            waiting: Vec::new(),
            channel: Channel::new(),
            challenge: [0; 16],
            calls: HashMap::new(),
            last_session: 0,
            last_heard: Duration::ZERO,
            hello_interval: Duration::ZERO,
            hello_out: false,
            up: false,
            check_pending: false,
            reminder: Reminder::default(),
        }
    }

    /// Sends the SCCRQ. `local` must be new, `challenge` random.
    pub fn open(&mut self, now: Duration, traits: &Traits, local: TunnelId, challenge: [u8; 16]) {
        let waiting = std::mem::take(&mut self.waiting);
        *self = Self {
            waiting,
            reminder: self.reminder,
            ..Self::new(self.lac, self.remote)
        };
        (self.local, self.challenge) = (local, challenge);
        (self.last_heard, self.hello_interval) = (now, traits.hello_interval);
        self.state = State::WaitReply;
        let sccrq = Sccrq {
            framing: framing::SYNCHRONOUS | framing::ASYNCHRONOUS,
            bearer: Some(bearer::DIGITAL | bearer::ANALOG),
            tie_breaker: None,
            firmware: Some(1),
            host_name: traits.host_name.clone(),
            vendor_name: Some(b"holdfast-testbed".to_vec()),
            assigned_tunnel_id: local,
            receive_window: traits.receive_window,
            challenge: traits.challenges().then(|| challenge.to_vec()),
        };
        self.send(&Message::Sccrq(sccrq), None, Tag::Plain);
    }

    /// Forgets everything, as after a loss of power.
    pub fn vanish(&mut self) {
        *self = Self {
            reminder: self.reminder,
            ..Self::new(self.lac, self.remote)
        };
    }

    /// Whether the tunnel that has just gone down had been up.
    pub fn take_up(&mut self) -> bool {
        std::mem::take(&mut self.up)
    }

    /// Since when the LNS owes an acknowledgement.
    pub fn unanswered_since(&self) -> Option<Duration> {
        self.channel.unanswered_since()
    }

    /// From here on repeats what is not acknowledged at this pace.
    pub fn set_repeat(&mut self, repeat: Option<Duration>) {
        self.channel.set_repeat(repeat);
    }

    /// Whether a HELLO is not acknowledged yet.
    pub fn awaits_hello(&self) -> bool {
        self.hello_out
    }

    /// Control messages sent again, in this opening.
    pub fn retransmitted(&self) -> u64 {
        self.channel.retransmitted
    }

    /// The LNS's id of the tunnel, once known.
    pub fn peer(&self) -> Option<TunnelId> {
        self.channel.peer
    }

    /// The subscriber behind one of our session ids.
    pub fn subscriber(&self, session: SessionId) -> Option<u32> {
        self.calls.get(&session).copied()
    }

    /// Everyone with a call in the tunnel; it forgets them.
    pub fn take_calls(&mut self) -> Vec<u32> {
        let mut subscribers: Vec<u32> = self.calls.drain().map(|(_, subscriber)| subscriber).collect();
        subscribers.sort_unstable();
        subscribers
    }

    /// Sends an ICRQ; `None` when all session ids are in use.
    pub fn place_call(&mut self, subscriber: u32, serial: u32) -> Option<SessionId> {
        let session = self.unused_session()?;
        self.calls.insert(session, subscriber);
        let icrq = Icrq {
            assigned_session_id: session,
            call_serial: serial,
            bearer_type: Some(bearer::DIGITAL),
            physical_channel: Some(subscriber),
            calling_number: Some(format!("{subscriber:06}").into_bytes()),
            called_number: Some(b"100".to_vec()),
            sub_address: None,
            vendor_avps: Vec::new(),
        };
        self.send(&Message::Icrq(icrq), None, Tag::Call(subscriber));
        Some(session)
    }

    /// Sends the ICCN to the LNS's session `peer`.
    pub fn connect_call(&mut self, peer: SessionId, iccn: Iccn) {
        self.send(&Message::Iccn(Box::new(iccn)), Some(peer), Tag::Connect);
    }

    /// Sends a CDN and forgets the call.
    pub fn end_call(&mut self, session: SessionId, peer: Option<SessionId>, result: u16) {
        self.calls.remove(&session);
        let cdn = Cdn {
            assigned_session_id: Some(session),
            ..Cdn::new(ResultCode::new(result))
        };
        self.send(&Message::Cdn(cdn), peer, Tag::Clear);
    }

    /// Sends a StopCCN.
    pub fn close(&mut self, result: u16) {
        self.state = State::Closing;
        let stop = StopCcn {
            assigned_tunnel_id: Some(self.local),
            result: ResultCode::new(result),
        };
        self.send(&Message::StopCcn(stop), None, Tag::Plain);
    }

    /// Sends a HELLO.
    pub fn hello(&mut self) {
        self.hello_out = true;
        self.send(&Message::Hello, None, Tag::Hello);
    }

    /// Any sign of life of the LNS, data too, puts the next HELLO off.
    pub fn note_received(&mut self, now: Duration) {
        self.last_heard = now;
    }

    pub fn handle_control(
        &mut self,
        now: Duration,
        traits: &Traits,
        packet: &ControlPacket<'_>,
        happenings: &mut Vec<Happening>,
    ) {
        self.note_received(now);
        let (mut acknowledged, mut messages) = (Vec::new(), Vec::new());
        self.channel
            .handle_input(now, packet, &mut acknowledged, &mut messages);
        self.hello_out &= !acknowledged.contains(&Tag::Hello);
        happenings.extend(acknowledged.into_iter().map(Happening::Acknowledged));
        for message in messages {
            self.handle_message(traits, &message, happenings);
        }
        if self.state == State::Closing && self.channel.is_idle() {
            self.state = State::Idle;
            happenings.push(Happening::Closed);
        }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let wants_hello =
            self.state == State::Established && !self.hello_interval.is_zero() && !self.hello_out;
        let hello = wants_hello.then(|| self.last_heard + self.hello_interval);
        [self.channel.poll_timeout(), hello].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Duration, happenings: &mut Vec<Happening>) {
        if self.channel.handle_timeout(now).is_err() {
            let was = std::mem::replace(&mut self.state, State::Idle);
            self.channel = Channel::new();
            happenings.push(match was {
                State::Closing => Happening::Closed,
                _ => Happening::Down {
                    reason: "control channel unanswered".into(),
                    stuck: true,
                },
            });
            return;
        }
        let hello_due = self.state == State::Established
            && !self.hello_interval.is_zero()
            && now >= self.last_heard + self.hello_interval;
        if hello_due && !self.hello_out {
            self.hello();
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Departure> {
        self.channel.poll_transmit(now)
    }

    fn send(&mut self, message: &Message, session: Option<SessionId>, tag: Tag) {
        self.channel.send(Outgoing::new(message, session, tag));
    }

    fn handle_message(&mut self, traits: &Traits, incoming: &Incoming, happenings: &mut Vec<Happening>) {
        let context = Context {
            secret: traits.secret.as_ref(),
            permissive: false,
        };
        let message = match Message::decode(&incoming.body, &context) {
            Ok(message) => message,
            Err(fault) => return self.refuse(format!("malformed message: {fault}"), happenings),
        };
        match (self.state, message) {
            (State::WaitReply, Message::Sccrp(sccrp)) => self.handle_sccrp(traits, &sccrp, happenings),
            (_, Message::StopCcn(stop)) => {
                let reason = format!("StopCCN {:?}", stop.result);
                self.end(reason, happenings);
            }
            (State::Established, Message::Icrp(icrp)) => {
                let peer = icrp.assigned_session_id;
                if let Some((session, subscriber)) = self.call_of(incoming.session) {
                    happenings.push(Happening::CallTaken {
                        subscriber,
                        session,
                        peer,
                    });
                }
            }
            (_, Message::Cdn(cdn)) => {
                if let Some((session, subscriber)) = self.call_of(incoming.session) {
                    self.calls.remove(&session);
                    let reason = format!("CDN {:?}", cdn.result);
                    happenings.push(Happening::CallEnded { subscriber, reason });
                }
            }
            (_, Message::Hello | Message::Sli(_) | Message::Unknown(_)) => {}
            // Late answers to a tunnel that is going down or has gone.
            (State::Closing | State::Idle, _) => {}
            (State::WaitReply | State::Established, message) => {
                self.refuse(format!("unexpected {:?}", message.message_type()), happenings);
            }
        }
    }

    fn handle_sccrp(&mut self, traits: &Traits, sccrp: &Sccrp, happenings: &mut Vec<Happening>) {
        self.channel.peer = Some(sccrp.assigned_tunnel_id);
        self.channel.peer_window = sccrp.receive_window;
        if let Some(secret) = traits.secret.as_ref().filter(|_| traits.challenges()) {
            let expected = challenge::response(MessageType::Sccrp, secret, &self.challenge);
            if sccrp.response != Some(expected) {
                return self.distrust("LNS does not know the secret".into(), happenings);
            }
        }
        let response = match (&sccrp.challenge, &traits.secret) {
            (None, _) => None,
            (Some(asked), Some(secret)) => Some(challenge::response(MessageType::Scccn, secret, asked)),
            (Some(_), None) => return self.distrust("LNS wants a secret".into(), happenings),
        };
        self.send(&Message::Scccn(Scccn { response }), None, Tag::Plain);
        self.state = State::Established;
        self.up = true;
        happenings.push(Happening::Up);
    }

    /// The two sides have no secret in common.
    fn distrust(&mut self, reason: String, happenings: &mut Vec<Happening>) {
        self.close(stop_result::NOT_AUTHORIZED);
        happenings.push(Happening::Down { reason, stuck: false });
    }

    /// The LNS does what a sane LNS does not: say goodbye.
    fn refuse(&mut self, reason: String, happenings: &mut Vec<Happening>) {
        self.close(stop_result::STATE_MACHINE_ERROR);
        happenings.push(Happening::Down { reason, stuck: false });
    }

    /// The LNS ended it; the channel stays to acknowledge repeats until the tunnel is opened again.
    fn end(&mut self, reason: String, happenings: &mut Vec<Happening>) {
        let was = std::mem::replace(&mut self.state, State::Idle);
        match was {
            State::Idle => {}
            State::Closing => happenings.push(Happening::Closed),
            State::WaitReply | State::Established => {
                happenings.push(Happening::Down { reason, stuck: false });
            }
        }
    }

    fn call_of(&self, session: Option<SessionId>) -> Option<(SessionId, u32)> {
        let session = session?;
        self.subscriber(session).map(|subscriber| (session, subscriber))
    }

    fn unused_session(&mut self) -> Option<SessionId> {
        (0..=u16::MAX).find_map(|_| {
            self.last_session = self.last_session.wrapping_add(1);
            SessionId::new(self.last_session).filter(|session| !self.calls.contains_key(session))
        })
    }
}
