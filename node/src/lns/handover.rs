//! Groups that change hands on purpose: when each of them may go (design: `drain`).
//!
//! What was begun is finished first: a group goes as soon as nothing of it is under way, and after [`FINISH`] in any case.
//! So that there is an end to it, new calls are kept waiting meanwhile, none of them longer than [`HOLD`]: during the first and
//! the last second. One that was kept waiting in the first second has its time between the two, one in the last is
//! answered by the next owner.
//!
//! Pure: it does not know what is under way, who takes a group, nor how.

use std::collections::BTreeSet;
use std::time::Duration;

/// How long a new call waits for an answer at most.
pub const HOLD: Duration = Duration::from_secs(1);

/// How long what is under way may take to finish.
pub const FINISH: Duration = Duration::from_secs(3);

/// How long a group whose time has come may take to have its next owner: the session table has to agree.
pub const LEAVE: Duration = Duration::from_secs(2);

/// What a group may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Something of it is under way and finishes.
    Finishing {
        /// New calls wait.
        holds_calls: bool,
    },
    /// The next owner is being decided: whatever arrives waits for it.
    Leaving,
}

/// See the module.
#[derive(Debug)]
pub struct Handover {
    began: Duration,
    finishing: BTreeSet<u8>,
    leaving: BTreeSet<u8>,
}

impl Handover {
    /// Of these groups, from now on.
    pub fn new(now: Duration, groups: impl IntoIterator<Item = u8>) -> Self {
        Self {
            began: now,
            finishing: groups.into_iter().collect(),
            leaving: BTreeSet::new(),
        }
    }

    /// Lets go who may go, and forgets who is another's already. Gives those whose time has come just now.
    pub fn handle_look(
        &mut self,
        now: Duration,
        is_here: impl Fn(u8) -> bool,
        is_under_way: impl Fn(u8) -> bool,
    ) -> Vec<u8> {
        self.finishing.retain(|group| is_here(*group));
        self.leaving.retain(|group| is_here(*group));
        let is_time_up = now >= self.began + FINISH;
        let due: Vec<u8> = self
            .finishing
            .iter()
            .copied()
            .filter(|group| is_time_up || !is_under_way(*group))
            .collect();
        for group in &due {
            self.finishing.remove(group);
            self.leaving.insert(*group);
        }
        due
    }

    /// Of each group that is still here.
    pub fn phases(&self, now: Duration) -> impl Iterator<Item = (u8, Phase)> {
        let since = now.saturating_sub(self.began);
        let holds_calls = since < HOLD || since >= FINISH - HOLD;
        let finishing = Phase::Finishing { holds_calls };
        let leaving = self.leaving.iter().map(|group| (*group, Phase::Leaving));
        self.finishing
            .iter()
            .map(move |group| (*group, finishing))
            .chain(leaving)
    }

    /// Those who wait for their next owner.
    pub fn leaving(&self) -> impl Iterator<Item = u8> {
        self.leaving.iter().copied()
    }

    /// Whether all are gone.
    pub fn is_done(&self) -> bool {
        self.finishing.is_empty() && self.leaving.is_empty()
    }

    /// Whether it is in vain: nobody can be found who takes those that are left.
    pub fn is_in_vain(&self, now: Duration) -> bool {
        now >= self.began + FINISH + LEAVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(7_000 + milliseconds)
    }

    fn here(_: u8) -> bool {
        true
    }

    fn phase(handover: &Handover, now: Duration, group: u8) -> Option<Phase> {
        let mut phases = handover.phases(now);
        phases.find(|(of, _)| *of == group).map(|(_, phase)| phase)
    }

    #[test]
    fn who_has_nothing_under_way_goes_at_once_and_the_others_when_it_is_finished() {
        let mut handover = Handover::new(at(0), [1, 2, 3]);
        assert_eq!(handover.handle_look(at(0), here, |group| group != 2), [2]);
        assert_eq!(phase(&handover, at(0), 2), Some(Phase::Leaving));
        assert_eq!(handover.handle_look(at(10), here, |group| group != 2), [0; 0]);
        assert_eq!(handover.handle_look(at(400), here, |group| group == 1), [3]);
        assert_eq!(handover.leaving().collect::<Vec<_>>(), [2, 3]);
        assert!(!handover.is_done());
    }

    #[test]
    fn nobody_stays_longer_than_three_seconds() {
        let mut handover = Handover::new(at(0), [1, 2]);
        assert_eq!(handover.handle_look(at(2_999), here, |_| true), [0; 0]);
        assert_eq!(handover.handle_look(at(3_000), here, |_| true), [1, 2]);
        assert!(!handover.is_in_vain(at(4_999)));
        assert!(handover.is_in_vain(at(5_000)));
    }

    #[test]
    fn new_calls_wait_in_the_first_and_in_the_last_second_alone() {
        let handover = Handover::new(at(0), [9]);
        let holds = |since| phase(&handover, at(since), 9) == Some(Phase::Finishing { holds_calls: true });
        assert!(holds(0) && holds(999));
        assert!(!holds(1_000) && !holds(1_999));
        assert!(holds(2_000) && holds(2_999));
    }

    #[test]
    fn who_is_another_s_is_done_with_whoever_gave_it_away() {
        let mut handover = Handover::new(at(0), [1, 2]);
        handover.handle_look(at(0), here, |group| group == 1);
        // The one was taken as ordered, the other because this node was thought dead.
        handover.handle_look(at(100), |_| false, |_| true);
        assert!(handover.is_done());
        assert_eq!(phase(&handover, at(100), 1), None);
    }
}
