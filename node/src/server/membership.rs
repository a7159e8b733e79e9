//! `holdfast cluster add` and `remove`: who belongs to the Raft group, changed one node at a time and by the leader
//! alone ([`super::leader_orders`] asks it).
//!
//! A new node learns the whole table before it has a vote, so that nobody waits for it meanwhile. Whoever leaves owns nothing
//! by then. Either order can be given again when it was interrupted: it goes on from where things are.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_cluster::Replica;
use holdfast_cluster::replica::{self, MemberChange, MembersError};
use tokio::time::{Instant, sleep};

use super::cluster_orders::move_groups;
use crate::actors::context::Shared;
use crate::actors::members::Members;
use crate::actors::orders::Outcome;
use crate::actors::table::TableHandle;
use crate::api::{ApiError, ClusterOrder, ErrorCode};

/// How long one order may take, however long its giver waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked whether what was ordered is so.
const LOOK: Duration = Duration::from_millis(20);

/// How long a node that stops waits until another one leads.
const HANDOVER: Duration = Duration::from_secs(1);

/// Learner first, then voter. Nothing is changed any more after `given_up`, when whoever gave the order waits no longer.
pub async fn add(shared: &Shared, members: &Members, node: u64, given_up: Instant) -> Result<(), ApiError> {
    if members.group().voters.contains(&node) {
        return Err(ApiError::new(
            ErrorCode::NotAllowed,
            format!("node {node} is a member already"),
        ));
    }
    must_be_there(shared, members, node)?;
    must_know_the_table(shared, members, node).await?;
    let until = given_up.min(Instant::now() + PATIENCE);
    change(shared, members, MemberChange::Learner(node), until, |group| {
        group.contains(node)
    })
    .await?;
    while !has_caught_up(&shared.table, node).await {
        if Instant::now() > until {
            let text = format!(
                "node {node} gets the session table and has no vote yet; see \"holdfast cluster status\", and give the order again"
            );
            return Err(ApiError::new(ErrorCode::Unavailable, text));
        }
        sleep(LOOK).await;
    }
    change(shared, members, MemberChange::Voter(node), until, |group| {
        group.voters.contains(&node)
    })
    .await?;
    // So that an order for groups can follow at once. If it does not answer, `cluster status` says so.
    while !members.is_alive(node) && Instant::now() < until {
        sleep(LOOK).await;
    }
    Ok(())
}

/// Moves its groups away, then removes it. If it is this node, another one takes the lead instead, which can remove it.
/// `given_up`: as for [`add`].
pub async fn remove(
    shared: &Shared,
    members: &Members,
    node: u64,
    given_up: Instant,
) -> Result<Outcome, ApiError> {
    let group = members.group();
    if !group.contains(node) {
        let text = format!("node {node} is no member");
        return Err(ApiError::new(ErrorCode::NotFound, text));
    }
    must_leave_a_quorum(members, &group, node)?;
    let moved = move_groups(shared, members, ClusterOrder::Remove { node }).await?;
    if node == shared.config.load().node.id {
        return match hand_over(shared).await {
            Some(_) => Ok(Outcome::HandedOver { groups_moved: moved }),
            None => Err(ApiError::new(
                ErrorCode::NotAllowed,
                "a leader does not remove itself: its groups are with the others, but no other node took the lead; try again",
            )),
        };
    }
    let until = given_up.min(Instant::now() + PATIENCE);
    change(shared, members, MemberChange::Remove(node), until, |group| {
        !group.contains(node)
    })
    .await?;
    Ok(Outcome::Done { groups_moved: moved })
}

/// Has another voter lead, if this node does: the one that is furthest. Gives who leads then, if it came to that.
pub async fn hand_over(shared: &Shared) -> Option<u64> {
    let (table, members) = (&shared.table, shared.members.as_ref());
    let avoid = members
        .map(|members| members.unwilling_leaders())
        .unwrap_or_default();
    let until = Instant::now() + HANDOVER;
    if table.published().status().role != "leader" {
        return None;
    }
    while table.published().status().role == "leader" {
        if Instant::now() > until || table.published().stopped() {
            tracing::warn!("no other node took the lead in time: the others have to elect one");
            return None;
        }
        // Asked again when nobody took it: an attempt ends by itself after 200 ms.
        let avoid = avoid.clone();
        let asked = table.steer(move |replica| {
            let willing = replica.pass_leadership_on(&avoid);
            willing.or_else(|| replica.pass_leadership_on(&BTreeSet::new()))
        });
        if asked.await.flatten().is_none() {
            tracing::info!("there is no other voter to lead");
            return None;
        }
        let attempt = Instant::now() + HANDOVER / 4;
        while table.published().status().role == "leader" && Instant::now() < attempt {
            sleep(LOOK).await;
        }
    }
    // Who follows may still not know whom.
    while table.published().status().leader_id == 0 && Instant::now() < until {
        sleep(LOOK).await;
    }
    Some(table.published().status().leader_id).filter(|leader| *leader != 0)
}

fn must_be_there(shared: &Shared, members: &Members, node: u64) -> Result<(), ApiError> {
    let config = shared.config.load();
    if !config.members.iter().any(|member| member.id == node) {
        let text = format!(
            "no [[member]] has the id {node}: add it to the files of all members, \"holdfast reload\" on each, and give the \
             order again"
        );
        return Err(ApiError::new(ErrorCode::NotFound, text));
    }
    if !members.peers().connected().contains(&node) {
        let text = format!("node {node} cannot be reached: start it, with [cluster] join = true");
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
    let grave = members.agreements().differences(node);
    match grave.iter().find(|difference| difference.is_grave()) {
        Some(difference) => Err(ApiError::new(ErrorCode::NotAllowed, difference.text(node))),
        None => Ok(()),
    }
}

/// The table's version never falls: whoever does not know it would stop at the first entry.
async fn must_know_the_table(shared: &Shared, members: &Members, node: u64) -> Result<(), ApiError> {
    let peers = members.peers().status();
    let peer = peers.iter().find(|peer| peer.member.id == node);
    let knows = peer
        .and_then(|peer| peer.hello.as_ref())
        .map(|hello| hello.newest_version);
    let needed = shared.table.ask(|table| table.version()).await;
    match (knows, needed) {
        (Some(knows), Some(needed)) if knows < needed => Err(ApiError::new(
            ErrorCode::NotAllowed,
            format!(
                "the cluster uses version {needed} of the session table, node {node} knows versions up to {knows}: start a newer \
                 Holdfast there, one that knows version {needed}"
            ),
        )),
        _ => Ok(()),
    }
}

/// Of those who stay, more than half must live: else nothing could be decided any more.
fn must_leave_a_quorum(members: &Members, group: &replica::Members, node: u64) -> Result<(), ApiError> {
    let rest: Vec<u64> = group
        .voters
        .iter()
        .copied()
        .filter(|voter| *voter != node)
        .collect();
    let alive = rest.iter().filter(|voter| members.is_alive(**voter)).count();
    if alive * 2 > rest.len() {
        return Ok(());
    }
    let text = format!(
        "without node {node}, {alive} of {} members would live, which is no quorum: start the others first",
        rest.len()
    );
    Err(ApiError::new(ErrorCode::NotAllowed, text))
}

/// Proposes the change, again while another one is under way, until it is `done`.
async fn change(
    shared: &Shared,
    members: &Members,
    change: MemberChange,
    until: Instant,
    done: impl Fn(&replica::Members) -> bool,
) -> Result<(), ApiError> {
    while !done(&members.group()) {
        if Instant::now() > until {
            let text = "the members did not change in time; see \"holdfast cluster status\", and give the order again";
            return Err(ApiError::new(ErrorCode::Unavailable, text));
        }
        let proposed = shared
            .table
            .steer(move |replica| replica.propose_members(&[change]))
            .await;
        match proposed {
            Some(Ok(()) | Err(MembersError::Busy | MembersError::Unchanged)) => sleep(LOOK).await,
            Some(Err(error)) => return Err(ApiError::new(ErrorCode::Unavailable, error.to_string())),
            None => {
                let text = "the session table does not answer; try again";
                return Err(ApiError::new(ErrorCode::Unavailable, text));
            }
        }
    }
    Ok(())
}

async fn has_caught_up(table: &TableHandle, node: u64) -> bool {
    let caught_up = move |replica: &mut Replica| replica.has_caught_up(node);
    table.steer(caught_up).await == Some(true)
}
