//! What `apply` answers, and what it tells the node to do.

use std::sync::Arc;

use holdfast_protocol::{SessionId, TunnelId};

use crate::records::{SessionRow, TunnelRow};

/// The table's answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The change is in the table, since this log index or before it.
    Accepted {
        /// The log entry that was judged.
        index: u64,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

impl Verdict {
    /// Whether the change is in the table.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }
}

/// Why a command was refused. The owner of a refused change is born again from the row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The command contradicts itself or the row: a mistake of the proposer.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A process of this node with a higher incarnation has acted.
    #[error("incarnation {incarnation} of node {node} is over: {current} has taken its place")]
    StaleIncarnation {
        /// The node that asked.
        node: u64,
        /// What it called itself.
        incarnation: u64,
        /// The highest that was seen.
        current: u64,
    },
    /// Groups cannot go to a node of which no process has taken part.
    #[error("node {0} has not registered")]
    NotRegistered(u64),
    /// None of the nodes that are named can have the groups.
    #[error("none of the nodes named can own groups")]
    NobodyLives,
    /// Only its owner's node changes a tunnel.
    #[error("node {origin} changes a tunnel of node {owner}")]
    NotOwner {
        /// The node that proposed it.
        origin: u64,
        /// The owner; 0: nobody.
        owner: u64,
    },
    /// Another actor or owner is in charge of the tunnel.
    #[error("life {life:#x} is over, {current:#x} is in charge")]
    Deposed {
        /// The life in the command.
        life: u64,
        /// The life that may change the row.
        current: u64,
    },
    /// The change is not the next one.
    #[error("revision {revision} cannot follow {current}")]
    RevisionGap {
        /// The revision in the command.
        revision: u64,
        /// The row's.
        current: u64,
    },
    /// There is no such tunnel.
    #[error("no tunnel {0}")]
    NoTunnel(u32),
    /// There is no such session.
    #[error("no session {0} in the tunnel")]
    NoSession(u32),
    /// The tunnel id is in use.
    #[error("tunnel id {0} is taken")]
    TunnelIdTaken(TunnelId),
    /// The session id was in use less than `limits::ID_REST_MS` ago, or the tunnel id was.
    #[error("id {0} rests after its last use")]
    IdResting(u16),
    /// The peer's half-open key is in use.
    #[error("the peer already has the half-open tunnel {tunnel} at node {owner}")]
    HalfOpen {
        /// The tunnel that has it.
        tunnel: TunnelId,
        /// The node that owns that one, to which the SCCRQ is relayed.
        owner: u64,
    },
    /// The tunnel is in no state to hold sessions.
    #[error("the tunnel is not established")]
    NotEstablished,
    /// A session may not have an address that it asks for.
    #[error("session {session} may not have its address: {why}")]
    Address {
        /// The session that asks, of the tunnel that changes.
        session: SessionId,
        /// Why not.
        why: AddressRefusal,
    },
    /// The session was replaced by another of its user and can only be removed.
    #[error("the session was replaced by another one of its user")]
    Replaced,
    /// A tombstone's time is not over.
    #[error("{remaining_ms} ms too early")]
    TooEarly {
        /// Table time that is left.
        remaining_ms: u64,
    },
    /// A named limit is reached.
    #[error("limit reached: {0}")]
    Full(&'static str),
}

/// Why a session may not have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefusal {
    /// It is in use by another session.
    #[error("it is in use by session {session} of tunnel {tunnel}")]
    Taken {
        /// The holder.
        tunnel: TunnelId,
        /// The holder.
        session: SessionId,
    },
    /// It was another user's less than `limits::ADDRESS_REST_MS` ago.
    #[error("it rests after its last use")]
    Resting,
    /// The session that has it, and is to be replaced, belongs to another user.
    #[error("the session to be replaced is another user's")]
    OtherUser,
    /// `limits::RELEASES_MAX` addresses rest.
    #[error("too many released addresses are remembered")]
    Full,
}

/// A change of the table that the node acts on, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A group has a new owner or incarnation; all its tunnels' earlier lives are over.
    GroupTaken {
        /// 0..=255.
        group: u8,
        /// The node.
        owner: u64,
        /// Its epoch.
        epoch: u32,
    },
    /// A tunnel was created or changed.
    TunnelChanged {
        /// Which.
        tunnel: TunnelId,
        /// As it is now.
        row: Arc<TunnelRow>,
    },
    /// A tombstone is gone.
    TunnelRemoved {
        /// Which.
        tunnel: TunnelId,
    },
    /// A session was created or changed.
    SessionChanged {
        /// Its tunnel.
        tunnel: TunnelId,
        /// Which.
        session: SessionId,
        /// As it is now.
        row: Arc<SessionRow>,
        /// Whether data could flow before.
        before_open: bool,
        /// Whether data can flow now.
        after_open: bool,
    },
    /// A session of the same user took this one's addresses. It is closed in the table already (a
    /// `SessionChanged` precedes this); its owner has to tell the peer and remove it.
    SessionReplaced {
        /// Its tunnel.
        tunnel: TunnelId,
        /// Which.
        session: SessionId,
    },
    /// A session is gone.
    SessionRemoved {
        /// Its tunnel.
        tunnel: TunnelId,
        /// Which.
        session: SessionId,
        /// As it was.
        row: Arc<SessionRow>,
    },
    /// An accounting record joined the outbox (`Table::outbox`).
    AccountingOwed {
        /// Its number.
        sequence: u64,
    },
    /// The whole table was replaced by a snapshot: whatever was derived from it is to be derived anew.
    TableReplaced,
}
