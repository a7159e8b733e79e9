//! The prefixes of one shelf that nobody has, by the part of the pool they lie in.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::super::bins::{Bins, Rest};
use super::super::pool::Seat;
use crate::anycast::cut::{self, Part};

/// See the module.
#[derive(Debug)]
pub(super) struct Stock {
    prefixes: Vec<Ipv6Net>,
    /// Of what is given out.
    length: u8,
    /// By number: the bits that count of the address.
    bins: Bins<u128>,
}

impl Stock {
    /// All of them, and nobody had any.
    pub(super) fn new(prefixes: &[Ipv6Net], length: u8) -> Self {
        let mut this = Self {
            prefixes: prefixes.to_vec(),
            length,
            bins: Bins::default(),
        };
        for prefix in prefixes {
            for slice in cut::slices_of_units(*prefix, length) {
                let part = Part::of_unit(*prefix, length, slice.network());
                let (first, last) = (this.number(slice.network()), this.number(slice.broadcast()));
                this.bins.add(part, first, last);
            }
        }
        this
    }

    /// Somebody has it, or something that overlaps it, or is the only one who may.
    pub(super) fn take(&mut self, prefix: Ipv6Net) {
        if let Some(part) = self.part_of(prefix) {
            self.bins.take(part, self.number(prefix.network()));
        }
    }

    /// Somebody had it; it rests.
    pub(super) fn put(&mut self, rest: Rest, prefix: Ipv6Net) {
        if let Some(part) = self.part_of(prefix) {
            self.bins.put(part, rest, self.number(prefix.network()));
        }
    }

    /// What was [`Self::put`] is somebody's again.
    pub(super) fn take_back(&mut self, rest: Rest, prefix: Ipv6Net) {
        if let Some(part) = self.part_of(prefix) {
            self.bins.take_back(part, rest, self.number(prefix.network()));
        }
    }

    /// See [`Bins::pick`].
    pub(super) fn pick(&self, now: Duration, wait: Duration, seat: Seat<'_>) -> Option<Ipv6Net> {
        let number = self.bins.pick(now, wait, seat)?;
        let address = Ipv6Addr::from(number << (128 - self.length));
        Some(Ipv6Net::new(address, self.length).expect("not beyond 128"))
    }

    fn number(&self, address: Ipv6Addr) -> u128 {
        u128::from(address) >> (128 - self.length)
    }

    fn part_of(&self, prefix: Ipv6Net) -> Option<Part> {
        let pool = self.prefixes.iter().find(|pool| pool.contains(&prefix))?;
        (prefix.prefix_len() == self.length).then(|| Part::of_unit(*pool, self.length, prefix.network()))
    }
}
