//! The small parent process of a node behind an anycast address.
//!
//! A process that dies takes its TUN device, and so its announcements, along. One that *hangs* is seen by nobody: BIRD and BFD
//! beside it are well, and a watchdog inside hangs with it. So `holdfast run` with `[anycast]` runs the server as its child
//! and listens to its beats; [`Watch`] says when silence is too long.
//!
//! ```text
//!   parent --spawns--> child: the server                 one socket pair, the child's standard input
//!     | <------- beat: index of the TUN device, 100 ms ------ |
//!     | --------- "your link is down", once a silence ------> |  the child sets it up again when it resumes
//!     | ---- SIGTERM, SIGINT, SIGHUP, as they come ---------> |
//!     | <------------------ its exit code ------------------- |
//! ```
//!
//! The child dies with its parent (PR_SET_PDEATHSIG). The parent has one thread and no state worth keeping; it does nothing that
//! could hang on the child or on a disk.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getppid};

use super::watch::{Order, Watch};
use crate::io::clock;
use crate::io::netlink::Netlink;

/// The option by which the child knows that it is one; its value is the parent's process id.
pub const CHILD_OPTION: &str = "--child-of";

/// What the parent says after it has set the link down.
const LINK_IS_DOWN: [u8; 1] = [b'd'];

/// What the child says instead of its device's index when it ends; no interface has it.
const FAREWELL: u32 = 0;

/// Shells say 128 + N of a program that signal N ended.
const BY_SIGNAL: i32 = 128;

/// Why the parent gave up before or without its child.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The child could not be started.
    #[error("cannot start the server's process: {0}")]
    Spawn(io::Error),
    /// Anything else that a healthy host does not refuse.
    #[error("the parent process of the server: {step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The parent had ended before its child could ask to end with it.
    #[error("the parent process ended while its server was being started")]
    Orphan,
}

/// The child's end of the line to its parent.
#[derive(Debug)]
pub struct Leash {
    socket: UnixDatagram,
}

impl Leash {
    /// Takes the line that the parent has put on standard input, and makes sure that we end when `parent` does.
    ///
    /// # Errors
    /// The parent has ended already; there is no line.
    pub fn take(parent: i32) -> Result<Self, ParentError> {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("PR_SET_PDEATHSIG"))?;
        // It may have ended before that call.
        if getppid() != Pid::from_raw(parent) {
            return Err(ParentError::Orphan);
        }
        // The parent reads these by a descriptor and so has blocked them, which we have inherited.
        of_interest()
            .thread_unblock()
            .map_err(failed("unblocking signals"))?;
        let line = io::stdin().as_fd().try_clone_to_owned();
        let socket = UnixDatagram::from(line.map_err(|source| ParentError::Io {
            step: "standard input",
            source,
        })?);
        Self::over(socket)
    }

    /// Over a socket of one's own.
    pub(super) fn over(socket: UnixDatagram) -> Result<Self, ParentError> {
        socket.set_nonblocking(true).map_err(|source| ParentError::Io {
            step: "the line between the processes",
            source,
        })?;
        Ok(Self { socket })
    }

    /// All is well with us and with the interface of this index.
    pub fn beat(&self, interface: u32) {
        // A line that is full has a parent that does not read: stopped, and when it resumes it finds enough of them.
        let _ = self.socket.send(&interface.to_ne_bytes());
    }

    /// We end, and our device with us.
    pub fn farewell(&self) {
        self.beat(FAREWELL);
    }

    /// Whether the parent has set our link down since the last call.
    pub fn link_was_set_down(&self) -> bool {
        let mut said = false;
        let mut message = [0; 8];
        while self.socket.recv(&mut message).is_ok() {
            said = true;
        }
        said
    }
}

struct Parent {
    child: Child,
    line: UnixDatagram,
    watch: Watch,
    netlink: Netlink,
    /// Of the child's device, once it has told.
    interface: u32,
}

/// Runs this very program again with the same arguments as a child; its exit code.
///
/// To be called before any thread is started.
///
/// # Errors
/// What kept the child from being started or watched; it does not run then.
pub fn run() -> Result<ExitCode, ParentError> {
    let wanted = of_interest();
    wanted.thread_block().map_err(failed("blocking signals"))?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(failed("signalfd"))?;
    let io = |step| move |source| ParentError::Io { step, source };
    let netlink = Netlink::open().map_err(io("netlink"))?;
    let (line, childs) = UnixDatagram::pair().map_err(io("the line between the processes"))?;
    line.set_nonblocking(true)
        .map_err(io("the line between the processes"))?;
    let child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .arg(CHILD_OPTION)
        .arg(std::process::id().to_string())
        .stdin(Stdio::from(OwnedFd::from(childs)))
        .spawn()
        .map_err(ParentError::Spawn)?;
    let mut parent = Parent {
        child,
        line,
        watch: Watch::new(clock::since_boot()),
        netlink,
        interface: 0,
    };
    let status = parent.serve(&signals).inspect_err(|_| {
        // A server that nobody watches is what this process exists to prevent.
        let _ = parent.child.kill();
    })?;
    Ok(exit_code(status))
}

/// What the parent passes on, and the end of its child.
fn of_interest() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD]
        .into_iter()
        .collect()
}

impl Parent {
    /// Until the child has ended.
    fn serve(&mut self, signals: &SignalFd) -> Result<ExitStatus, ParentError> {
        loop {
            self.sleep(signals)?;
            // What has arrived comes before the time that has passed.
            while let Some(interface) = self.next_beat() {
                if interface == FAREWELL {
                    self.watch.handle_farewell();
                    continue;
                }
                self.interface = interface;
                self.watch.handle_beat(clock::since_boot());
            }
            while let Some(signal) = signals.read_signal().map_err(failed("signalfd"))? {
                self.pass_on(signal.ssi_signo as i32);
            }
            if let Some(status) = self.child.try_wait().map_err(ParentError::Spawn)? {
                if let Some(signal) = status.signal() {
                    eprintln!("holdfast: the server's process was ended by signal {signal}");
                }
                return Ok(status);
            }
            self.watch.handle_timeout(clock::since_boot());
            match self.watch.poll_output() {
                Some(Order::LinkDown) => self.set_link_down(),
                Some(Order::Kill) => {
                    eprintln!("holdfast: the server has been silent for a minute: killing it");
                    // It is ours and not yet waited for, so the number is still its own.
                    let _ = self.child.kill();
                }
                None => {}
            }
        }
    }

    /// Until there is something to read or the watch wants to look.
    fn sleep(&self, signals: &SignalFd) -> Result<(), ParentError> {
        let timeout = match self.watch.poll_timeout() {
            None => PollTimeout::NONE,
            Some(due) => {
                // Rounded up, so that the time has come when the sleep is over.
                let left = due.saturating_sub(clock::since_boot()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [
            PollFd::new(self.line.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(failed("poll")(error)),
        }
    }

    fn next_beat(&self) -> Option<u32> {
        let mut beat = [0; 4];
        match self.line.recv(&mut beat) {
            Ok(4) => Some(u32::from_ne_bytes(beat)),
            _ => None,
        }
    }

    fn pass_on(&self, signal: i32) {
        match Signal::try_from(signal) {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => {
                let child = Pid::from_raw(self.child.id() as i32);
                // It may have ended just now, but is not waited for.
                let _ = kill(child, signal);
            }
        }
    }

    fn set_link_down(&mut self) {
        let silence = super::watch::SILENCE.as_millis();
        match self.netlink.set_link(self.interface, false) {
            Ok(()) => eprintln!(
                "holdfast: the server has been silent for {silence} ms: its link is set down, so that the routers send \
                 its traffic elsewhere"
            ),
            Err(error) => eprintln!(
                "holdfast: the server has been silent for {silence} ms and its link could not be set down: {error}"
            ),
        }
        // One that is full holds this very message already.
        let _ = self.line.send(&LINK_IS_DOWN);
    }
}

fn failed(step: &'static str) -> impl Fn(Errno) -> ParentError {
    move |error| ParentError::Io {
        step,
        source: error.into(),
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_childs_or_tells_the_signal() {
        let code = |raw| exit_code(ExitStatus::from_raw(raw));
        assert_eq!(code(0), ExitCode::SUCCESS);
        assert_eq!(code(2 << 8), ExitCode::from(2));
        assert_eq!(code(9), ExitCode::from(137));
    }

    #[test]
    fn the_line_carries_beats_one_way_and_the_news_the_other() {
        let (parent, child) = UnixDatagram::pair().expect("a pair");
        let leash = Leash::over(child).expect("a socket");
        assert!(!leash.link_was_set_down());
        leash.beat(7);
        let mut beat = [0; 4];
        assert_eq!(parent.recv(&mut beat).expect("a beat"), 4);
        assert_eq!(u32::from_ne_bytes(beat), 7);
        parent.send(&LINK_IS_DOWN).expect("sent");
        assert!(leash.link_was_set_down());
        assert!(!leash.link_was_set_down());
        // A parent that does not read stops nobody.
        for _ in 0..10_000 {
            leash.beat(7);
        }
    }
}
