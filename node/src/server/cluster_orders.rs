//! `holdfast cluster status`, `drain`, `undrain` and `rebalance`: what the cluster is, and groups that move on purpose.

use std::collections::BTreeMap;

use holdfast_cluster::Verdict;
use holdfast_cluster::commands::Move;
use holdfast_cluster::table::{Table, preferred_owner};
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

use crate::actors::context::Shared;
use crate::actors::members::Members;
use crate::actors::table::ReplyTo;
use crate::api::{ApiError, ClusterOrder, ClusterStatus, ErrorCode, NodeStatus};
use crate::config::MemberConfig;

/// How long the table may take to judge a move.
const PATIENCE: Duration = Duration::from_secs(5);

/// Carries an order out, and says how the cluster is then.
pub async fn carry_out(shared: &Shared, order: ClusterOrder) -> Result<ClusterStatus, ApiError> {
    let Some(members) = &shared.members else {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            "this node is alone: its configuration has no [cluster] section",
        ));
    };
    let moves = plan(shared, members, order)?;
    let groups_moved = moves.values().map(|groups| groups.len() as u32).sum();
    for (to, groups) in moves {
        propose(shared, Move { groups, to }).await?;
    }
    let mut status = show(shared, members).await?;
    status.groups_moved = groups_moved;
    Ok(status)
}

/// The groups that change hands, by their new owner.
fn plan(
    shared: &Shared,
    members: &Members,
    order: ClusterOrder,
) -> Result<BTreeMap<u64, Vec<u32>>, ApiError> {
    let published = shared.table.published();
    let can_own = |node: u64| members.is_alive(node) && !members.is_witness(node);
    let mut owners: Vec<u64> = members
        .alive()
        .into_iter()
        .filter(|node| can_own(*node))
        .collect();
    let from_all = |group: u8| Some(published.owner(group));
    let (from, to): (Option<u64>, Option<u64>) = match order {
        ClusterOrder::Show => return Ok(BTreeMap::new()),
        ClusterOrder::Drain { node } => (Some(known(shared, node)?), None),
        ClusterOrder::Undrain { node } => (None, Some(known(shared, node)?)),
        ClusterOrder::Rebalance => (None, None),
    };
    if let Some(to) = to.filter(|to| !can_own(*to)) {
        let text = format!("node {to} cannot take groups: it is a witness, or does not answer");
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
    owners.retain(|node| from != Some(*node));
    if owners.is_empty() {
        let text = "no other node lives that could take the groups";
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
    let mut moves: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for group in 0..=u8::MAX {
        let owner = from_all(group);
        let wanted = preferred_owner(group, owners.iter().copied());
        let concerned = from.is_none_or(|from| owner == Some(from)) && to.is_none_or(|to| wanted == Some(to));
        if let Some(wanted) = wanted.filter(|wanted| concerned && owner != Some(*wanted)) {
            moves.entry(wanted).or_default().push(u32::from(group));
        }
    }
    Ok(moves)
}

fn known(shared: &Shared, node: u64) -> Result<u64, ApiError> {
    let config = shared.config.load();
    let is_member = config.members.iter().any(|member| member.id == node);
    is_member
        .then_some(node)
        .ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("no [[member]] has the id {node}")))
}

async fn propose(shared: &Shared, command: Move) -> Result<(), ApiError> {
    let (waiter, verdict) = oneshot::channel();
    shared.table.propose(ReplyTo::Waiter(waiter), command);
    match timeout(PATIENCE, verdict).await {
        Ok(Ok(Verdict::Accepted { .. })) => Ok(()),
        Ok(Ok(Verdict::Refused(refusal))) => Err(ApiError::new(ErrorCode::Unavailable, refusal.to_string())),
        Ok(Err(_)) | Err(_) => Err(ApiError::new(
            ErrorCode::Unavailable,
            "the session table did not take the order: there is no quorum, or the leader has just changed; try again",
        )),
    }
}

async fn show(shared: &Shared, members: &Members) -> Result<ClusterStatus, ApiError> {
    let owned = shared.table.ask(owned).await.ok_or_else(|| {
        ApiError::new(
            ErrorCode::Unavailable,
            "the session table does not answer; try again",
        )
    })?;
    let config = shared.config.load();
    let table = shared.table.published().status();
    let peers = members.peers().status();
    let node = |member: &MemberConfig| {
        let peer = peers.iter().find(|peer| peer.member.id == member.id);
        let hello = peer.and_then(|peer| peer.hello.as_ref());
        let (groups, tunnels, sessions) = owned.get(&member.id).copied().unwrap_or_default();
        let is_self = member.id == config.node.id;
        NodeStatus {
            id: member.id,
            address: member.address.to_string(),
            state: if members.is_alive(member.id) {
                "alive"
            } else {
                "silent"
            }
            .into(),
            witness: member.witness,
            leader: member.id == table.leader_id,
            groups,
            tunnels,
            sessions,
            program: match is_self {
                true => env!("CARGO_PKG_VERSION").into(),
                false => hello.map_or_else(String::new, |hello| hello.program.clone()),
            },
            connected: is_self || peer.is_some_and(|peer| peer.connected.is_some()),
            last_error: peer.and_then(|peer| peer.last_error.clone()).unwrap_or_default(),
        }
    };
    Ok(ClusterStatus {
        cluster_id: config
            .cluster
            .as_ref()
            .map_or_else(String::new, |cluster| cluster.id.clone()),
        node: config.node.id,
        leader: table.leader_id,
        term: table.term,
        groups_without_owner: owned.get(&0).map_or(0, |(groups, _, _)| *groups),
        groups_moved: 0,
        nodes: config.members.iter().map(node).collect(),
    })
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
