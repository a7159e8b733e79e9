//! The filters of sessions ([`crate::dataplane::filter`]).

use super::Worker;
use crate::dataplane::DropReason;
use crate::dataplane::downlink::HEADROOM;
use crate::dataplane::filter::{Direction, MAX_ANSWER};
use crate::dataplane::ip::View;

/// Denied packets that a shard answers in one second at most; more are counted as `filter_answer_rate` instead of `filter`. A page
/// takes three answers: 3,000 a second are sent to the portal.
const ANSWERS_PER_SECOND: u32 = 10_000;

impl Worker {
    /// Whether the packet of a subscriber may leave. If not it is counted, and answered.
    pub(super) fn lets_leave(&mut self, session: u32, packet: &[u8]) -> bool {
        let Some(filters) = self.table.filters(session) else {
            return true;
        };
        let Ok(view) = View::parse(packet) else {
            return true;
        };
        let Err(denied) = filters.judge(Direction::In, &view, packet, 1) else {
            return true;
        };
        if !self.filter_answers.take(self.now, ANSWERS_PER_SECOND) {
            self.shard.counters.count_drop(DropReason::FilterAnswerRate);
            return false;
        }
        self.shard.counters.count_drop(DropReason::Filter);
        let mut answer = [0; MAX_ANSWER];
        if let Some(length) = denied.answer(&view, packet, &mut answer) {
            self.free_slot()[HEADROOM..HEADROOM + length].copy_from_slice(&answer[..length]);
            let view = View::parse(&answer[..length]).expect("it was just written");
            self.deliver(session, view);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;

    use super::*;
    use crate::dataplane::TableUpdate;
    use crate::dataplane::filter::tests::{filter, udp};
    use crate::dataplane::filter::{Answer, FilterSet};
    use crate::dataplane::table::tests::{session, tunnel};
    use crate::io::shard::from_core::tests::{large, worker_with_offload};

    const SUBSCRIBER: [u8; 4] = [10, 0, 0, 1];

    /// A worker whose session 11 may send UDP to 192.0.2.53, its LAC and the other end of its TUN.
    fn garden() -> (Worker, UdpSocket, std::os::fd::OwnedFd) {
        let (mut worker, core) = worker_with_offload();
        let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        lac.set_nonblocking(true).expect("a flag");
        let mut tunnel = tunnel(4);
        (tunnel.peer, tunnel.local) = (lac.local_addr().expect("it is bound"), None);
        worker.table.apply(TableUpdate::Tunnel(tunnel));
        let rules = ["permit both udp from any to 192.0.2.53 53"];
        let set = FilterSet::Filters(vec![filter(&rules, Answer::Prohibited)]);
        worker.table.apply(TableUpdate::Filters(7, Arc::new(set)));
        let mut entry = session(4, 11, SUBSCRIBER);
        entry.filters = 7;
        worker.table.apply(TableUpdate::Session(entry));
        (worker, lac, core)
    }

    fn send(worker: &mut Worker, lac: &UdpSocket, packet: &[u8]) {
        let mut datagram = vec![0, 2, 0, 4, 0, 11, 0xff, 3, 0, 0x21];
        datagram.extend_from_slice(packet);
        let to = worker.shard.sockets[0].address;
        worker.handle_datagram(&mut datagram, lac.local_addr().expect("it is bound"), to);
        worker.flush();
    }

    fn received(lac: &UdpSocket) -> Option<Vec<u8>> {
        let mut buffer = [0; 1500];
        let length = lac.recv(&mut buffer).ok()?;
        Some(buffer[HEADROOM - 4..length].to_vec())
    }

    #[test]
    fn what_is_denied_is_answered_and_what_is_permitted_leaves() {
        let (mut worker, lac, _core) = garden();
        send(&mut worker, &lac, &udp(SUBSCRIBER, [192, 0, 2, 53], 53));
        let totals = worker.shard.counters.totals();
        assert_eq!((totals.uplink, totals.dropped(DropReason::Filter)), (1, 0));
        assert_eq!(received(&lac), None);
        send(&mut worker, &lac, &udp(SUBSCRIBER, [192, 0, 2, 54], 53));
        let totals = worker.shard.counters.totals();
        assert_eq!((totals.uplink, totals.dropped(DropReason::Filter)), (1, 1));
        let answer = received(&lac).expect("an answer");
        assert_eq!(
            (answer[9], &answer[16..20], &answer[20..22]),
            (1, &SUBSCRIBER[..], &[3, 13][..])
        );
    }

    #[test]
    fn answers_have_an_end() {
        let (mut worker, lac, _core) = garden();
        let denied = udp(SUBSCRIBER, [192, 0, 2, 54], 53);
        for _ in 0..ANSWERS_PER_SECOND + 5 {
            send(&mut worker, &lac, &denied);
            received(&lac).unwrap_or_default();
        }
        let totals = worker.shard.counters.totals();
        let drops = [DropReason::Filter, DropReason::FilterAnswerRate].map(|reason| totals.dropped(reason));
        assert_eq!(drops, [u64::from(ANSWERS_PER_SECOND), 5]);
    }

    #[test]
    fn every_packet_of_a_large_one_for_the_subscriber_is_denied() {
        let (mut worker, lac, core) = garden();
        let (header, packet) = large(1);
        nix::unistd::write(&core, &[&header.encode()[..], &packet].concat()).expect("there is room");
        worker.read_tun();
        worker.flush();
        assert_eq!(worker.shard.counters.totals().dropped(DropReason::Filter), 7);
        assert_eq!(received(&lac), None);
        // Without filters it goes through, and with a number that nobody knows nothing does.
        for (filters, passed) in [(crate::dataplane::table::NO_FILTERS, 7), (9, 7)] {
            let mut entry = session(4, 11, SUBSCRIBER);
            entry.filters = filters;
            worker.table.apply(TableUpdate::Session(entry));
            nix::unistd::write(&core, &[&header.encode()[..], &packet].concat()).expect("there is room");
            worker.read_tun();
            assert_eq!(worker.shard.counters.totals().downlink, passed, "{filters}");
        }
    }
}
