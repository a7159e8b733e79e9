//! The connections between the members of a cluster: one place for all of them.
//!
//! ```text
//!   PeersHandle::send ---> queue of the member ---> dial: TLS stream to it   (we write)
//!   PeersHandle::send_datagram ---> sealed, UDP ------------------------->
//!   PeerEvents <--------- accept: TLS stream from it   (we read)
//!   PeerEvents <--------- datagram: opened, UDP <------------------------
//! ```
//!
//! Each member dials each other one; a stream carries frames in the direction in which it was dialled, so that two
//! never race for one connection. Both sides show a certificate of the cluster's CA that names cluster and node. A
//! datagram is sealed with a key that the sender's stream gave (RFC 5705), and so comes from that process or from nobody.
//!
//! All of it runs on one thread of its own, `peers`, so that neither packet threads nor actors delay it. It deliberately
//! knows nothing of what the frames mean, and judges nobody's health: `cluster::liveness` does.

mod accept;
pub mod credentials;
mod datagram;
mod dial;
mod frame;
mod handle;
pub mod issue;
pub mod limits;
mod refusal;
mod stream;
#[cfg(test)]
mod tests;
mod thread;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::replica::Lineage;

use crate::config::{ClusterConfig, Config, MemberConfig};
use crate::metrics::Metrics;

pub use frame::{Frame, Relay};
pub use handle::{Peers, PeersHandle};
pub use tls::Identity;

/// The messages of proto/peers.proto.
#[allow(missing_docs, clippy::all)]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/holdfast.peers.rs"));
}

/// What the connections need to know.
#[derive(Clone, Debug)]
pub struct PeersConfig {
    /// This node's id.
    pub node: u64,
    /// Where and as whom.
    pub cluster: ClusterConfig,
    /// All members; this node's own entry is passed over.
    pub members: Vec<MemberConfig>,
    /// What we say of ourselves.
    pub hello: Hello,
    /// Counts `peers_*_total`.
    pub metrics: Arc<Metrics>,
}

impl PeersConfig {
    /// From a node's configuration; `None` for a cluster of one.
    pub fn of(
        config: &Config,
        boot: u64,
        configuration: Vec<u8>,
        lineage: Lineage,
        metrics: Arc<Metrics>,
    ) -> Option<Self> {
        let cluster = config.cluster.clone()?;
        let hello = Hello {
            cluster_id: cluster.id.clone(),
            node: config.node.id,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            oldest_version: holdfast_cluster::limits::OLDEST_COMMAND_VERSION,
            newest_version: holdfast_cluster::limits::COMMAND_VERSION,
            configuration,
            boot,
            past: Past::default(),
            lineage,
        };
        Some(Self {
            node: config.node.id,
            cluster,
            members: config.members.clone(),
            hello,
            metrics,
        })
    }
}

/// What each side says first on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// As in the certificate.
    pub cluster_id: String,
    /// As in the certificate.
    pub node: u64,
    /// Version of the program, for people.
    pub program: String,
    /// Oldest version of commands and records that it can apply.
    pub oldest_version: u32,
    /// Newest version of commands and records that it can apply.
    pub newest_version: u32,
    /// Digest of the part of the configuration that all members must share.
    pub configuration: Vec<u8>,
    /// Random, another one for each process.
    pub boot: u64,
    /// Which cluster it belongs to by its log.
    pub lineage: Lineage,
    /// What its log and its table say.
    pub past: Past,
}

/// What a node remembers of the cluster. Empty where it has no log yet, and from programs that do not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The members of the Raft group, in order.
    pub group: Vec<u64>,
    /// The nodes that have run, in order.
    pub known: Vec<u64>,
}

/// Who hears of what peers do. Called on the peers thread, one call at a time: an implementation must not block.
pub trait PeerEvents: Send + Sync + 'static {
    /// A frame, in the order in which `from` sent them; but a Raft message of more than [`limits::LONG_OCTETS_MIN`] octets may
    /// come later than what was sent after it.
    fn on_frame(&self, from: u64, frame: Frame);

    /// A datagram that `from`'s running process sealed; perhaps out of order, never twice.
    fn on_datagram(&self, from: u64, octets: Vec<u8>);

    /// From now on frames to the node are sent. A reconnection has the same `boot`, a new process another one.
    fn on_up(&self, node: u64, hello: Hello);

    /// Frames to the node are not sent any more (`refused` is false), or nobody listens at its address: its process is
    /// gone (`refused` is true, once until it is up again). The second may follow the first or come alone.
    fn on_down(&self, node: u64, refused: bool);

    /// `node` belongs to a later generation of the cluster, which was recovered without us.
    fn on_superseded(&self, node: u64);
}

/// A member as `holdfast status` shows it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// As configured.
    pub member: MemberConfig,
    /// What it said of itself when it was last connected.
    pub hello: Option<Hello>,
    /// How long the stream to it has been ready; `None` while it is not.
    pub connected: Option<Duration>,
    /// Whether its stream to us is ready.
    pub heard: bool,
    /// Octets waiting to be written.
    pub queued_octets: usize,
    /// Why the last attempt to reach it failed, or the last stream ended.
    pub last_error: Option<String>,
    /// That another process of it was lately refused, and what to do about it.
    pub doubled: Option<String>,
}

/// Why there are no connections at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Certificate, key or CA.
    #[error("{0}")]
    Credentials(String),
    /// TCP or UDP.
    #[error(
        "cannot listen for other members on {address} ([cluster] listen): {source}; is another holdfast running, and is this \
         an address of this host?"
    )]
    Listen {
        /// As configured.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The thread could not be started.
    #[error("cannot start the peers thread: {0}")]
    Thread(std::io::Error),
}
