//! The thread that owns the session table: it gathers proposals, has them written and applied, and hands out what follows.
//!
//! Order matters and is kept: an accepted change first reaches the forwarding tables, then its proposer. So a shard knows a new
//! tunnel before the SCCRP that invites traffic for it leaves.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use holdfast_cluster::commands::Command;
use holdfast_cluster::records::{SessionRow, TunnelRow};
use holdfast_cluster::replica::{Output, ProposeError, Replica, ReplicaError};
use holdfast_cluster::table::Group;
use holdfast_cluster::{Effect, Table, Verdict};
use holdfast_protocol::{SessionId, TunnelId};
use tokio::sync::oneshot;

use super::forwarding::Forwarding;
use super::members::{FromPeer, Membership};
use super::published::Published;
use super::reach::PoolNetworks;
use super::shard::{ShardInput, ShardSender};
use super::subscriber;
use super::tunnel;
use crate::aaa::Filters;
use crate::anycast::Presence;
use crate::io::{Pulse, clock};
use crate::lns::repeats::PeerKey;
use crate::metrics::{Counter, Metrics};

/// Requests waiting for the table's thread. A proposal that finds it full is sent again by its owner.
pub const REQUESTS_MAX: usize = 65_536;

/// Requests taken at once before the disk is asked to sync: all that may wait. Whatever is taken is known, so that a change which its
/// owner proposes again meanwhile costs nothing.
const REQUESTS_PER_TURN: usize = REQUESTS_MAX;

/// A thread that is silent for longer hangs: the routers must look elsewhere. A sync of a slow disk is no hang.
const PULSE_LIMIT: Duration = Duration::from_secs(1);

/// How often Raft's clock ticks.
const TICK: Duration = Duration::from_millis(10);

/// Where a verdict goes.
#[derive(Debug)]
pub enum ReplyTo {
    /// To a tunnel's actor: the answer to a change of this revision.
    Change {
        /// The tunnel.
        tunnel: TunnelId,
        /// The life under which it was proposed.
        life: u64,
        /// The revision that was proposed.
        revision: u64,
    },
    /// To the shard: a tunnel is to be born, created or reclaimed.
    Birth {
        /// The tunnel.
        tunnel: TunnelId,
        /// The peer's key that was claimed for it, if it is a new one.
        key: Option<PeerKey>,
    },
    /// To a tunnel's actor: its tombstone is to go.
    Removal {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// To the failure detector: groups of this node were to be assigned to others.
    Assign(u64),
    /// To whoever waits.
    Waiter(oneshot::Sender<Verdict>),
    /// Nobody needs to know.
    Nobody,
}

/// A tunnel and its sessions as the table has them: what an actor is born from.
#[derive(Clone, Debug)]
pub struct Image {
    /// The tunnel.
    pub row: Arc<TunnelRow>,
    /// Its sessions, by id.
    pub sessions: Vec<Arc<SessionRow>>,
    /// The life under which a change is accepted now.
    pub life: u64,
    /// Session ids that rest, with the table time of their release.
    pub resting: Vec<(SessionId, u64)>,
    /// Sessions that are still to be cleared because another one took their place.
    pub replaced: Vec<SessionId>,
}

impl Image {
    /// Of one tunnel.
    pub fn of(table: &Table, tunnel: TunnelId) -> Option<Self> {
        let found = table.tunnel(tunnel)?;
        Some(Self {
            row: found.row().clone(),
            sessions: found.sessions().map(|(_, row)| row.clone()).collect(),
            life: table.current_life(found.row()),
            resting: found.resting_sessions().collect(),
            replaced: found.replaced_sessions().collect(),
        })
    }
}

type Query = Box<dyn FnOnce(&Table) + Send>;

/// What is to be done with the Raft group itself.
type Steer = Box<dyn FnOnce(&mut Replica) + Send>;

enum Request {
    Propose(ReplyTo, Box<Command>),
    Query(Query),
    Steer(Steer),
    Peer(FromPeer),
    Pools(PoolNetworks),
    Filters(Arc<Filters>),
    Stop,
}

/// The way to the table's thread.
#[derive(Clone, Debug)]
pub struct TableHandle {
    requests: Sender<Request>,
    published: Arc<Published>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Propose(reply, _) => f.debug_tuple("Propose").field(reply).finish(),
            Self::Query(_) => f.write_str("Query"),
            Self::Steer(_) => f.write_str("Steer"),
            Self::Peer(from) => f.debug_tuple("Peer").field(from).finish(),
            Self::Filters(filters) => f.debug_tuple("Filters").field(filters).finish(),
            Self::Pools(pools) => f.debug_tuple("Pools").field(pools).finish(),
            Self::Stop => f.write_str("Stop"),
        }
    }
}

impl TableHandle {
    /// What anyone may read without asking.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Hands in what came from another member. Should the queue be full it is lost, as on any network.
    pub fn from_peer(&self, from: FromPeer) {
        if self.requests.try_send(Request::Peer(from)).is_err() {
            self.metrics.count(Counter::PeersFramesDropped);
        }
    }

    /// Proposes a command. Should the queue be full the proposal vanishes, as one can in a
    /// cluster (`false` then): its owner sends it again.
    pub fn propose(&self, reply: ReplyTo, command: impl Into<Command>) -> bool {
        self.metrics.count(Counter::Proposals);
        let taken = self
            .requests
            .try_send(Request::Propose(reply, Box::new(command.into())))
            .is_ok();
        if !taken {
            self.metrics.count(Counter::ProposalsDropped);
        }
        taken
    }

    /// Changes that wait to be proposed.
    pub fn waiting(&self) -> usize {
        self.requests.len() + self.published.waiting.load(Relaxed)
    }

    /// Runs `read` on the table after everything proposed before. `false` if it cannot be asked now.
    pub fn query(&self, read: impl FnOnce(&Table) + Send + 'static) -> bool {
        self.requests.try_send(Request::Query(Box::new(read))).is_ok()
    }

    /// As [`Self::query`], with an answer. `None` if the table cannot be asked.
    pub async fn ask<R: Send + 'static>(&self, read: impl FnOnce(&Table) -> R + Send + 'static) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        let asked = self.query(move |table| {
            // An asker who went away needs no answer.
            let _ = answer.send(read(table));
        });
        if asked { answered.await.ok() } else { None }
    }

    /// Has the table's thread change the Raft group or say how it is. `None` if it cannot be asked.
    pub async fn steer<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Replica) -> R + Send + 'static,
    ) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        let steer = move |replica: &mut Replica| {
            // An asker who went away needs no answer.
            let _ = answer.send(change(replica));
        };
        let asked = self.requests.try_send(Request::Steer(Box::new(steer))).is_ok();
        if asked { answered.await.ok() } else { None }
    }

    /// Has other pools routed and announced. `false` if the table cannot be told now.
    pub fn set_pools(&self, pools: PoolNetworks) -> bool {
        self.requests.try_send(Request::Pools(pools)).is_ok()
    }

    /// Has packets held to other filters. `false` if the table cannot be told now.
    pub fn set_filters(&self, filters: Arc<Filters>) -> bool {
        self.requests.try_send(Request::Filters(filters)).is_ok()
    }

    /// Ends the thread after what was proposed before is on disk.
    pub fn stop(&self) {
        let _ = self.requests.send(Request::Stop);
    }
}

/// The thread's end of a [`TableHandle`].
#[derive(Debug)]
pub struct TableEnd {
    requests: Receiver<Request>,
    published: Arc<Published>,
}

/// The way to a table's thread that is yet to be started: what is handed in waits for it.
pub fn channel(node: u64, metrics: Arc<Metrics>) -> (TableHandle, TableEnd) {
    let (sender, requests) = bounded(REQUESTS_MAX);
    let published = Arc::new(Published::new(node));
    let handle = TableHandle {
        requests: sender,
        published: published.clone(),
        metrics,
    };
    (handle, TableEnd { requests, published })
}

/// Everything the thread works with.
pub struct TableThread {
    replica: Replica,
    requests: Receiver<Request>,
    published: Arc<Published>,
    forwarding: Forwarding,
    shards: Vec<ShardSender>,
    /// `None` for a node alone.
    membership: Option<Membership>,
    /// What the routers are told, and the parent process that looks after this thread.
    presence: Option<(Arc<Presence>, Option<Pulse>)>,
    /// This process acts for its groups, and so numbers their sequenced sessions.
    numbers: bool,
    /// Groups have changed hands since the routers were told.
    groups_changed: bool,
    replies: HashMap<u64, ReplyTo>,
    next_token: u64,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for TableThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableThread")
            .field("replies", &self.replies.len())
            .finish_non_exhaustive()
    }
}

impl TableThread {
    /// Starts the thread; it ends with [`TableHandle::stop`], or with an error of the disk, after which nothing more may be
    /// promised to anyone.
    pub fn start(
        end: TableEnd,
        replica: Replica,
        forwarding: Forwarding,
        shards: Vec<ShardSender>,
        membership: Option<Membership>,
        presence: Option<Arc<Presence>>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<thread::JoinHandle<Result<(), ReplicaError>>> {
        let TableEnd { requests, published } = end;
        published.adopt(replica.table());
        published.accounting.rebuild(replica.table());
        let mut thread = Self {
            replica,
            requests,
            published,
            forwarding,
            shards,
            membership,
            presence: presence.map(|presence| {
                let pulses = presence.pulses();
                let pulse = pulses.map(|pulses| pulses.sign_on("table", PULSE_LIMIT, clock::since_boot()));
                (presence, pulse)
            }),
            numbers: false,
            groups_changed: true,
            replies: HashMap::new(),
            next_token: 0,
            metrics,
        };
        thread::Builder::new().name("table".into()).spawn(move || {
            let outcome = thread.run();
            if let Err(error) = &outcome {
                // It ends once.
                let _ = thread.published.failure.set(error.to_string());
            }
            thread.published.stopped.store(true, Relaxed);
            outcome
        })
    }

    fn run(&mut self) -> Result<(), ReplicaError> {
        let mut ticked = clock::since_boot();
        loop {
            let mut queries = Vec::new();
            let stop = self.gather(&mut queries)?;
            self.begin_numbers();
            let now = clock::since_boot();
            if now.saturating_sub(ticked) >= TICK {
                ticked = now;
                self.replica.tick(now, clock::unix())?;
                self.judge(now);
                self.tell_routers(now);
            }
            self.advance()?;
            // Whoever asks, or ends this, wants what was proposed before in the table.
            while (stop || !queries.is_empty()) && self.replica.has_work() {
                self.advance()?;
            }
            for query in queries {
                query(self.replica.table());
            }
            if stop {
                return Ok(());
            }
        }
    }

    /// Takes what waits, for one tick if there is nothing to do meanwhile; `true` if the thread is to end.
    fn gather(&mut self, queries: &mut Vec<Query>) -> Result<bool, ReplicaError> {
        let patience = if self.replica.has_work() {
            Duration::ZERO
        } else {
            TICK
        };
        let first = match self.requests.recv_timeout(patience) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        };
        let requests = self.requests.clone();
        for request in std::iter::once(first).chain(requests.try_iter().take(REQUESTS_PER_TURN)) {
            match request {
                Request::Propose(reply, command) => self.propose(reply, *command),
                Request::Query(query) => queries.push(query),
                Request::Steer(steer) => steer(&mut self.replica),
                Request::Peer(from) => self.on_peer(from)?,
                Request::Filters(filters) => self.forwarding.set_filters(filters),
                Request::Pools(pools) => self.forwarding.set_pools(pools),
                Request::Stop => return Ok(true),
            }
        }
        Ok(false)
    }

    fn propose(&mut self, reply: ReplyTo, command: Command) {
        let token = self.next_token;
        self.next_token += 1;
        match self.replica.propose(token, command) {
            Ok(()) => {
                self.replies.insert(token, reply);
            }
            // The copy that waits will be judged.
            Err(ProposeError::Repeated) => self.metrics.count(Counter::ProposalsRepeated),
            Err(ProposeError::Full | ProposeError::TooLarge { .. }) => self.never_judged(reply),
        }
    }

    fn never_judged(&mut self, reply: ReplyTo) {
        self.metrics.count(Counter::ProposalsDropped);
        match reply {
            ReplyTo::Birth {
                tunnel,
                key: Some(key),
            } => self.forwarding.claim_judged(&key, tunnel, false),
            ReplyTo::Assign(from) => self.on_assign_judged(from),
            _ => {}
        }
    }

    fn on_peer(&mut self, from: FromPeer) -> Result<(), ReplicaError> {
        match from {
            FromPeer::Raft(message) => return self.replica.receive(&message),
            FromPeer::Superseded(by) => return Err(ReplicaError::Superseded { by }),
            _ => {}
        }
        if let Some(membership) = &mut self.membership {
            membership.handle(clock::since_boot(), from);
        }
        Ok(())
    }

    /// Looks after the other members, and has the groups of dead ones assigned if this node leads.
    fn judge(&mut self, now: Duration) {
        let Some(mut membership) = self.membership.take() else {
            return;
        };
        let incarnation = self.published.incarnation.load(Relaxed);
        let judged = membership.judge(now, &self.replica, incarnation);
        self.forwarding.set_forward_until(judged.forward_until);
        for assign in judged.assigns {
            self.propose(ReplyTo::Assign(assign.from), assign.into());
        }
        membership.pass_leadership_on(&mut self.replica);
        if let Some(next) = judged.next_leader
            && let Err(error) = self.replica.transfer_leadership(next)
        {
            tracing::warn!(to = next, %error, "the lead cannot be passed on");
        }
        self.membership = Some(membership);
    }

    /// The groups that this process has taken are its own from here on. Not before: until its Take is applied the log may still
    /// bring numbers that an earlier process of this node reserved, and used. What its actors propose comes later.
    fn begin_numbers(&mut self) {
        if self.numbers || !self.published.bearing.load(Relaxed) {
            return;
        }
        self.numbers = true;
        for group in self.published.own_groups() {
            self.forwarding.set_numbered(group, true);
        }
    }

    /// What is routed here, which parts of it are this node's, and that the thread gets on.
    fn tell_routers(&mut self, now: Duration) {
        let (published, anyway) = (&self.published, std::mem::take(&mut self.groups_changed));
        let owned = |group| published.owner(group) == published.me;
        let announced = self.forwarding.tell_kernel(anyway, owned);
        let Some((presence, pulse)) = &self.presence else {
            return;
        };
        if let Some(pulse) = pulse {
            pulse.beat(now);
        }
        if let Some(networks) = announced {
            presence.set_networks(networks);
        }
    }

    /// Has one batch of what was proposed written and judged, and hands out what follows.
    fn advance(&mut self) -> Result<(), ReplicaError> {
        self.replica.advance()?;
        while let Some(output) = self.replica.poll_output() {
            self.on_output(output);
        }
        self.publish();
        Ok(())
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Effect(effect) => self.on_effect(&effect),
            Output::Verdict { token, verdict } => self.on_verdict(token, verdict),
            Output::Unanswered { token } => {
                if let Some(reply) = self.replies.remove(&token) {
                    self.never_judged(reply);
                }
            }
            Output::Members(members) => {
                tracing::info!(?members, "the cluster has other members");
                if let Some(membership) = &mut self.membership {
                    membership.set_group(clock::since_boot(), members);
                }
            }
            Output::SnapshotTaken { index } => {
                self.metrics.count(Counter::Snapshots);
                tracing::debug!(index, "snapshot of the session table written");
            }
            Output::SnapshotFailed { reason } => tracing::warn!(
                reason,
                "no snapshot of the session table could be written; the log goes on without"
            ),
        }
    }

    fn publish(&self) {
        let leadership = self.replica.leadership();
        self.published.term.store(leadership.term, Relaxed);
        self.published.waiting.store(self.replica.waiting(), Relaxed);
        self.published
            .leader
            .store(leadership.leader.unwrap_or(0), Relaxed);
        self.published.is_leader.store(leadership.is_self, Relaxed);
        self.published
            .applied
            .store(self.replica.table().applied(), Relaxed);
        self.published
            .version
            .store(self.replica.table().version(), Relaxed);
        self.published
            .table_ms
            .store(self.replica.table().now_ms(), Relaxed);
        let sizes = self.replica.log_sizes();
        self.published.log_octets.store(sizes.log, Relaxed);
        self.published.snapshot_octets.store(sizes.snapshot, Relaxed);
        self.published
            .caught_up
            .store(self.replica.is_caught_up(), Relaxed);
        let reserve = self.replica.reserve_in_use();
        if reserve != self.published.reserve_in_use.swap(reserve, Relaxed) {
            if reserve {
                self.metrics.count(Counter::DiskFull);
            }
            log_reserve(reserve);
        }
    }

    fn on_effect(&mut self, effect: &Effect) {
        if let Effect::GroupTaken { group, owner, epoch } = effect {
            self.on_group_taken(*group, *owner, *epoch);
        }
        if *effect == Effect::TableReplaced {
            self.on_table_replaced();
        }
        self.forwarding.apply(effect, self.replica.table().applied());
        self.drop_stale_tunnels();
        self.published.accounting.follow(self.replica.table(), effect);
        if let Effect::SessionRemoved { tunnel, row, .. } = effect {
            self.metrics.count(Counter::SessionsClosed);
            subscriber::log_offline(*tunnel, row);
        }
        if let Effect::SessionReplaced { tunnel, session } = effect {
            self.metrics.count(Counter::SessionsReplaced);
            let input = ShardInput::Replaced {
                tunnel: *tunnel,
                session: *session,
            };
            self.shards[tunnel.shard(self.shards.len())].send(input);
        }
    }

    /// Its actors elsewhere are over; here they are born, or end without a word.
    fn on_group_taken(&mut self, group: u8, owner: u64, epoch: u32) {
        self.groups_changed = true;
        self.published.set_owner(group, owner, epoch);
        let ours = owner == self.published.me;
        self.forwarding.set_numbered(group, ours && self.numbers);
        if !self.published.bearing.load(Relaxed) {
            return;
        }
        for shard in &self.shards {
            shard.send(ShardInput::GroupTaken { group });
        }
        if ours {
            for (tunnel, _) in self.replica.table().tunnels_of(group) {
                self.bear(tunnel);
            }
        }
        for shard in &self.shards {
            shard.send(ShardInput::Replay { group });
        }
    }

    /// Older tunnels of the same peer under the same key belong to a LAC that has forgotten them. Wherever the new one was
    /// established, it is the old one's owner that lets it go.
    fn drop_stale_tunnels(&mut self) {
        for tunnel in self.forwarding.take_established() {
            let stale = self.forwarding.directory().superseded_by(tunnel);
            if let Some(stale) = stale.filter(|stale| self.published.owns(*stale)) {
                tracing::info!(%stale, "the LAC has restarted: its stale tunnel is dropped");
                self.metrics.count(Counter::TunnelsReplaced);
                self.shards[stale.shard(self.shards.len())].send(ShardInput::Tunnel {
                    tunnel: stale,
                    order: tunnel::Order::Abandon,
                });
            }
        }
    }

    /// A snapshot took the table's place: whatever was derived from it is derived anew.
    fn on_table_replaced(&mut self) {
        self.forwarding.replace(self.replica.table());
        for group in 0..=u8::MAX {
            let Group { owner, epoch, .. } = self.replica.table().group(group);
            self.on_group_taken(group, owner, epoch);
        }
    }

    /// What a tunnel of this node is born from. `None` also if the table, which is ahead of what has been told, has given its group
    /// away already.
    fn image(&self, tunnel: TunnelId) -> Option<Box<Image>> {
        let group = tunnel.group();
        let Group { owner, epoch, .. } = self.replica.table().group(group);
        let is_ours = owner == self.published.me && self.published.own_epoch(group) == Some(epoch);
        let image = is_ours.then(|| Image::of(self.replica.table(), tunnel)).flatten();
        image.map(Box::new)
    }

    fn bear(&self, tunnel: TunnelId) {
        let image = self.image(tunnel);
        if image.is_none() {
            return;
        }
        self.shards[tunnel.shard(self.shards.len())].send(ShardInput::Birth {
            tunnel,
            image,
            refusal: None,
        });
    }

    fn on_assign_judged(&mut self, from: u64) {
        if let Some(membership) = &mut self.membership {
            membership.assign_judged(from, self.replica.table().applied());
        }
    }

    fn on_verdict(&mut self, token: u64, verdict: Verdict) {
        let Some(reply) = self.replies.remove(&token) else {
            return;
        };
        if !verdict.is_accepted() {
            self.metrics.count(Counter::ProposalsRefused);
        }
        let refusal = match &verdict {
            Verdict::Accepted { .. } => None,
            Verdict::Refused(refusal) => Some(refusal.clone()),
        };
        let (tunnel, input) = match reply {
            ReplyTo::Waiter(waiter) => {
                // A waiter that gave up needs no answer.
                let _ = waiter.send(verdict);
                return;
            }
            ReplyTo::Assign(from) => return self.on_assign_judged(from),
            ReplyTo::Nobody => return,
            ReplyTo::Change {
                tunnel,
                life,
                revision,
            } => (
                tunnel,
                ShardInput::ChangeVerdict {
                    tunnel,
                    life,
                    revision,
                    refusal,
                },
            ),
            ReplyTo::Removal { tunnel } => (tunnel, ShardInput::RemovalVerdict { tunnel, refusal }),
            ReplyTo::Birth { tunnel, key } => {
                if let Some(key) = key {
                    self.forwarding.claim_judged(&key, tunnel, refusal.is_none());
                }
                let image = self.image(tunnel).filter(|_| refusal.is_none());
                (
                    tunnel,
                    ShardInput::Birth {
                        tunnel,
                        image,
                        refusal,
                    },
                )
            }
        };
        self.shards[tunnel.shard(self.shards.len())].send(input);
    }
}

/// The row of one session, for an actor that has to be born again.
pub fn session_row(table: &Table, tunnel: TunnelId, session: SessionId) -> Option<Arc<SessionRow>> {
    table.session(tunnel, session).cloned()
}

fn log_reserve(in_use: bool) {
    if in_use {
        tracing::error!(
            "the disk of the data folder is full: established sessions are kept on the reserve, new calls are refused; free some space. In a cluster \
             the others take over what this node owns"
        );
    } else {
        tracing::info!(
            "the disk of the data folder has space again: new calls are taken. In a cluster \"holdfast cluster undrain\" gives this \
             node its share again"
        );
    }
}
