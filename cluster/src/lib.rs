//! The replicated session table.
//!
//! * [`records`] and [`commands`]: what the table holds and what may be proposed to it.
//! * [`table`]: the deterministic state machine. `apply` judges, rows and effects come out.
//! * [`replica`]: the driver of consensus: proposals in, verdicts and effects out, in order.
//! * [`log`]: the durable log and snapshots beneath it.
//! * [`liveness`]: who is alive, who may act, and whose groups need a new owner.
//! * [`way`]: whether a node reaches the LACs.
//! * [`hold`]: the queue of relays that wait for an owner.
//!
//! There are no clocks, sockets or tasks here. The disk is behind [`log::Disk`], peers are behind
//! [`replica::Transport`], and time is passed in. [`log::DiskLog`] alone starts a thread, to write snapshots.

pub mod hold;
pub mod limits;
pub mod liveness;
pub mod log;
pub mod replica;
pub mod table;
pub mod way;

mod ids;
#[cfg(test)]
mod testing;

pub use ids::first_life;
pub use replica::{Output, Replica, ReplicaConfig, ReplicaError};
pub use table::{AddressRefusal, Effect, Refusal, Table, Verdict};

/// The rows of the table (proto/records.proto).
#[allow(clippy::all)]
pub mod records {
    include!(concat!(env!("OUT_DIR"), "/holdfast.records.rs"));
}

/// What is proposed to the table (proto/commands.proto).
#[allow(clippy::all)]
pub mod commands {
    include!(concat!(env!("OUT_DIR"), "/holdfast.commands.rs"));
}

/// The table as a snapshot holds it (proto/snapshot.proto).
#[allow(clippy::all)]
mod snapshot {
    include!(concat!(env!("OUT_DIR"), "/holdfast.snapshot.rs"));
}

/// What log and snapshot files hold (proto/log.proto).
#[allow(clippy::all)]
mod log_records {
    include!(concat!(env!("OUT_DIR"), "/holdfast.log.rs"));
}

/// What nodes ask each other to learn who is alive (proto/probes.proto).
#[allow(clippy::all)]
pub mod probes {
    include!(concat!(env!("OUT_DIR"), "/holdfast.probes.rs"));
}

/// What one member's replica sends to another's (proto/peer.proto).
#[allow(clippy::all)]
mod peer {
    include!(concat!(env!("OUT_DIR"), "/holdfast.peer.rs"));
}
