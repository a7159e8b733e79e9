//! Holds what a subscriber was granted against his limit of sessions and against our own addresses, before any of it is reserved.
//!
//! Whoever granted it, the configuration or a RADIUS server, may be wrong: the subscriber is refused then, and the log says what of it
//! cannot be.

use holdfast_cluster::commands::SessionKey;
use ipnet::IpNet;
use tracing::span::EnteredSpan;

use super::context::Shared;
use super::directory::SessionIds;
use crate::aaa::networks::{self, Misfit, OUTSIDE_MAX, Own};
use crate::aaa::profile::PrefixAssignment;
use crate::aaa::{Assignment, Profile, Rejection, local};
use crate::config::{AddressConflict, Config};
use crate::logging::Escaped;
use crate::metrics::{Counter, Limit};
use crate::throttled;

/// # Errors
/// What the subscriber is told; what is logged of it goes into `span`.
pub fn check(
    shared: &Shared,
    ids: SessionIds,
    profile: &Profile,
    span: impl Fn() -> EnteredSpan,
) -> Result<(), Vec<u8>> {
    let open = |user: &str| shared.directory.sessions_of_user(user.as_bytes(), ids);
    if let Err(rejection) = local::within_limit(profile, open) {
        let _span = span();
        count_rejection(shared, &rejection);
        throttled!(warn, user = %Escaped(profile.user.as_bytes()), "subscriber refused: {rejection}");
        return Err(rejection.message().as_bytes().to_vec());
    }
    fits(shared, ids, profile).map_err(|misfit| {
        let _span = span();
        shared.metrics.count(Counter::GrantMisfit);
        if misfit == Misfit::Outside {
            shared.metrics.hit(Limit::OutsideNetworks);
        }
        throttled!(
            error,
            user = %Escaped(profile.user.as_bytes()),
            server = profile.identity.server_group,
            "subscriber refused: {misfit}"
        );
        b"Service not available".to_vec()
    })
}

/// Counts why somebody is refused.
pub fn count_rejection(shared: &Shared, rejection: &Rejection) {
    match rejection {
        Rejection::TooManySessions { .. } => {
            shared.metrics.count(Counter::AuthSessionLimit);
            shared.metrics.hit(Limit::UserSessions);
        }
        Rejection::UnknownUser | Rejection::WrongPassword => shared.metrics.count(Counter::AuthRejected),
    }
}

fn fits(shared: &Shared, ids: SessionIds, profile: &Profile) -> Result<(), Misfit> {
    let config = shared.config.load();
    if !names_networks(profile) {
        return Ok(());
    }
    let mut own = Own::of(&config);
    if let Some(tunnel) = shared.directory.tunnel(ids.0) {
        own = own.and(tunnel.peer.ip(), "the LAC's address");
        if let Some(local) = tunnel.local {
            own = own.and(local.ip(), "our own address in the tunnel");
        }
    }
    networks::check(profile, &own)?;
    if brings_outside(&config, profile) && shared.directory.outside() >= OUTSIDE_MAX {
        return Err(Misfit::Outside);
    }
    Ok(())
}

/// Most get an address of a pool and nothing else.
fn names_networks(profile: &Profile) -> bool {
    let of_pools = matches!(profile.ipv4, Some(Assignment::Pool(_)) | None);
    let prefixes = [&profile.link_prefix, &profile.delegated_prefix];
    let prefixes_of_pools = prefixes
        .into_iter()
        .all(|prefix| matches!(prefix, Some(PrefixAssignment::Pool(_)) | None));
    !(of_pools && prefixes_of_pools && profile.routes.is_empty())
}

fn brings_outside(config: &Config, profile: &Profile) -> bool {
    let pools = config.networks();
    let covered = |net: &IpNet| pools.iter().any(|pool| pool.contains(net));
    let address = match profile.ipv4 {
        Some(Assignment::Fixed(address)) => Some(IpNet::from(std::net::IpAddr::V4(address))),
        Some(Assignment::Pool(_)) | None => None,
    };
    let mut all = address
        .into_iter()
        .chain(profile.routes.iter().map(|route| route.net));
    !all.all(|net| covered(&net))
}

/// How the session `holder` is named that a new one takes the address from; `None` if the policy does not replace it.
pub fn replacing(conflict: AddressConflict, (tunnel, session): SessionIds) -> Option<SessionKey> {
    let key = SessionKey::new(tunnel, session);
    match conflict {
        AddressConflict::ReplaceSameUser => Some(key),
        AddressConflict::Replace => Some(SessionKey {
            any_user: true,
            ..key
        }),
        AddressConflict::Refuse => None,
    }
}
