//! The simulator as a program: told what to do line by line, or left to dial, wait and report.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use super::handle::{Simulator, serve};
use super::plan::Plan;
use super::{Command, ControlPort};

/// How long the calls may take to come up or fail.
const SETTLE: Duration = Duration::from_secs(120);

/// Options of `simulate`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Reads the plan (first line) and commands from standard input, one JSON object a line.
    #[arg(long)]
    commands: bool,
    /// Seconds to stay once everybody has dialled.
    #[arg(long, default_value_t = 10)]
    stay: u64,
    /// Calls a second; absent: as fast as they come up.
    #[arg(long)]
    rate: Option<f64>,
    /// Calls on their way at once.
    #[arg(long)]
    concurrency: Option<u32>,
    #[command(flatten)]
    plan: Plan,
}

impl Options {
    /// Runs until the input ends or the stay is over. Exit code 1 if a session failed, was lost or renegotiated.
    pub fn run(self, port: ControlPort) -> Result<ExitCode, Box<dyn Error>> {
        if self.commands {
            serve(port)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut simulator = Simulator::start_thread(&self.plan)?;
        let sessions = self.plan.sessions;
        simulator.ask(&Command::Dial {
            sessions,
            rate: self.rate,
            concurrency: self.concurrency,
        })?;
        let all = u64::from(sessions);
        simulator.wait_until("the end of the set-ups", SETTLE, |report| {
            report.sessions_asked == all && report.sessions_pending == 0
        })?;
        std::thread::sleep(Duration::from_secs(self.stay));
        let report = simulator.report()?;
        simulator.ask(&Command::Close)?;
        println!("{}", serde_json::to_string_pretty(&report)?);
        let unharmed = report.sessions_open == all && report.sessions_renegotiated == 0;
        Ok(if unharmed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
