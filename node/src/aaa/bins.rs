//! What nobody has of a pool, addresses or prefixes alike, each by a number, and by the part of the pool it lies in.
//!
//! Whatever is asked for is found by looking into sorted maps: no question costs a walk over numbers, however large the pool and
//! however few are left in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::pool::Seat;
use crate::anycast::cut::{Group, Part};

/// From when on anybody may have what was released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rest {
    pub(super) free_at: Duration,
    /// The log index of its release, or a later one: who has not applied that may still forward for its last user.
    pub(super) index: u64,
}

/// Names an address or a prefix in its pool.
pub(super) trait Number: Copy + Ord {
    /// The next lower one, where there is a lower one.
    fn before(self) -> Self;
    /// The next higher one, where there is a higher one.
    fn after(self) -> Self;
}

impl Number for u32 {
    fn before(self) -> Self {
        self - 1
    }

    fn after(self) -> Self {
        self + 1
    }
}

impl Number for u128 {
    fn before(self) -> Self {
        self - 1
    }

    fn after(self) -> Self {
        self + 1
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bins<N> {
    /// Only those with something in them.
    bins: BTreeMap<Part, Bin<N>>,
}

impl<N> Default for Bins<N> {
    fn default() -> Self {
        let bins = BTreeMap::new();
        Self { bins }
    }
}

/// What is free of one part.
#[derive(Debug)]
struct Bin<N> {
    /// Those that nobody had yet, as ranges: the first of each and its last.
    fresh: BTreeMap<N, N>,
    /// Those that somebody had, with how they rest, longest ago first.
    released: BTreeSet<(Rest, N)>,
}

impl<N> Default for Bin<N> {
    fn default() -> Self {
        Self {
            fresh: BTreeMap::new(),
            released: BTreeSet::new(),
        }
    }
}

impl<N: Number> Bin<N> {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.released.is_empty()
    }

    /// Takes one out of the fresh ones, if it is one.
    fn take(&mut self, number: N) {
        let Some((&first, &last)) = self.fresh.range(..=number).next_back() else {
            return;
        };
        if last < number {
            return;
        }
        self.fresh.remove(&first);
        if first < number {
            self.fresh.insert(first, number.before());
        }
        if number < last {
            self.fresh.insert(number.after(), last);
        }
    }
}

impl<N: Number> Bins<N> {
    /// Nobody had these yet.
    pub(super) fn add(&mut self, part: Part, first: N, last: N) {
        self.bins.entry(part).or_default().fresh.insert(first, last);
    }

    /// Somebody has it, or is the only one who may.
    pub(super) fn take(&mut self, part: Part, number: N) {
        self.change(part, |bin| bin.take(number));
    }

    /// Somebody had it; it rests.
    pub(super) fn put(&mut self, part: Part, rest: Rest, number: N) {
        let bin = self.bins.entry(part).or_default();
        bin.take(number);
        bin.released.insert((rest, number));
    }

    /// What was [`Self::put`] is somebody's again.
    pub(super) fn take_back(&mut self, part: Part, rest: Rest, number: N) {
        self.change(part, |bin| {
            bin.released.remove(&(rest, number));
        });
    }

    /// One for a session of the seat's group, which stays where it is. From the group's own slices if there is one; else from
    /// those of other groups of this node, from which nobody else picks; else from any. Each time one that nobody had yet, then
    /// the one that was released longest ago.
    pub(super) fn pick(&self, now: Duration, wait: Duration, seat: Seat<'_>) -> Option<N> {
        let may = |rest: Rest| {
            let known = rest.index <= seat.horizon || rest.free_at + wait <= now;
            rest.free_at <= now && known
        };
        let own = |(part, _): &(Part, &Bin<N>)| part.groups().all(seat.is_own);
        let home = Part::of_group(seat.group).filter_map(|part| Some((part, self.bins.get(&part)?)));
        lowest(home.clone())
            .or_else(|| rested(home, may))
            .or_else(|| lowest(self.around(seat.group).filter(own)))
            .or_else(|| rested(self.around(seat.group).filter(own), may))
            .or_else(|| highest(self.around(seat.group)))
            .or_else(|| rested(self.around(seat.group), may))
    }

    /// Whether any has rested, be it that somebody may still forward for its last user.
    pub(super) fn has_rested(&self, now: Duration) -> bool {
        let mut first = self.bins.values().filter_map(|bin| bin.released.first());
        first.any(|(rest, _)| rest.free_at <= now)
    }

    /// All bins, from the group's own on and around, so that groups which look beyond their own slices do not all look at the same.
    fn around(&self, group: Group) -> impl Iterator<Item = (Part, &Bin<N>)> {
        Part::of_group(group).flat_map(|home| {
            let behind = self.bins.range(home.to_last());
            let before = self.bins.range(home.from_first());
            behind
                .chain(before.filter(move |(part, _)| **part != home))
                .map(|(part, bin)| (*part, bin))
        })
    }

    fn change(&mut self, part: Part, change: impl FnOnce(&mut Bin<N>)) {
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
fn lowest<'a, N: Number + 'a>(mut bins: impl Iterator<Item = (Part, &'a Bin<N>)>) -> Option<N> {
    bins.find_map(|(_, bin)| bin.fresh.first_key_value())
        .map(|(first, _)| *first)
}

/// The highest one: whoever owns the slice picks from the other end.
fn highest<'a, N: Number + 'a>(mut bins: impl Iterator<Item = (Part, &'a Bin<N>)>) -> Option<N> {
    bins.find_map(|(_, bin)| bin.fresh.last_key_value())
        .map(|(_, last)| *last)
}

/// The one that was released longest ago, if it has rested.
fn rested<'a, N: Number + 'a>(
    bins: impl Iterator<Item = (Part, &'a Bin<N>)>,
    may: impl Fn(Rest) -> bool,
) -> Option<N> {
    bins.filter_map(|(_, bin)| bin.released.first())
        .filter(|(rest, _)| may(*rest))
        .min()
        .map(|(_, number)| *number)
}
