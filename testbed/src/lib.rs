//! Everything that attacks the rest: a LAC and subscriber simulator, what drives it against a node process, the network-namespace
//! lab with real clients, and the test command.

pub mod bench;
pub mod chaos;
pub mod cleanup;
pub mod daemon;
pub mod demo;
pub mod faults;
pub mod invariants;
pub mod lab;
pub mod node_config;
pub mod node_program;
pub mod restart;
pub mod sim;
pub mod simulator;
pub mod stats;
pub mod suites;
pub mod test_command;
