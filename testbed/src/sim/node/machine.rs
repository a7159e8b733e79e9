//! A node's machine: its disk, its clock, and the process that runs on it, or is stopped, or is dead.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_cluster::log::SimulatedDisk;

use super::counters::Files;
use super::process::{Out, Process};
use super::table::Results;
use super::wire::Wire;
use crate::sim::bugs::Bug;
use crate::sim::dice::Dice;
use crate::sim::setup::Setup;

/// A node that was stopped for longer than this throws away what has waited in its sockets.
const STALE: Duration = Duration::from_millis(200);

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// kill -9: what was written stays.
    Killed,
    /// What was not synced is lost.
    PowerLoss,
}

/// Something that reaches a process.
#[derive(Debug)]
pub enum Arrival {
    Datagram { from: SocketAddr, octets: Vec<u8> },
    Wire { from: u64, wire: Wire },
    Results { boot: u64, results: Results },
    Tick { boot: u64 },
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    id: u64,
    disk: SimulatedDisk,
    files: Files,
    process: Option<Process>,
    boots: u64,
    /// Stopped since then, and what has arrived.
    stopped: Option<Duration>,
    backlog: VecDeque<Arrival>,
    /// The clock shows `shown` at `at` and runs `rate` millionths too fast.
    at: Duration,
    shown: Duration,
    rate: i64,
    /// What the wall clock shows when the other one shows nothing: it may be set at any time.
    epoch: Duration,
    /// Taken out of service, for good.
    retired: bool,
    dice: Dice,
}

impl Machine {
    pub fn new(id: u64, setup: &Setup) -> Self {
        let mut dice = Dice::new(setup.seed, 0x1000 + id);
        let disk = SimulatedDisk::new(setup.snapshot_entries);
        if setup.bug == Some(Bug::FsyncSkipped) {
            disk.lie();
        }
        disk.set_sync_time(dice.between(Duration::from_micros(50), Duration::from_micros(1500)));
        Self {
            id,
            disk,
            files: Files::default(),
            process: None,
            boots: 0,
            stopped: None,
            backlog: VecDeque::new(),
            at: Duration::ZERO,
            shown: dice.between(Duration::from_secs(10), Duration::from_secs(100_000)),
            // Half a per mille is worse than any real clock.
            rate: dice.below(1001) as i64 - 500,
            epoch: Duration::from_secs(1_800_000_000),
            retired: false,
            dice,
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn disk(&self) -> &SimulatedDisk {
        &self.disk
    }

    /// The process, if there is one and it is not stopped.
    pub fn running(&self) -> Option<&Process> {
        self.process.as_ref().filter(|_| self.stopped.is_none())
    }

    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub fn is_dead(&self) -> bool {
        self.process.is_none()
    }

    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// It is never started again, by an operator's will or because its disk is lost.
    pub fn retire(&mut self) {
        self.retired = true;
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    fn clock(&self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at);
        let nanos = passed.as_nanos() as i128;
        let shown = nanos + nanos * i128::from(self.rate) / 1_000_000;
        self.shown + Duration::from_nanos(shown as u64)
    }

    /// The clock jumps ahead, as after a suspension.
    pub fn jump(&mut self, now: Duration, ahead: Duration) {
        self.shown = self.clock(now) + ahead;
        self.at = now;
    }

    /// The wall clock is set, ahead or back.
    pub fn set_wall_clock(&mut self, epoch: Duration) {
        self.epoch = epoch;
    }

    /// Starts a process; its number, for its ticks.
    pub fn start(&mut self, now: Duration, setup: &Setup) -> u64 {
        self.boots += 1;
        let dice = Dice::new(self.dice.seed(), self.boots);
        self.disk.begin_turn(now);
        let clock = self.clock(now);
        self.process = Some(Process::start(
            clock,
            (self.id, self.boots),
            setup,
            &self.disk,
            self.files.clone(),
            dice,
        ));
        self.boots
    }

    pub fn die(&mut self, now: Duration, death: Death) {
        self.process = None;
        self.stopped = None;
        self.backlog.clear();
        if death == Death::PowerLoss {
            let dice = &mut self.dice;
            self.disk.lose_power(now, |most| dice.index(most + 1));
        }
    }

    pub fn stop(&mut self, now: Duration) {
        if self.process.is_some() && self.stopped.is_none() {
            self.stopped = Some(now);
        }
    }

    /// It runs again and finds what has arrived; what a LAC sent is too old, and what the others said is in its sockets still.
    pub fn resume(&mut self, now: Duration) -> Vec<Out> {
        let Some(since) = self.stopped.take() else {
            return Vec::new();
        };
        let stale = now.saturating_sub(since) > STALE;
        let mut out = Vec::new();
        for arrival in std::mem::take(&mut self.backlog) {
            let thrown_away = match &arrival {
                Arrival::Datagram { .. } => stale,
                Arrival::Wire { wire, .. } => stale && !wire.is_stream(),
                Arrival::Results { .. } | Arrival::Tick { .. } => false,
            };
            if !thrown_away {
                out.extend(self.handle(now, arrival));
            }
        }
        out
    }

    /// An operator's order to the process, if it runs.
    pub fn order<R>(
        &mut self,
        now: Duration,
        order: impl FnOnce(&mut Process) -> R,
    ) -> Option<(R, Vec<Out>)> {
        let clock = self.clock(now);
        let process = self.process.as_mut().filter(|_| self.stopped.is_none())?;
        process.set_time(now, clock, self.epoch + clock);
        let result = order(process);
        Some((result, process.take_out()))
    }

    /// Lets the process handle something. Nothing comes of it while it is stopped or dead.
    pub fn handle(&mut self, now: Duration, arrival: Arrival) -> Vec<Out> {
        let clock = self.clock(now);
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        if let Arrival::Results { boot, .. } | Arrival::Tick { boot } = arrival
            && boot != process.boot()
        {
            return Vec::new();
        }
        if self.stopped.is_some() {
            // However long it sleeps, one tick wakes it.
            let first_tick = || {
                !self
                    .backlog
                    .iter()
                    .any(|earlier| matches!(earlier, Arrival::Tick { .. }))
            };
            if !matches!(arrival, Arrival::Tick { .. }) || first_tick() {
                self.backlog.push_back(arrival);
            }
            return Vec::new();
        }
        process.set_time(now, clock, self.epoch + clock);
        match arrival {
            Arrival::Datagram { from, octets } => process.on_datagram(from, octets),
            Arrival::Wire { from, wire } => process.on_wire(from, wire),
            Arrival::Results { results, .. } => process.on_results(results),
            Arrival::Tick { .. } => process.on_tick(),
        }
        process.take_out()
    }
}
