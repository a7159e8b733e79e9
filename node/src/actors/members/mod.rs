//! The other members of the cluster, as this node sees them.
//!
//! [`Members`] is what everybody may read; [`Membership`] belongs to the table's thread, runs the failure detector and says which
//! groups have to go to somebody else. What comes from peers enters by [`Incoming`], on the peers thread.

mod detector;
mod incoming;
mod isolation;
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_cluster::liveness::WayToLacs;
use holdfast_cluster::replica;
use tokio::sync::mpsc;

pub use self::detector::{Judged, Membership};
pub use self::incoming::{FromPeer, Heard, Incoming};
pub use self::transport::PeersTransport;
use super::act::Acts;
use super::agreement::{Agreement, Agreements};
use super::handover::{self, HandOver};
use super::orders::Desk;
use super::reports::Reports;
use crate::config::{Config, MemberConfig};
use crate::io::Entrance;
use crate::peers::{Frame, PeersHandle};

/// What everybody may know of the members.
#[derive(Debug)]
pub struct Members {
    peers: PeersHandle,
    witnesses: ArcSwap<BTreeSet<u64>>,
    heard: Arc<Heard>,
    /// The Raft group as last decided; the configuration may say otherwise.
    group: ArcSwap<replica::Members>,
    alive: ArcSwap<BTreeSet<u64>>,
    /// The last log entry that each has applied, as it last said.
    applied: ArcSwap<BTreeMap<u64, u64>>,
    /// Milliseconds of CLOCK_BOOTTIME until which this node is known to be no stale owner.
    fresh_until_ms: AtomicU64,
    lonely: AtomicBool,
    /// How long this node may forward without following the group.
    isolation_limit: Duration,
    /// It may not forward now.
    isolated: AtomicBool,
    /// Every node that still forwards has applied this log entry.
    horizon: AtomicU64,
    /// This node has lost its way to the LACs, or may have.
    way_lost: AtomicBool,
    way_in_doubt: AtomicBool,
    /// Those who say that they have, this node among them.
    wayless: ArcSwap<BTreeSet<u64>>,
    /// These, those with full disks, and who may have lost its way: none is given groups where another can have them.
    unfit: ArcSwap<BTreeSet<u64>>,
    /// Those who live and whose disks are full.
    full: ArcSwap<BTreeSet<u64>>,
}

impl Members {
    /// Nobody is known to live yet.
    pub fn new(
        peers: PeersHandle,
        witnesses: BTreeSet<u64>,
        isolation_limit: Duration,
        heard: Arc<Heard>,
    ) -> Self {
        Self {
            peers,
            witnesses: ArcSwap::from_pointee(witnesses),
            heard,
            group: ArcSwap::default(),
            alive: ArcSwap::default(),
            applied: ArcSwap::default(),
            fresh_until_ms: AtomicU64::new(0),
            lonely: AtomicBool::new(false),
            isolation_limit,
            isolated: AtomicBool::new(true),
            horizon: AtomicU64::new(0),
            way_lost: AtomicBool::new(false),
            way_in_doubt: AtomicBool::new(false),
            wayless: ArcSwap::default(),
            unfit: ArcSwap::default(),
            full: ArcSwap::default(),
        }
    }

    /// The connections.
    pub fn peers(&self) -> &PeersHandle {
        &self.peers
    }

    /// What other nodes pass here goes to these packet threads. Heard once.
    pub fn open(&self, entrance: Entrance) {
        let _ = self.heard.entrance.set(entrance);
    }

    /// What the members have alike, and what not.
    pub fn agreements(&self) -> &Agreements {
        &self.heard.agreements
    }

    /// This node has another configuration: who is new in it is dialled, who is gone hung up on, and the others are told.
    pub fn reconfigure(&self, config: &Config) {
        self.witnesses.store(Arc::new(witnesses(&config.members)));
        self.peers.set_members(&config.members);
        let agreement = Agreement::of(config);
        self.heard.agreements.reconfigure(agreement);
        self.peers.set_configuration(agreement.encode());
        for node in self.peers.connected() {
            // Who does not hear it now hears it with the next Hello.
            self.peers.send(node, Frame::Order(agreement.encode()));
        }
    }

    /// Who belongs to the Raft group, as far as it is known here.
    pub fn group(&self) -> Arc<replica::Members> {
        self.group.load_full()
    }

    /// Whether a member answers, as far as this node can tell.
    pub fn is_alive(&self, node: u64) -> bool {
        self.alive.load().contains(&node)
    }

    /// Those who answer, this node among them.
    pub fn alive(&self) -> BTreeSet<u64> {
        BTreeSet::clone(&self.alive.load())
    }

    /// The last log entry that each member which was heard has applied.
    pub fn applied(&self) -> Arc<BTreeMap<u64, u64>> {
        self.applied.load_full()
    }

    /// Orders that wait.
    pub fn desk(&self) -> &Desk {
        &self.heard.desk
    }

    /// What RADIUS servers ordered of sessions at other nodes.
    pub fn acts(&self) -> &Acts {
        &self.heard.acts
    }

    /// Whether this node, which is `node`, was removed from the group: it has heard of that, or others say so and it hears no leader.
    pub fn is_removed(&self, node: u64) -> bool {
        let group = self.group.load();
        let knows = !group.voters.is_empty() && !group.contains(node);
        knows || (self.is_lonely() && self.heard.desk.no_member_says().is_some())
    }

    /// Until when frames that wait for no commit may be sent (design invariant 3).
    pub fn fresh_until(&self) -> Duration {
        Duration::from_millis(self.fresh_until_ms.load(Acquire))
    }

    /// Traffic that other members have counted.
    pub fn reports(&self) -> &Reports {
        &self.heard.reports
    }

    /// Whether a member was connected since this was last asked, which may know nothing of earlier reports.
    pub fn has_newcomer(&self) -> bool {
        self.heard.newcomer.swap(false, Relaxed)
    }

    /// Whether there has been no quorum or no leader for a while, so that nothing can be acknowledged here.
    pub fn is_lonely(&self) -> bool {
        self.lonely.load(Relaxed)
    }

    /// Whether this node forwards nothing: it has not followed the group for too long, or not yet.
    pub fn is_isolated(&self) -> bool {
        self.isolated.load(Relaxed)
    }

    /// The last log entry that every node has applied which still forwards (design invariant 7).
    pub fn horizon(&self) -> u64 {
        self.horizon.load(Relaxed)
    }

    /// Whether a member lives and its disk is full: it takes no new calls, and gets no groups.
    pub fn is_full(&self, node: u64) -> bool {
        self.full.load().contains(&node)
    }

    /// What this node knows of its way to the LACs: the others are told.
    pub fn set_way(&self, way: WayToLacs) {
        self.way_lost.store(way.lost, Relaxed);
        self.way_in_doubt.store(way.in_doubt, Relaxed);
    }

    fn way(&self) -> WayToLacs {
        WayToLacs {
            lost: self.way_lost.load(Relaxed),
            in_doubt: self.way_in_doubt.load(Relaxed),
        }
    }

    /// Whether a member says that it has lost its way to the LACs.
    pub fn is_wayless(&self, node: u64) -> bool {
        self.wayless.load().contains(&node)
    }

    /// Whether this node has lost its way to the LACs while another that serves has one.
    pub fn leaves_lacs_to_others(&self) -> bool {
        let reaches = |node: &u64| !self.is_witness(*node) && !self.is_wayless(*node);
        self.way().lost && self.alive.load().iter().any(reaches)
    }

    /// Whether a member could be given groups now.
    pub fn can_own(&self, node: u64) -> bool {
        self.is_alive(node) && self.may_own(node)
    }

    /// Those of these nodes who can serve LACs; all, where nobody can.
    pub fn fit(&self, nodes: Vec<u64>) -> Vec<u64> {
        let unfit = self.unfit.load();
        preferring(nodes, |node| unfit.contains(&node))
    }

    /// Who is to lead only where nobody else can: a witness, one whose disk is full, and one that is being stopped.
    pub fn unwilling_leaders(&self) -> BTreeSet<u64> {
        let full = self.full.load();
        let stopping = self.heard.stopping.load();
        let witnesses = self.witnesses.load();
        let unwilling = witnesses.iter().chain(full.iter()).chain(stopping.iter());
        unwilling.copied().collect()
    }

    /// Whether another member is there that could be given groups, now or as soon as it answers.
    pub fn could_take_over(&self) -> bool {
        self.peers.connected().into_iter().any(|node| self.may_own(node))
    }

    fn may_own(&self, node: u64) -> bool {
        let is_stopping = self.heard.stopping.load().contains(&node);
        !self.is_witness(node) && !is_stopping && self.group().voters.contains(&node)
    }

    /// The others are told that this node is being stopped.
    pub fn announce_stop(&self) {
        for node in self.peers.connected() {
            // Who does not hear it finds out when the node is gone.
            self.peers
                .send(node, Frame::Order(handover::Order::Stopping.encode()));
        }
    }

    /// What other members order to be handed over; to be taken once.
    pub fn hand_overs(&self) -> Option<mpsc::Receiver<HandOver>> {
        let ordered = &self.heard.ordered;
        ordered.lock().expect("nothing panics with it locked").take()
    }

    /// Whether a member owns no groups.
    pub fn is_witness(&self, node: u64) -> bool {
        self.witnesses.load().contains(&node)
    }
}

/// Those who own no groups.
pub fn witnesses(members: &[MemberConfig]) -> BTreeSet<u64> {
    let witnesses = members.iter().filter(|member| member.witness);
    witnesses.map(|member| member.id).collect()
}

/// Those who can; all, where nobody can.
fn preferring(nodes: Vec<u64>, is_unable: impl Fn(u64) -> bool) -> Vec<u64> {
    let (unable, able): (Vec<u64>, Vec<u64>) = nodes.into_iter().partition(|node| is_unable(*node));
    if able.is_empty() { unable } else { able }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_way_to_the_lacs_gets_groups_only_where_nobody_has_one() {
        assert_eq!(preferring(vec![1, 2, 3], |node| node == 2), [1, 3]);
        assert_eq!(preferring(vec![1, 2], |_| false), [1, 2]);
        assert_eq!(preferring(vec![1, 2], |_| true), [1, 2]);
        assert!(preferring(Vec::new(), |_| true).is_empty());
    }
}
