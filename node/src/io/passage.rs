//! From node to node: packets for subscribers of sequenced sessions, which their owner alone numbers and sends.
//!
//! A packet is passed once. What came in from another node is sent or dropped, never passed again, so nothing can loop
//! however much two nodes disagree on who owns what.

use std::sync::Arc;

use crossbeam_channel::TrySendError;
use holdfast_protocol::TunnelId;

use super::mailbox::Remote;

/// IP packets that a shard passes to other nodes in one second at most; more are dropped and counted as `pass_full`. In the
/// steady state the routers bring them to the owner by themselves.
pub const PASSED_PER_SECOND: u32 = 5_000;

/// Why a packet did not go to the node that numbers its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPassed {
    /// That node is dead, or not known yet.
    NoOwner,
    /// There is no connection to it, or too much waits for it.
    Full,
}

/// The way to other nodes, as a packet thread sees it.
pub trait Passage: Send + Sync {
    /// Sends an IP packet to the owner of `tunnel`. Called on the packet thread: must not wait.
    ///
    /// # Errors
    /// The packet is dropped then.
    fn pass(&self, tunnel: TunnelId, packet: &[u8]) -> Result<(), NotPassed>;
}

/// The way in for what other nodes pass here. Does not keep the packet threads running.
#[derive(Clone)]
pub struct Entrance {
    shards: Arc<[Remote]>,
}

impl std::fmt::Debug for Entrance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entrance").finish_non_exhaustive()
    }
}

impl Entrance {
    pub(super) fn new(shards: impl Iterator<Item = Remote>) -> Self {
        Self {
            shards: shards.collect(),
        }
    }

    /// Gives an IP packet to the shard of `tunnel`, so that those of one session stay in order. False if it has
    /// [`super::mailbox::PASSED_CAPACITY`] waiting, or has ended. Never waits.
    pub fn take(&self, tunnel: TunnelId, packet: Vec<u8>) -> bool {
        let shard = &self.shards[tunnel.shard(self.shards.len())];
        match shard.passed.try_send(packet) {
            Ok(()) => {
                shard.wake.notify();
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}
