//! The `holdfast` program.

use std::process::ExitCode;

/// A hundred thousand sessions are many small, long-lived allocations made and freed on several threads: this allocator keeps them
/// denser than the C library does, and gives memory back after they are gone.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    holdfast::cli::main()
}
