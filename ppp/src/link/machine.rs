//! The negotiation of a link: LCP and the phases it leads through (RFC 1661 §3.2). Boxed, and gone while a link rests.

use std::time::Duration;

use super::gate::InFlight;
use super::network::NcpLayer;
use super::{Counter, Output, Shared};
use crate::auth::Authenticator;
use crate::automaton::{Event, State};
use crate::cause::{Cause, Direction};
use crate::frame::Frame;
use crate::iana::{code, protocol};
use crate::lcp::options::{LcpOptions, Side};
use crate::ncp::Ncp;
use crate::negotiator::{Effect, Negotiator, Run, Trouble};
use crate::packet::{HEADER, Packet};
use crate::proxy::Proxy;

/// How long an orderly end may take, the commit included, before it is given up for an end without a word.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Phases of a link; Dead is the absence of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Establish,
    Authenticate,
    Network,
    Terminate,
}

/// What takes LCP out of Opened; waits until the row is void.
#[derive(Debug)]
pub(super) enum Leaving {
    /// The newest packet of the peer that does.
    Packet(Vec<u8>),
    /// The peer rejects LCP itself.
    Rejected,
    /// The peer is in another negotiation than we are.
    Restart,
    /// We want to end.
    Close,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) phase: Phase,
    pub(super) lcp: Negotiator,
    pub(super) options: LcpOptions,
    pub(super) auth: Option<Authenticator>,
    /// The peer has yet to show, by a frame of the network phase, that it has heard how its authentication ended.
    pub(super) answer_unconfirmed: bool,
    /// Serial of the authentication that is being judged.
    pub(super) judging: Option<u32>,
    pub(super) user: Vec<u8>,
    pub(super) ncps: Vec<NcpLayer>,
    pub(super) leaving: Option<Leaving>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) setup_deadline: Option<Duration>,
    close_deadline: Option<Duration>,
    /// Why the link is ending.
    ending: Option<Cause>,
    /// The peer has said something in LCP.
    heard_lcp: bool,
    /// The peer has asked for the end before LCP was open.
    peer_gave_up: bool,
}

impl Machine {
    fn new(phase: Phase, lcp: Negotiator, options: LcpOptions) -> Self {
        Self {
            phase,
            lcp,
            options,
            auth: None,
            answer_unconfirmed: false,
            judging: None,
            user: Vec::new(),
            ncps: Vec::new(),
            leaving: None,
            in_flight: None,
            setup_deadline: None,
            close_deadline: None,
            ending: None,
            heard_lcp: false,
            peer_gave_up: false,
        }
    }

    /// Begins, with what the LAC has negotiated if it may stand.
    pub(super) fn start(now: Duration, proxy: Option<&Proxy>, shared: &mut Shared) -> Self {
        let id = shared.random.octet();
        let random = shared.random.fork();
        let config = shared.config.clone();
        let accepted = proxy.filter(|_| config.accept_proxy).and_then(|proxy| {
            let options = proxy.lcp(&config, shared.random.fork())?;
            Some((proxy, options))
        });
        let Some((proxy, options)) = accepted else {
            if proxy.is_some() {
                shared.outputs.count(Counter::ProxyLcpRefused);
            }
            let mut machine = Self::new(
                Phase::Establish,
                Negotiator::new(id),
                LcpOptions::new(&config, random),
            );
            machine.setup_deadline = Some(now + config.setup_timeout);
            machine.run_lcp(now, shared, |lcp, options, run| lcp.start(options, run));
            return machine;
        };
        let mut machine = Self::new(Phase::Establish, Negotiator::opened(id, &config), options);
        machine.heard_lcp = true;
        machine.setup_deadline = Some(now + config.setup_timeout);
        machine.authenticate_by_proxy(now, proxy, shared);
        machine
    }

    /// The machine of an open link, from its row.
    pub(super) fn open(shared: &mut Shared) -> Self {
        let row = shared
            .row
            .as_ref()
            .expect("a link without a machine is open or dead");
        let (ours, peer) = row.sides();
        let config = shared.config.clone();
        let options = LcpOptions::agreed(&config, shared.random.fork(), ours, peer, row.auth);
        let lcp = Negotiator::opened(shared.random.octet(), &config);
        let mut machine = Self::new(Phase::Network, lcp, options);
        machine.heard_lcp = true;
        machine.user.clone_from(&row.user);
        let answered = shared.answered.take().map(|answered| *answered);
        machine.auth = row.auth.and_then(|method| Authenticator::open(method, answered));
        let open = row
            .ncps
            .iter()
            .map(|open| NcpLayer::opened(open, &mut shared.random, &config));
        machine.ncps = open.collect();
        let waiting = row
            .granted
            .iter()
            .map(|granted| NcpLayer::waiting(granted, &mut shared.random));
        machine.ncps.extend(waiting);
        machine
    }

    /// Whether nothing is going on but an open link.
    pub(super) fn is_at_rest(&self, shared: &Shared) -> bool {
        self.phase == Phase::Network
            && self.lcp.state() == State::Opened
            && self.leaving.is_none()
            && self.in_flight.is_none()
            && shared.row.is_some()
            && self.ncps.iter().all(NcpLayer::is_at_rest)
    }

    /// Both sides of LCP, if it is open.
    pub(super) fn agreed(&self) -> Option<(Side, Side)> {
        self.lcp
            .answers_echoes()
            .then(|| (self.options.ours(), self.options.peer()))
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let own = [self.lcp.deadline(), self.setup_deadline, self.close_deadline];
        let auth = self.auth.as_ref().and_then(Authenticator::deadline);
        own.into_iter()
            .chain([auth])
            .flatten()
            .chain(self.ncps.iter().filter_map(NcpLayer::deadline))
            .min()
    }

    pub(super) fn handle_timeout(&mut self, now: Duration, shared: &mut Shared) {
        let due = |deadline: Option<Duration>| deadline.is_some_and(|deadline| now >= deadline);
        if due(self.close_deadline) {
            return self.abandon(self.ending.unwrap_or(Cause::Administrative), shared);
        }
        if due(self.setup_deadline) {
            return self.setup_timed_out(now, shared);
        }
        self.run_lcp(now, shared, |lcp, options, run| lcp.handle_timeout(options, run));
        self.auth_timeout(now, shared);
        self.ncp_timeouts(now, shared);
    }

    /// The link did not open in time. Where the row says "open", or may soon, no frame could leave before it is void.
    fn setup_timed_out(&mut self, now: Duration, shared: &mut Shared) {
        self.setup_deadline = None;
        let cause = match self.phase {
            Phase::Establish | Phase::Terminate => self.lcp_timeout(),
            Phase::Authenticate => Cause::AuthTimeout(self.options.auth()),
            Phase::Network => self
                .ncps
                .first()
                .map_or(Cause::NoNcp(None), |layer| Cause::NcpTimeout(layer.ncp())),
        };
        if shared.row.is_some() || self.in_flight.is_some() {
            self.abandon(cause, shared);
        } else {
            self.close(now, cause, shared);
        }
    }

    fn lcp_timeout(&self) -> Cause {
        match (self.peer_gave_up, self.heard_lcp) {
            (true, _) => Cause::Terminated(Direction::Peer),
            (false, true) => Cause::LcpTimeout,
            (false, false) => Cause::NoLcp,
        }
    }

    pub(super) fn handle_frame(&mut self, now: Duration, frame: &Frame<'_>, shared: &mut Shared) {
        if frame.protocol == protocol::LCP {
            return self.handle_lcp(now, frame.information, shared);
        }
        if self.lcp.state() != State::Opened || self.leaving.is_some() {
            return shared.outputs.count(Counter::WrongPhase);
        }
        if protocol::is_network_control(frame.protocol) {
            self.answer_unconfirmed = false;
        }
        match (frame.protocol, Ncp::from_protocol(frame.protocol)) {
            (protocol::PAP | protocol::CHAP, _) => self.handle_auth(frame, shared),
            // Before the network phase all else is discarded, known or not (RFC 1661 §3.5).
            _ if self.phase != Phase::Network => shared.outputs.count(Counter::WrongPhase),
            (_, Some(ncp)) if self.ncps.iter().any(|layer| layer.ncp() == ncp) => {
                self.handle_ncp(now, ncp, frame.information, shared);
            }
            _ => self.reject_protocol(now, frame, shared),
        }
    }

    /// Protocol-Reject (RFC 1661 §5.7), cut to what the peer can take.
    fn reject_protocol(&self, now: Duration, frame: &Frame<'_>, shared: &mut Shared) {
        shared.outputs.count(Counter::UnknownProtocol);
        if !shared.rejections.allow(now) {
            return shared.outputs.count(Counter::Discarded);
        }
        let mut data = [&frame.protocol.to_be_bytes(), frame.information].concat();
        data.truncate(usize::from(self.options.peer().mru).saturating_sub(HEADER));
        shared.send_lcp(code::PROTOCOL_REJECT, &data);
    }

    fn handle_lcp(&mut self, now: Duration, octets: &[u8], shared: &mut Shared) {
        let Ok(packet) = Packet::parse_control(octets) else {
            return shared.outputs.count(Counter::MalformedPacket);
        };
        self.heard_lcp = true;
        match packet.code {
            code::PROTOCOL_REJECT => return self.handle_protocol_reject(now, &packet, shared),
            code::IDENTIFICATION | code::TIME_REMAINING => return shared.outputs.count(Counter::Information),
            code::CODE_REJECT if packet.data.first() == Some(&code::ECHO_REQUEST) => {
                shared.keepalive.refuse()
            }
            _ => {}
        }
        if self.lcp.would_leave(&packet) {
            return self.leave(Leaving::Packet(packet.encode()));
        }
        self.peer_gave_up = packet.code == code::TERMINATE_REQUEST;
        self.feed_lcp(now, &packet, shared);
    }

    /// Takes a reason to leave Opened, to be followed as soon as the row is void. Our own wish to end stays.
    fn leave(&mut self, reason: Leaving) {
        if !matches!(self.leaving, Some(Leaving::Close)) {
            self.leaving = Some(reason);
        }
    }

    pub(super) fn restart_lcp(&mut self) {
        if self.lcp.state() == State::Opened {
            self.leave(Leaving::Restart);
        }
    }

    /// Ends the link from our side.
    pub(super) fn close(&mut self, now: Duration, cause: Cause, shared: &mut Shared) {
        if self.ending.is_some() || shared.finished {
            return;
        }
        self.ending = Some(cause);
        self.setup_deadline = None;
        self.close_deadline = Some(now + CLOSE_LIMIT);
        self.leaving = Some(Leaving::Close);
    }

    /// Ends the link without a word to the peer.
    pub(super) fn abandon(&mut self, cause: Cause, shared: &mut Shared) {
        for layer in &self.ncps {
            if layer.state() == State::Opened {
                shared.outputs.push(Output::Down(layer.ncp()));
            }
        }
        shared.finish(cause);
    }

    /// The row is void, so LCP may leave Opened now.
    pub(super) fn follow(&mut self, now: Duration, leaving: &Leaving, shared: &mut Shared) {
        if self.lcp.state() == State::Opened && !matches!(leaving, Leaving::Close) {
            let config = shared.config.clone();
            self.options.reset(&config);
        }
        match leaving {
            Leaving::Packet(octets) => {
                let packet = Packet::parse(octets).expect("it was parsed when it came");
                if packet.code == code::TERMINATE_REQUEST {
                    self.ending = Some(Cause::Terminated(Direction::Peer));
                }
                self.feed_lcp(now, &packet, shared);
            }
            Leaving::Rejected => {
                self.ending = Some(Cause::NoLcp);
                self.run_lcp(now, shared, |lcp, options, run| {
                    lcp.happen(Event::FatalReject, options, run)
                });
            }
            Leaving::Restart => self.run_lcp(now, shared, |lcp, options, run| lcp.restart(options, run)),
            Leaving::Close => {
                self.phase = Phase::Terminate;
                self.run_lcp(now, shared, |lcp, options, run| {
                    lcp.happen(Event::Close, options, run)
                });
            }
        }
    }

    fn feed_lcp(&mut self, now: Duration, packet: &Packet<'_>, shared: &mut Shared) {
        let fed = self.run_lcp(now, shared, |lcp, options, run| {
            lcp.handle_packet(packet, options, run)
        });
        match fed {
            Ok(()) => {}
            Err(Trouble::Discard) => shared.outputs.count(Counter::Discarded),
            Err(Trouble::Fatal(cause)) => self.close(now, cause, shared),
        }
    }

    fn handle_protocol_reject(&mut self, now: Duration, packet: &Packet<'_>, shared: &mut Shared) {
        let Some((protocol, _)) = packet.data.split_first_chunk::<2>() else {
            return shared.outputs.count(Counter::MalformedPacket);
        };
        if self.lcp.state() != State::Opened {
            return shared.outputs.count(Counter::WrongPhase);
        }
        shared.outputs.count(Counter::ProtocolRejected);
        let protocol = u16::from_be_bytes(*protocol);
        let auth = self.options.auth().filter(|method| method.protocol() == protocol);
        match (protocol, Ncp::from_protocol(protocol), auth) {
            (protocol::LCP, _, _) => self.leave(Leaving::Rejected),
            (_, Some(ncp), _) => self.ncp_rejected(now, ncp, shared),
            (_, None, Some(method)) if self.phase == Phase::Authenticate => {
                self.close(now, Cause::AuthUnacceptable(method), shared);
            }
            _ => {}
        }
    }

    fn run_lcp<R>(
        &mut self,
        now: Duration,
        shared: &mut Shared,
        act: impl FnOnce(&mut Negotiator, &mut LcpOptions, &mut Run<'_>) -> R,
    ) -> R {
        let config = shared.config.clone();
        let peer_mru = self.options.peer().mru;
        let mut run = Run {
            now,
            config: &config,
            peer_mru,
            effects: Vec::new(),
        };
        let result = act(&mut self.lcp, &mut self.options, &mut run);
        for effect in run.effects {
            match effect {
                Effect::Send(packet) => shared.send_packet(now, protocol::LCP, &packet),
                Effect::Up => self.authenticate(now, shared),
                Effect::Down => self.lcp_down(now, shared),
                Effect::Finished { timed_out } => {
                    let cause = if timed_out {
                        self.lcp_timeout()
                    } else {
                        Cause::NoLcp
                    };
                    shared.finish(self.ending.unwrap_or(cause));
                }
            }
        }
        result
    }

    /// LCP has left Opened: all that stood on it is gone.
    fn lcp_down(&mut self, now: Duration, shared: &mut Shared) {
        self.take_ncps_down(now, shared);
        self.auth = None;
        self.answer_unconfirmed = false;
        self.judging = None;
        self.user.clear();
        shared.keepalive.stop();
        shared.data_seen = false;
        if self.ending.is_some() {
            self.phase = Phase::Terminate;
        } else {
            self.phase = Phase::Establish;
            self.setup_deadline = Some(now + shared.config.setup_timeout);
        }
    }
}
