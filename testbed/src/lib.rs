//! Everything that attacks the rest.

pub mod simulator;
pub mod stats;
