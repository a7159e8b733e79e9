//! The operator's socket: a Unix socket whose file permissions are the access control.
//!
//! One JSON object a line, both ways. The server turns each request into a call on a [`Backend`], the client is
//! what the program's own subcommands use.

pub mod client;
pub mod cluster;
pub mod listener;
pub mod server;
#[cfg(test)]
mod tests;
pub mod types;

pub use client::{Client, ClientError};
pub use cluster::{ClusterOrder, ClusterStatus, NodeStatus};
pub use listener::{BindError, Listener};
pub use server::{Backend, serve};
pub use types::{
    ApiError, Envelope, ErrorCode, Fault, Page, PoolStatus, PrefixPoolStatus, RadiusStatus, ReloadReport,
    Reply, Request, SessionInfo, ShardStatus, StateCount, StatusReport, TableStatus, Target, TunStatus,
    TunnelInfo, VERSION,
};
