//! A disk that takes its time, on demand: a library, preloaded into every node, that delays each sync by 100 ms while a file
//! of a given name exists.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::Result;
use crate::lab::process::run;

const SOURCE: &str = include_str!("slow_disk.c");
/// Where the library looks for the name of the file.
pub const VARIABLE: &str = "SLOW_DISK";

/// Compiles the library into `folder`.
pub fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("slow_disk.c"), folder.join("slow_disk.so"));
    fs::write(&source, SOURCE)?;
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-o"]);
    command.arg(&library).arg(&source).arg("-ldl");
    run(&mut command)?;
    Ok(library)
}

/// Makes the disk slow, or well again.
pub fn set(flag: &Path, slow: bool) -> Result<()> {
    if slow {
        File::create(flag)?;
    } else {
        match fs::remove_file(flag) {
            // It is well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}
