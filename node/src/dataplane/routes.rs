//! Which session an address of a subscriber belongs to: single IPv4 addresses and longest prefixes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Hashes keys that a stranger cannot choose: ids and addresses that this cluster assigns.
///
/// One multiplication (Fibonacci hashing) instead of SipHash: the lookup is made for each packet.
#[derive(Debug, Default, Clone, Copy)]
pub struct AssignedHasher(u64);

/// 2^64 divided by the golden ratio.
const FIBONACCI: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for AssignedHasher {
    fn finish(&self) -> u64 {
        // The map takes its bucket from the low bits and the product is best mixed in the high ones.
        self.0.rotate_left(26)
    }
    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.write_u64(u64::from(*octet));
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(FIBONACCI);
    }
    fn write_u128(&mut self, value: u128) {
        self.write_u64(value as u64);
        self.write_u64((value >> 64) as u64);
    }
}

/// A map with assigned keys.
pub type AssignedMap<K, V> = HashMap<K, V, BuildHasherDefault<AssignedHasher>>;

/// Of sessions with the same prefix the lowest has it: its metric, when the session opened, and its ids, so that every node finds
/// the same.
pub type Rank = (u32, Reverse<u64>, u32);

/// Who has a prefix.
#[derive(Clone, Copy, Debug)]
struct Held {
    session: u32,
    rank: Rank,
}

/// The prefixes of one family, by length, the longest first. Few lengths are in use, so a lookup is a few probes.
#[derive(Debug, Default)]
struct Prefixes {
    by_length: Vec<(u8, AssignedMap<u128, Held>)>,
    /// Who would have a prefix if it were not another's; few are asked for twice.
    rivals: BTreeMap<(u8, u128), Vec<Held>>,
}

impl Prefixes {
    fn insert(&mut self, length: u8, network: u128, new: Held) {
        let at = match self.by_length.binary_search_by(|(other, _)| length.cmp(other)) {
            Ok(at) => at,
            Err(at) => {
                self.by_length.insert(at, (length, AssignedMap::default()));
                at
            }
        };
        let networks = &mut self.by_length[at].1;
        let loser = match networks.get_mut(&network) {
            None => networks.insert(network, new),
            Some(held) if held.session == new.session => {
                *held = new;
                None
            }
            Some(held) if new.rank < held.rank => Some(std::mem::replace(held, new)),
            Some(_) => Some(new),
        };
        if let Some(loser) = loser {
            self.rivals.entry((length, network)).or_default().push(loser);
        }
    }

    /// Takes the prefix from `session`, for the best of those who wait for it; or `session` waits no longer.
    fn remove(&mut self, length: u8, network: u128, session: u32) {
        let next = self.next_rival(length, network, session);
        let Ok(at) = self.by_length.binary_search_by(|(other, _)| length.cmp(other)) else {
            return;
        };
        let networks = &mut self.by_length[at].1;
        if networks.get(&network).is_some_and(|held| held.session == session) {
            match next {
                Some(next) => {
                    networks.insert(network, next);
                    self.forget_rival(length, network, next.session);
                }
                None => {
                    networks.remove(&network);
                }
            }
        }
        if self.by_length[at].1.is_empty() {
            self.by_length.remove(at);
        }
    }

    /// The best of those who wait for a prefix, after `session` has ceased to.
    fn next_rival(&mut self, length: u8, network: u128, session: u32) -> Option<Held> {
        self.forget_rival(length, network, session);
        let waiting = self.rivals.get(&(length, network))?;
        waiting.iter().min_by_key(|held| held.rank).copied()
    }

    fn forget_rival(&mut self, length: u8, network: u128, session: u32) {
        if let Some(waiting) = self.rivals.get_mut(&(length, network)) {
            waiting.retain(|held| held.session != session);
            if waiting.is_empty() {
                self.rivals.remove(&(length, network));
            }
        }
    }

    fn find(&self, address: u128, width: u8) -> Option<u32> {
        self.by_length.iter().find_map(|(length, networks)| {
            let mask = u128::MAX.checked_shl(u32::from(width - length)).unwrap_or(0);
            networks.get(&(address & mask)).map(|held| held.session)
        })
    }
}

/// Addresses and prefixes to sessions (by index).
#[derive(Debug, Default)]
pub struct Routes {
    hosts: AssignedMap<u32, u32>,
    prefixes_v4: Prefixes,
    prefixes_v6: Prefixes,
}

impl Routes {
    /// Gives the address to `session`; the last one to ask has it.
    pub fn insert_host(&mut self, address: Ipv4Addr, session: u32) {
        self.hosts.insert(address.to_bits(), session);
    }

    /// Takes the address from `session`; an address that has gone to another session stays there.
    pub fn remove_host(&mut self, address: Ipv4Addr, session: u32) {
        if self.hosts.get(&address.to_bits()) == Some(&session) {
            self.hosts.remove(&address.to_bits());
        }
    }

    /// Gives the prefix to `session`, or to whoever of those that asked for it has the lowest rank.
    pub fn insert_prefix(&mut self, prefix: IpNet, session: u32, rank: Rank) {
        let new = Held { session, rank };
        match prefix.trunc() {
            IpNet::V4(net) => self
                .prefixes_v4
                .insert(net.prefix_len(), net.network().to_bits().into(), new),
            IpNet::V6(net) => self
                .prefixes_v6
                .insert(net.prefix_len(), net.network().to_bits(), new),
        }
    }

    /// Takes the prefix from `session`; the next in rank has it then.
    pub fn remove_prefix(&mut self, prefix: IpNet, session: u32) {
        match prefix.trunc() {
            IpNet::V4(net) => {
                self.prefixes_v4
                    .remove(net.prefix_len(), net.network().to_bits().into(), session)
            }
            IpNet::V6(net) => self
                .prefixes_v6
                .remove(net.prefix_len(), net.network().to_bits(), session),
        }
    }

    /// The session to which a packet for `destination` goes.
    pub fn find(&self, destination: IpAddr) -> Option<u32> {
        match destination {
            IpAddr::V4(address) => {
                let host = self.hosts.get(&address.to_bits()).copied();
                host.or_else(|| self.prefixes_v4.find(address.to_bits().into(), 32))
            }
            IpAddr::V6(address) => self.prefixes_v6.find(address.to_bits(), 128),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANK: Rank = (1, Reverse(0), 0);

    fn find(routes: &Routes, address: &str) -> Option<u32> {
        routes.find(address.parse().expect("an address"))
    }

    #[test]
    fn the_longest_prefix_wins_and_a_host_before_all() {
        let mut routes = Routes::default();
        for (prefix, session) in [
            ("0.0.0.0/0", 1),
            ("10.1.0.0/16", 2),
            ("10.1.2.0/24", 3),
            ("2001:db8::/32", 4),
        ] {
            routes.insert_prefix(prefix.parse().expect("a prefix"), session, RANK);
        }
        routes.insert_prefix("2001:db8:1::/48".parse().expect("a prefix"), 5, RANK);
        routes.insert_host(Ipv4Addr::new(10, 1, 2, 3), 6);
        let cases = [
            ("9.9.9.9", 1),
            ("10.1.9.9", 2),
            ("10.1.2.9", 3),
            ("10.1.2.3", 6),
            ("2001:db8:1::1", 5),
        ];
        for (address, session) in cases {
            assert_eq!(find(&routes, address), Some(session), "{address}");
        }
        assert_eq!(find(&routes, "2001:db8:2::1"), Some(4));
        assert_eq!(find(&routes, "2001:db9::1"), None);
    }

    #[test]
    fn the_loser_of_an_address_does_not_take_it_away() {
        let mut routes = Routes::default();
        let (address, prefix) = (
            Ipv4Addr::new(10, 0, 0, 1),
            "10.8.0.0/24".parse().expect("a prefix"),
        );
        routes.insert_host(address, 1);
        routes.insert_prefix(prefix, 1, (2, Reverse(0), 1));
        routes.insert_host(address, 2);
        routes.insert_prefix(prefix, 2, RANK);
        routes.remove_host(address, 1);
        routes.remove_prefix(prefix, 1);
        assert_eq!(
            (find(&routes, "10.0.0.1"), find(&routes, "10.8.0.7")),
            (Some(2), Some(2))
        );
        routes.remove_host(address, 2);
        routes.remove_prefix(prefix, 2);
        assert_eq!(
            (find(&routes, "10.0.0.1"), find(&routes, "10.8.0.7")),
            (None, None)
        );
    }
}
