//! A node of the simulation: the pure cores, composed as the daemon's shells compose them, over a simulated disk.

mod accounting;
mod addresses;
mod births;
mod control;
mod counters;
mod judges;
mod machine;
mod orders;
mod ownership;
mod process;
mod shells;
mod table;
mod wire;

pub use machine::{Arrival, Death, Machine};
pub use process::{Out, Process};
pub use shells::is_of_radius;
pub use wire::Wire;
