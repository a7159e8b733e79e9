//! Who belongs to the cluster, and what a quorum of them is.

use std::collections::BTreeSet;
use std::time::Duration;

/// The members as raft's configuration has them. All are probed; only voters make a quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those who vote.
    pub voters: BTreeSet<u64>,
    /// During a joint change of membership the voters of before; otherwise empty.
    pub outgoing: BTreeSet<u64>,
    /// Those who receive the log without a vote.
    pub learners: BTreeSet<u64>,
}

impl Members {
    /// Voters only.
    pub fn voting(voters: impl IntoIterator<Item = u64>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Every member, in order.
    pub fn all(&self) -> BTreeSet<u64> {
        let sets = [&self.voters, &self.outgoing, &self.learners];
        sets.into_iter().flatten().copied().collect()
    }

    /// Whether this node is a quorum by itself.
    pub(super) fn is_alone(&self, node: u64) -> bool {
        self.outgoing.is_empty() && self.voters.len() == 1 && self.voters.contains(&node)
    }

    /// Whether the nodes that satisfy `has` are a quorum.
    pub(super) fn is_quorum(&self, has: impl Fn(u64) -> bool) -> bool {
        let majority = |set: &BTreeSet<u64>| set.iter().filter(|node| has(**node)).count() > set.len() / 2;
        !self.voters.is_empty() && self.quorums().all(majority)
    }

    /// The latest time that a quorum has reached, each member by its own `time`.
    pub(super) fn reached(&self, time: impl Fn(u64) -> Option<Duration>) -> Option<Duration> {
        let of_set = |set: &BTreeSet<u64>| {
            let mut times: Vec<Duration> = set.iter().filter_map(|node| time(*node)).collect();
            times.sort_unstable_by(|a, b| b.cmp(a));
            times.get(set.len() / 2).copied()
        };
        let times: Option<Vec<Duration>> = self.quorums().map(of_set).collect();
        times?.into_iter().min()
    }

    /// The earliest time behind which a quorum lies entirely.
    pub(super) fn behind(&self, time: impl Fn(u64) -> Option<Duration>) -> Option<Duration> {
        let of_set = |set: &BTreeSet<u64>| {
            let mut times: Vec<Duration> = set.iter().filter_map(|node| time(*node)).collect();
            times.sort_unstable();
            times.get(set.len() / 2).copied()
        };
        let times: Option<Vec<Duration>> = self.quorums().map(of_set).collect();
        times?.into_iter().max()
    }

    /// The sets of which each has to give a majority.
    fn quorums(&self) -> impl Iterator<Item = &BTreeSet<u64>> {
        let outgoing = Some(&self.outgoing).filter(|set| !set.is_empty());
        std::iter::once(&self.voters).chain(outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(times: &[(u64, u64)]) -> impl Fn(u64) -> Option<Duration> {
        let times = times.to_vec();
        move |node| {
            let found = times.iter().find(|(id, _)| *id == node);
            found.map(|(_, ms)| Duration::from_millis(*ms))
        }
    }

    #[test]
    fn a_quorum_is_more_than_half() {
        let four = Members::voting(1..=4);
        assert!(!four.is_quorum(|node| node <= 2));
        assert!(four.is_quorum(|node| node <= 3));
        assert!(!Members::default().is_quorum(|_| true));
    }

    #[test]
    fn a_joint_change_needs_both_majorities() {
        let joint = Members {
            voters: [3, 4, 5].into(),
            outgoing: [1, 2, 3].into(),
            learners: [9].into(),
        };
        assert!(!joint.is_quorum(|node| node >= 3));
        assert!(joint.is_quorum(|node| node >= 2));
        let times = at(&[(2, 10), (3, 20), (4, 30)]);
        assert_eq!(joint.reached(&times), Some(Duration::from_millis(10)));
        assert_eq!(joint.behind(&times), Some(Duration::from_millis(30)));
        assert_eq!(joint.all(), [1, 2, 3, 4, 5, 9].into());
    }

    #[test]
    fn times_of_a_quorum() {
        let three = Members::voting(1..=3);
        let times = at(&[(1, 10), (2, 20), (3, 30)]);
        assert_eq!(three.reached(&times), Some(Duration::from_millis(20)));
        assert_eq!(three.behind(&times), Some(Duration::from_millis(20)));
        assert_eq!(three.reached(at(&[(1, 10)])), None);
        assert_eq!(
            three.behind(at(&[(1, 10), (3, 30)])),
            Some(Duration::from_millis(30))
        );
    }
}
