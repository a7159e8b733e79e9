//! Child processes: run to the end, or kept in a process group that is killed when its owner is dropped.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::error::{LabError, Result};

/// Every process group that lives; what a signal to the program has to kill.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How often a wait looks again.
pub const POLL: Duration = Duration::from_millis(10);

/// Runs a command to its end and returns what it wrote to standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Io {
            what: line.clone(),
            source,
        })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let output_text = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Err(LabError::Command {
        command: line,
        status: output.status,
        output: output_text,
    })
}

/// A command line for people.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a program of this name is on the path.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The file of this very program. A build may have put a newer one in its place, which the kernel then marks.
pub fn own_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let text = own.to_string_lossy();
    text.strip_suffix(" (deleted)").map_or(own.clone(), PathBuf::from)
}

/// A child that leads a process group of its own; dropping it kills the group.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
    name: String,
}

impl ProcessGroup {
    pub fn spawn(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let name = describe(command);
        // The lock is held across the spawn, so that a signal finds the group or prevents it.
        let mut groups = GROUPS.lock().expect("no panic while the set of groups is locked");
        let child = command.process_group(0).spawn().map_err(|source| LabError::Io {
            what: name.clone(),
            source,
        })?;
        groups.insert(child.id() as i32);
        Ok(Self { child, name })
    }

    /// The leader's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The exit status, once the leader has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or(None)
    }

    /// Sends a signal to the leader alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).map_err(|error| LabError::Io {
            what: self.name.clone(),
            source: io::Error::from(error),
        })
    }

    /// Waits for the leader's end, `limit` at most.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.status() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(LabError::Timeout {
                    what: format!("end of `{}`", self.name),
                    after: limit,
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Kills the whole group without a word and reaps the leader.
    pub fn kill(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
        GROUPS
            .lock()
            .expect("no panic while the set of groups is locked")
            .remove(&self.pid().as_raw());
    }
}

/// Kills every group; afterwards none can be started, as the set stays locked. Only for the end of the program.
pub fn kill_all_for_exit() {
    let groups = GROUPS.lock().expect("no panic while the set of groups is locked");
    for group in groups.iter() {
        let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
    }
    std::mem::forget(groups);
}
