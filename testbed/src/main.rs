//! The `holdfast-testbed` program: everything that attacks the rest.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use holdfast_testbed::{suites, test_command};

/// Everything that attacks Holdfast: real clients, simulations, benchmarks.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test there is (as root).
    Test(test_command::Arguments),
    /// Check or write the table of scenarios and their tests.
    Scenarios(suites::scenarios::Arguments),
    /// Fuzz the decoders.
    Fuzz(suites::fuzz::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Test(arguments) => test_command::run(&arguments),
        Command::Scenarios(arguments) => suites::scenarios::command(&arguments),
        Command::Fuzz(arguments) => suites::fuzz::command(&arguments),
    }
}
