//! The driver of the session table: proposals in, verdicts and effects out, in order.
//!
//! ```text
//!  propose --> Batcher --> Consensus --> log (fdatasync) --> Table::apply --> Output
//!                             ^  |
//!                        peers, by Transport
//! ```
//!
//! One thread owns a [`Replica`]. It takes what proposals there are, calls [`Replica::advance`], which returns when
//! they are durable and judged, and hands the outputs out. A single node is a group of one and goes the same way.
//!
//! A proposal can vanish (its leader died, or a message was lost). After `limits::BATCH_PATIENCE_TICKS` the next batch
//! goes out; a verdict that comes late is still given. When it is no longer waited for, [`Output::Unanswered`] says
//! so. Nothing here resubmits: that is the owner's part.

mod batcher;
mod consensus;
mod lineage;
mod members;
#[cfg(holdfast_next)]
mod next;
mod raft_group;
mod recover;
mod store;
mod succession;
mod transfer;

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod recover_tests;
#[cfg(test)]
mod test_net;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use prost::Message;

pub use batcher::{Batcher, ProposeError};
pub use consensus::{Committed, Consensus, Leadership, NoTransport, Transport};
pub use lineage::Lineage;
pub use members::{MemberChange, Members, MembersError, Progress, TransferError};
pub use recover::{Others, RecoverError, Survivor};

use self::raft_group::RaftGroup;
use crate::commands::command::Kind;
use crate::commands::{Command, CommandBatch, Raise, Tick};
use crate::limits::{
    BATCH_MEMORY_TICKS, BATCH_PATIENCE_TICKS, BATCHES_UNJUDGED_MAX, COMMAND_VERSION, MAINTENANCE_TICKS,
    TABLE_TIME_STEP_MS,
};
use crate::log::{LogError, LogSizes, LogStore, Recovery};
use crate::table::{Effect, Restore, RestoreError, Table, Verdict};

/// Who this replica is.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// This node; not 0.
    pub node_id: u64,
    /// The first members of the group, this node among them; none: the node joins a group that exists, which has to add
    /// it. Read only when the log is new; see [`Replica::members`] for what the log says.
    pub members: Vec<u64>,
    /// A number that no earlier process of this node used: it tells our batches from those of our past.
    pub boot: u64,
}

impl ReplicaConfig {
    /// A group of one.
    pub fn single(node_id: u64, boot: u64) -> Self {
        Self {
            node_id,
            members: vec![node_id],
            boot,
        }
    }
}

/// What the replica has to say, in order. The effects of a batch precede its verdicts.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The answer to a proposal.
    Verdict {
        /// As given to `propose`.
        token: u64,
        /// What became of it.
        verdict: Verdict,
    },
    /// Nobody knows whether the proposal will be judged; its verdict is no longer waited for.
    Unanswered {
        /// As given to `propose`.
        token: u64,
    },
    /// The table changed.
    Effect(Effect),
    /// The group has other members now. An exchange of several ends with the second of these.
    Members(Members),
    /// A snapshot was written up to this index, and the log in front of it dropped.
    SnapshotTaken {
        /// The last index in it.
        index: u64,
    },
    /// No snapshot could be written; the log goes on without.
    SnapshotFailed {
        /// Why.
        reason: String,
    },
}

/// An error of the replica. All are final: the process has to end and start again.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The log failed.
    #[error(transparent)]
    Log(LogError),
    /// Raft found its own rules broken.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    /// A snapshot is no table.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The leader knows that this node had entries which its log does not hold.
    #[error(
        "the log ends at entry {last}, but this node acknowledged entry {acknowledged}: its disk was lost or is an \
         older copy. It cannot go on under this id: \"holdfast cluster remove\" it on the leader, empty its data folder, \
         and add it as a new member, with another id and [cluster] join = true"
    )]
    EntriesLost {
        /// The last entry of the log.
        last: u64,
        /// What the leader has.
        acknowledged: u64,
    },
    /// Another member belongs to the cluster as it was recovered without this node.
    #[error(
        "the cluster was recovered without this node, as node {by} says, and what this node holds is no part of it any more. \
         It must not go on: move its data folder away, and add it as a new member: [cluster] join = true, and \
         \"holdfast cluster add\" on node {by}"
    )]
    Superseded {
        /// Who says so.
        by: u64,
    },
    /// A committed entry cannot be decoded.
    #[error("log entry {index} cannot be decoded: {error}")]
    Entry {
        /// The entry.
        index: u64,
        /// Why.
        error: prost::DecodeError,
    },
    /// A committed entry was proposed by a newer program.
    #[error(
        "the cluster uses version {found} of the session table (log entry {index}), this Holdfast knows versions up to \
         {COMMAND_VERSION}: start a newer Holdfast on this node, one that knows version {found}"
    )]
    NewerCommands {
        /// The entry.
        index: u64,
        /// Its version.
        found: u32,
    },
    /// A snapshot was asked for an index that the log no longer has.
    #[error("no term is known for index {index} of the snapshot")]
    SnapshotBehindLog {
        /// The index.
        index: u64,
    },
}

/// A batch that was proposed and is not judged yet.
#[derive(Debug)]
struct InFlight {
    sequence: u64,
    term: u64,
    ticks: u32,
    tokens: Vec<Option<u64>>,
}

/// One node's copy of the session table, with consensus and log beneath it.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    table: Table,
    consensus: Box<dyn Consensus>,
    /// Commands without a token are the replica's own.
    batcher: Batcher<Option<u64>>,
    /// Oldest first. Only the newest may still hold up the next.
    unjudged: VecDeque<InFlight>,
    sequence: u64,
    outputs: VecDeque<Output>,
    /// When the leader last proposed table time.
    ticked: Option<Duration>,
    ticks: u32,
}

impl Replica {
    /// Opens a group of one over a log. The table is complete on return, and proposals may follow at once.
    pub fn open(
        config: ReplicaConfig,
        log: impl LogStore + 'static,
    ) -> Result<(Self, Recovery), ReplicaError> {
        Self::open_with(config, log, NoTransport)
    }

    /// Opens a member of a group. The table is as far as this node knows it to be committed.
    pub fn open_with(
        config: ReplicaConfig,
        mut log: impl LogStore + 'static,
        transport: impl Transport + 'static,
    ) -> Result<(Self, Recovery), ReplicaError> {
        let members = raft::eraftpb::ConfState {
            voters: config.members.clone(),
            ..Default::default()
        };
        log.bootstrap(config.node_id, &members)?;
        let recovery = log.recovery().clone();
        let table = read_table(&log)?;
        let mut committed = Vec::new();
        let consensus = RaftGroup::start(
            &config,
            Box::new(log),
            Box::new(transport),
            table.generation(),
            &mut committed,
        )?;
        let mut replica = Self {
            config,
            table,
            consensus: Box::new(consensus),
            batcher: Batcher::default(),
            unjudged: VecDeque::new(),
            sequence: 0,
            outputs: VecDeque::new(),
            ticked: None,
            ticks: 0,
        };
        replica.apply_all(committed)?;
        // Whoever opens a replica begins with its table.
        replica.outputs.clear();
        Ok((replica, recovery))
    }

    /// Queues a command; its verdict comes with `token`. Call `advance` when all that is at hand is queued.
    pub fn propose(&mut self, token: u64, command: Command) -> Result<(), ProposeError> {
        self.batcher.push(Some(token), command)
    }

    /// 10 ms have passed. `now` is this process' monotonic clock, `unix` the wall clock since 1970.
    pub fn tick(&mut self, now: Duration, unix: Duration) -> Result<(), ReplicaError> {
        self.consensus.tick();
        self.forget_vanished();
        self.advance_time(now, unix);
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(MAINTENANCE_TICKS) {
            self.consensus.log_mut().maintain()?;
            self.raise_version();
        }
        Ok(())
    }

    /// Takes a message from another member. What is undecodable, makes no sense or comes from a node that is no member
    /// any more is dropped and counted; an error is final.
    pub fn receive(&mut self, message: &[u8]) -> Result<(), ReplicaError> {
        self.consensus.receive(message)
    }

    /// Proposes one batch if none is in flight, makes durable what must be and applies what is committed.
    pub fn advance(&mut self) -> Result<(), ReplicaError> {
        self.propose_batch();
        let mut committed = Vec::new();
        self.consensus.advance(&mut committed)?;
        self.apply_all(committed)?;
        if self.consensus.wants_image() {
            self.consensus.offer_image(self.table.image());
        }
        self.keep_snapshots()
    }

    /// Whether commands wait that the next `advance` would propose.
    pub fn has_work(&self) -> bool {
        !self.batcher.is_empty() && self.may_propose()
    }

    /// Commands that wait to be proposed.
    pub fn waiting(&self) -> usize {
        self.batcher.len()
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// From now on the table gives an address to whoever asks for it: a mistake, for the simulation to find.
    pub fn leave_addresses_unchecked(&mut self) {
        self.table.leave_addresses_unchecked(true);
    }

    /// The table as far as it is applied here.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Who leads the group.
    pub fn leadership(&self) -> Leadership {
        self.consensus.leadership()
    }

    /// Who belongs to the group. Right after opening: as the log has it, which the configuration may contradict.
    pub fn members(&self) -> Members {
        self.consensus.members()
    }

    /// Which cluster this node belongs to.
    pub fn lineage(&self) -> Lineage {
        self.consensus.lineage()
    }

    /// Proposes other members; [`Output::Members`] comes when it is decided. Only the leader can.
    pub fn propose_members(&mut self, changes: &[MemberChange]) -> Result<(), MembersError> {
        self.consensus.propose_members(changes)
    }

    /// Asks another voter to take the lead, as soon as it has the whole log. Given up after 200 ms; `leadership` tells.
    /// What is proposed meanwhile waits.
    pub fn transfer_leadership(&mut self, to: u64) -> Result<(), TransferError> {
        self.consensus.transfer_leadership(to)
    }

    /// How far the members are, by id. Empty unless this node leads.
    pub fn progress(&self) -> Vec<Progress> {
        self.consensus.progress()
    }

    /// The last log entry known here to be decided.
    pub fn commit_index(&self) -> u64 {
        self.consensus.commit_index()
    }

    /// Whether the table holds all that the group had decided when this process first reached its leader. It stays so.
    pub fn is_caught_up(&self) -> bool {
        let at = self.consensus.caught_up_at();
        at.is_some_and(|index| self.table.applied() >= index)
    }

    /// Something sent to a member did not arrive, so that it is sent again sooner.
    pub fn report_unreachable(&mut self, id: u64) {
        self.consensus.report_unreachable(id);
    }

    /// Messages dropped by `receive`, since the process started.
    pub fn messages_dropped(&self) -> u64 {
        self.consensus.messages_dropped()
    }

    /// The last index in the log, applied or not.
    pub fn last_index(&self) -> u64 {
        self.consensus.log().last_index()
    }

    /// Whether the disk is full and the log lives on its reserve: new calls are to be refused, loudly.
    pub fn reserve_in_use(&self) -> bool {
        self.consensus.log().reserve_in_use()
    }

    /// What the log takes.
    pub fn log_sizes(&self) -> LogSizes {
        self.consensus.log().sizes()
    }

    /// Nothing is in flight, or what is has lasted too long.
    fn may_propose(&self) -> bool {
        let newest = self.unjudged.back();
        newest.is_none_or(|batch| self.is_overdue(batch)) && self.consensus.can_propose()
    }

    /// A batch whose leader is gone may never come back.
    fn is_overdue(&self, batch: &InFlight) -> bool {
        let Leadership { term, is_self, .. } = self.leadership();
        batch.ticks > BATCH_PATIENCE_TICKS && !(is_self && batch.term == term)
    }

    fn propose_batch(&mut self) {
        if !self.has_work() {
            return;
        }
        let (tokens, commands) = self.batcher.take();
        let (tokens, commands) = self.drop_judged_elsewhere(tokens, commands);
        if commands.is_empty() {
            return;
        }
        self.sequence += 1;
        #[cfg(holdfast_next)]
        let commands = next::written_in(self.table.version(), commands);
        let batch = CommandBatch {
            version: self.table.version(),
            origin: self.config.node_id,
            boot: self.config.boot,
            sequence: self.sequence,
            commands,
        };
        if !self.consensus.propose(batch.encode_to_vec()) {
            self.batcher.put_back(tokens, batch.commands);
            return;
        }
        self.unjudged.push_back(InFlight {
            sequence: self.sequence,
            term: self.leadership().term,
            ticks: 0,
            tokens,
        });
    }

    /// An Assign of a term that this node does not lead any more is given up.
    fn drop_judged_elsewhere(
        &mut self,
        tokens: Vec<Option<u64>>,
        commands: Vec<Command>,
    ) -> (Vec<Option<u64>>, Vec<Command>) {
        let Leadership { term, is_self, .. } = self.leadership();
        let stands = |command: &Command| match &command.kind {
            Some(Kind::Assign(assign)) => assign.term == 0 || (is_self && assign.term == term),
            _ => true,
        };
        if commands.iter().all(stands) {
            return (tokens, commands);
        }
        let (kept, dropped): (Vec<_>, Vec<_>) = tokens
            .into_iter()
            .zip(commands)
            .partition(|(_, command)| stands(command));
        let unanswered = dropped.into_iter().filter_map(|(token, _)| token);
        self.outputs
            .extend(unanswered.map(|token| Output::Unanswered { token }));
        kept.into_iter().unzip()
    }

    fn apply_all(&mut self, committed: Vec<Committed>) -> Result<(), ReplicaError> {
        for committed in committed {
            match committed {
                Committed::Entry { index, data } if data.is_empty() => self.table.skip_to(index),
                Committed::Entry { index, data } => self.apply(index, &data)?,
                Committed::Table(table) => {
                    let unchecked = self.table.leaves_addresses_unchecked();
                    self.table = *table;
                    self.table.leave_addresses_unchecked(unchecked);
                    self.outputs.push_back(Output::Effect(Effect::TableReplaced));
                }
                Committed::Members(members) => self.outputs.push_back(Output::Members(members)),
            }
        }
        Ok(())
    }

    fn apply(&mut self, index: u64, data: &[u8]) -> Result<(), ReplicaError> {
        let batch = decode_batch(index, data)?;
        let ours = (batch.origin, batch.boot) == (self.config.node_id, self.config.boot);
        let sequence = batch.sequence;
        let mut effects = Vec::new();
        let verdicts = self.table.apply(index, batch, &mut effects);
        self.outputs.extend(effects.into_iter().map(Output::Effect));
        let judged = self
            .unjudged
            .iter()
            .position(|batch| ours && batch.sequence == sequence);
        if let Some(batch) = judged.and_then(|position| self.unjudged.remove(position)) {
            let answers = batch.tokens.into_iter().zip(verdicts);
            self.outputs.extend(
                answers.filter_map(|(token, verdict)| token.map(|token| Output::Verdict { token, verdict })),
            );
        }
        Ok(())
    }

    /// No longer waits for verdicts that will hardly come.
    fn forget_vanished(&mut self) {
        for batch in &mut self.unjudged {
            batch.ticks = batch.ticks.saturating_add(1);
        }
        while let Some(oldest) = self.unjudged.front()
            && self.is_overdue(oldest)
            && (oldest.ticks > BATCH_MEMORY_TICKS || self.unjudged.len() > BATCHES_UNJUDGED_MAX)
        {
            let tokens = self.unjudged.pop_front().map(|batch| batch.tokens);
            let tokens = tokens.into_iter().flatten().flatten();
            self.outputs
                .extend(tokens.map(|token| Output::Unanswered { token }));
        }
    }

    /// The leader moves table time on by what its own clock has counted since its last step.
    fn advance_time(&mut self, now: Duration, unix: Duration) {
        if !self.leadership().is_self {
            self.ticked = None;
            return;
        }
        let last = *self.ticked.get_or_insert(now);
        let passed = now.saturating_sub(last).as_millis();
        if passed < u128::from(TABLE_TIME_STEP_MS) {
            return;
        }
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let now_ms = self.table.now_ms().saturating_add(passed);
        // Where the queue is full the next tick finds room.
        if self
            .batcher
            .push(
                None,
                Tick {
                    now_ms,
                    unix_s: unix.as_secs(),
                }
                .into(),
            )
            .is_ok()
        {
            self.ticked = Some(now);
        }
    }

    /// Once a second, until it is so.
    fn raise_version(&mut self) {
        if let Some(version) = self.consensus.common_version()
            && version > self.table.version()
        {
            // Where the queue is full the next second finds room.
            let _ = self.batcher.push(None, Raise { version }.into());
        }
    }

    fn keep_snapshots(&mut self) -> Result<(), ReplicaError> {
        match self.consensus.log_mut().finish_snapshot()? {
            Some(Ok(index)) => self.outputs.push_back(Output::SnapshotTaken { index }),
            Some(Err(reason)) => self.outputs.push_back(Output::SnapshotFailed { reason }),
            None => {}
        }
        if self.consensus.log().wants_snapshot() {
            self.consensus.begin_snapshot(self.table.image())?;
        }
        Ok(())
    }
}

/// What an entry holds, if this program can apply it.
fn decode_batch(index: u64, data: &[u8]) -> Result<CommandBatch, ReplicaError> {
    let batch = CommandBatch::decode(data).map_err(|error| ReplicaError::Entry { index, error })?;
    let raised = batch.commands.iter().map(|command| match &command.kind {
        Some(Kind::Raise(raise)) => raise.version,
        _ => 0,
    });
    let found = raised.fold(batch.version, u32::max);
    if found > COMMAND_VERSION {
        return Err(ReplicaError::NewerCommands { index, found });
    }
    Ok(batch)
}

fn read_table(log: &dyn LogStore) -> Result<Table, ReplicaError> {
    if log.snapshot().index == 0 {
        return Ok(Table::new());
    }
    let mut restore = Restore::default();
    log.read_snapshot(&mut |part| restore.part(part))?;
    Ok(restore.finish()?)
}
