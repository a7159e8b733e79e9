//! Finds or builds the `holdfast` program.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The workspace that this program was built from.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a package of a workspace has a folder above it")
}

/// The program given, else one freshly built in release mode from this workspace.
pub fn find_or_build(given: Option<&Path>) -> io::Result<PathBuf> {
    match given {
        Some(program) => program.canonicalize(),
        None => build(&mut cargo()),
    }
}

/// The stand-in for a later release, freshly built into a folder of its own below the one that this program is in: a version of
/// the session table more, and rows with a field more (`COMMAND_VERSION` in `cluster/src/limits.rs`).
pub fn build_next() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .ancestors()
        .nth(2)
        .ok_or_else(|| io::Error::other("this program is in no folder"))?
        .join("next");
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags += " --cfg holdfast_next";
    build(
        cargo()
            .env("RUSTFLAGS", flags.trim_start())
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .arg("--target-dir")
            .arg(folder),
    )
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        // The whole workspace's features, with which this program was built too: so only the last step is left to do.
        .args(["build", "--release", "--workspace", "--bin", "holdfast"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace());
    command
}

fn build(command: &mut Command) -> io::Result<PathBuf> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other("cargo could not build the node"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    executable(&text).ok_or_else(|| io::Error::other("cargo names no program"))
}

/// The `executable` in cargo's messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_executable_counts() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/x/release/holdfast"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some("/x/release/holdfast".into()));
        assert_eq!(executable("not json"), None);
    }
}
