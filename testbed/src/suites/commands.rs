//! Suites that are commands of this program, run as people run them.

use std::process::Command;
use std::time::Duration;

use super::cargo::transcribe;
use super::{Context, Outcome};
use crate::lab::process::own_program;

const DEMO_LIMIT: Duration = Duration::from_secs(120);
const RESTART_LIMIT: Duration = Duration::from_secs(600);

pub fn demo(_: &Context) -> Outcome {
    Outcome::single("demo", own_command(&["demo"], DEMO_LIMIT))
}

pub fn restart(_: &Context) -> Outcome {
    Outcome::single("restart", own_command(&["restart"], RESTART_LIMIT))
}

/// Runs this program with other arguments; its exit code decides.
fn own_command(arguments: &[&str], limit: Duration) -> Result<(), String> {
    match transcribe(Command::new(own_program()).args(arguments), limit) {
        (true, transcript) => {
            // The last lines are the command's own summary.
            let lines: Vec<_> = transcript.lines().collect();
            lines[lines.len().saturating_sub(4)..]
                .iter()
                .for_each(|line| println!("    {line}"));
            Ok(())
        }
        (false, transcript) => Err(transcript),
    }
}
