//! What other members send, sorted by whom it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use arc_swap::ArcSwap;
use holdfast_protocol::TunnelId;
use tokio::sync::mpsc;

use crate::actors::act::{Act, Acts};
use crate::actors::agreement::{Agreement, Agreements};
use crate::actors::handover::{self, HandOver};
use crate::actors::orders::{Desk, Message};
use crate::actors::relay;
use crate::actors::reports::{Reports, Taken};
use crate::actors::table::TableHandle;
use crate::io::{Entrance, Inbound, clock};
use crate::metrics::{Counter, Metrics};
use crate::peers::{Frame, Hello, Passed, PeerEvents};

/// Orders to hand groups over that may wait. One more is passed over, and whoever gave it moves the groups himself.
const HAND_OVERS_MAX: usize = 64;

/// What another member sent, or became, for the table's thread.
#[derive(Debug)]
pub enum FromPeer {
    /// A message of the Raft group.
    Raft(Vec<u8>),
    /// A probe or its answer.
    Probe(u64, Vec<u8>),
    /// Nobody listens at its address any more: its process is gone.
    Gone(u64),
    /// It belongs to the cluster as it was recovered without us.
    Superseded(u64),
}

/// What comes in for everybody, shared with [`Members`].
#[derive(Debug)]
pub struct Heard {
    pub(super) agreements: Agreements,
    pub(super) reports: Reports,
    pub(super) desk: Desk,
    pub(super) acts: Acts,
    /// A member was connected, which may know nothing of earlier reports.
    pub(super) newcomer: AtomicBool,
    /// Members that are being stopped.
    pub(super) stopping: ArcSwap<BTreeSet<u64>>,
    /// By member, the process that was last connected.
    boots: Mutex<BTreeMap<u64, u64>>,
    hand_overs: mpsc::Sender<HandOver>,
    /// Until the server takes it.
    pub(super) ordered: Mutex<Option<mpsc::Receiver<HandOver>>>,
    /// The packet threads start after the connections.
    pub(super) entrance: OnceLock<Entrance>,
}

impl Heard {
    /// Nothing yet.
    pub fn new(agreements: Agreements) -> Self {
        let (hand_overs, ordered) = mpsc::channel(HAND_OVERS_MAX);
        Self {
            stopping: ArcSwap::default(),
            boots: Mutex::default(),
            hand_overs,
            ordered: Mutex::new(Some(ordered)),
            agreements,
            reports: Reports::default(),
            desk: Desk::default(),
            acts: Acts::default(),
            newcomer: AtomicBool::new(false),
            entrance: OnceLock::new(),
        }
    }

    /// A member was connected. A process that is being stopped stays so, however often it is connected anew; another one of the
    /// same member is not.
    fn came_up(&self, node: u64, boot: u64) {
        let mut boots = self.boots.lock().expect("nothing panics with the map locked");
        if boots.insert(node, boot) != Some(boot) {
            self.set_stopping(node, false);
        }
    }

    fn set_stopping(&self, node: u64, is_stopping: bool) {
        self.stopping.rcu(|stopping| {
            let mut stopping = BTreeSet::clone(stopping);
            match is_stopping {
                true => stopping.insert(node),
                false => stopping.remove(&node),
            };
            stopping
        });
    }
}

/// The way in: called on the peers thread, which it must not hold up.
#[derive(Debug)]
pub struct Incoming {
    table: TableHandle,
    shards: Vec<mpsc::Sender<Inbound>>,
    heard: Arc<Heard>,
    metrics: Arc<Metrics>,
    /// Whom we had a stream to since they were last gone.
    seen: Mutex<BTreeSet<u64>>,
}

impl Incoming {
    /// To the table's thread and to the shards' actors.
    pub fn new(
        table: TableHandle,
        shards: Vec<mpsc::Sender<Inbound>>,
        heard: Arc<Heard>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            table,
            shards,
            heard,
            metrics,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.seen.lock().expect("nothing panics with the set locked")
    }

    fn on_order(&self, from: u64, order: &[u8]) {
        if let Some(agreement) = Agreement::decode(order) {
            return self.heard.agreements.changed(from, agreement);
        }
        if let Some(order) = handover::Order::decode(order) {
            return self.on_hand_over(from, order);
        }
        if let Some(message) = Message::decode(order) {
            if !self.heard.desk.take(from, message) {
                self.metrics.count(Counter::OrdersDropped);
            }
            return;
        }
        if let Some(act) = Act::decode(order) {
            if !self.heard.acts.take(act) {
                self.metrics.count(Counter::OrdersDropped);
            }
            return;
        }
        match relay::disconnect_from(order) {
            Some(packet) => self.deliver(Some(packet), 0),
            None => tracing::debug!(from, "an order of a newer version is passed over"),
        }
    }

    fn on_hand_over(&self, from: u64, order: handover::Order) {
        match order {
            handover::Order::Stopping => self.heard.set_stopping(from, true),
            handover::Order::HandOver(order) => {
                if self.heard.hand_overs.try_send(order).is_err() {
                    tracing::warn!(from, "too many orders to hand groups over: one is passed over");
                }
            }
        }
    }

    /// Straight to the packet thread of its tunnel.
    fn on_passed(&self, Passed { tunnel, packet }: Passed) {
        let tunnel = u16::try_from(tunnel).ok().and_then(TunnelId::new);
        let entrance = self.heard.entrance.get();
        let taken = tunnel
            .zip(entrance)
            .is_some_and(|(tunnel, entrance)| entrance.take(tunnel, packet));
        if !taken {
            self.metrics.count(Counter::PassedDropped);
        }
    }

    /// To the shard of the packet's tunnel; an SCCRQ, which has none, goes by `spread`.
    fn deliver(&self, packet: Option<Inbound>, spread: usize) {
        let shards = self.shards.len();
        let taken = packet.is_some_and(|packet| {
            let shard =
                relay::tunnel_of(&packet).map_or(spread % shards, |tunnel: TunnelId| tunnel.shard(shards));
            self.shards[shard].try_send(packet).is_ok()
        });
        if !taken {
            self.metrics.count(Counter::RelaysDropped);
        }
    }
}

impl PeerEvents for Incoming {
    fn on_frame(&self, from: u64, frame: Frame) {
        match frame {
            Frame::Raft(message) => self.table.from_peer(FromPeer::Raft(message)),
            Frame::Relay(relayed) => {
                let spread = usize::from(relayed.from.port());
                self.deliver(relay::from_relay(relayed), spread);
            }
            Frame::Order(order) => self.on_order(from, &order),
            Frame::Passed(passed) => self.on_passed(passed),
            Frame::Counters(report) => match self.heard.reports.take(from, &report) {
                None => tracing::debug!(from, "a report that makes no sense is passed over"),
                Some(Taken {
                    clock: theirs,
                    refused,
                }) => {
                    self.metrics.add(Counter::ReportsRefused, refused);
                    if !theirs.is_zero() {
                        self.heard.agreements.clock(from, theirs, clock::unix());
                    }
                }
            },
        }
    }

    fn on_datagram(&self, from: u64, octets: Vec<u8>) {
        self.table.from_peer(FromPeer::Probe(from, octets));
    }

    fn on_up(&self, node: u64, hello: Hello) {
        self.seen().insert(node);
        self.heard.came_up(node, hello.boot);
        self.heard.newcomer.store(true, Relaxed);
        tracing::info!(node, program = hello.program, "connected to a member");
        self.heard.agreements.hello(node, &hello);
    }

    fn on_superseded(&self, node: u64) {
        self.table.from_peer(FromPeer::Superseded(node));
    }

    fn on_down(&self, node: u64, refused: bool) {
        if refused {
            // A member that was never there has not died.
            if self.seen().remove(&node) {
                self.table.from_peer(FromPeer::Gone(node));
            }
        } else {
            tracing::info!(node, "disconnected from a member");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_being_stopped_stays_so_until_another_process_of_it_comes() {
        let own = Agreement::decode(&[&[1_u8][..], &[0; 48]].concat()).expect("three digests");
        let heard = Heard::new(Agreements::new(own, (1, 1)));
        let is_stopping = |node| heard.stopping.load().contains(&node);
        heard.came_up(2, 70);
        heard.came_up(3, 80);
        heard.set_stopping(2, true);
        heard.came_up(2, 70);
        heard.came_up(3, 81);
        assert!(is_stopping(2), "its stream alone is another one");
        heard.came_up(2, 71);
        assert!(!is_stopping(2));
        heard.set_stopping(4, true);
        heard.came_up(4, 90);
        assert!(!is_stopping(4), "nobody knows which process said so");
    }
}
