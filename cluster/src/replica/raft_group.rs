//! Consensus by the `raft` crate.

use std::fmt;

use prost::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, ConfState, Entry, EntryType, Message, Snapshot};
use raft::{Config, RawNode, StateRole};
use slog::{Drain, Logger, OwnedKVList, Record, o};

use super::consensus::{Committed, Consensus, Leadership, Transport};
use super::store::Store;
use super::{ReplicaConfig, ReplicaError};
use crate::log::{LogError, LogStore, SnapshotMeta};
use crate::table::{Restore, TableImage};

/// Ticks of 10 ms without a leader before the member of rank 0 stands for election; each further rank waits
/// `RANK_TICKS` longer, so that two do not split the votes.
const ELECTION_TICKS: usize = 25;
const RANK_TICKS: usize = 5;
const HEARTBEAT_TICKS: usize = 4;
/// Octets of entries handled or sent at once.
const ROUND_OCTETS: u64 = 4 * 1024 * 1024;
const MESSAGE_OCTETS: u64 = 1024 * 1024;

/// One member of a Raft group.
pub(super) struct RaftGroup {
    node: RawNode<Store>,
    transport: Box<dyn Transport>,
    /// As of the last entry handed out.
    members: ConfState,
}

impl RaftGroup {
    /// Starts from what the log holds. A group of one elects itself at once.
    pub(super) fn start(
        config: &ReplicaConfig,
        log: Box<dyn LogStore>,
        transport: Box<dyn Transport>,
        committed: &mut Vec<Committed>,
    ) -> Result<Self, ReplicaError> {
        let SnapshotMeta {
            index: applied,
            members,
            ..
        } = log.snapshot().clone();
        let node = RawNode::new(&raft_config(config, applied), Store { log }, &logger())?;
        let mut group = Self {
            node,
            transport,
            members,
        };
        // What is known to be committed comes first: raft does not campaign over an unapplied change of members.
        group.advance(committed)?;
        if group.members.voters == [config.node_id] {
            group.node.campaign()?;
            group.advance(committed)?;
        }
        Ok(group)
    }

    /// One round of raft's own order: send, install, apply, write, sync, and only then acknowledge.
    fn round(&mut self, committed: &mut Vec<Committed>) -> Result<(), ReplicaError> {
        let mut ready = self.node.ready();
        self.send(ready.take_messages());
        if !ready.snapshot().is_empty() {
            self.install(ready.snapshot(), committed)?;
        }
        // Changes of members are applied before `advance`, or raft cannot leave a joint configuration.
        self.commit(ready.take_committed_entries(), committed)?;
        let log = &mut self.node.mut_store().log;
        log.append(ready.entries())?;
        if let Some(hard_state) = ready.hs() {
            log.set_hard_state(hard_state)?;
        }
        if ready.must_sync() {
            log.sync()?;
        }
        self.send(ready.take_persisted_messages());
        let mut light = self.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            let log = &mut self.node.mut_store().log;
            let mut hard_state = log.hard_state();
            hard_state.commit = commit;
            log.set_hard_state(&hard_state)?;
        }
        self.send(light.take_messages());
        self.commit(light.take_committed_entries(), committed)?;
        self.node.advance_apply();
        Ok(())
    }

    fn commit(&mut self, entries: Vec<Entry>, committed: &mut Vec<Committed>) -> Result<(), ReplicaError> {
        for entry in entries {
            let index = entry.index;
            let data = match entry.entry_type() {
                EntryType::EntryNormal => entry.data,
                EntryType::EntryConfChange => {
                    let change = ConfChange::decode(entry.data.as_slice());
                    let change = change.map_err(|error| ReplicaError::Entry { index, error })?;
                    self.members = self.node.apply_conf_change(&change)?;
                    Vec::new()
                }
                EntryType::EntryConfChangeV2 => {
                    let change = ConfChangeV2::decode(entry.data.as_slice());
                    let change = change.map_err(|error| ReplicaError::Entry { index, error })?;
                    self.members = self.node.apply_conf_change(&change)?;
                    Vec::new()
                }
            };
            committed.push(Committed::Entry { index, data });
        }
        Ok(())
    }

    fn install(&mut self, snapshot: &Snapshot, committed: &mut Vec<Committed>) -> Result<(), ReplicaError> {
        let mut restore = Restore::default();
        restore.part(&snapshot.data)?;
        let table = restore.finish()?;
        let metadata = snapshot.metadata.clone().unwrap_or_default();
        let members = metadata.conf_state.unwrap_or_default();
        let meta = SnapshotMeta {
            index: metadata.index,
            term: metadata.term,
            members,
        };
        self.members = meta.members.clone();
        self.node.mut_store().log.install_snapshot(meta, table.image())?;
        committed.push(Committed::Table(Box::new(table)));
        Ok(())
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.transport.send(message.to, message.encode_to_vec());
        }
    }
}

impl Consensus for RaftGroup {
    fn tick(&mut self) {
        self.node.tick();
    }

    fn propose(&mut self, data: Vec<u8>) -> bool {
        self.node.propose(Vec::new(), data).is_ok()
    }

    fn receive(&mut self, message: &[u8]) -> Result<(), ReplicaError> {
        let message = Message::decode(message).map_err(ReplicaError::Message)?;
        match self.node.step(message) {
            // A message from a member that has left, or that raft has no use for.
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::StepLocalMsg) => Ok(()),
            Err(raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn advance(&mut self, committed: &mut Vec<Committed>) -> Result<(), ReplicaError> {
        while self.node.has_ready() {
            self.round(committed)?;
        }
        Ok(())
    }

    fn leadership(&self) -> Leadership {
        let raft = &self.node.raft;
        let is_self = raft.state == StateRole::Leader;
        Leadership {
            term: raft.term,
            leader: Some(raft.leader_id).filter(|id| *id != 0),
            is_self,
        }
    }

    fn begin_snapshot(&mut self, image: TableImage) -> Result<(), ReplicaError> {
        let index = image.applied();
        let log = &mut self.node.mut_store().log;
        let term = log.term(index).ok_or(ReplicaError::SnapshotBehindLog { index })?;
        let meta = SnapshotMeta {
            index,
            term,
            members: self.members.clone(),
        };
        Ok(log.begin_snapshot(meta, image)?)
    }

    fn log(&self) -> &dyn LogStore {
        &*self.node.store().log
    }

    fn log_mut(&mut self) -> &mut dyn LogStore {
        &mut *self.node.mut_store().log
    }
}

impl fmt::Debug for RaftGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, members, .. } = self;
        let (id, term) = (node.raft.id, node.raft.term);
        f.debug_struct("RaftGroup")
            .field("id", &id)
            .field("term", &term)
            .field("members", members)
            .finish()
    }
}

fn raft_config(config: &ReplicaConfig, applied: u64) -> Config {
    let rank = config
        .members
        .iter()
        .filter(|member| **member < config.node_id)
        .count();
    let election_tick = ELECTION_TICKS + rank * RANK_TICKS;
    Config {
        id: config.node_id,
        election_tick,
        heartbeat_tick: HEARTBEAT_TICKS,
        // One value only, so that raft draws no random number.
        min_election_tick: election_tick,
        max_election_tick: election_tick + 1,
        applied,
        max_size_per_msg: MESSAGE_OCTETS,
        max_committed_size_per_ready: ROUND_OCTETS,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    }
}

/// Hands raft's own log lines to `tracing`. What raft calls info is detail to an operator.
struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            slog::Level::Critical | slog::Level::Error => tracing::error!("raft: {}", record.msg()),
            slog::Level::Warning => tracing::warn!("raft: {}", record.msg()),
            slog::Level::Info | slog::Level::Debug => tracing::debug!("raft: {}", record.msg()),
            slog::Level::Trace => tracing::trace!("raft: {}", record.msg()),
        }
        Ok(())
    }
}

fn logger() -> Logger {
    Logger::root(Tracing, o!())
}

impl From<LogError> for ReplicaError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}
