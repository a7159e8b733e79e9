//! Suites that are one call of cargo: format, lints, and the tests of all crates.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Context, Failure, Outcome};
use crate::lab::process::{ProcessGroup, describe};

/// A build that has not ended by now never will.
const LIMIT: Duration = Duration::from_secs(1500);

pub fn fmt(context: &Context) -> Outcome {
    let check = ["fmt", "--all", "--", "--check", "--color=never"];
    let mut outcome = Outcome::default();
    outcome.add("cargo fmt", succeed(&context.workspace, &check));
    outcome.add(
        "cargo fmt of the fuzz targets",
        succeed(&context.workspace.join("testbed/fuzz"), &check),
    );
    outcome
}

pub fn clippy(context: &Context) -> Outcome {
    let arguments = [
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    Outcome::single("cargo clippy", succeed(&context.workspace, &arguments))
}

pub fn unit(context: &Context) -> Outcome {
    let run = context.test_run();
    let failed = |verdict: &&String| verdict.as_str() == "FAILED";
    let names: Vec<_> = run
        .verdicts
        .iter()
        .filter(|(_, verdict)| failed(verdict))
        .map(|(name, _)| name)
        .collect();
    let mut outcome = Outcome {
        passed: run.passed,
        failures: Vec::new(),
    };
    if !run.success {
        // One entry a failed test, the whole transcript once.
        let first = names
            .first()
            .map_or("cargo test", |name| name.as_str())
            .to_owned();
        outcome.failures.push(Failure {
            name: first,
            output: run.transcript.clone(),
        });
        let others = names.iter().skip(1);
        outcome.failures.extend(others.map(|name| Failure {
            name: (*name).clone(),
            output: "see above".into(),
        }));
    }
    outcome
}

/// What `cargo test` did.
#[derive(Debug, Default)]
pub struct TestRun {
    pub success: bool,
    pub passed: usize,
    /// By the test's path: `ok`, `FAILED` or `ignored`. Tests of the same path in two crates share an entry, the worse
    /// verdict wins.
    pub verdicts: BTreeMap<String, String>,
    pub transcript: String,
}

/// Runs all tests of the workspace, those that need root too.
pub fn run_tests(workspace: &Path) -> TestRun {
    let arguments = [
        "test",
        "--release",
        "--workspace",
        "--no-fail-fast",
        "--",
        "--include-ignored",
    ];
    let (success, transcript) = cargo(workspace, &arguments);
    let mut run = TestRun {
        success,
        transcript,
        ..TestRun::default()
    };
    for (name, verdict) in run.transcript.lines().filter_map(verdict_of) {
        run.passed += usize::from(verdict == "ok");
        let entry = run
            .verdicts
            .entry(name.to_owned())
            .or_insert_with(|| verdict.to_owned());
        if verdict == "FAILED" {
            *entry = verdict.to_owned();
        }
    }
    run
}

/// Reads a line such as `test channel::tests::s_33_wrap ... ok`.
fn verdict_of(line: &str) -> Option<(&str, &str)> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    // "ignored" may be followed by the reason.
    let verdict = verdict.split([',', ' ']).next().unwrap_or(verdict);
    let name = name.split(" - should panic").next().unwrap_or(name);
    ["ok", "FAILED", "ignored"]
        .contains(&verdict)
        .then_some((name, verdict))
}

/// Runs cargo and turns a failure into its output.
pub fn succeed(workspace: &Path, arguments: &[&str]) -> Result<(), String> {
    match cargo(workspace, arguments) {
        (true, _) => Ok(()),
        (false, transcript) => Err(transcript),
    }
}

/// Runs cargo; returns whether it succeeded and all that it wrote.
fn cargo(workspace: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(workspace);
    transcribe(&mut command, LIMIT)
}

/// The cargo that runs this program, or the one on the path.
pub fn program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command in a process group of its own; returns whether it succeeded and both of its outputs as one text.
pub fn transcribe(command: &mut Command, limit: Duration) -> (bool, String) {
    let line = describe(command);
    let redirect = |command: &mut Command| {
        let file = tempfile::NamedTempFile::new()?;
        let writer = || File::options().append(true).open(file.path());
        command.stdin(Stdio::null()).stdout(writer()?).stderr(writer()?);
        Ok::<_, std::io::Error>(file)
    };
    let file = match redirect(command) {
        Ok(file) => file,
        Err(error) => return (false, format!("{line}: {error}")),
    };
    let status = ProcessGroup::spawn(command).and_then(|mut group| group.wait(limit));
    let text = String::from_utf8_lossy(&fs::read(file.path()).unwrap_or_default()).into_owned();
    match status {
        Ok(status) if status.success() => (true, text),
        Ok(status) => (false, format!("{text}\n`{line}`: {status}")),
        Err(error) => (false, format!("{text}\n{error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::verdict_of;

    #[test]
    fn verdicts_are_read() {
        assert_eq!(verdict_of("test a::s_1_b ... ok"), Some(("a::s_1_b", "ok")));
        assert_eq!(
            verdict_of("test a::b - should panic ... FAILED"),
            Some(("a::b", "FAILED"))
        );
        assert_eq!(
            verdict_of("test a::b ... ignored, needs root"),
            Some(("a::b", "ignored"))
        );
        assert_eq!(verdict_of("test result: ok. 3 passed; 0 failed"), None);
    }
}
