//! One seed, from the first SCCRQ to the last check.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::facts::Fact;
use super::setup::Setup;
use super::world::World;
use crate::invariants::{Invariants, Violation};

/// After the trouble: new calls have to work by then.
const NEW_SERVICE: Duration = Duration::from_secs(30);
/// Everybody has noticed everything by then: a LAC's HELLO, and 31 s without an answer to one.
const QUIET: Duration = Duration::from_secs(120);
/// What was done on purpose before a failure, for the report.
const TRAIL: usize = 12;

/// What became of a run.
#[derive(Debug)]
pub struct Run {
    pub seed: u64,
    /// Virtual time.
    pub time: Duration,
    pub steps: u64,
    /// Members that were added or removed.
    pub orders: u64,
    /// Over all that was sent.
    pub digest: u64,
    pub failure: Option<Failure>,
}

/// A property that did not hold.
#[derive(Debug)]
pub struct Failure {
    pub invariant: &'static str,
    pub at: Duration,
    pub what: String,
    /// What went wrong on purpose before.
    pub trail: Vec<String>,
}

/// Runs a seed.
pub fn run(setup: &Setup) -> Run {
    let mut world = World::new(setup.clone());
    // A panic of a core is a finding like others. The world is only looked at after it.
    let outcome = catch_unwind(AssertUnwindSafe(|| play(&mut world, setup)));
    let violation = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Violation {
                invariant: "no-panic",
                what: text.unwrap_or_default(),
            })
        }
    };
    let failure = violation.map(|Violation { invariant, what }| Failure {
        invariant,
        at: world.now(),
        what,
        trail: world
            .trail
            .iter()
            .rev()
            .take(TRAIL)
            .rev()
            .map(|(at, what)| format!("{:.3} s {what}", at.as_secs_f64()))
            .collect(),
    });
    Run {
        seed: setup.seed,
        time: world.now(),
        steps: world.steps(),
        orders: world.orders_done(),
        digest: world.digest(),
        failure,
    }
}

/// What happened, but for the turns of the tables, which are without number.
fn print_facts(now: Duration, facts: &[Fact]) {
    for fact in facts.iter().filter(|fact| !matches!(fact, Fact::Turn { .. })) {
        println!("{:.6} {fact:?}", now.as_secs_f64());
    }
}

fn play(world: &mut World, setup: &Setup) -> Result<(), Violation> {
    let mut invariants = Invariants::default();
    let mut until = |world: &mut World, end| -> Result<(), Violation> {
        while let Some(facts) = world.step(end) {
            if setup
                .trace
                .as_ref()
                .is_some_and(|trace| trace.contains(&world.now()))
            {
                print_facts(world.now(), &facts);
            }
            invariants.check(world, &facts)?;
        }
        Ok(())
    };
    until(world, setup.troubled)?;
    world.calm_down();
    let fresh = world.add_lac();
    until(world, setup.troubled + NEW_SERVICE)?;
    // Where addresses are few, stale sessions have them for longer.
    if !setup.tight {
        crate::invariants::service::new_calls(world, fresh)?;
    }
    until(world, setup.troubled + QUIET)?;
    crate::invariants::service::everybody(world)?;
    crate::invariants::service::rows_are_clients(world)?;
    invariants.finish(world)
}
