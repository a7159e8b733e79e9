//! From a configuration to a running node.

use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use holdfast_cluster::liveness::isolation;
use holdfast_cluster::log::{DiskLog, LogError};
use holdfast_cluster::replica::{Lineage, Replica, ReplicaConfig, ReplicaError};
use tokio::sync::mpsc;

use super::ownership::{self, TakeError};
use super::{Stop, checkpoint, cluster, past, shards, waiting};
use crate::aaa::{Filters, LocalUsers, Policies, Pools, Prefixes};
use crate::actors::context::Shared;
use crate::actors::directory::Directory;
use crate::actors::filtering::Combinations;
use crate::actors::forwarding::{Forwarding, LinkLimits, Stocks};
use crate::actors::members::{Members, PeersTransport};
use crate::actors::passage::ToOwner;
use crate::actors::reach::{PoolNetworks, Reach};
use crate::actors::shard::inbox;
use crate::actors::table::{self, TableHandle, TableThread};
use crate::anycast::{Leash, Presence};
use crate::api::{BindError, Listener};
use crate::config::{Config, TunMode};
use crate::io::coa::CoaSocket;
use crate::io::radius::Radius;
use crate::io::{
    Dataplane, Inbound, KernelRoutes, Passage, SocketError, SocketGroup, Tun, TunConfig, TunError, clock,
    host, inbound,
};
use crate::lns::admission::{Admission, AdmissionLimits};
use crate::lns::ipv6::dhcp6::Duid;
use crate::metrics::Metrics;
use crate::peers;

/// How long a TUN device that is busy is waited for.
const TUN_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked at meanwhile.
const TUN_RETRY: Duration = Duration::from_millis(20);

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log or the table.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Raft.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// UDP.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The interface towards the core, where the configuration insists on it.
    #[error("{0} ([tun] enabled is \"always\"; with \"auto\" the node would serve control alone)")]
    Tun(TunError),
    /// The connections to the other members.
    #[error(transparent)]
    Peers(#[from] peers::StartError),
    /// The operator's socket.
    #[error(transparent)]
    Api(#[from] BindError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// What this node has otherwise than the cluster.
    #[error("this node must not join the others: {0}")]
    Disagrees(String),
    /// The data folder is another cluster's, or was lost.
    #[error("{0}")]
    WrongFolder(String),
    /// The log does not take entries.
    #[error("the session table in {0} did not become ready: {1}")]
    NotReady(String, String),
}

/// A running node.
pub struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) table_thread: Option<JoinHandle<()>>,
    pub(super) shards: shards::Supervisor,
    pub(super) presence: Option<Arc<Presence>>,
    /// Where RADIUS servers give orders, until somebody listens.
    pub(super) coa: Vec<CoaSocket>,
    /// The operator's socket, until it is served.
    pub(super) listener: Option<Listener>,
}

impl Node {
    /// Starts everything; until all is ready, the operator's socket says what is waited for. `stop` is told if the table's thread ends or a packet thread panics.
    pub async fn start(
        config: Config,
        stop: mpsc::Sender<Stop>,
        leash: Option<Leash>,
    ) -> Result<Self, StartError> {
        let count = shard_count(&config);
        let data_dir = config.node.data_dir.display().to_string();
        let metrics = Arc::new(Metrics::default());
        let boot = rand::random();
        let (table, table_end) = table::channel(config.node.id, metrics.clone());
        let (senders, receivers) = inbound::channels(count);
        let (replica, members) = enter_cluster(&config, boot, &table, &senders, &metrics).await?;
        // The device first: it carries the anycast address that a socket may be bound to. So whoever hears an address
        // also has it, which an IP_FREEBIND socket would not show.
        let tun = open_tun(&config, count)?;
        let sockets = SocketGroup::open(&config.node.listen, count)?;
        let coa = CoaSocket::open(&config.coa.listen)?;
        let presence = start_presence(&config, tun.as_ref().ok(), leash)?;
        let (tun_text, has_tun) = (tun_text(&config, tun.as_ref()), tun.is_ok());
        let routes = start_routes(&config, tun.as_ref().ok(), presence.as_deref())?;
        let gateway = config.gateway();
        let pulses = presence.as_ref().and_then(|presence| presence.pulses());
        let passage = members
            .clone()
            .map(|members| Arc::new(ToOwner::new(table.clone(), members)) as Arc<dyn Passage>);
        let dataplane = Dataplane::start(gateway, sockets, tun.ok(), senders, passage, pulses.as_deref())?;
        let dataplane = Arc::new(dataplane);
        watch_packet_threads(&dataplane, stop.clone());
        if let Some(members) = &members {
            // Not before this process has followed the group.
            dataplane.set_forward_until(Duration::ZERO);
            members.open(dataplane.entrance());
        }
        let directory = Arc::new(Directory::new(count));
        let admission = Arc::new(Mutex::new(Admission::new(
            clock::since_boot(),
            admission_limits(&config),
        )));
        let pools = pools_as_used(&config, &replica);
        let prefixes = prefixes_as_used(&config, &replica);
        let filters = Arc::new(Filters::new(&config.filters, &Filters::default()));
        let mut forwarding = Forwarding::new(
            dataplane.clone(),
            directory.clone(),
            admission.clone(),
            Stocks {
                pools: pools.clone(),
                prefixes: prefixes.clone(),
            },
            LinkLimits {
                mtu: config.ppp.mtu,
                mss_clamp: config.ppp.mss_clamp,
            },
            Reach::new(PoolNetworks::of(&config), routes, presence.is_some()),
            Combinations::new(filters.clone(), metrics.clone()),
        );
        forwarding.rebuild(replica.table());
        let (inputs, inboxes): (Vec<_>, Vec<_>) = receivers.into_iter().map(inbox).unzip();
        let membership = members
            .as_ref()
            .map(|members| cluster::membership(&config, boot, members, &replica, &metrics));
        let thread = TableThread::start(
            table_end,
            replica,
            forwarding,
            inputs.clone(),
            membership,
            presence.clone(),
            metrics.clone(),
        )?;
        let table_thread = watch_table(thread, stop)?;
        let listener = Listener::bind(&config.api.socket, config.api.mode)?;
        let taken = tokio::select! {
            taken = ownership::take(&table, &config, members.as_deref()) => taken,
            never = waiting::answer(&listener, config.node.id, members.clone(), metrics.clone()) => match never {},
        };
        let incarnation = taken.map_err(|error| match error {
            TakeError::NotReady(why) => StartError::NotReady(data_dir, why),
            TakeError::Disagrees(why) => StartError::Disagrees(why),
        })?;
        table.published().set_incarnation(incarnation);
        let shared = Arc::new(Shared {
            policies: ArcSwap::from_pointee(Policies::new(&config.policies, &config.filters)),
            filters: ArcSwap::from(filters),
            users: ArcSwap::from_pointee(LocalUsers::new(&config.users)),
            radius: Radius::start(config.radius_settings(), metrics.clone())?,
            duid: Duid::of_cluster(
                config
                    .cluster
                    .as_ref()
                    .map_or(&config.node.name, |cluster| &cluster.id),
            ),
            config: ArcSwap::from_pointee(config),
            table,
            dataplane,
            directory,
            pools,
            prefixes,
            link_configs: DashMap::new(),
            admission,
            shards: inputs,
            closing: AtomicBool::new(false),
            departures: Arc::default(),
            next_life: AtomicU32::new(1),
            incarnation,
            metrics,
            started: clock::since_boot(),
            tun_up: has_tun,
            tun_text,
            members,
            fault_injection: std::env::var_os("HOLDFAST_FAULT_INJECTION").is_some(),
            checkpoint: checkpoint::Checkpoint::default(),
            space: super::Space::default(),
        });
        shared.publish_limits();
        let reports = shared.members.as_ref().map(|members| members.reports());
        shared
            .checkpoint
            .load(&shared.config.load().node.data_dir, reports);
        shared.table.published().bear();
        let shards = shards::Supervisor::start(&shared, inboxes, pulses.as_ref());
        tracing::info!(
            tunnels = shared.directory.tunnels(),
            sessions = shared.directory.sessions(),
            shards = count,
            "ready"
        );
        Ok(Self {
            shared,
            table_thread: Some(table_thread),
            shards,
            presence,
            coa,
            listener: Some(listener),
        })
    }
}

fn shard_count(config: &Config) -> usize {
    match config.node.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    }
}

/// Opens the session table and makes itself known to the other members, which may know that the data folder is the wrong one.
async fn enter_cluster(
    config: &Config,
    boot: u64,
    table: &TableHandle,
    shards: &[mpsc::Sender<Inbound>],
    metrics: &Arc<Metrics>,
) -> Result<(Replica, Option<Arc<Members>>), StartError> {
    let log = DiskLog::open(&config.node.data_dir)?;
    let joins = config.cluster.as_ref().is_some_and(|cluster| cluster.join);
    // The others hear of it before they hear anything else.
    let lineage = Lineage::of(&log, joins)?;
    let transport = PeersTransport::default();
    let replica = open_table(config, boot, log, transport.clone())?;
    let remembered = past::of(&replica);
    past::check_folder(config, &remembered).map_err(StartError::WrongFolder)?;
    let members = cluster::join(config, boot, remembered.clone(), table, shards, lineage, metrics)?;
    if let Some(members) = &members {
        transport.connect(members.peers().clone());
        past::compare(config, &remembered, replica.last_index() == 0, members)
            .await
            .map_err(StartError::WrongFolder)?;
    }
    Ok((replica, members))
}

/// The pools, without the addresses that sessions of the table have.
fn pools_as_used(config: &Config, replica: &Replica) -> Arc<Mutex<Pools>> {
    let mut pools = Pools::new(&config.pools, &config.users);
    if let Some(cluster) = &config.cluster {
        pools.set_isolation_wait(isolation::wait(cluster.isolation_limit));
    }
    pools.seed(replica.table(), clock::since_boot());
    Arc::new(Mutex::new(pools))
}

/// The prefixes, without those that sessions of the table have.
fn prefixes_as_used(config: &Config, replica: &Replica) -> Arc<Mutex<Prefixes>> {
    let mut prefixes = Prefixes::new(&config.pools, &config.users);
    if let Some(cluster) = &config.cluster {
        prefixes.set_isolation_wait(isolation::wait(cluster.isolation_limit));
    }
    prefixes.seed(replica.table(), clock::since_boot());
    Arc::new(Mutex::new(prefixes))
}

fn open_table(
    config: &Config,
    boot: u64,
    log: DiskLog,
    transport: PeersTransport,
) -> Result<Replica, StartError> {
    let node = config.node.id;
    let (replica, recovery) = match &config.cluster {
        None => Replica::open(ReplicaConfig::single(node, boot), log)?,
        Some(cluster) => {
            // Read only where the data folder is empty.
            let all = match cluster.join {
                true => Vec::new(),
                false => config.members.iter().map(|member| member.id).collect(),
            };
            let group = ReplicaConfig {
                node_id: node,
                members: all,
                boot,
            };
            Replica::open_with(group, log, transport)?
        }
    };
    if let Some(cut) = &recovery.cut {
        tracing::warn!(
            path = %cut.path.display(),
            offset = cut.offset,
            octets = cut.octets,
            "the log's last write was torn before it was synced: cut off; nothing that was promised to a peer is lost"
        );
    }
    tracing::info!(
        tunnels = replica.table().tunnel_count(),
        sessions = replica.table().session_count(),
        "session table recovered"
    );
    Ok(replica)
}

/// The TUN device, or why there is none: a node without one serves control alone.
fn open_tun(config: &Config, queues: usize) -> Result<Result<Tun, String>, StartError> {
    if config.tun.enabled == TunMode::Never {
        return Ok(Err("switched off in the configuration".into()));
    }
    let wanted = TunConfig {
        name: config.tun.name.clone(),
        address: config.gateway(),
        mtu: config.tun.mtu,
        routes: config
            .pools
            .iter()
            .flat_map(|pool| pool.prefixes.clone())
            .collect(),
        routes6: config.prefix_units().map(|(prefix, _)| prefix).collect(),
        anycast: config
            .anycast
            .as_ref()
            .map_or_else(Vec::new, |anycast| anycast.addresses.clone()),
        offload: config.tun.offload,
    };
    match open_when_free(&wanted, queues) {
        Ok(tun) => {
            if !host::forwards_ipv4() {
                tracing::warn!(
                    "the kernel does not forward IPv4, so subscribers reach this host alone: sysctl net.ipv4.ip_forward=1"
                );
            }
            if config.prefix_units().next().is_some() && !host::forwards_ipv6() {
                tracing::warn!(
                    "the kernel does not forward IPv6, so subscribers reach this host alone: \
                     sysctl net.ipv6.conf.all.forwarding=1"
                );
            }
            Ok(Ok(tun))
        }
        Err(error) if config.tun.enabled == TunMode::Always => Err(StartError::Tun(error)),
        Err(error) => {
            tracing::warn!(
                "no user data is forwarded: {error}; control runs, and pings to the node's own address are answered"
            );
            Ok(Err(error.to_string()))
        }
    }
}

/// A predecessor that was just killed has its device until the kernel has taken that down, which can take two seconds.
fn open_when_free(wanted: &TunConfig, queues: usize) -> Result<Tun, TunError> {
    let deadline = clock::since_boot() + TUN_PATIENCE;
    loop {
        match Tun::open(wanted, queues) {
            Err(TunError::Busy { .. }) if clock::since_boot() < deadline => std::thread::sleep(TUN_RETRY),
            outcome => return outcome,
        }
    }
}

/// Beats and announcements, of a node behind an anycast address that has a device to carry it.
fn start_presence(
    config: &Config,
    tun: Option<&Tun>,
    leash: Option<Leash>,
) -> Result<Option<Arc<Presence>>, StartError> {
    let Some(tun) = tun else {
        if config.anycast.is_some() {
            tracing::warn!("without the TUN interface the anycast address is not announced");
        }
        return Ok(None);
    };
    Ok(Presence::start(config, tun.link(), leash)?.map(Arc::new))
}

/// Whoever routes to the device what comes and goes with sessions and reloads.
fn start_routes(
    config: &Config,
    tun: Option<&Tun>,
    presence: Option<&Presence>,
) -> Result<Option<KernelRoutes>, StartError> {
    let Some(tun) = tun else { return Ok(None) };
    let present = config.networks().into_iter().collect();
    let restored = presence.map_or_else(Default::default, Presence::restored);
    Ok(Some(KernelRoutes::start(tun.link(), present, restored)?))
}

fn tun_text(config: &Config, tun: Result<&Tun, &String>) -> String {
    match tun {
        Ok(_) => format!("{} is up, MTU {}", config.tun.name, config.tun.mtu),
        Err(why) => format!("no user data is forwarded: {why}"),
    }
}

/// The caps of the gate for unknown peers.
pub(super) fn admission_limits(config: &Config) -> AdmissionLimits {
    let cap = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    AdmissionLimits {
        per_source_rate: config.l2tp.sccrq_rate,
        total_rate: config.l2tp.sccrq_rate.saturating_mul(100),
        half_open_per_source: cap(config.l2tp.half_open_per_source),
        half_open_total: cap(config.l2tp.half_open),
    }
}

/// Has the node stopped when a packet thread panics. Its tunnels would stay mute; the next start, or another node, has them all.
fn watch_packet_threads(dataplane: &Dataplane, stop: mpsc::Sender<Stop>) {
    let mut deaths = dataplane.deaths();
    tokio::spawn(async move {
        let died = deaths.wait_for(Option::is_some).await.map(|shard| *shard);
        if let Ok(Some(shard)) = died {
            let why = format!("the packet thread of shard {shard} panicked");
            // A node that is already stopping needs no second reason.
            let _ = stop.send(Stop::Broken(why)).await;
        }
    });
}

/// Has the node stopped when the table's thread ends by itself.
fn watch_table(
    thread: JoinHandle<Result<(), ReplicaError>>,
    stop: mpsc::Sender<Stop>,
) -> Result<JoinHandle<()>, StartError> {
    let watcher = std::thread::Builder::new()
        .name("table-watch".into())
        .spawn(move || {
            let why = match thread.join() {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the session table's thread panicked".to_owned(),
            };
            // A node that is already stopping needs no second reason.
            let _ = stop.blocking_send(Stop::Broken(why));
        })?;
    Ok(watcher)
}
