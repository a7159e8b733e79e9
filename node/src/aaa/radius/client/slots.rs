//! Identifiers: 256 a socket, and as many sockets as the load needs. The one that was given back longest ago is used first, so that a late
//! reply seldom meets a new request (RFC 2865 §3).

use std::collections::VecDeque;

/// Sockets to one server for one purpose; with 256 requests under way on each.
pub const SOCKETS_MAX: u16 = 64;

/// A socket and an identifier on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// From 0 on.
    pub socket: u16,
    /// In the packet.
    pub id: u8,
}

/// Those of one server.
#[derive(Debug, Default)]
pub struct Slots {
    free: VecDeque<Slot>,
    sockets: u16,
}

impl Slots {
    /// `None` when all identifiers of all sockets are in use.
    pub fn take(&mut self) -> Option<Slot> {
        if self.free.is_empty() && self.sockets < SOCKETS_MAX {
            let socket = self.sockets;
            self.sockets += 1;
            self.free.extend((0..=u8::MAX).map(|id| Slot { socket, id }));
        }
        self.free.pop_front()
    }

    /// It is free for another request.
    pub fn give_back(&mut self, slot: Slot) {
        self.free.push_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn as_many_sockets_as_needed_and_no_more() {
        let mut slots = Slots::default();
        let first: Vec<Slot> = (0..256).filter_map(|_| slots.take()).collect();
        assert!(first.iter().all(|slot| slot.socket == 0));
        let next = slots.take().expect("another socket");
        assert_eq!((next.socket, next.id), (1, 0));
        let all: BTreeSet<Slot> = std::iter::from_fn(|| slots.take())
            .chain(first)
            .chain([next])
            .collect();
        assert_eq!(all.len(), usize::from(SOCKETS_MAX) * 256);
        slots.give_back(next);
        assert_eq!(slots.take(), Some(next));
    }

    #[test]
    fn least_recently_used_first() {
        let mut slots = Slots::default();
        let slot = slots.take().expect("a slot");
        slots.give_back(slot);
        let others: Vec<Slot> = (0..255).filter_map(|_| slots.take()).collect();
        assert!(!others.contains(&slot));
        assert_eq!(slots.take(), Some(slot));
    }
}
