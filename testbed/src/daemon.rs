//! Starts, kills and restarts a node process on data of its own, and measures it from outside.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup;

/// How long a node may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node may take to end on SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(2);
/// Lines of the log that an error shows.
const TAIL_LINES: usize = 20;

/// Why a node could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{program}: {error}")]
    Start { program: PathBuf, error: io::Error },
    #[error("the node ended with {status}; its log {log} ends:\n{tail}")]
    Ended {
        status: ExitStatus,
        log: PathBuf,
        tail: String,
    },
    #[error("the node does not listen on {address} after {} s; its log {log} ends:\n{tail}", START_TIMEOUT.as_secs())]
    NotListening {
        address: SocketAddr,
        log: PathBuf,
        tail: String,
    },
    #[error("the node ignores SIGTERM for {} s", STOP_TIMEOUT.as_secs())]
    NotStopping,
    #[error("the node runs on {} s after SIGSTOP", STOP_TIMEOUT.as_secs())]
    NotFreezing,
    #[error("the node does not run")]
    NotRunning,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What a node occupies, octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    pub rss: u64,
    /// Shared pages counted by their share.
    pub pss: u64,
}

impl Memory {
    /// What a process occupies now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kilobytes
                .map(|kilobytes| kilobytes * 1024)
                .ok_or_else(|| io::Error::other(format!("no {name}")))
        };
        Ok(Self {
            rss: field("Rss:")?,
            pss: field("Pss:")?,
        })
    }
}

/// One node: how to start it, and the process while it runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    address: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// A node that `program` becomes with `arguments`; it listens on `address`, and what it prints goes to `log`.
    pub fn new(program: &Path, arguments: Vec<String>, address: SocketAddr, log: PathBuf) -> Self {
        Self {
            program: program.to_owned(),
            arguments,
            environment: Vec::new(),
            address,
            log,
            child: None,
        }
    }

    /// From the next start on the process has this in its environment.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// From the next start on the process gets these arguments.
    pub fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) -> Result<(), Error> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // An interrupt typed at the terminal is for us: we end the node ourselves.
            .process_group(0)
            .spawn()
            .map_err(|error| Error::Start {
                program: self.program.clone(),
                error,
            })?;
        cleanup::register_process(child.id());
        self.child = Some(child);
        Ok(())
    }

    /// Starts the process and waits until it listens.
    pub fn start(&mut self) -> Result<(), Error> {
        self.spawn()?;
        self.wait_listening()
    }

    /// Waits until the node's port is bound.
    pub fn wait_listening(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_bound(self.address, self.pid()) {
            if let Some(status) = self.try_wait()? {
                return Err(Error::Ended {
                    status,
                    log: self.log.clone(),
                    tail: self.tail(),
                });
            }
            if Instant::now() > deadline {
                let (log, tail) = (self.log.clone(), self.tail());
                return Err(Error::NotListening {
                    address: self.address,
                    log,
                    tail,
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// `kill -9`, and waits until the process is gone. An error if it had ended of its own accord before.
    pub fn kill(&mut self) -> Result<(), Error> {
        if let Some(status) = self.try_wait()?
            && status.signal() != Some(Signal::SIGKILL as i32)
        {
            return Err(Error::Ended {
                status,
                log: self.log.clone(),
                tail: self.tail(),
            });
        }
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
            cleanup::forget_process(child.id());
        }
        Ok(())
    }

    /// SIGTERM, and waits until the process has ended.
    pub fn terminate(&mut self) -> Result<ExitStatus, Error> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(Error::NotStopping);
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGSTOP, and waits until none of the process's threads runs any more.
    pub fn freeze(&self) -> Result<(), Error> {
        let pid = self.signal(Signal::SIGSTOP)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !is_frozen(pid)? {
            if Instant::now() > deadline {
                return Err(Error::NotFreezing);
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// SIGCONT: the process goes on after [`Self::freeze`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.signal(Signal::SIGCONT).map(drop)
    }

    /// Waits for a process that someone else has killed.
    pub fn wait_gone(&mut self, within: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + within;
        while self.try_wait()?.is_none() && self.child.is_some() {
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(true)
    }

    /// Waits for the end of a process that is to end by itself; `None` if it does not within the time.
    pub fn wait_end(&mut self, within: Duration) -> Result<Option<ExitStatus>, Error> {
        let deadline = Instant::now() + within;
        loop {
            match self.try_wait()? {
                Some(status) => return Ok(Some(status)),
                None if Instant::now() > deadline => return Ok(None),
                None => std::thread::sleep(POLL),
            }
        }
    }

    /// Leaves the process running for good.
    pub fn leave_running(mut self) -> Option<u32> {
        let child = self.child.take()?;
        cleanup::forget_process(child.id());
        Some(child.id())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that the node has printed so far.
    pub fn printed(&self) -> io::Result<String> {
        fs::read_to_string(&self.log)
    }

    /// What the process occupies now.
    pub fn memory(&self) -> io::Result<Memory> {
        let pid = self
            .pid()
            .ok_or_else(|| io::Error::other("the node does not run"))?;
        Memory::of(pid)
    }

    /// Signals the process; its id.
    fn signal(&self, signal: Signal) -> Result<u32, Error> {
        let pid = self.pid().ok_or(Error::NotRunning)?;
        kill(Pid::from_raw(pid.cast_signed()), signal).map_err(io::Error::from)?;
        Ok(pid)
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            cleanup::forget_process(child.id());
            self.child = None;
        }
        Ok(status)
    }

    /// The last lines of what the node has printed.
    pub fn tail(&self) -> String {
        let printed = self.printed().unwrap_or_default();
        let lines: Vec<&str> = printed.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A loopback UDP port that nobody uses now.
pub fn unused_port() -> io::Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether some process has bound the UDP port of `address`, there or on all addresses, in the network namespace of the
/// process `pid`; absent: in ours. While other sockets come and go the kernel's list can lack one that is there: ask again.
fn is_bound(address: SocketAddr, pid: Option<u32>) -> bool {
    let table = if address.is_ipv4() { "udp" } else { "udp6" };
    let process = pid.map_or("self".into(), |pid| pid.to_string());
    // Where the process is gone there is no list, which the caller finds out.
    fs::read_to_string(format!("/proc/{process}/net/{table}"))
        .is_ok_and(|sockets| lists_port(&sockets, address.port()))
}

/// Whether the text of a `/proc/*/net/udp` names the local port.
fn lists_port(sockets: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    sockets.lines().skip(1).any(|line| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|local| local.ends_with(&port))
    })
}

/// Whether all threads of a process are stopped.
fn is_frozen(pid: u32) -> io::Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        // The state follows the name, which stands in parentheses and may hold anything.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        if !state.is_some_and(|rest| rest.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_port_is_seen() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_bound(address, None) {
            assert!(Instant::now() < deadline, "{address} is not seen");
        }
    }

    #[test]
    fn only_the_local_port_counts() {
        let sockets = "  sl  local_address rem_address   st\n\
            \x20 12: 0100007F:06A5 0100007F:9999 07 00000000:00000000\n";
        assert!(lists_port(sockets, 1701));
        assert!(!lists_port(sockets, 0x9999));
        assert!(!lists_port("", 1701));
    }

    #[test]
    fn a_program_that_ends_at_once_is_reported_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = vec!["-c".into(), "echo no such pool >&2; exit 3".into()];
        let address = SocketAddr::from(([127, 0, 0, 1], unused_port().unwrap()));
        let mut daemon = Daemon::new(
            Path::new("/bin/sh"),
            arguments,
            address,
            folder.path().join("log"),
        );
        let error = daemon.start().unwrap_err().to_string();
        assert!(error.contains("no such pool") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_killed_process_is_gone_and_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], unused_port().unwrap()));
        let arguments = vec!["60".into()];
        let mut daemon = Daemon::new(
            Path::new("/bin/sleep"),
            arguments,
            address,
            folder.path().join("log"),
        );
        for _ in 0..2 {
            daemon.spawn().unwrap();
            assert!(daemon.memory().unwrap().pss > 0);
            daemon.kill().unwrap();
            assert_eq!(daemon.pid(), None);
        }
    }
}
