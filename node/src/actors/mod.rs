//! The shells around [`crate::lns`]: actors that carry out its commands, and the thread that owns the session table.
//!
//! ```text
//!   packet thread --inbound (bounded)--> ShardActor --> TunnelActor --> SessionActor     one Arbiter a shard
//!                                            ^               |  ^            |
//!                                            | verdicts      |  +--requests--+
//!                                            |               v proposals (bounded)
//!                                         table thread (Raft, log, apply) --> forwarding tables of all shards
//! ```
//!
//! A handler that panics is contained by [`supervision`]: the core is dropped and born again from its row. No packet of a
//! subscriber's data passes through here.

pub mod accept;
pub mod accounting;
pub mod act;
pub mod agreement;
pub mod claims;
pub mod context;
pub mod directory;
pub mod filtering;
pub mod forwarding;
pub mod handover;
pub mod judgement;
pub mod members;
pub mod orders;
pub mod passage;
pub mod prefixes;
pub mod published;
pub mod reach;
pub mod relay;
pub mod reports;
pub mod session;
pub mod shard;
pub mod subscriber;
pub mod supervision;
pub mod table;
pub mod tunnel;
