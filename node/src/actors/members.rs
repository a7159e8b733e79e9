//! The other members of the cluster, as this node sees them.
//!
//! [`Members`] is what everybody may read; [`Membership`] belongs to the table's thread, runs the failure detector and says which
//! groups have to go to somebody else. What comes from peers enters by [`Incoming`], on the peers thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_cluster::Replica;
use holdfast_cluster::commands::Command;
use holdfast_cluster::liveness::{self, Liveness, Takeover, View};
use holdfast_cluster::replica::Transport;
use holdfast_protocol::TunnelId;
use tokio::sync::mpsc;

use super::relay;
use super::table::TableHandle;
use crate::io::{Inbound, clock};
use crate::metrics::{Counter, Metrics};
use crate::peers::{Frame, Hello, PeerEvents, PeersHandle};

/// What another member sent, or became, for the table's thread.
#[derive(Debug)]
pub enum FromPeer {
    /// A message of the Raft group.
    Raft(Vec<u8>),
    /// A probe or its answer.
    Probe(u64, Vec<u8>),
    /// Nobody listens at its address any more: its process is gone.
    Gone(u64),
}

/// What everybody may know of the members.
#[derive(Debug)]
pub struct Members {
    peers: PeersHandle,
    witnesses: BTreeSet<u64>,
    alive: ArcSwap<BTreeSet<u64>>,
    /// Milliseconds of CLOCK_BOOTTIME until which this node is known to be no stale owner.
    fresh_until_ms: AtomicU64,
}

impl Members {
    /// Nobody is known to live yet.
    pub fn new(peers: PeersHandle, witnesses: BTreeSet<u64>) -> Self {
        Self {
            peers,
            witnesses,
            alive: ArcSwap::default(),
            fresh_until_ms: AtomicU64::new(0),
        }
    }

    /// The connections.
    pub fn peers(&self) -> &PeersHandle {
        &self.peers
    }

    /// Whether a member answers, as far as this node can tell.
    pub fn is_alive(&self, node: u64) -> bool {
        self.alive.load().contains(&node)
    }

    /// Those who answer, this node among them.
    pub fn alive(&self) -> BTreeSet<u64> {
        BTreeSet::clone(&self.alive.load())
    }

    /// Until when frames that wait for no commit may be sent (design invariant 3).
    pub fn fresh_until(&self) -> Duration {
        Duration::from_millis(self.fresh_until_ms.load(Relaxed))
    }

    /// Whether a member owns no groups.
    pub fn is_witness(&self, node: u64) -> bool {
        self.witnesses.contains(&node)
    }
}

/// The part that the table's thread runs.
#[derive(Debug)]
pub struct Membership {
    members: Arc<Members>,
    liveness: Liveness,
    takeover: Takeover,
    node: u64,
    metrics: Arc<Metrics>,
}
