//! The addresses of one pool that nobody has, by the part of the pool they lie in.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::super::bins::{Bins, Rest};
use super::Seat;
use crate::anycast::cut::{self, Part};
use crate::config::is_host;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stock {
    prefixes: Vec<Ipv4Net>,
    bins: Bins<u32>,
}

impl Stock {
    /// All addresses of these prefixes that subscribers may have, and nobody had.
    pub(super) fn new(prefixes: &[Ipv4Net]) -> Self {
        let mut bins = Bins::default();
        for prefix in prefixes {
            for slice in cut::slices(*prefix) {
                let part = Part::of(*prefix, slice.network());
                bins.add(part, slice.network().into(), slice.broadcast().into());
            }
            for end in [prefix.network(), prefix.broadcast()] {
                if !is_host(*prefix, end) {
                    bins.take(Part::of(*prefix, end), end.into());
                }
            }
        }
        let prefixes = prefixes.to_vec();
        Self { prefixes, bins }
    }

    /// Somebody has the address, or is the only one who may.
    pub(super) fn take(&mut self, address: Ipv4Addr) {
        if let Some(part) = self.part_of(address) {
            self.bins.take(part, address.into());
        }
    }

    /// Somebody had the address; it rests.
    pub(super) fn put(&mut self, rest: Rest, address: Ipv4Addr) {
        if let Some(part) = self.part_of(address) {
            self.bins.put(part, rest, address.into());
        }
    }

    /// What was [`Self::put`] is somebody's again.
    pub(super) fn take_back(&mut self, rest: Rest, address: Ipv4Addr) {
        if let Some(part) = self.part_of(address) {
            self.bins.take_back(part, rest, address.into());
        }
    }

    /// See [`Bins::pick`].
    pub(super) fn pick(&self, now: Duration, wait: Duration, seat: Seat<'_>) -> Option<Ipv4Addr> {
        self.bins.pick(now, wait, seat).map(Ipv4Addr::from)
    }

    /// See [`Bins::has_rested`].
    pub(super) fn has_rested(&self, now: Duration) -> bool {
        self.bins.has_rested(now)
    }

    fn part_of(&self, address: Ipv4Addr) -> Option<Part> {
        let prefix = self.prefixes.iter().find(|prefix| is_host(**prefix, address))?;
        Some(Part::of(*prefix, address))
    }
}
