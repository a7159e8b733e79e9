//! A packet thread: its sockets, its TUN queue, its forwarding table.
//!
//! One round: wait, take table updates, send what the control side gave, then one bounded batch from each source. No
//! allocation and no lock per packet of user data; what goes to the control side or to another shard is copied. What a
//! batch brings for the TUN is written at its end, so nothing waits for a packet that may not come.
//!
//! Updates are taken again after each receive and before the batch is looked at: so whatever was announced before a
//! datagram arrived is known when it is judged.
//!
//! Before each batch the thread looks whether this node may still forward: a node that was cut off from its cluster for too long
//! drops all user data and answers no echoes, for their addresses may be others' by now (design invariant 7).
//!
//! After a stall of the thread all that waits to be received is thrown away first ([`backlog`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::batch::{ReceiveBatch, SendBatch};
use super::inbound::Inbound;
use super::mailbox::{Mailbox, Remote};
use super::passage::Passage;
use super::poller::Poller;
use super::pulse::Pulse;
use super::socket::ShardSocket;
use super::stall::StallDetector;
use super::tun::{TunQueue, WriteRing};
use super::{MAX_DATAGRAM, clock};
use crate::dataplane::offload::Coalescer;
use crate::dataplane::rate::Shaper;
use crate::dataplane::uplink::Policy;
use crate::dataplane::{ShardCounters, Table, TableUpdate};

use allowance::Allowance;

mod allowance;
mod backlog;
mod egress;
mod filtering;
mod from_core;
mod handover;
mod ingress;
#[cfg(test)]
mod offload_tests;
mod shaping;

/// What a packet thread is given.
pub(crate) struct Shard {
    pub(crate) policy: Policy,
    pub(crate) sockets: Vec<ShardSocket>,
    pub(crate) tun: Option<TunQueue>,
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
    /// Packets of the batch that is being received, on their way to the TUN.
    coalescer: Coalescer,
    /// Where the kernel lets us write many of them at once.
    ring: Option<WriteRing>,
    /// By shard: its datagrams of the message that is being handled.
    leaving: Vec<Vec<u8>>,
    /// Holds the packet that is being fragmented.
    scratch: Vec<u8>,
    /// When this round began, since boot.
    now: Duration,
    /// Whether user data may be forwarded, as looked at before this batch.
    forwards: bool,
    icmp: Allowance,
    filter_answers: Allowance,
    passed: Allowance,
    lcp_echoes: Allowance,
    stall: StallDetector,
    /// Packets for subscribers that wait for their session's rate.
    shaper: Shaper,
    /// The thread has slept, so what comes first may come alone: it is sent on before more is looked for.
    slept: bool,
}

/// A wait that took longer was one: a look at what is there takes a tenth of it.
const SLEPT: Duration = Duration::from_micros(5);

impl Worker {
    fn new(shard: Shard) -> Self {
        let listen: Vec<SocketAddr> = shard.sockets.iter().map(|socket| socket.address).collect();
        let table = Table::new(&listen);
        let now = clock::since_boot();
        let offload = shard.tun.as_ref().map(TunQueue::offload).unwrap_or_default();
        let send = SendBatch::new(&shard.sockets);
        let ring = offload.header.then(WriteRing::open);
        let lacks = usize::from(offload.lacks) + send.lacks() + usize::from(matches!(ring, Some(None)));
        shard.counters.count_fallbacks(lacks as u64);
        Self {
            table,
            send,
            coalescer: Coalescer::new(offload.tcp, offload.udp),
            ring: ring.flatten(),
            leaving: vec![Vec::new(); shard.policy.shards],
            scratch: vec![0; MAX_DATAGRAM],
            now,
            forwards: false,
            icmp: Allowance::default(),
            filter_answers: Allowance::default(),
            passed: Allowance::default(),
            lcp_echoes: Allowance::default(),
            stall: StallDetector::new(now),
            shaper: Shaper::default(),
            slept: false,
            shard,
        }
    }

    fn round(&mut self, ready: &mut Ready, receive: &mut ReceiveBatch) {
        self.wait(ready, receive);
        self.take_updates();
        self.send_outgoing();
        // Most of it came before what waits in the sockets: the kernel joins what one LAC sends for several tunnels.
        if !self.shard.mailbox.handed_over.is_empty() {
            self.look_for_stall(receive);
            self.take_handed_over();
        }
        for (socket, index) in ready.sockets.iter().enumerate() {
            if ready.poller.is_ready(*index) {
                self.look_for_stall(receive);
                self.receive(socket, receive);
            }
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
        self.send_shaped();
        self.flush();
    }

    /// Waits for something to do and begins the round.
    fn wait(&mut self, ready: &mut Ready, receive: &mut ReceiveBatch) {
        let now = self.look_for_stall(receive);
        let mailbox = &self.shard.mailbox;
        let idle = mailbox.outgoing.is_empty() && mailbox.handed_over.is_empty() && mailbox.passed.is_empty();
        let timeout = if idle {
            self.shaper_wait(now)
        } else {
            Duration::ZERO
        };
        self.stall.waits(now, timeout);
        ready
            .poller
            .wait(timeout)
            .expect("poll(2) takes what this process may have open");
        if ready.poller.is_ready(ready.wake) {
            self.shard.mailbox.wake.clear();
        }
        self.now = self.look_for_stall(receive);
        self.slept = self.now.saturating_sub(now) > SLEPT;
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
            if let TableUpdate::Session(entry) = &update
                && entry.limits.down.is_some()
            {
                self.shaper.prepare();
            }
            self.table.apply(update);
        }
    }
}
