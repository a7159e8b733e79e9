//! The network phase: every control protocol runs the one automaton behind the commit gate (RFC 1661 §3.6).
//!
//! A Configure-Request of the peer that we would acknowledge is withheld from the automaton, so that the automaton goes
//! from Req-Sent to Ack-Rcvd first and the Configure-Ack is the last step into Opened; [`gate`](super::gate) lets it
//! happen. Requests that need a Nak or a Reject are answered at once.

use std::time::Duration;

use super::machine::{Machine, Phase};
use super::output::request_hash;
use super::refused::Refused;
use super::{Counter, LinkConfig, OpenNcp, Output, Shared};
use crate::automaton::{Event, State};
use crate::cause::Cause;
use crate::iana::code;
use crate::ncp::{Ncp, NcpConfig, NcpOptions};
use crate::negotiator::{Answer, Effect, Negotiator, RESTART_CAP, Run, Trouble};
use crate::packet::Packet;
use crate::random::Random;

/// How long a Configure-Request is withheld. By then the peer has repeated it (its restart timer is 3 s by RFC 1661
/// §4.6) or given it up, and an answer to a request that has been given up would mislead.
const WITHHOLD: Duration = RESTART_CAP;

/// What takes a protocol out of Opened; waits until the row does without it.
#[derive(Debug)]
pub(super) enum Held {
    /// The newest packet of the peer that does.
    Packet(Vec<u8>),
    /// The peer rejects the protocol.
    Rejected,
    /// We give it up.
    GivenUp(Cause),
}

/// The peer's newest Configure-Request that we would acknowledge.
#[derive(Debug)]
struct Withheld {
    octets: Vec<u8>,
    open: OpenNcp,
    until: Duration,
}

/// One network control protocol.
#[derive(Debug)]
pub(super) struct NcpLayer {
    ncp: Ncp,
    /// What it began with; the same whatever was negotiated since, so that the row does not change with each packet.
    granted: NcpConfig,
    negotiator: Negotiator,
    options: NcpOptions,
    withheld: Option<Withheld>,
    /// The peer's requests that this negotiation has refused.
    refused: Refused,
    held: Option<Held>,
    /// Why it came to an end.
    failure: Option<Cause>,
}

impl NcpLayer {
    fn new(config: &NcpConfig, negotiator: Negotiator) -> Self {
        Self {
            ncp: config.ncp(),
            granted: *config,
            negotiator,
            options: NcpOptions::new(config),
            withheld: None,
            refused: Refused::default(),
            held: None,
            failure: None,
        }
    }

    /// A protocol that the row says is open.
    pub(super) fn opened(open: &OpenNcp, random: &mut Random, config: &LinkConfig) -> Self {
        Self::new(&open.config, Negotiator::opened(random.octet(), config))
    }

    /// A protocol that the row says the peer may open: it is for the peer to begin (RFC 1661 §4.2, Stopped), for what was
    /// said before the link came to rest, or to another node, is not known.
    pub(super) fn waiting(granted: &NcpConfig, random: &mut Random) -> Self {
        Self::new(granted, Negotiator::stopped(random.octet()))
    }

    pub(super) fn ncp(&self) -> Ncp {
        self.ncp
    }

    pub(super) fn granted(&self) -> NcpConfig {
        self.granted
    }

    pub(super) fn state(&self) -> State {
        self.negotiator.state()
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let withheld = self.withheld.as_ref().map(|withheld| withheld.until);
        let own = [self.negotiator.deadline(), withheld, self.refused.deadline()];
        own.into_iter().flatten().min()
    }

    /// Whether it is open or over, with nothing in between and nothing to remember.
    pub(super) fn is_at_rest(&self) -> bool {
        (self.state() == State::Opened || !self.is_active())
            && self.withheld.is_none()
            && self.held.is_none()
            && self.refused.deadline().is_none()
    }

    /// Whether it is open or may yet be.
    fn is_active(&self) -> bool {
        match self.state() {
            State::ReqSent | State::AckRcvd | State::AckSent | State::Opened => true,
            State::Initial
            | State::Starting
            | State::Closed
            | State::Stopped
            | State::Closing
            | State::Stopping => false,
        }
    }

    /// What the row should say about it; `accepted` is what the row says now.
    pub(super) fn desired(&self, accepted: Option<&OpenNcp>) -> Option<OpenNcp> {
        if self.held.is_some() || !self.is_active() {
            return None;
        }
        match &self.withheld {
            Some(withheld) if self.state() == State::AckRcvd => Some(self.opening(withheld)),
            // Open; or committed as open and not quite there, since the peer's request has been dropped meanwhile.
            Some(_) | None => accepted.copied(),
        }
    }
}

impl NcpLayer {
    /// What the row says once this request is acknowledged. Our own half may have changed since it came.
    fn opening(&self, withheld: &Withheld) -> OpenNcp {
        OpenNcp {
            config: self.options.agreed(),
            ..withheld.open
        }
    }

    /// Takes out the request that the row, which has `accepted` of this protocol, allows to be acknowledged.
    fn take_released(&mut self, accepted: Option<OpenNcp>) -> Option<Withheld> {
        let opening = self.withheld.as_ref().map(|withheld| self.opening(withheld))?;
        if self.state() != State::AckRcvd || Some(opening) != accepted {
            return None;
        }
        self.withheld.take()
    }
}

impl Machine {
    /// The peer is who it should be: what it may use is negotiated.
    pub(super) fn start_network(&mut self, now: Duration, configs: &[NcpConfig], shared: &mut Shared) {
        self.phase = Phase::Network;
        if configs.is_empty() {
            return self.close(now, Cause::NoNcp(None), shared);
        }
        for config in configs {
            self.ncps
                .push(NcpLayer::new(config, Negotiator::new(shared.random.octet())));
        }
        for at in 0..self.ncps.len() {
            self.run_ncp(now, at, shared, |layer, run| {
                layer.negotiator.start(&layer.options, run)
            });
        }
        self.answer_unconfirmed = true;
    }

    /// A peer in the authentication phase drops our requests, and one that does not repeat its CHAP Response never
    /// learns of an answer that was lost. So the answer goes out again before each repeated request.
    fn repeat_answer(&self, shared: &mut Shared) {
        let auth = self.auth.as_ref().filter(|_| self.answer_unconfirmed);
        if let Some((method, answer)) = auth.and_then(|auth| Some((auth.method(), auth.repeat_answer()?))) {
            shared.outputs.send(method.protocol(), &answer);
        }
    }

    pub(super) fn take_ncps_down(&mut self, now: Duration, shared: &mut Shared) {
        for at in 0..self.ncps.len() {
            self.run_ncp(now, at, shared, |layer, run| {
                layer.negotiator.happen(Event::Down, &layer.options, run)
            });
        }
        self.ncps.clear();
    }

    fn position(&self, ncp: Ncp) -> Option<usize> {
        self.ncps.iter().position(|layer| layer.ncp == ncp)
    }

    pub(super) fn handle_ncp(&mut self, now: Duration, ncp: Ncp, octets: &[u8], shared: &mut Shared) {
        let Some(at) = self.position(ncp) else {
            return;
        };
        let Ok(packet) = Packet::parse_control(octets) else {
            return shared.outputs.count(Counter::MalformedPacket);
        };
        if matches!(self.ncps[at].held, Some(Held::GivenUp(_))) {
            return shared.outputs.count(Counter::WrongPhase);
        }
        if self.ncps[at].negotiator.would_leave(&packet) {
            self.leave_ncp(at, &packet, shared);
        } else if packet.code == code::CONFIGURE_REQUEST {
            self.handle_request(now, at, &packet, shared);
        } else {
            self.feed_ncp(now, at, &packet, shared);
        }
    }

    /// The peer repeats the request that we have acknowledged: our Configure-Ack was lost, or crossed the repeat. As an
    /// event it would take the peer's interface down; so it is acknowledged again, unless data says that the peer has
    /// been up and starts anew.
    fn leave_ncp(&mut self, at: usize, packet: &Packet<'_>, shared: &mut Shared) {
        let layer = &mut self.ncps[at];
        if packet.code == code::CONFIGURE_REQUEST && layer.refused.contains(packet) {
            return shared.outputs.count(Counter::RequestRepeated);
        }
        let repeats = packet.code == code::CONFIGURE_REQUEST
            && !shared.data_seen
            && layer.held.is_none()
            && shared
                .open_ncp(layer.ncp)
                .is_some_and(|open| open.is_request(packet));
        if repeats {
            shared.outputs.count(Counter::RequestRepeated);
            let ack = Packet {
                code: code::CONFIGURE_ACK,
                ..*packet
            };
            shared.outputs.send(layer.ncp.protocol(), &ack.encode());
        } else {
            layer.held = Some(Held::Packet(packet.encode()));
        }
    }

    fn handle_request(&mut self, now: Duration, at: usize, packet: &Packet<'_>, shared: &mut Shared) {
        if self.ncps[at].state() == State::Stopped {
            // The automaton would acknowledge at once; by Down and Up it asks first.
            self.restart_ncp(now, at, shared);
        }
        let layer = &mut self.ncps[at];
        if layer.withheld.is_some() && layer.refused.contains(packet) {
            return shared.outputs.count(Counter::RequestRepeated);
        }
        let judged = layer.negotiator.judge(packet, &mut layer.options, &shared.config);
        match judged {
            Ok(Answer::Ack) if layer.is_active() => {
                let request_hash = request_hash(packet.data);
                let open = OpenNcp {
                    config: layer.options.agreed(),
                    request_id: packet.id,
                    request_hash,
                };
                layer.withheld = Some(Withheld {
                    octets: packet.encode(),
                    open,
                    until: now + WITHHOLD,
                });
            }
            Ok(answer) => {
                layer.withheld = None;
                layer.refused.note(packet);
                self.run_ncp(now, at, shared, |layer, run| {
                    layer.negotiator.answer(packet, &answer, &layer.options, run);
                });
            }
            Err(trouble) => self.ncp_trouble(at, trouble, shared),
        }
    }

    fn feed_ncp(&mut self, now: Duration, at: usize, packet: &Packet<'_>, shared: &mut Shared) {
        let mut fed = Ok(());
        self.run_ncp(now, at, shared, |layer, run| {
            fed = layer.negotiator.handle_packet(packet, &mut layer.options, run);
        });
        if let Err(trouble) = fed {
            self.ncp_trouble(at, trouble, shared);
        }
    }

    fn ncp_trouble(&mut self, at: usize, trouble: Trouble, shared: &mut Shared) {
        match trouble {
            Trouble::Discard => shared.outputs.count(Counter::Discarded),
            Trouble::Fatal(cause) => self.ncps[at].held = Some(Held::GivenUp(cause)),
        }
    }

    /// Protocol-Reject of a network control protocol; the others stay.
    pub(super) fn ncp_rejected(&mut self, now: Duration, ncp: Ncp, shared: &mut Shared) {
        let Some(at) = self.position(ncp) else {
            return;
        };
        if self.ncps[at].state() == State::Opened {
            self.ncps[at].held = Some(Held::Rejected);
            return;
        }
        self.run_ncp(now, at, shared, |layer, run| {
            layer.negotiator.happen(Event::FatalReject, &layer.options, run);
        });
    }

    pub(super) fn ncp_timeouts(&mut self, now: Duration, shared: &mut Shared) {
        for at in 0..self.ncps.len() {
            self.ncps[at].refused.handle_timeout(now);
            if self.ncps[at]
                .withheld
                .as_ref()
                .is_some_and(|withheld| now >= withheld.until)
            {
                self.ncps[at].withheld = None;
                shared.outputs.count(Counter::WithheldDropped);
            }
            self.run_ncp(now, at, shared, |layer, run| {
                layer.negotiator.handle_timeout(&layer.options, run)
            });
        }
    }

    /// Lets one protocol do what the row allows now; whether there was one.
    pub(super) fn release_ncp(&mut self, now: Duration, shared: &mut Shared) -> bool {
        for at in 0..self.ncps.len() {
            let accepted = shared.open_ncp(self.ncps[at].ncp).copied();
            let layer = &mut self.ncps[at];
            if accepted.is_none()
                && let Some(held) = layer.held.take()
            {
                self.follow_ncp(now, at, &held, shared);
                return true;
            }
            if let Some(withheld) = layer.take_released(accepted) {
                let packet = Packet::parse(&withheld.octets).expect("it was parsed when it came");
                self.run_ncp(now, at, shared, |layer, run| {
                    layer
                        .negotiator
                        .answer(&packet, &Answer::Ack, &layer.options, run);
                });
                return true;
            }
        }
        false
    }

    /// The row does without this protocol, so it may leave Opened now.
    fn follow_ncp(&mut self, now: Duration, at: usize, held: &Held, shared: &mut Shared) {
        if shared.row.is_none() {
            self.setup_deadline = Some(now + shared.config.setup_timeout);
        }
        match held {
            Held::GivenUp(cause) => {
                self.ncps[at].failure = Some(*cause);
                self.run_ncp(now, at, shared, |layer, run| {
                    layer.negotiator.happen(Event::Close, &layer.options, run);
                });
                self.close_without_ncps(now, shared);
            }
            Held::Rejected => {
                self.run_ncp(now, at, shared, |layer, run| {
                    layer.negotiator.happen(Event::FatalReject, &layer.options, run);
                });
            }
            Held::Packet(octets) => {
                let packet = Packet::parse(octets).expect("it was parsed when it came");
                if packet.code == code::CONFIGURE_REQUEST {
                    // As the automaton does in Opened, but for the acknowledgement, which has to wait.
                    self.restart_ncp(now, at, shared);
                    self.handle_request(now, at, &packet, shared);
                } else {
                    self.feed_ncp(now, at, &packet, shared);
                }
            }
        }
    }

    /// Down and Up, with options as at the start.
    fn restart_ncp(&mut self, now: Duration, at: usize, shared: &mut Shared) {
        let layer = &mut self.ncps[at];
        layer.options = NcpOptions::new(&layer.options.agreed());
        layer.failure = None;
        layer.refused = Refused::default();
        self.run_ncp(now, at, shared, |layer, run| {
            layer.negotiator.restart(&layer.options, run)
        });
    }

    fn run_ncp(
        &mut self,
        now: Duration,
        at: usize,
        shared: &mut Shared,
        act: impl FnOnce(&mut NcpLayer, &mut Run<'_>),
    ) {
        let config = shared.config.clone();
        let mut run = Run {
            now,
            config: &config,
            peer_mru: self.options.peer().mru,
            effects: Vec::new(),
        };
        let layer = &mut self.ncps[at];
        act(layer, &mut run);
        let ncp = layer.ncp;
        for effect in run.effects {
            match effect {
                Effect::Send(packet) => {
                    if packet.first() == Some(&code::CONFIGURE_REQUEST) {
                        self.repeat_answer(shared);
                    }
                    shared.send_packet(now, ncp.protocol(), &packet);
                }
                Effect::Up => {
                    self.ncps[at].refused.note_open(now);
                    shared.outputs.push(Output::Up(ncp));
                    shared.data_seen = false;
                    shared.keepalive.start(now, &config, &mut shared.random);
                    self.setup_deadline = None;
                }
                Effect::Down => shared.outputs.push(Output::Down(ncp)),
                Effect::Finished { timed_out } => {
                    let cause = if timed_out {
                        Cause::NcpTimeout(ncp)
                    } else {
                        Cause::NoNcp(Some(ncp))
                    };
                    self.ncps[at].failure.get_or_insert(cause);
                    self.ncps[at].withheld = None;
                    self.close_without_ncps(now, shared);
                }
            }
        }
    }

    /// A link on which no protocol is open or on its way there serves nobody.
    fn close_without_ncps(&mut self, now: Duration, shared: &mut Shared) {
        if self.ncps.iter().any(NcpLayer::is_active) {
            return;
        }
        if let Some(cause) = self.ncps.iter().rev().find_map(|layer| layer.failure) {
            self.close(now, cause, shared);
        }
    }
}
