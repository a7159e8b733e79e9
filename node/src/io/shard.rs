//! A packet thread: its sockets, its TUN queue, its forwarding table.
//!
//! One round: wait, take table updates, send what the control side gave, then one bounded batch from each source. No
//! allocation and no lock per packet of user data; what goes to the control side or to another shard is copied.
//!
//! Updates are taken again after each receive and before the batch is looked at: so whatever was announced before a
//! datagram arrived is known when it is judged.
//!
//! Before each batch the thread looks whether this node may still forward: a node that was cut off from its cluster for too long
//! drops all user data and answers no echoes, for their addresses may be others' by now (design invariant 7).
//!
//! After a stall of the thread all that waits to be received is thrown away first ([`backlog`]).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::mpsc;

use super::batch::{BATCH, ReceiveBatch, SendBatch};
use super::inbound::Inbound;
use super::mailbox::{HandedOver, Mailbox, Remote};
use super::passage::Passage;
use super::poller::Poller;
use super::pulse::Pulse;
use super::socket::ShardSocket;
use super::stall::{LONGEST_WAIT, StallDetector};
use super::{MAX_DATAGRAM, clock};
use crate::dataplane::downlink::{self, HEADROOM};
use crate::dataplane::ip::View;
use crate::dataplane::uplink::{self, Policy, Uplink};
use crate::dataplane::{DropReason, ShardCounters, Table, icmp};

use allowance::Allowance;

mod allowance;
mod backlog;
mod egress;

/// What a packet thread is given.
pub(crate) struct Shard {
    pub(crate) policy: Policy,
    pub(crate) sockets: Vec<ShardSocket>,
    pub(crate) tun: Option<OwnedFd>,
    pub(crate) mailbox: Mailbox,
    /// All shards, this one too.
    pub(crate) shards: Vec<Remote>,
    /// The control side of all shards.
    pub(crate) inbound: Vec<mpsc::Sender<Inbound>>,
    /// To the other nodes, in a cluster.
    pub(crate) passage: Option<Arc<dyn Passage>>,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Milliseconds since boot until which user data may be forwarded (design invariant 7).
    pub(crate) forward_until_ms: Arc<AtomicU64>,
    /// Who watches over the threads hears of this one each time it wakes up.
    pub(crate) pulse: Option<Pulse>,
}

impl Shard {
    /// The thread. Ends when it is told to.
    pub(crate) fn run(self) {
        let mut poller = Poller::default();
        let wake = poller.add(&*self.mailbox.wake);
        let sockets = self.sockets.iter().map(|socket| poller.add(socket)).collect();
        let tun = self.tun.as_ref().map(|tun| poller.add(tun));
        let mut worker = Worker::new(self);
        let mut receive = ReceiveBatch::new();
        let mut ready = Ready {
            poller,
            wake,
            sockets,
            tun,
        };
        while !worker.shard.stop.load(Ordering::Acquire) {
            worker.round(&mut ready, &mut receive);
        }
        worker.send_last();
    }
}

/// The descriptors and their indexes in the poller.
struct Ready {
    poller: Poller,
    wake: usize,
    sockets: Vec<usize>,
    tun: Option<usize>,
}

struct Worker {
    shard: Shard,
    table: Table,
    send: SendBatch,
    /// Holds the packet that is being fragmented.
    scratch: Vec<u8>,
    /// When this round began, since boot.
    now: Duration,
    /// Whether user data may be forwarded, as looked at before this batch.
    forwards: bool,
    icmp: Allowance,
    passed: Allowance,
    lcp_echoes: Allowance,
    stall: StallDetector,
}

impl Worker {
    fn new(shard: Shard) -> Self {
        let listen: Vec<SocketAddr> = shard.sockets.iter().map(|socket| socket.address).collect();
        let table = Table::new(&listen);
        let now = clock::since_boot();
        Self {
            table,
            send: SendBatch::new(),
            scratch: vec![0; MAX_DATAGRAM],
            now,
            forwards: false,
            icmp: Allowance::default(),
            passed: Allowance::default(),
            lcp_echoes: Allowance::default(),
            stall: StallDetector::new(now),
            shard,
        }
    }

    fn round(&mut self, ready: &mut Ready, receive: &mut ReceiveBatch) {
        self.wait(ready, receive);
        self.take_updates();
        self.send_outgoing();
        for (socket, index) in ready.sockets.iter().enumerate() {
            if ready.poller.is_ready(*index) {
                self.look_for_stall(receive);
                self.receive(socket, receive);
            }
        }
        if !self.shard.mailbox.handed_over.is_empty() {
            self.look_for_stall(receive);
            self.take_handed_over();
        }
        if !self.shard.mailbox.passed.is_empty() {
            self.look_for_stall(receive);
            self.take_passed();
        }
        if let Some(index) = ready.tun {
            if ready.poller.is_broken(index) {
                tracing::error!(
                    shard = self.shard.policy.shard,
                    "the TUN device is gone; no data is forwarded"
                );
                ready.poller.forget(index);
            } else if ready.poller.is_ready(index) {
                self.look_for_stall(receive);
                self.read_tun();
            }
        }
        self.flush();
    }

    /// Waits for something to do and begins the round.
    fn wait(&mut self, ready: &mut Ready, receive: &mut ReceiveBatch) {
        let now = self.look_for_stall(receive);
        let mailbox = &self.shard.mailbox;
        let idle = mailbox.outgoing.is_empty() && mailbox.handed_over.is_empty() && mailbox.passed.is_empty();
        let timeout = if idle { LONGEST_WAIT } else { Duration::ZERO };
        self.stall.waits(now, timeout);
        ready
            .poller
            .wait(timeout)
            .expect("poll(2) takes what this process may have open");
        if ready.poller.is_ready(ready.wake) {
            self.shard.mailbox.wake.clear();
        }
        self.now = self.look_for_stall(receive);
        if let Some(pulse) = &self.shard.pulse {
            pulse.beat(self.now);
        }
    }

    /// Takes the updates that wait now; what comes meanwhile wakes the thread again.
    fn take_updates(&mut self) {
        for _ in 0..self.shard.mailbox.updates.len() {
            let Ok(update) = self.shard.mailbox.updates.try_recv() else {
                return;
            };
            self.table.apply(update);
        }
    }

    fn receive(&mut self, socket: usize, receive: &mut ReceiveBatch) {
        let count = match receive.receive(&self.shard.sockets[socket]) {
            Ok(count) => count,
            Err(error) => {
                tracing::trace!(%error, "receive");
                return;
            }
        };
        self.take_updates();
        let listen = self.shard.sockets[socket].address;
        for at in 0..count {
            self.shard.counters.count_received(1);
            let Some(received) = receive.get(at) else { continue };
            if received.truncated {
                self.shard.counters.count_drop(DropReason::Truncated);
                continue;
            }
            let to = SocketAddr::new(received.to.unwrap_or(listen.ip()), listen.port());
            self.handle_datagram(received.octets, received.from, to);
        }
    }

    fn take_handed_over(&mut self) {
        for _ in 0..BATCH {
            let Ok(HandedOver { from, to, mut octets }) = self.shard.mailbox.handed_over.try_recv() else {
                return;
            };
            self.take_updates();
            self.shard.counters.count_taken_over(1);
            self.handle_datagram(&mut octets, from, to);
        }
    }

    /// What other nodes received for sequenced sessions that are numbered here.
    fn take_passed(&mut self) {
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

    fn handle_datagram(&mut self, octets: &mut [u8], from: SocketAddr, to: SocketAddr) {
        let policy = &self.shard.policy;
        match uplink::classify(&mut self.table, policy, from, octets, self.now.as_millis() as u64) {
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
            Uplink::Packet { .. } | Uplink::Echo { .. } | Uplink::LcpEcho { .. } if !self.forwards => {
                self.shard.counters.count_drop(DropReason::Isolated);
            }
            Uplink::Packet { packet } => {
                if self.write_tun(&octets[packet]) {
                    self.shard.counters.count_uplink();
                } else {
                    self.shard.counters.count_drop(DropReason::TunRefused);
                }
            }
            Uplink::Echo { session, packet } => self.answer_echo(session, &octets[packet]),
            Uplink::LcpEcho { session, packet } => self.answer_lcp_echo(session, &octets[packet]),
            Uplink::Foreign { shard } => self.hand_over(
                shard,
                HandedOver {
                    from,
                    to,
                    octets: octets.to_vec(),
                },
            ),
            Uplink::Drop(reason) => self.shard.counters.count_drop(reason),
        }
    }

    /// Gives a message to this shard's control side; false if it has too many.
    fn tell(&self, message: Inbound) -> bool {
        let control = &self.shard.inbound[self.shard.policy.shard];
        let is_setup = matches!(message, Inbound::Control { tunnel: 0, .. });
        if is_setup && control.capacity() <= control.max_capacity() / 2 {
            self.shard.counters.count_drop(DropReason::SetupFull);
            return false;
        }
        let told = control.try_send(message).is_ok();
        if !told {
            self.shard.counters.count_drop(DropReason::InboundFull);
        }
        told
    }

    fn hand_over(&self, shard: usize, datagram: HandedOver) {
        let neighbour = &self.shard.shards[shard];
        if neighbour.handed_over.try_send(datagram).is_ok() {
            neighbour.wake.notify();
            self.shard.counters.count_handed_over();
        } else {
            self.shard.counters.count_drop(DropReason::HandOverFull);
        }
    }

    /// False if there is no TUN or its queue in the kernel is full.
    fn write_tun(&self, packet: &[u8]) -> bool {
        self.shard
            .tun
            .as_ref()
            .is_some_and(|tun| nix::unistd::write(tun, packet).is_ok())
    }

    fn answer_echo(&mut self, session: u32, request: &[u8]) {
        let shard = self.shard.policy.shard;
        self.table
            .session(session)
            .shared
            .count_received(shard, request.len());
        self.shard.counters.count_uplink();
        let packet = &mut self.free_slot()[HEADROOM..HEADROOM + request.len()];
        packet.copy_from_slice(request);
        let view = View::parse(packet).expect("it was parsed when it was received");
        icmp::answer_echo(packet, &view);
        let view = View::parse(packet).expect("the answer has the form of the request");
        self.deliver(session, view);
    }

    fn read_tun(&mut self) {
        for _ in 0..BATCH {
            if self.send.is_full() {
                self.flush();
            }
            let Some(tun) = &self.shard.tun else { return };
            let length = match nix::unistd::read(tun, &mut self.send.slot()[HEADROOM..]) {
                Ok(length) => length,
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
}
