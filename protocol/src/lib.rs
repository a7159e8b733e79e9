//! L2TPv2 (RFC 2661) without sockets, clocks, tasks or entropy.
//!
//! * [`header`], [`avp`] and [`message`] read and write octets; [`iana`] has the code points.
//! * [`challenge`] authenticates a tunnel, [`sequence`] judges numbered data messages.
//!
//! Time is passed in as a [`std::time::Duration`] since an origin of the caller's choice; it never goes back.

pub mod avp;
pub mod challenge;
pub mod header;
pub mod iana;
pub mod ids;
pub mod message;
mod secret;
pub mod sequence;

pub use ids::{SessionId, TunnelId};
pub use secret::Secret;
