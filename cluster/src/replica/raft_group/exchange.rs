//! How a change of the members is carried out here.

use prost::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use raft::{INVALID_ID, StateRole};

use super::{ELECTION_TICKS, RANK_TICKS, RANKS, RaftGroup};
use crate::replica::ReplicaError;
use crate::replica::consensus::Consensus;
use crate::replica::members::Members;

impl RaftGroup {
    pub(super) fn change_members(&mut self, index: u64, change: &ConfChangeV2) -> Result<(), ReplicaError> {
        if Members::of(&self.members) == Members::default() {
            let before = ConfState::decode(change.context.as_slice());
            let before = before.map_err(|error| ReplicaError::Entry { index, error })?;
            self.begin_with(&before)?;
        }
        // A leader that is left out would go on leading without a place in the group, and `raft` then panics. It comes
        // to that only where leadership changed in the middle of an exchange.
        if self.node.raft.state == StateRole::Leader && self.leaves_out(change) {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, INVALID_ID);
        }
        self.members = self.node.apply_conf_change(change)?;
        let tracked = self.node.raft.prs();
        self.versions.retain(|id, _| tracked.get(*id).is_some());
        self.rank();
        Ok(())
    }

    /// The members before the first change, to a node that was told of none.
    fn begin_with(&mut self, members: &ConfState) -> Result<(), ReplicaError> {
        let voters = members.voters.iter().map(|id| (*id, ConfChangeType::AddNode));
        let learners = members
            .learners
            .iter()
            .map(|id| (*id, ConfChangeType::AddLearnerNode));
        for (node_id, change_type) in voters.chain(learners) {
            let one = ConfChangeSingle {
                node_id,
                change_type: change_type as i32,
            };
            let change = ConfChangeV2 {
                changes: vec![one],
                ..ConfChangeV2::default()
            };
            self.members = self.node.apply_conf_change(&change)?;
        }
        Ok(())
    }

    /// Whether this node has no vote after the change.
    fn leaves_out(&self, change: &ConfChangeV2) -> bool {
        let id = self.node.raft.id;
        match (change.leave_joint(), change.enter_joint()) {
            (true, _) => !self.members.voters.contains(&id),
            // Until the exchange is complete the old voters keep their votes.
            (false, Some(_)) => false,
            (false, None) => {
                let voter = raft::eraftpb::ConfChangeType::AddNode;
                let changes = change.changes.iter();
                changes
                    .into_iter()
                    .any(|one| one.node_id == id && one.get_change_type() != voter)
            }
        }
    }

    /// Waits for an election as long as our rank among the voters says.
    pub(super) fn rank(&mut self) {
        let rank = self.members().rank(self.node.raft.id).min(RANKS - 1);
        self.election_ticks = ELECTION_TICKS + rank * RANK_TICKS;
    }
}
