//! The way of an SCCRQ to a tunnel: the gate, the recognition of repeats, the limits, then a row to be committed.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, MutexGuard};

use holdfast_cluster::commands::CreateTunnel;
use holdfast_ppp::{AuthMethod, LinkConfig};
use holdfast_protocol::{Refusal, Settings, TunnelId};

use super::context::{ShardContext, Shared};
use super::directory::Place;
use super::relay;
use super::shard::ShardInput;
use super::table::ReplyTo;
use crate::config::{self, Config, LacConfig};
use crate::io::Inbound;
use crate::lns::acceptor::{self, Candidate, First, NoRoom, Profile, Rejection};
use crate::lns::admission::{Admission, Judgement, OverCap};
use crate::lns::repeats::{Known, PeerKey, Repeat};
use crate::lns::waiting::Waiter;
use crate::logging::Escaped;
use crate::metrics::{Counter, Limit};
use crate::throttled;

/// Draws of a tunnel id before the node counts as full.
const TUNNEL_ID_DRAWS: u32 = 256;

/// SCCRQs that have waited and are taken by one shard in one turn of 10 ms: each brings calls, and how busy those keep the table shows
/// only later.
const SERVED_PER_TURN: usize = 16;

/// Changes waiting for the table beyond which no new tunnel is begun: a few batches, some tenths of a second at most.
pub const TABLE_WAITING_MAX: usize = 4_096;

/// A control message with tunnel id 0; `relayed`: by a node that has no groups.
pub fn on_sccrq(shard: &Rc<ShardContext>, from: SocketAddr, to: SocketAddr, datagram: &[u8], relayed: bool) {
    let shared = &shard.shared;
    if own_groups(shared).next().is_none() {
        if !relayed {
            relay::sccrq(shard, from, to, datagram);
        }
        return;
    }
    shared.metrics.count(Counter::SccrqReceived);
    let request = Waiter {
        from,
        to,
        datagram: datagram.to_vec(),
    };
    let judgement = admission(shared).judge(shared.now().monotonic, &request, is_busy(shared));
    match judgement {
        Judgement::Admitted => on_admitted(shard, &request),
        Judgement::Waits(over) => {
            shared.metrics.count(Counter::SccrqWaited);
            shared.metrics.hit(limit(over));
        }
        Judgement::Dropped(over) => {
            shared.metrics.count(match over {
                OverCap::SourceRate | OverCap::TotalRate => Counter::SccrqRateDropped,
                OverCap::SourceHalfOpen | OverCap::TotalHalfOpen | OverCap::TableBusy => {
                    Counter::SccrqHalfOpenDropped
                }
            });
            shared.metrics.hit(limit(over));
            shared.metrics.hit(Limit::SccrqWaiting);
        }
    }
}

/// Those who waited and have a place now. What one of this node's shards has received any other may take.
pub fn serve_waiting(shard: &Rc<ShardContext>) {
    if is_busy(&shard.shared) {
        return;
    }
    let now = shard.now().monotonic;
    let taken = admission(&shard.shared).take_waiting(now, SERVED_PER_TURN);
    for request in taken {
        // Should the groups have gone elsewhere meanwhile, no id can be drawn; the LAC comes again.
        on_admitted(shard, &request);
    }
}

/// Whether the changes of tunnels and calls that have begun keep the table busy.
fn is_busy(shared: &Shared) -> bool {
    shared.table.waiting() > TABLE_WAITING_MAX
}

/// A message with tunnel id 0 whose turn it is.
fn on_admitted(shard: &Rc<ShardContext>, request: &Waiter) {
    if !open_tunnel(shard, request) {
        admission(&shard.shared).half_open_ended(request.from.ip());
    }
}

/// Whether a tunnel was claimed, of which the table's thread hears more.
fn open_tunnel(shard: &Rc<ShardContext>, request: &Waiter) -> bool {
    let Waiter {
        from,
        to,
        ref datagram,
    } = *request;
    let shared = &shard.shared;
    let config = shared.config.load();
    let mut place = shared.directory.place();
    let Some(local) = draw_tunnel_id(shard, &mut place) else {
        shared.metrics.hit(Limit::Tunnels);
        return false;
    };
    let find = |host_name: &[u8]| config.lac(host_name, from.ip()).map(profile);
    match acceptor::read(datagram, local, find) {
        Ok(First::Request(candidate)) => {
            let claimed = on_candidate(shard, &config, local, &candidate, from, to, datagram);
            if claimed {
                place.keep();
            }
            return claimed;
        }
        Ok(First::Stop(peer_tunnel)) => on_stop(shard, from, to, peer_tunnel, datagram),
        Err(rejection) => reject(shard, from, to, rejection),
    }
    false
}

/// A StopCCN with tunnel id 0 is the half-open tunnel's business; from a stranger it is dropped.
fn on_stop(shard: &ShardContext, from: SocketAddr, to: SocketAddr, peer_tunnel: TunnelId, datagram: &[u8]) {
    let shared = &shard.shared;
    let key: PeerKey = (from, peer_tunnel);
    match shared.directory.half_open(&key) {
        Some(tunnel) => hand_over(shard, tunnel, from, to, datagram),
        None => shared.metrics.count(Counter::ControlUnknownTunnel),
    }
}

fn admission(shared: &Shared) -> MutexGuard<'_, Admission> {
    shared
        .admission
        .lock()
        .expect("nothing panics with the admission locked")
}

const fn limit(over: OverCap) -> Limit {
    match over {
        OverCap::SourceRate | OverCap::TotalRate => Limit::SccrqRate,
        OverCap::SourceHalfOpen => Limit::HalfOpenPerSource,
        OverCap::TotalHalfOpen => Limit::HalfOpen,
        OverCap::TableBusy => Limit::TableWaiting,
    }
}

/// Whether a tunnel was claimed for the candidate.
fn on_candidate(
    shard: &Rc<ShardContext>,
    config: &Config,
    local: TunnelId,
    candidate: &Candidate,
    from: SocketAddr,
    to: SocketAddr,
    datagram: &[u8],
) -> bool {
    let shared = &shard.shared;
    let key = (from, candidate.sccrq.assigned_tunnel_id);
    match shared.directory.repeated(&key, candidate.hash) {
        Some(Repeat::Duplicate(tunnel)) => {
            hand_over(shard, tunnel, from, to, datagram);
            return false;
        }
        Some(Repeat::Busy) => {
            shared.metrics.count(Counter::SccrqHalfOpenDropped);
            return false;
        }
        Some(Repeat::Restarted) | None => {}
    }
    if let Some((limit, why)) = no_room(shared, config, &candidate.profile.name) {
        shared.metrics.hit(limit);
        answer(shard, from, to, &acceptor::refuse(local, candidate, why));
        return false;
    }
    let settings = settings(config, &candidate.profile.name, Some(rand::random()));
    match acceptor::first_row(shared.now(), settings, local, candidate, from, to) {
        Ok(row) => {
            let claim = Known::claimed(local, candidate.hash, row.created_ms);
            let claimed = shared.directory.claim(key, claim);
            if claimed {
                let epoch = shared.table.published().own_epoch(local.group());
                let proposed = epoch.is_some_and(|epoch| {
                    let life = u64::from(epoch) << 32;
                    let create = CreateTunnel { life, row: Some(row) };
                    let reply = ReplyTo::Birth {
                        tunnel: local,
                        key: Some(key),
                    };
                    shared.table.propose(reply, create)
                });
                if !proposed {
                    shared.directory.claim_judged(&key, local, false);
                    admission(shared).half_open_ended(from.ip());
                }
            }
            claimed
        }
        Err(rejection) => {
            reject(shard, from, to, rejection);
            false
        }
    }
}

/// To the tunnel that the datagram is for, whose shard may be another one, and whose node too.
fn hand_over(shard: &ShardContext, tunnel: TunnelId, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
    let shared = &shard.shared;
    let datagram = datagram.to_vec();
    if shared.table.published().owns(tunnel) {
        shared
            .shard_of(tunnel)
            .send(ShardInput::Control { tunnel, datagram });
    } else {
        let packet = Inbound::Control {
            from,
            to,
            tunnel: tunnel.get(),
            datagram,
        };
        relay::away(shard, tunnel, packet);
    }
}

fn no_room(shared: &Shared, config: &Config, profile: &str) -> Option<(Limit, NoRoom)> {
    let lac = config.lacs.iter().find(|lac| lac.name == profile);
    let profile_limit = lac.and_then(|lac| lac.max_tunnels);
    if shared.is_closing() {
        Some((Limit::Tunnels, NoRoom::Draining))
    } else if shared.table.published().reserve_in_use() {
        Some((Limit::Tunnels, NoRoom::Limit("disk full")))
    } else if shared.directory.tunnels() >= config.l2tp.max_tunnels {
        Some((Limit::Tunnels, NoRoom::Limit("tunnel limit reached")))
    } else if profile_limit.is_some_and(|limit| shared.directory.tunnels_of_profile(profile) >= limit) {
        Some((
            Limit::LacTunnels,
            NoRoom::Limit("tunnel limit of this LAC reached"),
        ))
    } else {
        None
    }
}

/// Groups in which new tunnels may have a place: none of those that are about to go.
fn own_groups(shared: &Shared) -> impl Iterator<Item = u8> {
    let groups = shared.table.published().own_groups();
    groups.filter(|group| !shared.departures.is_going(*group))
}

/// A free id on the wanted shard, of a group that this node owns, drawn at random: unpredictable.
fn draw_tunnel_id(shard: &Rc<ShardContext>, place: &mut Place<'_>) -> Option<TunnelId> {
    let wanted = place.shard();
    let shards = shard.shared.shards.len();
    let groups: Vec<u8> = own_groups(&shard.shared).collect();
    let mut entropy = shard.entropy.borrow_mut();
    (0..TUNNEL_ID_DRAWS)
        .filter_map(|_| {
            // The id's low octet settles the shard: move a random id to the wanted one.
            let random = entropy.next_u16();
            let group = usize::from(*groups.get(usize::from(random >> 8) * groups.len() / 256)?);
            let index = (usize::from(random & 0xff) / shards * shards
                + (wanted + shards - group % shards) % shards)
                & 0xff;
            TunnelId::new((group as u16) << 8 | index as u16)
        })
        .find(|id| id.shard(shards) == wanted && place.draw(*id))
}

fn reject(shard: &Rc<ShardContext>, from: SocketAddr, to: SocketAddr, rejection: Rejection) {
    let metrics = &shard.shared.metrics;
    match rejection {
        Rejection::Drop(why) => {
            metrics.count(Counter::ControlMalformed);
            throttled!(warn, %from, why, "SCCRQ dropped");
        }
        Rejection::NotAllowed { host_name, refusal } => {
            metrics.count(Counter::LacRefused);
            throttled!(
                warn,
                %from,
                host_name = %Escaped(&host_name),
                "unknown LAC refused: no [[lac]] section with its host_name and address allows it; add one and reload"
            );
            answer(shard, from, to, &refusal);
        }
        Rejection::Refused(refusal) => {
            metrics.count(Counter::LacRefused);
            throttled!(warn, %from, result = ?refusal.result, "SCCRQ refused");
            answer(shard, from, to, &refusal);
        }
    }
}

fn answer(shard: &Rc<ShardContext>, from: SocketAddr, to: SocketAddr, refusal: &Refusal) {
    // Sent once; a LAC that misses it asks again.
    let _ = shard
        .shared
        .dataplane
        .send_control(shard.index, Some(to), from, refusal.octets.clone());
}

fn profile(lac: &LacConfig) -> Profile {
    Profile {
        name: lac.name.clone(),
        allowed: lac.allowed,
        secret: lac.secret.as_ref().map(protocol_secret),
        permissive: lac.permissive,
    }
}

fn protocol_secret(secret: &config::Secret) -> holdfast_protocol::Secret {
    holdfast_protocol::Secret::new(secret.expose())
}

/// The settings of a tunnel of this profile. A row that is reborn brings its own challenge.
pub fn settings(config: &Config, profile: &str, challenge: Option<[u8; 16]>) -> Settings {
    let lac = config.lacs.iter().find(|lac| lac.name == profile);
    Settings {
        host_name: config.node.host_name.clone().into_bytes(),
        receive_window: config.l2tp.window,
        secret: lac.and_then(|lac| lac.secret.as_ref()).map(protocol_secret),
        challenge: challenge.filter(|_| lac.is_some_and(|lac| lac.require_challenge)),
        hello_interval: config.l2tp.hello_interval,
        first_retransmit: config.l2tp.first_retransmit,
        retransmit_cap: config.l2tp.retransmit_cap,
        max_retransmits: config.l2tp.max_retransmits,
        setup_timeout: config.l2tp.setup_timeout,
        connect_timeout: config.l2tp.connect_timeout,
        permissive: lac.is_some_and(|lac| lac.permissive),
        ..Settings::default()
    }
}

/// The settings of a PPP link in a tunnel of this profile.
pub fn link_config(config: &Config, profile: &str) -> Arc<LinkConfig> {
    let lac = config.lacs.iter().find(|lac| lac.name == profile);
    let auth = lac.and_then(|lac| lac.auth.as_ref()).unwrap_or(&config.ppp.auth);
    Arc::new(LinkConfig {
        mru: config.ppp.mru,
        auth: auth.iter().map(|method| auth_method(*method)).collect(),
        local_name: config.node.host_name.clone().into_bytes(),
        echo_interval: config.ppp.echo_interval,
        echo_failures: config.ppp.echo_failures,
        setup_timeout: config.ppp.setup_timeout,
        accept_proxy: lac
            .and_then(|lac| lac.accept_proxy)
            .unwrap_or(config.ppp.accept_proxy),
        ..LinkConfig::default()
    })
}

const fn auth_method(method: config::AuthMethod) -> AuthMethod {
    match method {
        config::AuthMethod::Pap => AuthMethod::Pap,
        config::AuthMethod::ChapMd5 => AuthMethod::ChapMd5,
        config::AuthMethod::MsChapV2 => AuthMethod::MsChapV2,
    }
}

/// A tunnel came up.
pub fn on_established(shard: &Rc<ShardContext>, tunnel: TunnelId) {
    let shared = &shard.shared;
    shared.metrics.count(Counter::TunnelsOpened);
    if let Some(facts) = shared.directory.tunnel(tunnel) {
        tracing::info!(profile = %facts.profile, "tunnel established");
    }
}
