//! The way in: what LACs send, and where it goes.

use std::net::SocketAddr;
use std::ops::Range;

use super::Worker;
use crate::dataplane::DropReason;
use crate::dataplane::downlink::HEADROOM;
use crate::dataplane::icmp;
use crate::dataplane::ip::View;
use crate::dataplane::uplink::{self, Uplink};
use crate::io::MAX_DATAGRAM;
use crate::io::batch::{BATCH, ReceiveBatch, Received};
use crate::io::inbound::Inbound;
use crate::io::mailbox::HandedOver;

impl Worker {
    pub(super) fn receive(&mut self, socket: usize, receive: &mut ReceiveBatch) {
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
            self.shard.counters.count_received(message.datagrams() as u64);
            let to = SocketAddr::new(message.to.unwrap_or(listen.ip()), listen.port());
            self.handle_message(&message, to, receive.octets());
        }
        self.write_coalesced(receive.octets());
    }

    /// Judges each datagram of a message by itself. Packets for the TUN wait for others of their flow until the end of the
    /// batch.
    fn handle_message(&mut self, message: &Received, to: SocketAddr, octets: &mut [u8]) {
        for place in message.places() {
            if message.truncated || place.len() > MAX_DATAGRAM {
                self.shard.counters.count_drop(DropReason::Truncated);
                continue;
            }
            let start = place.start;
            let Some(packet) = self.sort(&mut octets[place], message.from, to) else {
                continue;
            };
            if self.coalescer.is_full() {
                self.write_coalesced(octets);
            }
            self.coalescer
                .add(octets, start + packet.start..start + packet.end);
        }
    }

    /// Writes what has been coalesced, whose packets are in `octets`, to the TUN.
    fn write_coalesced(&mut self, octets: &mut [u8]) {
        while let Some(large) = self.coalescer.take(octets) {
            let tun = self.shard.tun.as_ref();
            let taken = tun.is_some_and(|tun| tun.write_joined(&large, octets).is_ok());
            self.shard.counters.count_to_tun(large.packets as u64, taken);
        }
    }

    pub(super) fn take_handed_over(&mut self) {
        for _ in 0..BATCH {
            let Ok(HandedOver { from, to, mut octets }) = self.shard.mailbox.handed_over.try_recv() else {
                return;
            };
            self.take_updates();
            self.shard.counters.count_taken_over(1);
            self.handle_datagram(&mut octets, from, to);
        }
    }

    pub(super) fn handle_datagram(&mut self, octets: &mut [u8], from: SocketAddr, to: SocketAddr) {
        if let Some(packet) = self.sort(octets, from, to) {
            let taken = self.write_tun(&octets[packet]);
            self.shard.counters.count_to_tun(1, taken);
        }
    }

    /// Brings a datagram where it belongs, but for an IP packet for the TUN: that one's place is returned.
    fn sort(&mut self, octets: &mut [u8], from: SocketAddr, to: SocketAddr) -> Option<Range<usize>> {
        let policy = &self.shard.policy;
        match uplink::classify(&mut self.table, policy, from, octets, self.now.as_millis() as u64) {
            Uplink::Packet { .. } | Uplink::Echo { .. } | Uplink::LcpEcho { .. } if !self.forwards => {
                self.shard.counters.count_drop(DropReason::Isolated);
            }
            Uplink::Packet { packet } => return Some(packet),
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
        None
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
