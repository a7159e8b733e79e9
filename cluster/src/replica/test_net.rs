//! Several replicas in one process on virtual time: a seeded transport that loses, doubles and delays, and logs that outlive
//! a process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use raft::eraftpb::{ConfState, Entry, HardState};

use super::{Members, Output, Replica, ReplicaConfig, Transport};
use crate::log::{LogError, LogSizes, LogStore, MemoryLog, Recovery, SnapshotMeta};
use crate::table::{RestoreError, TableImage};

/// A log in memory that its next process finds again.
#[derive(Clone, Debug)]
pub(super) struct SharedLog(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    log: MemoryLog,
    /// `LogStore` lends out both.
    recovery: Recovery,
}

/// [`SharedLog`] as one process holds it.
#[derive(Debug)]
struct HeldLog {
    shared: SharedLog,
    snapshot: SnapshotMeta,
    recovery: Recovery,
}

impl SharedLog {
    fn new(entries_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            log: MemoryLog::with_snapshots(entries_max),
            recovery: Recovery::default(),
        })))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("one thread")
    }

    fn hold(&self) -> HeldLog {
        let kept = self.kept();
        HeldLog {
            shared: self.clone(),
            snapshot: kept.log.snapshot().clone(),
            recovery: kept.recovery.clone(),
        }
    }
}

impl HeldLog {
    fn change<R>(&mut self, change: impl FnOnce(&mut MemoryLog) -> R) -> R {
        let mut kept = self.shared.kept();
        let result = change(&mut kept.log);
        self.snapshot = kept.log.snapshot().clone();
        result
    }
}

impl LogStore for HeldLog {
    fn bootstrap(&mut self, node_id: u64, members: &ConfState) -> Result<(), LogError> {
        self.change(|log| log.bootstrap(node_id, members))
    }
    fn recovery(&self) -> &Recovery {
        &self.recovery
    }
    fn hard_state(&self) -> HardState {
        self.shared.kept().log.hard_state()
    }
    fn snapshot(&self) -> &SnapshotMeta {
        &self.snapshot
    }
    fn last_index(&self) -> u64 {
        self.shared.kept().log.last_index()
    }
    fn term(&self, index: u64) -> Option<u64> {
        self.shared.kept().log.term(index)
    }
    fn entries(&self, low: u64, high: u64, octets_max: u64) -> Result<Vec<Entry>, LogError> {
        self.shared.kept().log.entries(low, high, octets_max)
    }
    fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        self.change(|log| log.append(entries))
    }
    fn set_hard_state(&mut self, hard_state: &HardState) -> Result<(), LogError> {
        self.change(|log| log.set_hard_state(hard_state))
    }
    fn sync(&mut self) -> Result<(), LogError> {
        Ok(())
    }
    fn read_snapshot(&self, part: &mut dyn FnMut(&[u8]) -> Result<(), RestoreError>) -> Result<(), LogError> {
        self.shared.kept().log.read_snapshot(part)
    }
    fn wants_snapshot(&self) -> bool {
        self.shared.kept().log.wants_snapshot()
    }
    fn begin_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError> {
        self.change(|log| log.begin_snapshot(meta, image))
    }
    fn finish_snapshot(&mut self) -> Result<Option<Result<u64, String>>, LogError> {
        self.change(MemoryLog::finish_snapshot)
    }
    fn install_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError> {
        self.change(|log| log.install_snapshot(meta, image))
    }
    fn maintain(&mut self) -> Result<(), LogError> {
        Ok(())
    }
    fn reserve_in_use(&self) -> bool {
        false
    }
    fn sizes(&self) -> LogSizes {
        self.shared.kept().log.sizes()
    }
}

/// From, to and the message.
type Sent = (u64, u64, Vec<u8>);

/// What was sent and not taken off yet.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<Mutex<Vec<Sent>>>);

#[derive(Debug)]
struct Port {
    from: u64,
    wire: Wire,
}

impl Transport for Port {
    fn send(&mut self, to: u64, message: Vec<u8>) {
        self.wire
            .0
            .lock()
            .expect("one thread")
            .push((self.from, to, message));
    }
}

/// SplitMix64: the seed is all the randomness there is.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % bound
    }
}

/// A group on virtual time, in steps of 1 ms.
pub(super) struct Net {
    nodes: BTreeMap<u64, Replica>,
    logs: BTreeMap<u64, SharedLog>,
    wire: Wire,
    /// By the moment of arrival.
    arriving: BTreeMap<(u64, u64), Sent>,
    /// Cut off, though they run.
    pub(super) cut: BTreeSet<u64>,
    random: Random,
    /// Of a hundred messages; as many are doubled.
    pub(super) lost: u64,
    /// Most messages take 1 ms, one in ten up to this.
    pub(super) delay_ms: u64,
    /// Octets of the largest message.
    pub(super) largest: usize,
    ms: u64,
    sent: u64,
    boots: u64,
    accepted: BTreeSet<u64>,
    unanswered: BTreeSet<u64>,
    replaced: BTreeSet<u64>,
    /// The leaders by term: there is one.
    leaders: BTreeMap<u64, u64>,
    /// The node that may end, and how it did.
    tolerated: Option<u64>,
    ended: Option<String>,
}

impl Net {
    pub(super) fn new(seed: u64, members: &[u64]) -> Self {
        let mut net = Self {
            nodes: BTreeMap::new(),
            logs: BTreeMap::new(),
            wire: Wire::default(),
            arriving: BTreeMap::new(),
            cut: BTreeSet::new(),
            random: Random(seed),
            lost: 0,
            delay_ms: 1,
            largest: 0,
            ms: 0,
            sent: 0,
            boots: 0,
            accepted: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            replaced: BTreeSet::new(),
            leaders: BTreeMap::new(),
            tolerated: None,
            ended: None,
        };
        for id in members {
            net.start(*id, members);
        }
        net
    }

    /// Starts a process, on the log of its predecessor if there was one.
    pub(super) fn start(&mut self, id: u64, members: &[u64]) {
        self.boots += 1;
        let log = self.logs.entry(id).or_insert_with(|| SharedLog::new(30));
        let config = ReplicaConfig {
            node_id: id,
            members: members.to_vec(),
            boot: self.boots,
        };
        let wire = self.wire.clone();
        let (replica, _) = Replica::open_with(config, log.hold(), Port { from: id, wire }).expect("opens");
        self.nodes.insert(id, replica);
    }

    /// The process ends; its log stays.
    pub(super) fn kill(&mut self, id: u64) {
        self.nodes.remove(&id).expect("it runs");
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Replica {
        self.nodes.get_mut(&id).expect("it runs")
    }

    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.step();
        }
    }

    /// Runs until it is so; how long that took, in ms.
    pub(super) fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) -> u64 {
        let from = self.ms;
        while !so(self) {
            assert!(self.ms - from < 20_000, "not within 20 s: {what}");
            self.step();
        }
        self.ms - from
    }

    fn step(&mut self) {
        self.ms += 1;
        let now = Duration::from_millis(self.ms);
        while let Some(entry) = self
            .arriving
            .first_entry()
            .filter(|entry| entry.key().0 <= self.ms)
        {
            let (from, to, message) = entry.remove();
            let cut = self.cut.contains(&from) || self.cut.contains(&to);
            if let Some(node) = self.nodes.get_mut(&to).filter(|_| !cut) {
                match node.receive(&message) {
                    Ok(()) => {}
                    Err(error) if self.tolerated == Some(to) => {
                        self.nodes.remove(&to);
                        self.ended = Some(error.to_string());
                    }
                    Err(error) => panic!("node {to}: {error}"),
                }
            }
        }
        for (id, node) in &mut self.nodes {
            // Ticks fall at another moment in each node.
            if (self.ms + id * 3).is_multiple_of(10) {
                node.tick(now, Duration::ZERO).expect("ticks");
            }
            node.advance().expect("advances");
            let leadership = node.leadership();
            if leadership.is_self {
                let leader = *self.leaders.entry(leadership.term).or_insert(*id);
                assert_eq!(leader, *id, "two leaders in term {}", leadership.term);
            }
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Verdict { token, verdict } if verdict.is_accepted() => {
                        self.accepted.insert(token);
                    }
                    Output::Unanswered { token } => {
                        self.unanswered.insert(token);
                    }
                    Output::Effect(crate::Effect::TableReplaced) => {
                        self.replaced.insert(*id);
                    }
                    _ => {}
                }
            }
        }
        self.transmit();
    }

    fn transmit(&mut self) {
        let sent = std::mem::take(&mut *self.wire.0.lock().expect("one thread"));
        for message in sent {
            self.largest = self.largest.max(message.2.len());
            let dice = self.random.below(100);
            let copies = match dice {
                dice if dice < self.lost => 0,
                dice if dice < 2 * self.lost => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let late = self.random.below(10) == 0;
                let delay = if late {
                    1 + self.random.below(self.delay_ms)
                } else {
                    1
                };
                self.sent += 1;
                self.arriving
                    .insert((self.ms + delay, self.sent), message.clone());
            }
        }
    }

    /// Whom all that run and are not cut off follow.
    pub(super) fn leader(&self) -> Option<u64> {
        let mut reached = self.nodes.iter().filter(|(id, _)| !self.cut.contains(id));
        let leader = reached.clone().find(|(_, node)| node.leadership().is_self)?;
        let followed = reached.all(|(_, node)| node.leadership().leader == Some(*leader.0));
        followed.then_some(*leader.0)
    }

    pub(super) fn elect(&mut self) -> u64 {
        self.until("a leader", |net| net.leader().is_some());
        self.leader().expect("just seen")
    }

    /// As `elect`, of these alone: others may not belong to the group yet.
    pub(super) fn until_leader_of(&mut self, ids: &[u64]) -> u64 {
        let leader = |net: &Self| {
            let leaders = ids.iter().map(|id| net.nodes[id].leadership().leader);
            let mut leaders: Vec<_> = leaders.collect();
            leaders.dedup();
            leaders[0].filter(|leader| leaders.len() == 1 && net.nodes[leader].leadership().is_self)
        };
        self.until("a leader", |net| leader(net).is_some());
        leader(self).expect("just seen")
    }

    pub(super) fn have(&self, id: u64, members: &Members) -> bool {
        self.nodes[&id].members() == *members
    }

    pub(super) fn is_caught_up(&self, id: u64) -> bool {
        self.nodes[&id].is_caught_up()
    }

    pub(super) fn all_use(&self, version: u32) -> bool {
        self.nodes.values().all(|node| node.table().version() == version)
    }

    pub(super) fn lose_disk(&mut self, id: u64) {
        self.logs.remove(&id);
    }

    /// Runs until a message ends the node; how it says so.
    pub(super) fn until_final(&mut self, id: u64) -> String {
        let from = self.ms;
        self.tolerated = Some(id);
        while self.ended.is_none() {
            assert!(self.ms - from < 20_000, "it goes on");
            self.step();
        }
        self.ended.clone().expect("just seen")
    }

    pub(super) fn is_accepted(&self, token: u64) -> bool {
        self.accepted.contains(&token)
    }

    pub(super) fn is_unanswered(&self, token: u64) -> bool {
        self.unanswered.contains(&token)
    }

    pub(super) fn got_the_whole_table(&self, id: u64) -> bool {
        self.replaced.contains(&id)
    }

    pub(super) fn all_have(&self, members: &Members) -> bool {
        self.nodes.values().all(|node| node.members() == *members)
    }

    /// Whether all have applied the same entries, and then their tables are the same.
    pub(super) fn agree(&self) -> bool {
        let applied: BTreeSet<u64> = self.nodes.values().map(|node| node.table().applied()).collect();
        if applied.len() > 1 {
            return false;
        }
        let digests: BTreeSet<u64> = self.nodes.values().map(|node| node.table().digest()).collect();
        assert_eq!(digests.len(), 1, "one index, two tables");
        true
    }
}

/// How many messages node 1 drops, with an empty log and these first members, when node 2 of some lineage asks it for its vote.
pub(super) fn messages_dropped_by(members: &[u64], sender: super::Lineage) -> u64 {
    use prost::Message as _;
    use raft::eraftpb::{Message, MessageType};
    let config = ReplicaConfig {
        node_id: 1,
        members: members.to_vec(),
        boot: 1,
    };
    let opened = Replica::open_with(config, MemoryLog::default(), super::NoTransport);
    let (mut replica, _) = opened.expect("an empty log opens");
    let question = Message {
        msg_type: MessageType::MsgRequestVote as i32,
        from: 2,
        to: 1,
        term: 5,
        ..Message::default()
    };
    let envelope = crate::peer::Envelope {
        from: 2,
        version: crate::limits::COMMAND_VERSION,
        generation: sender.generation,
        fresh: sender.fresh,
        kind: Some(crate::peer::envelope::Kind::Raft(question.encode_to_vec())),
    };
    replica.receive(&envelope.encode_to_vec()).expect("no error");
    replica.messages_dropped()
}
