//! Subcommands and their options.

use std::error::Error;
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use holdfast_testbed::{bench, chaos, cleanup, demo, faults, restart, sim, simulator, suites, test_command};

/// Everything that attacks Holdfast: the tests, a demonstration, benchmarks, a LAC and subscriber simulator.
#[derive(Debug, Parser)]
#[command(name = "holdfast-testbed", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Subscribers dial in, a node is killed with -9 and started again: see what they notice. As root: of a cluster.
    Demo(demo::Options),
    /// Sessions a second, and what a session costs.
    Bench(bench::Options),
    /// Kills and restarts the node at random and at the worst moments; no session may be lost.
    Restart(restart::Options),
    /// Panics, orders to stop, hostile peers, broken disks, wrong starts: what a node must bear.
    Faults(faults::Options),
    /// Real nodes behind real routers: killed, hung, cut off, restarted, while subscribers watch (as root).
    Chaos(chaos::Options),
    /// Simulates a whole cluster with its LACs on virtual time, with faults, and checks what must always hold.
    Sim(sim::Options),
    /// Dials simulated subscribers and prints what became of them, as JSON.
    Simulate(Box<simulator::command_line::Options>),
    /// Installs what the tests need and runs every test there is (as root).
    Test(test_command::Arguments),
    /// Checks or writes the table of scenarios and their tests.
    Scenarios(suites::scenarios::Arguments),
    /// Fuzzes the decoders.
    Fuzz(suites::fuzz::Arguments),
}

impl Cli {
    /// Runs the subcommand. An error means that it could not be run; a failed check is an exit code.
    pub fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        // Those that make namespaces see to these themselves.
        if matches!(self.command, Command::Restart(_) | Command::Faults(_)) {
            cleanup::install()?;
        }
        match self.command {
            Command::Demo(options) => options.run(),
            Command::Bench(options) => options.run(),
            Command::Restart(options) => options.run(),
            Command::Faults(options) => options.run(),
            Command::Chaos(options) => options.run(),
            Command::Sim(options) => options.run(),
            Command::Simulate(options) => {
                let (input, output) = (std::io::stdin(), std::io::stdout());
                let port = simulator::ControlPort::new(
                    input.as_fd().try_clone_to_owned()?,
                    output.as_fd().try_clone_to_owned()?,
                );
                options.run(port)
            }
            Command::Test(arguments) => Ok(test_command::run(&arguments)),
            Command::Scenarios(arguments) => Ok(suites::scenarios::command(&arguments)),
            Command::Fuzz(arguments) => Ok(suites::fuzz::command(&arguments)),
        }
    }
}
