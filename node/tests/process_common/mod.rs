//! The built program as a child process.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A slow machine under load gets this long for whatever it is waited for.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running daemon; killed when the test ends before it does.
pub struct Daemon(pub Child);

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("signalled");
    }

    /// SIGTERM, or another signal, and the code that it ends with.
    pub fn stop(self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.end()
    }

    /// The code that it ends with, of its own accord.
    pub fn end(mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            match self.0.try_wait().expect("our child") {
                Some(status) => return status.code(),
                None if started.elapsed() > PATIENCE => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
