//! IPv6 of pools and users: `link_prefixes`, `delegated_prefixes`, `delegated_length`; `ipv6`, `link_prefix`, `delegated_prefix`,
//! `interface_id`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::model::Config;
use super::read::{Raw, Reader, Scalar, Section};

/// Length of the prefix of a link: autoconfiguration knows no other (RFC 4862 §5.5.3, RFC 4291 §2.5.1).
pub const LINK_LENGTH: u8 = 64;
/// Length of a delegated prefix unless the pool has another.
const DELEGATED_LENGTH: u8 = 56;
/// Shortest prefix of a pool.
const SHORTEST_PREFIX: u8 = 16;
/// Name servers that have room in what subscribers are told.
pub const NAME_SERVERS_MAX: usize = 8;

/// What a pool hands out of IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixPoolConfig {
    /// Where the /64 of each session's link comes from.
    pub link: Vec<Ipv6Net>,
    /// Where delegated prefixes come from.
    pub delegated: Vec<Ipv6Net>,
    /// Length of a delegated prefix.
    pub delegated_length: u8,
}

/// What a user gets of IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPrefixes {
    /// Whether anything.
    pub enabled: bool,
    /// The same prefix on the link at every dial-in.
    pub link_prefix: Option<Ipv6Net>,
    /// The same delegated prefix at every dial-in.
    pub delegated_prefix: Option<Ipv6Net>,
    /// The user's interface identifier; `None` is the user's own choice.
    pub interface_id: Option<[u8; 8]>,
}

impl Default for PrefixPoolConfig {
    fn default() -> Self {
        Self {
            link: Vec::new(),
            delegated: Vec::new(),
            delegated_length: DELEGATED_LENGTH,
        }
    }
}

impl Default for UserPrefixes {
    fn default() -> Self {
        Self {
            enabled: true,
            link_prefix: None,
            delegated_prefix: None,
            interface_id: None,
        }
    }
}

impl PrefixPoolConfig {
    /// Whether the pool has no IPv6.
    pub fn is_empty(&self) -> bool {
        self.link.is_empty() && self.delegated.is_empty()
    }

    /// All of its prefixes, each with the length of what is handed out of it.
    pub fn units(&self) -> impl Iterator<Item = (Ipv6Net, u8)> + '_ {
        let link = self.link.iter().map(|prefix| (*prefix, LINK_LENGTH));
        let delegated = self
            .delegated
            .iter()
            .map(|prefix| (*prefix, self.delegated_length));
        link.chain(delegated)
    }
}

impl Config {
    /// The prefixes of all pools, each with the length of what is handed out of it.
    pub fn prefix_units(&self) -> impl Iterator<Item = (Ipv6Net, u8)> + '_ {
        self.pools.iter().flat_map(|pool| pool.ipv6.units())
    }
}

/// An interface identifier, written as the last four groups of an address.
struct InterfaceId([u8; 8]);

impl Scalar for InterfaceId {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let wrong =
            || format!("must be an interface identifier such as \"::1\" or \"::a:0:0:7\", not \"{text}\"");
        let address: Ipv6Addr = text.parse().map_err(|_| wrong())?;
        let (high, low) = ((u128::from(address) >> 64) as u64, u128::from(address) as u64);
        if high != 0 || low == 0 {
            return Err(wrong());
        }
        Ok(Self(low.to_be_bytes()))
    }
}

/// The keys of a `[[pool]]`.
pub fn pool(s: &mut Section<'_>) -> PrefixPoolConfig {
    let defaults = PrefixPoolConfig::default();
    PrefixPoolConfig {
        link: s.list("link_prefixes").unwrap_or_default(),
        delegated: s.list("delegated_prefixes").unwrap_or_default(),
        delegated_length: s
            .number("delegated_length", 48..=64)
            .unwrap_or(defaults.delegated_length),
    }
}

/// The keys of a `[[user]]`.
pub fn user(s: &mut Section<'_>) -> UserPrefixes {
    let config = UserPrefixes {
        enabled: s.value("ipv6", true),
        link_prefix: s.optional("link_prefix"),
        delegated_prefix: s.optional("delegated_prefix"),
        interface_id: s.optional::<InterfaceId>("interface_id").map(|id| id.0),
    };
    for (key, set) in [
        ("link_prefix", config.link_prefix.is_some()),
        ("delegated_prefix", config.delegated_prefix.is_some()),
        ("interface_id", config.interface_id.is_some()),
    ] {
        if set && !config.enabled {
            s.mistake(key, "is of no use with ipv6 = false");
        }
    }
    config
}

/// Notes every mistake with the reader.
pub fn check(config: &Config, reader: &Reader) {
    let mut earlier: Vec<(Ipv6Net, &str)> = Vec::new();
    for (index, pool) in config.pools.iter().enumerate() {
        let ipv6 = &pool.ipv6;
        for (key, prefixes, length) in [
            ("link_prefixes", &ipv6.link, LINK_LENGTH),
            ("delegated_prefixes", &ipv6.delegated, ipv6.delegated_length),
        ] {
            for (position, prefix) in prefixes.iter().enumerate() {
                let key = format!("pool[{index}].{key}[{position}]");
                for text in faults(config, *prefix, length) {
                    reader.mistake(&key, text);
                }
                for (other, name) in earlier.iter().filter(|(other, _)| overlap(prefix, other)) {
                    reader.mistake(&key, format!("{prefix} overlaps {other} of the pool \"{name}\""));
                }
                earlier.push((*prefix, &pool.name));
            }
        }
    }
    users(config, reader);
}

/// What is wrong with a prefix of a pool by itself.
fn faults(config: &Config, prefix: Ipv6Net, length: u8) -> Vec<String> {
    let mut faults = Vec::new();
    if prefix.prefix_len() < SHORTEST_PREFIX {
        faults.push(format!(
            "{prefix} is too large; the shortest prefix is /{SHORTEST_PREFIX}"
        ));
    }
    if prefix.prefix_len() > length {
        faults.push(format!(
            "{prefix} is too small: a prefix of length {length} is handed out of it"
        ));
    }
    faults.extend(not_for_subscribers(config, prefix));
    faults
}

/// Why nobody may have the prefix, whoever says so.
fn not_for_subscribers(config: &Config, prefix: Ipv6Net) -> Vec<String> {
    let mut faults = Vec::new();
    if !is_unicast(prefix) {
        faults.push(format!("{prefix} is not for hosts of a network"));
    }
    let anycast = config.anycast.iter().flat_map(|anycast| &anycast.addresses);
    let own = config.node.listen.iter().map(|listen| listen.ip());
    for address in own.chain(anycast.copied()) {
        if matches!(address, IpAddr::V6(address) if prefix.contains(&address)) {
            faults.push(format!("{prefix} contains our own address {address}"));
        }
    }
    faults
}

fn users(config: &Config, reader: &Reader) {
    let mut fixed: BTreeMap<Ipv6Net, &str> = BTreeMap::new();
    for (index, user) in config.users.iter().enumerate() {
        let ipv6 = &user.ipv6;
        for (key, prefix) in [
            ("link_prefix", ipv6.link_prefix),
            ("delegated_prefix", ipv6.delegated_prefix),
        ] {
            let Some(prefix) = prefix else { continue };
            let key = format!("user[{index}].{key}");
            if let Err(text) = of_user(config, prefix, ipv6.link_prefix == Some(prefix)) {
                reader.mistake(&key, text);
            }
            for (_, other) in fixed.iter().filter(|(other, _)| overlap(&prefix, other)) {
                reader.mistake(
                    &key,
                    format!("{prefix} is a part of what the user \"{other}\" has"),
                );
            }
            fixed.insert(prefix, &user.name);
        }
    }
}

/// Why a prefix cannot be one user's, on the link or delegated, wherever it comes from.
pub fn unfit(config: &Config, prefix: Ipv6Net, link: bool) -> Option<String> {
    let length = prefix.prefix_len();
    if link && length != LINK_LENGTH {
        return Some(format!("{prefix} must have the length {LINK_LENGTH}"));
    }
    if !(SHORTEST_PREFIX..=LINK_LENGTH).contains(&length) {
        return Some(format!(
            "{prefix} must have a length of {SHORTEST_PREFIX} to {LINK_LENGTH}"
        ));
    }
    not_for_subscribers(config, prefix).into_iter().next()
}

/// A user's prefix lies outside of all pools, or is one that its pool would hand out.
fn of_user(config: &Config, prefix: Ipv6Net, link: bool) -> Result<(), String> {
    if let Some(text) = unfit(config, prefix, link) {
        return Err(text);
    }
    for (pool, length) in config.prefix_units() {
        let whole = pool.contains(&prefix) && prefix.prefix_len() == length;
        if overlap(&pool, &prefix) && !whole {
            return Err(format!(
                "{prefix} is not one of the prefixes of length {length} of {pool}"
            ));
        }
    }
    Ok(())
}

fn is_unicast(prefix: Ipv6Net) -> bool {
    let ends = [prefix.network(), prefix.broadcast()].map(|end| end.segments()[0]);
    let within = |range: std::ops::RangeInclusive<u16>| ends.iter().all(|end| range.contains(end));
    within(0x2000..=0x3fff) || within(0xfc00..=0xfdff)
}

fn overlap(a: &Ipv6Net, b: &Ipv6Net) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::LoadError;

    fn parse(pools: &str, user: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            "[node]\nlisten = [\"0.0.0.0:1701\", \"[2001:db8:1::1]:1701\"]\n\
             [[lac]]\nname = \"any\"\nhost_name = \"*\"\n{pools}\n\
             [[user]]\nname = \"ada\"\npassword = \"p\"\n{user}\n"
        );
        Config::parse(Path::new("test.toml"), &text, std::iter::empty()).map_err(|error| match error {
            LoadError::Mistakes(mistakes) => mistakes.into_iter().map(|mistake| mistake.text).collect(),
            other => vec![other.to_string()],
        })
    }

    const BOTH: &str = "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\nlink_prefixes = [\"2001:db8:100::/48\"]\n\
                        delegated_prefixes = [\"2001:db8:200::/40\"]";

    #[test]
    fn a_pool_of_both_of_ipv4_alone_and_of_ipv6_alone() {
        let config = parse(BOTH, "").expect("right");
        let ipv6 = &config.pools[0].ipv6;
        assert_eq!((ipv6.link.len(), ipv6.delegated_length), (1, 56));
        assert_eq!(
            config.prefix_units().map(|(_, unit)| unit).collect::<Vec<_>>(),
            [64, 56]
        );
        let six = BOTH.replace("prefixes = [\"100.64.0.0/24\"]\n", "");
        let config = parse(&six, "").expect("right");
        assert!(config.gateway().is_unspecified() && config.ipv4_pools().next().is_none());
        let four = "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]";
        assert!(parse(four, "").expect("right").pools[0].ipv6.is_empty());
    }

    #[test]
    fn mistakes_of_pools() {
        let pool = |keys: &str| {
            parse(&format!("[[pool]]\nname = \"p\"\n{keys}"), "")
                .expect_err("a mistake")
                .join("\n")
        };
        for (keys, said) in [
            ("", "is missing, and so are"),
            ("link_prefixes = [\"2001:db8:9::/65\"]", "is too small"),
            ("delegated_prefixes = [\"2001:db8:9::/60\"]", "is too small"),
            ("link_prefixes = [\"2000::/8\"]", "is too large"),
            ("link_prefixes = [\"fe80::/48\"]", "is not for hosts"),
            (
                "link_prefixes = [\"2001:db8:1::/48\"]",
                "contains our own address",
            ),
            (
                "link_prefixes = [\"2001:db8:9::1/48\"]",
                "has bits beyond its length",
            ),
            (
                "link_prefixes = [\"2001:db8:9::/48\"]\ndelegated_prefixes = [\"2001:db8::/32\"]",
                "overlaps 2001:db8:9::/48",
            ),
            (
                "link_prefixes = [\"2001:db8:9::/48\"]\ndelegated_length = 65",
                "out of range",
            ),
        ] {
            let text = pool(keys);
            assert!(text.contains(said), "{keys}: {text}");
        }
    }

    #[test]
    fn a_user_may_have_prefixes_of_his_own() {
        let user = "ipv4 = false\nlink_prefix = \"2001:db8:100:7::/64\"\ndelegated_prefix = \"2001:db8:f000::/48\"\n\
                    interface_id = \"::a:0:0:7\"";
        let config = parse(BOTH, user).expect("right");
        let ipv6 = &config.users[0].ipv6;
        assert_eq!(ipv6.interface_id, Some([0, 0xa, 0, 0, 0, 0, 0, 7]));
        assert!(!config.users[0].ipv4 && ipv6.link_prefix.is_some());
    }

    #[test]
    fn mistakes_of_users() {
        for (user, said) in [
            ("link_prefix = \"2001:db8:f::/60\"", "must have the length 64"),
            (
                "delegated_prefix = \"2001:db8:200::/48\"",
                "is not one of the prefixes",
            ),
            (
                "delegated_prefix = \"2001:db8:100::/40\"",
                "is not one of the prefixes",
            ),
            ("delegated_prefix = \"fe80::/56\"", "is not for hosts"),
            ("ipv6 = false\ninterface_id = \"::1\"", "of no use"),
            ("interface_id = \"::\"", "must be an interface identifier"),
            (
                "interface_id = \"2001:db8::1\"",
                "must be an interface identifier",
            ),
            ("ipv4 = false\nipv6 = false", "nothing is left"),
            (
                "link_prefix = \"2001:db8:f::/64\"\ndelegated_prefix = \"2001:db8:f::/56\"",
                "is a part of what the user",
            ),
        ] {
            let text = parse(BOTH, user).expect_err("a mistake").join("\n");
            assert!(text.contains(said), "{user}: {text}");
        }
    }
}
