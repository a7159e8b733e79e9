//! The way from the core: what the kernel routes to subscribers, and what other nodes pass on.
//!
//! A packet that leaves as it is, and every part of a large one, is sent from where it was read ([`crate::io::batch`]). What
//! has a number, is too large for its session or goes to another node is moved to a slot first, packet by packet, and
//! judged there by itself.

use nix::errno::Errno;

use super::Worker;
use super::egress::destination;
use crate::dataplane::DropReason;
use crate::dataplane::downlink::{self, DATA_LEAD, HEADROOM};
use crate::dataplane::ip::View;
use crate::dataplane::offload::split::finish_checksum;
use crate::dataplane::offload::vnet::{Kind, VNET_HEADER};
use crate::dataplane::offload::{Split, VnetHeader};
use crate::io::MAX_DATAGRAM;
use crate::io::batch::BATCH;

/// Packets that are read from the TUN in one round, large ones too.
const READS_PER_ROUND: usize = 2 * BATCH;
/// Octets after which no more are read in one round: some 200 us of work, less than a socket's queue holds of datagrams.
const OCTETS_PER_ROUND: usize = 256 * 1024;

// A packet is read behind the kernel's header and sent behind ours: both begin at the same place.
const _: () = assert!(VNET_HEADER == DATA_LEAD);

impl Worker {
    pub(super) fn read_tun(&mut self) {
        let mut octets = 0;
        for _ in 0..READS_PER_ROUND {
            if !self.send.has_room_to_read() {
                self.flush();
            }
            let Some(tun) = &self.shard.tun else { return };
            match tun.read(self.send.read_room()) {
                Ok((header, length)) => {
                    self.take_packet(&header, length);
                    octets += length;
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINVAL) => self.shard.counters.count_drop(DropReason::MalformedIp),
                Err(error) => {
                    tracing::trace!(%error, "TUN");
                    return;
                }
            }
            if octets >= OCTETS_PER_ROUND {
                return;
            }
        }
    }

    /// Takes what was just read.
    fn take_packet(&mut self, header: &VnetHeader, length: usize) {
        let packet = &mut self.send.read_room()[VNET_HEADER..VNET_HEADER + length];
        let split = match header.kind {
            Kind::Whole if length > MAX_DATAGRAM => Err(DropReason::MalformedIp),
            Kind::Whole => Ok(None),
            _ => Split::new(header, packet)
                .and_then(|split| {
                    (split.largest() <= MAX_DATAGRAM)
                        .then_some(split)
                        .ok_or(DropReason::MalformedIp)
                })
                .map(Some),
        };
        let split = match split {
            Ok(split) => split,
            Err(reason) => return self.shard.counters.count_drop(reason),
        };
        let routed = if self.forwards {
            downlink::route(&self.table, packet)
        } else {
            Err(DropReason::Isolated)
        };
        match (routed, split) {
            (Ok((session, view)), None) => self.take_whole(header, session, view),
            (Ok((session, view)), Some(split)) => self.take_large(&split, session, view),
            (Err(reason), split) => {
                let packets = split.map_or(1, |split| split.packets());
                self.shard.counters.count_drops(reason, packets as u64);
            }
        }
    }

    fn take_whole(&mut self, header: &VnetHeader, session: u32, view: View) {
        let packet = &mut self.send.read_room()[VNET_HEADER..VNET_HEADER + view.length];
        if let Err(reason) = finish_checksum(header, packet) {
            return self.shard.counters.count_drop(reason);
        }
        let entry = self.table.session(session);
        if downlink::is_plain(entry, view.length) {
            downlink::clamp_mss(entry, packet, &view);
            self.depart(session, DATA_LEAD, view.length, view.dscp_bits);
        } else {
            self.send.move_to_slot(view.length);
            self.deliver(session, view);
        }
    }

    /// All packets of a large one have one destination, one session and, but for the last, one size: they are judged once.
    fn take_large(&mut self, split: &Split, session: u32, view: View) {
        let at = self.send.hold(view.length);
        if downlink::is_plain(self.table.session(session), split.largest()) {
            self.depart_parts(split, session, &view, at);
        } else {
            self.deliver_parts(split, session, at);
        }
        self.send.release();
    }

    fn depart_parts(&mut self, split: &Split, session: u32, view: &View, at: usize) {
        let entry = self.table.session(session);
        let tunnel = self.table.tunnel_of(entry);
        let destination = destination(&self.shard.sockets, tunnel.local, tunnel.peer, view.dscp_bits);
        let destination = match destination {
            Ok(destination) => destination,
            Err(reason) => return self.shard.counters.count_drops(reason, split.packets() as u64),
        };
        let lead = downlink::lead(&self.table, entry, view.source.is_ipv4());
        for number in 0..split.packets() {
            if !self.send.has_room_for(split) {
                self.flush();
            }
            let length = self.send.push_part(&destination, &lead, split, number, at);
            let shared = &self.table.session(session).shared;
            shared.count_sent(self.shard.policy.shard, length);
            self.shard.counters.count_downlink();
        }
    }

    fn deliver_parts(&mut self, split: &Split, session: u32, at: usize) {
        for number in 0..split.packets() {
            self.free_slot();
            let length = self.send.copy_part(split, number, at);
            match View::parse(&self.send.slot()[HEADROOM..HEADROOM + length]) {
                Ok(view) => self.deliver(session, view),
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
