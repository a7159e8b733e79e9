//! Why the other end of a stream is not taken for a member, for people and for the counters.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Instant;

use super::limits::LOG_INTERVAL;
use crate::metrics::{Counter, Metrics};

/// Why a stream is refused. The text says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Its certificate is none of ours.
    #[error("{0}")]
    Certificate(String),
    /// Its certificate is sound and says another cluster.
    #[error(
        "it belongs to the cluster \"{found}\" and we to \"{ours}\": compare [cluster] id and certificates"
    )]
    Cluster { ours: String, found: String },
    /// Its certificate says a node that the configuration does not.
    #[error(
        "it is node {0}, which is no [[member]] here: add it to the configuration of all members, or stop it"
    )]
    Stranger(u64),
    /// Its certificate says that it is us.
    #[error(
        "it says that it is node {0}, as we do: each node needs the certificate made for it, and runs once"
    )]
    Ourselves(u64),
    /// Its certificate says a node that is connected from elsewhere.
    #[error(
        "two processes run as node {node}, at {first} and at {second}; the second is refused: stop one of them, each needs \
         a [node] id and a certificate of its own"
    )]
    Doubled {
        node: u64,
        first: IpAddr,
        second: IpAddr,
    },
    /// Another member listens there.
    #[error("node {found} answers where node {wanted} was expected: compare the addresses of [[member]]")]
    OtherNode { wanted: u64, found: u64 },
    /// It belongs to the cluster as it was before, or as it is after, it was recovered from one node.
    #[error("{}", generation_text(*.node, *.earlier))]
    Generation { node: u64, earlier: bool },
    /// What it sends is not what members send.
    #[error("{0}")]
    Protocol(String),
}

fn generation_text(node: u64, earlier: bool) -> String {
    if earlier {
        format!(
            "node {node} belongs to the cluster as it was before it was recovered: it must not go on; move its data folder \
             away, and add it as a new member, with [cluster] join = true"
        )
    } else {
        format!("node {node} belongs to the cluster as it was recovered without this node")
    }
}

impl Refusal {
    /// Where it is counted.
    pub(super) fn counter(&self) -> Counter {
        match self {
            Self::Certificate(_) => Counter::PeersRefusedCertificate,
            Self::Cluster { .. } => Counter::PeersRefusedCluster,
            Self::Stranger(_) | Self::Ourselves(_) | Self::OtherNode { .. } | Self::Doubled { .. } => {
                Counter::PeersRefusedNode
            }
            Self::Generation { .. } => Counter::PeersRefusedCluster,
            Self::Protocol(_) => Counter::PeersRefusedProtocol,
        }
    }
}

/// Counts refusals, and logs one of each kind in a while: a stranger must not fill the disk with our log.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// One for each counter that has been used: when it was last logged, and how many were not.
    kinds: Mutex<Vec<(Counter, Instant, u64)>>,
}

impl Refusals {
    /// Notes that what is at `address` was refused.
    pub(super) fn note(&self, metrics: &Metrics, address: SocketAddr, refusal: &Refusal) {
        let counter = refusal.counter();
        metrics.count(counter);
        if let Some(others) = self.due(counter) {
            tracing::warn!(%address, others, "a peer was refused: {refusal}");
        }
    }

    /// Counts, and says so now and then.
    pub(super) fn note_plain(&self, metrics: &Metrics, counter: Counter, text: impl fmt::Display) {
        metrics.count(counter);
        if let Some(others) = self.due(counter) {
            tracing::warn!(others, "{text}");
        }
    }

    /// Whether it is time to log, and how many were not logged since the last time.
    fn due(&self, counter: Counter) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().expect("never poisoned: held for arithmetic");
        match kinds.iter_mut().find(|(kind, ..)| *kind == counter) {
            None => {
                kinds.push((counter, now, 0));
                Some(0)
            }
            Some((_, last, silent)) if now.duration_since(*last) >= LOG_INTERVAL => {
                *last = now;
                Some(std::mem::take(silent))
            }
            Some((_, _, silent)) => {
                *silent += 1;
                None
            }
        }
    }
}
