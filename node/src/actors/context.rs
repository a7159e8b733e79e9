//! What the actors of one Arbiter share (`ShardContext`) and what the whole node shares (`Shared`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use holdfast_ppp::LinkConfig;
use holdfast_protocol::{SessionId, TunnelId};

use super::accept;
use super::directory::Directory;
use super::handover::Departures;
use super::members::Members;
use super::relay;
use super::session::SessionActor;
use super::shard::ShardSender;
use super::table::TableHandle;
use super::tunnel::TunnelActor;
use crate::aaa::{Filters, LocalUsers, Policies, Pools, Prefixes};
use crate::config::Config;
use crate::io::radius::Radius;
use crate::io::{Dataplane, clock};
use crate::lns::Now;
use crate::lns::admission::Admission;
use crate::lns::early_frames::EarlyFrames;
use crate::lns::entropy::Entropy;
use crate::lns::ipv6::dhcp6::Duid;
use crate::lns::timers::TimerTable;
use crate::lns::tunnel::CallRefusal;
use crate::lns::waiting::WAITING_MAX;
use crate::metrics::{Limit, Metrics};
use crate::server::{Checkpoint, Space};

/// One per node, reachable from every Arbiter.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force; a reload swaps it.
    pub config: ArcSwap<Config>,
    /// The way to the session table.
    pub table: TableHandle,
    /// The way to the packet threads.
    pub dataplane: Arc<Dataplane>,
    /// Who is where.
    pub directory: Arc<Directory>,
    /// Addresses: who has which, what is free.
    pub pools: Arc<Mutex<Pools>>,
    /// The way to the RADIUS servers.
    pub radius: Radius,
    /// IPv6 prefixes: who has which, what is free.
    pub prefixes: Arc<Mutex<Prefixes>>,
    /// Who we are to DHCPv6 clients.
    pub duid: Duid,
    /// What products are held to.
    pub policies: ArcSwap<Policies>,
    /// What the packet threads let pass.
    pub filters: ArcSwap<Filters>,
    /// The users of the configuration.
    pub users: ArcSwap<LocalUsers>,
    /// The gate for unknown peers. Locked for an SCCRQ only.
    pub admission: Arc<Mutex<Admission>>,
    /// Link settings by LAC profile, made once; a reload clears them.
    pub link_configs: DashMap<String, Arc<LinkConfig>>,
    /// The shards, by number.
    pub shards: Vec<ShardSender>,
    /// New calls and tunnels are refused: the node is being shut down.
    pub closing: AtomicBool,
    /// Groups that are about to go to another node.
    pub departures: Arc<Departures>,
    /// Low half of the next life of a reborn tunnel.
    pub next_life: AtomicU32,
    /// Names this process in accounting ids.
    pub incarnation: u64,
    /// Counters and limits.
    pub metrics: Arc<Metrics>,
    /// When the process became ready, by the monotonic clock.
    pub started: Duration,
    /// Whether user data is forwarded.
    pub tun_up: bool,
    /// The TUN device's state in words.
    pub tun_text: String,
    /// Traffic counters as last written.
    pub checkpoint: Checkpoint,
    /// What the log's volume has left.
    pub space: Space,
    /// The other members of the cluster; `None` for a node alone.
    pub members: Option<Arc<Members>>,
    /// Whether faults may be injected.
    pub fault_injection: bool,
}

impl Shared {
    /// The clocks now.
    pub fn now(&self) -> Now {
        Now {
            monotonic: clock::since_boot(),
            table_ms: self.table.published().table_ms(),
        }
    }

    /// Whether the node is being shut down.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// The link settings of a LAC profile.
    pub fn link_config(&self, profile: &str) -> Arc<LinkConfig> {
        if let Some(known) = self.link_configs.get(profile) {
            return known.clone();
        }
        let made = accept::link_config(&self.config.load(), profile);
        self.link_configs.insert(profile.to_owned(), made.clone());
        made
    }

    /// Shows the configured bounds among the metrics.
    pub fn publish_limits(&self) {
        let config = self.config.load();
        let l2tp = &config.l2tp;
        let bounds = [
            (Limit::HalfOpen, l2tp.half_open),
            (Limit::HalfOpenPerSource, l2tp.half_open_per_source),
            (Limit::SccrqRate, l2tp.sccrq_rate as usize),
            (Limit::SccrqWaiting, WAITING_MAX),
            (Limit::TableWaiting, accept::TABLE_WAITING_MAX),
            (Limit::Tunnels, l2tp.max_tunnels),
            (Limit::Sessions, l2tp.max_sessions),
            (Limit::SessionsPerTunnel, l2tp.max_sessions_per_tunnel),
        ];
        for (limit, bound) in bounds {
            self.metrics.set_limit(limit, bound as u64);
        }
    }

    /// The shard of a tunnel.
    pub fn shard_of(&self, tunnel: TunnelId) -> &ShardSender {
        &self.shards[tunnel.shard(self.shards.len())]
    }

    /// A life above every earlier one of this epoch.
    /// `None` if another node owns the tunnel.
    pub fn new_life(&self, tunnel: TunnelId) -> Option<u64> {
        let epoch = self.table.published().own_epoch(tunnel.group())?;
        Some(u64::from(epoch) << 32 | u64::from(self.next_life.fetch_add(1, Relaxed)))
    }

    /// Why a tunnel of `profile` may take no further call now, if it may not.
    pub fn calls_refused(&self, profile: &str) -> Option<CallRefusal> {
        let config = self.config.load();
        let lac = config.lacs.iter().find(|lac| lac.name == profile);
        let profile_limit = lac.and_then(|lac| lac.max_sessions);
        if self.is_closing() {
            Some(CallRefusal::ShuttingDown)
        } else if self.table.published().reserve_in_use() {
            Some(CallRefusal::DiskFull)
        } else if self.directory.sessions() >= config.l2tp.max_sessions {
            Some(CallRefusal::NodeSessions)
        } else if profile_limit.is_some_and(|limit| self.directory.sessions_of_profile(profile) >= limit) {
            Some(CallRefusal::ProfileSessions)
        } else {
            None
        }
    }
}

/// Whom a deadline wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKey {
    /// A tunnel's actor.
    Tunnel(TunnelId),
    /// A session's actor.
    Session(TunnelId, SessionId),
}

/// One per Arbiter, shared by its actors, which run on one thread.
#[derive(Debug)]
pub struct ShardContext {
    /// The node.
    pub shared: Arc<Shared>,
    /// Number of this shard.
    pub index: usize,
    /// Deadlines of all actors of this shard.
    pub timers: RefCell<TimerTable<TimerKey>>,
    /// The tunnels of this shard.
    pub tunnels: RefCell<HashMap<TunnelId, Addr<TunnelActor>>>,
    /// The sessions of this shard's tunnels.
    pub sessions: RefCell<BTreeMap<(TunnelId, SessionId), Addr<SessionActor>>>,
    /// What subscribers say before their sessions are born.
    pub early: RefCell<EarlyFrames>,
    /// When this node became the owner of a group while it ran: since boot, and in table time.
    pub taken: RefCell<HashMap<u8, Now>>,
    /// What waits for an owner.
    pub held: relay::Held,
    /// How long the table last took to accept a change of a tunnel of this shard.
    pub table_took: Cell<Duration>,
    /// Seeds for the cores; itself seeded by the operating system.
    pub entropy: RefCell<Entropy>,
    /// Messages given to the packet thread since it was last woken.
    pub unsent: Cell<usize>,
}

/// Messages that are given to the packet thread before it is woken in any case, so that it need not wait for all of a long turn.
const UNSENT_MAX: usize = 64;

impl ShardContext {
    /// Nothing is born yet.
    pub fn new(shared: Arc<Shared>, index: usize, seed: u64) -> Self {
        Self {
            shared,
            index,
            timers: RefCell::default(),
            tunnels: RefCell::default(),
            sessions: RefCell::default(),
            early: RefCell::default(),
            taken: RefCell::default(),
            held: RefCell::default(),
            table_took: Cell::default(),
            entropy: RefCell::new(Entropy::new(seed)),
            unsent: Cell::new(0),
        }
    }

    /// A message was given to the packet thread. It is woken once the actors that have something to do now have done it: on a core
    /// that both threads share, waking it for each message would send them one by one, with two changes of threads for each.
    pub fn wake_soon(self: &Rc<Self>) {
        match self.unsent.replace(self.unsent.get() + 1) {
            0 => {
                let context = self.clone();
                // Runs after all actors that have been told something by now.
                actix::spawn(async move { context.wake() });
            }
            UNSENT_MAX.. => self.shared.dataplane.wake(self.index),
            _ => {}
        }
    }

    fn wake(&self) {
        self.unsent.set(0);
        self.shared.dataplane.wake(self.index);
    }

    /// The clocks now.
    pub fn now(&self) -> Now {
        self.shared.now()
    }

    /// A seed for a core.
    pub fn seed(&self) -> u64 {
        self.entropy.borrow_mut().next_u64()
    }
}
