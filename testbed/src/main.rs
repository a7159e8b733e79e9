//! The `holdfast-testbed` program: one subcommand for each way to attack a daemon.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast-testbed: {error}");
            ExitCode::from(2)
        }
    }
}
