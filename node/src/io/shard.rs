//! A packet thread: its sockets, its TUN queue, its forwarding table.
//!
//! One round: wait, take table updates, send what the control side gave, then one bounded batch from each source. No
//! allocation and no lock per packet of user data; what goes to the control side or to another shard is copied.
//!
//! Updates are taken again after each receive and before the batch is looked at: so whatever was announced before a
//! datagram arrived is known when it is judged.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_protocol::{SessionId, TunnelId};
use nix::errno::Errno;
use tokio::sync::mpsc;

use super::batch::{BATCH, Departure, ReceiveBatch, SendBatch};
use super::handle::PppRoute;
use super::inbound::Inbound;
use super::mailbox::{HandedOver, Mailbox, Outgoing, Remote};
use super::poller::Poller;
use super::socket::ShardSocket;
use super::{MAX_DATAGRAM, clock};
use crate::dataplane::downlink::{self, Downlink, HEADROOM};
use crate::dataplane::fragment::Fragments;
use crate::dataplane::ip::View;
use crate::dataplane::uplink::{self, Policy, Uplink};
use crate::dataplane::{DropReason, SessionShared, ShardCounters, Table, header, icmp};

/// Messages of the control side that are sent in one round.
const OUTGOING_PER_ROUND: usize = 4 * BATCH;
/// "Packet too big" messages that a shard sends in one second at most (RFC 1812 §4.3.2.8).
const ICMP_PER_SECOND: u32 = 1000;

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
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Shard {
    /// The thread. Ends when it is told to.
    pub(crate) fn run(self) {
        let mut poller = Poller::default();
        let wake = poller.add(&*self.mailbox.wake);
        let sockets = self.sockets.iter().map(|socket| poller.add(socket)).collect();
        let tun = self.tun.as_ref().map(|tun| poller.add(tun));
        let listen: Vec<SocketAddr> = self.sockets.iter().map(|socket| socket.address).collect();
        let mut worker = Worker {
            table: Table::new(&listen),
            send: SendBatch::new(),
            scratch: vec![0; MAX_DATAGRAM],
            now: clock::since_boot(),
            icmp_second: 0,
            icmp_left: 0,
            shard: self,
        };
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
        while !worker.shard.mailbox.outgoing.is_empty() {
            worker.send_outgoing();
        }
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
    icmp_second: u64,
    icmp_left: u32,
}

impl Worker {
    fn round(&mut self, ready: &mut Ready, receive: &mut ReceiveBatch) {
        let mailbox = &self.shard.mailbox;
        let idle = mailbox.outgoing.is_empty() && mailbox.handed_over.is_empty();
        ready
            .poller
            .wait(idle)
            .expect("poll(2) takes what this process may have open");
        if ready.poller.is_ready(ready.wake) {
            mailbox.wake.clear();
        }
        self.now = clock::since_boot();
        self.take_updates();
        self.send_outgoing();
        for (socket, index) in ready.sockets.iter().enumerate() {
            if ready.poller.is_ready(*index) {
                self.receive(socket, receive);
            }
        }
        self.take_handed_over();
        if let Some(index) = ready.tun {
            if ready.poller.is_broken(index) {
                tracing::error!(
                    shard = self.shard.policy.shard,
                    "the TUN device is gone; no data is forwarded"
                );
                ready.poller.forget(index);
            } else if ready.poller.is_ready(index) {
                self.read_tun();
            }
        }
        self.flush();
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

    fn send_outgoing(&mut self) {
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

    fn send_control(
        &mut self,
        local: Option<SocketAddr>,
        peer: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let (start, length) = (0, datagram.len());
        let departure = departure(&self.shard.sockets, local, peer, start, length, 0)?;
        self.free_slot()
            .get_mut(..length)
            .ok_or(DropReason::Oversize)?
            .copy_from_slice(datagram);
        self.send.push(departure);
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
        let mut departure = departure(&self.shard.sockets, route.local, route.peer, 0, 0, 0)?;
        let mut ns = None;
        if route.sequencing {
            let number = downlink::number(&route.shared, self.shard.policy.shard);
            let (Ok((_, ask)) | Err(ask)) = number;
            self.ask_for_numbers(route.tunnel, route.session, &route.shared, ask);
            ns = number.map_err(|_| DropReason::SequenceExhausted)?.0;
        }
        let slot = self.free_slot();
        slot[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
        departure.start = header::write_data(
            slot,
            HEADROOM,
            route.peer_tunnel.get(),
            route.peer_session.get(),
            ns,
        );
        departure.length = HEADROOM + frame.len() - departure.start;
        self.send.push(departure);
        Ok(())
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
            self.shard.counters.count_received();
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
            self.shard.counters.count_taken_over();
            self.handle_datagram(&mut octets, from, to);
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
            Uplink::Packet { session, packet } => {
                if self.write_tun(&octets[packet]) {
                    self.shard.counters.count_uplink();
                } else {
                    let shared = &self.table.session(session).shared;
                    shared.count_drop(self.shard.policy.shard, DropReason::TunRefused);
                    self.shard.counters.count_drop(DropReason::TunRefused);
                }
            }
            Uplink::Echo { session, packet } => self.answer_echo(session, &octets[packet]),
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
        let told = self.shard.inbound[self.shard.policy.shard]
            .try_send(message)
            .is_ok();
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
            let packet = &self.send.slot()[HEADROOM..HEADROOM + length];
            match downlink::route(&self.table, packet) {
                Ok((session, view)) => self.deliver(session, view),
                Err(reason) => self.shard.counters.count_drop(reason),
            }
        }
    }

    /// Sends the packet in the free slot to a session, whole, in fragments or not at all.
    fn deliver(&mut self, session: u32, view: View) {
        let packet = &mut self.send.slot()[HEADROOM..HEADROOM + view.length];
        match downlink::judge(self.table.session(session), &self.shard.policy, packet, view) {
            Downlink::Send(view) => self.depart(session, view.length, view.dscp_bits),
            Downlink::Fragment { view, mtu } => self.fragment(session, view, mtu),
            Downlink::TooBig { view, mtu } => {
                self.shard.counters.count_drop(DropReason::TooBig);
                self.tell_too_big(view, mtu);
            }
            Downlink::Drop(reason) => self.shard.counters.count_drop(reason),
        }
    }

    /// Encapsulates the packet of `length` octets in the free slot.
    fn depart(&mut self, session: u32, length: usize, tos: u8) {
        let session = self.table.session(session);
        let tunnel = self.table.tunnel_of(session);
        let departure = departure(&self.shard.sockets, tunnel.local, tunnel.peer, 0, 0, tos);
        let mut departure = match departure {
            Ok(departure) => departure,
            Err(reason) => return self.shard.counters.count_drop(reason),
        };
        let policy = &self.shard.policy;
        let result = downlink::encapsulate(&self.table, session, policy, self.send.slot(), length);
        let ask = match result {
            Ok(encapsulated) => {
                departure.start = encapsulated.start;
                departure.length = HEADROOM - encapsulated.start + length;
                self.send.push(departure);
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
                    self.depart(session, length, view.dscp_bits);
                }
            }
            None => self.shard.counters.count_drop(DropReason::TooBig),
        }
        self.scratch = scratch;
    }

    /// Tells the sender of the packet in the free slot what fits (S-101).
    fn tell_too_big(&mut self, view: View, mtu: u16) {
        if self.icmp_second != self.now.as_secs() {
            self.icmp_second = self.now.as_secs();
            self.icmp_left = ICMP_PER_SECOND;
        }
        if self.icmp_left == 0 {
            return;
        }
        let mut out = [0; icmp::MAX_ERROR];
        let packet = &self.send.slot()[HEADROOM..HEADROOM + view.length];
        if let Some(length) = icmp::too_big(packet, &view, self.shard.policy.own_address, mtu, &mut out) {
            self.icmp_left -= 1;
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
    fn free_slot(&mut self) -> &mut [u8] {
        if self.send.is_full() {
            self.flush();
        }
        self.send.slot()
    }

    fn flush(&mut self) {
        let flushed = self.send.flush(&self.shard.sockets);
        self.shard.counters.count_sent(flushed.sent);
        for _ in 0..flushed.failed {
            self.shard.counters.count_drop(DropReason::SendFailed);
        }
    }
}

/// By which socket and from which address a datagram to `peer` leaves: from where the peer sends to (RFC 2661 §8.1), or
/// if that is not known, or no longer listened at, from the first socket of its family.
fn departure(
    sockets: &[ShardSocket],
    local: Option<SocketAddr>,
    peer: SocketAddr,
    start: usize,
    length: usize,
    tos: u8,
) -> Result<Departure, DropReason> {
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
    Ok(Departure {
        socket,
        to: peer,
        source,
        tos,
        start,
        length,
    })
}
