//! The prefixes of one shelf that nobody has, by the part of the pool they lie in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::super::pool::Seat;
use crate::anycast::cut::{self, Group, Part};

/// From when on anybody may have a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rest {
    pub(super) free_at: Duration,
    /// The log index of its release, or a later one: who has not applied that may still forward for its last user.
    pub(super) index: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stock {
    prefixes: Vec<Ipv6Net>,
    /// Of what is given out.
    length: u8,
    /// Only those with something in them.
    bins: BTreeMap<Part, Bin>,
}

/// The free prefixes of one part, by number: the bits that count of the address.
#[derive(Debug, Default)]
struct Bin {
    /// Those that nobody had yet, as ranges: the first of each and its last.
    fresh: BTreeMap<u128, u128>,
    /// Those that somebody had, with how they rest, longest ago first.
    released: BTreeSet<(Rest, u128)>,
}

impl Bin {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.released.is_empty()
    }

    /// Takes one out of the fresh ones, if it is one.
    fn take(&mut self, number: u128) {
        let Some((&first, &last)) = self.fresh.range(..=number).next_back() else {
            return;
        };
        if last < number {
            return;
        }
        self.fresh.remove(&first);
        if first < number {
            self.fresh.insert(first, number - 1);
        }
        if number < last {
            self.fresh.insert(number + 1, last);
        }
    }
}

impl Stock {
    /// All of them, and nobody had any.
    pub(super) fn new(prefixes: &[Ipv6Net], length: u8) -> Self {
        let mut this = Self {
            prefixes: prefixes.to_vec(),
            length,
            bins: BTreeMap::new(),
        };
        for prefix in prefixes {
            for slice in cut::slices_of_units(*prefix, length) {
                let part = Part::of_unit(*prefix, length, slice.network());
                let (first, last) = (this.number(slice.network()), this.number(slice.broadcast()));
                this.bins.entry(part).or_default().fresh.insert(first, last);
            }
        }
        this
    }

    /// Somebody has it, or something that overlaps it, or is the only one who may.
    pub(super) fn take(&mut self, prefix: Ipv6Net) {
        if let Some(part) = self.part_of(prefix) {
            let number = self.number(prefix.network());
            self.change(part, |bin| bin.take(number));
        }
    }

    /// Somebody had it; it rests.
    pub(super) fn put(&mut self, rest: Rest, prefix: Ipv6Net) {
        if let Some(part) = self.part_of(prefix) {
            let number = self.number(prefix.network());
            let bin = self.bins.entry(part).or_default();
            bin.take(number);
            bin.released.insert((rest, number));
        }
    }

    /// What was [`Self::put`] is somebody's again.
    pub(super) fn take_back(&mut self, rest: Rest, prefix: Ipv6Net) {
        if let Some(part) = self.part_of(prefix) {
            let number = self.number(prefix.network());
            self.change(part, |bin| {
                bin.released.remove(&(rest, number));
            });
        }
    }

    /// One for a session of the seat's group, which stays where it is; in the order in which addresses are picked.
    pub(super) fn pick(&self, now: Duration, wait: Duration, seat: Seat<'_>) -> Option<Ipv6Net> {
        let may = |rest: Rest| {
            let known = rest.index <= seat.horizon || rest.free_at + wait <= now;
            rest.free_at <= now && known
        };
        let own = |(part, _): &(Part, &Bin)| part.groups().all(seat.is_own);
        let home = Part::of_group(seat.group).filter_map(|part| Some((part, self.bins.get(&part)?)));
        let number = lowest(home.clone())
            .or_else(|| rested(home, may))
            .or_else(|| lowest(self.around(seat.group).filter(own)))
            .or_else(|| rested(self.around(seat.group).filter(own), may))
            .or_else(|| highest(self.around(seat.group)))
            .or_else(|| rested(self.around(seat.group), may))?;
        let address = Ipv6Addr::from(number << (128 - self.length));
        Some(Ipv6Net::new(address, self.length).expect("not beyond 128"))
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

    fn number(&self, address: Ipv6Addr) -> u128 {
        u128::from(address) >> (128 - self.length)
    }

    fn part_of(&self, prefix: Ipv6Net) -> Option<Part> {
        let pool = self.prefixes.iter().find(|pool| pool.contains(&prefix))?;
        (prefix.prefix_len() == self.length).then(|| Part::of_unit(*pool, self.length, prefix.network()))
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

/// The lowest fresh one of the first bin that has any.
fn lowest<'a>(mut bins: impl Iterator<Item = (Part, &'a Bin)>) -> Option<u128> {
    bins.find_map(|(_, bin)| bin.fresh.first_key_value())
        .map(|(first, _)| *first)
}

/// The highest one: whoever owns the slice picks from the other end.
fn highest<'a>(mut bins: impl Iterator<Item = (Part, &'a Bin)>) -> Option<u128> {
    bins.find_map(|(_, bin)| bin.fresh.last_key_value())
        .map(|(_, last)| *last)
}

/// The one that was released longest ago, if it has rested.
fn rested<'a>(bins: impl Iterator<Item = (Part, &'a Bin)>, may: impl Fn(Rest) -> bool) -> Option<u128> {
    bins.filter_map(|(_, bin)| bin.released.first())
        .filter(|(rest, _)| may(*rest))
        .min()
        .map(|(_, number)| *number)
}
