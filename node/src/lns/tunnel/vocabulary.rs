//! What a tunnel asks of its shell, what it counts, and what its sessions ask of it.

use std::sync::Arc;

use holdfast_cluster::commands::{ChangeTunnel, SessionKey};
use holdfast_cluster::records::SessionRow;
use holdfast_protocol::iana::error_code;
use holdfast_protocol::message::{Cdn, Proxy};
use holdfast_protocol::{CloseReason, SessionId};

#[cfg(doc)]
use super::Tunnel;

/// What the shell has to do for its tunnel, in order.
#[derive(Debug)]
pub enum Command {
    /// Send this datagram to the peer.
    Transmit(Vec<u8>),
    /// Propose this change; the answer comes back through [`Tunnel::handle_verdict`].
    Propose(Arc<ChangeTunnel>),
    /// Propose to remove the tombstone; the answer comes back through [`Tunnel::handle_removal`].
    ProposeRemoval,
    /// The row of a connected call is accepted: its actor is born from it.
    StartSession {
        /// Which.
        session: SessionId,
        /// The accepted row.
        row: Arc<SessionRow>,
        /// What the ICCN's proxy AVPs brought; in no row, because they hold passwords.
        proxy: Option<Box<Proxy>>,
    },
    /// The session is over: its actor ends without another word.
    StopSession(SessionId),
    /// What the session asked for under `serial` is accepted.
    SessionAccepted {
        /// Which.
        session: SessionId,
        /// The session's own number for its request.
        serial: u32,
    },
    /// The tunnel is up.
    Established,
    /// The tunnel is down; a tombstone stays.
    Closed(CloseReason),
    /// The peer has acknowledged our StopCCN.
    Heard,
    /// A change was refused: this core is void, the tunnel has to be born again from its row.
    Rebirth(String),
    /// The tombstone is gone.
    Finished,
    /// Something to count.
    Count(Occurrence),
}

/// What a tunnel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// A control message arrived.
    ControlReceived,
    /// One that had arrived before.
    ControlDuplicate,
    /// A control message was dropped: malformed header, out of window, not for this tunnel.
    ControlDropped,
    /// A control message of ours is sent again.
    ControlRetransmitted,
    /// A call is offered.
    CallReceived,
    /// A call is refused.
    CallRefused(CallRefusal),
    /// The answer to a call is held back: its group is about to go to another node.
    CallHeld,
    /// A call ended before its ICCN.
    CallAbandoned,
    /// A message was at fault; what the RFC asks for has been done.
    Fault,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRefusal {
    /// The node takes no calls any more.
    ShuttingDown,
    /// The session table cannot grow.
    DiskFull,
    /// The cluster's limit of sessions.
    NodeSessions,
    /// The limit of sessions of the LAC's profile.
    ProfileSessions,
    /// The limit of sessions of one tunnel.
    TunnelSessions,
    /// No session id is free (S-82).
    NoSessionId,
}

impl CallRefusal {
    /// Error code (with result 2) and text for the LAC.
    pub(super) const fn answer(self) -> (u16, &'static str) {
        match self {
            Self::ShuttingDown => (error_code::TRY_ANOTHER, "shutting down"),
            Self::DiskFull => (error_code::NO_RESOURCES, "disk full"),
            Self::NodeSessions => (error_code::NO_RESOURCES, "session limit of the cluster reached"),
            Self::ProfileSessions => (error_code::NO_RESOURCES, "session limit of the LAC reached"),
            Self::TunnelSessions => (error_code::NO_RESOURCES, "session limit of the tunnel reached"),
            Self::NoSessionId => (error_code::NO_RESOURCES, "no free session id"),
        }
    }
}

/// What a session asks of its tunnel.
#[derive(Debug)]
pub enum SessionRequest {
    /// Commit this row. `serial` comes back in [`Command::SessionAccepted`].
    Put {
        /// The session's own number for this request.
        serial: u32,
        /// The row to be.
        row: Box<SessionRow>,
        /// A stale session of the same user whose place this one takes.
        replaces: Option<SessionKey>,
    },
    /// The link is being ended: should the LAC clear the call before we do, this is why.
    Ending {
        /// Acct-Terminate-Cause (RFC 2866 §5.10).
        terminate_cause: u32,
    },
    /// Clear the call.
    End {
        /// What the peer is told.
        cdn: Cdn,
        /// Acct-Terminate-Cause (RFC 2866 §5.10).
        terminate_cause: u32,
    },
}
