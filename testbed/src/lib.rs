//! Everything that attacks the rest: a LAC and subscriber simulator, and what drives it against a node process.

pub mod bench;
pub mod cleanup;
pub mod daemon;
pub mod demo;
pub mod node_config;
pub mod node_program;
pub mod restart;
pub mod simulator;
pub mod stats;
