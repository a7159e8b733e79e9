//! L2TPv2 (RFC 2661) without sockets, clocks, tasks or entropy.

pub mod ids;

pub use ids::{SessionId, TunnelId};
