//! When the traffic of a session that has ended is known to the last octet.
//!
//! Any node may have forwarded for it, and a packet thread may still be at its last packets when the table removes it. So each node
//! waits a moment, tells the others what it has forwarded for the session in the end, and up to which Stop it has done so ("closed
//! before"). The owner takes the sum once every connected member has closed that Stop. One that does not say so in time, because it
//! hangs or is of an older version, is counted with what it reported last.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What the packet threads may need until they have heard that a session is gone. A thread that takes longer has stalled, and throws
/// away what waited for it.
pub const LAST_PACKETS: Duration = Duration::from_millis(500);

/// How long the owner waits for members that do not say that they have closed a Stop.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub struct Closing {
    /// Stops that packet threads of this node may still add to, with the time of their appearance.
    open: VecDeque<(u64, Duration)>,
    /// The first record that this node has not seen.
    seen_before: u64,
    /// Stops of this node whose traffic is to be known, since when.
    wanted: BTreeMap<u64, Duration>,
}

impl Closing {
    /// All records up to `sequence` have been seen here; it is a Stop, or not.
    pub fn note(&mut self, now: Duration, sequence: u64, is_stop: bool) {
        if sequence < self.seen_before {
            return;
        }
        self.seen_before = sequence + 1;
        if is_stop {
            self.open.push_back((sequence, now));
        }
    }

    /// There is no record before `next` that has not been seen.
    pub fn seen(&mut self, next: u64) {
        self.seen_before = self.seen_before.max(next);
    }

    /// The first record that was not seen.
    pub fn seen_before(&self) -> u64 {
        self.seen_before
    }

    /// The Stops that this node has just closed: what it says of their sessions now is its last word.
    pub fn close(&mut self, now: Duration) -> Vec<u64> {
        let over = self
            .open
            .iter()
            .take_while(|(_, since)| *since + LAST_PACKETS <= now)
            .count();
        self.open.drain(..over).map(|(sequence, _)| sequence).collect()
    }

    /// All Stops with lower numbers are closed here.
    pub fn closed_before(&self) -> u64 {
        self.open
            .front()
            .map_or(self.seen_before, |(sequence, _)| *sequence)
    }

    /// The traffic of a Stop is wanted here.
    pub fn want(&mut self, now: Duration, sequence: u64) {
        self.wanted.entry(sequence).or_insert(now);
    }

    /// It is wanted no longer.
    pub fn forget(&mut self, is_forgotten: impl Fn(u64) -> bool) {
        self.wanted.retain(|sequence, _| !is_forgotten(*sequence));
    }

    /// Those of which everybody has said all. `members` have closed what is before their numbers. Each is given once.
    pub fn take_final(&mut self, now: Duration, members: &[u64]) -> Vec<u64> {
        let own = self.closed_before();
        let everybody = members.iter().copied().min().unwrap_or(u64::MAX);
        let is_final = |sequence: u64, since: Duration| {
            sequence < own && (sequence < everybody || since + LAST_PACKETS + PATIENCE <= now)
        };
        let found: Vec<u64> = self
            .wanted
            .iter()
            .filter(|(sequence, since)| is_final(**sequence, **since))
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in &found {
            self.wanted.remove(sequence);
        }
        found
    }

    /// When to look again.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let own = self.open.front().map(|(_, since)| *since + LAST_PACKETS);
        let others = self
            .wanted
            .values()
            .min()
            .map(|since| *since + LAST_PACKETS + PATIENCE);
        own.into_iter().chain(others).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_node_closes_a_stop_when_its_packet_threads_have_heard() {
        let mut closing = Closing::default();
        assert_eq!(closing.closed_before(), 0);
        closing.note(ms(0), 3, false);
        closing.note(ms(0), 4, true);
        closing.note(ms(100), 6, true);
        assert_eq!((closing.close(ms(499)), closing.closed_before()), (vec![], 4));
        assert_eq!(closing.poll_timeout(), Some(ms(500)));
        assert_eq!((closing.close(ms(500)), closing.closed_before()), (vec![4], 6));
        assert_eq!((closing.close(ms(600)), closing.closed_before()), (vec![6], 7));
        closing.note(ms(700), 4, true);
        assert_eq!(closing.closed_before(), 7, "seen before");
        closing.seen(9);
        assert_eq!(
            (closing.closed_before(), closing.seen_before()),
            (9, 9),
            "all others are gone"
        );
    }

    #[test]
    fn the_owner_waits_for_every_member_and_for_a_silent_one_not_for_ever() {
        let mut closing = Closing::default();
        closing.note(ms(0), 4, true);
        closing.want(ms(0), 4);
        assert!(
            closing.take_final(ms(100), &[9, 9]).is_empty(),
            "we ourselves are not done"
        );
        closing.close(ms(500));
        assert!(
            closing.take_final(ms(500), &[9, 4]).is_empty(),
            "the second is not done"
        );
        assert_eq!(closing.take_final(ms(600), &[9, 5]), [4]);
        assert!(closing.take_final(ms(600), &[9, 5]).is_empty(), "once");

        closing.note(ms(1_000), 5, true);
        closing.want(ms(1_000), 5);
        closing.close(ms(1_500));
        assert!(closing.take_final(ms(4_499), &[0]).is_empty());
        assert_eq!(closing.poll_timeout(), Some(ms(4_500)));
        assert_eq!(closing.take_final(ms(4_500), &[0]), [5]);
    }

    #[test]
    fn a_node_alone_needs_nobody() {
        let mut closing = Closing::default();
        closing.note(ms(0), 0, true);
        closing.want(ms(0), 0);
        closing.close(ms(500));
        assert_eq!(closing.take_final(ms(500), &[]), [0]);
    }

    #[test]
    fn what_was_forgotten_is_not_given() {
        let mut closing = Closing::default();
        closing.note(ms(0), 0, true);
        closing.want(ms(0), 0);
        closing.close(ms(500));
        closing.forget(|sequence| sequence == 0);
        assert!(closing.take_final(ms(500), &[]).is_empty());
    }
}
