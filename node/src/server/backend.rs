//! What the operator's socket asks of the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use holdfast_cluster::Table;
use holdfast_cluster::records::{SessionRow, SessionState, TunnelRow, TunnelState};
use holdfast_ppp::Ncp;
use holdfast_protocol::{SessionId, TunnelId};
use tokio::sync::mpsc;

use super::{ConfigSource, Stop, belonging, checkpoint, cluster_orders, reload};
use crate::aaa::prefixes::{Pair, of_row};
use crate::aaa::radius::client::ServerState;
use crate::actors::context::Shared;
use crate::actors::forwarding;
use crate::actors::shard::ShardInput;
use crate::actors::{relay, session, tunnel};
use crate::api::{
    ApiError, Backend, ClusterOrder, ClusterStatus, ErrorCode, Fault, Page, RadiusStatus, ReloadReport,
    SessionInfo, ShardStatus, StateCount, StatusReport, Target, TunStatus, TunnelInfo,
};
use crate::config;
use crate::dataplane::DropReason;
use crate::io::clock;
use crate::lns::{granted, rows};
use crate::logging::{Escaped, LogControl};
use crate::metrics::{Counter, CounterRow, Limit};
use crate::peers::Frame;

/// See the module.
pub struct NodeBackend {
    shared: Arc<Shared>,
    stop: mpsc::Sender<Stop>,
    source: ConfigSource,
    log: LogControl,
}

impl NodeBackend {
    /// Answers for this node.
    pub fn new(shared: Arc<Shared>, stop: mpsc::Sender<Stop>, source: ConfigSource, log: LogControl) -> Self {
        Self {
            shared,
            stop,
            source,
            log,
        }
    }

    /// Reads the configuration again and takes over what can change.
    ///
    /// # Errors
    /// The mistakes in the file; nothing has changed then.
    pub async fn reload_now(&self) -> Result<ReloadReport, ApiError> {
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source()).await;
        let read = read.unwrap_or_else(|_| Err("the configuration could not be read".into()));
        match read.and_then(|config| reload::apply(&self.shared, &self.log, &config)) {
            Ok(report) => Ok(report),
            Err(mistakes) => {
                self.shared.metrics.count(Counter::ReloadsFailed);
                tracing::error!("reload: nothing has changed: {mistakes}");
                Err(ApiError::new(ErrorCode::Configuration, mistakes))
            }
        }
    }

    async fn ask<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Table) -> R + Send + 'static,
    ) -> Result<R, ApiError> {
        let answer = self.shared.table.ask(read).await;
        answer.ok_or_else(|| {
            ApiError::new(
                ErrorCode::Unavailable,
                "the session table does not answer; try again",
            )
        })
    }

    /// Whether another node owns the tunnel; that one is told then.
    fn ends_elsewhere(&self, tunnel: TunnelId, session: Option<SessionId>) -> Result<bool, ApiError> {
        let published = self.shared.table.published();
        let Some(members) = self.shared.members.as_ref().filter(|_| !published.owns(tunnel)) else {
            return Ok(false);
        };
        let order = Frame::Order(relay::disconnect_order(tunnel, session));
        let owner = published.owner(tunnel.group());
        if members.peers().send(owner, order) {
            Ok(true)
        } else {
            Err(ApiError::new(
                ErrorCode::Unavailable,
                format!("node {owner}, which owns the tunnel, cannot be reached now; try again"),
            ))
        }
    }

    fn shards(&self, tunnels: &[TunnelId], sessions: &[TunnelId]) -> Vec<ShardStatus> {
        let count = self.shared.shards.len();
        let of =
            |ids: &[TunnelId], index: usize| ids.iter().filter(|id| id.shard(count) == index).count() as u64;
        let totals = self.shared.dataplane.totals();
        totals
            .iter()
            .enumerate()
            .map(|(index, totals)| ShardStatus {
                index: index as u32,
                tunnels: of(tunnels, index),
                sessions: of(sessions, index),
                rx_packets: totals.received,
                tx_packets: totals.sent,
                drops: totals.drops.iter().sum(),
            })
            .collect()
    }

    fn counters(&self) -> Vec<CounterRow> {
        let mut rows = self.shared.metrics.counters();
        rows.extend(crate::logging::counters());
        rows.extend(self.shared.filters.load().counters());
        for (shard, totals) in self.shared.dataplane.totals().iter().enumerate() {
            let labels = |reason: Option<&str>| {
                let mut labels = vec![("shard", shard.to_string())];
                labels.extend(reason.map(|reason| ("reason", reason.to_owned())));
                labels
            };
            let named = [
                (
                    "shard_received_total",
                    totals.received,
                    "Datagrams read from the shard's sockets.",
                ),
                ("shard_sent_total", totals.sent, "Datagrams that the kernel took."),
                (
                    "shard_uplink_total",
                    totals.uplink,
                    "IP packets from subscribers passed on.",
                ),
                (
                    "shard_downlink_total",
                    totals.downlink,
                    "IP packets to subscribers encapsulated.",
                ),
                (
                    "shard_control_total",
                    totals.control,
                    "Control messages passed to control.",
                ),
                (
                    "shard_ppp_total",
                    totals.ppp,
                    "PPP control frames passed to control.",
                ),
                (
                    "shard_handed_over_total",
                    totals.handed_over,
                    "Datagrams of other shards' tunnels handed to them.",
                ),
                (
                    "shard_taken_over_total",
                    totals.taken_over,
                    "Datagrams that other shards handed over.",
                ),
                (
                    "shard_passed_on_total",
                    totals.passed_on,
                    "IP packets for sequenced sessions passed to the node or the shard that numbers them.",
                ),
                (
                    "shard_passed_in_total",
                    totals.passed_in,
                    "IP packets for sequenced sessions that other nodes or shards passed here.",
                ),
                (
                    "shard_offload_fallbacks_total",
                    totals.fallbacks,
                    "Times that the kernel did not do something for many packets at once: what it lacks, and bursts sent one by one.",
                ),
                (
                    "shard_lcp_echoes_total",
                    totals.lcp_echoes,
                    "LCP Echo-Requests answered without the session's actor.",
                ),
                (
                    "shard_stalls_total",
                    totals.stalls,
                    "Stalls of the packet thread of more than 200 ms; what had waited was dropped.",
                ),
            ];
            rows.extend(named.map(|(name, value, help)| CounterRow::new(name, &labels(None), value, help)));
            rows.extend(DropReason::ALL.iter().map(|reason| {
                let value = totals.dropped(*reason);
                CounterRow::new(
                    "shard_drops_total",
                    &labels(Some(reason.name())),
                    value,
                    "Packets dropped, by reason.",
                )
            }));
        }
        rows
    }
}

impl Backend for NodeBackend {
    async fn status(&self, counters: bool) -> Result<StatusReport, ApiError> {
        let census = self.ask(Census::of).await?;
        let shared = &self.shared;
        shared.publish_limits();
        shared
            .metrics
            .set_current(Limit::Sessions, shared.directory.sessions() as u64);
        shared
            .metrics
            .set_current(Limit::Tunnels, shared.directory.tunnels() as u64);
        let (half_open, waiting) = {
            let admission = shared.admission.lock();
            let admission = admission.expect("nothing panics with the admission locked");
            (admission.half_open(), admission.waiting())
        };
        shared.metrics.set_current(Limit::HalfOpen, u64::from(half_open));
        shared.metrics.set_current(Limit::SccrqWaiting, waiting as u64);
        shared
            .metrics
            .set_current(Limit::TableWaiting, shared.table.waiting() as u64);
        let (pools, outside_pools) = {
            let pools = shared.pools.lock().expect("nothing panics with the pools locked");
            (pools.status(clock::since_boot()), pools.outside())
        };
        let prefix_pools = shared
            .prefixes
            .lock()
            .expect("nothing panics with the prefixes locked")
            .status(clock::since_boot());
        let config = shared.config.load();
        let mut warnings = Vec::new();
        if !shared.tun_up {
            warnings.push(shared.tun_text.clone());
        }
        let members = shared.members.as_ref();
        if members.is_some_and(|members| members.is_removed(config.node.id)) {
            warnings.push(belonging::removed_text(config.node.id));
        }
        if shared.table.published().reserve_in_use() {
            warnings
                .push("the disk of the data folder is full: new calls are refused; free some space".into());
        }
        warnings.extend(shared.space.warning());
        Ok(StatusReport {
            version: env!("CARGO_PKG_VERSION").into(),
            node: config.node.name.clone(),
            node_id: config.node.id,
            pid: std::process::id(),
            uptime_seconds: clock::since_boot().saturating_sub(shared.started).as_secs(),
            data_dir: config.node.data_dir.display().to_string(),
            listen: shared
                .dataplane
                .addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            shards: self.shards(&census.tunnel_ids, &census.session_tunnels),
            table: shared.table.published().status(),
            tun: TunStatus {
                name: config.tun.name.clone(),
                up: shared.tun_up,
                text: shared.tun_text.clone(),
            },
            tunnels: counts(census.tunnels),
            sessions: counts(census.sessions),
            pools,
            outside_pools,
            radius: shared.radius.servers().into_iter().map(radius_status).collect(),
            prefix_pools,
            limits: shared.metrics.limits(),
            counters: if counters { self.counters() } else { Vec::new() },
            warnings,
        })
    }

    async fn tunnels(&self, after: Option<Target>, limit: usize) -> Result<Page<TunnelInfo>, ApiError> {
        let shards = self.shared.shards.len();
        self.ask(move |table| {
            let rest = table
                .tunnels()
                .filter(|(id, _)| after.is_none_or(|after| Target::Tunnel(*id) > after));
            let items: Vec<_> = rest
                .take(limit)
                .map(|(id, entry)| {
                    let owner = table.group(id.group()).owner;
                    TunnelInfo {
                        owner,
                        ..tunnel_info(id, entry.row(), entry.sessions().count(), shards, table.now_ms())
                    }
                })
                .collect();
            let after = (items.len() == limit).then(|| items.last()).flatten();
            let after = after
                .and_then(|info| TunnelId::new(info.tunnel_id))
                .map(Target::Tunnel);
            Page { items, after }
        })
        .await
    }

    async fn sessions(
        &self,
        user: Option<&str>,
        after: Option<Target>,
        limit: usize,
    ) -> Result<Page<SessionInfo>, ApiError> {
        if after.is_none() {
            checkpoint::write(&self.shared).await;
        }
        let user = user.map(|user| user.as_bytes().to_vec());
        let (rows, now_ms) = self
            .ask(move |table| (rows_after(table, user.as_deref(), after, limit), table.now_ms()))
            .await?;
        let last = rows
            .last()
            .map(|(tunnel, session, _)| Target::Session(*tunnel, *session));
        let after = last.filter(|_| rows.len() == limit);
        let config = self.shared.config.load();
        let items = rows
            .iter()
            .map(|(tunnel, session, row)| {
                let totals = self.shared.checkpoint.totals(&row.acct_session_id);
                session_info(*tunnel, *session, row, totals, now_ms, config.ppp.mtu)
            })
            .collect();
        Ok(Page { items, after })
    }

    async fn disconnect(&self, id: Target) -> Result<u64, ApiError> {
        let shared = &self.shared;
        let missing = || {
            ApiError::new(
                ErrorCode::NotFound,
                format!("there is no {id}; see \"holdfast sessions\""),
            )
        };
        match id {
            Target::Session(tunnel, session) => {
                shared.directory.session(tunnel, session).ok_or_else(missing)?;
                if !self.ends_elsewhere(tunnel, Some(session))? {
                    shared.shard_of(tunnel).send(ShardInput::Session {
                        tunnel,
                        session,
                        order: session::Order::administrative_end(),
                    });
                }
                Ok(1)
            }
            Target::Tunnel(tunnel) => {
                let sessions = self
                    .ask(move |table| table.tunnel(tunnel).map(|entry| entry.sessions().count()))
                    .await?;
                let sessions = sessions.ok_or_else(missing)?;
                if !self.ends_elsewhere(tunnel, None)? {
                    let order = tunnel::Order::administrative_end();
                    shared.shard_of(tunnel).send(ShardInput::Tunnel { tunnel, order });
                }
                Ok(sessions as u64)
            }
        }
    }

    async fn shutdown(&self, disconnect: bool) -> Result<u64, ApiError> {
        // A member of a cluster that keeps its sessions hands its groups over; until then calls are taken.
        if disconnect || self.shared.members.is_none() {
            self.shared.closing.store(true, Relaxed);
        }
        let why = if disconnect { Stop::Disconnect } else { Stop::Keep };
        let told = self.stop.send(why).await;
        told.map_err(|_| ApiError::new(ErrorCode::Unavailable, "the node is stopping already"))?;
        Ok(self.shared.directory.sessions() as u64)
    }

    async fn reload(&self) -> Result<ReloadReport, ApiError> {
        self.reload_now().await
    }

    async fn cluster(&self, order: ClusterOrder) -> Result<ClusterStatus, ApiError> {
        cluster_orders::carry_out(&self.shared, order).await
    }

    async fn inject(&self, fault: Fault) -> Result<(), ApiError> {
        let shared = &self.shared;
        if !shared.fault_injection {
            return Err(ApiError::new(
                ErrorCode::NotAllowed,
                "faults are injected only into a node that was started with HOLDFAST_FAULT_INJECTION set",
            ));
        }
        let missing = || ApiError::new(ErrorCode::NotFound, "there is no such actor");
        match fault {
            Fault::ForgetAddress(address) => shared
                .pools
                .lock()
                .expect("nothing panics with the pools locked")
                .forget(address),
            Fault::ShardPanic(index) => {
                let shard = shared.shards.get(index as usize).ok_or_else(missing)?;
                shard.send(ShardInput::InjectPanic);
            }
            Fault::ActorPanic(Target::Tunnel(tunnel)) => {
                shared.directory.tunnel(tunnel).ok_or_else(missing)?;
                let order = tunnel::Order::InjectPanic;
                shared.shard_of(tunnel).send(ShardInput::Tunnel { tunnel, order });
            }
            Fault::ActorPanic(Target::Session(tunnel, session)) => {
                shared.directory.session(tunnel, session).ok_or_else(missing)?;
                let order = session::Order::InjectPanic;
                shared.shard_of(tunnel).send(ShardInput::Session {
                    tunnel,
                    session,
                    order,
                });
            }
        }
        Ok(())
    }
}

/// Who is in which state.
struct Census {
    tunnels: BTreeMap<&'static str, u64>,
    sessions: BTreeMap<&'static str, u64>,
    tunnel_ids: Vec<TunnelId>,
    session_tunnels: Vec<TunnelId>,
}

impl Census {
    fn of(table: &Table) -> Self {
        let mut census = Self {
            tunnels: BTreeMap::new(),
            sessions: BTreeMap::new(),
            tunnel_ids: Vec::new(),
            session_tunnels: Vec::new(),
        };
        for (id, entry) in table.tunnels() {
            *census
                .tunnels
                .entry(tunnel_state(entry.row().state()))
                .or_default() += 1;
            if entry.row().state() != TunnelState::Closed {
                census.tunnel_ids.push(id);
            }
            for (_, row) in entry.sessions() {
                *census.sessions.entry(session_state(row)).or_default() += 1;
                census.session_tunnels.push(id);
            }
        }
        census
    }
}

fn counts(states: BTreeMap<&'static str, u64>) -> Vec<StateCount> {
    states
        .into_iter()
        .map(|(state, count)| StateCount {
            state: state.into(),
            count,
        })
        .collect()
}

fn rows_after(
    table: &Table,
    user: Option<&[u8]>,
    after: Option<Target>,
    limit: usize,
) -> Vec<(TunnelId, SessionId, Arc<SessionRow>)> {
    let first = match after {
        None => None,
        Some(Target::Tunnel(tunnel) | Target::Session(tunnel, _)) => Some(tunnel),
    };
    table
        .tunnels()
        .filter(|(id, _)| first.is_none_or(|first| *id >= first))
        .flat_map(|(id, entry)| entry.sessions().map(move |(session, row)| (id, session, row)))
        .filter(|(id, session, _)| after.is_none_or(|after| Target::Session(*id, *session) > after))
        .filter(|(_, _, row)| user.is_none_or(|user| row.user() == Some(user)))
        .take(limit)
        .map(|(id, session, row)| (id, session, row.clone()))
        .collect()
}

const fn tunnel_state(state: TunnelState) -> &'static str {
    match state {
        TunnelState::HalfOpen => "half_open",
        TunnelState::Established => "established",
        TunnelState::Closing => "closing",
        TunnelState::Closed => "closed",
    }
}

fn session_state(row: &SessionRow) -> &'static str {
    match row.state() {
        SessionState::WaitConnect => "wait_connect",
        SessionState::Connected if row.is_open() => "open",
        SessionState::Connected => "negotiating",
    }
}

fn tunnel_info(id: TunnelId, row: &TunnelRow, sessions: usize, shards: usize, now_ms: u64) -> TunnelInfo {
    let shown = |address: Option<&holdfast_cluster::records::SocketAddress>| {
        address
            .and_then(|address| address.to_std())
            .map_or_else(String::new, |address| address.to_string())
    };
    TunnelInfo {
        tunnel_id: id.get(),
        peer_tunnel_id: row.peer_tunnel_id as u16,
        peer: shown(row.peer.as_ref()),
        local: shown(row.local.as_ref()),
        profile: row.profile.clone(),
        host_name: Escaped(&row.host_name).to_string(),
        vendor_name: Escaped(&row.vendor_name).to_string(),
        state: tunnel_state(row.state()).into(),
        // Not a matter of the row.
        owner: 0,
        sessions: sessions as u32,
        shard: id.shard(shards) as u32,
        ns: row.ns as u16,
        nr: row.nr as u16,
        peer_window: row.peer_window as u16,
        unacknowledged: row.unacknowledged.len() as u32,
        age_seconds: now_ms.saturating_sub(row.created_ms) / 1000,
    }
}

fn session_info(
    tunnel: TunnelId,
    session: SessionId,
    row: &SessionRow,
    totals: super::Totals,
    now_ms: u64,
    mtu: u16,
) -> SessionInfo {
    let ppp = row.ppp.as_ref().filter(|_| row.is_open());
    let ipv6 = rows::has_open(row, Ncp::Ipv6cp);
    let prefixes = if ipv6 { of_row(row) } else { Pair::default() };
    let method = ppp
        .and_then(|ppp| rows::auth_method(ppp.auth_method))
        .map(config_method);
    let service = granted::service(ppp.and_then(|ppp| ppp.service.as_ref()));
    SessionInfo {
        policy: service.policy,
        rate_up_bits_per_second: service.rate_up,
        rate_down_bits_per_second: service.rate_down,
        filters: service.filters,
        filter_rules: service.rules,
        tunnel_id: tunnel.get(),
        session_id: session.get(),
        peer_session_id: row.peer_session_id as u16,
        user: row
            .user()
            .map_or_else(String::new, |user| Escaped(user).to_string()),
        address: ppp
            .and_then(|_| forwarding::address(row))
            .map(|address| address.to_string()),
        link_prefix: prefixes[0].map(|prefix| prefix.to_string()),
        delegated_prefix: prefixes[1].map(|prefix| prefix.to_string()),
        state: session_state(row).into(),
        calling_number: Escaped(&row.calling_number).to_string(),
        called_number: Escaped(&row.called_number).to_string(),
        acct_session_id: row.acct_session_id.clone(),
        auth_method: method.map_or_else(String::new, |method| method.name().into()),
        mru: ppp.map_or(0, |ppp| mtu.min(ppp.peer_mru.min(u32::from(u16::MAX)) as u16)),
        tx_bits_per_second: row.tx_speed,
        rx_bits_per_second: row.rx_speed,
        connected_seconds: ppp.map(|ppp| now_ms.saturating_sub(ppp.opened_ms) / 1000),
        age_seconds: now_ms.saturating_sub(row.created_ms) / 1000,
        rx_packets: totals.rx_packets,
        rx_octets: totals.rx_octets,
        tx_packets: totals.tx_packets,
        tx_octets: totals.tx_octets,
        drops: totals.drops,
    }
}

const fn config_method(method: holdfast_ppp::AuthMethod) -> config::AuthMethod {
    match method {
        holdfast_ppp::AuthMethod::Pap => config::AuthMethod::Pap,
        holdfast_ppp::AuthMethod::ChapMd5 => config::AuthMethod::ChapMd5,
        holdfast_ppp::AuthMethod::MsChapV2 => config::AuthMethod::MsChapV2,
    }
}

fn radius_status(server: ServerState) -> RadiusStatus {
    let counts = server.counts;
    RadiusStatus {
        group: server.group,
        address: server.address,
        purpose: server.purpose.name().to_owned(),
        state: server.health.name().to_owned(),
        outstanding: server.outstanding as u64,
        sent: counts.sent,
        retransmitted: counts.retransmitted,
        accepted: counts.accepted,
        rejected: counts.rejected,
        timeouts: counts.timeouts,
        dropped: counts.unverified + counts.unknown,
        probes: counts.probes,
        last_wait_us: u64::try_from(counts.last_wait.as_micros()).unwrap_or(u64::MAX),
    }
}
