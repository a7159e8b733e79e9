//! Who belongs to the group, and how that changes.
//!
//! More than one change at once goes by way of a joint configuration (Raft thesis §4.3), in which both the old and
//! the new voters must agree; it is left by itself. The leader cannot remove itself: it passes leadership on first.

use std::collections::BTreeSet;

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};

use crate::limits::MEMBERS_MAX;

/// The members of a group, each list in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who has the whole table but no vote.
    pub learners: Vec<u64>,
    /// While members are being exchanged: who voted before, and still must agree.
    pub outgoing: Vec<u64>,
}

impl Members {
    pub(super) fn of(state: &ConfState) -> Self {
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        Self {
            voters: sorted(&state.voters),
            learners: sorted(&state.learners),
            outgoing: sorted(&state.voters_outgoing),
        }
    }

    /// Whether the node belongs to the group in any way.
    pub fn contains(&self, id: u64) -> bool {
        [&self.voters, &self.learners, &self.outgoing]
            .iter()
            .any(|ids| ids.contains(&id))
    }

    /// Whether an exchange of members is under way.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether these are enough to decide: more than half of the voters, and of those before an exchange that is under way.
    pub(super) fn is_quorum(&self, nodes: &BTreeSet<u64>) -> bool {
        let majority = |voters: &Vec<u64>| {
            let there = voters.iter().filter(|voter| nodes.contains(voter)).count();
            voters.is_empty() || there * 2 > voters.len()
        };
        majority(&self.voters) && majority(&self.outgoing)
    }

    /// How many voters have a lower id. Elections are staggered by it.
    pub(super) fn rank(&self, id: u64) -> usize {
        let all = self.voters.iter().chain(&self.outgoing);
        let mut lower: Vec<u64> = all.copied().filter(|voter| *voter < id).collect();
        lower.sort_unstable();
        lower.dedup();
        lower.len()
    }
}

/// One change of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Becomes a voter: a learner, or a node that is new.
    Voter(u64),
    /// Becomes a learner: a voter, or a node that is new.
    Learner(u64),
    /// Leaves the group.
    Remove(u64),
}

/// Why the members cannot be changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Only the leader changes members.
    #[error("this node does not lead the group; the leader is {leader:?}")]
    NotLeader {
        /// Who does, as far as is known here.
        leader: Option<u64>,
    },
    /// Another change is under way, or leadership is being passed on.
    #[error("another change of the members, or of the leader, is under way")]
    Busy,
    /// The leader would no longer vote.
    #[error("the leader does not remove itself: leadership has to be passed on first")]
    LeaderLeaves,
    /// Nobody would vote, a node has no id, or one is named twice.
    #[error("that leaves no group, or names a node twice")]
    Senseless,
    /// More than `limits::MEMBERS_MAX`.
    #[error("a group has {MEMBERS_MAX} members at most")]
    TooMany,
    /// It is so already.
    #[error("the members are so already")]
    Unchanged,
}

/// Works out the entry that changes the members, if it makes sense for a group that `leader` leads.
pub(super) fn plan(
    members: &Members,
    leader: u64,
    changes: &[MemberChange],
) -> Result<ConfChangeV2, MembersError> {
    let mut after = members.clone();
    let mut named = Vec::new();
    let mut singles = Vec::new();
    for change in changes {
        let (id, change_type) = match *change {
            MemberChange::Voter(id) => (id, ConfChangeType::AddNode),
            MemberChange::Learner(id) => (id, ConfChangeType::AddLearnerNode),
            MemberChange::Remove(id) => (id, ConfChangeType::RemoveNode),
        };
        if id == 0 || named.contains(&id) {
            return Err(MembersError::Senseless);
        }
        named.push(id);
        after.voters.retain(|voter| *voter != id);
        after.learners.retain(|learner| *learner != id);
        match change {
            MemberChange::Voter(_) => after.voters.push(id),
            MemberChange::Learner(_) => after.learners.push(id),
            MemberChange::Remove(_) => {}
        }
        singles.push(ConfChangeSingle {
            node_id: id,
            change_type: change_type as i32,
        });
    }
    after.voters.sort_unstable();
    after.learners.sort_unstable();
    match () {
        () if members.is_joint() => Err(MembersError::Busy),
        () if after.voters.is_empty() => Err(MembersError::Senseless),
        () if after == *members => Err(MembersError::Unchanged),
        () if !after.voters.contains(&leader) => Err(MembersError::LeaderLeaves),
        () if after.voters.len() + after.learners.len() > MEMBERS_MAX => Err(MembersError::TooMany),
        () => Ok(ConfChangeV2 {
            changes: singles,
            ..ConfChangeV2::default()
        }),
    }
}

/// Why leadership cannot be passed on so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only the leader can.
    #[error("this node does not lead the group; the leader is {leader:?}")]
    NotLeader {
        /// Who does, as far as is known here.
        leader: Option<u64>,
    },
    /// The target has no vote, or will soon have none.
    #[error("node {0} is no voter")]
    NoVoter(u64),
}

/// How far a member is, as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The member.
    pub id: u64,
    /// The log is the same up to here.
    pub matched: u64,
    /// It was heard within the last election time or two.
    pub recently_active: bool,
    /// It is being sent the whole table.
    pub snapshotting: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Members {
        Members {
            voters: vec![1, 2, 3],
            ..Members::default()
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        use MemberChange::{Learner, Remove, Voter};
        let plan = |changes: &[MemberChange]| plan(&three(), 1, changes).map(|change| change.changes.len());
        assert_eq!(plan(&[Learner(4)]), Ok(1));
        assert_eq!(plan(&[Voter(4), Voter(5), Remove(2)]), Ok(3));
        assert_eq!(plan(&[]), Err(MembersError::Unchanged));
        assert_eq!(plan(&[Voter(2), Remove(9)]), Err(MembersError::Unchanged));
        assert_eq!(plan(&[Voter(0)]), Err(MembersError::Senseless));
        assert_eq!(plan(&[Voter(4), Remove(4)]), Err(MembersError::Senseless));
        assert_eq!(
            plan(&[Remove(1), Remove(2), Remove(3)]),
            Err(MembersError::Senseless)
        );
        assert_eq!(plan(&[Remove(1)]), Err(MembersError::LeaderLeaves));
        assert_eq!(plan(&[Learner(1)]), Err(MembersError::LeaderLeaves));
        let many: Vec<_> = (4..=MEMBERS_MAX as u64 + 1).map(Voter).collect();
        assert_eq!(plan(&many), Err(MembersError::TooMany));
    }

    #[test]
    fn one_exchange_at_a_time() {
        let joint = Members {
            outgoing: vec![1, 2],
            ..three()
        };
        assert_eq!(
            super::plan(&joint, 1, &[MemberChange::Voter(4)]),
            Err(MembersError::Busy)
        );
        assert_eq!((joint.rank(1), joint.rank(3), joint.rank(9)), (0, 2, 3));
    }
}
