//! Suites that are commands of this program, run as people run them.

use std::process::Command;
use std::time::Duration;

use super::cargo::transcribe;
use super::{Context, Outcome};
use crate::lab::process::own_program;

const DEMO_LIMIT: Duration = Duration::from_secs(120);
/// With two threads no more than 90 seconds of processor time.
const SIM_SECONDS: &str = "42";
const SIM_LIMIT: Duration = Duration::from_secs(120);
const RESTART_LIMIT: Duration = Duration::from_secs(600);
const CHAOS_LIMIT: Duration = Duration::from_secs(720);
const FAULTS_LIMIT: Duration = Duration::from_secs(400);

/// What people see first, with root and without.
pub fn demo(_: &Context) -> Outcome {
    let mut outcome = Outcome::single("demo --one", own_command(&["demo", "--one"], DEMO_LIMIT));
    outcome.add("demo", own_command(&["demo"], DEMO_LIMIT));
    outcome
}

/// Seeds that nobody has run before; the first one is printed, and a failure says how to repeat it.
pub fn sim(_: &Context) -> Outcome {
    let arguments = [
        "sim",
        "--seeds",
        "300",
        "--threads",
        "2",
        "--seconds",
        SIM_SECONDS,
    ];
    Outcome::single("sim", own_command(&arguments, SIM_LIMIT))
}

/// The storm beside the hard moments: both spend most of their time waiting for clocks.
pub fn restart(_: &Context) -> Outcome {
    let storm = ["restart", "--scenario", "storm"];
    let others = ["unacknowledged", "hello", "burst", "held", "opened"];
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| scenarios(&storm, RESTART_LIMIT));
        let mut outcome = Outcome::default();
        for moment in others {
            outcome.merge(scenarios(&["restart", "--scenario", moment], RESTART_LIMIT));
        }
        outcome.merge(
            storm
                .join()
                .expect("a scenario that fails says so instead of panicking"),
        );
        outcome
    })
}

/// One case each of a killed owner, a kill within a burst of calls, a power cut and a partition, in one standing lab; RADIUS and IPv6 in another.
pub fn chaos(_: &Context) -> Outcome {
    let arguments = [
        "chaos",
        "kill-owner",
        "burst-kill",
        "power",
        "partition-owner",
        "radius-kill",
        "radius-orders",
        "ipv6",
        "--sessions",
        "200",
    ];
    scenarios(&arguments, CHAOS_LIMIT)
}

pub fn faults(_: &Context) -> Outcome {
    scenarios(&["faults"], FAULTS_LIMIT)
}

/// A command of this program that prints a line `ok NAME: ...` or `FAIL NAME: ...` for each of its scenarios.
fn scenarios(arguments: &[&str], limit: Duration) -> Outcome {
    let (succeeded, transcript) = transcribe(Command::new(own_program()).args(arguments), limit);
    let mut outcome = Outcome::default();
    for line in transcript.lines() {
        if line.starts_with("ok  ") {
            outcome.add(line.trim(), Ok(()));
        } else if let Some(failed) = line.strip_prefix("FAIL ") {
            outcome.add(
                failed.split(':').next().unwrap_or(failed),
                Err(transcript.clone()),
            );
        }
    }
    if !succeeded && outcome.failures.is_empty() || outcome.passed == 0 {
        outcome.add(&arguments.join(" "), Err(transcript));
    }
    outcome
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
