//! L2TPv2 (RFC 2661) without sockets, clocks, tasks or entropy.
//!
//! * [`header`], [`avp`] and [`message`] read and write octets; [`iana`] has the code points.
//! * [`Connection`] is a tunnel: the reliable control channel, the state machines of the tunnel and its calls.
//! * [`challenge`] authenticates a tunnel.
//!
//! Time is passed in as a [`std::time::Duration`] since an origin of the caller's choice; it never goes back.

pub mod avp;
mod call;
pub mod challenge;
mod channel;
mod connection;
pub mod header;
pub mod iana;
pub mod ids;
pub mod message;
mod secret;
mod sequence;

pub use call::{CallRole, CallSnapshot, CallState, Dial};
pub use channel::{DropReason, Progress, QueueFull};
pub use connection::{
    CallEnd, CallError, CloseReason, Connection, Event, Peer, RETENTION, Refusal, Settings, Snapshot, State,
    Tie, resolve_tie,
};
pub use ids::{SessionId, TunnelId};
pub use secret::Secret;
