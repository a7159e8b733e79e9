//! The LNS's pure composition from end to end on virtual time: `lns::Tunnel` and `lns::Session` over a real session table,
//! with LACs and subscribers on the other side of a network that may lose, double and reorder.

mod calls;
mod client;
mod closing;
mod crash;
mod gate;
mod handover;
mod lac;
mod load;
mod setup;
mod world;

use std::time::Duration;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
