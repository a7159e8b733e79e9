//! What a reload changes: at once, for what begins after it, or only at the next start.
//!
//! Texts name keys and lists, never a secret: a changed password is "user ada: password changed".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::path::Path;
use std::time::Duration;

use super::duration;
use super::filter::FilterConfig;
use super::model::{ClusterConfig, Config, LacConfig, MemberConfig, PoolConfig, UserConfig};
use super::policy::PolicyConfig;
use super::radius::RadiusConfig;

/// The outcome of comparing the running configuration with a new one.
#[derive(Clone, Debug)]
pub struct Reload {
    /// What to run with now: the new one, with the old values of everything that needs a restart.
    pub config: Config,
    /// What takes effect, one sentence each.
    pub applied: Vec<String>,
    /// What waits for the next start, one sentence each.
    pub needs_restart: Vec<String>,
}

impl Reload {
    /// Compares the running configuration with the file's.
    pub fn between(running: &Config, file: &Config) -> Self {
        let mut config = file.clone();
        // These are bound when the process starts.
        config.node = running.node.clone();
        config.tun = running.tun.clone();
        config.api = running.api.clone();
        config.coa.listen = running.coa.listen.clone();
        config.anycast = running.anycast.clone();
        config.log.format = running.log.format;
        config.cluster = running.cluster.clone();
        config.members = members(running, file);
        let mut applied = applied(running, file);
        applied.extend(member_changes(&running.members, &config.members));
        let mut needs_restart = needs_restart(running, file);
        needs_restart.extend(member_changes(&config.members, &file.members));
        Self {
            applied,
            needs_restart,
            config,
        }
    }
}

/// A list of sentences about keys of which the old and the new value differ.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn shown<T: PartialEq>(&mut self, key: &str, old: &T, new: &T, show: impl Fn(&T) -> String) {
        if old != new {
            self.0.push(format!("{key}: {} -> {}", show(old), show(new)));
        }
    }

    fn plain<T: PartialEq + Display>(&mut self, key: &str, old: &T, new: &T) {
        self.shown(key, old, new, ToString::to_string);
    }

    fn debug<T: PartialEq + Debug>(&mut self, key: &str, old: &T, new: &T) {
        self.shown(key, old, new, |value| format!("{value:?}").to_lowercase());
    }

    fn time(&mut self, key: &str, old: Duration, new: Duration) {
        self.shown(key, &old, &new, |value| duration::format(*value));
    }

    fn path(&mut self, key: &str, old: &Path, new: &Path) {
        self.shown(key, &old, &new, |value| value.display().to_string());
    }
}

fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut d = Differences::default();
    d.plain("node.name", &old.node.name, &new.node.name);
    d.plain("node.id", &old.node.id, &new.node.id);
    d.path("node.data_dir", &old.node.data_dir, &new.node.data_dir);
    d.debug("node.listen", &old.node.listen, &new.node.listen);
    d.plain("node.shards", &old.node.shards, &new.node.shards);
    d.plain("node.host_name", &old.node.host_name, &new.node.host_name);
    d.plain("tun.name", &old.tun.name, &new.tun.name);
    d.plain("tun.mtu", &old.tun.mtu, &new.tun.mtu);
    d.debug("tun.enabled", &old.tun.enabled, &new.tun.enabled);
    d.plain("tun.offload", &old.tun.offload, &new.tun.offload);
    d.debug("coa.listen", &old.coa.listen, &new.coa.listen);
    anycast(&mut d, old, new);
    d.debug("log.format", &old.log.format, &new.log.format);
    d.path("api.socket", &old.api.socket, &new.api.socket);
    d.shown("api.mode", &old.api.mode, &new.api.mode, |mode| {
        format!("{mode:04o}")
    });
    cluster(&mut d, old, new);
    d.0
}

fn cluster(d: &mut Differences, old: &Config, new: &Config) {
    match (&old.cluster, &new.cluster) {
        (Some(old), Some(new)) => {
            d.plain("cluster.id", &old.id, &new.id);
            d.plain("cluster.listen", &old.listen, &new.listen);
            d.path("cluster.ca", &old.ca, &new.ca);
            d.path("cluster.certificate", &old.certificate, &new.certificate);
            d.path("cluster.key", &old.key, &new.key);
            d.plain("cluster.join", &old.join, &new.join);
            let seconds = |cluster: &ClusterConfig| cluster.isolation_limit.as_secs();
            d.plain("cluster.isolation_limit", &seconds(old), &seconds(new));
        }
        (None, None) => {}
        (None, Some(_)) => d.0.push("[cluster]: added".to_owned()),
        (Some(_), None) => d.0.push("[cluster]: removed".to_owned()),
    }
}

/// Whom to run with: the file's members, but what this node is itself, and who is a witness, waits for the next start.
fn members(running: &Config, file: &Config) -> Vec<MemberConfig> {
    let own = running.node.id;
    let cluster = |config: &Config| config.cluster.as_ref().map(|cluster| cluster.id.clone());
    if file.node.id != own || cluster(file).is_none() || cluster(file) != cluster(running) {
        // The list is meant for another node, or for another cluster.
        return running.members.clone();
    }
    let to_run_with = |member: &MemberConfig| {
        let earlier = running.members.iter().find(|earlier| earlier.id == member.id);
        match earlier {
            Some(earlier) if earlier.id == own => earlier.clone(),
            Some(earlier) => MemberConfig {
                witness: earlier.witness,
                ..member.clone()
            },
            None => member.clone(),
        }
    };
    file.members.iter().map(to_run_with).collect()
}

/// What was added, removed or changed, in the order of the ids.
fn member_changes(old: &[MemberConfig], new: &[MemberConfig]) -> Vec<String> {
    let index = |members: &[MemberConfig]| -> BTreeMap<u64, MemberConfig> {
        members.iter().map(|member| (member.id, member.clone())).collect()
    };
    let (old, new) = (index(old), index(new));
    let ids: BTreeSet<&u64> = old.keys().chain(new.keys()).collect();
    let mut d = Differences::default();
    for id in ids {
        match (old.get(id), new.get(id)) {
            (Some(old), Some(new)) => {
                d.plain(&format!("member {id}: address"), &old.address, &new.address);
                d.plain(&format!("member {id}: witness"), &old.witness, &new.witness);
            }
            (None, Some(new)) => d.0.push(format!("member {id}: added, {}", new.address)),
            (Some(_), None) => d.0.push(format!("member {id}: removed")),
            (None, None) => {}
        }
    }
    d.0
}

/// The section as a whole: its addresses are on the interface, its routers in BIRD's configuration.
fn anycast(d: &mut Differences, old: &Config, new: &Config) {
    if old.anycast != new.anycast {
        let text = match (&old.anycast, &new.anycast) {
            (None, _) => "anycast: added",
            (_, None) => "anycast: removed",
            _ => "anycast: changed",
        };
        d.0.push(text.to_owned());
    }
}

fn applied(old: &Config, new: &Config) -> Vec<String> {
    let mut d = Differences::default();
    d.plain("log.level", &old.log.level, &new.log.level);
    l2tp(&mut d, old, new);
    ppp(&mut d, old, new);
    aaa(&mut d, old, new);
    accounting(&mut d, old, new);
    coa(&mut d, old, new);
    let Differences(mut texts) = d;
    let pool_changes = |old: &PoolConfig, new: &PoolConfig| {
        changes(&[
            ("prefixes", old.prefixes != new.prefixes),
            ("gateway", old.gateway != new.gateway),
            ("drain", old.drain != new.drain),
            ("link_prefixes", old.ipv6.link != new.ipv6.link),
            ("delegated_prefixes", old.ipv6.delegated != new.ipv6.delegated),
            (
                "delegated_length",
                old.ipv6.delegated_length != new.ipv6.delegated_length,
            ),
        ])
    };
    texts.extend(named(
        "pool",
        &old.pools,
        &new.pools,
        |pool| &pool.name,
        pool_changes,
    ));
    texts.extend(named("lac", &old.lacs, &new.lacs, |lac| &lac.name, lac_changes));
    texts.extend(named(
        "radius",
        &old.radius,
        &new.radius,
        |server| &server.label,
        radius_changes,
    ));
    texts.extend(named(
        "coa_client",
        &old.coa.policy.clients,
        &new.coa.policy.clients,
        |client| &client.label,
        |old, new| changes(&[("secret", old.secret != new.secret)]),
    ));
    texts.extend(named(
        "realm",
        &old.realms,
        &new.realms,
        |realm| &realm.name,
        |old, new| changes(&[("radius", old.radius != new.radius)]),
    ));
    texts.extend(named(
        "policy",
        &old.policies,
        &new.policies,
        |policy| &policy.name,
        policy_changes,
    ));
    texts.extend(named(
        "filter",
        &old.filters,
        &new.filters,
        |filter| &filter.name,
        filter_changes,
    ));
    texts.extend(named(
        "user",
        &old.users,
        &new.users,
        |user| &user.name,
        user_changes,
    ));
    texts
}

fn l2tp(d: &mut Differences, old: &Config, new: &Config) {
    let (old, new) = (&old.l2tp, &new.l2tp);
    d.time("l2tp.hello_interval", old.hello_interval, new.hello_interval);
    d.plain("l2tp.window", &old.window, &new.window);
    d.time(
        "l2tp.first_retransmit",
        old.first_retransmit,
        new.first_retransmit,
    );
    d.time("l2tp.retransmit_cap", old.retransmit_cap, new.retransmit_cap);
    d.plain("l2tp.max_retransmits", &old.max_retransmits, &new.max_retransmits);
    d.time("l2tp.setup_timeout", old.setup_timeout, new.setup_timeout);
    d.time("l2tp.connect_timeout", old.connect_timeout, new.connect_timeout);
    d.plain("l2tp.half_open", &old.half_open, &new.half_open);
    d.plain(
        "l2tp.half_open_per_source",
        &old.half_open_per_source,
        &new.half_open_per_source,
    );
    d.plain("l2tp.sccrq_rate", &old.sccrq_rate, &new.sccrq_rate);
    d.plain("l2tp.max_tunnels", &old.max_tunnels, &new.max_tunnels);
    d.plain("l2tp.max_sessions", &old.max_sessions, &new.max_sessions);
    d.plain(
        "l2tp.max_sessions_per_tunnel",
        &old.max_sessions_per_tunnel,
        &new.max_sessions_per_tunnel,
    );
}

fn accounting(d: &mut Differences, old: &Config, new: &Config) {
    let (old, new) = (old.accounting.interim_interval, new.accounting.interim_interval);
    d.time("accounting.interim_interval", old, new);
}

fn ppp(d: &mut Differences, old: &Config, new: &Config) {
    let (old, new) = (&old.ppp, &new.ppp);
    let methods =
        |auth: &Vec<super::AuthMethod>| auth.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ");
    d.plain("ppp.mru", &old.mru, &new.mru);
    d.plain("ppp.mtu", &old.mtu, &new.mtu);
    d.shown("ppp.auth", &old.auth, &new.auth, methods);
    d.time("ppp.echo_interval", old.echo_interval, new.echo_interval);
    d.plain("ppp.echo_failures", &old.echo_failures, &new.echo_failures);
    d.time("ppp.setup_timeout", old.setup_timeout, new.setup_timeout);
    d.debug("ppp.dns", &old.dns, &new.dns);
    d.debug("ppp.dns6", &old.dns6, &new.dns6);
    d.plain("ppp.mss_clamp", &old.mss_clamp, &new.mss_clamp);
    d.plain("ppp.accept_proxy", &old.accept_proxy, &new.accept_proxy);
    d.shown(
        "ppp.address_conflict",
        &old.address_conflict,
        &new.address_conflict,
        |policy| policy.name().to_owned(),
    );
}

fn aaa(d: &mut Differences, old: &Config, new: &Config) {
    let (old, new) = (&old.aaa, &new.aaa);
    d.shown("aaa.radius", &old.radius, &new.radius, |groups| groups.join(", "));
    d.debug("aaa.local", &old.local, &new.local);
    d.debug("aaa.nas_identifier", &old.nas_identifier, &new.nas_identifier);
    d.debug("aaa.nas_ip_address", &old.nas_ip_address, &new.nas_ip_address);
    d.debug(
        "aaa.nas_ipv6_address",
        &old.nas_ipv6_address,
        &new.nas_ipv6_address,
    );
    d.time("aaa.patience", old.patience, new.patience);
}

fn coa(d: &mut Differences, old: &Config, new: &Config) {
    let (old, new) = (&old.coa.policy, &new.coa.policy);
    d.time("coa.window", old.window, new.window);
    d.plain(
        "coa.require_event_timestamp",
        &old.require_event_timestamp,
        &new.require_event_timestamp,
    );
    d.plain(
        "coa.require_message_authenticator",
        &old.require_message_authenticator,
        &new.require_message_authenticator,
    );
}

fn radius_changes(old: &RadiusConfig, new: &RadiusConfig) -> Vec<&'static str> {
    changes(&[
        ("secret", old.secret != new.secret),
        ("priority", old.priority != new.priority),
        (
            "require_message_authenticator",
            old.require_message_authenticator != new.require_message_authenticator,
        ),
        ("status_server", old.status_server != new.status_server),
        ("timeout", old.timeout != new.timeout),
        ("tries", old.tries != new.tries),
        ("dead_time", old.dead_time != new.dead_time),
        ("transport", old.transport != new.transport),
    ])
}

fn lac_changes(old: &LacConfig, new: &LacConfig) -> Vec<&'static str> {
    changes(&[
        ("host_name", old.host_name != new.host_name),
        ("addresses", old.addresses != new.addresses),
        ("allowed", old.allowed != new.allowed),
        ("secret", old.secret != new.secret),
        (
            "require_challenge",
            old.require_challenge != new.require_challenge,
        ),
        ("permissive", old.permissive != new.permissive),
        ("auth", old.auth != new.auth),
        ("accept_proxy", old.accept_proxy != new.accept_proxy),
        ("radius", old.radius != new.radius),
        ("max_tunnels", old.max_tunnels != new.max_tunnels),
        ("max_sessions", old.max_sessions != new.max_sessions),
    ])
}

fn policy_changes(old: &PolicyConfig, new: &PolicyConfig) -> Vec<&'static str> {
    changes(&[
        ("rate_up", old.rate_up != new.rate_up),
        ("rate_down", old.rate_down != new.rate_down),
        ("burst_up", old.burst_up != new.burst_up),
        ("burst_down", old.burst_down != new.burst_down),
        ("filters", old.filters != new.filters),
        ("session_timeout", old.session_timeout != new.session_timeout),
        ("idle_timeout", old.idle_timeout != new.idle_timeout),
    ])
}

fn filter_changes(old: &FilterConfig, new: &FilterConfig) -> Vec<&'static str> {
    changes(&[
        ("rules", old.rules != new.rules),
        ("answer", old.answer != new.answer),
        ("portal", old.portal != new.portal),
    ])
}

fn user_changes(old: &UserConfig, new: &UserConfig) -> Vec<&'static str> {
    changes(&[
        ("password", old.password != new.password),
        ("address", old.address != new.address),
        ("pool", old.pool != new.pool),
        ("max_sessions", old.max_sessions != new.max_sessions),
        ("policy", old.policy != new.policy),
        ("routes", old.routes != new.routes),
        ("ipv4", old.ipv4 != new.ipv4),
        ("ipv6", old.ipv6 != new.ipv6),
    ])
}

fn changes(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
    keys.iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| *key)
        .collect()
}

/// What was added, removed, changed or moved in a list of named tables.
///
/// Each name is looked up in an ordered map, for a file may hold a hundred thousand users.
fn named<'c, T>(
    list: &str,
    old: &'c [T],
    new: &'c [T],
    name: impl Fn(&'c T) -> &'c str,
    changes: impl Fn(&T, &T) -> Vec<&'static str>,
) -> Vec<String> {
    let index = |items: &'c [T]| -> BTreeMap<&'c str, &'c T> {
        items.iter().map(|item| (name(item), item)).collect()
    };
    let (before, after) = (index(old), index(new));
    let mut texts = Vec::new();
    for removed in before.keys().filter(|key| !after.contains_key(*key)) {
        texts.push(format!("{list} {removed}: removed"));
    }
    for (key, item) in &after {
        match before.get(key).map(|earlier| changes(earlier, item)) {
            None => texts.push(format!("{list} {key}: added")),
            Some(changed) if !changed.is_empty() => {
                texts.push(format!("{list} {key}: {} changed", changed.join(", ")));
            }
            Some(_) => {}
        }
    }
    let order = |items: &'c [T], other: &BTreeMap<&str, &T>| -> Vec<&'c str> {
        items
            .iter()
            .map(&name)
            .filter(|key| other.contains_key(key))
            .collect()
    };
    if order(old, &after) != order(new, &before) {
        texts.push(format!("[[{list}]]: order changed"));
    }
    texts
}
