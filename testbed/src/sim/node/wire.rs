//! What one node says to another.

use std::net::SocketAddr;

use holdfast_protocol::TunnelId;

/// A datagram of a LAC that is passed on to the owner of its tunnel.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The epoch of the group, as the sender knows it.
    pub epoch: u32,
    /// Ours; for an SCCRQ any of the group that shall take it.
    pub tunnel: TunnelId,
    pub from: SocketAddr,
    pub octets: Vec<u8>,
    /// How often it has been passed on.
    pub passed: u32,
}

#[derive(Clone, Debug)]
pub enum Wire {
    Raft(Vec<u8>),
    Relay(Relay),
    Probe(Vec<u8>),
    /// What the sender has forwarded itself.
    Counters(Vec<u8>),
}

impl Wire {
    /// Whether it goes over a connection, which loses nothing while it lasts.
    pub fn is_stream(&self) -> bool {
        !matches!(self, Self::Probe(_))
    }

    /// For the digest of all that was sent.
    pub fn octets(&self) -> &[u8] {
        match self {
            Self::Raft(octets) | Self::Probe(octets) | Self::Counters(octets) => octets,
            Self::Relay(relay) => &relay.octets,
        }
    }
}
