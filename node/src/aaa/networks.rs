//! Which addresses and routes no subscriber may have, whoever grants them: what is ours, and what is nobody's.
//!
//! A route to our own control address would send the tunnels into themselves; one to the loopback or to everything would take
//! the host's own traffic. RADIUS can say anything, so what it says is held against this before it goes into a row, and so is the
//! configuration before it is taken over.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::profile::{Assignment, PrefixAssignment, Profile, Route};
use crate::config::Config;

/// Routes of one session. More are refused.
pub const ROUTES_MAX: usize = 64;

/// Networks outside the pools, addresses and routes, in the whole cluster: each is a route of every node's kernel and of the
/// routers. Beyond it who brings a further one is refused.
pub const OUTSIDE_MAX: usize = 16_384;

/// What no host in the Internet may have (RFC 6890), with its name.
const NOBODYS: [(&str, &str); 10] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "the loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/127", "unspecified and the loopback"),
    ("::ffff:0:0/96", "IPv4 in IPv6"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
    ("fec0::/10", "reserved"),
];

/// Our own addresses, and what each is.
#[derive(Clone, Debug, Default)]
pub struct Own(Vec<(IpAddr, String)>);

/// Why a subscriber may not have what he was granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// An address, a prefix or a route.
    #[error("may not have {net}: {why}")]
    Network {
        /// Which.
        net: IpNet,
        /// In words.
        why: String,
    },
    /// More than [`ROUTES_MAX`].
    #[error("has {0} routes, the most is {ROUTES_MAX}")]
    Routes(usize),
    /// [`OUTSIDE_MAX`] is reached.
    #[error("brings networks outside all pools, of which there are {OUTSIDE_MAX} already")]
    Outside,
}

impl Own {
    /// What the configuration says of them.
    pub fn of(config: &Config) -> Self {
        let mut own = Self::but_gateways(config);
        for pool in &config.pools {
            let text = format!("our own address in the pool \"{}\"", pool.name);
            own = own.and(pool.gateway.into(), &text);
        }
        own
    }

    /// Those that lie in no pool, as gateways may.
    pub fn but_gateways(config: &Config) -> Self {
        let mut own = Vec::new();
        let mut note = |address: IpAddr, what: String| {
            if !address.is_unspecified() {
                own.push((address, what));
            }
        };
        for listen in &config.node.listen {
            note(listen.ip(), "our own address of node.listen".to_owned());
        }
        if let Some(anycast) = &config.anycast {
            for address in &anycast.addresses {
                note(*address, "the anycast address".to_owned());
            }
            for address in &anycast.neighbours {
                note(*address, "a router of anycast.neighbours".to_owned());
            }
        }
        if let Some(cluster) = &config.cluster {
            note(
                cluster.listen.ip(),
                "our own address of cluster.listen".to_owned(),
            );
        }
        for member in &config.members {
            note(
                member.address.ip(),
                format!("the address of member {}", member.id),
            );
        }
        Self(own)
    }

    /// One more, such as the LAC's through which a subscriber comes.
    pub fn and(mut self, address: IpAddr, what: &str) -> Self {
        self.0.push((address, what.to_owned()));
        self
    }

    /// The first of our addresses within a network, and what it is.
    pub fn within(&self, net: &IpNet) -> Option<(IpAddr, &str)> {
        let mut all = self.0.iter();
        let (address, what) = all.find(|(address, _)| net.contains(address))?;
        Some((*address, what))
    }

    /// Why no subscriber may have the network.
    pub fn forbids(&self, net: &IpNet) -> Option<String> {
        if net.prefix_len() == 0 {
            return Some("it is the way to everywhere".to_owned());
        }
        if let Some((address, what)) = self.within(net) {
            return Some(match net.addr() == address && is_host(net) {
                true => format!("it is {what}"),
                false => format!("it holds {address}, {what}"),
            });
        }
        nobodys(net).map(|name| format!("it is {name}"))
    }
}

/// The name of what nobody may have, if the network reaches into it.
pub fn nobodys(net: &IpNet) -> Option<&'static str> {
    let overlaps = |other: &IpNet| other.contains(net) || net.contains(other);
    NOBODYS
        .iter()
        .find(|(other, _)| other.parse().is_ok_and(|other| overlaps(&other)))
        .map(|(_, name)| *name)
}

/// Holds all that a profile names against our own addresses and what is nobody's.
///
/// # Errors
/// The first that does not fit.
pub fn check(profile: &Profile, own: &Own) -> Result<(), Misfit> {
    if profile.routes.len() > ROUTES_MAX {
        return Err(Misfit::Routes(profile.routes.len()));
    }
    let address = match profile.ipv4 {
        Some(Assignment::Fixed(address)) => Some(IpNet::V4(Ipv4Net::from(address))),
        Some(Assignment::Pool(_)) | None => None,
    };
    let prefixes = [&profile.link_prefix, &profile.delegated_prefix];
    let prefixes = prefixes.into_iter().flatten().filter_map(|prefix| match prefix {
        PrefixAssignment::Fixed(net) => Some(IpNet::V6(*net)),
        PrefixAssignment::Pool(_) => None,
    });
    let routes = profile.routes.iter().map(|Route { net, .. }| *net);
    for net in address.into_iter().chain(prefixes).chain(routes) {
        if let Some(why) = own.forbids(&net) {
            return Err(Misfit::Network { net, why });
        }
    }
    Ok(())
}

fn is_host(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own::default()
            .and([192, 0, 2, 1].into(), "the anycast address")
            .and("2001:db8::1".parse().expect("an address"), "the anycast address")
    }

    fn with_route(net: &str) -> Profile {
        let net = net.parse().expect("a network");
        Profile {
            routes: vec![Route { net, metric: 1 }],
            ..Profile::default()
        }
    }

    #[test]
    fn nobody_gets_what_is_ours_or_nobodys() {
        for (net, why) in [
            ("192.0.2.0/24", "it holds 192.0.2.1, the anycast address"),
            ("192.0.2.1/32", "it is the anycast address"),
            ("128.0.0.0/1", "it holds 192.0.2.1, the anycast address"),
            ("0.0.0.0/0", "it is the way to everywhere"),
            ("::/0", "it is the way to everywhere"),
            ("0.0.0.0/1", "it is this network"),
            ("127.0.0.1/32", "it is the loopback"),
            ("169.254.7.0/24", "it is link-local"),
            ("239.1.0.0/16", "it is multicast"),
            ("255.255.255.255/32", "it is reserved"),
            ("2001:db8::/32", "it holds 2001:db8::1, the anycast address"),
            ("::1/128", "it is unspecified and the loopback"),
            ("fe80::/64", "it is link-local"),
            ("ff02::/16", "it is multicast"),
        ] {
            let error = check(&with_route(net), &own()).expect_err(net);
            assert_eq!(error.to_string(), format!("may not have {net}: {why}"));
        }
        for net in ["192.0.2.2/32", "198.51.100.0/24", "10.0.0.0/8", "2001:db8:1::/48"] {
            assert_eq!(check(&with_route(net), &own()), Ok(()), "{net}");
        }
    }

    #[test]
    fn addresses_and_prefixes_are_looked_at_too() {
        let address = Profile {
            ipv4: Some(Assignment::Fixed([192, 0, 2, 1].into())),
            ..Profile::default()
        };
        assert!(check(&address, &own()).is_err());
        let prefix = PrefixAssignment::Fixed("2001:db8::/56".parse().expect("a prefix"));
        let prefix = Profile {
            delegated_prefix: Some(prefix),
            ..Profile::default()
        };
        assert!(check(&prefix, &own()).is_err());
        let routes = vec![with_route("198.51.100.0/24").routes[0]; ROUTES_MAX + 1];
        let many = Profile {
            routes,
            ..Profile::default()
        };
        assert_eq!(check(&many, &own()), Err(Misfit::Routes(ROUTES_MAX + 1)));
    }

    #[test]
    fn the_table_of_what_is_nobodys_parses() {
        for (net, _) in NOBODYS {
            assert!(net.parse::<IpNet>().is_ok(), "{net}");
        }
    }
}
