//! `bench --setup`: sessions a second at full speed, and the time from ICRQ to IPCP open.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::radius::Radius;
use super::{Setting, open_tunnels, release, simulate};
use crate::node_config::{NodeUnderTest, Settings};
use crate::restart::Error;
use crate::simulator::{Report, Simulator};

/// How long everything may take to come up, and to show that it is alive.
const PATIENCE: Duration = Duration::from_secs(180);
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// What one set-up measurement found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetupResult {
    pub sessions: u32,
    pub tunnels: u32,
    pub concurrency: u32,
    /// Sessions that came up a second, from the first ICRQ to the last IPCP open.
    pub sessions_per_second: f64,
    /// From ICRQ to IPCP open.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub sessions_open: u64,
    /// Open sessions that did not answer a ping and an LCP echo afterwards.
    pub sessions_silent: u64,
    pub sessions_failed: u64,
    /// Why, as the LACs saw it, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Control messages that the LACs had to send again.
    pub retransmitted: u64,
}

impl SetupResult {
    /// Whether every session came up and lives.
    pub fn is_complete(&self) -> bool {
        self.sessions_open == u64::from(self.sessions) && self.sessions_silent == 0
    }
}

impl fmt::Display for SetupResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "set-up: {} sessions over {} tunnels, {} at once: {:.0} sessions/s, p50 {:.1} ms, p99 {:.1} ms from \
             ICRQ to IPCP open; {} open, {} silent, {} failed, {} control messages repeated",
            self.sessions,
            self.tunnels,
            self.concurrency,
            self.sessions_per_second,
            self.p50_ms,
            self.p99_ms,
            self.sessions_open,
            self.sessions_silent,
            self.sessions_failed,
            self.retransmitted
        )?;
        for (reason, calls) in &self.failures {
            write!(f, "\n    {calls} failed: {reason}")?;
        }
        Ok(())
    }
}

/// Sets `setting.sessions` sessions up on a fresh node, which may ask a RADIUS server.
pub fn setup(setting: &Setting, with_radius: bool) -> Result<SetupResult, Error> {
    let radius = if with_radius {
        Some(Radius::start().map_err(std::io::Error::other)?)
    } else {
        None
    };
    let settings = Settings {
        sections: radius.as_ref().map(Radius::section).unwrap_or_default(),
        ..Settings::default()
    };
    let mut node = NodeUnderTest::with(&setting.program, &settings)?;
    node.daemon.start()?;
    of_node(setting, &node)
}

/// Sets sessions up on a node that runs, by a simulator of its own, and releases them.
pub(super) fn of_node(setting: &Setting, node: &NodeUnderTest) -> Result<SetupResult, Error> {
    let mut simulator = simulate(setting, node, setting.sessions.max(setting.tunnels))?;
    open_tunnels(&mut simulator, setting.tunnels)?;
    let result = measure(&mut simulator, setting)?;
    release(&mut simulator)?;
    Ok(result)
}

/// Sets sessions up in a simulator whose tunnels are up and which has no call.
pub(super) fn measure(simulator: &mut Simulator, setting: &Setting) -> Result<SetupResult, Error> {
    let before = simulator.report()?;
    simulator.dial(setting.sessions, Some(setting.concurrency))?;
    let all = u64::from(setting.sessions);
    let report = simulator.wait_until("the end of the set-ups", PATIENCE, |report| {
        is_over(report, &before, all)
    })?;
    let checked = simulator.check(CHECK_TIMEOUT)?;
    Ok(SetupResult {
        sessions: setting.sessions,
        tunnels: setting.tunnels,
        concurrency: setting.concurrency,
        sessions_per_second: report.setup_rate,
        p50_ms: report.setup_p50_ms,
        p99_ms: report.setup_p99_ms,
        sessions_open: report.sessions_open,
        sessions_silent: checked.sessions_silent(),
        sessions_failed: report.sessions_failed - before.sessions_failed,
        failures: failures_since(&before, &report),
        retransmitted: report.retransmitted - before.retransmitted,
    })
}

fn failures_since(before: &Report, report: &Report) -> BTreeMap<String, u64> {
    let since = |(reason, calls): (&String, &u64)| {
        let earlier = before.failures.get(reason).copied().unwrap_or_default();
        (*calls > earlier).then(|| (reason.clone(), calls - earlier))
    };
    report.failures.iter().filter_map(since).collect()
}

fn is_over(report: &Report, before: &Report, all: u64) -> bool {
    report.sessions_asked == before.sessions_asked + all && report.sessions_pending == 0
}
