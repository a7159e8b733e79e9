//! After a stall: what has waited to be received is thrown away before anything else is handled.
//!
//! It was sent to a node that may have been replaced meanwhile. LACs repeat what matters to them, and user data that old
//! is better lost than late. Table updates are never thrown away: they are what the node is to know. Nor are messages
//! of the control side that wait to be sent: repeated control messages are harmless, PPP frames carry a deadline.
//!
//! What the thread held in its hands when it stalled, one batch at most, is handled.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Worker;
use nix::errno::Errno;

use crate::dataplane::DropReason;
use crate::dataplane::offload::Split;
use crate::dataplane::offload::vnet::VNET_HEADER;
use crate::io::batch::ReceiveBatch;
use crate::io::clock;
use crate::io::mailbox::{HAND_OVER_CAPACITY, PASSED_CAPACITY};
use crate::io::socket::ShardSocket;
use crate::io::stall::StallDetector;
use crate::io::tun::TunQueue;
use crate::throttled;

/// Messages that are thrown away from one socket, or packets from one TUN queue, after a stall. More than a socket's queue holds: the
/// kernel counts an empty datagram as more than 600 octets, and the queue has 8 MiB ([`crate::io::socket`], doubled by
/// the kernel). A TUN queue has 500 packets. So only what comes in during the clearing gets beyond it, and a flood
/// holds the thread for some ten milliseconds.
const BACKLOG_LIMIT: u64 = 16_384;

impl Worker {
    /// The thread runs; if it did not for too long, its backlog goes. Says whether what comes next may be forwarded. Returns the
    /// time, since boot.
    pub(super) fn look_for_stall(&mut self, receive: &mut ReceiveBatch) -> Duration {
        let now = clock::since_boot();
        self.forwards = (now.as_millis() as u64) < self.shard.forward_until_ms.load(Relaxed);
        let Some(stalled) = self.stall.runs(now) else {
            return now;
        };
        self.throw_away_backlog(stalled, receive);
        // The clearing is not itself a stall, or a flood could keep the thread at it.
        let now = clock::since_boot();
        self.stall = StallDetector::new(now);
        now
    }

    fn throw_away_backlog(&mut self, stalled: Duration, receive: &mut ReceiveBatch) {
        self.flush();
        let counters = &self.shard.counters;
        let mut received = 0;
        for socket in &self.shard.sockets {
            let (gone, lost) = empty_socket(socket, receive);
            received += gone;
            counters.count_drops(DropReason::SocketFull, lost);
        }
        let handed_over = self.shard.mailbox.handed_over.try_iter();
        let handed_over = handed_over.take(HAND_OVER_CAPACITY);
        let handed_over: u64 = handed_over
            .map(|message| message.segments().datagrams() as u64)
            .sum();
        let passed = self.shard.mailbox.passed.try_iter();
        let passed = passed.take(PASSED_CAPACITY).count() as u64;
        let tun = self.shard.tun.as_ref();
        let from_tun = tun.map_or(0, |tun| empty_tun(tun, self.send.read_room()));
        counters.count_stall();
        counters.count_received(received);
        counters.count_taken_over(handed_over);
        counters.count_passed_in(passed);
        counters.count_drops(DropReason::Backlog, received + handed_over + passed + from_tun);
        throttled!(
            warn,
            shard = self.shard.policy.shard,
            stalled_ms = stalled.as_millis() as u64,
            datagrams = received + handed_over,
            tun_packets = from_tun + passed,
            "the packet thread did not run for at least this long; what waited for it was thrown away (is the host short \
             of CPU, or was it suspended?)"
        );
    }
}

/// Reads a socket until nothing waits there or [`BACKLOG_LIMIT`] messages are gone; how many datagrams it threw away, and
/// how many the kernel had no room for.
fn empty_socket(socket: &ShardSocket, receive: &mut ReceiveBatch) -> (u64, u64) {
    let (mut messages, mut datagrams, mut lost) = (0, 0, 0);
    while messages < BACKLOG_LIMIT {
        let Ok(count @ 1..) = receive.receive(socket) else {
            break;
        };
        messages += count as u64;
        datagrams += receive.datagrams();
        lost += receive.lost();
    }
    (datagrams, lost)
}

/// As [`empty_socket`], for a TUN queue. `room` holds the largest packet; a large one counts as those for which it stands.
fn empty_tun(tun: &TunQueue, room: &mut [u8]) -> u64 {
    let mut gone = 0;
    for _ in 0..BACKLOG_LIMIT {
        let split = match tun.read(room) {
            Ok((header, length)) => Split::new(&header, &room[VNET_HEADER..VNET_HEADER + length]).ok(),
            // One of a kind that nobody asked for: it is gone, others wait behind it.
            Err(Errno::EINVAL) => None,
            Err(_) => break,
        };
        gone += split.map_or(1, |split| split.packets() as u64);
    }
    gone
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::UdpSocket;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use holdfast_protocol::TunnelId;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

    use super::*;
    use crate::dataplane::uplink::Policy;
    use crate::dataplane::{ShardCounters, TableUpdate};
    use crate::io::mailbox::{self, HandedOver, Outgoing, Remote};
    use crate::io::shard::Shard;
    use crate::io::shard::from_core::tests::{large, worker_with_offload};
    use crate::io::stall::STALL;
    use crate::io::tun::Offload;
    use crate::io::{SocketGroup, inbound};

    /// A worker of one shard with two sockets and a pair of sockets in place of a TUN queue, whose other end is last.
    pub(in crate::io::shard) fn worker() -> (Worker, Remote, OwnedFd) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let mut sockets: Vec<ShardSocket> = Vec::new();
        for _ in 0..2 {
            let group = SocketGroup::open(&[any], 1).expect("a free port");
            sockets.extend(group.into_shards().into_iter().flatten());
        }
        let (tun, core) = socketpair(
            AddressFamily::Unix,
            SockType::Datagram,
            None,
            SockFlag::SOCK_NONBLOCK,
        )
        .expect("a pair");
        let (mailbox, remote) = mailbox::open().expect("an eventfd");
        let shard = Shard {
            policy: Policy {
                shard: 0,
                shards: 1,
                own_address: [10, 255, 0, 1].into(),
                has_tun: true,
            },
            sockets,
            tun: Some(TunQueue::new(tun, Offload::default())),
            mailbox,
            shards: vec![remote.clone()],
            inbound: inbound::channels(1).0,
            passage: None,
            counters: Arc::new(ShardCounters::default()),
            stop: Arc::new(AtomicBool::new(false)),
            forward_until_ms: Arc::new(AtomicU64::new(u64::MAX)),
            pulse: None,
        };
        (Worker::new(shard), remote, core)
    }

    /// Lets `count` datagrams wait in each socket, and as many packets and messages elsewhere.
    fn fill(worker: &Worker, remote: &Remote, core: &OwnedFd, count: usize) {
        let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        let from = lac.local_addr().expect("it is bound");
        for _ in 0..count {
            for socket in &worker.shard.sockets {
                lac.send_to(b"old", socket.address).expect("loopback takes it");
            }
            send(core.as_raw_fd(), b"old", MsgFlags::empty()).expect("there is room");
            let handed_over = HandedOver {
                from,
                to: worker.shard.sockets[0].address,
                octets: b"old".to_vec(),
                segment: 3,
            };
            remote.handed_over.try_send(handed_over).expect("there is room");
            remote.passed.try_send(b"old".to_vec()).expect("there is room");
            let outgoing = Outgoing::Control {
                local: None,
                peer: from,
                datagram: b"new".to_vec(),
            };
            remote.outgoing.try_send(outgoing).expect("there is room");
            let update = TableUpdate::RemoveTunnel(TunnelId::new(1).expect("not zero"));
            remote.updates.try_send(update).expect("there is room");
        }
    }

    #[test]
    fn after_a_stall_all_that_was_received_goes_and_nothing_else() {
        const COUNT: usize = 7;
        let (mut worker, remote, core) = worker();
        fill(&worker, &remote, &core, COUNT);
        let mut receive = ReceiveBatch::new();
        worker.stall = StallDetector::new(clock::since_boot().saturating_sub(STALL * 2));
        worker.look_for_stall(&mut receive);
        let totals = worker.shard.counters.totals();
        assert_eq!((totals.stalls, totals.received), (1, 14));
        assert_eq!((totals.taken_over, totals.passed_in), (7, 7));
        assert_eq!(totals.dropped(DropReason::Backlog), 5 * 7);
        for socket in &worker.shard.sockets {
            assert_eq!(empty_socket(socket, &mut receive), (0, 0));
        }
        let mailbox = &worker.shard.mailbox;
        assert_eq!(
            (
                mailbox.handed_over.len(),
                mailbox.passed.len(),
                mailbox.updates.len(),
                mailbox.outgoing.len()
            ),
            (0, 0, COUNT, COUNT)
        );
    }

    #[test]
    fn a_large_packet_is_cleared_as_those_for_which_it_stands() {
        let (worker, core) = worker_with_offload();
        let (header, packet) = large(1);
        for _ in 0..3 {
            let octets = [&header.encode()[..], &packet].concat();
            nix::unistd::write(&core, &octets).expect("there is room");
        }
        let tun = worker.shard.tun.as_ref().expect("it has one");
        assert_eq!(empty_tun(tun, &mut [0; 2048]), 3 * 7);
    }

    #[test]
    fn the_clearing_ends_though_more_comes_in() {
        let endless = std::fs::File::open("/dev/zero").expect("every Linux has it");
        let endless = TunQueue::new(endless.into(), Offload::default());
        assert_eq!(empty_tun(&endless, &mut [0; 64]), BACKLOG_LIMIT);
    }
}
