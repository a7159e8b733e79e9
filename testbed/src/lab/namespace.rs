//! Network namespaces, made and entered by name with iproute2.
//!
//! A name is `hf-PID-SERIAL-ROLE`: unique in the machine, and it tells whose it is once that process is gone.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::{LabError, Result};
use super::process::run;

/// Where iproute2 keeps the names.
const FOLDER: &str = "/run/netns";
/// How every name of ours begins.
pub const PREFIX: &str = "hf-";

/// What the name of each build of this program has in common; the kernel cuts names at 15 octets.
const PROGRAM: &str = "testb";

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A network namespace; dropping it kills what runs in it and removes it with its interfaces.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with its loopback up.
    pub fn create(role: &str) -> Result<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{serial}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside; `arguments` are separated by blanks.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(arguments.split_whitespace()))
    }

    /// A command that will run inside. Its process replaces that of `ip`, so the child's id is the program's.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Runs a closure on a thread inside. A socket opened there stays inside wherever it is used.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = Path::new(FOLDER).join(&self.name);
        let handle = File::open(&path).map_err(|source| LabError::io(&path, source))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(handle, CloneFlags::CLONE_NEWNET).map_err(|error| LabError::io(&path, error.into()))?;
                Ok(work())
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Kills what runs in a namespace and removes it. Failure is left to the next run.
fn remove(name: &str) {
    let own = std::process::id() as i32;
    let pids = run(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    for pid in pids
        .lines()
        .filter_map(|line| line.trim().parse::<i32>().ok())
        .filter(|pid| *pid != own)
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = run(Command::new("ip").args(["netns", "del", name]));
}

/// Removes the namespaces of this process, and its folders, which have the same names.
pub fn remove_own() {
    remove_where(|owner| owner == std::process::id());
}

/// Removes what belongs to processes that are gone.
pub fn remove_leftovers() {
    remove_where(|owner| !is_testbed(owner));
}

fn remove_where(doomed: impl Fn(u32) -> bool) {
    let doomed_in = |folder: &Path| {
        names_in(folder)
            .into_iter()
            .filter(|(_, owner)| doomed(*owner))
            .map(|(name, _)| name)
    };
    doomed_in(Path::new(FOLDER)).for_each(|name| remove(&name));
    let folders = std::env::temp_dir();
    for name in doomed_in(&folders) {
        let _ = fs::remove_dir_all(folders.join(name));
    }
}

/// The entries of a folder that have our form of name, each with the process id in it.
fn names_in(folder: &Path) -> Vec<(String, u32)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| owner_of(&name).map(|owner| (name, owner)))
        .collect()
}

/// The process id in a name of ours.
fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// Whether a process is (still) this program rather than another one that got its number, or a dead one not yet reaped.
/// Several builds of it may run beside each other under different names.
fn is_testbed(pid: u32) -> bool {
    let alive = fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    alive && name.contains(PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::owner_of;

    #[test]
    fn a_name_tells_its_owner() {
        assert_eq!(owner_of("hf-4711-0-lns"), Some(4711));
        assert_eq!(owner_of("hf-lns"), None);
        assert_eq!(owner_of("other-4711-0-lns"), None);
    }
}
