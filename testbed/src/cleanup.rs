//! What an interrupt must not leave behind: the processes that this program started, and nothing else.

use std::sync::Mutex;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// Exit code of a program ended by an interrupt.
const INTERRUPTED: i32 = 130;

static PROCESSES: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// From here on an interrupt ends this process too.
pub fn register_process(pid: u32) {
    PROCESSES.lock().expect("nobody panics with it").push(pid);
}

/// The process has been waited for, or is to outlive us: its number is no longer ours.
pub fn forget_process(pid: u32) {
    PROCESSES
        .lock()
        .expect("nobody panics with it")
        .retain(|known| *known != pid);
}

/// Ends this program and what it started on SIGINT, SIGTERM and SIGHUP. Call it before any thread is started:
/// threads inherit the signal mask (processes started by `std` do not).
pub fn install() -> nix::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    std::thread::spawn(move || {
        if signals.wait().is_err() {
            return;
        }
        for pid in PROCESSES.lock().expect("nobody panics with it").drain(..) {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        eprintln!("interrupted");
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}
