//! A cluster made anew from one node, when the majority of its members is lost for ever.
//!
//! All that the node's log holds counts as decided, also what it was never told to be: a majority may have decided it and
//! told others, and what nobody decided did no more than wait. What the lost majority had decided without this node is lost
//! with it. The new group has this node alone: of two survivors the logs may differ, so that the second is added anew.
//!
//! The outcome is one snapshot behind the last entry, in a later term and with a later generation ([`super::lineage`]). It
//! takes the log's place by a single rename: a crash leaves the old group or the new one.

use std::collections::BTreeSet;

use prost::Message as _;
use raft::eraftpb::{ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType};

use super::members::Members;
use super::{ReplicaError, decode_batch, read_table};
use crate::limits::PEER_MESSAGE_OCTETS_MAX;
use crate::log::{LogError, LogStore, SnapshotMeta};
use crate::table::{RestoreError, Table};

/// Why a node is not made a cluster.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log is damaged, in use, or another node's.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An entry of the log is of no use.
    #[error(transparent)]
    Entry(#[from] ReplicaError),
    /// There is nothing in the log.
    #[error("it holds no session table: there is nothing to recover here")]
    Nothing,
    /// It decides by itself already.
    #[error("node {0} is the only voter of its cluster already: start it, nothing has to be recovered")]
    Alone(u64),
    /// The table is old.
    #[error(
        "node {0} is no member of the cluster that its log tells of: it was removed, and its table is not the last one; recover \
         another node"
    )]
    Removed(u64),
}

/// What it means that members of a group answer which is said to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// None does.
    Silent,
    /// Too few to decide anything, also with this node. They have to be stopped first.
    Running,
    /// With this node they can decide: the quorum is not lost, and recovering would end it.
    Quorum,
}

/// A node whose peers are lost, with all that its log holds. Its process must not run.
#[derive(Debug)]
pub struct Survivor<L> {
    log: L,
    node: u64,
    table: Table,
    members: Members,
}

impl<L: LogStore> Survivor<L> {
    /// Reads the whole log of a node; changes nothing in it.
    pub fn read(mut log: L, node: u64) -> Result<Self, RecoverError> {
        if log.last_index() == 0 {
            return Err(RecoverError::Nothing);
        }
        // A log that is not empty: this only looks whose it is.
        log.bootstrap(node, &ConfState::default())?;
        let mut table = read_table(&log)?;
        let mut members = Members::of(&log.snapshot().members);
        let (mut next, end) = (log.snapshot().index + 1, log.last_index() + 1);
        while next < end {
            for entry in log.entries(next, end, PEER_MESSAGE_OCTETS_MAX as u64)? {
                next = entry.index + 1;
                apply(entry, &mut table, &mut members)?;
            }
        }
        match () {
            () if !members.contains(node) => Err(RecoverError::Removed(node)),
            () if members.voters == [node] && !members.is_joint() => Err(RecoverError::Alone(node)),
            () => Ok(Self {
                log,
                node,
                table,
                members,
            }),
        }
    }

    /// Who belonged to the group, by the last word on it in the log.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// What is to be thought of the members that answer.
    pub fn others(&self, answering: &BTreeSet<u64>) -> Others {
        let mut with_us = answering.clone();
        with_us.insert(self.node);
        match () {
            () if answering.is_empty() => Others::Silent,
            () if self.members.is_quorum(&with_us) => Others::Quorum,
            () => Others::Running,
        }
    }

    /// The table with every entry of the log applied.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Term and index of the last entry. Of several survivors the one with the highest has the most.
    pub fn last(&self) -> (u64, u64) {
        let index = self.log.last_index();
        (self.log.term(index).unwrap_or_default(), index)
    }

    /// Makes the node a cluster of its own. `mark` is random: two nodes that are recovered each by itself are two clusters.
    /// Gives the new generation.
    pub fn begin_alone(mut self, mark: u32) -> Result<u64, RecoverError> {
        let generation = (((self.table.generation() >> 32) + 1) << 32) | u64::from(mark);
        let mut hard_state = self.log.hard_state();
        hard_state.term += 1;
        hard_state.vote = 0;
        self.log.set_hard_state(&hard_state)?;
        // Not behind the snapshot, whose term it is.
        self.log.sync()?;
        let index = self.log.last_index() + 1;
        self.table.begin_generation(generation, index);
        let members = ConfState {
            voters: vec![self.node],
            ..ConfState::default()
        };
        let meta = SnapshotMeta {
            index,
            term: hard_state.term,
            members,
        };
        self.log.install_snapshot(meta, self.table.image())?;
        self.log.sync()?;
        Ok(generation)
    }
}

fn apply(entry: Entry, table: &mut Table, members: &mut Members) -> Result<(), ReplicaError> {
    let index = entry.index;
    match entry.entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => table.skip_to(index),
        EntryType::EntryNormal => {
            table.apply(index, decode_batch(index, &entry.data)?, &mut Vec::new());
        }
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            let undecodable = |error| ReplicaError::Entry { index, error };
            let change = ConfChangeV2::decode(entry.data.as_slice()).map_err(undecodable)?;
            if *members == Members::default() {
                // A node that joined was told of those before it so.
                let before = ConfState::decode(change.context.as_slice()).map_err(undecodable)?;
                *members = Members::of(&before);
            }
            exchange(members, &change);
            table.skip_to(index);
        }
    }
    Ok(())
}

/// Who belongs to the group after a change, whether or not those before still have a say.
fn exchange(members: &mut Members, change: &ConfChangeV2) {
    for one in &change.changes {
        let id = one.node_id;
        members.voters.retain(|voter| *voter != id);
        members.learners.retain(|learner| *learner != id);
        match one.get_change_type() {
            ConfChangeType::AddNode => members.voters.push(id),
            ConfChangeType::AddLearnerNode => members.learners.push(id),
            ConfChangeType::RemoveNode => {}
        }
    }
    members.voters.sort_unstable();
    members.learners.sort_unstable();
}

impl From<RestoreError> for RecoverError {
    fn from(error: RestoreError) -> Self {
        Self::Entry(error.into())
    }
}
