//! `bench --hold`: what a session costs in memory, and whether a node that has held many is slower afterwards.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::path::cpu::Used;
use super::setup::{self, SetupResult};
use super::{Setting, open_tunnels, release, start};
use crate::daemon::Memory;
use crate::node_config::NodeUnderTest;
use crate::restart::Error;
use crate::simulator::Simulator;

/// Sessions at the first measurement of memory.
pub(super) const FEW: u32 = 10_000;
/// How long the sessions may take to come up, and to show that they are alive.
const PATIENCE: Duration = Duration::from_secs(600);
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// Before memory is measured: compaction of the log and the allocator come to rest.
const REST: Duration = Duration::from_secs(10);
/// Comparisons of the released node with fresh ones. A single one says little: on a machine with neighbours the rate of one and
/// the same node differs by a fifth between two runs.
const ROUNDS: usize = 6;

/// What holding many sessions showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HoldResult {
    pub sessions: u32,
    pub tunnels: u32,
    pub few: u32,
    pub memory_at_few: Memory,
    pub memory_at_all: Memory,
    /// Growth of the proportional set size between the two, octets a session.
    pub bytes_per_session: f64,
    pub held_seconds: u64,
    /// Of one core, while all are held and no user data flows: HELLOs and echoes.
    pub cpu_percent_held: f64,
    pub sessions_open: u64,
    pub sessions_lost: u64,
    pub sessions_silent: u64,
    pub control_channels_stuck: u64,
    /// After all sessions were released.
    pub memory_after_release: Memory,
    pub rounds: Vec<Round>,
    /// Set-up rate of the released node as a part of a fresh node's, over the rounds.
    pub rate_ratio: Spread,
}

/// Set-up on the node that has held and released everything, and on a fresh one, one right after the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Round {
    pub after_release: SetupResult,
    pub fresh: SetupResult,
}

impl Round {
    fn is_complete(&self) -> bool {
        self.after_release.is_complete() && self.fresh.is_complete()
    }

    fn rate_ratio(&self) -> f64 {
        self.after_release.sessions_per_second / self.fresh.sessions_per_second
    }
}

/// How far the values of several rounds lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub minimum: f64,
    pub median: f64,
    pub maximum: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Self {
            minimum: values[0],
            median,
            maximum: values[values.len() - 1],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "median {:.2} (from {:.2} to {:.2})",
            self.median, self.minimum, self.maximum
        )
    }
}

impl HoldResult {
    /// Whether every session came up, stayed and answered.
    pub fn is_complete(&self) -> bool {
        let all = u64::from(self.sessions);
        let stayed = self.sessions_open == all && self.sessions_lost == 0 && self.sessions_silent == 0;
        stayed && self.rounds.iter().all(Round::is_complete)
    }
}

impl fmt::Display for HoldResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |octets: u64| octets as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "hold: {} sessions over {} tunnels for {} s: {} open, {} lost, {} silent, {} control channels stuck",
            self.sessions,
            self.tunnels,
            self.held_seconds,
            self.sessions_open,
            self.sessions_lost,
            self.sessions_silent,
            self.control_channels_stuck
        )?;
        for (sessions, memory) in [
            (self.few, self.memory_at_few),
            (self.sessions, self.memory_at_all),
            (0, self.memory_after_release),
        ] {
            let (pss, rss) = (mebibytes(memory.pss), mebibytes(memory.rss));
            writeln!(
                f,
                "  {sessions:>7} sessions: {pss:.1} MiB (PSS), {rss:.1} MiB (RSS)"
            )?;
        }
        writeln!(f, "  slope: {:.0} octets a session", self.bytes_per_session)?;
        writeln!(f, "  while held: {:.1} % of a core", self.cpu_percent_held)?;
        for round in &self.rounds {
            writeln!(f, "  after release {}", round.after_release)?;
            writeln!(f, "  fresh node    {}", round.fresh)?;
        }
        write!(
            f,
            "  set-up rate after release to that of a fresh node: {} in {} rounds",
            self.rate_ratio,
            self.rounds.len()
        )
    }
}

/// Holds `sessions` sessions for `time`, releases them, and compares the node with a fresh one.
pub fn hold(setting: &Setting, sessions: u32, time: Duration) -> Result<HoldResult, Error> {
    let few = FEW.min(sessions);
    let (node, mut simulator) = start(setting, sessions.max(setting.sessions))?;
    open_tunnels(&mut simulator, setting.tunnels)?;
    grow(&mut simulator, setting, few)?;
    let memory_at_few = node.daemon.memory()?;
    grow(&mut simulator, setting, sessions)?;
    let memory_at_all = node.daemon.memory()?;
    let used = used(&node)?;
    std::thread::sleep(time);
    let cpu_seconds = self::used(&node)? - used;
    let checked = simulator.check(CHECK_TIMEOUT)?;
    let report = simulator.report()?;

    release(&mut simulator)?;
    std::thread::sleep(REST);
    let memory_after_release = node.daemon.memory()?;
    // A simulator that has held so many is itself no longer fresh: what is compared are nodes.
    drop(simulator);
    let rounds = compare(setting, &node)?;

    let growth = memory_at_all.pss as f64 - memory_at_few.pss as f64;
    Ok(HoldResult {
        sessions,
        tunnels: setting.tunnels,
        few,
        memory_at_few,
        memory_at_all,
        bytes_per_session: growth / f64::from((sessions - few).max(1)),
        held_seconds: time.as_secs(),
        cpu_percent_held: 100.0 * cpu_seconds / time.as_secs_f64().max(1.0),
        sessions_open: report.sessions_open,
        sessions_lost: report.sessions_lost,
        sessions_silent: checked.sessions_silent(),
        control_channels_stuck: checked.control_channels_stuck(&report),
        memory_after_release,
        rate_ratio: Spread::of(rounds.iter().map(Round::rate_ratio)),
        rounds,
    })
}

/// Seconds of processor time that the node has used.
fn used(node: &NodeUnderTest) -> Result<f64, Error> {
    let pid = node.daemon.pid().unwrap_or_default();
    let used = Used::now(pid).map_err(std::io::Error::other)?;
    Ok(used.user + used.system)
}

/// Rounds of set-up on `released` and on a fresh node; which of them goes first changes from round to round.
fn compare(setting: &Setting, released: &NodeUnderTest) -> Result<Vec<Round>, Error> {
    let round = |number: usize| {
        let early = if number.is_multiple_of(2) {
            None
        } else {
            Some(setup::setup(setting, false)?)
        };
        let after_release = setup::of_node(setting, released)?;
        let fresh = early.map_or_else(|| setup::setup(setting, false), Ok)?;
        Ok(Round { after_release, fresh })
    };
    (0..ROUNDS).map(round).collect()
}

/// Dials until `total` sessions are open, then lets the node come to rest.
pub(super) fn grow(simulator: &mut Simulator, setting: &Setting, total: u32) -> Result<(), Error> {
    let open = simulator.report()?.sessions_open;
    let missing = total.saturating_sub(u32::try_from(open).unwrap_or(u32::MAX));
    simulator.dial(missing, Some(setting.concurrency))?;
    simulator.wait_until("all sessions up", PATIENCE, |report| {
        report.sessions_open == u64::from(total)
    })?;
    std::thread::sleep(REST);
    Ok(())
}
