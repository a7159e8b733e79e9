//! A node, a simulator and the sessions between them, on which a scenario plays.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::verdict::Verdict;
use crate::daemon;
use crate::node_config::{NodeUnderTest, USER};
use crate::simulator::{self, Command, Plan, Simulator};
use crate::stats::Samples;

/// How long the first sessions may take to come up.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long calls may take to come up or fail once the node stays up: the client's patience and more.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(100);
/// How long everything may take to give a sign of life: a LAC's full cycle of retransmissions and more.
const CHECK_TIMEOUT: Duration = Duration::from_secs(35);
/// A LAC gives up 31 s after the last acknowledgement. So that no LAC is lost to the frequency of the kills alone,
/// the node is left alone where it has owed an acknowledgement for so long, milliseconds.
const BREATH: u64 = 2_000;
/// New calls come through so many LACs.
const LACS: u16 = 4;

/// What a scenario is played with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The `holdfast` program.
    pub program: PathBuf,
    /// The `holdfast-testbed` program, of which the simulator becomes a process; without it it is a thread.
    pub testbed: Option<PathBuf>,
    pub seed: u64,
    /// Kills.
    pub rounds: u32,
    /// Sessions established before the first one.
    pub sessions: u32,
    pub tunnels: u32,
    /// The node's data are removed before each start, to prove that the scenario finds lost sessions.
    pub sabotage: bool,
}

/// Why a scenario could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    #[error(transparent)]
    Simulator(#[from] simulator::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The players.
#[derive(Debug)]
pub struct Stage {
    node: NodeUnderTest,
    pub simulator: Simulator,
    pub rng: StdRng,
    kills: u32,
    missed: u32,
    starts: Samples,
    sabotage: bool,
}

impl Stage {
    /// Starts the node and establishes the sessions; `extra` more subscribers stay idle.
    pub fn open(setting: &Setting, extra: u32) -> Result<Self, Error> {
        let mut node = NodeUnderTest::new(&setting.program)?;
        node.daemon.start()?;
        let plan = Plan {
            target: node.daemon.address(),
            lacs: LACS,
            tunnels: setting.tunnels,
            sessions: setting.sessions + extra,
            user: USER.into(),
            password: USER.into(),
            ping_interval_ms: 1000,
            seed: setting.seed,
            ..Plan::default()
        };
        let mut simulator = match &setting.testbed {
            Some(testbed) => Simulator::spawn(testbed, &plan)?,
            None => Simulator::start_thread(&plan)?,
        };
        simulator.dial(setting.sessions, Some(200))?;
        let all = u64::from(setting.sessions);
        simulator.wait_until("all sessions up", DIAL_TIMEOUT, |report| {
            report.sessions_open == all
        })?;
        let rng = StdRng::seed_from_u64(setting.seed);
        Ok(Self {
            node,
            simulator,
            rng,
            kills: 0,
            missed: 0,
            starts: Samples::default(),
            sabotage: setting.sabotage,
        })
    }

    /// The node's process.
    pub fn pid(&self) -> u32 {
        self.node
            .daemon
            .pid()
            .expect("a scenario looks only while the node runs")
    }

    pub fn kill(&mut self) -> Result<(), Error> {
        self.node.daemon.kill()?;
        self.kills += 1;
        Ok(())
    }

    /// The simulator's trigger was to kill the node: whether it did; else it is killed now.
    pub fn await_kill(&mut self, within: Duration) -> Result<(), Error> {
        if self.node.daemon.wait_gone(within)? {
            self.kills += 1;
            return Ok(());
        }
        self.missed += 1;
        self.simulator.ask(&Command::Disarm)?;
        self.kill()
    }

    /// Starts the node again and waits until it listens.
    pub fn start(&mut self) -> Result<(), Error> {
        self.prepare()?;
        let begun = Instant::now();
        self.node.daemon.start()?;
        self.starts.record(begun.elapsed());
        Ok(())
    }

    /// Starts the node again and waits for nothing, so that the next kill may catch it starting.
    pub fn spawn(&mut self) -> Result<(), Error> {
        self.prepare()?;
        Ok(self.node.daemon.spawn()?)
    }

    /// With sabotage, loses the node's data.
    fn prepare(&self) -> Result<(), Error> {
        if self.sabotage {
            std::fs::remove_dir_all(self.node.data_folder())?;
        }
        Ok(())
    }

    /// Waits for a random time up to `longest`.
    pub fn sleep(&mut self, longest: Duration) {
        std::thread::sleep(longest.mul_f64(self.rng.random()));
    }

    /// Lets the node catch up with LACs that are about to lose patience.
    pub fn breathe(&mut self) -> Result<(), Error> {
        self.simulator
            .wait_until("an acknowledgement", CHECK_TIMEOUT, |report| {
                report.longest_unacknowledged_ms < BREATH
            })?;
        Ok(())
    }

    /// Waits until no call is on its way; whether that came about.
    pub fn settle(&mut self) -> Result<bool, Error> {
        match self
            .simulator
            .wait_until("the end of the set-ups", SETTLE_TIMEOUT, |report| {
                report.sessions_pending == 0
            }) {
            Ok(_) => Ok(true),
            Err(simulator::Error::Timeout { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks everybody and judges. Where something is wrong the node's folder is kept.
    pub fn finish(mut self, scenario: &str, setting: &Setting) -> Result<Verdict, Error> {
        self.settle()?;
        let checked = self.simulator.check(CHECK_TIMEOUT)?;
        let report = self.simulator.report()?;
        let stuck = checked.control_channels_stuck(&report);
        let mut verdict = Verdict {
            scenario: scenario.into(),
            seed: setting.seed,
            kills: self.kills,
            moments_missed: self.missed,
            sessions_established: report.sessions_established,
            sessions_open: report.sessions_open,
            sessions_lost: report.sessions_lost,
            losses: report.losses,
            sessions_renegotiated: report.sessions_renegotiated,
            sessions_silent: checked.sessions_silent(),
            control_channels_stuck: stuck,
            addresses_duplicated: report.addresses_duplicated,
            calls_pending: report.sessions_pending,
            calls_failed: report.sessions_failed,
            failures: report.failures,
            longest_gap_ms: report.longest_gap_ms,
            start_p50_ms: self.starts.percentile_ms(50.0),
            start_p99_ms: self.starts.percentile_ms(99.0),
            evidence: None,
        };
        if !verdict.passed() {
            verdict.evidence = Some(self.node.keep()?);
        }
        Ok(verdict)
    }
}
