//! `holdfast cluster status`: the members as this node sees them, and what is wrong with them.

use std::collections::BTreeMap;

use holdfast_cluster::limits::COMMAND_VERSION;
use holdfast_cluster::replica;
use holdfast_cluster::table::Table;

use super::belonging::removed_text;
use crate::actors::context::Shared;
use crate::actors::members::Members;
use crate::api::{ApiError, ClusterStatus, ErrorCode, NodeStatus};
use crate::config::{Config, MemberConfig};
use crate::peers::{PeerStatus, credentials};

/// How the cluster is.
pub async fn show(shared: &Shared, members: &Members) -> Result<ClusterStatus, ApiError> {
    let asked = shared.table.ask(|table| (table.version(), owned(table)));
    let (table_version, owned) = asked.await.ok_or_else(|| {
        ApiError::new(
            ErrorCode::Unavailable,
            "the session table does not answer; try again",
        )
    })?;
    let config = shared.config.load();
    let table = shared.table.published().status();
    let group = members.group();
    let peers = members.peers().status();
    let mut nodes: Vec<NodeStatus> = config
        .members
        .iter()
        .map(|member| NodeStatus {
            address: member.address.to_string(),
            ..configured(&config, members, member, &peers)
        })
        .collect();
    nodes.extend(unconfigured(&config, &group).map(|id| NodeStatus {
        id,
        ..NodeStatus::default()
    }));
    nodes.sort_unstable_by_key(|node| node.id);
    let applied = members.applied();
    let furthest = applied.values().copied().max().unwrap_or_default();
    for node in &mut nodes {
        (node.groups, node.tunnels, node.sessions) = owned.get(&node.id).copied().unwrap_or_default();
        node.leader = node.id == table.leader_id;
        node.state = if members.is_alive(node.id) {
            "alive"
        } else {
            "silent"
        }
        .into();
        node.applied = applied.get(&node.id).copied();
        node.behind = node.applied.map(|applied| furthest.saturating_sub(applied));
        node.membership = place(&group, node.id).into();
        node.no_way_to_lacs = members.is_wayless(node.id);
    }
    Ok(ClusterStatus {
        cluster_id: config
            .cluster
            .as_ref()
            .map_or_else(String::new, |cluster| cluster.id.clone()),
        node: config.node.id,
        leader: table.leader_id,
        term: table.term,
        table_version,
        #[cfg(holdfast_next)]
        rows_of_next_version: shared.table.ask(rows_of_next_version).await.unwrap_or_default(),
        groups_without_owner: owned.get(&0).map_or(0, |(groups, _, _)| *groups),
        groups_moved: 0,
        warnings: all_warnings(&config, members, &group, table_version, &nodes)
            .into_iter()
            .chain(shared.space.warning())
            .collect(),
        nodes,
    })
}

/// What connections and configuration tell of a member.
fn configured(config: &Config, members: &Members, member: &MemberConfig, peers: &[PeerStatus]) -> NodeStatus {
    let is_self = member.id == config.node.id;
    let peer = peers.iter().find(|peer| peer.member.id == member.id);
    let hello = peer.and_then(|peer| peer.hello.as_ref());
    let mut disagreements: Vec<String> = members
        .agreements()
        .differences(member.id)
        .iter()
        .map(|difference| difference.text(member.id))
        .collect();
    disagreements.extend(peer.and_then(|peer| peer.doubled.clone()));
    NodeStatus {
        id: member.id,
        witness: member.witness,
        program: match is_self {
            true => env!("CARGO_PKG_VERSION").into(),
            false => hello.map_or_else(String::new, |hello| hello.program.clone()),
        },
        newest_table_version: match is_self {
            true => COMMAND_VERSION,
            false => hello.map_or(0, |hello| hello.newest_version),
        },
        connected: is_self || peer.is_some_and(|peer| peer.connected.is_some()),
        last_error: peer.and_then(|peer| peer.last_error.clone()).unwrap_or_default(),
        disagreements,
        ..NodeStatus::default()
    }
}

/// Members of the Raft group that the configuration does not name.
fn unconfigured(config: &Config, group: &replica::Members) -> impl Iterator<Item = u64> {
    let lists = [&group.voters, &group.learners, &group.outgoing];
    let mut found: Vec<u64> = lists
        .into_iter()
        .flatten()
        .copied()
        .filter(|id| !config.members.iter().any(|member| member.id == *id))
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter()
}

fn place(group: &replica::Members, node: u64) -> &'static str {
    match () {
        () if group.voters.contains(&node) || group.outgoing.contains(&node) => "voter",
        () if group.learners.contains(&node) => "learner",
        () => "none",
    }
}

/// Everything that is wrong and not the matter of one other node.
fn all_warnings(
    config: &Config,
    members: &Members,
    group: &replica::Members,
    table_version: u32,
    nodes: &[NodeStatus],
) -> Vec<String> {
    let node = config.node.id;
    let cluster = config.cluster.as_ref();
    let ending = cluster.and_then(|cluster| credentials::ends_soon(cluster, node));
    if members.is_removed(node) {
        return std::iter::once(removed_text(node)).chain(ending).collect();
    }
    warnings(config, group)
        .chain(held_back(table_version, nodes))
        .chain(without_way(nodes))
        .chain(nodes.iter().filter(|node| members.is_full(node.id)).map(full))
        .chain(ending)
        .collect()
}

/// Where the Raft group and the configuration say otherwise.
fn warnings(config: &Config, group: &replica::Members) -> impl Iterator<Item = String> {
    let missing = config
        .members
        .iter()
        .filter(|member| !group.contains(member.id))
        .map(|member| {
            let id = member.id;
            format!(
                "node {id} is in the configuration and no member yet, or no longer: start it with [cluster] join = true, then \
                 \"holdfast cluster add {id}\"; or take it out of the configuration"
            )
        });
    let learning = group.learners.iter().map(|id| {
        format!("node {id} has no vote yet: \"holdfast cluster add {id}\" goes on, \"holdfast cluster remove {id}\" undoes it")
    });
    let unknown = unconfigured(config, group).map(|id| {
        format!(
            "node {id} is a member and not in this node's configuration: add its [[member]] and \"holdfast reload\", or \
             \"holdfast cluster remove {id}\""
        )
    });
    missing.chain(learning).chain(unknown)
}

/// Where a member's program knows a newer version of the table than all do: who lacks it. In an upgrade this is how to see what
/// is left to do.
fn held_back(version: u32, nodes: &[NodeStatus]) -> Option<String> {
    let of_group = || nodes.iter().filter(|node| node.membership != "none");
    let newest = of_group().map(|node| node.newest_table_version).max()?;
    let lack: Vec<String> = of_group()
        .filter(|node| node.newest_table_version < newest)
        .map(|node| node.id.to_string())
        .collect();
    (newest > version && !lack.is_empty()).then(|| {
        format!(
            "the session table stays at version {version} until all members run a Holdfast that knows version {newest}; these \
             do not, or were not heard yet: {}",
            lack.join(", ")
        )
    })
}

#[cfg(holdfast_next)]
fn rows_of_next_version(table: &Table) -> u64 {
    let tunnels = (0..=u8::MAX).flat_map(|group| table.tunnels_of(group));
    tunnels
        .map(|(_, tunnel)| {
            let sessions = tunnel.sessions().filter(|(_, row)| row.written_in > 0);
            u64::from(tunnel.row().written_in > 0) + sessions.count() as u64
        })
        .sum()
}

/// Who cannot answer LACs.
fn without_way(nodes: &[NodeStatus]) -> impl Iterator<Item = String> {
    nodes.iter().filter(|node| node.no_way_to_lacs).map(|node| {
        let id = node.id;
        let groups = match node.groups {
            0 => "its groups are with others",
            _ => "no other node that could take its groups has one",
        };
        format!(
            "node {id} has lost its way to the LACs, {groups}: see on it which routes it has (ip route get LAC from ADDRESS) and              whether BIRD hears the routers (birdc show protocols); once they are back, \"holdfast cluster undrain {id}\" gives it              its share"
        )
    })
}

fn full(node: &NodeStatus) -> String {
    let id = node.id;
    format!(
        "the disk of the data folder of node {id} is full: others take its groups and new calls, and it keeps up on a reserve. \
         Free some space there; then \"holdfast cluster undrain {id}\" gives it groups again"
    )
}

/// Groups, tunnels and sessions by owner.
fn owned(table: &Table) -> BTreeMap<u64, (u32, u64, u64)> {
    let mut owned: BTreeMap<u64, (u32, u64, u64)> = BTreeMap::new();
    for group in 0..=u8::MAX {
        let (groups, tunnels, sessions) = owned.entry(table.group(group).owner).or_default();
        *groups += 1;
        for (_, tunnel) in table.tunnels_of(group) {
            *tunnels += 1;
            *sessions += tunnel.sessions().count() as u64;
        }
    }
    owned
}
