//! `holdfast cluster drain`, `undrain` and `rebalance`: groups that move on purpose. The other orders are in their own modules.

use std::collections::BTreeMap;

use holdfast_cluster::Verdict;
use holdfast_cluster::commands::Move;
use holdfast_cluster::table::preferred_owner;
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

use super::{cluster_status, handover, leader_orders};
use crate::actors::context::Shared;
use crate::actors::members::Members;
use crate::actors::table::ReplyTo;
use crate::api::{ApiError, ClusterOrder, ClusterStatus, ErrorCode};

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
    let groups_moved = match order {
        ClusterOrder::Show => 0,
        ClusterOrder::Drain { .. } | ClusterOrder::Undrain { .. } | ClusterOrder::Rebalance => {
            move_groups(shared, members, order).await?
        }
        ClusterOrder::Add { .. } | ClusterOrder::Remove { .. } => {
            leader_orders::carry_out(shared, members, order).await?
        }
    };
    let mut status = cluster_status::show(shared, members).await?;
    status.groups_moved = groups_moved;
    let given_again = handover::given_again(&status, order);
    status.warnings.extend(given_again);
    Ok(status)
}

/// Has groups change hands as ordered; gives how many did.
pub(super) async fn move_groups(
    shared: &Shared,
    members: &Members,
    order: ClusterOrder,
) -> Result<u32, ApiError> {
    let moves = plan(shared, members, order)?;
    let drained = match order {
        ClusterOrder::Drain { node } => Some(node),
        _ => None,
    };
    handover::give(shared, members, moves, drained).await
}

/// The groups that change hands, by their new owner.
fn plan(
    shared: &Shared,
    members: &Members,
    order: ClusterOrder,
) -> Result<BTreeMap<u64, Vec<u32>>, ApiError> {
    let published = shared.table.published();
    let can_own = |node: u64| members.can_own(node);
    let alive = members.alive();
    let mut owners: Vec<u64> = alive.iter().copied().filter(|node| can_own(*node)).collect();
    let from_all = |group: u8| Some(published.owner(group));
    let (from, to): (Option<u64>, Option<u64>) = match order {
        ClusterOrder::Drain { node } | ClusterOrder::Remove { node } => {
            (Some(known(shared, members, node)?), None)
        }
        ClusterOrder::Undrain { node } => (None, Some(known(shared, members, node)?)),
        ClusterOrder::Rebalance => (None, None),
        ClusterOrder::Show | ClusterOrder::Add { .. } => return Ok(BTreeMap::new()),
    };
    if let Some(to) = to.filter(|to| !can_own(*to)) {
        let text = format!(
            "node {to} cannot take groups: it is a witness or no voter, is being stopped, or does not answer"
        );
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
    owners.retain(|node| from != Some(*node));
    let owners = members.fit(owners);
    if let Some(to) = to.filter(|to| members.is_full(*to) && !owners.contains(to)) {
        let text = format!("the disk of node {to} is full, and others have space; free some there first");
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
    if let Some(to) = to.filter(|to| !owners.contains(to)) {
        let text = format!(
            "node {to} has lost its way to the LACs, and others have one; see \"holdfast cluster status\""
        );
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
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

fn known(shared: &Shared, members: &Members, node: u64) -> Result<u64, ApiError> {
    let config = shared.config.load();
    let is_configured = config.members.iter().any(|member| member.id == node);
    let is_member = is_configured || members.group().contains(node);
    is_member
        .then_some(node)
        .ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("no [[member]] has the id {node}")))
}

/// Has the table judge a move.
pub(super) async fn propose(shared: &Shared, command: Move) -> Result<(), ApiError> {
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
