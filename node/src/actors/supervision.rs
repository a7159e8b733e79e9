//! Containing panics: a core that panicked is void, its actor is born again from the row.
//!
//! actix restarts an actor after `ctx.stop()`, not after a panic, so each handler runs its core inside [`contain`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Panics of one actor within [`PANIC_WINDOW`] after which it is not born again but closed.
pub const PANICS_MAX: usize = 30;

/// See [`PANICS_MAX`].
pub const PANIC_WINDOW: Duration = Duration::from_secs(60);

/// Births in a row that may panic before the actor is closed.
pub const BIRTHS_MAX: u32 = 5;

/// Runs `work` on a core; `None` if it panicked, after which the core must be dropped.
pub fn contain<R>(work: impl FnOnce() -> R) -> Option<R> {
    // Unwind safety: the caller drops whatever the closure has touched, and the row is what counts.
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Tells a panic from a loop of panics.
#[derive(Debug, Default)]
pub struct PanicHistory {
    recent: Vec<Duration>,
    births_failed: u32,
}

impl PanicHistory {
    /// Notes a panic; `true` if the actor should be given up.
    pub fn panicked(&mut self, now: Duration) -> bool {
        self.recent.retain(|at| now.saturating_sub(*at) < PANIC_WINDOW);
        self.recent.push(now);
        self.births_failed += 1;
        self.recent.len() > PANICS_MAX || self.births_failed > BIRTHS_MAX
    }

    /// Notes an input that was handled after a birth.
    pub fn handled(&mut self) {
        self.births_failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_panic_is_contained_and_a_result_passes() {
        assert_eq!(contain(|| 7), Some(7));
        assert_eq!(contain(|| -> u8 { panic!("contained by design") }), None);
    }

    #[test]
    fn twenty_panics_are_survived_and_a_loop_is_not() {
        let mut history = PanicHistory::default();
        for _ in 0..20 {
            assert!(!history.panicked(at(1)));
            history.handled();
        }
        for _ in 0..PANICS_MAX - 20 {
            assert!(!history.panicked(at(2)));
            history.handled();
        }
        assert!(history.panicked(at(3)));
        assert!(!PanicHistory::default().panicked(at(4)));
    }

    #[test]
    fn births_that_keep_failing_are_a_loop() {
        let mut history = PanicHistory::default();
        assert!((0..BIRTHS_MAX).all(|_| !history.panicked(at(1))));
        assert!(history.panicked(at(1)));
    }

    #[test]
    fn old_panics_are_forgotten() {
        let mut history = PanicHistory::default();
        for second in 0..1000 {
            assert!(!history.panicked(at(second * 3)));
            history.handled();
        }
    }
}
