//! `bench --outage`: every LAC comes back at the same moment, tunnels and calls together, on a node whose other sessions must
//! not notice. First a tenth of them, then all on a fresh node: a node that is sized for the whole must not choke on it.
//!
//! The node has its default limits of admission and a durable log. The LACs are several processes, for one alone would be slower
//! than the node; all share the machine's cores, so only the ratio says something about the node.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Setting;
use crate::faults::node_api;
use crate::node_config::{NodeUnderTest, Settings, USER};
use crate::restart::Error;
use crate::simulator::{Command, Plan, Report, Simulator};

/// Subscribers of one tunnel.
const SESSIONS_PER_TUNNEL: u32 = 5;
/// Tunnels of one LAC, unless told otherwise.
const TUNNELS_PER_LAC: u32 = 20;
/// Processes that the LACs are spread over.
const SIMULATORS: u32 = 4;
/// Sessions that were up before, a hundredth of which pings fast.
const OLD_SESSIONS: u32 = 1_000;
const OLD_TUNNELS: u32 = 50;
const OLD_LACS: u16 = 10;
const SLOW_PING_MS: u64 = 1_000;
const FAST_PING: Duration = Duration::from_millis(10);
/// How long the old sessions are up before the others come.
const REST: Duration = Duration::from_secs(2);
/// How long everything may take to come up, and to show that it is alive.
const PATIENCE: Duration = Duration::from_secs(300);
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the LACs are asked how far they are.
const POLL: Duration = Duration::from_millis(200);

/// Both waves.
#[derive(Clone, Debug, Serialize)]
pub struct OutageResult {
    pub tenth: Wave,
    pub all: Wave,
    /// The rate of all as a part of the rate of a tenth.
    pub rate_ratio: f64,
}

/// What happened when so many came back at once.
#[derive(Clone, Debug, Serialize)]
pub struct Wave {
    pub sessions: u32,
    pub tunnels: u32,
    /// Each with an address of its own.
    pub lacs: u32,
    /// From the first SCCRQ to the last IPCP open.
    pub seconds: f64,
    pub sessions_per_second: f64,
    /// From ICRQ to IPCP open, at the slowest of the LACs' processes.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub sessions_open: u64,
    pub sessions_silent: u64,
    pub sessions_failed: u64,
    /// Why, as the LACs saw it, and how often.
    pub failures: BTreeMap<String, u64>,
    /// Control messages that the LACs had to send again.
    pub retransmitted: u64,
    /// The node's counters of what it dropped, refused or repeated and of limits that were reached, those above zero.
    pub troubles: BTreeMap<String, u64>,
    pub old: Old,
}

/// The sessions that were up before.
#[derive(Clone, Debug, Serialize)]
pub struct Old {
    pub sessions: u32,
    pub lost: u64,
    pub renegotiated: u64,
    pub silent: u64,
    pub control_channels_stuck: u64,
    pub pings_sent: u64,
    pub pings_answered: u64,
    /// The longest time without an answer to a ping, of those that ping each second and of those that ping each 10 ms.
    pub longest_gap_ms: f64,
    pub longest_fast_gap_ms: f64,
}

impl Old {
    fn is_undisturbed(&self) -> bool {
        self.lost == 0 && self.renegotiated == 0 && self.silent == 0 && self.control_channels_stuck == 0
    }
}

impl Wave {
    fn is_complete(&self) -> bool {
        let all_up = self.sessions_open == u64::from(self.sessions) && self.sessions_silent == 0;
        all_up && self.sessions_failed == 0 && self.old.is_undisturbed()
    }
}

impl OutageResult {
    /// Whether every session came up and no old one was lost.
    pub fn is_complete(&self) -> bool {
        self.tenth.is_complete() && self.all.is_complete()
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {} sessions over {} tunnels of {} LACs: {:.0} sessions/s, the last one up after {:.1} s; from ICRQ to IPCP open \
             p50 {:.0} ms, p99 {:.0} ms; {} open, {} silent, {} failed, {} control messages repeated",
            self.sessions,
            self.tunnels,
            self.lacs,
            self.sessions_per_second,
            self.seconds,
            self.p50_ms,
            self.p99_ms,
            self.sessions_open,
            self.sessions_silent,
            self.sessions_failed,
            self.retransmitted
        )?;
        for (reason, calls) in &self.failures {
            writeln!(f, "    {calls} failed: {reason}")?;
        }
        for (name, count) in &self.troubles {
            writeln!(f, "    {name} {count}")?;
        }
        let old = &self.old;
        writeln!(
            f,
            "    {} old sessions: {} lost, {} renegotiated, {} silent, {} control channels stuck; {} of {} pings answered, longest \
             gap {:.0} ms at a ping a second, {:.0} ms at one each {} ms",
            old.sessions,
            old.lost,
            old.renegotiated,
            old.silent,
            old.control_channels_stuck,
            old.pings_answered,
            old.pings_sent,
            old.longest_gap_ms,
            old.longest_fast_gap_ms,
            FAST_PING.as_millis()
        )
    }
}

impl fmt::Display for OutageResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after an outage")?;
        write!(f, "{}{}", self.tenth, self.all)?;
        write!(f, "  rate of all to that of a tenth: {:.2}", self.rate_ratio)
    }
}

/// Has a tenth of `sessions` and then all come up on a fresh node each; `lacs` for all, absent: as many as tunnels suggest.
pub fn outage(setting: &Setting, sessions: u32, lacs: Option<u32>) -> Result<OutageResult, Error> {
    let tenth = wave(
        setting,
        (sessions / 10).max(1),
        lacs.map(|lacs| lacs.div_ceil(10)),
    )?;
    let all = wave(setting, sessions, lacs)?;
    let rate_ratio = all.sessions_per_second / tenth.sessions_per_second.max(f64::MIN_POSITIVE);
    Ok(OutageResult {
        tenth,
        all,
        rate_ratio,
    })
}

fn wave(setting: &Setting, sessions: u32, lacs: Option<u32>) -> Result<Wave, Error> {
    let tunnels = sessions.div_ceil(SESSIONS_PER_TUNNEL);
    let lacs = lacs.unwrap_or_else(|| tunnels.div_ceil(TUNNELS_PER_LAC)).max(1);
    let mut node = NodeUnderTest::with(&setting.program, &Settings::with_default_admission())?;
    node.daemon.start()?;
    let mut old = dial_old(setting, &node)?;
    let mut simulators = simulators(setting, &node, sessions, tunnels, lacs)?;
    sleep(REST);
    old.ask(&Command::Mark)?;
    for simulator in &mut simulators {
        // Each has its share of them.
        simulator.dial(sessions, None)?;
    }
    let reports = wait(&mut simulators)?;
    let mut silent = 0;
    for simulator in &mut simulators {
        silent += simulator.check(CHECK_TIMEOUT)?.sessions_silent();
    }
    let old = look_at_old(&mut old)?;
    let troubles = troubles(&node)?;
    let longest = |figure: fn(&Report) -> f64| reports.iter().map(figure).fold(0.0, f64::max);
    let sum = |figure: fn(&Report) -> u64| reports.iter().map(figure).sum();
    let seconds = longest(|report| report.bring_up_ms) / 1000.0;
    let open = sum(|report| report.sessions_open);
    Ok(Wave {
        sessions,
        tunnels,
        lacs,
        seconds,
        sessions_per_second: open as f64 / seconds.max(f64::MIN_POSITIVE),
        p50_ms: longest(|report| report.setup_p50_ms),
        p99_ms: longest(|report| report.setup_p99_ms),
        sessions_open: open,
        sessions_silent: silent,
        sessions_failed: sum(|report| report.sessions_failed),
        failures: failures(&reports),
        retransmitted: sum(|report| report.retransmitted),
        troubles,
        old,
    })
}

/// Sessions that are up and ping before the others come.
fn dial_old(setting: &Setting, node: &NodeUnderTest) -> Result<Simulator, Error> {
    let plan = Plan {
        lacs: OLD_LACS,
        source: Ipv4Addr::new(127, 8, 0, 1).into(),
        tunnels: OLD_TUNNELS,
        sessions: OLD_SESSIONS,
        ..plan(node)
    };
    let mut old = Simulator::spawn(Path::new(&setting.testbed), &plan)?;
    old.dial(OLD_SESSIONS, None)?;
    old.wait_until("the old sessions", PATIENCE, |report| {
        report.sessions_open == u64::from(OLD_SESSIONS)
    })?;
    old.ask(&Command::Ping {
        interval_ms: SLOW_PING_MS,
        host: None,
        fast_sessions: OLD_SESSIONS / 100,
        fast_interval_us: u64::try_from(FAST_PING.as_micros()).unwrap_or(u64::MAX),
    })?;
    Ok(old)
}

fn look_at_old(old: &mut Simulator) -> Result<Old, Error> {
    let report = old.report()?;
    let checked = old.check(CHECK_TIMEOUT)?;
    let since = report.since_mark.clone().unwrap_or_default();
    let longest = |gaps: &[f64]| gaps.iter().copied().fold(0.0, f64::max);
    Ok(Old {
        sessions: OLD_SESSIONS,
        lost: report.sessions_lost,
        renegotiated: report.sessions_renegotiated,
        silent: checked.sessions_silent(),
        control_channels_stuck: checked.control_channels_stuck(&report),
        pings_sent: report.pings_sent,
        pings_answered: report.pings_answered,
        longest_gap_ms: longest(&since.slow_gaps_ms),
        longest_fast_gap_ms: longest(&since.fast_gaps_ms),
    })
}

fn plan(node: &NodeUnderTest) -> Plan {
    Plan {
        target: node.daemon.address(),
        many_sources: true,
        user: USER.into(),
        password: USER.into(),
        ..Plan::default()
    }
}

/// The LACs, spread over several processes; each LAC has an address of its own.
fn simulators(
    setting: &Setting,
    node: &NodeUnderTest,
    sessions: u32,
    tunnels: u32,
    lacs: u32,
) -> Result<Vec<Simulator>, Error> {
    let processes = SIMULATORS.min(lacs);
    let share = |all: u32, number: u32| all / processes + u32::from(number < all % processes);
    let start = |number: u32| {
        let plan = Plan {
            lacs: u16::try_from(share(lacs, number)).unwrap_or(u16::MAX),
            source: Ipv4Addr::from(0x7f10_0001 + (number << 16)).into(),
            tunnels: share(tunnels, number),
            sessions: share(sessions, number),
            seed: u64::from(number) + 1,
            ..plan(node)
        };
        Ok(Simulator::spawn(Path::new(&setting.testbed), &plan)?)
    };
    (0..processes).map(start).collect()
}

/// Until every call has come up or failed; the reports of that moment.
fn wait(simulators: &mut [Simulator]) -> Result<Vec<Report>, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        sleep(POLL);
        let reports = simulators
            .iter_mut()
            .map(Simulator::report)
            .collect::<Result<Vec<_>, _>>()?;
        let over = |report: &Report| report.sessions_pending == 0 && report.calls_to_place == 0;
        // Whoever is not up by then is missing from the sum.
        if reports.iter().all(over) || Instant::now() >= deadline {
            return Ok(reports);
        }
    }
}

fn failures(reports: &[Report]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (reason, calls) in reports.iter().flat_map(|report| &report.failures) {
        *all.entry(reason.clone()).or_default() += calls;
    }
    all
}

/// What the node says it has dropped, refused or found full.
fn troubles(node: &NodeUnderTest) -> Result<BTreeMap<String, u64>, Error> {
    let status = node_api::status(&node.socket()).map_err(std::io::Error::other)?;
    Ok(node_api::troubles(&status))
}
