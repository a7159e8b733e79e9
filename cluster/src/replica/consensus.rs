//! What the replica asks of consensus.
//!
//! A trait of our own stands before the `raft` crate, which is slowly maintained.

use std::fmt::Debug;

use super::ReplicaError;
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

    /// Proposes an entry, here or by way of the leader. `false`: nobody leads.
    fn propose(&mut self, data: Vec<u8>) -> bool;

    /// Takes a message from another member.
    fn receive(&mut self, message: &[u8]) -> Result<(), ReplicaError>;

    /// Makes durable what must be, sends what is due, and appends what has been decided.
    fn advance(&mut self, committed: &mut Vec<Committed>) -> Result<(), ReplicaError>;

    /// Who leads.
    fn leadership(&self) -> Leadership;

    /// Begins a snapshot of a table that contains everything `advance` has handed out.
    fn begin_snapshot(&mut self, image: TableImage) -> Result<(), ReplicaError>;

    /// The log beneath.
    fn log(&self) -> &dyn LogStore;

    /// The log beneath, for its idle work.
    fn log_mut(&mut self) -> &mut dyn LogStore;
}
