//! A PPP link at a network server, from the first Configure-Request to the end.
//!
//! ```text
//!              start                 resume (row)
//!                |                      |
//!                v      Commit(Open)    v
//!   Establish -> Authenticate -> Network == open ==> (echoes only: no machine, just the row)
//!       ^                          |        |
//!       |       Commit(Leave)      |        | anything that negotiates: the machine is rebuilt from the row
//!       +--------------------------+<-------+
//!                                  |
//!                                  v
//!                              Terminate -> Finished
//! ```
//!
//! While nothing is negotiated an open link is little more than its row, and the row is where it starts again: after a
//! pause, after a restart of the process, on another node. There is one way to be born.
//!
//! The commit gate is in [`gate`]: what lets the peer see a network protocol open, or leave open, waits until the
//! owner of the link has said that the session table holds it.

mod authenticate;
mod config;
mod echo;
mod gate;
mod machine;
mod network;
mod output;
mod refused;
mod rejections;

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Answered, Authenticator, Verdict};
use crate::cause::Cause;
use crate::frame::Frame;
use crate::iana::{code, protocol};
use crate::lcp::keepalive::Keepalive;
use crate::ncp::Ncp;
use crate::packet::Packet;
use crate::proxy::Proxy;
use crate::random::Random;

pub use config::LinkConfig;
use machine::Machine;
use output::Outputs;
use rejections::Rejections;

pub use output::{Counter, OpenLink, OpenNcp, Output, Transition};

/// A PPP link. Pure: see the crate.
#[derive(Debug)]
pub struct Link {
    shared: Shared,
    /// What negotiates; absent on an open link at rest, and on a dead one.
    machine: Option<Box<Machine>>,
}

/// What outlives a negotiation.
#[derive(Debug)]
struct Shared {
    config: Arc<LinkConfig>,
    random: Random,
    /// What the session table holds: accepted, not merely proposed.
    row: Option<Box<OpenLink>>,
    keepalive: Keepalive,
    outputs: Outputs,
    /// Numbers commits and authentications.
    serial: u32,
    /// Identifier of our next LCP packet other than a Configure- or Terminate-Request.
    next_id: u8,
    /// How the peer's authentication was answered, while there is no machine to know. Not in the row: a repeat comes
    /// within seconds, if at all.
    answered: Option<Box<Answered>>,
    rejections: Rejections,
    /// User data has flowed since the link opened.
    data_seen: bool,
    finished: bool,
}

impl Link {
    /// A new link. `proxy` is what the LAC's ICCN brought; `seed` comes from the system's generator.
    pub fn start(now: Duration, config: Arc<LinkConfig>, proxy: Option<&Proxy>, seed: u64) -> Self {
        let mut shared = Shared::new(config, None, seed);
        let machine = Box::new(Machine::start(now, proxy, &mut shared));
        Self {
            shared,
            machine: Some(machine),
        }
    }

    /// A link that is open already, from its row. It does not say [`Output::Up`] again.
    pub fn resume(now: Duration, config: Arc<LinkConfig>, row: &OpenLink, seed: u64) -> Self {
        let mut shared = Shared::new(config, Some(Box::new(row.clone())), seed);
        shared.keepalive.start(now, &shared.config, &mut shared.random);
        Self {
            shared,
            machine: None,
        }
    }

    /// A PPP frame from the peer, as L2TP carries it. User data may be passed too; it is a sign of life and no more.
    pub fn handle_input(&mut self, now: Duration, frame: &[u8]) {
        if self.shared.finished {
            return;
        }
        let Ok(frame) = Frame::parse(frame) else {
            return self.shared.outputs.count(Counter::MalformedFrame);
        };
        if frame.protocol == protocol::LCP
            && let Ok(packet) = Packet::parse(frame.information)
            && matches!(
                packet.code,
                code::ECHO_REQUEST | code::ECHO_REPLY | code::DISCARD_REQUEST
            )
        {
            return self.handle_echo(now, &packet);
        }
        self.shared.keepalive.note_received(now);
        if matches!(frame.protocol, protocol::IPV4 | protocol::IPV6) {
            return self.shared.outputs.count(Counter::WrongPhase);
        }
        self.with_machine(now, |machine, shared| machine.handle_frame(now, &frame, shared));
    }

    /// The answer to [`Output::Authenticate`]. One for an authentication that is no longer under way is ignored.
    pub fn verdict(&mut self, now: Duration, serial: u32, verdict: Verdict) {
        if self.machine.is_some() {
            self.with_machine(now, |machine, shared| {
                machine.handle_verdict(now, serial, &verdict, shared)
            });
        }
    }

    /// The answer to [`Output::Commit`]: the session table holds it.
    pub fn commit_accepted(&mut self, now: Duration, serial: u32) {
        if self.machine.is_some() {
            self.with_machine(now, |machine, shared| machine.handle_accepted(serial, shared));
        }
    }

    /// Ends the link from our side: leaving open is committed, the peer is told, and [`Output::Finished`] follows.
    pub fn close(&mut self, now: Duration, cause: Cause) {
        if !self.shared.finished {
            self.with_machine(now, |machine, shared| machine.close(now, cause, shared));
        }
    }

    /// User data has flowed since the link opened: a repeated Configure-Request is a new one from now on.
    pub fn set_data_seen(&mut self) {
        self.shared.data_seen = true;
    }

    /// Something was received from the peer that did not come by here; it counts as life.
    pub fn note_received(&mut self, now: Duration) {
        self.shared.keepalive.note_received(now);
    }

    /// Lets all timers happen that are due.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.shared.finished {
            return;
        }
        self.handle_echo_timeout(now);
        if self.machine.is_some() {
            self.with_machine(now, |machine, shared| machine.handle_timeout(now, shared));
        }
    }

    /// When [`Self::handle_timeout`] wants to be called next. On an open link that is the next echo alone.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let machine = self.machine.as_ref().and_then(|machine| machine.deadline());
        machine.into_iter().chain(self.shared.keepalive.deadline()).min()
    }

    /// What the link asks for; call until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.outputs.pop()
    }

    /// What the session table holds about this link, as far as the link knows.
    pub fn row(&self) -> Option<&OpenLink> {
        self.shared.row.as_deref()
    }

    /// Whether the link is dead.
    pub fn is_finished(&self) -> bool {
        self.shared.finished
    }

    /// Runs the machine, built from the row if there is none, and puts it away when it has nothing left to do.
    fn with_machine(&mut self, now: Duration, act: impl FnOnce(&mut Machine, &mut Shared)) {
        let shared = &mut self.shared;
        let mut machine = match self.machine.take() {
            Some(machine) => machine,
            None => Box::new(Machine::open(shared)),
        };
        act(&mut machine, shared);
        machine.settle(now, shared);
        if shared.finished {
            return;
        }
        if machine.is_at_rest(shared) {
            let answered = machine.auth.and_then(Authenticator::into_answered);
            shared.answered = answered.map(Box::new);
        } else {
            self.machine = Some(machine);
        }
    }
}

impl Shared {
    fn new(config: Arc<LinkConfig>, row: Option<Box<OpenLink>>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            config,
            next_id: random.octet(),
            random,
            row,
            keepalive: Keepalive::default(),
            outputs: Outputs::default(),
            serial: 0,
            answered: None,
            rejections: Rejections::default(),
            data_seen: false,
            finished: false,
        }
    }

    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// Sends an LCP packet that is not the automaton's.
    fn send_lcp(&mut self, code: u8, data: &[u8]) {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.outputs
            .send(protocol::LCP, &Packet { code, id, data }.encode());
    }

    /// Sends a packet of an automaton, but for a Code-Reject too many.
    fn send_packet(&mut self, now: Duration, protocol: u16, packet: &[u8]) {
        if packet.first() == Some(&code::CODE_REJECT) && !self.rejections.allow(now) {
            return self.outputs.count(Counter::Discarded);
        }
        self.outputs.send(protocol, packet);
    }

    /// The row's entry for a protocol.
    fn open_ncp(&self, ncp: Ncp) -> Option<&OpenNcp> {
        self.row.as_ref()?.ncps.iter().find(|open| open.ncp() == ncp)
    }

    /// The link is dead from here on.
    fn finish(&mut self, cause: Cause) {
        self.finished = true;
        self.keepalive.stop();
        self.outputs.push(Output::Finished(cause));
    }
}
