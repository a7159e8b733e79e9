//! Groups change hands on purpose: `drain`, `undrain`, `rebalance`, `remove`, and the end of a node whose cluster goes on.
//!
//! The present owner does it: it keeps new calls waiting, lets PPP under way finish, and has the table name the next owner
//! ([`crate::lns::handover`] says when). Whoever was given the order asks it to, watches the table, and moves the groups himself
//! if the owner is dead or does not do it in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::commands::Move;
use holdfast_cluster::table::preferred_owner;
use tokio::time::{Instant, sleep};

use super::cluster_orders::propose;
use super::membership;
use crate::actors::context::Shared;
use crate::actors::handover::{HandOver, Order};
use crate::actors::members::Members;
use crate::actors::table::ReplyTo;
use crate::api::{ApiError, ClusterOrder, ClusterStatus, ErrorCode};
use crate::io::clock;
use crate::lns::handover::{FINISH, Handover, LEAVE, Phase};
use crate::metrics::Counter;
use crate::peers::Frame;

/// How often it is looked who may go, and who is gone.
const LOOK: Duration = Duration::from_millis(10);

/// A move that is not decided by then is proposed again: it may have been lost with a leader.
const AGAIN: Duration = Duration::from_millis(500);

/// How much longer than the owner may take its answer is waited for.
const ANSWER: Duration = Duration::from_secs(1);

/// How long a drained leader may take to pass the lead on.
const LEAD: Duration = Duration::from_secs(2);

/// Until the word of other nodes that are being stopped at the same moment is here: none of them must be given anything.
const OTHERS_HEARD: Duration = Duration::from_millis(50);

/// Until what the shards hold for the next owners is on its way.
const LAST_RELAYS: Duration = Duration::from_millis(50);

/// Groups, each with the node that is to have it; 0: any.
type Wanted = BTreeMap<u8, u64>;

/// Hands over what other members order, as long as the node runs. To be spawned.
pub async fn serve(shared: Arc<Shared>) {
    let orders = shared.members.as_ref().and_then(|members| members.hand_overs());
    let Some(mut orders) = orders else { return };
    while let Some(HandOver { groups, to, lead }) = orders.recv().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            hand_over(&shared, groups.into_iter().map(|group| (group, to)).collect()).await;
            if lead {
                pass_lead_on(&shared).await;
            }
        });
    }
}

/// Has these groups, by their new owners, change hands, whoever owns them, and waits for it. Gives how many did. The node
/// `drained` is to lead no longer, either.
pub async fn give(
    shared: &Shared,
    members: &Members,
    moves: BTreeMap<u64, Vec<u32>>,
    drained: Option<u64>,
) -> Result<u32, ApiError> {
    let published = shared.table.published();
    let mut here = Wanted::new();
    let mut elsewhere: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    let mut left: Vec<(u8, u64, u64)> = Vec::new();
    for (to, groups) in moves {
        for group in groups.into_iter().filter_map(|group| u8::try_from(group).ok()) {
            let from = published.owner(group);
            left.push((group, from, to));
            if from == published.me() {
                here.insert(group, to);
            } else {
                elsewhere.entry((from, to)).or_default().push(group);
            }
        }
    }
    let count = left.len() as u32;
    let mut at_once = Vec::new();
    for ((from, to), groups) in elsewhere {
        let order = HandOver {
            groups: groups.clone(),
            to,
            lead: false,
        };
        let order = Frame::Order(Order::HandOver(order).encode());
        if !members.is_alive(from) || !members.peers().send(from, order) {
            at_once.extend(groups.into_iter().map(|group| (group, from, to)));
        }
    }
    move_now(shared, members, at_once).await?;
    hand_over(shared, here).await;
    let until = Instant::now() + FINISH + LEAVE + ANSWER;
    let is_left = |(group, from, _): &(u8, u64, u64)| published.owner(*group) == *from;
    left.retain(is_left);
    while !left.is_empty() && Instant::now() < until {
        sleep(LOOK).await;
        left.retain(is_left);
    }
    if !left.is_empty() {
        tracing::warn!(
            groups = left.len(),
            "their owner did not hand these groups over in time: they are moved"
        );
        move_now(shared, members, left).await?;
    }
    if let Some(drained) = drained {
        take_lead_from(shared, members, drained).await;
    }
    Ok(count)
}

/// What is to be said of a drained node that owns something all the same: another order, or a node that died, gave it that.
pub fn given_again(status: &ClusterStatus, order: ClusterOrder) -> Option<String> {
    let ClusterOrder::Drain { node } = order else {
        return None;
    };
    let groups = status.nodes.iter().find(|row| row.id == node)?.groups;
    (groups > 0).then(|| {
        format!("node {node} was given groups again meanwhile, {groups} of them: give the order again once nothing else is done")
    })
}

/// Without the owner, as when it is dead.
async fn move_now(shared: &Shared, members: &Members, moves: Vec<(u8, u64, u64)>) -> Result<(), ApiError> {
    let mut by_owner: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (group, _, to) in moves {
        by_owner.entry(to).or_default().push(u32::from(group));
    }
    for (to, groups) in by_owner {
        if !members.can_own(to) {
            let text = format!(
                "node {to}, which was to take groups, is going or does not answer; give the order again"
            );
            return Err(ApiError::new(ErrorCode::Unavailable, text));
        }
        propose(shared, Move { groups, to }).await?;
    }
    Ok(())
}

/// Has another node lead than a drained one.
async fn take_lead_from(shared: &Shared, members: &Members, drained: u64) {
    let leads = || shared.table.published().status().leader_id == drained;
    if !leads() {
        return;
    }
    if drained == shared.table.published().me() {
        return pass_lead_on(shared).await;
    }
    let order = HandOver {
        lead: true,
        ..HandOver::default()
    };
    members
        .peers()
        .send(drained, Frame::Order(Order::HandOver(order).encode()));
    let until = Instant::now() + LEAD;
    while leads() && Instant::now() < until {
        sleep(LOOK).await;
    }
}

async fn pass_lead_on(shared: &Shared) {
    if let Some(leader) = membership::hand_over(shared).await {
        tracing::info!(leader, "passed the lead on");
    }
}

/// A node that is being stopped gives away all that it owns, if there is anybody to take it.
pub async fn leave(shared: &Shared, members: &Members) {
    if !members.could_take_over() {
        return;
    }
    let published = shared.table.published();
    let until = Instant::now() + OTHERS_HEARD + FINISH + LEAVE;
    sleep(OTHERS_HEARD).await;
    // Others that are being stopped may give us theirs meanwhile; one that is silent at the moment may answer again.
    while published.own_groups().next().is_some() && members.could_take_over() && Instant::now() < until {
        if somebody(shared, members, 0, 0).is_some() {
            hand_over(shared, published.own_groups().map(|group| (group, 0)).collect()).await;
        }
        sleep(LOOK).await;
    }
    sleep(LAST_RELAYS).await;
}

/// Hands over those of the groups that this node owns and that nobody hands over already. Returns when they are gone, or if
/// that is in vain.
async fn hand_over(shared: &Shared, wanted: Wanted) {
    let Some(members) = &shared.members else { return };
    let claims = Claims::new(shared, wanted.keys().copied());
    if claims.groups.is_empty() {
        return;
    }
    let published = shared.table.published();
    let is_here = |group| published.owner(group) == published.me();
    let is_under_way = |group| shared.departures.has_under_way(group);
    let mut handover = Handover::new(clock::since_boot(), claims.groups.iter().copied());
    let mut proposed = Duration::ZERO;
    let mut due: Vec<u8> = Vec::new();
    loop {
        let now = clock::since_boot();
        let newly = handover.handle_look(now, is_here, is_under_way);
        claims.set_phases(handover.phases(now));
        note_cut(shared, newly.iter().filter(|group| is_under_way(**group)).count());
        if handover.is_done() || handover.is_in_vain(now) {
            break;
        }
        // Those of the last look: what was proposed for them before they began to leave has been judged meanwhile.
        if now.saturating_sub(proposed) >= AGAIN {
            proposed = now;
            due = handover
                .leaving()
                .filter(|group| !newly.contains(group))
                .collect();
        }
        if !propose_moves(shared, members, &wanted, due) {
            break;
        }
        due = newly;
        sleep(LOOK).await;
    }
    let kept = claims.groups.iter().filter(|group| is_here(**group)).count();
    note_end(shared, claims.groups.len() - kept, kept);
}

/// `false` if there is nobody who could take a group.
fn propose_moves(shared: &Shared, members: &Members, wanted: &Wanted, groups: Vec<u8>) -> bool {
    let mut moves: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for group in groups {
        let Some(to) = somebody(shared, members, wanted.get(&group).copied().unwrap_or(0), group) else {
            return false;
        };
        moves.entry(to).or_default().push(u32::from(group));
    }
    for (to, groups) in moves {
        // Whether it was accepted is seen in the table.
        shared.table.propose(ReplyTo::Nobody, Move { groups, to });
    }
    true
}

/// Who takes a group: the one who is wanted, or whoever would be given it if this node died.
fn somebody(shared: &Shared, members: &Members, wanted: u64, group: u8) -> Option<u64> {
    let me = shared.table.published().me();
    let alive = members.alive().into_iter();
    let able = members.fit(
        alive
            .filter(|node| *node != me && members.can_own(*node))
            .collect(),
    );
    match able.contains(&wanted) {
        true => Some(wanted),
        false => preferred_owner(group, able),
    }
}

fn note_cut(shared: &Shared, groups: usize) {
    for _ in 0..groups {
        shared.metrics.count(Counter::GroupsCut);
    }
}

fn note_end(shared: &Shared, gone: usize, kept: usize) {
    for _ in 0..gone {
        shared.metrics.count(Counter::GroupsHandedOver);
    }
    for _ in 0..kept {
        shared.metrics.count(Counter::GroupsKept);
    }
    match kept {
        0 => tracing::info!(groups = gone, "groups handed over"),
        _ => tracing::warn!(
            groups = gone,
            kept,
            "groups handed over; nobody took those that are kept"
        ),
    }
}

/// Groups that one task hands over; dropped, they stay, or are another's.
struct Claims<'a> {
    shared: &'a Shared,
    groups: Vec<u8>,
}

impl<'a> Claims<'a> {
    fn new(shared: &'a Shared, groups: impl Iterator<Item = u8>) -> Self {
        let published = shared.table.published();
        let is_here = |group: &u8| published.owner(*group) == published.me();
        let groups = groups.filter(|group| is_here(group) && shared.departures.claim(*group));
        Self {
            groups: groups.collect(),
            shared,
        }
    }

    fn set_phases(&self, phases: impl Iterator<Item = (u8, Phase)>) {
        for (group, phase) in phases {
            self.shared.departures.set_phase(group, phase);
        }
    }
}

impl Drop for Claims<'_> {
    fn drop(&mut self) {
        for group in &self.groups {
            self.shared.departures.release(*group);
        }
    }
}
