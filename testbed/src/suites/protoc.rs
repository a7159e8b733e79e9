//! The workspace builds on a machine without protoc.
//!
//! Where protoc is not installed, the build of this very program is the proof. Elsewhere the crates with generated code
//! are built once more, in a folder of their own, with protoc out of reach.

use std::process::Command;
use std::time::Duration;

use super::cargo::{program, transcribe};
use super::{Context, Outcome};
use crate::lab::process::on_path;

const LIMIT: Duration = Duration::from_secs(600);

pub fn run(context: &Context) -> Outcome {
    if !on_path("protoc") {
        return Outcome::single("built without protoc", Ok(()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let without = std::env::split_paths(&path).filter(|folder| !folder.join("protoc").exists());
    let Ok(path) = std::env::join_paths(without) else {
        return Outcome::single("build without protoc", Err("PATH cannot be split".to_owned()));
    };
    let mut command = Command::new(program());
    command.args([
        "build",
        "--release",
        "-p",
        "holdfast-cluster",
        "--target-dir",
        "target/no-protoc",
    ]);
    command
        .env("PATH", path)
        .env("PROTOC", "/nonexistent/protoc")
        .current_dir(&context.workspace);
    let (success, transcript) = transcribe(&mut command, LIMIT);
    Outcome::single(
        "build without protoc",
        if success { Ok(()) } else { Err(transcript) },
    )
}
