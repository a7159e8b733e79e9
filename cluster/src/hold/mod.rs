//! Relays that wait: for the owner of a group whose last one is dead, or for our own `apply` to reach the epoch
//! that a relay names (design: "Control goes to the owner").
//!
//! A queue keeps the order of arrival in a tunnel, refuses what exceeds its bounds and gives back what got too
//! old, so that both can be counted. It does not know what an item is, nor who owns a group.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use holdfast_protocol::TunnelId;

use crate::limits::{HELD_MAX, HELD_MS, HELD_PER_TUNNEL_MAX};

/// The queue is full; the item comes back to be dropped and counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow<T>(pub T);

/// Items that wait for an epoch of their tunnel's group. Not more than [`HELD_PER_TUNNEL_MAX`] a tunnel and
/// [`HELD_MAX`] in all, each for [`HELD_MS`].
#[derive(Debug)]
pub struct HoldQueue<T> {
    /// By tunnel and arrival, so that those of a tunnel, and of a group, are neighbours in order.
    items: BTreeMap<Place, Held<T>>,
    /// By arrival, which is the order of the deadlines too: all are held equally long.
    deadlines: BTreeMap<u64, (Duration, TunnelId)>,
    arrivals: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// A plain number, so that a group has a first one.
    tunnel: u16,
    arrival: u64,
}

#[derive(Debug)]
struct Held<T> {
    tunnel: TunnelId,
    epoch: u32,
    item: T,
}

impl<T> Default for HoldQueue<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            arrivals: 0,
        }
    }
}

impl<T> HoldQueue<T> {
    /// Holds an item until its group has reached an epoch: for a dead owner the next one, for a relay from
    /// beyond our table the one that it names.
    ///
    /// # Errors
    /// The tunnel or the whole queue is full.
    pub fn hold(&mut self, now: Duration, tunnel: TunnelId, epoch: u32, item: T) -> Result<(), Overflow<T>> {
        let of_tunnel = self.items.range(places(tunnel.get(), tunnel.get())).count();
        if of_tunnel >= HELD_PER_TUNNEL_MAX || self.items.len() >= HELD_MAX {
            return Err(Overflow(item));
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        let place = Place {
            tunnel: tunnel.get(),
            arrival,
        };
        self.items.insert(place, Held { tunnel, epoch, item });
        let deadline = now + Duration::from_millis(HELD_MS);
        self.deadlines.insert(arrival, (deadline, tunnel));
        Ok(())
    }

    /// The group has reached an epoch: takes out what waited for it or for an earlier one, tunnel by tunnel, each
    /// in the order of arrival. What waits for a later epoch stays.
    pub fn release(&mut self, group: u8, epoch: u32) -> Vec<(TunnelId, T)> {
        let first = u16::from(group) << 8;
        let due: Vec<Place> = self
            .items
            .range(places(first, first | 0xff))
            .filter(|(_, held)| held.epoch <= epoch)
            .map(|(place, _)| *place)
            .collect();
        due.into_iter().filter_map(|place| self.take(place)).collect()
    }

    /// Takes out what was held for too long, the oldest first.
    pub fn expire(&mut self, now: Duration) -> Vec<(TunnelId, T)> {
        let due: Vec<Place> = self
            .deadlines
            .iter()
            .take_while(|(_, (deadline, _))| *deadline <= now)
            .map(|(arrival, (_, tunnel))| Place {
                tunnel: tunnel.get(),
                arrival: *arrival,
            })
            .collect();
        due.into_iter().filter_map(|place| self.take(place)).collect()
    }

    /// When [`Self::expire`] has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadlines.values().next().map(|(deadline, _)| *deadline)
    }

    /// Items held.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn take(&mut self, place: Place) -> Option<(TunnelId, T)> {
        self.deadlines.remove(&place.arrival);
        self.items.remove(&place).map(|held| (held.tunnel, held.item))
    }
}

/// The places of all arrivals of these tunnels.
fn places(first: u16, last: u16) -> RangeInclusive<Place> {
    let from = Place {
        tunnel: first,
        arrival: 0,
    };
    let to = Place {
        tunnel: last,
        arrival: u64::MAX,
    };
    from..=to
}
