//! The LNS, pure: what a tunnel, a session and the gate before them do with an input.
//!
//! Nothing here opens a socket, reads a clock, starts a task or draws a random number: `now` and seeds come in with the inputs,
//! [`tunnel::Command`]s and [`session::Command`]s go out. The shells in `actors` carry them out.

use std::time::Duration;

pub mod acceptor;
mod access_line;
pub mod admission;
pub mod change;
pub mod early_frames;
pub mod entropy;
pub mod granted;
pub mod handover;
pub mod ipv6;
pub mod ordered;
pub mod proposals;
pub mod repeats;
pub mod rows;
pub mod session;
pub mod terminate_cause;
mod timeouts;
pub mod timers;
pub mod tunnel;
pub mod waiting;

/// The two clocks of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary fixed origin; runs on while the machine sleeps.
    pub monotonic: Duration,
    /// Table time in milliseconds, as last applied.
    pub table_ms: u64,
}
