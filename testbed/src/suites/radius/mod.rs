//! Holdfast as a RADIUS client: against Debian's FreeRADIUS, and against a scripted server for what no good server does.

mod accounting;
mod coa;
mod freeradius;
mod script;
mod scripted;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use super::{Context, Outcome};
use crate::lab::error::{LabError, Result};
use crate::node_program;

/// A test with the program that is tested.
struct Test {
    name: &'static str,
    run: fn(&Path) -> Result<()>,
}

/// Runs all tests whose name contains the filter, one after the other.
pub fn run(context: &Context) -> Outcome {
    let program = match node_program::find_or_build(None) {
        Ok(program) => program,
        Err(error) => return Outcome::single("build", Err(error.to_string())),
    };
    let mut outcome = Outcome::default();
    let tests = freeradius::TESTS
        .iter()
        .chain(accounting::TESTS)
        .chain(coa::TESTS)
        .chain(scripted::TESTS);
    for test in tests.filter(|test| test.name.contains(&context.filter)) {
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (test.run)(&program)));
        let result = result.unwrap_or_else(|_| Err(LabError::unmet("the test panicked")));
        let word = if result.is_ok() { "ok    " } else { "FAILED" };
        println!(
            "    {word} {} ({:.1} s)",
            test.name,
            begun.elapsed().as_secs_f32()
        );
        outcome.add(test.name, result.map_err(|error| error.to_string()));
    }
    outcome
}
