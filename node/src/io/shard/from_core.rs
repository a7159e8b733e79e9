//! The way from the core: what the kernel routes to subscribers, and what other nodes pass on.

use nix::errno::Errno;

use super::Worker;
use crate::dataplane::DropReason;
use crate::dataplane::downlink::{self, HEADROOM};
use crate::io::batch::BATCH;

impl Worker {
    pub(super) fn read_tun(&mut self) {
        for _ in 0..BATCH {
            if self.send.is_full() {
                self.flush();
            }
            let Some(tun) = &self.shard.tun else { return };
            let length = match tun.read(&mut self.send.slot()[HEADROOM..]) {
                Ok((_, length)) => length,
                Err(Errno::EAGAIN) => return,
                Err(error) => {
                    tracing::trace!(%error, "TUN");
                    return;
                }
            };
            if !self.forwards {
                self.shard.counters.count_drop(DropReason::Isolated);
                continue;
            }
            let packet = &self.send.slot()[HEADROOM..HEADROOM + length];
            match downlink::route(&self.table, packet) {
                Ok((session, view)) => self.deliver(session, view),
                Err(reason) => self.shard.counters.count_drop(reason),
            }
        }
    }

    /// What other nodes received for sequenced sessions that are numbered here.
    pub(super) fn take_passed(&mut self) {
        for _ in 0..BATCH {
            let Ok(packet) = self.shard.mailbox.passed.try_recv() else {
                return;
            };
            self.take_updates();
            self.shard.counters.count_passed_in(1);
            if !self.forwards {
                self.shard.counters.count_drop(DropReason::Isolated);
                continue;
            }
            let free = self.free_slot()[HEADROOM..].get_mut(..packet.len());
            match free {
                Some(free) => free.copy_from_slice(&packet),
                None => {
                    self.shard.counters.count_drop(DropReason::Oversize);
                    continue;
                }
            }
            // By its destination, as from the TUN: the other node may know less, or more, of who has which address.
            match downlink::route(&self.table, &packet) {
                Ok((session, view)) => self.deliver_passed(session, view),
                Err(reason) => self.shard.counters.count_drop(reason),
            }
        }
    }
}
