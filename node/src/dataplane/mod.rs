//! What happens to one packet: pure code on octets in place (RFC 2661 §3.1, §5.4; RFC 1661; RFC 791; RFC 8200).
//!
//! Nothing here opens, reads or writes a descriptor, looks at a clock or allocates per packet. A shard of [`crate::io`]
//! owns one [`Table`] and asks [`uplink`] what a datagram from a LAC is and [`downlink`] how an IP packet for a
//! subscriber leaves.
//!
//! ```text
//!   datagram --> header --> uplink: shard? tunnel? peer? session? Ns? PPP? link scope, source, filters, rate? --> TUN | control | echo | drop
//!                packets of one flow in a batch --> offload::coalesce --> one for the TUN
//!   IP packet --> downlink: route --> filters --> numbered elsewhere? --> MSS --> rate: wait? --> size: fragment, too big --> Ns, L2TP, PPP --> datagram
//! ```
//!
//! Deliberately absent: reassembly of outer fragments (the kernel does it), TTL (the kernel routes), compression,
//! Multilink.

pub mod checksum;
pub mod counters;
pub mod downlink;
pub mod entry;
pub mod filter;
pub mod fragment;
pub mod header;
pub mod icmp;
pub mod ip;
pub mod lcp_echo;
mod link_scope;
pub mod mss;
pub mod offload;
pub mod rate;
pub mod routes;
pub mod sequence;
pub mod slab;
pub mod table;
pub mod uplink;

pub use counters::{DropReason, SessionShared, SessionTotals, ShardCounters, ShardTotals, TunnelShared};
pub use entry::{SessionEntry, SessionRoute, TableUpdate, TunnelEntry};
pub use lcp_echo::Magics;
pub use table::Table;
