//! What the table's thread publishes for all to read without asking: a few atomics, written by that thread alone.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};

use holdfast_cluster::Table;
use holdfast_cluster::table::Group;
use holdfast_protocol::TunnelId;

use super::accounting::Desk;
use crate::api::TableStatus;

/// See the module.
#[derive(Debug)]
pub struct Published {
    pub(super) me: u64,
    pub(super) table_ms: AtomicU64,
    pub(super) reserve_in_use: AtomicBool,
    pub(super) epochs: [AtomicU32; 256],
    pub(super) owners: [AtomicU64; 256],
    pub(super) bearing: AtomicBool,
    pub(super) term: AtomicU64,
    pub(super) leader: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) is_leader: AtomicBool,
    pub(super) waiting: AtomicUsize,
    pub(super) applied: AtomicU64,
    pub(super) log_octets: AtomicU64,
    pub(super) snapshot_octets: AtomicU64,
    pub(super) caught_up: AtomicBool,
    pub(super) incarnation: AtomicU64,
    pub(super) stopped: AtomicBool,
    pub(super) failure: OnceLock<String>,
    /// What the table's thread notes for accounting.
    pub accounting: Desk,
}

impl Published {
    pub(super) fn new(me: u64) -> Self {
        Self {
            me,
            table_ms: AtomicU64::new(0),
            reserve_in_use: AtomicBool::new(false),
            epochs: std::array::from_fn(|_| AtomicU32::new(0)),
            owners: std::array::from_fn(|_| AtomicU64::new(0)),
            bearing: AtomicBool::new(false),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            version: AtomicU32::new(1),
            is_leader: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            applied: AtomicU64::new(0),
            log_octets: AtomicU64::new(0),
            snapshot_octets: AtomicU64::new(0),
            caught_up: AtomicBool::new(false),
            incarnation: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            failure: OnceLock::new(),
            accounting: Desk::default(),
        }
    }

    /// The last log index that was applied.
    pub fn applied(&self) -> u64 {
        self.applied.load(Relaxed)
    }

    /// What the table says before anything more is applied to it.
    pub(super) fn adopt(&self, table: &Table) {
        self.table_ms.store(table.now_ms(), Relaxed);
        self.applied.store(table.applied(), Relaxed);
        for group in 0..=u8::MAX {
            let Group { owner, epoch, .. } = table.group(group);
            self.set_owner(group, owner, epoch);
        }
    }

    /// The incarnation under which this process has taken its groups.
    pub fn set_incarnation(&self, incarnation: u64) {
        self.incarnation.store(incarnation, Relaxed);
    }

    /// Whether this node knows a leader and has applied what that has committed.
    pub fn caught_up(&self) -> bool {
        self.caught_up.load(Relaxed)
    }

    /// Table time in milliseconds, as last applied.
    pub fn table_ms(&self) -> u64 {
        self.table_ms.load(Relaxed)
    }

    /// The version of commands and rows that all members know.
    pub fn version(&self) -> u32 {
        self.version.load(Relaxed)
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        self.is_leader.load(Relaxed)
    }

    /// Whether the disk is full and only the reserve keeps acknowledgements going.
    pub fn reserve_in_use(&self) -> bool {
        self.reserve_in_use.load(Relaxed)
    }

    /// Whether the thread has ended.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Why it has, if not because it was told to.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// For `holdfast status`.
    pub fn status(&self) -> TableStatus {
        let role = if self.is_leader.load(Relaxed) {
            "leader"
        } else {
            "follower"
        };
        TableStatus {
            role: role.into(),
            leader_id: self.leader.load(Relaxed),
            term: self.term.load(Relaxed),
            commit_index: self.applied.load(Relaxed),
            applied_index: self.applied.load(Relaxed),
            log_octets: self.log_octets.load(Relaxed),
            snapshot_octets: self.snapshot_octets.load(Relaxed),
        }
    }

    /// The epoch of a group's owner.
    pub fn epoch(&self, group: u8) -> u32 {
        self.epochs[usize::from(group)].load(Relaxed)
    }

    /// The epoch under which this node owns a group; `None` if it does not. A life of any other epoch is another node's: whoever
    /// took it would be accepted in that one's place.
    pub fn own_epoch(&self, group: u8) -> Option<u32> {
        // The owner is written first and read last: who reads a new epoch reads its owner, too.
        let epoch = self.epochs[usize::from(group)].load(Acquire);
        (self.owners[usize::from(group)].load(Acquire) == self.me).then_some(epoch)
    }

    pub(super) fn set_owner(&self, group: u8, owner: u64, epoch: u32) {
        self.owners[usize::from(group)].store(owner, Release);
        self.epochs[usize::from(group)].store(epoch, Release);
    }

    /// This node.
    pub fn me(&self) -> u64 {
        self.me
    }

    /// The node that owns a group; 0: nobody yet.
    pub fn owner(&self, group: u8) -> u64 {
        self.owners[usize::from(group)].load(Relaxed)
    }

    /// Whether this node acts for a tunnel.
    pub fn owns(&self, tunnel: TunnelId) -> bool {
        self.owner(tunnel.group()) == self.me
    }

    /// The groups that this node acts for.
    pub fn own_groups(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|group| self.owner(*group) == self.me)
    }

    /// From now on the tunnels of each group that this node is given are born at once.
    pub fn bear(&self) {
        self.bearing.store(true, Relaxed);
    }
}
