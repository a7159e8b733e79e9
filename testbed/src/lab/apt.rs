//! Debian packages: installed on the machine where a program is missing, or fetched to be unpacked elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use super::error::{LabError, Result};
use super::process::{on_path, run};

static UPDATE: Once = Once::new();

/// Brings the package lists up to date, once in the life of the program.
fn update() {
    UPDATE.call_once(|| {
        println!("apt-get update");
        if let Err(error) = run(apt_get().args(["-qq", "update"])) {
            println!("{error}"); // the lists that are here may do; if not, the next command says so
        }
    });
}

/// Installs the packages whose program is not on the path; `wanted` pairs programs with packages.
pub fn install_missing(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(program, _)| !on_path(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    update();
    println!("apt-get install {}", missing.join(" "));
    run(apt_get()
        .args(["-qq", "-y", "--no-install-recommends", "install"])
        .args(&missing))
    .map(drop)
}

/// Fetches the packages that `folder` does not hold yet and returns their files in the order asked for.
pub fn download(folder: &Path, packages: &[&str]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).map_err(|source| LabError::io(folder, source))?;
    let missing: Vec<_> = packages
        .iter()
        .filter(|package| find(folder, package).is_none())
        .collect();
    if !missing.is_empty() {
        let fetch = || {
            let mut command = apt_get();
            command
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                .args(&missing)
                .current_dir(folder);
            run(&mut command)
        };
        // A fresh machine has no lists, an old one has lists of files that are gone.
        fetch().or_else(|_| {
            update();
            fetch()
        })?;
    }
    let file = |package: &&str| {
        find(folder, package).ok_or_else(|| LabError::unmet(format!("apt-get fetched no file for {package}")))
    };
    packages.iter().map(file).collect()
}

fn find(folder: &Path, package: &str) -> Option<PathBuf> {
    let start = format!("{package}_");
    let mut files = fs::read_dir(folder).ok()?.flatten();
    files
        .find(|file| file.file_name().to_string_lossy().starts_with(&start))
        .map(|file| file.path())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
