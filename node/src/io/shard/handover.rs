//! Datagrams that came to another shard's socket than their tunnel's: a large message of many tunnels comes whole to one.
//!
//! They are handed over in messages as they came, many datagrams of one size: one allocation and at most one wake-up for
//! all.

use std::net::SocketAddr;

use super::Worker;
use crate::dataplane::DropReason;
use crate::io::MAX_DATAGRAM;
use crate::io::batch::{BATCH, Segments};
use crate::io::mailbox::HandedOver;

/// Octets that are handed over in one message at most: what one message ever had, so that a full mailbox holds no more.
const LONGEST: usize = MAX_DATAGRAM;

/// Where a message came from and went to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Octets of each datagram but the last.
    pub(super) segment: usize,
}

impl Worker {
    /// Keeps a datagram of the message that is being handled for another shard, until [`Self::hand_over`].
    pub(super) fn keep_for(&mut self, shard: usize, origin: Origin, datagram: &[u8]) {
        if self.leaving[shard].len() + datagram.len() > LONGEST {
            self.hand_over_to(shard, origin);
        }
        let leaving = &mut self.leaving[shard];
        if leaving.capacity() == 0 {
            leaving.reserve_exact(LONGEST);
        }
        leaving.extend_from_slice(datagram);
    }

    /// Gives the other shards what has been kept for them of a message.
    pub(super) fn hand_over(&mut self, origin: Origin) {
        for shard in 0..self.leaving.len() {
            if !self.leaving[shard].is_empty() {
                self.hand_over_to(shard, origin);
            }
        }
    }

    fn hand_over_to(&mut self, shard: usize, origin: Origin) {
        let octets = std::mem::take(&mut self.leaving[shard]);
        let datagrams = Segments::new(0..octets.len(), origin.segment).datagrams() as u64;
        let neighbour = &self.shard.shards[shard];
        let message = HandedOver {
            from: origin.from,
            to: origin.to,
            octets,
            segment: origin.segment,
        };
        if neighbour.handed_over.try_send(message).is_ok() {
            neighbour.wake.notify();
            self.shard.counters.count_handed_over(datagrams);
        } else {
            self.shard
                .counters
                .count_drops(DropReason::HandOverFull, datagrams);
        }
    }

    pub(super) fn take_handed_over(&mut self) {
        for _ in 0..BATCH {
            let Ok(mut message) = self.shard.mailbox.handed_over.try_recv() else {
                return;
            };
            self.take_updates();
            let segments = message.segments();
            self.shard.counters.count_taken_over(segments.datagrams() as u64);
            let origin = Origin {
                from: message.from,
                to: message.to,
                segment: message.segment,
            };
            self.handle_message(origin, segments, &mut message.octets);
            self.write_coalesced(&mut message.octets);
        }
    }
}
