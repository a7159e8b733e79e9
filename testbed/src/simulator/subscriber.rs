//! A subscriber: the call it is in, its PPP client, its pings, and what it has lived through.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::SessionId;

use super::numbers::Numbers;
use super::ppp::{Client, Login, Phase};
use super::protocol::SessionState;
use super::timers::Reminder;

/// Ping sequence numbers from here on belong to a check, those below to the regular pings.
pub const CHECK_SEQUENCE: u16 = 0x8000;

/// A call in progress.
#[derive(Debug)]
pub struct Call {
    /// Our session id.
    pub local: SessionId,
    /// The LNS's, once it has taken the call.
    pub peer: Option<SessionId>,
    /// When the ICRQ left for the first time.
    pub asked_at: Option<Duration>,
    pub client: Option<Client>,
    /// IPCP was open once; from then on losing the call counts.
    pub established: bool,
    pub renegotiated: bool,
    /// It was established before the last mark.
    pub marked: bool,
    /// We end it ourselves: nothing that happens from here on counts.
    pub ending: bool,
    /// The next number of a data message.
    pub data_ns: u16,
    /// Whether data messages are numbered: required, or as the LNS does.
    pub numbered: bool,
    /// Of the LNS's data messages, where numbers are required.
    pub numbers: Option<Numbers>,
    pub ping: Ping,
    pub check: CheckState,
}

impl Call {
    /// `sequencing`: numbers are required in both directions.
    pub fn new(local: SessionId, sequencing: bool) -> Self {
        Self {
            local,
            peer: None,
            asked_at: None,
            client: None,
            established: false,
            renegotiated: false,
            marked: false,
            ending: false,
            data_ns: 0,
            numbered: sequencing,
            numbers: sequencing.then(Numbers::default),
            ping: Ping::default(),
            check: CheckState::default(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| client.phase() == Phase::Open)
    }
}

/// What a check still waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckState {
    pub echo_pending: bool,
    pub ping_pending: bool,
}

/// The pings of one session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ping {
    /// When the next one leaves; `None` while nothing is pinged.
    pub next: Option<Duration>,
    pub sent: u32,
    pub answered: u32,
    pub sequence: u16,
    /// When the last answer came, or pinging began.
    pub last_answer: Option<Duration>,
    pub longest_gap: Duration,
}

impl Ping {
    /// Notes that a ping leaves; the gap begins to count with the first.
    pub fn note_sent(&mut self, now: Duration, interval: Duration) -> u16 {
        self.sent += 1;
        self.sequence = (self.sequence + 1) % CHECK_SEQUENCE;
        self.last_answer.get_or_insert(now);
        // A late ping does not put off those after it, unless a whole interval is lost.
        let due = self.next.unwrap_or(now) + interval;
        self.next = Some(if due > now { due } else { now + interval });
        self.sequence
    }

    pub fn note_answered(&mut self, now: Duration) {
        self.answered += 1;
        self.longest_gap = self.gap(now);
        self.last_answer = Some(now);
    }

    /// The longest time without an answer, the present silence included.
    pub fn gap(&self, now: Duration) -> Duration {
        let silence = self
            .last_answer
            .map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.longest_gap.max(silence)
    }

    /// Forgets the gaps so far.
    pub fn restart(&mut self) {
        self.longest_gap = Duration::ZERO;
        self.last_answer = None;
    }

    /// Begins a new measurement; a silence under way counts in it from its own beginning.
    pub fn mark(&mut self) {
        self.longest_gap = Duration::ZERO;
    }

    /// Stops pinging: silence counts no longer.
    pub fn stop(&mut self) {
        self.next = None;
        self.last_answer = None;
    }
}

/// One subscriber, whether it has a call or not.
#[derive(Debug)]
pub struct Subscriber {
    /// The tunnel that its calls go through.
    pub tunnel: u32,
    pub login: Arc<Login>,
    pub state: SessionState,
    pub call: Option<Call>,
    /// Why the last call ended, if we did not end it.
    pub reason: Option<String>,
    pub setup: Option<Duration>,
    /// Of the last call.
    pub renegotiated: bool,
    pub address: Option<Ipv4Addr>,
    /// Of the calls that are over.
    pub past: Ping,
    pub reminder: Reminder,
}

impl Subscriber {
    pub fn new(tunnel: u32, login: Arc<Login>) -> Self {
        Self {
            tunnel,
            login,
            state: SessionState::Idle,
            call: None,
            reason: None,
            setup: None,
            renegotiated: false,
            address: None,
            past: Ping::default(),
            reminder: Reminder::default(),
        }
    }

    /// Whether it may be dialled.
    pub fn is_idle(&self) -> bool {
        self.call.is_none() && self.state != SessionState::Pending
    }

    pub fn is_open(&self) -> bool {
        self.call.as_ref().is_some_and(Call::is_open)
    }

    /// Whether the server has negotiated anew in the present or the last call.
    pub fn has_renegotiated(&self) -> bool {
        self.renegotiated || self.call.as_ref().is_some_and(|call| call.renegotiated)
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let call = self.call.as_ref()?;
        let client = call.client.as_ref().and_then(Client::poll_timeout);
        [client, call.ping.next].into_iter().flatten().min()
    }

    /// The call is over; its pings are added to the past.
    pub fn end_call(&mut self, state: SessionState, reason: Option<String>, now: Duration) -> Option<Call> {
        self.state = state;
        self.reason = reason;
        self.address = None;
        let call = self.call.take()?;
        self.renegotiated = call.renegotiated;
        self.past.sent += call.ping.sent;
        self.past.answered += call.ping.answered;
        self.past.longest_gap = self.past.longest_gap.max(call.ping.gap(now));
        Some(call)
    }

    /// Pings sent and answered and the longest gap, the present call included.
    pub fn pings(&self, now: Duration) -> (u32, u32, Duration) {
        let present = self.call.as_ref().map_or(Ping::default(), |call| call.ping);
        (
            self.past.sent + present.sent,
            self.past.answered + present.answered,
            self.past.longest_gap.max(present.gap(now)),
        )
    }
}
