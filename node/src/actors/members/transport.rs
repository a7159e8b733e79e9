//! The way out of Raft's messages.

use std::sync::{Arc, OnceLock};

use holdfast_cluster::replica::Transport;

use crate::peers::{Frame, PeersHandle};

/// Raft's messages to other members.
#[derive(Clone, Debug, Default)]
pub struct PeersTransport(Arc<OnceLock<PeersHandle>>);

impl PeersTransport {
    /// By these connections from now on; what was sent before is lost.
    pub fn connect(&self, peers: PeersHandle) {
        self.0.get_or_init(|| peers);
    }
}

impl Transport for PeersTransport {
    fn send(&mut self, to: u64, message: Vec<u8>) {
        if let Some(peers) = self.0.get() {
            // Raft sends again what is lost.
            let _ = peers.send(to, Frame::Raft(message));
        }
    }
}
