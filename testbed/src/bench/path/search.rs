//! The highest rate at which next to nothing is lost: grows the offered rate until too much is lost, then halves the
//! interval between the highest good and the lowest bad rate.
//!
//! A bad step is repeated once before it counts: on a machine with neighbours a single stall of some milliseconds loses more
//! than the tolerance, whatever the server does.

/// Part of the packets that may be lost.
pub const TOLERANCE: f64 = 0.001;
/// The search ends when the interval is this part of its lower end.
const PRECISION: f64 = 0.02;
/// By which the rate grows before the first bad step.
const GROWTH: f64 = 1.6;
/// A generator that reaches less of the rate asked for, so many times in a row, is itself the limit.
const REACHED: f64 = 0.97;
const SHORTFALLS: u32 = 3;
/// Rates below are not looked at, packets a second.
const FLOOR: f64 = 1000.0;

/// What one step showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Packets a second that the generator sent in fact.
    pub offered: f64,
    /// Part that did not arrive.
    pub loss: f64,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Packets a second; 0 where even the lowest rate lost too much.
    pub rate: f64,
    /// The generator could not offer more.
    pub generator_bound: bool,
}

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    good: f64,
    bad: Option<f64>,
    next: f64,
    repeated: bool,
    /// Times in a row that the generator fell short.
    shortfalls: u32,
    generator_bound: bool,
}

impl Search {
    /// Begins near `hint`.
    pub fn new(hint: f64) -> Self {
        Self {
            good: 0.0,
            bad: None,
            next: hint.max(FLOOR),
            repeated: false,
            shortfalls: 0,
            generator_bound: false,
        }
    }

    /// The next rate to try; `None` at the end.
    pub fn poll_rate(&self) -> Option<f64> {
        let over = match self.bad {
            _ if self.generator_bound => true,
            Some(bad) => bad - self.good <= PRECISION * bad || bad <= FLOOR,
            None => false,
        };
        (!over).then_some(self.next)
    }

    pub fn handle_step(&mut self, step: Step) {
        if step.loss <= TOLERANCE {
            self.repeated = false;
            self.good = self.good.max(step.offered);
            if step.offered < self.next * REACHED {
                self.shortfalls += 1;
                self.generator_bound = self.shortfalls == SHORTFALLS;
                return;
            }
            self.shortfalls = 0;
        } else if !self.repeated {
            self.repeated = true;
            return;
        } else {
            self.repeated = false;
            // A generator at its end loses at the rate that it reached, not at the one that was asked for.
            let lost_at = self.next.min(step.offered).max(FLOOR);
            self.bad = Some(self.bad.map_or(lost_at, |bad| bad.min(lost_at)));
        }
        self.next = match self.bad {
            Some(bad) if self.good > 0.0 => f64::midpoint(self.good.min(bad), bad),
            Some(bad) => (bad / GROWTH).max(FLOOR),
            None => self.next * GROWTH,
        };
    }

    pub fn found(&self) -> Found {
        Found {
            rate: self.good,
            generator_bound: self.generator_bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that carries `capacity`, a generator that reaches `ceiling`; the result and the number of steps.
    fn search(hint: f64, capacity: f64, ceiling: f64) -> (Found, u32) {
        let mut search = Search::new(hint);
        let mut steps = 0;
        while let Some(rate) = search.poll_rate() {
            let offered = rate.min(ceiling);
            let loss = ((offered - capacity) / offered).max(0.0);
            search.handle_step(Step { offered, loss });
            steps += 1;
            assert!(steps < 60, "no end: {search:?}");
        }
        (search.found(), steps)
    }

    #[test]
    fn the_capacity_is_found_from_above_and_from_below() {
        for hint in [100_000.0, 400_000.0, 5_000_000.0] {
            let (found, steps) = search(hint, 430_000.0, 1e9);
            assert!((420_000.0..=431_000.0).contains(&found.rate), "{found:?}");
            assert!(!found.generator_bound);
            assert!(steps <= 20, "{steps}");
        }
    }

    #[test]
    fn a_generator_at_its_end_is_named() {
        let (found, _) = search(100_000.0, 900_000.0, 600_000.0);
        assert_eq!(found.rate, 600_000.0);
        assert!(found.generator_bound);
    }

    #[test]
    fn a_server_a_little_slower_than_the_generator_is_not_the_generator() {
        let (found, _) = search(400_000.0, 550_000.0, 600_000.0);
        assert!((535_000.0..=551_000.0).contains(&found.rate), "{found:?}");
        assert!(!found.generator_bound);
    }

    #[test]
    fn one_stall_does_not_count_and_two_do() {
        let mut search = Search::new(100_000.0);
        let bad = Step {
            offered: 100_000.0,
            loss: 0.1,
        };
        search.handle_step(bad);
        assert_eq!(search.poll_rate(), Some(100_000.0));
        search.handle_step(bad);
        assert!(search.poll_rate().unwrap() < 100_000.0);
    }

    #[test]
    fn a_server_that_forwards_nothing_ends_the_search() {
        let (found, _) = search(400_000.0, 0.0, 1e9);
        assert_eq!(found.rate, 0.0);
    }
}
