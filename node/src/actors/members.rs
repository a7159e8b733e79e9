//! The other members of the cluster, as this node sees them.
//!
//! [`Members`] is what everybody may read; [`Membership`] belongs to the table's thread, runs the failure detector and says which
//! groups have to go to somebody else. What comes from peers enters by [`Incoming`], on the peers thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_cluster::Replica;
use holdfast_cluster::commands::Assign;
use holdfast_cluster::liveness::{self, Liveness, Reassign, View};
use holdfast_cluster::replica::{self, Lineage, Transport};
use holdfast_cluster::table::Group;
use holdfast_protocol::TunnelId;
use tokio::sync::mpsc;

use super::agreement::{Agreement, Agreements};
use super::orders::{Desk, Message};
use super::relay;
use super::reports::Reports;
use super::table::TableHandle;
use crate::io::{Inbound, clock};
use crate::metrics::{Counter, Metrics};
use crate::peers::{Frame, Hello, Past, PeerEvents, PeersHandle};
use crate::server::past;

/// What another member sent, or became, for the table's thread.
#[derive(Debug)]
pub enum FromPeer {
    /// A message of the Raft group.
    Raft(Vec<u8>),
    /// A probe or its answer.
    Probe(u64, Vec<u8>),
    /// Nobody listens at its address any more: its process is gone.
    Gone(u64),
    /// It belongs to the cluster as it was recovered without us.
    Superseded(u64),
}

/// What comes in for everybody, shared with [`Members`].
#[derive(Debug)]
pub struct Heard {
    agreements: Agreements,
    reports: Reports,
    desk: Desk,
    /// A member was connected, which may know nothing of earlier reports.
    newcomer: AtomicBool,
}

impl Heard {
    /// Nothing yet.
    pub fn new(agreements: Agreements) -> Self {
        Self {
            agreements,
            reports: Reports::default(),
            desk: Desk::default(),
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
    /// The last log entry that each has applied, as it last said.
    applied: ArcSwap<BTreeMap<u64, u64>>,
    /// Milliseconds of CLOCK_BOOTTIME until which this node is known to be no stale owner.
    fresh_until_ms: AtomicU64,
    lonely: AtomicBool,
    /// This node has lost its way to the LACs.
    way_lost: AtomicBool,
    /// Those who say that they have, this node among them.
    wayless: ArcSwap<BTreeSet<u64>>,
    /// Those who live and whose disks are full.
    full: ArcSwap<BTreeSet<u64>>,
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
            applied: ArcSwap::default(),
            fresh_until_ms: AtomicU64::new(0),
            lonely: AtomicBool::new(false),
            way_lost: AtomicBool::new(false),
            wayless: ArcSwap::default(),
            full: ArcSwap::default(),
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

    /// The last log entry that each member which was heard has applied.
    pub fn applied(&self) -> Arc<BTreeMap<u64, u64>> {
        self.applied.load_full()
    }

    /// Orders that wait.
    pub fn desk(&self) -> &Desk {
        &self.heard.desk
    }

    /// Whether this node, which is `node`, was removed from the group: it has heard of that, or others say so and it hears no leader.
    pub fn is_removed(&self, node: u64) -> bool {
        let group = self.group.load();
        let knows = !group.voters.is_empty() && !group.contains(node);
        knows || (self.is_lonely() && self.heard.desk.no_member_says().is_some())
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

    /// Whether a member lives and its disk is full: it takes no new calls, and gets no groups.
    pub fn is_full(&self, node: u64) -> bool {
        self.full.load().contains(&node)
    }

    /// This node has lost its way to the LACs, or has it back: the others are told.
    pub fn set_way_lost(&self, lost: bool) {
        self.way_lost.store(lost, Relaxed);
    }

    /// Whether a member says that it has lost its way to the LACs.
    pub fn is_wayless(&self, node: u64) -> bool {
        self.wayless.load().contains(&node)
    }

    /// Whether this node has lost its way to the LACs while another that serves has one.
    pub fn leaves_lacs_to_others(&self) -> bool {
        let reaches = |node: &u64| !self.is_witness(*node) && !self.is_wayless(*node);
        self.way_lost.load(Relaxed) && self.alive.load().iter().any(reaches)
    }

    /// Whether a member owns no groups.
    pub fn is_witness(&self, node: u64) -> bool {
        self.witnesses.contains(&node)
    }
}

/// What a look at the members came to, where this node leads.
#[derive(Debug, Default)]
pub struct Judged {
    /// Groups that are to go to others.
    pub assigns: Vec<Assign>,
    /// Who is to lead in place of this node, which steps aside.
    pub next_leader: Option<u64>,
}

/// The part that the table's thread runs.
#[derive(Debug)]
pub struct Membership {
    members: Arc<Members>,
    liveness: Liveness,
    /// As the others are told.
    lineage: Lineage,
    metrics: Arc<Metrics>,
    /// As last said to the others.
    past: Past,
}

impl Membership {
    /// A failure detector that probes at once. `boot` is another number for each process.
    pub fn new(
        node: u64,
        boot: u64,
        members: Arc<Members>,
        group: replica::Members,
        lineage: Lineage,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = clock::since_boot();
        let liveness = Liveness::new(node, boot, voting(&group), now);
        members.group.store(Arc::new(group));
        Self {
            liveness,
            lineage,
            members,
            metrics,
            past: Past::default(),
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
            // Of the replica and of the table's thread.
            FromPeer::Raft(_) | FromPeer::Superseded(_) => {}
            FromPeer::Probe(node, octets) => {
                if self.liveness.handle_message(now, node, &octets).is_err() {
                    self.metrics.count(Counter::ProbesMalformed);
                }
            }
            FromPeer::Gone(node) => self.liveness.handle_closed(now, node),
        }
        self.carry_out();
    }

    /// Probes who is due, and says which groups must go to somebody else, and whether the lead must. `incarnation` is that of
    /// this process.
    pub fn judge(&mut self, now: Duration, replica: &Replica, incarnation: u64) -> Judged {
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
        self.liveness.set_wayless(self.members.way_lost.load(Relaxed));
        self.liveness.set_full(replica.reserve_in_use());
        self.liveness.handle_timeout(now);
        self.carry_out();
        self.publish();
        self.remember(past::of(replica));
        if self.lineage != replica.lineage() {
            // The table came from the cluster that adds this node.
            self.lineage = replica.lineage();
            self.members.peers.set_lineage(self.lineage);
        }
        if !leadership.is_self {
            return Judged::default();
        }
        let groups: Vec<Group> = (0..=u8::MAX).map(|group| replica.table().group(group)).collect();
        let due = self.liveness.reassign(now, &groups, &self.members.witnesses);
        let assign = |reassign| self.assign(reassign, leadership.term);
        Judged {
            assigns: due.into_iter().map(assign).collect(),
            next_leader: self.next_leader(now, &groups, replica),
        }
    }

    fn next_leader(&mut self, now: Duration, groups: &[Group], replica: &Replica) -> Option<u64> {
        let voters = replica.members().voters;
        let mut progress = replica.progress();
        progress.retain(|member| voters.contains(&member.id));
        progress.sort_by_key(|member| std::cmp::Reverse((member.recently_active, member.matched)));
        let best: Vec<u64> = progress.into_iter().map(|member| member.id).collect();
        let next = self.liveness.pass_lead_to(now, groups, &best)?;
        tracing::warn!(to = next, "the disk is full: another node is to lead");
        Some(next)
    }

    fn assign(&self, reassign: Reassign, term: u64) -> Assign {
        let Reassign {
            from,
            incarnation,
            alive,
            steps_aside,
        } = reassign;
        if from != 0 {
            self.metrics.count(Counter::Takeovers);
            let why = match () {
                () if !steps_aside => "is down",
                () if self.liveness.full().contains(&from) => "has a full disk",
                () => "has lost its way to the LACs",
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

    /// Tells those who connect from now on.
    fn remember(&mut self, past: Past) {
        if self.past != past {
            self.past.clone_from(&past);
            self.members.peers.set_past(past);
        }
    }

    fn publish(&self) {
        let fresh = self.liveness.fresh_until().unwrap_or(Duration::MAX);
        let fresh = u64::try_from(fresh.as_millis()).unwrap_or(u64::MAX);
        self.members.fresh_until_ms.store(fresh, Relaxed);
        self.members.applied.store(Arc::new(self.liveness.applied()));
        let alive: BTreeSet<u64> = self.liveness.alive().into_keys().collect();
        if **self.members.alive.load() != alive {
            self.members.alive.store(Arc::new(alive));
        }
        let wayless = self.liveness.wayless();
        if **self.members.wayless.load() != wayless {
            self.members.wayless.store(Arc::new(wayless));
        }
        let full = self.liveness.full();
        if **self.members.full.load() != full {
            self.members.full.store(Arc::new(full));
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
#[derive(Clone, Debug, Default)]
pub struct PeersTransport(Arc<OnceLock<PeersHandle>>);

impl PeersTransport {
    /// By these connections from now on; what was sent before is lost.
    pub fn connect(&self, peers: PeersHandle) {
        self.0.get_or_init(|| peers);
    }
}

impl Transport for PeersTransport {
    fn send(&mut self, to: u64, message: Vec<u8>) {
        if let Some(peers) = self.0.get() {
            // Raft sends again what is lost.
            let _ = peers.send(to, Frame::Raft(message));
        }
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
        if let Some(message) = Message::decode(order) {
            if !self.heard.desk.take(from, message) {
                self.metrics.count(Counter::OrdersDropped);
            }
            return;
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
            Frame::Counters(report) => match self.heard.reports.take(from, &report) {
                None => tracing::debug!(from, "a report that makes no sense is passed over"),
                Some(theirs) if theirs.is_zero() => {}
                Some(theirs) => self.heard.agreements.clock(from, theirs, clock::unix()),
            },
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

    fn on_superseded(&self, node: u64) {
        self.table.from_peer(FromPeer::Superseded(node));
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
