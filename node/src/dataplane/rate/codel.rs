//! Controlled delay (RFC 8289): drops from a queue in which packets wait too long for too long.

use std::time::Duration;

/// How long packets may wait, unless two of full size take longer at the rate.
pub(super) const TARGET: Duration = Duration::from_millis(5);
/// For how long they may wait longer than that, before the first is dropped.
const INTERVAL: Duration = Duration::from_millis(100);
/// A queue of so many octets is none: one packet of full size.
const LEAST_OCTETS: usize = 1_514;

/// The state of one flow.
#[derive(Debug, Default)]
pub(super) struct Codel {
    first_above: Option<Duration>,
    drop_next: Duration,
    count: u32,
    dropping: bool,
}

impl Codel {
    /// Whether to drop the packet that comes out of the queue after it has waited for `sojourn`; `left` octets wait behind it.
    pub(super) fn drops(&mut self, now: Duration, sojourn: Duration, left: usize, target: Duration) -> bool {
        let interval = INTERVAL.max(target);
        let late = self.is_late_for_long(now, sojourn, left, target, interval);
        if !late {
            self.dropping = false;
            return false;
        }
        if !self.dropping {
            self.dropping = true;
            let lately = now.saturating_sub(self.drop_next) < interval * 16;
            self.count = if lately && self.count > 2 {
                self.count - 2
            } else {
                1
            };
            self.drop_next = now + self.pause(interval);
            return true;
        }
        if now < self.drop_next {
            return false;
        }
        self.count = self.count.saturating_add(1);
        self.drop_next += self.pause(interval);
        true
    }

    fn is_late_for_long(
        &mut self,
        now: Duration,
        sojourn: Duration,
        left: usize,
        target: Duration,
        interval: Duration,
    ) -> bool {
        if sojourn < target || left <= LEAST_OCTETS {
            self.first_above = None;
            return false;
        }
        now >= *self.first_above.get_or_insert(now + interval)
    }

    fn pause(&self, interval: Duration) -> Duration {
        interval.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_passes_and_a_standing_queue_is_thinned_faster_and_faster() {
        let mut codel = Codel::default();
        let drops: Vec<u64> = (0..500)
            .filter(|at| codel.drops(ms(1000 + at), ms(20), 9_000, TARGET))
            .collect();
        assert_eq!(drops[0], 100, "after an interval");
        let pauses: Vec<u64> = drops.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.is_sorted_by(|one, next| one >= next), "{pauses:?}");
        assert_eq!(pauses[0], 100);
        assert!(pauses.len() >= 5, "{pauses:?}");
    }

    #[test]
    fn short_waits_and_the_last_packet_are_left_alone() {
        let mut codel = Codel::default();
        assert!((0..500).all(|at| !codel.drops(ms(at), ms(4), 9_000, TARGET)));
        assert!((0..500).all(|at| !codel.drops(ms(at), ms(400), 1_500, TARGET)));
        let slow = ms(300);
        assert!((0..500).all(|at| !codel.drops(ms(at), ms(299), 9_000, slow)));
    }

    #[test]
    fn one_that_comes_back_soon_is_remembered() {
        let mut codel = Codel::default();
        let late = |codel: &mut Codel, from: u64| {
            (from..from + 600)
                .filter(|at| codel.drops(ms(*at), ms(20), 9_000, TARGET))
                .count()
        };
        let first = late(&mut codel, 1_000);
        assert!(!codel.drops(ms(1_601), ms(1), 9_000, TARGET));
        let second = late(&mut codel, 1_700);
        assert!(second > first, "{first}, {second}");
    }
}
