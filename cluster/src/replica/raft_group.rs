//! Consensus by the `raft` crate.
//!
//! The group's first members are not in the log. A node that joins later has none, and learns them from the first
//! change of members, which carries those before it; or from a snapshot.

mod exchange;
mod logging;
mod sending;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prost::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use raft::{Config, INVALID_ID, ProgressState, RawNode, ReadState, StateRole};

use super::consensus::{Committed, Consensus, Leadership, Transport};
use super::lineage::{Lineage, is_fresh};
use super::members::{self, MemberChange, Members, MembersError, Progress, TransferError};
use super::store::Store;
use super::transfer::{Incoming, Outgoing};
use super::{ReplicaConfig, ReplicaError};
use crate::limits::COMMAND_VERSION;
use crate::log::{LogError, LogStore, SnapshotMeta};
use crate::peer::{Envelope, envelope::Kind};
use crate::table::{RestoreError, Table, TableImage};

/// Ticks of 10 ms without a leader before the voter of rank 0 stands for election; each further rank waits
/// `RANK_TICKS` longer, so that two do not split the votes.
const ELECTION_TICKS: usize = 25;
const RANK_TICKS: usize = 5;
/// Both the old and the new voters of an exchange have ranks.
const RANKS: usize = 2 * crate::limits::MEMBERS_MAX;
/// A voter that heard its leader so recently ignores candidates, and a leader that heard no quorum for so long steps
/// down. It is less than `ELECTION_TICKS` by a heartbeat, or else the first candidate would meet voters that heard
/// the dead leader a moment later than it did, and be ignored.
const LEASE_TICKS: usize = 20;
const HEARTBEAT_TICKS: usize = 4;
/// Between two attempts to learn how far the group is.
const ASK_TICKS: u32 = 5;
/// An image that nobody took is let go, with the rows that it alone still holds.
const OFFER_TICKS: u32 = 100;
/// Octets of entries handled or sent at once.
const ROUND_OCTETS: u64 = 4 * 1024 * 1024;
const MESSAGE_OCTETS: u64 = 1024 * 1024;

/// One member of a Raft group.
pub(super) struct RaftGroup {
    node: RawNode<Store>,
    transport: Box<dyn Transport>,
    /// As of the last entry handed out.
    members: ConfState,
    /// Of the table.
    generation: u64,
    election_ticks: usize,
    dropped: u64,
    catch_up: CatchUp,
    /// What the members' programs know, as they say with each message.
    versions: BTreeMap<u64, u32>,
    offer: Option<(Arc<TableImage>, u32)>,
    /// Tells attempts to send the table from those of our past.
    transfers: u64,
    outgoing: BTreeMap<u64, Outgoing>,
    incoming: Option<Incoming>,
    /// The table that the snapshot which `raft` holds stands for.
    arrived: Option<Box<Table>>,
}

/// How a starting member learns how far the group was when it came: it asks the leader, which asks a quorum.
#[derive(Debug)]
struct CatchUp {
    /// Tells our question from those of others and of our past.
    context: Vec<u8>,
    ticks: u32,
    index: Option<u64>,
}

impl RaftGroup {
    /// Starts from what the log holds. A group of one elects itself at once.
    pub(super) fn start(
        config: &ReplicaConfig,
        log: Box<dyn LogStore>,
        transport: Box<dyn Transport>,
        generation: u64,
        committed: &mut Vec<Committed>,
    ) -> Result<Self, ReplicaError> {
        let SnapshotMeta {
            index: applied,
            members,
            ..
        } = log.snapshot().clone();
        let node = RawNode::new(&raft_config(config, applied), Store::new(log), &logging::logger())?;
        let mut group = Self {
            node,
            transport,
            members,
            generation,
            election_ticks: 0,
            dropped: 0,
            catch_up: CatchUp {
                context: [config.node_id.to_be_bytes(), config.boot.to_be_bytes()].concat(),
                ticks: 0,
                index: None,
            },
            versions: BTreeMap::new(),
            offer: None,
            transfers: config.boot,
            outgoing: BTreeMap::new(),
            incoming: None,
            arrived: None,
        };
        group.rank();
        // What is known to be committed comes first: raft does not campaign over an unapplied change of members.
        group.advance(committed)?;
        if group.members.voters == [config.node_id] && group.members.voters_outgoing.is_empty() {
            group.node.campaign()?;
            group.advance(committed)?;
            group.ask();
            group.advance(committed)?;
        }
        Ok(group)
    }

    /// One round of raft's own order: send, install, apply, write, sync, and only then acknowledge.
    fn round(&mut self, committed: &mut Vec<Committed>) -> Result<(), ReplicaError> {
        let mut ready = self.node.ready();
        self.answered(&ready.take_read_states());
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
            let change = match entry.entry_type() {
                EntryType::EntryNormal => {
                    let data = entry.data;
                    committed.push(Committed::Entry { index, data });
                    continue;
                }
                // The second form alone is ever proposed.
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                    ConfChangeV2::decode(entry.data.as_slice())
                }
            };
            let change = change.map_err(|error| ReplicaError::Entry { index, error })?;
            self.change_members(index, &change)?;
            let data = Vec::new();
            committed.push(Committed::Entry { index, data });
            committed.push(Committed::Members(self.members()));
        }
        Ok(())
    }

    fn ask(&mut self) {
        self.catch_up.ticks = 0;
        let context = self.catch_up.context.clone();
        self.node.read_index(context);
    }

    fn answered(&mut self, states: &[ReadState]) {
        let ours = states
            .iter()
            .find(|state| state.request_ctx == self.catch_up.context);
        if let (None, Some(state)) = (self.catch_up.index, ours) {
            self.catch_up.index = Some(state.index);
        }
    }

    /// Whether `raft` can take the message without finding its own rules broken. It trusts more than it should.
    fn makes_sense(&self, message: &Message) -> bool {
        let raft = &self.node.raft;
        let known = raft.prs().get(message.from).is_some();
        if message.to != raft.id || message.from == INVALID_ID || message.from == raft.id {
            return false;
        }
        match message.get_msg_type() {
            // Of a member that is gone.
            MessageType::MsgPropose => known && !message.entries.is_empty(),
            MessageType::MsgReadIndex => message.entries.len() == 1,
            MessageType::MsgTransferLeader => false,
            MessageType::MsgAppend => {
                let indexes = message.entries.iter().map(|entry| entry.index);
                indexes.eq((message.index + 1..).take(message.entries.len()))
            }
            _ => true,
        }
    }

    /// A leader speaks of entries as ours that we do not have: this log is not the one that acknowledged them.
    fn check_log(&self, message: &Message) -> Result<(), ReplicaError> {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        let heartbeat = message.get_msg_type() == MessageType::MsgHeartbeat;
        match heartbeat && message.term >= raft.term && message.commit > last {
            true => Err(ReplicaError::EntriesLost {
                last,
                acknowledged: message.commit,
            }),
            false => Ok(()),
        }
    }

    fn install(&mut self, snapshot: &Snapshot, committed: &mut Vec<Committed>) -> Result<(), ReplicaError> {
        let metadata = snapshot.metadata.clone().unwrap_or_default();
        let members = metadata.conf_state.unwrap_or_default();
        let meta = SnapshotMeta {
            index: metadata.index,
            term: metadata.term,
            members,
        };
        let arrived = self.arrived.take().filter(|table| table.applied() == meta.index);
        let table = arrived.ok_or(RestoreError::Inconsistent("another index than its message says"))?;
        self.members = meta.members.clone();
        self.generation = table.generation();
        self.rank();
        self.node.mut_store().log.install_snapshot(meta, table.image())?;
        committed.push(Committed::Table(table));
        committed.push(Committed::Members(self.members()));
        Ok(())
    }

    fn receive_raft(&mut self, message: Message) -> Result<(), ReplicaError> {
        if !self.makes_sense(&message) {
            self.dropped += 1;
            return Ok(());
        }
        self.check_log(&message)?;
        match self.node.step(message) {
            Ok(()) => Ok(()),
            Err(error @ (raft::Error::Io(_) | raft::Error::Store(_))) => Err(error.into()),
            Err(_) => {
                self.dropped += 1;
                Ok(())
            }
        }
    }
}

impl Consensus for RaftGroup {
    fn tick(&mut self) {
        // `raft` draws it anew at each election.
        self.node
            .raft
            .set_randomized_election_timeout(self.election_ticks);
        self.node.tick();
        self.tick_transfers();
        self.catch_up.ticks += 1;
        if self.catch_up.index.is_none() && self.catch_up.ticks >= ASK_TICKS {
            self.ask();
        }
    }

    fn can_propose(&self) -> bool {
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader;
        raft.leader_id != INVALID_ID && !(leads && raft.lead_transferee.is_some())
    }

    fn propose(&mut self, data: Vec<u8>) -> bool {
        self.node.propose(Vec::new(), data).is_ok()
    }

    fn receive(&mut self, message: &[u8]) -> Result<(), ReplicaError> {
        let Ok(Envelope {
            from,
            version,
            generation,
            fresh,
            kind: Some(kind),
        }) = Envelope::decode(message)
        else {
            self.dropped += 1;
            return Ok(());
        };
        let theirs = Lineage { generation, fresh };
        if !self.lineage().goes_with(theirs) {
            self.dropped += 1;
            return Ok(());
        }
        if self.node.raft.prs().get(from).is_some() {
            self.versions.insert(from, version);
        }
        match kind {
            Kind::Part(part) => self.receive_part(from, &part),
            Kind::Taken(taken) => {
                self.receive_taken(from, taken);
                Ok(())
            }
            Kind::Raft(octets) => match Message::decode(octets.as_slice()) {
                // The table comes in parts.
                Ok(message) if message.from == from && message.get_msg_type() != MessageType::MsgSnapshot => {
                    self.receive_raft(message)
                }
                _ => {
                    self.dropped += 1;
                    Ok(())
                }
            },
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

    fn members(&self) -> Members {
        Members::of(&self.members)
    }

    fn lineage(&self) -> Lineage {
        Lineage {
            generation: self.generation,
            fresh: is_fresh(self.node.store().log.as_ref()),
        }
    }

    fn propose_members(&mut self, changes: &[MemberChange]) -> Result<(), MembersError> {
        let Leadership { leader, is_self, .. } = self.leadership();
        if !is_self {
            return Err(MembersError::NotLeader { leader });
        }
        let mut change = members::plan(&self.members(), self.node.raft.id, changes)?;
        change.context = self.members.encode_to_vec();
        if self.node.raft.has_pending_conf() {
            return Err(MembersError::Busy);
        }
        let proposed = self.node.propose_conf_change(Vec::new(), change);
        proposed.map_err(|_| MembersError::Busy)
    }

    fn transfer_leadership(&mut self, to: u64) -> Result<(), TransferError> {
        let Leadership { leader, is_self, .. } = self.leadership();
        if !is_self {
            return Err(TransferError::NotLeader { leader });
        }
        if !self.members.voters.contains(&to) {
            return Err(TransferError::NoVoter(to));
        }
        self.node.transfer_leader(to);
        Ok(())
    }

    fn progress(&self) -> Vec<Progress> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let progress = raft.prs().iter().map(|(id, progress)| Progress {
            id: *id,
            matched: progress.matched,
            recently_active: progress.recent_active || *id == raft.id,
            snapshotting: progress.state == ProgressState::Snapshot,
        });
        let mut progress: Vec<Progress> = progress.collect();
        progress.sort_unstable_by_key(|progress| progress.id);
        progress
    }

    fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    fn caught_up_at(&self) -> Option<u64> {
        self.catch_up.index
    }

    fn common_version(&self) -> Option<u32> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return None;
        }
        let others = raft.prs().iter().filter(|(id, _)| **id != raft.id);
        others
            .map(|(id, _)| self.versions.get(id).copied())
            .try_fold(COMMAND_VERSION, |lowest, version| Some(lowest.min(version?)))
    }

    fn report_unreachable(&mut self, id: u64) {
        self.node.report_unreachable(id);
    }

    fn messages_dropped(&self) -> u64 {
        self.dropped
    }

    fn wants_image(&self) -> bool {
        self.node.store().wants_image.get()
    }

    fn offer_image(&mut self, image: TableImage) {
        let index = image.applied();
        let store = self.node.mut_store();
        store.wants_image.set(false);
        if let Some(term) = store.log.term(index) {
            store.offer = Some(SnapshotMeta {
                index,
                term,
                members: self.members.clone(),
            });
            self.offer = Some((Arc::new(image), 0));
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
    Config {
        id: config.node_id,
        election_tick: LEASE_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        // What `raft` draws from this range is never used: `RaftGroup::tick` sets it.
        min_election_tick: ELECTION_TICKS,
        max_election_tick: ELECTION_TICKS + RANKS * RANK_TICKS,
        applied,
        max_size_per_msg: MESSAGE_OCTETS,
        max_committed_size_per_ready: ROUND_OCTETS,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    }
}

impl From<LogError> for ReplicaError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}
