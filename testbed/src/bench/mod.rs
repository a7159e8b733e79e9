//! How fast packets pass, beside l2tpns; how fast sessions come up and what they cost, against a node process with its
//! durable log on.

mod cluster;
mod hold;
mod outage;
mod path;
mod radius;
mod setup;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cleanup;
use crate::node_config::{NodeUnderTest, USER};
use crate::node_program;
use crate::restart::Error;
use crate::simulator::{Command, Plan, Simulator};

pub use cluster::{ClusterResult, cluster};
pub use hold::{HoldResult, hold};
pub use outage::{OutageResult, outage};
pub use path::{Kind, PathOptions, quick_cells, results};
pub use setup::{SetupResult, setup};

/// How long the ends of all calls may take to be acknowledged.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);

/// LACs, each with a socket of its own.
const LACS: u16 = 8;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    path: PathOptions,
    /// Sets `--sessions` sessions up at full speed.
    #[arg(long)]
    setup: bool,
    /// Has a RADIUS server on loopback judge the subscribers, and account for them.
    #[arg(long, requires = "setup")]
    radius: bool,
    /// Holds so many sessions and measures the node's memory, then releases them and measures set-up again.
    #[arg(long, value_name = "N")]
    hold: Option<u32>,
    /// Sets `--sessions` sessions up on three nodes behind routers, then holds so many and measures each node's memory (root).
    #[arg(long, value_name = "N")]
    cluster: Option<u32>,
    /// Has so many sessions and their tunnels come up at once, as after an outage: first a tenth, then all on a fresh node.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100000")]
    outage: Option<u32>,
    /// LACs that come back; absent: one for each 20 tunnels.
    #[arg(long, value_name = "N", requires = "outage")]
    outage_lacs: Option<u32>,
    /// Sessions of a set-up measurement.
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    #[arg(long, default_value_t = 100)]
    tunnels: u32,
    /// Calls on their way at once.
    #[arg(long, default_value_t = 400)]
    concurrency: u32,
    /// Seconds for which all sessions of `--hold` are held.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The `holdfast` program; absent: built from this workspace.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Prints one JSON object a measurement instead of lines for people; of the data path, writes all to this file as well.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Setting {
    pub program: PathBuf,
    /// The `holdfast-testbed` program, of which the simulator becomes a process.
    pub testbed: PathBuf,
    pub sessions: u32,
    pub tunnels: u32,
    pub concurrency: u32,
}

impl Options {
    /// Runs the measurements asked for. Exit code 1 if a session did not come up or did not stay.
    pub fn run(self) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let program = node_program::find_or_build(self.program.as_deref())?;
        if !self.setup && self.hold.is_none() && self.cluster.is_none() && self.outage.is_none() {
            return Ok(self.path.run(&program, self.json.flatten().as_deref())?);
        }
        // The cluster sees to its namespaces itself.
        if self.setup || self.hold.is_some() || self.outage.is_some() {
            cleanup::install()?;
        }
        let setting = Setting {
            program,
            testbed: std::env::current_exe()?,
            sessions: self.sessions,
            tunnels: self.tunnels,
            concurrency: self.concurrency,
        };
        let mut passed = true;
        if self.setup {
            let result = setup(&setting, self.radius)?;
            passed &= result.is_complete();
            self.print(&result)?;
        }
        if let Some(count) = self.hold {
            let result = hold(&setting, count, Duration::from_secs(self.seconds))?;
            passed &= result.is_complete();
            self.print(&result)?;
        }
        if let Some(count) = self.cluster {
            let result = cluster(&setting, count)?;
            passed &= result.is_complete();
            self.print(&result)?;
        }
        if let Some(count) = self.outage {
            let result = outage(&setting, count, self.outage_lacs)?;
            passed &= result.is_complete();
            self.print(&result)?;
        }
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn print(&self, result: &(impl serde::Serialize + std::fmt::Display)) -> serde_json::Result<()> {
        if self.json.is_some() {
            println!("{}", serde_json::to_string(result)?);
        } else {
            println!("{result}");
        }
        Ok(())
    }
}

/// A fresh node and a simulator of `sessions` subscribers beside it.
fn start(setting: &Setting, sessions: u32) -> Result<(NodeUnderTest, Simulator), Error> {
    let mut node = NodeUnderTest::new(&setting.program)?;
    node.daemon.start()?;
    let simulator = simulate(setting, &node, sessions)?;
    Ok((node, simulator))
}

/// A new simulator of `sessions` subscribers for a node that runs.
fn simulate(setting: &Setting, node: &NodeUnderTest, sessions: u32) -> Result<Simulator, Error> {
    let plan = Plan {
        target: node.daemon.address(),
        lacs: LACS,
        tunnels: setting.tunnels,
        sessions,
        user: USER.into(),
        password: USER.into(),
        ..Plan::default()
    };
    Ok(Simulator::spawn(Path::new(&setting.testbed), &plan)?)
}

/// Opens the tunnels by one call each and ends those calls, so that a measurement is of sessions alone.
fn open_tunnels(simulator: &mut Simulator, tunnels: u32) -> Result<(), Error> {
    simulator.dial(tunnels, None)?;
    simulator.wait_until("all tunnels up", Duration::from_secs(60), |report| {
        report.sessions_open == u64::from(tunnels)
    })?;
    release(simulator)?;
    simulator.ask(&Command::ResetMeasurements)?;
    Ok(())
}

/// Ends every call and waits until the node has acknowledged each end.
fn release(simulator: &mut Simulator) -> Result<(), Error> {
    simulator.ask(&Command::HangUp {
        from: 0,
        sessions: None,
        by: Default::default(),
    })?;
    // The HELLO behind the last CDN is answered when all of them are.
    simulator.check(RELEASE_TIMEOUT)?;
    Ok(())
}
