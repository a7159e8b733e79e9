//! Which IPv6 prefixes a subscriber gets: between a session's actor and the pools, beside [`super::subscriber`].

use holdfast_cluster::commands::SessionKey;
use holdfast_protocol::{SessionId, TunnelId};
use tracing::span::EnteredSpan;

use super::context::Shared;
use super::directory::SessionIds;
use super::subscriber;
use crate::aaa::Profile;
use crate::aaa::prefixes::{Pair, Use};
use crate::aaa::profile::PrefixAssignment;
use crate::config::unfit_prefix;
use crate::lns::ipv6;
use crate::logging::Escaped;
use crate::metrics::Counter;
use crate::throttled;

/// The prefixes of a session. A subscriber goes without one that cannot be had: IPv4 shall not suffer for it.
pub fn assign(shared: &Shared, ids: SessionIds, profile: &Profile, span: impl Fn() -> EnteredSpan) -> Pair {
    let now = shared.now().monotonic;
    let published = shared.table.published();
    let is_own = |group| published.owner(group) == published.me;
    let seat = subscriber::seat(shared, ids, &is_own);
    let wishes = [
        (Use::Link, &profile.link_prefix),
        (Use::Delegated, &profile.delegated_prefix),
    ];
    wishes.map(|(purpose, wish)| {
        let wish = wish.as_ref()?;
        if let PrefixAssignment::Fixed(prefix) = wish
            && let Some(why) = unfit_prefix(&shared.config.load(), *prefix, purpose == Use::Link)
        {
            let _span = span();
            shared.metrics.count(Counter::PrefixExhausted);
            throttled!(warn, user = %Escaped(profile.user.as_bytes()), "no IPv6 prefix: {why}");
            return None;
        }
        let mut prefixes = shared
            .prefixes
            .lock()
            .expect("nothing panics with the prefixes locked");
        let assigned = prefixes.assign(now, ids, &profile.user, purpose, wish, seat);
        drop(prefixes);
        assigned.unwrap_or_else(|error| {
            let _span = span();
            shared.metrics.count(Counter::PrefixExhausted);
            throttled!(warn, user = %Escaped(profile.user.as_bytes()), "no IPv6 prefix: {error}");
            None
        })
    })
}

/// The stale session whose fixed prefix this one takes.
pub fn replaced(shared: &Shared, key: SessionIds, profile: &Profile) -> Option<SessionKey> {
    let prefixes = shared
        .prefixes
        .lock()
        .expect("nothing panics with the prefixes locked");
    let fixed = [&profile.link_prefix, &profile.delegated_prefix];
    let mut holders = fixed.into_iter().filter_map(|wish| match wish {
        Some(PrefixAssignment::Fixed(prefix)) => prefixes.user_of(*prefix),
        Some(PrefixAssignment::Pool(_)) | None => None,
    });
    let (tunnel, session) = holders.find(|holder| *holder != key)?;
    Some(SessionKey::new(tunnel, session))
}

/// The table has refused what was reserved for this session: it gets other ones next time.
pub fn refused(shared: &Shared, tunnel: TunnelId, session: SessionId) {
    let now = shared.now().monotonic;
    let index = shared.table.published().applied();
    let mut prefixes = shared
        .prefixes
        .lock()
        .expect("nothing panics with the prefixes locked");
    prefixes.refused(now, index, (tunnel, session));
}

/// The session's actor ends: what was reserved and never confirmed is free again.
pub fn release(shared: &Shared, tunnel: TunnelId, session: SessionId) {
    let mut prefixes = shared
        .prefixes
        .lock()
        .expect("nothing panics with the prefixes locked");
    prefixes.abandon((tunnel, session));
}

/// What is counted of a session's IPv6, by the node's names.
pub const fn counter(counter: ipv6::Counter) -> Counter {
    use ipv6::Counter as Ipv6;
    match counter {
        Ipv6::RouterAdvertisements => Counter::RouterAdvertisements,
        Ipv6::RouterSolicitations => Counter::RouterSolicitations,
        Ipv6::Dhcp6Answered => Counter::Dhcp6Answered,
        Ipv6::Dhcp6Malformed => Counter::Dhcp6Malformed,
        Ipv6::Dhcp6Ignored => Counter::Dhcp6Ignored,
        Ipv6::Ipv6Malformed => Counter::Ipv6Malformed,
    }
}
