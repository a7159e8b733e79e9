//! What happens in the world and some property may be about.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use holdfast_cluster::Effect;
use holdfast_cluster::records::{AccountingKind, SessionRow};
use holdfast_cluster::replica::Members;
use holdfast_protocol::{SessionId, TunnelId};

/// One tunnel of a LAC, from its SCCRQ on. Ids are used again, these are not.
pub type Attempt = u64;

/// A call of a LAC, in the same way.
pub type CallNumber = u32;

/// What a datagram for a LAC is about, as only the simulation knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A control message of this tunnel of ours.
    Tunnel(TunnelId),
    /// A PPP frame made for the row of this call.
    Call(CallNumber),
}

/// Why a subscriber who was online is not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The subscriber hung up, or the LAC cleared the call, closed the tunnel or restarted.
    Wanted,
    /// The LAC's control channel got no answer.
    GaveUp,
    /// The LNS started a negotiation anew.
    Renegotiated,
    /// The LNS ended the link.
    Terminated,
    /// The LNS cleared the call, and what it said.
    Cleared(String),
    /// The LNS closed the tunnel, and what it said.
    Closed(String),
}

/// A fact. Times are those of the step in which it is told.
#[derive(Debug)]
pub enum Fact {
    /// A node sends a control message of a tunnel.
    Control {
        node: u64,
        tunnel: TunnelId,
        to: SocketAddr,
        octets: Vec<u8>,
    },
    /// A node sends a PPP frame.
    Frame {
        node: u64,
        tunnel: TunnelId,
        session: SessionId,
        /// As the table has it.
        row: Arc<SessionRow>,
        /// As the session's core was last told.
        known: Arc<SessionRow>,
        octets: Vec<u8>,
    },
    /// A control message arrives at the tunnel of a LAC.
    ControlAtLac {
        lac: usize,
        attempt: Attempt,
        /// Our id of the tunnel that sent it.
        tunnel: TunnelId,
        nr: u16,
    },
    /// A PPP frame arrives at a call; `serial` is the number of the call that it was meant for.
    FrameAtLac { lac: usize, serial: u32, meant_for: u32 },
    /// A subscriber's interface comes up.
    ClientUp {
        lac: usize,
        serial: CallNumber,
        tunnel: TunnelId,
        session: SessionId,
        address: Ipv4Addr,
    },
    /// A subscriber's interface goes down.
    ClientDown {
        lac: usize,
        serial: CallNumber,
        loss: Loss,
    },
    /// A LAC's tunnel ended without its will.
    TunnelLost {
        lac: usize,
        attempt: Attempt,
        loss: Loss,
    },
    /// A LAC that had no tunnel wants one.
    TunnelWanted { lac: usize },
    /// A tunnel of a LAC is up.
    TunnelUp { lac: usize },
    /// A node's table changed.
    Effect { node: u64, effect: Effect },
    /// The Raft group has other members, as a node sees it that has `applied` so much.
    Members { applied: u64, members: Members },
    /// A node has had a turn of its table.
    Turn { node: u64 },
    /// A node lets a subscriber in.
    Granted {
        tunnel: TunnelId,
        session: SessionId,
        address: Ipv4Addr,
    },
    /// A RADIUS server says that a subscriber may come in.
    Accepted {
        user: Vec<u8>,
        /// Borne by no other Accept.
        class: Vec<u8>,
    },
    /// The accounting server has received a record.
    Accounted {
        sequence: u64,
        kind: AccountingKind,
        id: String,
        /// Of a Stop: from the subscriber.
        octets: Option<u64>,
    },
    /// A node may show what has been forwarded of a session's traffic, by all nodes as far as it knows.
    Counted { node: u64, id: String, octets: u64 },
    /// A process ends by itself.
    Died { node: u64, why: String },
    /// A node passes a datagram on, that had gone `before` so often from node to node.
    Relayed { node: u64, before: u32 },
}
