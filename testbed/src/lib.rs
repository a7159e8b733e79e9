//! Everything that attacks the rest.

pub mod lab;
pub mod suites;
pub mod test_command;
