//! The timer table of one shard: when each tunnel and session next wants to be woken.
//!
//! A hundred thousand actors with an interval each would burn a tenth of a core; one ordered table costs a lookup
//! when a deadline changes. Each owner has at most one deadline: the earliest of its own. Most move on before they come,
//! so one that moves on keeps its place in the order until that comes up.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// At most one deadline per key, in order of time.
#[derive(Debug)]
pub struct TimerTable<K> {
    /// The time of each key's place; its deadline is no earlier.
    order: BTreeSet<(Duration, K)>,
    deadlines: HashMap<K, Deadline>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Duration,
    /// Its place in the order.
    place: Duration,
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
        match (self.deadlines.entry(key), deadline) {
            (Entry::Vacant(_), None) => {}
            (Entry::Vacant(free), Some(at)) => {
                free.insert(Deadline { at, place: at });
                self.order.insert((at, key));
            }
            (Entry::Occupied(known), None) => {
                self.order.remove(&(known.remove().place, key));
            }
            (Entry::Occupied(mut known), Some(at)) => {
                let known = known.get_mut();
                known.at = at;
                if at < known.place {
                    self.order.remove(&(known.place, key));
                    self.order.insert((at, key));
                    known.place = at;
                }
            }
        }
    }

    /// No deadline comes before this.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.order.first().map(|(place, _)| *place)
    }

    /// Takes out the next key whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Duration) -> Option<K> {
        loop {
            let (place, key) = *self.order.first()?;
            if place > now {
                return None;
            }
            self.order.pop_first();
            let known = self
                .deadlines
                .get_mut(&key)
                .expect("what has a place has a deadline");
            if known.at <= now {
                self.deadlines.remove(&key);
                return Some(key);
            }
            known.place = known.at;
            self.order.insert((known.at, key));
        }
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
    fn one_that_moved_on_comes_in_its_turn_and_one_that_moved_back_too() {
        let mut timers = TimerTable::default();
        timers.set('a', Some(at(1)));
        timers.set('b', Some(at(3)));
        timers.set('a', Some(at(4)));
        timers.set('c', Some(at(9)));
        timers.set('c', Some(at(2)));
        let due: Vec<_> = (0..10).map(|second| timers.pop_due(at(second))).collect();
        assert_eq!(due[..5], [None, None, Some('c'), Some('b'), Some('a')]);
        assert!(due[5..].iter().all(Option::is_none) && timers.is_empty());
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
