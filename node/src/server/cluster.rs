//! A node as a member of a cluster: its connections, its failure detector.

use std::sync::Arc;

use holdfast_cluster::limits::{COMMAND_VERSION, OLDEST_COMMAND_VERSION};
use holdfast_cluster::replica::{Lineage, Replica};
use tokio::sync::mpsc;

use crate::actors::agreement::{Agreement, Agreements};
use crate::actors::members::{Heard, Incoming, Members, Membership, witnesses};
use crate::actors::table::TableHandle;
use crate::config::Config;
use crate::io::Inbound;
use crate::metrics::Metrics;
use crate::peers::{self, Past, Peers, PeersConfig};

/// Connects this node to the other members; `None` for a node alone. What comes in waits for the table's thread and the shards.
pub fn join(
    config: &Config,
    boot: u64,
    past: Past,
    table: &TableHandle,
    shards: &[mpsc::Sender<Inbound>],
    lineage: Lineage,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Members>>, peers::StartError> {
    let Some(cluster) = &config.cluster else {
        return Ok(None);
    };
    let ours = Agreement::of(config);
    let Some(mut peers) = PeersConfig::of(config, boot, ours.encode(), lineage, metrics.clone()) else {
        return Ok(None);
    };
    peers.hello.past = past;
    let agreements = Agreements::new(ours, (OLDEST_COMMAND_VERSION, COMMAND_VERSION));
    let heard = Arc::new(Heard::new(agreements));
    let incoming = Incoming::new(table.clone(), shards.to_vec(), heard.clone(), metrics.clone());
    Ok(Some(Arc::new(Members::new(
        Peers::start(peers, incoming)?,
        witnesses(&config.members),
        cluster.isolation_limit,
        heard,
    ))))
}

/// The failure detector of this node. It looks after the members that the Raft group has, whatever the configuration says.
pub fn membership(
    config: &Config,
    boot: u64,
    members: &Arc<Members>,
    replica: &Replica,
    metrics: &Arc<Metrics>,
) -> Membership {
    let (group, lineage) = (replica.members(), replica.lineage());
    Membership::new(
        config.node.id,
        boot,
        members.clone(),
        group,
        lineage,
        metrics.clone(),
    )
}
