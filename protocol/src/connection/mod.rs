//! A tunnel's control connection: reliable channel, state machine and calls in one (RFC 2661 §5, §7).
//!
//! ```text
//!  datagram --> handle_input --> channel (order, duplicates) --> messages --> state machines
//!                                                                               |       |
//!  owner <-- poll_event <-------------------------------------------------------+       | queue
//!  owner --> accept_call, close_call, close ... --> state machines --> queue            v
//!  owner: progress, messages_from --> (committed) --> accept --> poll_transmit --> datagrams
//! ```
//!
//! Nothing that acknowledges or advances leaves before [`Connection::accept`] says that it may. The connection
//! never sees a socket, nor the peer's address: the owner knows where its datagrams come from and go to.

mod calls;
mod event;
mod messages;
mod refusal;
mod settings;
mod snapshot;
mod state;
mod tie;
mod timers;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

pub use event::{CallEnd, CallError, CloseReason, Event};
pub use refusal::Refusal;
pub use settings::{Peer, Settings};
pub use snapshot::Snapshot;
pub use state::State;
pub use tie::{Tie, resolve as resolve_tie};

use crate::avp::ResultCode;
use crate::call::{CallInput, CallSnapshot, CallState, Calls};
use crate::challenge::response;
use crate::channel::{Channel, Delivery, DropReason, Progress, QueueFull};
use crate::header::{self, ControlHeader, Packet};
use crate::iana::{MessageType, error_code, stop_result};
use crate::ids::{SessionId, TunnelId};
use crate::message::{Message, Scccn, Sccrq, StopCcn};
use state::{Action, Input, transition};

/// How long a closed tunnel goes on acknowledging: a full retransmission cycle, 1+2+4+8+16 s (RFC 2661 §5.7).
pub const RETENTION: Duration = Duration::from_secs(31);

/// One tunnel.
pub struct Connection {
    settings: Settings,
    local: TunnelId,
    peer: Peer,
    state: State,
    channel: Channel,
    calls: Calls,
    /// The peer's challenge until it is answered.
    peer_challenge: Option<Vec<u8>>,
    /// Of the setup, or of the retention.
    deadline: Option<Duration>,
    /// When the peer was last heard.
    silent_since: Duration,
    events: VecDeque<Event>,
}

/// Without the queues: a message of the peer may hold a password.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("local", &self.local)
            .field("peer", &self.peer.tunnel)
            .field("state", &self.state)
            .field("progress", &self.channel.progress())
            .field("calls", &self.calls.len())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The answering side of a tunnel: the SCCRP is queued. The SCCRQ counts as the message with Ns 0.
    pub fn respond(
        settings: Settings,
        now: Duration,
        local: TunnelId,
        sccrq: &Sccrq,
    ) -> Result<Self, Refusal> {
        if sccrq.challenge.is_some() && settings.secret.is_none() {
            let result = no_secret();
            return Err(Refusal::new(local, sccrq.assigned_tunnel_id, result));
        }
        let mut connection = Self::new(settings, now, local, Peer::from(sccrq));
        connection.peer_challenge = sccrq.challenge.clone();
        let delivery = connection.channel.receive(0, None, &[]);
        debug_assert_eq!(delivery, Ok(Delivery::Deliver));
        connection.step(now, Input::SccrqAcceptable, CloseReason::NoAnswer);
        Ok(connection)
    }

    /// The opening side of a tunnel: the SCCRQ is queued.
    pub fn initiate(settings: Settings, now: Duration, local: TunnelId) -> Self {
        let mut connection = Self::new(settings, now, local, Peer::default());
        connection.step(now, Input::LocalOpen, CloseReason::NoAnswer);
        connection
    }

    fn new(mut settings: Settings, now: Duration, local: TunnelId, peer: Peer) -> Self {
        settings.challenge.take_if(|_| settings.secret.is_none());
        let channel = Channel::new(settings.timing(), settings.receive_window, peer.receive_window);
        let deadline = Some(now + settings.setup_timeout);
        Self {
            settings,
            local,
            peer,
            state: State::Idle,
            channel,
            calls: Calls::default(),
            peer_challenge: None,
            deadline,
            silent_since: now,
            events: VecDeque::new(),
        }
    }

    /// Our tunnel id.
    pub fn local(&self) -> TunnelId {
        self.local
    }

    /// What the peer told of itself.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Where the control connection stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// When setup is given up, or a closed tunnel forgotten.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The connection takes and sends nothing any more.
    pub fn is_finished(&self) -> bool {
        self.state == State::Idle
    }

    /// Calls that are being set up or are up.
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// Where a call of ours stands, and the peer's id for it.
    pub fn call(&self, local: SessionId) -> Option<(CallState, Option<SessionId>)> {
        self.calls.get(local).map(|call| (call.state, call.peer))
    }

    /// A call of ours as its row keeps it.
    pub fn call_snapshot(&self, local: SessionId) -> Option<CallSnapshot> {
        self.calls.get(local).map(|call| call.snapshot(local))
    }

    /// Our id of the call that the peer calls `peer`.
    pub fn call_of_peer(&self, peer: SessionId) -> Option<SessionId> {
        self.calls.by_peer(peer)
    }

    /// A datagram that was addressed to this tunnel from the tunnel's peer. The caller has checked both.
    pub fn handle_input(&mut self, now: Duration, datagram: &[u8]) -> Result<(), DropReason> {
        let Packet::Control(packet) = header::decode(datagram)? else {
            return Err(DropReason::NotControl);
        };
        if self.is_finished() {
            return Err(DropReason::Gone);
        }
        self.silent_since = now;
        self.channel.acknowledge(now, packet.header.nr);
        if packet.is_zlb() {
            return Ok(());
        }
        let session = packet.header.session;
        match self.channel.receive(packet.header.ns, session, packet.body)? {
            Delivery::Duplicate | Delivery::Early => {}
            Delivery::Deliver => {
                self.deliver(now, session, packet.body);
                while let Some(early) = self.channel.next_early() {
                    self.deliver(now, early.session, &early.body);
                }
            }
        }
        Ok(())
    }

    /// Data came from the peer, which so is alive.
    pub fn note_received(&mut self, now: Duration) {
        self.silent_since = now;
    }

    /// The next event. To be drained after every input.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Closes the tunnel and all its calls with a StopCCN.
    pub fn close(&mut self, now: Duration, result: ResultCode) {
        self.step(now, Input::Close, CloseReason::Local(result));
    }

    /// Compares tie breakers with an SCCRQ of the peer that crossed ours, and gives up our attempt if it lost.
    pub fn resolve_tie(&mut self, now: Duration, sccrq: &Sccrq) -> Tie {
        let tie = resolve_tie(self.settings.tie_breaker, sccrq.tie_breaker);
        match tie {
            Tie::Lost | Tie::BothLost => self.step(now, Input::TieLost, CloseReason::TieLost),
            Tie::Won => self.step(now, Input::TieWon, CloseReason::TieLost),
            Tie::Independent => {}
        }
        tie
    }

    /// How far the channel has come. Compare with what was last proposed.
    pub fn progress(&self) -> Progress {
        self.channel.progress()
    }

    /// Messages with this Ns or a later one, encoded; Nr is filled in when they are sent.
    pub fn messages_from(&self, ns: u16) -> impl Iterator<Item = (u16, &[u8])> {
        self.channel.messages_from(ns)
    }

    /// The gate: the table accepted `progress`. Messages below `queued` may leave, Nr up to `received` may be sent.
    pub fn accept(&mut self, _now: Duration, progress: Progress) {
        self.channel.accept(progress);
    }

    /// The next datagram that may leave.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.is_finished() {
            return None;
        }
        self.channel.poll_transmit(now, self.peer.tunnel)
    }

    /// Feeds the state machine and does what it decides. `reason` is why, should that end the tunnel.
    fn step(&mut self, now: Duration, input: Input, reason: CloseReason) {
        let before = self.state;
        let (action, next) = transition(before, input);
        self.state = next;
        match action {
            Action::Nothing => {}
            Action::SendSccrq => {
                let sccrq = self.settings.sccrq(self.local);
                self.send_first(Message::Sccrq(sccrq));
            }
            Action::SendSccrp => self.send_sccrp(),
            Action::SendScccnAndOpen => {
                let response = self.take_response(MessageType::Scccn);
                self.send_first(Message::Scccn(Scccn { response }));
                self.open(now);
            }
            Action::Open => self.open(now),
            Action::SendStopCcn => {
                self.send_stop(&reason);
                self.end(now, before, reason);
            }
            Action::CleanUp => self.end(now, before, reason),
        }
    }

    fn send_sccrp(&mut self) {
        let mut sccrp = self.settings.sccrp(self.local);
        sccrp.response = self.take_response(MessageType::Sccrp);
        self.send_first(Message::Sccrp(sccrp));
    }

    /// The answer to the peer's challenge, if it sent one.
    fn take_response(&mut self, carrier: MessageType) -> Option<crate::challenge::Response> {
        let challenge = self.peer_challenge.take()?;
        self.settings
            .secret
            .as_ref()
            .map(|secret| response(carrier, secret, &challenge))
    }

    /// The tunnel is up: calls that waited for it are offered to the peer.
    fn open(&mut self, now: Duration) {
        self.deadline = None;
        self.events.push_back(Event::Established);
        for local in self.calls.in_state(CallState::WaitTunnel) {
            self.step_call(now, local, CallInput::TunnelOpen, CallEnd::Peer(None));
        }
    }

    fn send_stop(&mut self, reason: &CloseReason) {
        let result = match reason {
            CloseReason::Local(result) => result.clone(),
            CloseReason::Peer(_) | CloseReason::NoAnswer | CloseReason::TieLost => {
                ResultCode::new(stop_result::GENERAL_REQUEST)
            }
        };
        let stop = StopCcn {
            assigned_tunnel_id: Some(self.local),
            result,
        };
        let tunnel = self.peer.tunnel;
        self.channel.queue_last(|ns| {
            Message::StopCcn(stop).encode(
                ControlHeader {
                    tunnel,
                    session: None,
                    ns,
                    nr: 0,
                },
                None,
            )
        });
    }

    /// The tunnel left its live states, or its retention is over.
    fn end(&mut self, now: Duration, before: State, reason: CloseReason) {
        match before {
            State::WaitCtlReply | State::WaitCtlConn | State::Established => {
                self.calls.clear();
                self.deadline = Some(now + RETENTION);
                self.events.push_back(Event::Closed(reason));
            }
            State::Idle | State::Closing | State::Closed => {}
        }
        if self.is_finished() {
            self.deadline = None;
            self.events.push_back(Event::Finished);
        }
    }

    /// Queues a message of the tunnel's setup, when the queue is still empty.
    fn send_first(&mut self, message: Message) {
        self.send(None, &message).expect("a new channel's queue has room");
    }

    /// Queues a message to the peer's `session`.
    fn send(&mut self, session: Option<SessionId>, message: &Message) -> Result<(), QueueFull> {
        let tunnel = self.peer.tunnel;
        self.channel.queue(|ns| {
            message.encode(
                ControlHeader {
                    tunnel,
                    session,
                    ns,
                    nr: 0,
                },
                None,
            )
        })
    }

    /// Queues a message that nobody waits for the fate of. Without room for it the tunnel has to go: the peer's
    /// idea of it could not be kept right.
    fn send_or_close(&mut self, now: Duration, session: Option<SessionId>, message: &Message) {
        if self.send(session, message).is_err() {
            let result = ResultCode::with_error(
                stop_result::GENERAL_ERROR,
                error_code::NO_RESOURCES,
                "control channel's queue is full",
            );
            self.close(now, result);
        }
    }
}

/// The peer wants proof of a secret that is not configured. To go on without would only make it refuse.
fn no_secret() -> ResultCode {
    ResultCode::with_error(stop_result::NOT_AUTHORIZED, error_code::NONE, "no shared secret")
}
