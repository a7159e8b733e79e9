//! The addresses of one pool that nobody has, by the part of the pool they lie in.
//!
//! Whatever is asked for is found by looking into sorted maps: no question costs a walk over addresses, however large the pool and
//! however few are left in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::{Rest, Seat};
use crate::anycast::cut::{self, Group, Part};
use crate::config::is_host;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stock {
    prefixes: Vec<Ipv4Net>,
    /// Only those with something in them.
    bins: BTreeMap<Part, Bin>,
}

/// The free addresses of one part.
#[derive(Debug, Default)]
struct Bin {
    /// Those that nobody had yet, as ranges: the first address of each and its last.
    fresh: BTreeMap<u32, u32>,
    /// Those that somebody had, with how they rest, longest ago first.
    released: BTreeSet<(Rest, Ipv4Addr)>,
}

impl Bin {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.released.is_empty()
    }

    /// Takes an address out of the fresh ones, if it is one.
    fn take(&mut self, address: u32) {
        let Some((&first, &last)) = self.fresh.range(..=address).next_back() else {
            return;
        };
        if last < address {
            return;
        }
        self.fresh.remove(&first);
        if first < address {
            self.fresh.insert(first, address - 1);
        }
        if address < last {
            self.fresh.insert(address + 1, last);
        }
    }
}

impl Stock {
    /// All addresses of these prefixes that subscribers may have, and nobody had.
    pub(super) fn new(prefixes: &[Ipv4Net]) -> Self {
        let mut this = Self {
            prefixes: prefixes.to_vec(),
            bins: BTreeMap::new(),
        };
        for prefix in prefixes {
            for slice in cut::slices(*prefix) {
                let bin = this.bins.entry(Part::of(*prefix, slice.network())).or_default();
                bin.fresh
                    .insert(u32::from(slice.network()), u32::from(slice.broadcast()));
            }
            for end in [prefix.network(), prefix.broadcast()] {
                if !is_host(*prefix, end) {
                    this.change(Part::of(*prefix, end), |bin| bin.take(u32::from(end)));
                }
            }
        }
        this
    }

    /// Somebody has the address, or is the only one who may.
    pub(super) fn take(&mut self, address: Ipv4Addr) {
        if let Some(part) = self.part_of(address) {
            self.change(part, |bin| bin.take(u32::from(address)));
        }
    }

    /// Somebody had the address; it rests.
    pub(super) fn put(&mut self, rest: Rest, address: Ipv4Addr) {
        if let Some(part) = self.part_of(address) {
            let bin = self.bins.entry(part).or_default();
            bin.take(u32::from(address));
            bin.released.insert((rest, address));
        }
    }

    /// What was [`Self::put`] is somebody's again.
    pub(super) fn take_back(&mut self, rest: Rest, address: Ipv4Addr) {
        if let Some(part) = self.part_of(address) {
            self.change(part, |bin| {
                bin.released.remove(&(rest, address));
            });
        }
    }

    /// An address for a session of the seat's group, which stays where it is. From the group's own slices if there is one; else from
    /// those of other groups of this node, from which nobody else picks; else from any. Each time one that nobody had yet, then
    /// the one that was released longest ago.
    pub(super) fn pick(&self, now: Duration, wait: Duration, seat: Seat<'_>) -> Option<Ipv4Addr> {
        let may = |rest: Rest| {
            let known = rest.index <= seat.horizon || rest.free_at + wait <= now;
            rest.free_at <= now && known
        };
        let own = |(part, _): &(Part, &Bin)| part.groups().all(seat.is_own);
        let home = Part::of_group(seat.group).filter_map(|part| Some((part, self.bins.get(&part)?)));
        lowest(home.clone())
            .or_else(|| rested(home, may))
            .or_else(|| lowest(self.around(seat.group).filter(own)))
            .or_else(|| rested(self.around(seat.group).filter(own), may))
            .or_else(|| highest(self.around(seat.group)))
            .or_else(|| rested(self.around(seat.group), may))
    }

    /// Whether any address has rested, be it that somebody may still forward for its last user.
    pub(super) fn has_rested(&self, now: Duration) -> bool {
        let mut first = self.bins.values().filter_map(|bin| bin.released.first());
        first.any(|(rest, _)| rest.free_at <= now)
    }

    /// All bins, from the group's own on and around, so that groups which look beyond their own slices do not all look at the same.
    fn around(&self, group: Group) -> impl Iterator<Item = (Part, &Bin)> {
        Part::of_group(group).flat_map(|home| {
            let behind = self.bins.range(home.to_last());
            let before = self.bins.range(home.from_first());
            behind
                .chain(before.filter(move |(part, _)| **part != home))
                .map(|(part, bin)| (*part, bin))
        })
    }

    fn part_of(&self, address: Ipv4Addr) -> Option<Part> {
        let prefix = self.prefixes.iter().find(|prefix| is_host(**prefix, address))?;
        Some(Part::of(*prefix, address))
    }

    fn change(&mut self, part: Part, change: impl FnOnce(&mut Bin)) {
        let Some(bin) = self.bins.get_mut(&part) else {
            return;
        };
        change(bin);
        if bin.is_empty() {
            self.bins.remove(&part);
        }
    }
}

/// The lowest fresh address of the first bin that has any.
fn lowest<'a>(mut bins: impl Iterator<Item = (Part, &'a Bin)>) -> Option<Ipv4Addr> {
    bins.find_map(|(_, bin)| bin.fresh.first_key_value())
        .map(|(first, _)| Ipv4Addr::from(*first))
}

/// The highest one: whoever owns the slice picks from the other end.
fn highest<'a>(mut bins: impl Iterator<Item = (Part, &'a Bin)>) -> Option<Ipv4Addr> {
    bins.find_map(|(_, bin)| bin.fresh.last_key_value())
        .map(|(_, last)| Ipv4Addr::from(*last))
}

/// The address that was released longest ago, if it has rested.
fn rested<'a>(bins: impl Iterator<Item = (Part, &'a Bin)>, may: impl Fn(Rest) -> bool) -> Option<Ipv4Addr> {
    bins.filter_map(|(_, bin)| bin.released.first())
        .filter(|(rest, _)| may(*rest))
        .min()
        .map(|(_, address)| *address)
}
