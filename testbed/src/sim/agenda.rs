//! What is going to happen, in order of time; what is due at one time happens in the order in which it was noted.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub struct Agenda<T> {
    entries: BTreeMap<(Duration, u64), T>,
    next: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<T> Agenda<T> {
    pub fn at(&mut self, time: Duration, what: T) {
        self.entries.insert((time, self.next), what);
        self.next += 1;
    }

    /// The next thing to happen, if it does not happen after `end`.
    pub fn pop_until(&mut self, end: Duration) -> Option<(Duration, T)> {
        let entry = self.entries.first_entry()?;
        let (time, _) = *entry.key();
        (time <= end).then(|| (time, entry.remove()))
    }
}
