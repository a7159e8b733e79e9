//! `holdfast-testbed sim`: runs seeds, and says how to repeat the one that fails.

use std::error::Error;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bugs::Bug;
use super::run::{Run, run};
use super::setup::Setup;

/// Options of `sim`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed, or with `--seeds 1` the only one; absent: one that nobody has run before.
    #[arg(long)]
    seed: Option<u64>,
    /// Nodes of the cluster when it begins; absent: as the seed has it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Minutes of virtual time with faults; two quiet ones follow.
    #[arg(long, default_value_t = 3)]
    minutes: u64,
    /// Plants a mistake, which the run has to find.
    #[arg(long, value_enum)]
    bug: Option<Bug>,
    /// Prints what happens between two times of the virtual clock, in seconds: `--trace 35-41`.
    #[arg(long, value_parser = parse_trace)]
    trace: Option<Range<Duration>>,
    /// Threads; each runs a seed of its own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stops after so many seconds, however many seeds are left.
    #[arg(long)]
    seconds: Option<u64>,
}

impl Options {
    /// Runs the seeds. The exit code is 1 where a property did not hold.
    pub fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let first = self.seed.unwrap_or_else(|| rand::random::<u64>() >> 24);
        let minutes = self.minutes;
        println!(
            "{} seeds from {first} on, {minutes} minutes of faults each",
            self.seeds
        );
        let start = Instant::now();
        let runs = self.run_all(first, start);
        let virtual_time: Duration = runs.iter().map(|run| run.time).sum();
        let hours = virtual_time.as_secs_f64() / 3600.0;
        let spent = start.elapsed().as_secs_f64();
        println!(
            "{} seeds, {hours:.1} simulated hours in {spent:.1} s: {:.1} hours a minute, {} steps, {} members added or removed",
            runs.len(),
            hours / spent * 60.0,
            runs.iter().map(|run| run.steps).sum::<u64>(),
            runs.iter().map(|run| run.orders).sum::<u64>(),
        );
        let failed = runs
            .iter()
            .filter(|run| run.failure.is_some())
            .min_by_key(|run| run.seed);
        let Some(failed) = failed else {
            return Ok(ExitCode::SUCCESS);
        };
        self.report(failed);
        Ok(ExitCode::FAILURE)
    }

    fn run_all(&self, first: u64, start: Instant) -> Vec<Run> {
        let limit = Duration::from_secs(self.seconds.unwrap_or(u64::MAX));
        let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
        let runs = Mutex::new(Vec::new());
        let worker = || loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.seeds || failed.load(Ordering::Relaxed) || start.elapsed() > limit {
                return;
            }
            let seed = first.wrapping_add(number);
            let setup = Setup {
                trace: self.trace.clone(),
                ..Setup::of_seed(seed, self.nodes, self.minutes, self.bug)
            };
            let run = run(&setup);
            if run.failure.is_some() {
                failed.store(true, Ordering::Relaxed);
            }
            runs.lock().expect("a run that panics says so instead").push(run);
        };
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(worker);
            }
        });
        runs.into_inner().expect("all threads have ended")
    }

    fn report(&self, run: &Run) {
        let Some(failure) = &run.failure else { return };
        println!("FAIL {}: {}", failure.invariant, failure.what);
        println!("at {:.3} s of seed {}, after", failure.at.as_secs_f64(), run.seed);
        failure.trail.iter().for_each(|line| println!("  {line}"));
        let bug = self.bug.and_then(|bug| clap::ValueEnum::to_possible_value(&bug));
        let bug = bug.map_or_else(String::new, |bug| format!(" --bug {}", bug.get_name()));
        let nodes = self
            .nodes
            .map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
        println!(
            "repeat: cargo run --release -p holdfast-testbed -- sim --seeds 1 --seed {} --minutes {}{nodes}{bug}",
            run.seed, self.minutes
        );
    }
}

fn parse_trace(text: &str) -> Result<Range<Duration>, String> {
    let (from, to) = text.split_once('-').ok_or("two times are wanted: 35-41")?;
    let seconds = |text: &str| {
        let seconds: f64 = text
            .parse()
            .map_err(|_| format!("{text:?} is no number of seconds"))?;
        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
    };
    Ok(seconds(from)?..seconds(to)?)
}
