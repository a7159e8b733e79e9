//! The `holdfast-testbed` program.

fn main() {}
