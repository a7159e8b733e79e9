//! Accounting (RFC 2866): what the servers are told of each session, and that they hear it. Pure: time, rows and what the packet
//! threads counted are handed in.
//!
//! The session table owes a Start when a session opens and a Stop when it is gone. The owner of the session's group delivers them:
//! `sender` decides what is sent when, `record` what it says, `interim` when a session is due in between, and `closing` when the traffic of
//! one that has ended is known to the last octet.
//!
//! **Accounting-On** is sent by the leader of a table that has never owed a record: the cluster has just been founded, and sessions that
//! a server still knows under our name are over. A restart, a takeover or an upgrade sends none, for sessions outlive them. Nothing sends an
//! Accounting-Off: a session that ends has its own Stop.

pub mod closing;
pub mod interim;
pub mod record;
pub mod sender;

pub use closing::Closing;
pub use interim::Interims;
pub use record::Nas;
pub use sender::{Interim, Key, Request, Sender};

use holdfast_cluster::records::SessionRow;

/// The group of servers that a session is accounted to: the one that granted it. `None`: the configuration's own users are not.
pub fn server_group(session: &SessionRow) -> Option<&str> {
    let identity = session.ppp.as_ref()?.identity.as_ref()?;
    Some(identity.server_group.as_str()).filter(|group| !group.is_empty())
}
