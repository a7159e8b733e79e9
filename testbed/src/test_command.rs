//! `holdfast-testbed test`: installs what is needed, runs the suites, reports.

use std::process::ExitCode;
use std::time::Instant;

use crate::lab::{apt, cleanup};
use crate::suites::{self, Context, Outcome, Suite};

/// Programs that the suites call and the packages that bring them.
const NEEDED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("cc", "gcc"),
    ("g++", "g++"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("chroot", "coreutils"),
    ("bird", "bird2"),
    ("ethtool", "ethtool"),
    ("iperf3", "iperf3"),
];

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run this suite alone; may be given several times.
    #[arg(long, value_name = "SUITE")]
    only: Vec<String>,
    /// Of the laboratory tests run those whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Name the suites and end.
    #[arg(long)]
    list: bool,
}

/// Runs what was asked for; the exit code is 1 if any test failed.
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.list {
        suites::ALL
            .iter()
            .for_each(|suite| println!("{:<12} {}", suite.name, suite.about));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = arguments
        .only
        .iter()
        .find(|name| suites::ALL.iter().all(|suite| suite.name != **name))
    {
        eprintln!("there is no suite {unknown:?}; --list names them");
        return ExitCode::from(2);
    }
    if let Err(message) = prepare() {
        eprintln!("{message}");
        return ExitCode::FAILURE;
    }
    let wanted =
        |suite: &&Suite| arguments.only.is_empty() || arguments.only.iter().any(|name| name == suite.name);
    let context = Context::new(arguments.filter.clone());
    let results: Vec<_> = suites::ALL
        .iter()
        .filter(wanted)
        .map(|suite| run_suite(suite, &context))
        .collect();
    summarize(&results)
}

fn prepare() -> Result<(), String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err("the tests make network namespaces and install packages: run them as root".to_owned());
    }
    cleanup::install().map_err(|error| format!("cannot watch for signals: {error}"))?;
    apt::install_missing(NEEDED).map_err(|error| error.to_string())
}

struct Finished {
    name: &'static str,
    outcome: Outcome,
    seconds: f32,
}

fn run_suite(suite: &Suite, context: &Context) -> Finished {
    println!("{:<12} {} ...", suite.name, suite.about);
    let start = Instant::now();
    let finished = Finished {
        name: suite.name,
        outcome: (suite.run)(context),
        seconds: start.elapsed().as_secs_f32(),
    };
    println!("{}", finished.line());
    for failure in &finished.outcome.failures {
        println!(
            "---- {}: {}\n{}\n----",
            suite.name,
            failure.name,
            failure.output.trim_end()
        );
    }
    finished
}

impl Finished {
    fn line(&self) -> String {
        let failed = self.outcome.failures.len();
        let verdict = if failed == 0 { "ok" } else { "FAILED" };
        let passed = self.outcome.passed;
        format!(
            "{:<12} {verdict:<6} {passed:5} passed {failed:4} failed {:8.1} s",
            self.name, self.seconds
        )
    }
}

fn summarize(results: &[Finished]) -> ExitCode {
    println!("\nSummary");
    results
        .iter()
        .for_each(|finished| println!("{}", finished.line()));
    for finished in results {
        finished
            .outcome
            .failures
            .iter()
            .for_each(|failure| println!("  failed: {} {}", finished.name, failure.name));
    }
    let passed: usize = results.iter().map(|finished| finished.outcome.passed).sum();
    let failed: usize = results
        .iter()
        .map(|finished| finished.outcome.failures.len())
        .sum();
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
