//! Kills a node with -9, starts it again on the same data, and lets its subscribers say whether they noticed.
//!
//! Every scenario has sessions that are established before the first kill. None of them may be lost or renegotiated,
//! no control channel may be stuck, and in the end each must answer. Calls that arrive while the node dies may come
//! late; those that fail are counted and told.

mod moments;
mod stage;
mod storm;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

pub use moments::{HardMoment, hard_moment};
pub use stage::{Error, Setting};
pub use storm::restart_storm;
pub use verdict::Verdict;

use crate::node_program;

/// Which scenarios to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    All,
    /// Many sessions, new calls all the time, kills at random moments.
    Storm,
    /// Between receiving messages and acknowledging them.
    Unacknowledged,
    /// Right after acknowledging a HELLO.
    Hello,
    /// Within 200 calls placed in 0.1 s.
    Burst,
    /// While clients hold their Configure-Ack, and while the node holds its own.
    Held,
    /// Right after a client has seen IPCP open.
    Opened,
}

/// Options of `restart`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long, value_enum, default_value = "all")]
    scenario: Scenario,
    /// Repeats the random choices of an earlier run; absent: new ones.
    #[arg(long)]
    seed: Option<u64>,
    /// Kills in a row [default: 20 in the storm, 10 at each hard moment].
    #[arg(long)]
    rounds: Option<u32>,
    /// Sessions established before the first kill [default: 1000 in the storm, 200 at each hard moment].
    #[arg(long)]
    sessions: Option<u32>,
    #[arg(long, default_value_t = 20)]
    tunnels: u32,
    /// The `holdfast` program; absent: built from this workspace.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Removes the node's data before each start: every scenario must fail then, or it finds nothing.
    #[arg(long)]
    sabotage: bool,
    /// Prints one JSON object a scenario instead of lines for people.
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Runs the scenarios one after the other. Exit code 1 if one of them found a violation.
    pub fn run(self) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let program = node_program::find_or_build(self.program.as_deref())?;
        let seed = self.seed.unwrap_or_else(rand::random);
        let mut passed = true;
        for scenario in self.scenario.expand() {
            let verdict = scenario.run(&self.setting(scenario, program.clone(), seed)?)?;
            passed &= verdict.passed();
            if self.json {
                println!("{}", serde_json::to_string(&verdict)?);
            } else {
                println!("{verdict}");
            }
        }
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn setting(&self, scenario: Scenario, program: PathBuf, seed: u64) -> std::io::Result<Setting> {
        let (sessions, rounds) = if scenario == Scenario::Storm {
            (1000, 20)
        } else {
            (200, 10)
        };
        Ok(Setting {
            program,
            testbed: Some(std::env::current_exe()?),
            seed,
            rounds: self.rounds.unwrap_or(rounds),
            sessions: self.sessions.unwrap_or(sessions),
            tunnels: self.tunnels,
            sabotage: self.sabotage,
        })
    }
}

impl Scenario {
    fn expand(self) -> Vec<Self> {
        match self {
            Self::All => {
                vec![
                    Self::Storm,
                    Self::Unacknowledged,
                    Self::Hello,
                    Self::Burst,
                    Self::Held,
                    Self::Opened,
                ]
            }
            one => vec![one],
        }
    }

    fn run(self, setting: &Setting) -> Result<Verdict, Error> {
        match self {
            Self::All | Self::Storm => restart_storm(setting),
            Self::Unacknowledged => hard_moment(HardMoment::Unacknowledged, setting),
            Self::Hello => hard_moment(HardMoment::Hello, setting),
            Self::Burst => hard_moment(HardMoment::Burst, setting),
            Self::Held => hard_moment(HardMoment::Held, setting),
            Self::Opened => hard_moment(HardMoment::Opened, setting),
        }
    }
}
