//! Subcommands and their options.

use std::error::Error;
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use holdfast_testbed::simulator;

/// Everything that attacks Holdfast: a demonstration, benchmarks, a LAC and subscriber simulator.
#[derive(Debug, Parser)]
#[command(name = "holdfast-testbed", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Dials simulated subscribers and prints what became of them, as JSON.
    Simulate(simulator::command_line::Options),
}

impl Cli {
    /// Runs the subcommand. An error means that it could not be run; a failed check is an exit code.
    pub fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        match self.command {
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
