//! Changes of one tunnel on their way to the session table (design invariant 1).
//!
//! Each change carries the next revision. Verdicts come in order; until one comes, whatever its change lets out stays held.
//! A proposal can vanish (a leader that dies, a queue that overflowed), so the owner sends all that are in flight again,
//! in order, after [`RESUBMIT_AFTER`], or twice the time that the table's last verdict took if that is longer; `apply` knows a
//! resubmission by its revision. A table that is busy is told nothing new by repetitions, and who makes them does nothing else.

use std::collections::VecDeque;
use std::time::Duration;

/// How long an unanswered proposal waits before it is sent again. Doubles with each try up to [`RESUBMIT_CAP`], so that a
/// slow disk is not buried under repetitions.
pub const RESUBMIT_AFTER: Duration = Duration::from_millis(100);

/// The longest wait between two tries.
pub const RESUBMIT_CAP: Duration = Duration::from_millis(3200);

/// A change, its revision, and what to do once it is accepted.
#[derive(Debug)]
pub struct InFlight<C, A> {
    /// The tunnel's revision that this change makes.
    pub revision: u64,
    /// The change as proposed; sent again as it is.
    pub change: C,
    /// What acceptance sets free.
    pub on_accept: A,
    proposed_at: Duration,
}

/// The changes of one tunnel that the table has not answered yet, in order of revision.
#[derive(Debug)]
pub struct Proposals<C, A> {
    in_flight: VecDeque<InFlight<C, A>>,
    revision: u64,
    resubmit_at: Option<Duration>,
    wait: Duration,
    /// How long the table last took to accept a change, here or elsewhere.
    table_took: Duration,
}

impl<C, A> Proposals<C, A> {
    /// Nothing in flight over a row of this revision.
    pub fn new(revision: u64) -> Self {
        Self {
            in_flight: VecDeque::new(),
            revision,
            resubmit_at: None,
            wait: RESUBMIT_AFTER,
            table_took: Duration::ZERO,
        }
    }

    /// How long the table last took to accept a change, as far as is known here.
    pub fn table_took(&self) -> Duration {
        self.table_took
    }

    /// It took another tunnel so long just now.
    pub fn set_table_took(&mut self, took: Duration) {
        self.table_took = took;
        if self.in_flight.is_empty() {
            self.wait = self.patience();
        }
    }

    fn patience(&self) -> Duration {
        (self.table_took * 2).clamp(RESUBMIT_AFTER, RESUBMIT_CAP)
    }

    /// The revision that the next change has to carry.
    pub fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// Notes a change that is being proposed now; `change` must carry [`Self::next_revision`].
    pub fn push(&mut self, now: Duration, change: C, on_accept: A) {
        self.revision += 1;
        self.in_flight.push_back(InFlight {
            revision: self.revision,
            change,
            on_accept,
            proposed_at: now,
        });
        if self.resubmit_at.is_none() {
            self.resubmit_at = Some(now + self.wait);
        }
    }

    /// The table accepted `revision`: takes out the oldest change up to it. Call until `None`.
    pub fn pop_accepted(&mut self, now: Duration, revision: u64) -> Option<InFlight<C, A>> {
        if self.in_flight.front()?.revision > revision {
            return None;
        }
        let accepted = self.in_flight.pop_front()?;
        self.table_took = now.saturating_sub(accepted.proposed_at);
        self.wait = self.patience();
        self.resubmit_at = (!self.in_flight.is_empty()).then(|| now + self.wait);
        Some(accepted)
    }

    /// When unanswered changes have to be sent again.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.resubmit_at
    }

    /// All unanswered changes, in order, if it is time to send them again.
    pub fn due(&mut self, now: Duration) -> impl Iterator<Item = &InFlight<C, A>> {
        let due = self.resubmit_at.is_some_and(|at| at <= now);
        if due {
            self.wait = (self.wait * 2).min(RESUBMIT_CAP);
            self.resubmit_at = Some(now + self.wait);
        }
        self.in_flight.iter().take(if due { usize::MAX } else { 0 })
    }

    /// How many changes the table has not answered.
    pub fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether every change has been answered.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn revisions(proposals: &mut Proposals<&'static str, ()>, now: Duration) -> Vec<u64> {
        proposals.due(now).map(|p| p.revision).collect()
    }

    #[test]
    fn acceptance_frees_changes_in_order_up_to_its_revision() {
        let mut proposals = Proposals::new(7);
        proposals.push(at(0), "a", ());
        proposals.push(at(0), "b", ());
        proposals.push(at(0), "c", ());
        assert_eq!(proposals.next_revision(), 11);
        assert_eq!(proposals.pop_accepted(at(1), 9).map(|p| p.change), Some("a"));
        assert_eq!(proposals.pop_accepted(at(1), 9).map(|p| p.change), Some("b"));
        assert!(
            proposals.pop_accepted(at(1), 9).is_none(),
            "revision 10 is not accepted yet"
        );
        assert_eq!(proposals.len(), 1);
    }

    #[test]
    fn unanswered_changes_are_sent_again_in_order_and_ever_more_slowly() {
        let mut proposals = Proposals::new(0);
        proposals.push(at(0), "a", ());
        proposals.push(at(50), "b", ());
        assert!(revisions(&mut proposals, at(99)).is_empty());
        assert_eq!(revisions(&mut proposals, at(100)), [1, 2]);
        assert!(revisions(&mut proposals, at(299)).is_empty());
        assert_eq!(revisions(&mut proposals, at(300)), [1, 2]);
        assert!(proposals.pop_accepted(at(301), 2).is_some());
        assert!(proposals.pop_accepted(at(301), 2).is_some());
        assert!(proposals.is_empty());
        assert_eq!(proposals.poll_timeout(), None);
    }

    #[test]
    fn a_slow_table_is_waited_for() {
        let mut proposals = Proposals::new(0);
        proposals.push(at(0), "a", ());
        assert!(proposals.pop_accepted(at(400), 1).is_some());
        proposals.push(at(400), "b", ());
        assert!(revisions(&mut proposals, at(1199)).is_empty());
        assert_eq!(revisions(&mut proposals, at(1200)), [2]);
        assert!(proposals.pop_accepted(at(1201), 2).is_some());
        proposals.set_table_took(at(3));
        proposals.push(at(1300), "c", ());
        assert_eq!(proposals.poll_timeout(), Some(at(1400)));
    }

    #[test]
    fn a_second_answer_to_the_same_revision_frees_nothing() {
        let mut proposals = Proposals::new(0);
        proposals.push(at(0), "a", ());
        assert!(proposals.pop_accepted(at(1), 1).is_some());
        assert!(proposals.pop_accepted(at(2), 1).is_none());
    }
}
