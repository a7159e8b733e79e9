//! The simulation: many nodes, LACs with subscribers and the router between them in one world with virtual time, in which
//! everything goes wrong that a seed can think of, and nothing that is random comes from anywhere else.
//!
//! What runs are the pure cores of the daemon (`protocol`, `ppp`, `cluster`, `node::lns`); sockets, threads and disks are made of
//! paper here. After every step the properties in [`crate::invariants`] are checked. A failure names its seed, and the seed
//! repeats it.

mod agenda;
mod bugs;
mod client;
mod command;
mod dice;
mod facts;
mod faults;
mod lac;
mod network;
mod node;
mod run;
mod setup;
#[cfg(test)]
mod tests;
mod world;

pub use bugs::Bug;
pub use command::Options;
pub use facts::{CallNumber, Fact, Loss};
pub use node::is_of_radius;
pub use run::{Failure, Run, run};
pub use setup::Setup;
pub use world::World;
