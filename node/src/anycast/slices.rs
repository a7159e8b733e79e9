//! Which parts of the subscribers' pool this node announces besides the whole of it.
//!
//! Every node announces the whole pool, so a packet for any subscriber reaches a live node at any time. In the steady
//! state it should reach the owner of the subscriber's tunnel at once: that node adds the *slices* of the pool whose
//! subscribers are its own, and the longer prefix wins. When it dies its slices vanish with it and the whole catches
//! everything, without waiting for a takeover.
//!
//! A slice belongs to the group that most of its addresses in use belong to, the lowest of equals, and is announced by
//! that group's owner. Every node finds the same from the same table, so no slice has two announcers and none needs a
//! message. How a pool is cut is in [`super::cut`]; addresses are picked so that a slice's are mostly of the group that it was cut
//! for. An address that is fixed to its user goes by itself, a /32, for it follows him to whatever group he dials into.
//!
//! Pure, and kept current address by address: a session costs one update, not a walk over all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::cut::{Group, slice, slice_of_units};

/// Host routes announced at most. A router that holds 50,000 needs half a second to turn them (measured); beyond this
/// number the slice or the whole pool brings the packet to some node, which forwards it all the same.
pub const MAX_HOST_ROUTES: usize = 4096;

/// How an address came to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the pool, until the session ends.
    Pool,
    /// Set for this user, by RADIUS or in the configuration.
    Fixed,
}

/// The addresses in use, by slice and by group.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    pools: Vec<IpNet>,
    /// Per slice with addresses in use: how many of each group.
    users: BTreeMap<IpNet, BTreeMap<Group, u32>>,
    fixed: BTreeMap<IpAddr, Group>,
    /// Prefixes that prefixes for subscribers are taken from, and the length of those.
    prefix_pools: Vec<(Ipv6Net, u8)>,
    fixed_prefixes: BTreeMap<Ipv6Net, Group>,
}

impl Slices {
    /// For the prefixes that addresses are taken from.
    pub fn new(pools: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            pools: pools.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Also for the prefixes that subscribers' prefixes of these lengths are taken from.
    #[must_use]
    pub fn with_prefixes(mut self, pools: impl IntoIterator<Item = (Ipv6Net, u8)>) -> Self {
        self.prefix_pools.extend(pools);
        self
    }

    /// A session of `group` has this prefix now. To be called once for each. One outside all pools was set for its user.
    pub fn insert_prefix(&mut self, prefix: Ipv6Net, group: Group) {
        match self.slice_of_prefix(prefix) {
            Some(slice) => *self.users.entry(slice).or_default().entry(group).or_default() += 1,
            None => {
                self.fixed_prefixes.insert(prefix, group);
            }
        }
    }

    /// The session of `group` that had the prefix has ended.
    pub fn remove_prefix(&mut self, prefix: Ipv6Net, group: Group) {
        match self.slice_of_prefix(prefix) {
            Some(slice) => self.remove_one(slice, group),
            None => {
                if self.fixed_prefixes.get(&prefix) == Some(&group) {
                    self.fixed_prefixes.remove(&prefix);
                }
            }
        }
    }

    fn slice_of_prefix(&self, prefix: Ipv6Net) -> Option<IpNet> {
        let (pool, unit) = self
            .prefix_pools
            .iter()
            .find(|(pool, unit)| pool.contains(&prefix) && prefix.prefix_len() == *unit)?;
        Some(slice_of_units(*pool, *unit, prefix).into())
    }

    /// A session of `group` has `address` now. To be called once for each session.
    pub fn insert(&mut self, address: IpAddr, origin: Origin, group: Group) {
        if origin == Origin::Fixed {
            self.fixed.insert(address, group);
        } else if let Some(slice) = self.slice_of(address) {
            *self.users.entry(slice).or_default().entry(group).or_default() += 1;
        }
    }

    /// The session of `group` that had `address` has ended. What was never inserted changes nothing.
    pub fn remove(&mut self, address: IpAddr, origin: Origin, group: Group) {
        if origin == Origin::Fixed {
            // A user who dialled again has it in another group already.
            if self.fixed.get(&address) == Some(&group) {
                self.fixed.remove(&address);
            }
            return;
        }
        if let Some(slice) = self.slice_of(address) {
            self.remove_one(slice, group);
        }
    }

    fn remove_one(&mut self, slice: IpNet, group: Group) {
        let Some(groups) = self.users.get_mut(&slice) else {
            return;
        };
        if let Some(count) = groups.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                groups.remove(&group);
            }
        }
        if groups.is_empty() {
            self.users.remove(&slice);
        }
    }

    /// As [`Self::insert`]: an address outside all pools was set for its user.
    pub fn insert_used(&mut self, address: IpAddr, group: Group) {
        self.insert(address, self.origin_of(address), group);
    }

    /// As [`Self::remove`], for what came by [`Self::insert_used`].
    pub fn remove_used(&mut self, address: IpAddr, group: Group) {
        self.remove(address, self.origin_of(address), group);
    }

    fn origin_of(&self, address: IpAddr) -> Origin {
        match self.slice_of(address) {
            Some(_) => Origin::Pool,
            None => Origin::Fixed,
        }
    }

    /// What the owner of the groups for which `owned` holds is to announce.
    pub fn announced(&self, owned: impl Fn(Group) -> bool) -> BTreeSet<IpNet> {
        let slices = self
            .users
            .iter()
            .filter(|(_, groups)| belongs_to(groups).is_some_and(&owned))
            .map(|(slice, _)| *slice);
        let hosts = self
            .fixed
            .iter()
            .filter(|(_, group)| owned(**group))
            .map(|(address, _)| IpNet::from(*address))
            .take(MAX_HOST_ROUTES);
        let prefixes = self
            .fixed_prefixes
            .iter()
            .filter(|(_, group)| owned(**group))
            .map(|(prefix, _)| IpNet::V6(*prefix))
            .take(MAX_HOST_ROUTES);
        slices.chain(hosts).chain(prefixes).collect()
    }

    /// The slice that holds an address; `None` outside all pools.
    fn slice_of(&self, address: IpAddr) -> Option<IpNet> {
        let pool = self.pools.iter().find(|pool| pool.contains(&address))?;
        Some(slice(*pool, address))
    }
}

/// The group with the most addresses, the lowest of equals.
fn belongs_to(groups: &BTreeMap<Group, u32>) -> Option<Group> {
    // `max_by_key` takes the last of equals.
    groups
        .iter()
        .rev()
        .max_by_key(|(_, count)| **count)
        .map(|(group, _)| *group)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn of_pools(pools: &[&str]) -> Slices {
        Slices::new(pools.iter().map(|pool| pool.parse().expect("a prefix")))
    }

    #[test]
    fn the_size_of_a_slice_follows_the_pool() {
        let cases = [
            ("100.64.0.0/10", "100.65.2.3", "100.65.0.0/18"),
            ("100.64.0.0/16", "100.64.2.3", "100.64.2.0/24"),
            ("10.0.0.0/24", "10.0.0.9", "10.0.0.9/32"),
            ("10.0.0.0/28", "10.0.0.9", "10.0.0.9/32"),
            ("2001:db8::/40", "2001:db8:12:3::", "2001:db8:12::/48"),
        ];
        for (pool, user, slice) in cases {
            let mut slices = of_pools(&[pool]);
            slices.insert(address(user), Origin::Pool, 0);
            assert_eq!(slices.announced(|_| true), nets(&[slice]), "{pool}");
        }
    }

    #[test]
    fn a_slice_has_one_announcer_that_of_the_group_with_most_of_it() {
        let mut slices = of_pools(&["100.64.0.0/16"]);
        slices.insert(address("100.64.1.1"), Origin::Pool, 7);
        slices.insert(address("100.64.1.2"), Origin::Pool, 3);
        slices.insert(address("100.64.2.1"), Origin::Pool, 7);
        // Equals: the lowest group has it.
        assert_eq!(slices.announced(|group| group == 3), nets(&["100.64.1.0/24"]));
        assert_eq!(slices.announced(|group| group == 7), nets(&["100.64.2.0/24"]));
        slices.insert(address("100.64.1.3"), Origin::Pool, 7);
        assert_eq!(slices.announced(|group| group == 3), nets(&[]));
        assert_eq!(
            slices.announced(|group| group == 7),
            nets(&["100.64.1.0/24", "100.64.2.0/24"])
        );
    }

    #[test]
    fn what_is_removed_is_withdrawn_and_what_never_was_changes_nothing() {
        let mut slices = of_pools(&["100.64.0.0/16"]);
        slices.remove(address("100.64.1.1"), Origin::Pool, 7);
        slices.insert(address("100.64.1.1"), Origin::Pool, 7);
        slices.remove(address("100.64.1.1"), Origin::Pool, 8);
        slices.remove(address("10.0.0.1"), Origin::Pool, 7);
        assert_eq!(slices.announced(|_| true), nets(&["100.64.1.0/24"]));
        slices.remove(address("100.64.1.1"), Origin::Pool, 7);
        assert!(slices.announced(|_| true).is_empty());
        assert!(slices.users.is_empty());
    }

    #[test]
    fn a_fixed_address_goes_by_itself_and_follows_its_user() {
        let mut slices = of_pools(&["100.64.0.0/16"]);
        let host = address("192.0.2.77");
        slices.insert(host, Origin::Fixed, 7);
        assert_eq!(slices.announced(|group| group == 7), nets(&["192.0.2.77/32"]));
        // He dials again into group 9 before his old session is cleared.
        slices.insert(host, Origin::Fixed, 9);
        slices.remove(host, Origin::Fixed, 7);
        assert!(slices.announced(|group| group == 7).is_empty());
        assert_eq!(slices.announced(|group| group == 9), nets(&["192.0.2.77/32"]));
    }

    #[test]
    fn prefixes_are_announced_by_slices_and_fixed_ones_by_themselves() {
        let prefix = |text: &str| text.parse::<Ipv6Net>().expect("a prefix");
        let mut slices = of_pools(&[]).with_prefixes([(prefix("2001:db8::/40"), 56)]);
        slices.insert_prefix(prefix("2001:db8:12:300::/56"), 7);
        slices.insert_prefix(prefix("2001:db8:ffff::/48"), 7);
        assert_eq!(
            slices.announced(|group| group == 7),
            nets(&["2001:db8:12::/48", "2001:db8:ffff::/48"])
        );
        slices.remove_prefix(prefix("2001:db8:12:300::/56"), 7);
        slices.remove_prefix(prefix("2001:db8:ffff::/48"), 8);
        assert_eq!(slices.announced(|_| true), nets(&["2001:db8:ffff::/48"]));
        slices.remove_prefix(prefix("2001:db8:ffff::/48"), 7);
        assert!(slices.announced(|_| true).is_empty());
    }

    #[test]
    fn host_routes_are_bounded() {
        let mut slices = of_pools(&[]);
        for n in 0..MAX_HOST_ROUTES as u32 + 10 {
            slices.insert(Ipv4Addr::from_bits(n).into(), Origin::Fixed, 0);
        }
        assert_eq!(slices.announced(|_| true).len(), MAX_HOST_ROUTES);
    }
}
