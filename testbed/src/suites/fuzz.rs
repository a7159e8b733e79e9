//! libFuzzer on every family of decoders.
//!
//! The targets under `testbed/fuzz` are built once with LLVM's coverage instrumentation, which a stable compiler offers
//! too; no other tool than a C++ compiler is needed. Each starts from the seeds of `fuzz/seeds` and from what earlier
//! runs on this machine have found worth keeping.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::cargo::{program, transcribe};
use super::{Context, Outcome, workspace};
use crate::lab::process::own_program;

/// Every binary of `testbed/fuzz`, with the length of its longest input in octets.
const TARGETS: &[(&str, usize)] = &[
    ("control", 2048),
    ("avp", 1100),
    ("tunnel", 2048),
    ("ppp", 1024),
    ("proxy", 512),
    ("table", 2048),
    ("log", 120),
    ("config", 4096),
    ("packet", 600),
    ("radius", 1024),
    ("dhcp6", 1400),
];
const SECONDS_IN_CI: u32 = 20;
/// Runs side by side; CI has two cores.
const AT_ONCE: usize = 2;
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// Ten million executions of the slowest target take less.
const RUN_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// No input of these lengths may take longer; seconds.
const INPUT_LIMIT: u32 = 10;
const MEMORY_LIMIT_MB: u32 = 1024;

/// What cargo-fuzz would set, without the address sanitizer: the decoders hold no unsafe code.
const INSTRUMENTATION: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Executions of each target, instead of a time.
    #[arg(long)]
    runs: Option<u64>,
    /// Seconds for each target.
    #[arg(long, default_value_t = SECONDS_IN_CI)]
    seconds: u32,
    /// Fuzz this target alone; may be given several times.
    #[arg(long, value_name = "TARGET")]
    only: Vec<String>,
}

/// When a target has had enough.
#[derive(Debug, Clone, Copy)]
enum Extent {
    Seconds(u32),
    Runs(u64),
}

pub fn run(context: &Context) -> Outcome {
    fuzz(&context.workspace, Extent::Seconds(SECONDS_IN_CI), TARGETS)
}

/// `holdfast-testbed fuzz`.
pub fn command(arguments: &Arguments) -> ExitCode {
    let extent = arguments
        .runs
        .map_or(Extent::Seconds(arguments.seconds), Extent::Runs);
    let wanted = |(name, _): &&(&str, usize)| {
        arguments.only.is_empty() || arguments.only.iter().any(|only| only == name)
    };
    let targets: Vec<_> = TARGETS.iter().filter(wanted).copied().collect();
    let outcome = fuzz(&workspace(), extent, &targets);
    for failure in &outcome.failures {
        println!("---- {}\n{}\n----", failure.name, failure.output);
    }
    println!("{} passed, {} failed", outcome.passed, outcome.failures.len());
    if outcome.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn fuzz(workspace: &Path, extent: Extent, targets: &[(&str, usize)]) -> Outcome {
    let binaries = match build(workspace) {
        Ok(folder) => folder,
        Err(output) => return Outcome::single("build of the fuzz targets", Err(output)),
    };
    let outcome = Mutex::new(Outcome::default());
    let queue = Mutex::new(targets.iter());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no panic while the queue is locked").next();
                    let Some((name, longest)) = next else { return };
                    let result = fuzz_one(workspace, &binaries, name, *longest, extent);
                    outcome
                        .lock()
                        .expect("no panic while the outcome is locked")
                        .add(name, result);
                }
            });
        }
    });
    outcome
        .into_inner()
        .expect("no panic while the outcome is locked")
}

/// Builds all targets and returns the folder they are in.
fn build(workspace: &Path) -> Result<PathBuf, String> {
    let triple = host_triple()?;
    let target = target_folder();
    let mut command = Command::new(program());
    command
        .args(["build", "--release", "--bins", "--target", &triple])
        .arg("--target-dir")
        .arg(&target);
    // The build for a named target keeps the flags away from build scripts and procedural macros.
    command.env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\x1f"));
    command.current_dir(workspace.join("testbed/fuzz"));
    match transcribe(&mut command, BUILD_LIMIT) {
        (true, _) => Ok(target.join(triple).join("release")),
        (false, transcript) => Err(transcript),
    }
}

/// Beside the folder this program was built into.
fn target_folder() -> PathBuf {
    let target = own_program().ancestors().nth(2).map(Path::to_path_buf);
    target.unwrap_or_else(|| workspace().join("target")).join("fuzz")
}

fn host_triple() -> Result<String, String> {
    let (success, text) = transcribe(Command::new("rustc").arg("-vV"), BUILD_LIMIT);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.filter(|_| success).map(str::to_owned).ok_or(text.clone())
}

fn fuzz_one(
    workspace: &Path,
    binaries: &Path,
    name: &str,
    longest: usize,
    extent: Extent,
) -> Result<(), String> {
    let folder = target_folder();
    let corpus = folder.join("corpus").join(name);
    let artifacts = folder.join("artifacts").join(name);
    for path in [&corpus, &artifacts] {
        fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    plant_seeds(workspace, name, &corpus)?;
    // A target that needs a real file gets one that costs no disk.
    let memory = Path::new("/dev/shm");
    let temporary = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let temporary = temporary.map_err(|error| format!("a temporary folder: {error}"))?;
    let mut command = Command::new(binaries.join(name));
    command.arg(match extent {
        Extent::Seconds(seconds) => format!("-max_total_time={seconds}"),
        Extent::Runs(runs) => format!("-runs={runs}"),
    });
    command
        .arg(format!("-max_len={longest}"))
        .arg(format!("-timeout={INPUT_LIMIT}"));
    command
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MB}"))
        .args(["-print_final_stats=1", "-verbosity=1"]);
    command
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&corpus)
        .env("TMPDIR", temporary.path());
    let (success, transcript) = transcribe(&mut command, RUN_LIMIT);
    let executed = transcript
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!(
        "    {} {name:<12} {} executions",
        if success { "ok    " } else { "FAILED" },
        executed.unwrap_or("?").trim()
    );
    if success { Ok(()) } else { Err(transcript) }
}

/// Puts the seeds into the corpus: every line of `NAME.hex` is one, and every file of the folder `NAME`.
fn plant_seeds(workspace: &Path, name: &str, corpus: &Path) -> Result<(), String> {
    let seeds = workspace.join("testbed/fuzz/seeds");
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let path = seeds.join(name).with_extension("hex");
    let text = if path.exists() {
        fs::read_to_string(&path).map_err(|e| failed(&path, e))?
    } else {
        String::new()
    };
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    for (number, line) in lines {
        let octets =
            octets_of(line).ok_or_else(|| format!("{}:{}: not hexadecimal", path.display(), number + 1))?;
        let file = corpus.join(format!("seed-{}", number + 1));
        fs::write(&file, octets).map_err(|error| failed(&file, error))?;
    }
    for entry in fs::read_dir(seeds.join(name)).into_iter().flatten().flatten() {
        fs::copy(entry.path(), corpus.join(entry.file_name()))
            .map_err(|error| failed(&entry.path(), error))?;
    }
    Ok(())
}

fn octets_of(line: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = line
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs
        .remainder()
        .is_empty()
        .then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::octets_of;

    #[test]
    fn seeds_are_hexadecimal() {
        assert_eq!(octets_of("c8 02 0a"), Some(vec![0xc8, 0x02, 0x0a]));
        assert_eq!(octets_of("c8 0"), None);
        assert_eq!(octets_of("no"), None);
    }
}
