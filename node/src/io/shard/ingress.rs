//! The way in: what LACs send, and where it goes.

use std::net::SocketAddr;
use std::ops::Range;

use super::Worker;
use super::handover::Origin;
use crate::dataplane::DropReason;
use crate::dataplane::downlink::HEADROOM;
use crate::dataplane::icmp;
use crate::dataplane::ip::View;
use crate::dataplane::uplink::{self, Uplink};
use crate::io::MAX_DATAGRAM;
use crate::io::batch::{ReceiveBatch, Segments};
use crate::io::inbound::Inbound;
use crate::io::tun::{LEAST_WRITES, Written};

impl Worker {
    pub(super) fn receive(&mut self, socket: usize, receive: &mut ReceiveBatch) {
        if std::mem::take(&mut self.slept) {
            receive.ask_for_one();
        }
        let count = match receive.receive(&self.shard.sockets[socket]) {
            Ok(count) => count,
            Err(error) => {
                tracing::trace!(%error, "receive");
                return;
            }
        };
        self.take_updates();
        self.shard
            .counters
            .count_drops(DropReason::SocketFull, receive.lost());
        let listen = self.shard.sockets[socket].address;
        for at in 0..count {
            let Some(message) = receive.get(at) else {
                self.shard.counters.count_received(1);
                continue;
            };
            self.shard
                .counters
                .count_received(message.segments.datagrams() as u64);
            if message.truncated {
                self.shard
                    .counters
                    .count_drops(DropReason::Truncated, message.segments.datagrams() as u64);
                continue;
            }
            let origin = Origin {
                from: message.from,
                to: SocketAddr::new(message.to.unwrap_or(listen.ip()), listen.port()),
                segment: message.segments.size(),
            };
            self.handle_message(origin, message.segments, receive.octets());
        }
        self.write_coalesced(receive.octets());
    }

    /// Judges each datagram of a message, which is in `octets`, by itself. Packets for the TUN wait for others of their flow
    /// until [`Self::write_coalesced`].
    pub(super) fn handle_message(&mut self, origin: Origin, datagrams: Segments, octets: &mut [u8]) {
        for place in datagrams {
            let start = place.start;
            let Some(packet) = self.sort(origin, &mut octets[place]) else {
                continue;
            };
            if self.coalescer.is_full() {
                self.write_coalesced(octets);
            }
            self.coalescer
                .add(octets, start + packet.start..start + packet.end);
        }
        self.hand_over(origin);
    }

    #[cfg(test)]
    pub(super) fn handle_datagram(&mut self, octets: &mut [u8], from: SocketAddr, to: SocketAddr) {
        let segment = octets.len().max(1);
        let origin = Origin { from, to, segment };
        self.handle_message(origin, Segments::new(0..octets.len(), segment), octets);
        self.write_coalesced(octets);
    }

    /// Writes what has been coalesced, whose packets are in `octets`, to the TUN.
    pub(super) fn write_coalesced(&mut self, octets: &mut [u8]) {
        if self.coalescer.waiting() >= LEAST_WRITES && self.ring.is_some() {
            self.write_together(octets);
        }
        while let Some(large) = self.coalescer.take(octets) {
            let tun = self.shard.tun.as_ref();
            let taken = tun.is_some_and(|tun| tun.write_joined(&large, octets).is_ok());
            let packets = large.packets as u64;
            let refused = if taken { 0 } else { packets };
            self.shard.counters.count_to_tun(packets - refused, refused);
        }
    }

    /// As [`Self::write_coalesced`], many packets by one system call.
    fn write_together(&mut self, octets: &mut [u8]) {
        let (Some(ring), Some(tun)) = (&mut self.ring, &self.shard.tun) else {
            return;
        };
        let mut written = Written::default();
        while let Some(large) = self.coalescer.take(octets) {
            if ring.is_full(&large) {
                written += ring.write(tun, octets);
            }
            ring.add(&large);
        }
        written += ring.write(tun, octets);
        self.shard.counters.count_to_tun(written.taken, written.refused);
        if ring.is_broken() {
            self.ring = None;
            self.shard.counters.count_fallbacks(1);
            tracing::info!(
                shard = self.shard.policy.shard,
                "the kernel does not take writes to the TUN by io_uring (Linux 6.4 does): packets of many flows to the core cost a \
                 system call each"
            );
        }
    }

    /// Brings a datagram where it belongs, but for an IP packet for the TUN: that one's place is returned.
    fn sort(&mut self, origin: Origin, octets: &mut [u8]) -> Option<Range<usize>> {
        if octets.len() > MAX_DATAGRAM {
            self.shard.counters.count_drop(DropReason::Truncated);
            return None;
        }
        let Origin { from, to, .. } = origin;
        let policy = &self.shard.policy;
        match uplink::classify(&mut self.table, policy, from, octets, self.now.as_millis() as u64) {
            Uplink::Packet { .. } | Uplink::Echo { .. } | Uplink::LcpEcho { .. } if !self.forwards => {
                self.shard.counters.count_drop(DropReason::Isolated);
            }
            Uplink::Packet { session, packet } => {
                if !self.lets_leave(session, &octets[packet.clone()]) {
                    return None;
                }
                let (session, policy) = (self.table.session(session), &self.shard.policy);
                if session.admits(self.now, packet.len()) {
                    session.shared.count_received(policy.shard, packet.len());
                    return Some(packet);
                }
                self.shard.counters.count_drop(DropReason::RateUp);
            }
            Uplink::Control { tunnel, end } => {
                let datagram = octets[..end].to_vec();
                if self.tell(Inbound::Control {
                    from,
                    to,
                    tunnel,
                    datagram,
                }) {
                    self.shard.counters.count_control();
                }
            }
            Uplink::Ppp {
                tunnel,
                session,
                frame,
            } => {
                let frame = octets[frame].to_vec();
                if self.tell(Inbound::Ppp {
                    tunnel,
                    session,
                    frame,
                }) {
                    self.shard.counters.count_ppp();
                }
            }
            Uplink::Echo { session, packet } => self.answer_echo(session, &octets[packet]),
            Uplink::LcpEcho { session, packet } => self.answer_lcp_echo(session, &octets[packet]),
            Uplink::Foreign { shard } => self.keep_for(shard, origin, octets),
            Uplink::Drop(reason) => self.shard.counters.count_drop(reason),
        }
        None
    }

    /// Gives a message to this shard's control side; false if it has too many.
    fn tell(&self, message: Inbound) -> bool {
        let control = &self.shard.inbound[self.shard.policy.shard];
        let (room, all) = (control.capacity(), control.max_capacity());
        let is_setup = matches!(message, Inbound::Control { tunnel: 0, .. });
        if is_setup && room <= all / 2 {
            self.shard.counters.count_drop(DropReason::SetupFull);
            return false;
        }
        // A subscriber that floods with frames leaves room for the messages of all tunnels.
        let is_ppp = matches!(message, Inbound::Ppp { .. });
        let told = (!is_ppp || room > all / 4) && control.try_send(message).is_ok();
        if !told {
            self.shard.counters.count_drop(DropReason::InboundFull);
        }
        told
    }

    /// False if there is no TUN or its queue in the kernel is full.
    pub(super) fn write_tun(&self, packet: &[u8]) -> bool {
        self.shard
            .tun
            .as_ref()
            .is_some_and(|tun| tun.write(packet).is_ok())
    }

    fn answer_echo(&mut self, session: u32, request: &[u8]) {
        let shard = self.shard.policy.shard;
        self.table
            .session(session)
            .shared
            .count_received(shard, request.len());
        self.shard.counters.count_uplink(1);
        let packet = &mut self.free_slot()[HEADROOM..HEADROOM + request.len()];
        packet.copy_from_slice(request);
        let view = View::parse(packet).expect("it was parsed when it was received");
        icmp::answer_echo(packet, &view);
        let view = View::parse(packet).expect("the answer has the form of the request");
        self.deliver(session, view);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::atomic::Ordering::Relaxed;

    use etherparse::PacketBuilder;
    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrStorage, recv, sendmsg,
        socketpair,
    };

    use super::*;
    use crate::dataplane::TableUpdate;
    use crate::dataplane::offload::vnet::VNET_HEADER;
    use crate::dataplane::offload::{Coalescer, VnetHeader};
    use crate::dataplane::table::tests::{session, tunnel};
    use crate::io::inbound::{self, INBOUND_CAPACITY};
    use crate::io::mailbox::HandedOver;
    use crate::io::poller::Poller;
    use crate::io::shard::Ready;
    use crate::io::shard::backlog::tests::worker;
    use crate::io::tun::{Offload, TunQueue, WriteRing};

    /// Tunnels 4 and 8, each with a session 10; a worker whose TUN takes large packets, the LAC and the TUN's other end.
    fn lns() -> (Worker, UdpSocket, OwnedFd) {
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
            tcp: true,
            udp: true,
            lacks: 0,
        };
        worker.shard.tun = Some(TunQueue::new(tun, offload));
        worker.coalescer = Coalescer::new(true, true);
        let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        for id in [4, 8] {
            let mut entry = tunnel(id);
            entry.peer = lac.local_addr().expect("it is bound");
            worker.table.apply(TableUpdate::Tunnel(entry));
            let mut session = session(id, 10, [10, 0, 0, id as u8]);
            session.shared = std::sync::Arc::new(crate::dataplane::SessionShared::new(
                1,
                crate::dataplane::sequence::SendSequence::default(),
            ));
            worker.table.apply(TableUpdate::Session(session));
        }
        worker.look_for_stall(&mut ReceiveBatch::new());
        (worker, lac, core)
    }

    /// A datagram of the subscriber of `tunnel` in a data message; `source` is the last octet of its address.
    fn data(tunnel: u8, source: u8, identification: u16) -> Vec<u8> {
        let mut header = etherparse::Ipv4Header::new(
            28,
            64,
            etherparse::IpNumber(17),
            [10, 0, 0, source],
            [192, 0, 2, 9],
        )
        .expect("it is short");
        header.identification = identification;
        let mut packet = vec![0, 2, 0, tunnel, 0, 10, 0xff, 3, 0, 0x21];
        PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
            .udp(5000, 53)
            .write(&mut packet, &[7; 20])
            .expect("a vector takes it");
        packet
    }

    fn send(lac: &UdpSocket, datagrams: &[Vec<u8>], to: SocketAddr) {
        let size = datagrams[0].len() as u16;
        let control = [ControlMessage::UdpGsoSegments(&size)];
        let (whole, to) = (datagrams.concat(), SockaddrStorage::from(to));
        let slices = [std::io::IoSlice::new(&whole)];
        let sent = sendmsg(lac.as_raw_fd(), &slices, &control, MsgFlags::empty(), Some(&to));
        assert_eq!(sent, Ok(whole.len()));
    }

    /// What was written to the TUN: octets of payload in each packet, 0 for a single one, and the length of all.
    fn written(core: &OwnedFd) -> Vec<(u16, usize)> {
        let mut buffer = [0; 70_000];
        std::iter::from_fn(|| {
            let length = recv(core.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
            let header = buffer.first_chunk::<VNET_HEADER>().expect("a header comes first");
            let header = VnetHeader::decode(*header).expect("of a known kind");
            Some((header.segment, length - VNET_HEADER))
        })
        .collect()
    }

    /// The packets that were written to the TUN, none of them large.
    fn whole(core: &OwnedFd) -> Vec<Vec<u8>> {
        let mut buffer = [0; 70_000];
        std::iter::from_fn(|| {
            let length = recv(core.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
            assert_eq!(buffer[..VNET_HEADER], [0; VNET_HEADER]);
            Some(buffer[VNET_HEADER..length].to_vec())
        })
        .collect()
    }

    #[test]
    fn each_datagram_of_a_message_is_judged_by_itself_and_packets_of_a_flow_leave_as_one() {
        let (mut worker, lac, core) = lns();
        let to = worker.shard.sockets[0].address;
        let datagrams = [
            data(4, 4, 1),
            data(8, 8, 1),
            data(4, 99, 2),
            data(4, 4, 2),
            data(9, 4, 3),
            data(8, 8, 2),
            data(4, 4, 3),
        ];
        send(&lac, &datagrams, to);
        lac.send_to(&data(4, 4, 4), to).expect("loopback takes it");
        worker.receive(0, &mut ReceiveBatch::new());
        assert_eq!(written(&core), [(20, 28 + 4 * 20), (20, 28 + 2 * 20)]);
        let totals = worker.shard.counters.totals();
        assert_eq!((totals.received, totals.uplink), (8, 6));
        assert_eq!(totals.dropped(DropReason::SourceAddress), 1);
        assert_eq!(totals.dropped(DropReason::UnknownTunnel), 1);
        let of_session = |tunnel| {
            let index = worker.table.find_session(tunnel, 10).expect("it exists");
            worker.table.session(index).shared.totals().received_packets
        };
        assert_eq!((of_session(4), of_session(8)), (4, 2));
    }

    #[test]
    fn a_refused_large_packet_counts_as_the_packets_in_it() {
        let (mut worker, lac, core) = lns();
        drop(core);
        send(
            &lac,
            &[1, 2, 3].map(|at| data(4, 4, at)),
            worker.shard.sockets[0].address,
        );
        worker.receive(0, &mut ReceiveBatch::new());
        let totals = worker.shard.counters.totals();
        assert_eq!((totals.uplink, totals.dropped(DropReason::TunRefused)), (0, 3));
    }

    /// Without the ring, and with it.
    #[test]
    fn packets_of_many_flows_are_all_written_in_order() {
        let written_with = |with_ring: bool| {
            let (mut worker, lac, core) = lns();
            worker.ring =
                with_ring.then(|| WriteRing::open().expect("io_uring is permitted where the tests run"));
            let datagrams: Vec<_> = (0..40u8)
                .map(|at| [data(4, 4, 1), data(8, 8, 1)][usize::from(at) % 2].clone())
                .enumerate()
                .map(|(at, mut datagram)| {
                    // Another port each, but for the last ten; no checksum is right then and nothing joins.
                    datagram[31] = at.min(30) as u8;
                    datagram
                })
                .collect();
            send(&lac, &datagrams, worker.shard.sockets[0].address);
            worker.receive(0, &mut ReceiveBatch::new());
            assert_eq!(worker.ring.is_some(), with_ring);
            let expected: Vec<_> = datagrams.iter().map(|datagram| datagram[10..].to_vec()).collect();
            assert_eq!(whole(&core), expected);
            let totals = worker.shard.counters.totals();
            assert_eq!((totals.uplink, totals.dropped(DropReason::TunRefused)), (40, 0));
        };
        written_with(false);
        written_with(true);
    }

    #[test]
    fn many_packets_that_the_tun_does_not_take_are_each_counted() {
        let (mut worker, lac, core) = lns();
        worker.ring = Some(WriteRing::open().expect("io_uring is permitted where the tests run"));
        drop(core);
        let datagrams: Vec<_> = (0..6)
            .map(|at| data(4 + 4 * (at % 2), 4 + 4 * (at % 2), 7))
            .collect();
        send(&lac, &datagrams, worker.shard.sockets[0].address);
        worker.receive(0, &mut ReceiveBatch::new());
        let totals = worker.shard.counters.totals();
        assert_eq!((totals.uplink, totals.dropped(DropReason::TunRefused)), (0, 6));
    }

    #[test]
    fn a_node_that_may_not_forward_drops_each_packet() {
        let (mut worker, lac, core) = lns();
        worker.shard.forward_until_ms.store(0, Relaxed);
        let mut receive = ReceiveBatch::new();
        worker.look_for_stall(&mut receive);
        send(
            &lac,
            &[1, 2, 3].map(|at| data(4, 4, at)),
            worker.shard.sockets[0].address,
        );
        worker.receive(0, &mut receive);
        assert_eq!(worker.shard.counters.totals().dropped(DropReason::Isolated), 3);
        assert_eq!(written(&core), []);
        let index = worker.table.find_session(4, 10).expect("it exists");
        assert_eq!(worker.table.session(index).shared.totals().received_packets, 0);
    }

    /// What a batch holds goes by parts if it is more than the coalescer holds.
    #[test]
    fn a_batch_of_more_packets_than_are_held_at_once_is_written_whole() {
        let (mut worker, lac, core) = lns();
        let mut receive = ReceiveBatch::new();
        let messages = crate::dataplane::offload::coalesce::CAPACITY / 64 + 2;
        for message in 0..messages as u16 {
            let datagrams: Vec<_> = (0..64).map(|at| data(4, 4, message * 64 + at)).collect();
            send(&lac, &datagrams, worker.shard.sockets[0].address);
        }
        worker.receive(0, &mut receive);
        // The pair of sockets in place of the TUN holds fewer than come: what it refuses is counted.
        let totals = worker.shard.counters.totals();
        let packets: usize = written(&core).iter().map(|(_, length)| (length - 28) / 20).sum();
        assert_eq!(totals.received, messages as u64 * 64);
        assert_eq!(packets as u64, totals.uplink);
        assert_eq!(
            totals.uplink + totals.dropped(DropReason::TunRefused),
            totals.received
        );
        assert!(totals.uplink > 0);
    }

    /// What another shard handed over was sent before what has come to this shard's socket since.
    #[test]
    fn what_was_handed_over_comes_before_what_waits_in_the_socket() {
        let (mut worker, lac, core) = lns();
        let (from, to) = (
            lac.local_addr().expect("it is bound"),
            worker.shard.sockets[0].address,
        );
        let handed_over = HandedOver {
            from,
            to,
            octets: data(4, 4, 1),
            segment: data(4, 4, 1).len(),
        };
        let neighbour = &worker.shard.shards[0].handed_over;
        neighbour.try_send(handed_over).expect("there is room");
        let mut longer = data(4, 4, 2);
        longer[13] += 1; // its length, and so its checksum's difference: it joins nothing
        longer.push(0);
        lac.send_to(&longer, to).expect("loopback takes it");
        let mut poller = Poller::default();
        let mut ready = Ready {
            wake: poller.add(&*worker.shard.mailbox.wake),
            sockets: worker
                .shard
                .sockets
                .iter()
                .map(|socket| poller.add(socket))
                .collect(),
            tun: None,
            poller,
        };
        worker.round(&mut ready, &mut ReceiveBatch::new());
        assert_eq!(written(&core), [(0, 48), (0, 49)]);
    }

    #[test]
    fn a_subscriber_that_floods_with_frames_leaves_room_for_control_messages() {
        let (mut worker, lac, _core) = lns();
        let (from, to) = (
            lac.local_addr().expect("it is bound"),
            worker.shard.sockets[0].address,
        );
        let (inbound, _control_side) = inbound::channels(1);
        worker.shard.inbound = inbound;
        let frame = [0, 2, 0, 4, 0, 10, 0xff, 3, 0xc0, 0x21, 9, 1, 0, 4];
        for _ in 0..INBOUND_CAPACITY {
            worker.handle_datagram(&mut frame.clone(), from, to);
        }
        let hello = [0xc8, 2, 0, 12, 0, 4, 0, 0, 0, 1, 0, 1];
        worker.handle_datagram(&mut hello.clone(), from, to);
        let totals = worker.shard.counters.totals();
        assert_eq!((totals.ppp, totals.control), (INBOUND_CAPACITY as u64 * 3 / 4, 1));
        assert_eq!(
            totals.dropped(DropReason::InboundFull),
            INBOUND_CAPACITY as u64 / 4
        );
    }

    #[test]
    fn a_datagram_that_is_too_long_is_counted_though_its_message_is_not() {
        let (mut worker, lac, _core) = lns();
        let long = vec![0; MAX_DATAGRAM + 1];
        lac.send_to(&long, worker.shard.sockets[0].address)
            .expect("loopback takes it");
        worker.receive(0, &mut ReceiveBatch::new());
        let totals = worker.shard.counters.totals();
        assert_eq!((totals.received, totals.dropped(DropReason::Truncated)), (1, 1));
    }
}
