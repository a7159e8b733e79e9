//! What the replica asks of consensus.
//!
//! A trait of our own stands before the `raft` crate, which is slowly maintained.

use std::fmt::Debug;

use super::ReplicaError;
use super::lineage::Lineage;
use super::members::{MemberChange, Members, MembersError, Progress, TransferError};
use crate::log::LogStore;
use crate::table::{Table, TableImage};

/// Something that is decided.
#[derive(Debug)]
pub enum Committed {
    /// A log entry. Without data it is consensus' own affair.
    Entry {
        /// Its index.
        index: u64,
        /// What was proposed.
        data: Vec<u8>,
    },
    /// The leader sent the whole table; what follows builds on it.
    Table(Box<Table>),
    /// The group has these members from here on.
    Members(Members),
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Counts the elections.
    pub term: u64,
    /// `None` while nobody leads, as far as is known here.
    pub leader: Option<u64>,
    /// Whether it is this node.
    pub is_self: bool,
}

/// Carries messages to other members. They may be lost, doubled and overtake each other.
pub trait Transport: Debug + Send {
    /// Sends a message to a member, without waiting.
    fn send(&mut self, to: u64, message: Vec<u8>);
}

/// For a group of one.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTransport;

impl Transport for NoTransport {
    fn send(&mut self, _to: u64, _message: Vec<u8>) {}
}

/// A group of nodes that agrees on one order of entries.
pub trait Consensus: Debug + Send {
    /// 10 ms have passed.
    fn tick(&mut self);

    /// Whether `propose` would take an entry: somebody leads, and leadership is not being passed on from here.
    fn can_propose(&self) -> bool;

    /// Proposes an entry, here or by way of the leader. `false`: it was not taken.
    fn propose(&mut self, data: Vec<u8>) -> bool;

    /// Takes a message from another member. One that makes no sense, or that comes from a node that is gone, is dropped and counted.
    fn receive(&mut self, message: &[u8]) -> Result<(), ReplicaError>;

    /// Makes durable what must be, sends what is due, and appends what has been decided.
    fn advance(&mut self, committed: &mut Vec<Committed>) -> Result<(), ReplicaError>;

    /// Who leads.
    fn leadership(&self) -> Leadership;

    /// The members as of the last entry handed out.
    fn members(&self) -> Members;

    /// Which cluster this node belongs to.
    fn lineage(&self) -> Lineage;

    /// Proposes other members.
    fn propose_members(&mut self, changes: &[MemberChange]) -> Result<(), MembersError>;

    /// Passes leadership on.
    fn transfer_leadership(&mut self, to: u64) -> Result<(), TransferError>;

    /// How far the members are, by id. Empty unless this node leads.
    fn progress(&self) -> Vec<Progress>;

    /// The last entry known to be decided.
    fn commit_index(&self) -> u64;

    /// What was decided in the group when this process first heard of a leader; `None` while it does not know.
    fn caught_up_at(&self) -> Option<u64>;

    /// The version of commands that every member knows. `None` where this node does not lead or has not heard all.
    fn common_version(&self) -> Option<u32>;

    /// Something sent to a member did not arrive.
    fn report_unreachable(&mut self, id: u64);

    /// Messages dropped by `receive`.
    fn messages_dropped(&self) -> u64;

    /// Whether a member needs the whole table, as it is after everything that `advance` has handed out.
    fn wants_image(&self) -> bool;

    /// The table for such a member.
    fn offer_image(&mut self, image: TableImage);

    /// Begins a snapshot of a table that contains everything `advance` has handed out.
    fn begin_snapshot(&mut self, image: TableImage) -> Result<(), ReplicaError>;

    /// The log beneath.
    fn log(&self) -> &dyn LogStore;

    /// The log beneath, for its idle work.
    fn log_mut(&mut self) -> &mut dyn LogStore;
}
