//! What single values cannot show: names used twice, prefixes that overlap, addresses that lie in no pool.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;

use ipnet::{IpNet, Ipv4Net};

use super::model::{Config, LacConfig, TunMode, UserConfig};
use super::prefixes;
use super::read::Reader;
use super::{addresses, cluster, coa, filter, policy, radius};
use crate::aaa::networks::Own;
use crate::peers::credentials;

/// Longest path of a Unix socket, octets: `sun_path` without its final zero.
const SOCKET_PATH: usize = 107;
/// Shortest prefix of a pool: 4 million addresses, the whole of RFC 6598.
const SHORTEST_PREFIX: u8 = 10;

/// Notes every mistake with the reader.
pub fn check(config: &Config, reader: &Reader) {
    listen(config, reader);
    if config.api.socket.as_os_str().as_bytes().len() > SOCKET_PATH {
        reader.mistake(
            "api.socket",
            format!("is longer than the {SOCKET_PATH} octets that a socket's path may have"),
        );
    }
    if config.l2tp.retransmit_cap < config.l2tp.first_retransmit {
        reader.mistake("l2tp.retransmit_cap", "is shorter than first_retransmit");
    }
    unique("pool", config.pools.iter().map(|pool| pool.name.as_str()), reader);
    unique("lac", config.lacs.iter().map(|lac| lac.name.as_str()), reader);
    unique(
        "policy",
        config.policies.iter().map(|policy| policy.name.as_str()),
        reader,
    );
    unique(
        "filter",
        config.filters.iter().map(|filter| filter.name.as_str()),
        reader,
    );
    unique("user", config.users.iter().map(|user| user.name.as_str()), reader);
    unique(
        "realm",
        config.realms.iter().map(|realm| realm.name.as_str()),
        reader,
    );
    cluster::check(config, reader);
    radius::check(config, reader);
    coa::check(config, reader);
    pools(config, reader);
    addresses::check_pools(config, reader);
    prefixes::check(config, reader);
    lacs(&config.lacs, reader);
    anycast(config, reader);
    policy::check(config, reader);
    filter::check(config, reader);
    users(config, reader);
}

/// Notes what is wrong with the files that the configuration names.
pub fn files(config: &Config, reader: &Reader) {
    let Some(cluster) = &config.cluster else { return };
    let named = [&cluster.ca, &cluster.certificate, &cluster.key];
    if cluster.id.is_empty() || named.iter().any(|path| path.as_os_str().is_empty()) {
        // Said already.
        return;
    }
    for finding in credentials::examine(cluster, config.node.id) {
        reader.mistake(&format!("cluster.{}", finding.key), finding.text);
    }
}

fn listen(config: &Config, reader: &Reader) {
    let listen = &config.node.listen;
    if listen.is_empty() {
        reader.mistake(
            "node.listen",
            "needs one address at least, such as \"0.0.0.0:1701\"",
        );
    }
    for (index, address) in listen.iter().enumerate() {
        if listen[..index].contains(address) {
            reader.mistake(
                &format!("node.listen[{index}]"),
                format!("{address} is listed twice"),
            );
        }
    }
}

fn anycast(config: &Config, reader: &Reader) {
    let Some(anycast) = &config.anycast else {
        return;
    };
    if anycast.addresses.is_empty() {
        reader.mistake("anycast.addresses", "needs one address at least: what LACs dial");
    }
    if config.tun.enabled == TunMode::Never {
        reader.mistake(
            "tun.enabled",
            "is \"never\", but the anycast address is put on that interface",
        );
    }
    for (index, address) in anycast.addresses.iter().enumerate() {
        let key = format!("anycast.addresses[{index}]");
        let heard = |listen: &std::net::SocketAddr| {
            listen.ip() == *address || (listen.ip().is_unspecified() && listen.is_ipv4() == address.is_ipv4())
        };
        if anycast.addresses[..index].contains(address) {
            reader.mistake(&key, format!("{address} is listed twice"));
        } else if !config.node.listen.iter().any(heard) {
            reader.mistake(
                &key,
                format!("nobody listens there: node.listen has no \"{address}\""),
            );
        }
        if config.pools.iter().any(|pool| *address == pool.gateway) {
            reader.mistake(&key, format!("{address} is the gateway of a pool"));
        }
    }
    if anycast.local_as == anycast.neighbour_as {
        reader.mistake(
            "anycast.neighbour_as",
            "is our own: routers of the same system would not pass on what they hear from us (use eBGP)",
        );
    }
}

/// `list[i].name` must differ from those before it; empty ones have been complained of already.
fn unique<'c>(list: &str, names: impl Iterator<Item = &'c str>, reader: &Reader) {
    let mut seen = BTreeMap::new();
    for (index, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
        if let Some(first) = seen.insert(name, index) {
            seen.insert(name, first);
            let text = format!("\"{name}\" is taken by the [[{list}]] number {} above", first + 1);
            reader.mistake(&format!("{list}[{index}].name"), text);
        }
    }
}

fn pools(config: &Config, reader: &Reader) {
    if config.pools.is_empty() {
        reader.mistake(
            "pool",
            "there must be one [[pool]] at least, for subscribers' addresses",
        );
    }
    let mut earlier: Vec<(Ipv4Net, &str)> = Vec::new();
    for (index, pool) in config.pools.iter().enumerate() {
        let key = format!("pool[{index}].prefixes");
        if pool.prefixes.is_empty() && pool.ipv6.is_empty() {
            reader.mistake(&key, "needs one prefix at least");
        }
        for (position, prefix) in pool.prefixes.iter().enumerate() {
            let key = format!("{key}[{position}]");
            if prefix.prefix_len() < SHORTEST_PREFIX {
                reader.mistake(
                    &key,
                    format!("{prefix} is too large; the shortest prefix is /{SHORTEST_PREFIX}"),
                );
            }
            for (other, name) in earlier.iter().filter(|(other, _)| overlap(prefix, other)) {
                reader.mistake(&key, format!("{prefix} overlaps {other} of the pool \"{name}\""));
            }
            earlier.push((*prefix, &pool.name));
        }
        gateway(index, pool.gateway, &pool.prefixes, reader);
    }
}

fn gateway(index: usize, gateway: Ipv4Addr, prefixes: &[Ipv4Net], reader: &Reader) {
    let key = format!("pool[{index}].gateway");
    let hosts: u64 = prefixes.iter().map(|prefix| host_count(*prefix)).sum();
    let inside = prefixes.iter().any(|prefix| is_host(*prefix, gateway));
    if !prefixes.is_empty() && unusable(gateway) {
        reader.mistake(&key, format!("{gateway} cannot be our own address in a session"));
    } else if prefixes.iter().any(|prefix| prefix.contains(&gateway)) && !inside {
        reader.mistake(
            &key,
            format!("{gateway} is the network or the broadcast address of its prefix"),
        );
    } else if !prefixes.is_empty() && hosts <= u64::from(inside) {
        reader.mistake(
            &key,
            "leaves no address for subscribers: use a larger prefix, or a gateway outside it",
        );
    }
}

fn lacs(lacs: &[LacConfig], reader: &Reader) {
    for (index, lac) in lacs.iter().enumerate() {
        let everything = |earlier: &&LacConfig| {
            let name = &earlier.host_name;
            let any_address = earlier.addresses.is_empty() || subset(&lac.addresses, &earlier.addresses);
            (name.as_str() == "*" || *name == lac.host_name) && any_address
        };
        if let Some(earlier) = lacs[..index].iter().find(everything) {
            let text = format!(
                "never applies: the profile \"{}\" above takes every such LAC",
                earlier.name
            );
            reader.mistake(&format!("lac[{index}]"), text);
        }
    }
}

fn subset(inner: &[IpNet], outer: &[IpNet]) -> bool {
    !inner.is_empty()
        && inner
            .iter()
            .all(|net| outer.iter().any(|wide| wide.contains(net)))
}

fn users(config: &Config, reader: &Reader) {
    let mut fixed: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    let own = Own::of(config);
    for (index, user) in config.users.iter().enumerate() {
        addresses::check_user(&own, index, user, reader);
        if let Some(name) = &user.pool
            && config.pool(name).is_none()
        {
            reader.mistake(
                &format!("user[{index}].pool"),
                format!("there is no [[pool]] named \"{name}\""),
            );
        }
        let Some(address) = user.address else { continue };
        let key = format!("user[{index}].address");
        if let Err(text) = fixed_address(config, user, address) {
            reader.mistake(&key, text);
        }
        if let Some(other) = fixed.insert(address, &user.name) {
            reader.mistake(&key, format!("{address} belongs to the user \"{other}\" already"));
        }
        if user.max_sessions.is_some_and(|sessions| sessions > 1) {
            let text = "a user with a fixed address has one session; remove this or the address";
            reader.mistake(&format!("user[{index}].max_sessions"), text);
        }
    }
}

fn fixed_address(config: &Config, user: &UserConfig, address: Ipv4Addr) -> Result<(), String> {
    let holds = |pool: &&super::PoolConfig| pool.prefixes.iter().any(|prefix| prefix.contains(&address));
    let Some(pool) = config.pools.iter().find(holds) else {
        // Routed by itself while its session is open.
        return Ok(());
    };
    if user
        .pool
        .as_ref()
        .is_some_and(|name| *name != pool.name && config.pool(name).is_some())
    {
        return Err(format!(
            "{address} lies in the pool \"{}\", not in the user's",
            pool.name
        ));
    }
    if !pool.prefixes.iter().any(|prefix| is_host(*prefix, address)) {
        return Err(format!(
            "{address} is the network or the broadcast address of its prefix"
        ));
    }
    Ok(())
}

/// Whether a host may have the address: not the network's own, not broadcast; a /31 and a /32 have neither.
pub fn is_host(prefix: Ipv4Net, address: Ipv4Addr) -> bool {
    let ends = prefix.prefix_len() < 31 && (address == prefix.network() || address == prefix.broadcast());
    prefix.contains(&address) && !ends
}

/// How many addresses [`is_host`] admits.
pub fn host_count(prefix: Ipv4Net) -> u64 {
    let all = 1_u64 << (32 - prefix.prefix_len());
    if prefix.prefix_len() < 31 { all - 2 } else { all }
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

fn unusable(address: Ipv4Addr) -> bool {
    address.is_unspecified() || address.is_multicast() || address.is_broadcast()
}
