//! One heap of deadlines for all tunnels and subscribers.
//!
//! An entry is only a reminder to look: whoever is named says itself when it is really due. So a deadline that
//! moves back costs nothing, and each owner has one entry that counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    Tunnel(u32),
    Subscriber(u32),
}

/// The owner's side: the entry that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reminder(Option<Duration>);

/// All reminders, the earliest first.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Duration, Owner)>>,
}

impl Timers {
    /// Sees to it that `owner` is looked at by `due` at the latest.
    pub fn remind(&mut self, owner: Owner, reminder: &mut Reminder, due: Option<Duration>) {
        let Some(due) = due else { return };
        if reminder.0.is_none_or(|set| due < set) {
            reminder.0 = Some(due);
            self.heap.push(Reverse((due, owner)));
        }
    }

    /// When the next reminder is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// The next reminder whose time has come.
    pub fn take_due(&mut self, now: Duration) -> Option<(Duration, Owner)> {
        let due = self.heap.peek().is_some_and(|Reverse((due, _))| *due <= now);
        due.then(|| self.heap.pop().expect("just seen").0)
    }
}

impl Reminder {
    /// Whether the entry that came due is the one that counts; it is used up then.
    pub fn take(&mut self, due: Duration) -> bool {
        let counts = self.0 == Some(due);
        if counts {
            self.0 = None;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_deadline_supersedes_and_a_later_one_waits_for_its_turn() {
        let seconds = Duration::from_secs;
        let (mut timers, mut reminder, owner) = (Timers::default(), Reminder::default(), Owner::Tunnel(3));
        timers.remind(owner, &mut reminder, Some(seconds(5)));
        timers.remind(owner, &mut reminder, Some(seconds(9)));
        timers.remind(owner, &mut reminder, Some(seconds(2)));
        assert_eq!(timers.poll_timeout(), Some(seconds(2)));
        assert_eq!(timers.take_due(seconds(1)), None);
        assert_eq!(timers.take_due(seconds(9)), Some((seconds(2), owner)));
        assert!(reminder.take(seconds(2)));
        assert_eq!(timers.take_due(seconds(9)), Some((seconds(5), owner)));
        assert!(!reminder.take(seconds(5)), "superseded");
        assert_eq!(timers.take_due(seconds(9)), None);
    }
}
