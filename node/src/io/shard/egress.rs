//! The way out of a shard: messages of the control side, packets for subscribers, and who is told that one is too big.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_protocol::{SessionId, TunnelId};

use super::Worker;
use crate::dataplane::downlink::{self, Downlink, HEADROOM};
use crate::dataplane::fragment::Fragments;
use crate::dataplane::ip::View;
use crate::dataplane::{DropReason, SessionShared, header, icmp, lcp_echo};
use crate::io::batch::{BATCH, Destination};
use crate::io::handle::PppRoute;
use crate::io::inbound::Inbound;
use crate::io::mailbox::{OUTGOING_CAPACITY, Outgoing};
use crate::io::passage::{NotPassed, PASSED_PER_SECOND};
use crate::io::socket::ShardSocket;
use crate::io::{MAX_DATAGRAM, clock};

/// Messages of the control side that are sent in one round.
const OUTGOING_PER_ROUND: usize = 4 * BATCH;
/// "Packet too big" messages that a shard sends in one second at most (RFC 1812 §4.3.2.8).
const ICMP_PER_SECOND: u32 = 1000;
/// LCP Echo-Requests that a shard answers in one second at most; more are dropped and counted as `echo_rate`. 200,000 subscribers
/// that ask every ten seconds stay below it.
const LCP_ECHOES_PER_SECOND: u32 = 20_000;
/// Address, Control and Protocol in front of an LCP packet (RFC 1662 §3.1).
const LCP_FRAME: [u8; 4] = [0xff, 0x03, 0xc0, 0x21];

impl Worker {
    pub(super) fn send_outgoing(&mut self) {
        for _ in 0..OUTGOING_PER_ROUND {
            let Ok(message) = self.shard.mailbox.outgoing.try_recv() else {
                break;
            };
            let result = match message {
                Outgoing::Control {
                    local,
                    peer,
                    datagram,
                } => self.send_control(local, peer, &datagram),
                Outgoing::Ppp {
                    route,
                    frame,
                    fresh_until,
                } => self.send_ppp(&route, &frame, fresh_until),
            };
            if let Err(reason) = result {
                self.shard.counters.count_drop(reason);
            }
        }
        // At once: a frame's deadline was looked at just now.
        self.flush();
    }

    /// Sends what was given before the end.
    pub(super) fn send_last(&mut self) {
        for _ in 0..OUTGOING_CAPACITY.div_ceil(OUTGOING_PER_ROUND) {
            self.send_outgoing();
        }
    }

    fn send_control(
        &mut self,
        local: Option<SocketAddr>,
        peer: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let destination = destination(&self.shard.sockets, local, peer, 0)?;
        self.free_slot()
            .get_mut(..datagram.len())
            .ok_or(DropReason::Oversize)?
            .copy_from_slice(datagram);
        self.send.push(&destination, 0..datagram.len(), true);
        Ok(())
    }

    fn send_ppp(
        &mut self,
        route: &PppRoute,
        frame: &[u8],
        fresh_until: Option<Duration>,
    ) -> Result<(), DropReason> {
        if fresh_until.is_some_and(|deadline| clock::since_boot() > deadline) {
            return Err(DropReason::Stale);
        }
        if frame.len() > MAX_DATAGRAM {
            return Err(DropReason::Oversize);
        }
        let destination = destination(&self.shard.sockets, route.local, route.peer, 0)?;
        let mut ns = None;
        if route.sequencing {
            let number = downlink::number(&route.shared, self.shard.policy.shard);
            let (Ok((_, ask)) | Err(ask)) = number;
            self.ask_for_numbers(route.tunnel, route.session, &route.shared, ask);
            ns = number.map_err(|_| DropReason::SequenceExhausted)?.0;
        }
        let slot = self.free_slot();
        slot[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
        let start = header::write_data(
            slot,
            HEADROOM,
            route.peer_tunnel.get(),
            route.peer_session.get(),
            ns,
        );
        self.send.push(&destination, start..HEADROOM + frame.len(), true);
        Ok(())
    }

    /// Answers an LCP Echo-Request. The session has no numbers.
    pub(super) fn answer_lcp_echo(&mut self, session: u32, request: &[u8]) {
        if !self.lcp_echoes.take(self.now, LCP_ECHOES_PER_SECOND) {
            return self.shard.counters.count_drop(DropReason::EchoRate);
        }
        let session = self.table.session(session);
        let tunnel = self.table.tunnel_of(session);
        let destination = match destination(&self.shard.sockets, tunnel.local, tunnel.peer, 0) {
            Ok(destination) => destination,
            Err(reason) => return self.shard.counters.count_drop(reason),
        };
        let (magics, peer_session, peer_tunnel) = (session.magics, session.peer_session, tunnel.peer_tunnel);
        let slot = self.free_slot();
        let (frame, packet) =
            slot[HEADROOM..][..LCP_FRAME.len() + request.len()].split_at_mut(LCP_FRAME.len());
        frame.copy_from_slice(&LCP_FRAME);
        packet.copy_from_slice(request);
        lcp_echo::answer(packet, magics);
        let start = header::write_data(slot, HEADROOM, peer_tunnel.get(), peer_session.get(), None);
        let end = HEADROOM + LCP_FRAME.len() + request.len();
        self.send.push(&destination, start..end, false);
        self.shard.counters.count_lcp_echo();
    }

    /// Sends the packet in the free slot to a session, or to the node or the shard that numbers the session's packets.
    pub(super) fn deliver(&mut self, session: u32, view: View) {
        let entry = self.table.session(session);
        if downlink::is_numbered_elsewhere(entry) {
            return self.pass(session, view.length);
        }
        match downlink::numbering_shard(&self.table, entry, &self.shard.policy) {
            Some(shard) => self.pass_to_shard(shard, view.length),
            None => self.deliver_here(session, view),
        }
    }

    /// As [`Self::deliver`], for a packet that another node has passed here: nobody passes it on.
    pub(super) fn deliver_passed(&mut self, session: u32, view: View) {
        if downlink::is_numbered_elsewhere(self.table.session(session)) {
            self.shard.counters.count_drop(DropReason::PassAstray);
        } else {
            self.deliver_here(session, view);
        }
    }

    /// Passes the packet of `length` octets in the free slot to the node that owns the session.
    fn pass(&mut self, session: u32, length: usize) {
        let session = self.table.session(session);
        let dropped = if !session.open {
            Err(DropReason::NotOpen)
        } else if !self.passed.take(self.now, PASSED_PER_SECOND) {
            Err(DropReason::PassFull)
        } else {
            let packet = &self.send.slot()[HEADROOM..HEADROOM + length];
            let tunnel = self.table.tunnel_of(session).id;
            let passage = self.shard.passage.as_ref();
            let passed = passage.map_or(Err(NotPassed::NoOwner), |passage| passage.pass(tunnel, packet));
            passed.map_err(|why| match why {
                NotPassed::NoOwner => DropReason::NoOwner,
                NotPassed::Full => DropReason::PassFull,
            })
        };
        match dropped {
            Ok(()) => self.shard.counters.count_passed_on(),
            Err(reason) => self.shard.counters.count_drop(reason),
        }
    }

    /// Passes the packet of `length` octets in the free slot to the shard whose batch is to hold all numbers of its session: two
    /// shards send their batches when they like, and a LAC that keeps the order drops what comes late.
    fn pass_to_shard(&mut self, shard: usize, length: usize) {
        let packet = self.send.slot()[HEADROOM..HEADROOM + length].to_vec();
        let neighbour = &self.shard.shards[shard];
        if neighbour.passed.try_send(packet).is_ok() {
            neighbour.wake.notify();
            self.shard.counters.count_passed_on();
        } else {
            self.shard.counters.count_drop(DropReason::PassFull);
        }
    }

    /// Sends the packet in the free slot to a session, when the session's rate lets it.
    fn deliver_here(&mut self, session: u32, view: View) {
        if self.shape(session, &view) {
            self.send_judged(session, view);
        }
    }

    /// Sends the packet in the free slot to a session, whole, in fragments or not at all.
    pub(super) fn send_judged(&mut self, session: u32, view: View) {
        let packet = &mut self.send.slot()[HEADROOM..HEADROOM + view.length];
        match downlink::judge(self.table.session(session), &self.shard.policy, packet, view) {
            Downlink::Send(view) => self.depart(session, HEADROOM, view.length, view.dscp_bits),
            Downlink::Fragment { view, mtu } => self.fragment(session, view, mtu),
            Downlink::TooBig { view, mtu } => {
                self.shard.counters.count_drop(DropReason::TooBig);
                self.tell_too_big(view, mtu);
            }
            Downlink::Drop(reason) => self.shard.counters.count_drop(reason),
        }
    }

    /// Encapsulates the packet of `length` octets at `at` in the free slot; see [`downlink::encapsulate`].
    pub(super) fn depart(&mut self, session: u32, at: usize, length: usize, tos: u8) {
        let session = self.table.session(session);
        let tunnel = self.table.tunnel_of(session);
        let destination = match destination(&self.shard.sockets, tunnel.local, tunnel.peer, tos) {
            Ok(destination) => destination,
            Err(reason) => return self.shard.counters.count_drop(reason),
        };
        let policy = &self.shard.policy;
        let result = downlink::encapsulate(&self.table, session, policy, self.send.slot(), at, length);
        let ask = match result {
            Ok(encapsulated) => {
                let octets = encapsulated.start..at + length;
                self.send.push(&destination, octets, session.sequencing);
                self.shard.counters.count_downlink();
                encapsulated.ask
            }
            Err(ask) => {
                self.shard.counters.count_drop(DropReason::SequenceExhausted);
                ask
            }
        };
        self.ask_for_numbers(tunnel.id, session.id, &session.shared, ask);
    }

    fn fragment(&mut self, session: u32, view: View, mtu: u16) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch[..view.length].copy_from_slice(&self.send.slot()[HEADROOM..HEADROOM + view.length]);
        match Fragments::new(&scratch[..view.length], view.header, mtu) {
            Some(mut fragments) => {
                while let Some(length) = fragments.next_into(&mut self.free_slot()[HEADROOM..]) {
                    self.depart(session, HEADROOM, length, view.dscp_bits);
                }
            }
            None => self.shard.counters.count_drop(DropReason::TooBig),
        }
        self.scratch = scratch;
    }

    /// Tells the sender of the packet in the free slot what fits (S-101).
    fn tell_too_big(&mut self, view: View, mtu: u16) {
        let mut out = [0; icmp::MAX_ERROR];
        let packet = &self.send.slot()[HEADROOM..HEADROOM + view.length];
        if let Some(length) = icmp::error(packet, &view, icmp::Error::TooBig(mtu), &mut out)
            && self.icmp.take(self.now, ICMP_PER_SECOND)
        {
            self.write_tun(&out[..length]);
        }
    }

    fn ask_for_numbers(
        &self,
        tunnel: TunnelId,
        session: SessionId,
        shared: &SessionShared,
        ask: Option<u64>,
    ) {
        let Some(reserved) = ask else { return };
        let control = &self.shard.inbound[tunnel.shard(self.shard.policy.shards)];
        if control
            .try_send(Inbound::SequenceLow {
                tunnel,
                session,
                reserved,
            })
            .is_err()
        {
            shared.sequence.ask_again();
        }
    }

    /// A buffer for the next datagram, made free if need be.
    pub(super) fn free_slot(&mut self) -> &mut [u8] {
        if self.send.is_full() {
            self.flush();
        }
        self.send.slot()
    }

    pub(super) fn flush(&mut self) {
        let flushed = self.send.flush(&self.shard.sockets);
        self.shard.counters.count_sent(flushed.sent);
        self.shard
            .counters
            .count_drops(DropReason::OuterTooBig, flushed.too_big);
        self.shard
            .counters
            .count_drops(DropReason::SendFailed, flushed.failed);
        self.shard.counters.count_fallbacks(flushed.taken_apart);
    }
}

/// By which socket and from which address a datagram to `peer` leaves: from where the peer sends to (RFC 2661 §8.1), or
/// if that is not known, or no longer listened at, from the first socket of its family.
pub(super) fn destination(
    sockets: &[ShardSocket],
    local: Option<SocketAddr>,
    peer: SocketAddr,
    tos: u8,
) -> Result<Destination, DropReason> {
    let local = local.filter(|local| local.is_ipv4() == peer.is_ipv4());
    let listens = |socket: &ShardSocket, local: SocketAddr| {
        let address = socket.address;
        address.port() == local.port() && (address.ip() == local.ip() || address.ip().is_unspecified())
    };
    let of_family = |socket: &&ShardSocket| socket.address.is_ipv4() == peer.is_ipv4();
    let candidates = || sockets.iter().enumerate().filter(|(_, socket)| of_family(socket));
    let exact = local.and_then(|local| candidates().find(|(_, socket)| listens(socket, local)));
    let (socket, _) = exact
        .or_else(|| candidates().next())
        .ok_or(DropReason::NoSocket)?;
    let source = local
        .map(|local| local.ip())
        .filter(|source| !source.is_unspecified());
    Ok(Destination {
        socket,
        to: peer,
        source,
        tos,
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::Ordering::Relaxed;

    use etherparse::PacketBuilder;

    use super::*;
    use crate::dataplane::TableUpdate;
    use crate::dataplane::sequence::SendSequence;
    use crate::dataplane::table::tests::{peer, session, tunnel};
    use crate::io::batch::ReceiveBatch;
    use crate::io::mailbox::Remote;
    use crate::io::passage::Passage;
    use crate::io::shard::backlog::tests::worker;

    /// Takes everything.
    struct Elsewhere;

    impl Passage for Elsewhere {
        fn pass(&self, _: TunnelId, _: &[u8]) -> Result<(), NotPassed> {
            Ok(())
        }
    }

    /// A worker with a sequenced session that another node numbers, and an unsequenced one; and their indexes.
    fn worker_with_sessions() -> (Worker, [u32; 2]) {
        let (mut worker, _, _) = worker();
        worker.shard.passage = Some(std::sync::Arc::new(Elsewhere));
        worker.table.apply(TableUpdate::Tunnel(tunnel(4)));
        for (id, sequencing) in [(10, true), (11, false)] {
            let mut entry = session(4, id, [10, 0, 0, 1]);
            entry.sequencing = sequencing;
            entry.shared = std::sync::Arc::new(SessionShared::new(1, SendSequence::elsewhere(0)));
            worker.table.apply(TableUpdate::Session(entry));
        }
        let indexes = [10, 11].map(|id| worker.table.find_session(4, id).expect("it exists"));
        (worker, indexes)
    }

    #[test]
    fn so_many_packets_are_passed_in_a_second() {
        let (mut worker, [sequenced, _]) = worker_with_sessions();
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 9], [10, 0, 0, 1], 64)
            .udp(53, 53)
            .write(&mut packet, b"data")
            .expect("a vector takes it");
        for second in [7, 8] {
            worker.now = Duration::from_secs(second);
            for _ in 0..PASSED_PER_SECOND + 3 {
                worker.free_slot()[HEADROOM..][..packet.len()].copy_from_slice(&packet);
                let view = View::parse(&packet).expect("it is whole");
                worker.deliver(sequenced, view);
            }
        }
        let totals = worker.shard.counters.totals();
        let passed = (
            totals.passed_on,
            totals.dropped(DropReason::PassFull),
            totals.downlink,
        );
        assert_eq!(passed, (2 * u64::from(PASSED_PER_SECOND), 6, 0));
    }

    #[test]
    fn so_many_lcp_echoes_are_answered_in_a_second() {
        let (mut worker, [_, unsequenced]) = worker_with_sessions();
        worker.now = Duration::from_secs(7);
        for _ in 0..LCP_ECHOES_PER_SECOND + 3 {
            worker.answer_lcp_echo(unsequenced, &[9, 1, 0, 8, 0, 0, 0, 9]);
        }
        let totals = worker.shard.counters.totals();
        let answered = (totals.lcp_echoes, totals.dropped(DropReason::EchoRate));
        assert_eq!(answered, (u64::from(LCP_ECHOES_PER_SECOND), 3));
    }

    /// Lets one packet of each kind come in: from another node, from the core, and data and an echo from the LAC.
    fn one_of_each(worker: &mut Worker, remote: &Remote, core: &OwnedFd) {
        let packet = |from, to| {
            let mut packet = Vec::new();
            PacketBuilder::ipv4(from, to, 64)
                .udp(53, 53)
                .write(&mut packet, b"data")
                .expect("a vector takes it");
            packet
        };
        let down = packet([192, 0, 2, 9], [10, 0, 0, 1]);
        let up = packet([10, 0, 0, 1], [192, 0, 2, 9]);
        worker.look_for_stall(&mut ReceiveBatch::new());
        remote.passed.try_send(down.clone()).expect("there is room");
        worker.take_passed();
        nix::unistd::write(core, &down).expect("there is room");
        worker.read_tun();
        let (from, to) = (peer(), worker.shard.sockets[0].address);
        for (protocol, information) in [([0, 0x21], &up[..]), ([0xc0, 0x21], &[9, 1, 0, 8, 0, 0, 0, 9])] {
            let mut datagram = vec![0, 2, 0, 4, 0, 11, 0xff, 3];
            datagram.extend_from_slice(&protocol);
            datagram.extend_from_slice(information);
            worker.handle_datagram(&mut datagram, from, to);
        }
    }

    #[test]
    fn past_the_isolation_limit_nothing_is_forwarded_and_later_again() {
        let (mut worker, remote, core) = worker();
        worker.table.apply(TableUpdate::Tunnel(tunnel(4)));
        worker
            .table
            .apply(TableUpdate::Session(session(4, 11, [10, 0, 0, 1])));
        // Milliseconds since boot until which this node may forward, and what has been forwarded and dropped by then: up, down,
        // echoes, drops.
        for (until_ms, expected) in [
            (u64::MAX, (1, 2, 1, 0)),
            (1, (1, 2, 1, 4)),
            (0, (1, 2, 1, 8)),
            (u64::MAX, (2, 4, 2, 8)),
        ] {
            worker.shard.forward_until_ms.store(until_ms, Relaxed);
            one_of_each(&mut worker, &remote, &core);
            let totals = worker.shard.counters.totals();
            let dropped = totals.dropped(DropReason::Isolated);
            let counted = (totals.uplink, totals.downlink, totals.lcp_echoes, dropped);
            assert_eq!(counted, expected, "until {until_ms}");
        }
    }
}
