//! Runs laboratory tests side by side, as many as the machine carries.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Instant;

use super::Outcome;
use crate::lab::error::Result;
use crate::lab::image::Image;

/// Guests at once on two cores; more cores carry one more.
const GUESTS_AT_ONCE: usize = 3;

/// A test of the lab.
#[derive(Debug, Clone, Copy)]
pub struct LabTest {
    pub name: &'static str,
    /// How many guests it boots.
    pub guests: usize,
    pub run: fn(&Image) -> Result<()>,
}

/// Runs the tests whose name contains `filter` and prints a line for each as it ends.
pub fn run_all(image: &Image, tests: &[LabTest], filter: &str) -> Outcome {
    let cores = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let room = if cores > 2 {
        GUESTS_AT_ONCE + 1
    } else {
        GUESTS_AT_ONCE
    };
    let mut largest_first: Vec<_> = tests
        .iter()
        .filter(|test| test.name.contains(filter))
        .copied()
        .collect();
    largest_first.sort_by_key(|test| std::cmp::Reverse(test.guests));
    let queue = Mutex::new(VecDeque::from(largest_first));
    let slots = Slots {
        free: Mutex::new(room),
        freed: Condvar::new(),
        all: room,
    };
    let outcome = Mutex::new(Outcome::default());
    thread::scope(|scope| {
        for _ in 0..room {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .expect("no panic while the queue is locked")
                        .pop_front();
                    let Some(test) = next else { return };
                    let _taken = slots.take(test.guests);
                    let result = run_one(image, &test);
                    outcome
                        .lock()
                        .expect("no panic while the outcome is locked")
                        .add(test.name, result);
                }
            });
        }
    });
    outcome
        .into_inner()
        .expect("no panic while the outcome is locked")
}

fn run_one(image: &Image, test: &LabTest) -> std::result::Result<(), String> {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (test.run)(image)));
    let result = match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the test panicked; its message is above".to_owned()),
    };
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!(
        "    {verdict:6} {:<44} {:5.1} s",
        test.name,
        start.elapsed().as_secs_f32()
    );
    result
}

/// A counting lock.
struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
    all: usize,
}

struct Taken<'a> {
    slots: &'a Slots,
    count: usize,
}

impl Slots {
    /// Takes `count` slots, or all there are if that is less.
    fn take(&self, count: usize) -> Taken<'_> {
        let count = count.min(self.all);
        let free = self.free.lock().expect("no panic while the slots are locked");
        let mut free = self
            .freed
            .wait_while(free, |free| *free < count)
            .expect("no panic while the slots are locked");
        *free -= count;
        Taken { slots: self, count }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self
            .slots
            .free
            .lock()
            .expect("no panic while the slots are locked") += self.count;
        self.slots.freed.notify_all();
    }
}
