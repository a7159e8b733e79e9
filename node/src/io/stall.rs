//! Tells a stall of a thread from an idle wait. A stall is SIGSTOP, a suspended host, a host that gives the thread no CPU,
//! or work that took all that time.
//!
//! A node that stalls may be taken for dead, and what waits in its queues meanwhile was sent to an owner that may be one
//! no longer. The thread says when it goes to wait and, as often as it likes, that it runs; what passes in between beyond
//! the wait it asked for is a stall. No clock is read here.

use std::time::Duration;

/// A thread that did not run for longer has stalled: as long as an acknowledged leader probe proves that its node is a
/// fresh owner.
pub(crate) const STALL: Duration = Duration::from_millis(200);

/// The longest idle wait. A stall may hide in an unused rest of the wait, so this is what [`STALL`] may be exceeded by
/// unseen: together they stay below the 300 ms of silence after which a node counts as dead. Twenty idle wake-ups a
/// second cost a thread nothing that could be measured.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// Watches over one thread. All times are since boot ([`super::clock::since_boot`]), so that a suspended host counts.
#[derive(Debug)]
pub(crate) struct StallDetector {
    /// When the thread was last known to run.
    ran: Duration,
    /// How long it may now be away because it asked to.
    waits: Duration,
}

impl StallDetector {
    /// For a thread that runs at `now`.
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            ran: now,
            waits: Duration::ZERO,
        }
    }

    /// The thread runs at `now` and goes to wait for `timeout` at most. Ask [`Self::runs`] first: this forgets the time
    /// before.
    pub(crate) fn waits(&mut self, now: Duration, timeout: Duration) {
        self.ran = now;
        self.waits = timeout;
    }

    /// The thread runs at `now`. If it has stalled since it was last known to: for how long at least.
    pub(crate) fn runs(&mut self, now: Duration) -> Option<Duration> {
        let away = now.saturating_sub(self.ran).saturating_sub(self.waits);
        self.ran = now;
        self.waits = Duration::ZERO;
        (away > STALL).then_some(away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Runs at 1000 ms.
    fn detector() -> StallDetector {
        StallDetector::new(ms(1000))
    }

    #[test]
    fn an_idle_thread_has_not_stalled() {
        let mut detector = detector();
        for round in 0..100 {
            let now = ms(1000) + LONGEST_WAIT * round;
            assert_eq!(detector.runs(now), None);
            detector.waits(now, LONGEST_WAIT);
        }
    }

    #[test]
    fn a_wait_that_overslept_is_a_stall_beyond_the_limit_alone() {
        for (slept, expected) in [
            (10, None),
            (50, None),
            (250, None),
            (251, Some(ms(201))),
            (1050, Some(ms(1000))),
        ] {
            let mut detector = detector();
            detector.waits(ms(1000), ms(50));
            assert_eq!(detector.runs(ms(1000 + slept)), expected, "slept {slept} ms");
        }
    }

    #[test]
    fn a_look_without_waiting_has_nothing_to_oversleep() {
        let mut detector = detector();
        detector.waits(ms(1000), Duration::ZERO);
        assert_eq!(detector.runs(ms(1201)), Some(ms(201)));
    }

    #[test]
    fn a_long_piece_of_work_is_a_stall_and_many_short_ones_are_not() {
        let mut detector = detector();
        detector.waits(ms(1000), ms(50));
        assert_eq!(detector.runs(ms(1050)), None);
        for now in [1150, 1250, 1350, 1550] {
            assert_eq!(detector.runs(ms(now)), None, "at {now} ms");
        }
        assert_eq!(detector.runs(ms(1751)), Some(ms(201)));
    }

    /// The wait allows its own time and not that of the work behind it.
    #[test]
    fn a_wait_is_used_up_when_the_thread_runs_again() {
        let mut detector = detector();
        detector.waits(ms(1000), ms(50));
        assert_eq!(detector.runs(ms(1000)), None);
        assert_eq!(detector.runs(ms(1201)), Some(ms(201)));
    }

    #[test]
    fn each_of_several_stalls_is_told_once() {
        let mut detector = detector();
        for start in [1000, 5000, 9000] {
            detector.waits(ms(start), ms(50));
            assert_eq!(detector.runs(ms(start + 650)), Some(ms(600)));
            assert_eq!(detector.runs(ms(start + 650)), None, "told already");
            assert_eq!(detector.runs(ms(start + 1250)), Some(ms(600)), "another one");
            assert_eq!(detector.runs(ms(start + 1251)), None);
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_no_stall() {
        let mut detector = detector();
        assert_eq!(detector.runs(ms(1000)), None);
        assert_eq!(detector.runs(ms(900)), None);
    }
}
