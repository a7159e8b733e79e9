//! The other members of the cluster, as this node sees them.
//!
//! [`Members`] is what everybody may read; [`Membership`] belongs to the table's thread, runs the failure detector and says which
//! groups have to go to somebody else. What comes from peers enters by [`Incoming`], on the peers thread.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_cluster::Replica;
use holdfast_cluster::commands::Assign;
use holdfast_cluster::liveness::{self, Liveness, Reassign, View, WayToLacs};
use holdfast_cluster::replica::{self, Transport};
use holdfast_cluster::table::Group;
use holdfast_protocol::TunnelId;
use tokio::sync::mpsc;

use super::agreement::{Agreement, Agreements};
use super::relay;
use super::reports::Reports;
use super::table::TableHandle;
use crate::io::{Inbound, clock};
use crate::metrics::{Counter, Metrics};
use crate::peers::{Frame, Hello, PeerEvents, PeersHandle};

/// What another member sent, or became, for the table's thread.
#[derive(Debug)]
pub enum FromPeer {
    /// A message of the Raft group.
    Raft(Vec<u8>),
    /// A probe or its answer.
    Probe(u64, Vec<u8>),
    /// Nobody listens at its address any more: its process is gone.
    Gone(u64),
}

/// What comes in for everybody, shared with [`Members`].
#[derive(Debug)]
pub struct Heard {
    agreements: Agreements,
    reports: Reports,
    /// A member was connected, which may know nothing of earlier reports.
    newcomer: AtomicBool,
}

impl Heard {
    /// Nothing yet.
    pub fn new(agreements: Agreements) -> Self {
        Self {
            agreements,
            reports: Reports::default(),
            newcomer: AtomicBool::new(false),
        }
    }
}

/// What everybody may know of the members.
#[derive(Debug)]
pub struct Members {
    peers: PeersHandle,
    witnesses: BTreeSet<u64>,
    heard: Arc<Heard>,
    /// The Raft group as last decided; the configuration may say otherwise.
    group: ArcSwap<replica::Members>,
    alive: ArcSwap<BTreeSet<u64>>,
    /// Milliseconds of CLOCK_BOOTTIME until which this node is known to be no stale owner.
    fresh_until_ms: AtomicU64,
    lonely: AtomicBool,
    /// This node has lost its way to the LACs, or may have.
    way_lost: AtomicBool,
    way_in_doubt: AtomicBool,
    /// Those who say that they have, this node among them.
    wayless: ArcSwap<BTreeSet<u64>>,
}

impl Members {
    /// Nobody is known to live yet.
    pub fn new(peers: PeersHandle, witnesses: BTreeSet<u64>, heard: Arc<Heard>) -> Self {
        Self {
            peers,
            witnesses,
            heard,
            group: ArcSwap::default(),
            alive: ArcSwap::default(),
            fresh_until_ms: AtomicU64::new(0),
            lonely: AtomicBool::new(false),
            way_lost: AtomicBool::new(false),
            way_in_doubt: AtomicBool::new(false),
            wayless: ArcSwap::default(),
        }
    }

    /// The connections.
    pub fn peers(&self) -> &PeersHandle {
        &self.peers
    }

    /// What the members have alike, and what not.
    pub fn agreements(&self) -> &Agreements {
        &self.heard.agreements
    }

    /// This node has another configuration: the others are told.
    pub fn reconfigure(&self, agreement: Agreement) {
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

    /// Until when frames that wait for no commit may be sent (design invariant 3).
    pub fn fresh_until(&self) -> Duration {
        Duration::from_millis(self.fresh_until_ms.load(Relaxed))
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

    /// Whether a member owns no groups.
    pub fn is_witness(&self, node: u64) -> bool {
        self.witnesses.contains(&node)
    }
}

/// The part that the table's thread runs.
#[derive(Debug)]
pub struct Membership {
    members: Arc<Members>,
    liveness: Liveness,
    metrics: Arc<Metrics>,
}

impl Membership {
    /// A failure detector that probes at once. `boot` is another number for each process.
    pub fn new(
        node: u64,
        boot: u64,
        members: Arc<Members>,
        group: replica::Members,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = clock::since_boot();
        let liveness = Liveness::new(node, boot, voting(&group), now);
        members.group.store(Arc::new(group));
        Self {
            liveness,
            members,
            metrics,
        }
    }

    /// The Raft group has other members.
    pub fn set_group(&mut self, now: Duration, group: replica::Members) {
        self.liveness.set_members(now, voting(&group));
        self.members.group.store(Arc::new(group));
        self.carry_out();
    }

    /// Takes what came from another member; Raft's messages are the replica's.
    pub fn handle(&mut self, now: Duration, from: FromPeer) {
        match from {
            FromPeer::Raft(_) => {}
            FromPeer::Probe(node, octets) => {
                if self.liveness.handle_message(now, node, &octets).is_err() {
                    self.metrics.count(Counter::ProbesMalformed);
                }
            }
            FromPeer::Gone(node) => self.liveness.handle_closed(now, node),
        }
        self.carry_out();
    }

    /// Probes who is due, and says which groups must go to somebody else. `incarnation` is that of this process.
    pub fn judge(&mut self, now: Duration, replica: &Replica, incarnation: u64) -> Vec<Assign> {
        let leadership = replica.leadership();
        self.liveness.set_view(
            now,
            View {
                leader: leadership.leader.unwrap_or(0),
                term: leadership.term,
                applied: replica.table().applied(),
                last: replica.last_index(),
                incarnation,
            },
        );
        self.liveness.set_way(self.members.way());
        self.liveness.handle_timeout(now);
        self.carry_out();
        self.publish();
        if !leadership.is_self {
            return Vec::new();
        }
        let groups: Vec<Group> = (0..=u8::MAX).map(|group| replica.table().group(group)).collect();
        let due = self.liveness.reassign(now, &groups, &self.members.witnesses);
        due.into_iter()
            .map(|reassign| self.assign(reassign, leadership.term))
            .collect()
    }

    fn assign(&self, reassign: Reassign, term: u64) -> Assign {
        let Reassign {
            from,
            incarnation,
            alive,
            wayless,
        } = reassign;
        if from != 0 {
            self.metrics.count(Counter::Takeovers);
            let why = match wayless {
                true => "has lost its way to the LACs",
                false => "is down",
            };
            tracing::warn!(node = from, to = ?alive, "the groups of a node that {why} go to others");
        }
        Assign {
            from,
            incarnation,
            alive,
            term,
        }
    }

    /// An Assign was judged or lost. `applied` is the last log index that was applied then.
    pub fn assign_judged(&mut self, from: u64, applied: u64) {
        self.liveness.handle_verdict(from, applied);
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.liveness.poll_output() {
            match output {
                liveness::Output::Send { to, octets } => {
                    // A datagram that cannot be sent now is as good as lost; the next one follows.
                    let _ = self.members.peers.send_datagram(to, octets);
                }
                liveness::Output::Down(node) => tracing::warn!(node, "a member does not answer any more"),
                liveness::Output::Back(node) => tracing::info!(node, "a member answers"),
                liveness::Output::Lonely(lonely) => {
                    self.members.lonely.store(lonely, Relaxed);
                    log_lonely(lonely);
                }
            }
        }
    }

    fn publish(&self) {
        let fresh = self.liveness.fresh_until().unwrap_or(Duration::MAX);
        let fresh = u64::try_from(fresh.as_millis()).unwrap_or(u64::MAX);
        self.members.fresh_until_ms.store(fresh, Relaxed);
        let alive: BTreeSet<u64> = self.liveness.alive().into_keys().collect();
        if **self.members.alive.load() != alive {
            self.members.alive.store(Arc::new(alive));
        }
        let wayless = self.liveness.wayless();
        if **self.members.wayless.load() != wayless {
            self.members.wayless.store(Arc::new(wayless));
        }
    }
}

/// As the failure detector knows them.
fn voting(group: &replica::Members) -> liveness::Members {
    let set = |ids: &[u64]| ids.iter().copied().collect();
    liveness::Members {
        voters: set(&group.voters),
        outgoing: set(&group.outgoing),
        learners: set(&group.learners),
    }
}

fn log_lonely(lonely: bool) {
    if lonely {
        tracing::error!(
            "there is no quorum of the cluster: sessions go on, but nothing can be set up, closed or acknowledged"
        );
    } else {
        tracing::info!("there is a quorum of the cluster again");
    }
}

/// Raft's messages to other members.
#[derive(Debug)]
pub struct PeersTransport(PeersHandle);

impl PeersTransport {
    /// By these connections.
    pub fn new(peers: PeersHandle) -> Self {
        Self(peers)
    }
}

impl Transport for PeersTransport {
    fn send(&mut self, to: u64, message: Vec<u8>) {
        // Raft sends again what is lost.
        let _ = self.0.send(to, Frame::Raft(message));
    }
}

/// The way in: called on the peers thread, which it must not hold up.
#[derive(Debug)]
pub struct Incoming {
    table: TableHandle,
    shards: Vec<mpsc::Sender<Inbound>>,
    heard: Arc<Heard>,
    metrics: Arc<Metrics>,
    /// Whom we had a stream to since they were last gone.
    seen: Mutex<BTreeSet<u64>>,
}

impl Incoming {
    /// To the table's thread and to the shards' actors.
    pub fn new(
        table: TableHandle,
        shards: Vec<mpsc::Sender<Inbound>>,
        heard: Arc<Heard>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            table,
            shards,
            heard,
            metrics,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.seen.lock().expect("nothing panics with the set locked")
    }

    fn on_order(&self, from: u64, order: &[u8]) {
        if let Some(agreement) = Agreement::decode(order) {
            return self.heard.agreements.changed(from, agreement);
        }
        match relay::disconnect_from(order) {
            Some(packet) => self.deliver(Some(packet), 0),
            None => tracing::debug!(from, "an order of a newer version is passed over"),
        }
    }

    /// To the shard of the packet's tunnel; an SCCRQ, which has none, goes by `spread`.
    fn deliver(&self, packet: Option<Inbound>, spread: usize) {
        let shards = self.shards.len();
        let taken = packet.is_some_and(|packet| {
            let shard =
                relay::tunnel_of(&packet).map_or(spread % shards, |tunnel: TunnelId| tunnel.shard(shards));
            self.shards[shard].try_send(packet).is_ok()
        });
        if !taken {
            self.metrics.count(Counter::RelaysDropped);
        }
    }
}

impl PeerEvents for Incoming {
    fn on_frame(&self, from: u64, frame: Frame) {
        match frame {
            Frame::Raft(message) => self.table.from_peer(FromPeer::Raft(message)),
            Frame::Relay(relayed) => {
                let spread = usize::from(relayed.from.port());
                self.deliver(relay::from_relay(relayed), spread);
            }
            Frame::Order(order) => self.on_order(from, &order),
            Frame::Counters(report) => {
                if !self.heard.reports.take(from, &report) {
                    tracing::debug!(from, "a report that makes no sense is passed over");
                }
            }
        }
    }

    fn on_datagram(&self, from: u64, octets: Vec<u8>) {
        self.table.from_peer(FromPeer::Probe(from, octets));
    }

    fn on_up(&self, node: u64, hello: Hello) {
        self.seen().insert(node);
        self.heard.newcomer.store(true, Relaxed);
        tracing::info!(node, program = hello.program, "connected to a member");
        self.heard.agreements.hello(node, &hello);
    }

    fn on_down(&self, node: u64, refused: bool) {
        if refused {
            // A member that was never there has not died.
            if self.seen().remove(&node) {
                self.table.from_peer(FromPeer::Gone(node));
            }
        } else {
            tracing::info!(node, "disconnected from a member");
        }
    }
}
