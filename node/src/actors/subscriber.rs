//! Who a subscriber is and which address they get: between a session's actor, the local users and the pools.
//!
//! An address is reserved here, before the session opens; the table's acceptance of the open row confirms it
//! ([`super::forwarding`]), and the end of the session frees it.

use std::net::Ipv4Addr;

use holdfast_cluster::commands::SessionKey;
use holdfast_cluster::records::SessionRow;
use holdfast_ppp::AuthRequest;
use holdfast_protocol::{SessionId, TunnelId};
use ipnet::Ipv6Net;
use tracing::span::EnteredSpan;

use super::context::Shared;
use super::directory::SessionIds;
use super::{claims, forwarding, prefixes};
use crate::aaa::prefixes::of_row;
use crate::aaa::{Assignment, Claim, PickError, Profile, Seat};
use crate::anycast::cut::Group;
use crate::lns::session::Grant;
use crate::logging::Escaped;
use crate::metrics::Counter;
use crate::throttled;

/// Judges an authentication and finds an address. The error is what the subscriber is told; what is logged of it goes into `span`.
pub fn decide(
    shared: &Shared,
    ids: SessionIds,
    request: &AuthRequest,
    span: impl Fn() -> EnteredSpan,
) -> Result<Grant, Vec<u8>> {
    let open_sessions = |user: &str| shared.directory.sessions_of_user(user.as_bytes(), ids);
    let judged = shared.users.load().judge(request, open_sessions);
    let granted = judged.map_err(|rejection| {
        let _span = span();
        claims::count_rejection(shared, &rejection);
        throttled!(warn, user = %Escaped(&request.name), "subscriber refused: {rejection}");
        rejection.message().as_bytes().to_vec()
    })?;
    grant(shared, ids, &request.name, granted, span)
}

/// Finds an address for whom somebody has let in. `name` is for the log.
pub fn grant(
    shared: &Shared,
    ids: SessionIds,
    name: &[u8],
    mut granted: Profile,
    span: impl Fn() -> EnteredSpan,
) -> Result<Grant, Vec<u8>> {
    shared.policies.load().complete(&mut granted).map_err(|unknown| {
        let _span = span();
        shared.metrics.count(Counter::PolicyUnknown);
        throttled!(error, user = %Escaped(name), "subscriber refused: {unknown}");
        b"Service not available".to_vec()
    })?;
    claims::check(shared, ids, &granted, &span)?;
    let no_address = |error: PickError| {
        let _span = span();
        shared.metrics.count(match error {
            PickError::Taken { .. } => Counter::AddressTaken,
            PickError::Exhausted { waiting: true, .. } => Counter::PoolWaiting,
            PickError::Exhausted { .. } | PickError::NoPool(_) | PickError::Draining(_) => {
                Counter::PoolExhausted
            }
        });
        throttled!(error, user = %Escaped(name), "subscriber refused: {error}");
        b"No address available".to_vec()
    };
    let wish = granted.ipv4.clone();
    let address = wish.as_ref().map(|wish| assign(shared, ids, &granted.user, wish));
    let address = address.transpose().map_err(no_address)?;
    let prefixes = prefixes::assign(shared, ids, &granted, &span);
    shared.metrics.count(Counter::AuthAccepted);
    let config = shared.config.load();
    let dns = if granted.dns.is_empty() {
        &config.ppp.dns
    } else {
        &granted.dns
    };
    let dns = [dns.first().copied(), dns.get(1).copied()];
    if granted.dns6.is_empty() {
        granted.dns6.clone_from(&config.ppp.dns6);
    }
    Ok(Grant {
        address,
        link_prefix: prefixes[0],
        delegated_prefix: prefixes[1],
        local: address
            .and_then(|address| config.gateway_for(address))
            .unwrap_or(Ipv4Addr::UNSPECIFIED),
        dns,
        replaces: wish
            .and_then(|wish| replaced(shared, ids, &wish))
            .or_else(|| prefixes::replaced(shared, ids, &granted)),
        profile: granted,
    })
}

/// The address of this session: the one it has already, if it is still right for the user, or a new one.
fn assign(
    shared: &Shared,
    key: SessionIds,
    user: &str,
    assignment: &Assignment,
) -> Result<Ipv4Addr, PickError> {
    let now = shared.now().monotonic;
    let mut pools = shared.pools.lock().expect("nothing panics with the pools locked");
    let own = shared
        .directory
        .address_of(key)
        .filter(|address| pools.holder(*address) == Some(user));
    let address = match assignment {
        Assignment::Fixed(address) => {
            let claim = Claim {
                user,
                session: key,
                conflict: shared.config.load().ppp.address_conflict,
            };
            pools.reserve_fixed(now, *address, claim)?;
            *address
        }
        Assignment::Pool(pool) => match own {
            Some(address) => address,
            None => {
                let published = shared.table.published();
                let is_own = |group| published.owner(group) == published.me;
                pools.reserve(now, pool.as_deref(), user, seat(shared, key, &is_own))?
            }
        },
    };
    if let Some(earlier) = shared
        .directory
        .reserve(key, address)
        .filter(|earlier| *earlier != address)
    {
        pools.cancel(earlier);
    }
    Ok(address)
}

/// For which session something is picked.
pub fn seat<'a>(shared: &Shared, key: SessionIds, is_own: &'a dyn Fn(Group) -> bool) -> Seat<'a> {
    Seat {
        group: key.0.group(),
        is_own,
        horizon: shared
            .members
            .as_ref()
            .map_or(u64::MAX, |members| members.horizon()),
    }
}

/// The stale session whose fixed address this one takes.
fn replaced(shared: &Shared, key: SessionIds, assignment: &Assignment) -> Option<SessionKey> {
    let Assignment::Fixed(address) = assignment else {
        return None;
    };
    let holder = shared.directory.holder(*address);
    let conflict = shared.config.load().ppp.address_conflict;
    claims::replacing(conflict, holder.filter(|holder| *holder != key)?)
}

/// The table has refused the address that was reserved for this session: it gets another one next time.
pub fn address_refused(shared: &Shared, tunnel: TunnelId, session: SessionId) {
    shared.metrics.count(Counter::AddressRefused);
    prefixes::refused(shared, tunnel, session);
    let now = shared.now().monotonic;
    let index = shared.table.published().applied();
    if let Some(address) = shared.directory.unreserve((tunnel, session)) {
        shared
            .pools
            .lock()
            .expect("nothing panics with the pools locked")
            .refused(now, index, address);
    }
}

/// The session's actor ends: an address that was reserved and never confirmed is free again.
pub fn release(shared: &Shared, tunnel: TunnelId, session: SessionId) {
    prefixes::release(shared, tunnel, session);
    if let Some(address) = shared.directory.unreserve((tunnel, session)) {
        shared
            .pools
            .lock()
            .expect("nothing panics with the pools locked")
            .cancel(address);
    }
}

/// Says that a subscriber is online. The ids are fields: a span for one line would cost as much as the line.
pub fn log_online(tunnel: TunnelId, row: &SessionRow) {
    let Some(ppp) = &row.ppp else { return };
    let shown = |net: Option<Ipv6Net>| net.map_or_else(String::new, |net| net.to_string());
    let address = forwarding::address(row).map_or_else(String::new, |address| address.to_string());
    let [link, delegated] = of_row(row).map(shown);
    tracing::info!(
        %tunnel,
        session = row.session_id,
        user = %Escaped(&ppp.user),
        address,
        link,
        delegated,
        calling = %Escaped(&row.calling_number),
        "subscriber online"
    );
}

/// Says that a subscriber who was online is gone.
pub fn log_offline(tunnel: TunnelId, row: &SessionRow) {
    let Some(ppp) = row.ppp.as_ref().filter(|_| row.is_open()) else {
        return;
    };
    tracing::info!(%tunnel, session = row.session_id, user = %Escaped(&ppp.user), "subscriber offline");
}
