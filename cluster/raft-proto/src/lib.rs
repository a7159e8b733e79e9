//! The messages of the `raft` crate, on prost 0.14.
//!
//! The published `raft-proto` needs either protobuf 2 or `protoc` and prost 0.11. This crate takes its place
//! through `[patch.crates-io]`: the same messages, compiled by protox, with the accessors that `raft` 0.7 calls.
//! It adds nothing of its own.

mod accessors;
mod confchange;
mod confstate;

pub use crate::confchange::{ConfChangeI, new_conf_change_single, parse_conf_change, stringify_conf_change};
pub use crate::confstate::conf_state_eq;

/// The generated messages.
#[allow(clippy::all, missing_docs)]
pub mod eraftpb {
    include!(concat!(env!("OUT_DIR"), "/eraftpb.rs"));
}

/// The names that `raft::prelude` hands on.
pub mod prelude {
    pub use crate::eraftpb::{
        ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
        EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
    };
}

/// Conversions that `raft` expects to find here.
pub mod util {
    use crate::eraftpb::ConfState;

    impl<V, L> From<(V, L)> for ConfState
    where
        V: IntoIterator<Item = u64>,
        L: IntoIterator<Item = u64>,
    {
        fn from((voters, learners): (V, L)) -> Self {
            ConfState {
                voters: voters.into_iter().collect(),
                learners: learners.into_iter().collect(),
                ..ConfState::default()
            }
        }
    }
}
