//! Packets for subscribers that wait for their session's rate ([`crate::dataplane::rate`]).

use std::time::Duration;

use super::Worker;
use crate::dataplane::DropReason;
use crate::dataplane::downlink::HEADROOM;
use crate::dataplane::ip::View;
use crate::dataplane::rate::{Limit, Offered};
use crate::io::stall::LONGEST_WAIT;

/// poll(2) counts these.
const MILLISECOND: Duration = Duration::from_millis(1);

impl Worker {
    /// Whether the packet in the free slot may leave for the session now; otherwise it waits, or is dropped and counted.
    pub(super) fn shape(&mut self, session: u32, view: &View) -> bool {
        let session = self.table.session(session);
        let Some(limit) = session.down_limit().filter(|_| session.open) else {
            return true;
        };
        let ids = (self.table.tunnel_of(session).id.get(), session.id.get());
        let packet = &self.send.slot()[HEADROOM..HEADROOM + view.length];
        let bucket = &session.shared.buckets.down;
        match self.shaper.offer(ids, packet, view, self.now, &limit, bucket) {
            Offered::Send => return true,
            Offered::Waits { dropped } => {
                self.shard
                    .counters
                    .count_drops(DropReason::RateDown, dropped.into());
            }
            Offered::Full => self.shard.counters.count_drop(DropReason::RateFull),
        }
        false
    }

    /// Whether packets for the session, `octets` in all, leave at once.
    pub(super) fn passes(&self, session: u32, octets: usize) -> bool {
        let session = self.table.session(session);
        let Some(limit) = session.down_limit() else {
            return true;
        };
        let ids = (self.table.tunnel_of(session).id.get(), session.id.get());
        let bucket = &session.shared.buckets.down;
        self.shaper.passes(ids, octets, self.now, &limit, bucket)
    }

    /// How long the thread may sleep for what waits here.
    pub(super) fn shaper_wait(&self, now: Duration) -> Duration {
        let due = self.shaper.next_due();
        due.map_or(LONGEST_WAIT, |due| {
            let wait = due.saturating_sub(now);
            // Rounded up: poll(2) would return at once in the last millisecond.
            let round = if wait.is_zero() { wait } else { wait + MILLISECOND };
            round.min(LONGEST_WAIT)
        })
    }

    /// Sends what may leave now.
    pub(super) fn send_shaped(&mut self) {
        while let Some((number, (tunnel, session))) = self.shaper.take_due(self.now) {
            match self.table.find_session(tunnel, session) {
                Some(_) if !self.forwards => self.discard(number, DropReason::Isolated),
                Some(session) => self.drain(number, session),
                None => self.discard(number, DropReason::NoRoute),
            }
        }
    }

    fn discard(&mut self, number: u32, reason: DropReason) {
        let packets = self.shaper.discard(number);
        self.shard.counters.count_drops(reason, packets.into());
    }

    fn drain(&mut self, number: u32, session: u32) {
        loop {
            let entry = self.table.session(session);
            let limit = entry.down_limit();
            let wait = limit.map_or(Duration::ZERO, |limit| {
                entry.shared.buckets.down.wait(&limit, self.now)
            });
            if !wait.is_zero() {
                return self.shaper.wait(number, self.now + wait);
            }
            if !self.send_next(number, session, limit.as_ref()) {
                return;
            }
        }
    }

    /// Whether there was one.
    fn send_next(&mut self, number: u32, session: u32, limit: Option<&Limit>) -> bool {
        self.free_slot();
        let free = &mut self.send.slot()[HEADROOM..];
        let (length, dropped) = self.shaper.pop(number, self.now, limit, free);
        self.shard
            .counters
            .count_drops(DropReason::RateDown, dropped.into());
        let Some(length) = length else { return false };
        if let Some(limit) = limit {
            let buckets = &self.table.session(session).shared.buckets;
            buckets.down.charge(limit, self.now, length);
        }
        match View::parse(&self.send.slot()[HEADROOM..HEADROOM + length]) {
            Ok(view) => self.send_judged(session, view),
            Err(reason) => self.shard.counters.count_drop(reason),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::dataplane::TableUpdate;
    use crate::dataplane::rate::Limits;
    use crate::dataplane::table::tests::{peer, session, tunnel};
    use crate::io::shard::from_core::tests::{large, worker_with_offload};

    /// 10 kbit/s each way, in bursts of 700 octets.
    fn slow() -> Limits {
        Limits::new((10_000, 700), (10_000, 700))
    }

    #[test]
    fn what_is_too_much_waits_and_leaves_later_whole_and_in_order() {
        let (mut worker, core) = worker_with_offload();
        let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        lac.set_nonblocking(true).expect("a flag");
        let mut tunnel = tunnel(4);
        (tunnel.peer, tunnel.local) = (lac.local_addr().expect("it is bound"), None);
        worker.table.apply(TableUpdate::Tunnel(tunnel));
        let mut entry = session(4, 11, [10, 0, 0, 1]);
        entry.limits = slow();
        worker.table.apply(TableUpdate::Session(entry));

        worker.now = Duration::from_secs(100);
        let (header, packet) = large(1);
        nix::unistd::write(&core, &[&header.encode()[..], &packet].concat()).expect("there is room");
        worker.read_tun();
        worker.send_shaped();
        worker.flush();
        let mut received = Vec::new();
        let mut receive = || {
            let mut buffer = [0; 1500];
            while let Ok(length) = lac.recv(&mut buffer) {
                received.push(length);
            }
            received.len()
        };
        assert_eq!(
            receive(),
            6,
            "128 octets each: small packets have the whole burst"
        );
        assert!(worker.shaper_wait(worker.now) > Duration::ZERO);
        while let Some(due) = worker.shaper.next_due() {
            assert!(due > worker.now);
            worker.now = due;
            worker.send_shaped();
            worker.flush();
        }
        assert_eq!(receive(), 7);
        assert!(received[..6].iter().all(|length| *length == received[0]) && received[6] < received[0]);
        assert_eq!(worker.shaper_wait(worker.now), LONGEST_WAIT);
        assert_eq!(worker.shard.counters.totals().downlink, 7);
    }

    #[test]
    fn what_waits_goes_with_its_session() {
        let (mut worker, core) = worker_with_offload();
        let mut entry = session(4, 11, [10, 0, 0, 1]);
        entry.limits = slow();
        worker.table.apply(TableUpdate::Session(entry));
        worker.now = Duration::from_secs(100);
        let (header, packet) = large(1);
        nix::unistd::write(&core, &[&header.encode()[..], &packet].concat()).expect("there is room");
        worker.read_tun();
        worker.table.apply(TableUpdate::RemoveSession(
            tunnel(4).tunnel,
            session(4, 11, [10, 0, 0, 1]).session,
        ));
        worker.now += Duration::from_secs(10);
        worker.send_shaped();
        assert_eq!(worker.shard.counters.totals().dropped(DropReason::NoRoute), 1);
        assert_eq!(worker.shaper.next_due(), None);
    }

    #[test]
    fn a_subscriber_who_sends_too_much_loses_it() {
        let (mut worker, _core) = worker_with_offload();
        let mut entry = session(4, 11, [10, 0, 0, 1]);
        entry.limits = slow();
        let shared = entry.shared.clone();
        worker.table.apply(TableUpdate::Session(entry));
        worker.now = Duration::from_secs(100);
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64)
            .udp(53, 53)
            .write(&mut packet, &[0; 272])
            .expect("a vector takes it");
        let mut datagram = vec![0, 2, 0, 4, 0, 11, 0xff, 3, 0, 0x21];
        datagram.extend_from_slice(&packet);
        let to = worker.shard.sockets[0].address;
        for _ in 0..10 {
            worker.handle_datagram(&mut datagram.clone(), peer(), to);
        }
        assert_eq!(shared.totals().received_packets, 3);
        assert_eq!(worker.shard.counters.totals().dropped(DropReason::RateUp), 7);
    }
}
