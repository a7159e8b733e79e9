//! Room for packets that wait, taken once for a shard: a packet is copied here and out of here, and nothing is allocated in between.

use std::time::Duration;

use crate::dataplane::slab::NONE;

/// Octets of a place. A longer packet does not wait: it is dropped if it may not pass.
pub(super) const PLACE: usize = 2_048;

/// A list of packets, oldest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            head: NONE,
            tail: NONE,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    next: u32,
    length: u16,
    since: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arena {
    octets: Vec<u8>,
    places: Vec<Place>,
    free: Vec<u32>,
}

impl Arena {
    /// Takes the room of `places` packets. The kernel gives the memory as far as it is used.
    pub(super) fn new(places: u32) -> Self {
        Self {
            octets: vec![0; places as usize * PLACE],
            places: vec![Place::default(); places as usize],
            free: (0..places).rev().collect(),
        }
    }

    /// Whether nothing more can wait.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Puts a packet at the end of a list; whether there was room.
    pub(super) fn push(&mut self, list: &mut List, packet: &[u8], since: Duration) -> bool {
        let length = packet.len();
        let Some(at) = (length <= PLACE).then(|| self.free.pop()).flatten() else {
            return false;
        };
        let start = at as usize * PLACE;
        self.octets[start..start + length].copy_from_slice(packet);
        self.places[at as usize] = Place {
            next: NONE,
            length: length as u16,
            since,
        };
        match list.tail {
            NONE => list.head = at,
            tail => self.places[tail as usize].next = at,
        }
        list.tail = at;
        true
    }

    /// Takes the oldest packet of a list out, to where `to` copies it, and says how long it is and since when it waited.
    pub(super) fn pop(&mut self, list: &mut List, to: impl FnOnce(&[u8])) -> Option<(usize, Duration)> {
        let at = list.head;
        let place = *self.places.get(at as usize)?;
        list.head = place.next;
        if list.head == NONE {
            list.tail = NONE;
        }
        let (start, length) = (at as usize * PLACE, usize::from(place.length));
        to(&self.octets[start..start + length]);
        self.free.push(at);
        Some((length, place.since))
    }

    /// Octets and age of the oldest packet.
    pub(super) fn oldest(&self, list: &List) -> Option<(usize, Duration)> {
        let place = self.places.get(list.head as usize)?;
        Some((usize::from(place.length), place.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_give_room_back() {
        let mut arena = Arena::new(3);
        let mut lists = [List::default(); 2];
        let now = Duration::from_secs(1);
        assert!(arena.push(&mut lists[0], b"a", now));
        assert!(arena.push(&mut lists[1], b"bb", now));
        assert!(arena.push(&mut lists[0], b"ccc", now));
        assert!(arena.is_full() && !arena.push(&mut lists[1], b"d", now));
        let mut pop = |list: usize| {
            let mut octets = Vec::new();
            arena.pop(&mut lists[list], |packet| octets.extend_from_slice(packet))?;
            Some(octets)
        };
        assert_eq!(pop(0), Some(b"a".to_vec()));
        assert_eq!(pop(0), Some(b"ccc".to_vec()));
        assert_eq!(pop(0), None);
        assert_eq!(pop(1), Some(b"bb".to_vec()));
        assert!(lists.iter().all(|list| list.head == NONE && list.tail == NONE));
        assert!(arena.push(&mut lists[0], &[0; PLACE], now));
        assert_eq!(arena.oldest(&lists[0]), Some((PLACE, now)));
        assert!(
            !arena.push(&mut lists[0], &[0; PLACE + 1], now),
            "too long to wait"
        );
    }
}
