//! Subcommands and their options.

use std::error::Error;
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use holdfast_testbed::{bench, cleanup, demo, restart, simulator};

/// Everything that attacks Holdfast: a demonstration, benchmarks, a LAC and subscriber simulator.
#[derive(Debug, Parser)]
#[command(name = "holdfast-testbed", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Subscribers dial in, the node is killed with -9 and started again: see what they notice.
    Demo(demo::Options),
    /// Sessions a second, and what a session costs.
    Bench(bench::Options),
    /// Kills and restarts the node at random and at the worst moments; no session may be lost.
    Restart(restart::Options),
    /// Dials simulated subscribers and prints what became of them, as JSON.
    Simulate(Box<simulator::command_line::Options>),
}

impl Cli {
    /// Runs the subcommand. An error means that it could not be run; a failed check is an exit code.
    pub fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        if !matches!(self.command, Command::Simulate(_)) {
            cleanup::install()?;
        }
        match self.command {
            Command::Demo(options) => options.run(),
            Command::Bench(options) => options.run(),
            Command::Restart(options) => options.run(),
            Command::Simulate(options) => {
                let (input, output) = (std::io::stdin(), std::io::stdout());
                let port = simulator::ControlPort::new(
                    input.as_fd().try_clone_to_owned()?,
                    output.as_fd().try_clone_to_owned()?,
                );
                options.run(port)
            }
        }
    }
}
