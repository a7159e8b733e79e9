//! What a connection tells its owner.

use thiserror::Error;

use crate::avp::{Accm, CallErrors, Fault, ResultCode};
use crate::channel::QueueFull;
use crate::ids::SessionId;
use crate::message::{Cdn, Iccn, Icrq};

/// Something the owner must know. Drained after every input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The tunnel is open for calls; `Connection::peer` says to whom.
    Established,
    /// The tunnel is no more, and its calls with it, without a word on each. It goes on acknowledging until
    /// `Finished`.
    Closed(CloseReason),
    /// The connection may be dropped: it neither takes nor sends anything any more.
    Finished,
    /// LNS: a call is offered. Answer with `accept_call` or `reject_call` before the progress is proposed, since
    /// a restored connection no longer knows of it.
    CallRequested {
        /// The peer's session id.
        peer: SessionId,
        /// What it tells of the call.
        icrq: Box<Icrq>,
    },
    /// LNS: data may flow. The ICCN is not sent again: keep what is of use.
    CallConnected {
        /// Our session id.
        local: SessionId,
        /// What the peer tells of the call.
        iccn: Box<Iccn>,
    },
    /// LAC: the peer takes the call; data may flow.
    CallAnswered {
        /// Our session id.
        local: SessionId,
        /// The peer's session id.
        peer: SessionId,
    },
    /// A call ended other than by `close_call`. `local` is `None` for a request that was not answered yet.
    CallClosed {
        /// Our session id.
        local: Option<SessionId>,
        /// The peer's session id.
        peer: Option<SessionId>,
        /// Why.
        reason: CallEnd,
    },
    /// Errors of the line, as the LAC counts them.
    WanErrors {
        /// Our session id.
        local: SessionId,
        /// Since the call began.
        errors: CallErrors,
    },
    /// LAC: the character maps to use.
    SetLinkInfo {
        /// Our session id.
        local: SessionId,
        /// The maps.
        accm: Accm,
    },
    /// For the log and the counters: a message was at fault. What had to be done about it was done.
    Fault(Fault),
}

/// Why a tunnel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer's StopCCN; `None` if it was unreadable.
    Peer(Option<ResultCode>),
    /// Our StopCCN.
    Local(ResultCode),
    /// The peer acknowledged nothing for a full retransmission cycle.
    NoAnswer,
    /// The peer's SCCRQ won over ours.
    TieLost,
}

/// Why a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// The peer's CDN; `None` if it was unreadable.
    Peer(Option<Box<Cdn>>),
    /// Our CDN: a deadline, a fault, or a message out of place.
    Local(ResultCode),
    /// The peer gave the session's id to a new call.
    Replaced,
}

/// Why a call's verb had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No such call, or no such request.
    #[error("no such call")]
    Unknown,
    /// The session id names another call.
    #[error("the session id is in use")]
    InUse,
    /// The tunnel is not open.
    #[error("the tunnel is not open")]
    NotOpen,
    /// There is no room for the message. The peer's own timers end the call.
    #[error(transparent)]
    QueueFull(#[from] QueueFull),
}
