//! The timer table of one shard: when each tunnel and session next wants to be woken.
//!
//! A hundred thousand actors with an interval each would burn a tenth of a core; one ordered table costs a lookup
//! when a deadline changes. Each owner has at most one deadline: the earliest of its own.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// At most one deadline per key, in order of time.
#[derive(Debug)]
pub struct TimerTable<K> {
    order: BTreeSet<(Duration, K)>,
    deadlines: HashMap<K, Duration>,
}

impl<K> Default for TimerTable<K> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            deadlines: HashMap::new(),
        }
    }
}

impl<K: Copy + Eq + Ord + Hash> TimerTable<K> {
    /// Sets the deadline of `key`, or clears it.
    pub fn set(&mut self, key: K, deadline: Option<Duration>) {
        if self.deadlines.get(&key).copied() == deadline {
            return;
        }
        if let Some(old) = self.deadlines.remove(&key) {
            self.order.remove(&(old, key));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert(key, deadline);
            self.order.insert((deadline, key));
        }
    }

    /// The earliest deadline of all.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out the next key whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Duration) -> Option<K> {
        let (deadline, key) = *self.order.first()?;
        if deadline > now {
            return None;
        }
        self.order.pop_first();
        self.deadlines.remove(&key);
        Some(key)
    }

    /// How many deadlines are set.
    pub fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether no deadline is set.
    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn keys_come_due_in_order_of_time_and_only_once() {
        let mut timers = TimerTable::default();
        timers.set('b', Some(at(2)));
        timers.set('a', Some(at(3)));
        timers.set('c', Some(at(9)));
        assert_eq!(timers.poll_timeout(), Some(at(2)));
        assert_eq!(timers.pop_due(at(3)), Some('b'));
        assert_eq!(timers.pop_due(at(3)), Some('a'));
        assert_eq!(timers.pop_due(at(3)), None);
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn a_new_deadline_replaces_the_old_one() {
        let mut timers = TimerTable::default();
        timers.set('a', Some(at(2)));
        timers.set('a', Some(at(5)));
        assert_eq!(timers.pop_due(at(4)), None);
        timers.set('a', None);
        assert!(timers.is_empty());
        assert_eq!(timers.pop_due(at(9)), None);
    }
}
