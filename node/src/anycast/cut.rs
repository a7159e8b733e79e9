//! How a pool is cut into slices, and to which groups each belongs.
//!
//! One notion for all who need it: addresses are picked from the slices of the session's group ([`crate::aaa::Pools`]), so that
//! what the owner of a group announces ([`super::Slices`]) stays few and whole.
//!
//! Each prefix of a pool is cut into as many slices as there are groups, or into single addresses if it has fewer than that. Then
//! several groups share a slice:
//!
//! ```text
//!   100.64.0.0/16, 256 slices of /24:   slice 7 = 100.64.7.0/24   belongs to group 7
//!   10.0.0.0/29,     8 slices of /32:   slice 7 = 10.0.0.7/32     belongs to groups 224 to 255
//! ```
//!
//! Nothing here depends on who is a member or owns what: a slice belongs to the same groups for ever.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A unit of ownership: the upper octet of a tunnel id.
pub type Group = u8;

/// Bits by which a slice's prefix is longer than its pool's: 256 slices, as there are groups.
pub const SLICE_BITS: u8 = 8;

/// The slice of the prefix `pool`, which is given out in prefixes of length `unit`, around `prefix`, one of them.
pub fn slice_of_units(pool: Ipv6Net, unit: u8, prefix: Ipv6Net) -> Ipv6Net {
    around_v6(
        prefix.network(),
        pool.prefix_len() + bits(pool.prefix_len(), unit),
    )
}

/// All slices of a prefix of a pool that is given out in prefixes of length `unit`, in order.
pub fn slices_of_units(pool: Ipv6Net, unit: u8) -> impl Iterator<Item = Ipv6Net> {
    let length = pool.prefix_len() + bits(pool.prefix_len(), unit);
    pool.subnets(length)
        .expect("neither shorter than the prefix nor beyond 128")
}

/// The slice of the prefix `pool` around `address`.
pub fn slice(pool: IpNet, address: IpAddr) -> IpNet {
    let length = pool.prefix_len() + bits(pool.prefix_len(), pool.max_prefix_len());
    match address {
        IpAddr::V4(address) => around_v4(address, length).into(),
        IpAddr::V6(address) => around_v6(address, length).into(),
    }
}

/// All slices of a prefix of a pool, in order.
pub fn slices(pool: Ipv4Net) -> impl Iterator<Item = Ipv4Net> {
    let length = pool.prefix_len() + bits(pool.prefix_len(), 32);
    pool.subnets(length)
        .expect("neither shorter than the prefix nor beyond 32")
}

fn bits(length: u8, max: u8) -> u8 {
    SLICE_BITS.min(max - length)
}

fn around_v4(address: Ipv4Addr, length: u8) -> Ipv4Net {
    Ipv4Net::new(address, length).expect("not beyond 32").trunc()
}

fn around_v6(address: Ipv6Addr, length: u8) -> Ipv6Net {
    Ipv6Net::new(address, length).expect("not beyond 128").trunc()
}

/// All slices, of whatever prefixes, that belong to the same groups.
///
/// Slice `i` of a prefix that is cut into `2^b` of them is part `2^b + i`: a binary tree with the whole at 1 and the single groups
/// at 256 and beyond, in which the parts of a group are those on the way up from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part(u16);

impl Part {
    /// The part that a prefix's slice around `address` is in. The address lies in the prefix.
    pub fn of(prefix: Ipv4Net, address: Ipv4Addr) -> Self {
        let bits = bits(prefix.prefix_len(), 32);
        let offset = u64::from(u32::from(address) - u32::from(prefix.network()));
        let slice = offset >> (32 - prefix.prefix_len() - bits);
        Self((1 << bits) + slice as u16)
    }

    /// As [`Self::of`], for a prefix that is given out in prefixes of length `unit`.
    pub fn of_unit(prefix: Ipv6Net, unit: u8, address: Ipv6Addr) -> Self {
        let bits = bits(prefix.prefix_len(), unit);
        let offset = u128::from(address) - u128::from(prefix.network());
        let slice = offset
            .checked_shr(u32::from(128 - prefix.prefix_len() - bits))
            .unwrap_or(0);
        Self((1 << bits) + slice as u16)
    }

    /// The parts of a group, that which fewest others share first.
    pub fn of_group(group: Group) -> impl Iterator<Item = Self> + Clone {
        (0..=SLICE_BITS).map(move |level| Self((256 + u16::from(group)) >> level))
    }

    /// The parts beside this one, which as many groups share, from this one to the last.
    pub fn to_last(self) -> RangeInclusive<Self> {
        self..=Self((2 << self.level()) - 1)
    }

    /// Those from the first on; this one is the last of them.
    pub fn from_first(self) -> RangeInclusive<Self> {
        Self(1 << self.level())..=self
    }

    /// The groups to which it belongs.
    pub fn groups(self) -> RangeInclusive<Group> {
        let below = u32::from(SLICE_BITS) - self.level();
        let first = (u32::from(self.0) << below) as u8;
        first..=first + ((1_u16 << below) - 1) as u8
    }

    fn level(self) -> u32 {
        self.0.ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(prefix: &str, address: &str) -> Part {
        let prefix = prefix.parse().expect("a prefix");
        Part::of(prefix, address.parse().expect("an address"))
    }

    #[test]
    fn a_slice_of_a_large_pool_belongs_to_one_group() {
        for (prefix, address, group) in [
            ("100.64.0.0/10", "100.64.0.0", 0),
            ("100.64.0.0/10", "100.127.255.255", 255),
            ("100.64.0.0/16", "100.64.7.200", 7),
            ("10.0.0.0/24", "10.0.0.7", 7),
        ] {
            assert_eq!(part(prefix, address).groups(), group..=group, "{address}");
        }
    }

    #[test]
    fn small_pools_have_slices_that_groups_share() {
        for (prefix, address, groups) in [
            ("10.0.0.0/29", "10.0.0.7", 224..=255),
            ("10.0.0.0/30", "10.0.0.1", 64..=127),
            ("10.0.0.9/32", "10.0.0.9", 0..=255),
        ] {
            assert_eq!(part(prefix, address).groups(), groups, "{address}");
        }
    }

    #[test]
    fn the_parts_of_a_group_are_those_that_belong_to_it() {
        for group in 0..=255 {
            let parts: Vec<_> = Part::of_group(group).collect();
            let belongs = |part: &Part| part.groups().contains(&group);
            let all: Vec<_> = (1..512).rev().map(Part).filter(belongs).collect();
            assert_eq!(parts, all);
        }
    }

    #[test]
    fn the_parts_beside_one_are_all_that_as_many_groups_share() {
        let third = part("10.0.0.0/29", "10.0.0.3");
        assert_eq!(third.from_first(), Part(8)..=Part(11));
        assert_eq!(third.to_last(), Part(11)..=Part(15));
    }

    #[test]
    fn prefixes_that_are_given_out_are_never_cut() {
        for (pool, unit, prefix, slice, groups) in [
            (
                "2001:db8::/40",
                56,
                "2001:db8:12:300::/56",
                "2001:db8:12::/48",
                0x12..=0x12,
            ),
            (
                "2001:db8::/60",
                64,
                "2001:db8:0:7::/64",
                "2001:db8:0:7::/64",
                0x70..=0x7f,
            ),
            ("2001:db8::/64", 64, "2001:db8::/64", "2001:db8::/64", 0..=255),
        ] {
            let net = |text: &str| text.parse::<Ipv6Net>().expect("a prefix");
            let (pool, prefix) = (net(pool), net(prefix));
            assert_eq!(slice_of_units(pool, unit, prefix), net(slice));
            assert_eq!(Part::of_unit(pool, unit, prefix.network()).groups(), groups);
            assert!(slices_of_units(pool, unit).any(|cut| cut == net(slice)));
        }
    }

    #[test]
    fn a_part_and_the_slice_that_is_announced_are_cut_alike() {
        for prefix in ["100.64.0.0/10", "100.64.0.0/20", "100.64.0.0/27", "100.64.0.0/31"] {
            let net: Ipv4Net = prefix.parse().expect("a prefix");
            let parts: Vec<_> = slices(net)
                .map(|cut| {
                    for address in [cut.network(), cut.broadcast()] {
                        assert_eq!(slice(net.into(), address.into()), IpNet::V4(cut));
                    }
                    assert_eq!(Part::of(net, cut.network()), Part::of(net, cut.broadcast()));
                    Part::of(net, cut.network())
                })
                .collect();
            assert!(parts.is_sorted_by(|a, b| a < b), "{prefix}");
        }
    }
}
