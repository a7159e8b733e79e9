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
                    if std::mem::take(&mut self.slept) {
                        self.flush();
                    }
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
        let packets = split.as_ref().map_or(1, Split::packets);
        let routed = if self.forwards {
            let table = &self.table;
            downlink::route(table, packet).and_then(|(session, view)| {
                downlink::pass_filters(table, session, &view, packet, packets)?;
                Ok((session, view))
            })
        } else {
            Err(DropReason::Isolated)
        };
        match (routed, split) {
            (Ok((session, view)), None) => self.take_whole(header, session, view),
            (Ok((session, view)), Some(split)) => self.take_large(&split, session, view),
            (Err(reason), _) => self.shard.counters.count_drops(reason, packets as u64),
        }
    }

    fn take_whole(&mut self, header: &VnetHeader, session: u32, view: View) {
        let octets = VNET_HEADER..VNET_HEADER + view.length;
        if let Err(reason) = finish_checksum(header, &mut self.send.read_room()[octets.clone()]) {
            return self.shard.counters.count_drop(reason);
        }
        let plain = downlink::is_plain(self.table.session(session), view.length);
        if plain && self.passes(session, view.length) {
            let packet = &mut self.send.read_room()[octets];
            downlink::clamp_mss(self.table.session(session), packet, &view);
            self.depart(session, DATA_LEAD, view.length, view.dscp_bits);
        } else {
            self.send.move_to_slot(view.length);
            self.deliver(session, view);
        }
    }

    /// All packets of a large one have one destination, one session and, but for the last, one size: they are judged once.
    fn take_large(&mut self, split: &Split, session: u32, view: View) {
        let at = self.send.hold(view.length);
        let plain = downlink::is_plain(self.table.session(session), split.largest());
        if plain && self.passes(session, split.octets()) {
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

    /// What other nodes and other shards received for sequenced sessions that are numbered here.
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

#[cfg(test)]
pub(super) mod tests {
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::time::Duration;

    use etherparse::PacketBuilder;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::dataplane::sequence::SendSequence;
    use crate::dataplane::table::tests::{session, tunnel};
    use crate::dataplane::{SessionShared, TableUpdate};
    use crate::io::shard::backlog::tests::worker;
    use crate::io::tun::{Offload, TunQueue};

    /// A worker with an open and a closed session, to whose TUN queue packets are written at the other end.
    pub(in crate::io::shard) fn worker_with_offload() -> (Worker, OwnedFd) {
        let (mut worker, _, _) = worker();
        let (tun, core) = socketpair(
            AddressFamily::Unix,
            SockType::Datagram,
            None,
            SockFlag::SOCK_NONBLOCK,
        )
        .expect("a pair");
        let offload = Offload {
            header: true,
            ..Offload::default()
        };
        worker.shard.tun = Some(TunQueue::new(tun, offload));
        worker.table.apply(TableUpdate::Tunnel(tunnel(4)));
        for (id, last, open) in [(11, 1, true), (12, 2, false)] {
            let mut entry = session(4, id, [10, 0, 0, last]);
            entry.open = open;
            worker.table.apply(TableUpdate::Session(entry));
        }
        worker.forwards = true;
        (worker, core)
    }

    /// Seven datagrams of UDP in one packet to 10.0.0.`last`.
    pub(in crate::io::shard) fn large(last: u8) -> (VnetHeader, Vec<u8>) {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 9], [10, 0, 0, last], 64)
            .udp(53, 53)
            .write(&mut packet, &[7; 650])
            .expect("a vector takes it");
        let header = VnetHeader {
            kind: Kind::Udp,
            needs_checksum: true,
            segment: 100,
            checksum_start: 20,
            checksum_offset: 6,
            ..VnetHeader::default()
        };
        (header, packet)
    }

    #[test]
    fn every_packet_of_a_large_one_is_counted_whatever_becomes_of_it() {
        let (mut worker, core) = worker_with_offload();
        let read = |worker: &mut Worker, header: VnetHeader, packet: &[u8]| {
            let octets = [&header.encode(), packet].concat();
            nix::unistd::write(&core, &octets).expect("there is room");
            worker.read_tun();
            worker.shard.counters.totals()
        };
        let (header, packet) = large(1);
        assert_eq!(read(&mut worker, header, &packet).downlink, 7);
        let sent = worker
            .table
            .session(worker.table.find_session(4, 11).expect("it exists"));
        let sent = sent.shared.totals();
        assert_eq!((sent.sent_packets, sent.sent_octets), (7, 7 * 28 + 650));

        let without_route = read(&mut worker, header, &large(9).1);
        assert_eq!(without_route.dropped(DropReason::NoRoute), 7);
        let closed = read(&mut worker, header, &large(2).1);
        assert_eq!(closed.dropped(DropReason::NotOpen), 7);
        worker.forwards = false;
        let isolated = read(&mut worker, header, &packet);
        assert_eq!(isolated.dropped(DropReason::Isolated), 7);

        // What makes no sense counts as one.
        worker.forwards = true;
        let no_size = VnetHeader { segment: 0, ..header };
        read(&mut worker, no_size, &packet);
        let outside = VnetHeader {
            kind: Kind::Whole,
            checksum_start: 5000,
            ..header
        };
        read(&mut worker, outside, &packet);
        let too_large = VnetHeader {
            segment: 60_000,
            ..header
        };
        let (_, mut jumbo) = large(1);
        jumbo.resize(20_000, 0);
        jumbo[2..4].copy_from_slice(&20_000u16.to_be_bytes());
        read(&mut worker, too_large, &jumbo);
        let mut unknown = header.encode();
        unknown[1] = 3; // fragments of UDP, which nobody asks for
        nix::unistd::write(&core, &[&unknown[..], &packet].concat()).expect("there is room");
        worker.read_tun();
        let totals = worker.shard.counters.totals();
        assert_eq!(totals.dropped(DropReason::MalformedIp), 4);
        assert_eq!(totals.downlink, 7);
    }

    /// Bursts have one TOS; numbers must not overtake one another for it.
    #[test]
    fn numbered_packets_of_different_tos_leave_in_their_order() {
        let (mut worker, core) = worker_with_offload();
        let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        lac.set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        let mut tunnel = tunnel(4);
        (tunnel.peer, tunnel.local) = (lac.local_addr().expect("it is bound"), None);
        worker.table.apply(TableUpdate::Tunnel(tunnel));
        let mut numbered = session(4, 13, [10, 0, 0, 3]);
        numbered.sequencing = true;
        numbered.shared = Arc::new(SessionShared::new(1, SendSequence::new(0, 4096)));
        worker.table.apply(TableUpdate::Session(numbered));

        let tos = [0, 0, 0xb8, 0, 0xb8, 0xb8, 0, 0];
        for (number, tos) in tos.iter().enumerate() {
            let (_, mut packet) = large(3);
            packet[1] = *tos;
            packet[28] = number as u8;
            let octets = [&VnetHeader::default().encode()[..], &packet].concat();
            nix::unistd::write(&core, &octets).expect("there is room");
        }
        worker.read_tun();
        worker.flush();
        let mut buffer = [0; 1500];
        for number in 0..tos.len() as u8 {
            let length = lac.recv(&mut buffer).expect("it comes");
            assert_eq!(
                (length, buffer[7], buffer[HEADROOM + 28]),
                (HEADROOM + 678, number, number)
            );
        }
    }

    /// Two shards with a numbered session, whose tunnel is the first one's; their TUN queues' other ends and its LAC.
    fn two_shards() -> ([Worker; 2], [OwnedFd; 2], UdpSocket) {
        let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        lac.set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        let shared = Arc::new(SessionShared::new(2, SendSequence::new(0, 4096)));
        let ((first, first_core), (second, second_core)) = (worker_with_offload(), worker_with_offload());
        let mut workers = [first, second];
        let remotes: Vec<_> = workers
            .iter()
            .map(|worker| worker.shard.shards[0].clone())
            .collect();
        for (at, worker) in workers.iter_mut().enumerate() {
            (worker.shard.policy.shard, worker.shard.policy.shards) = (at, 2);
            worker.shard.shards = remotes.clone();
            let mut tunnel = tunnel(4);
            (tunnel.peer, tunnel.local) = (lac.local_addr().expect("it is bound"), None);
            worker.table.apply(TableUpdate::Tunnel(tunnel));
            let mut numbered = session(4, 13, [10, 0, 0, 3]);
            (numbered.sequencing, numbered.shared) = (true, shared.clone());
            worker.table.apply(TableUpdate::Session(numbered));
        }
        (workers, [first_core, second_core], lac)
    }

    /// The kernel spreads the flows of one session over all TUN queues.
    #[test]
    fn numbers_leave_in_their_order_whichever_shard_reads_the_packets() {
        let ([mut first, mut second], cores, lac) = two_shards();
        let octets = [&VnetHeader::default().encode()[..], &large(3).1].concat();
        for (core, count) in cores.iter().zip([6, 2]) {
            for _ in 0..count {
                nix::unistd::write(core, &octets).expect("there is room");
            }
        }
        // The first holds its batch when the second, which sends at once, has read its packets.
        first.read_tun();
        second.read_tun();
        second.flush();
        first.take_passed();
        first.flush();
        let mut buffer = [0; 1500];
        for number in 0..8 {
            lac.recv(&mut buffer).expect("it comes");
            assert_eq!(buffer[7], number);
        }
        let (first, second) = (first.shard.counters.totals(), second.shard.counters.totals());
        assert_eq!((first.passed_in, first.downlink), (2, 8));
        assert_eq!((second.passed_on, second.downlink), (2, 0));
    }

    #[test]
    fn a_round_ends_though_more_comes_in() {
        let (mut worker, _core) = worker_with_offload();
        let endless = std::fs::File::open("/dev/zero").expect("every Linux has it");
        worker.shard.tun = Some(TunQueue::new(endless.into(), Offload::default()));
        worker.read_tun();
        let dropped = worker.shard.counters.totals().dropped(DropReason::MalformedIp);
        assert_eq!(dropped, OCTETS_PER_ROUND.div_ceil(65_535) as u64);
    }
}
