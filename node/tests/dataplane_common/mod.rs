//! A LAC's socket and an LNS's packet threads, without a control side.

#![allow(dead_code)] // each test program uses its part

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use holdfast::dataplane::sequence::SendSequence;
use holdfast::dataplane::{
    DropReason, Magics, SessionEntry, SessionShared, ShardTotals, TableUpdate, TunnelEntry, TunnelShared,
};
use holdfast::io::{Dataplane, Inbound, Passage, PppRoute, SendError, SocketGroup, Tun, inbound};
use holdfast_protocol::{SessionId, TunnelId};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use tokio::sync::mpsc;

/// The node's own address in all sessions.
pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);

/// Of LCP, on all links.
pub const MAGICS: Magics = Magics { local: 7, peer: 9 };

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub fn tunnel_id(id: u16) -> TunnelId {
    TunnelId::new(id).expect("not zero")
}

pub fn session_id(id: u16) -> SessionId {
    SessionId::new(id).expect("not zero")
}

pub struct Lns {
    pub dataplane: Dataplane,
    pub inbound: Vec<mpsc::Receiver<Inbound>>,
}

impl Lns {
    pub fn start(listen: &str, shards: usize, tun: Option<Tun>) -> Self {
        Self::start_in_cluster(listen, shards, tun, None)
    }

    pub fn start_in_cluster(
        listen: &str,
        shards: usize,
        tun: Option<Tun>,
        passage: Option<Arc<dyn Passage>>,
    ) -> Self {
        let listen: SocketAddr = listen.parse().expect("an address");
        let sockets = SocketGroup::open(&[listen], shards).expect("the address is free");
        let (senders, inbound) = inbound::channels(shards);
        let dataplane = Dataplane::start(OWN, sockets, tun, senders, passage, None).expect("threads start");
        Self { dataplane, inbound }
    }

    pub fn address(&self) -> SocketAddr {
        self.dataplane.addresses()[0]
    }

    pub fn send_ppp(
        &self,
        route: PppRoute,
        frame: Vec<u8>,
        fresh_until: Option<Duration>,
    ) -> Result<(), SendError> {
        let shard = route.tunnel.shard(self.dataplane.shards());
        self.dataplane.queue_ppp(route, frame, fresh_until)?;
        self.dataplane.wake(shard);
        Ok(())
    }

    pub fn add_tunnel(&self, id: u16, peer: SocketAddr, local: SocketAddr) {
        let entry = TunnelEntry {
            tunnel: tunnel_id(id),
            peer,
            local: Some(local),
            peer_tunnel: tunnel_id(id),
            shared: Arc::new(TunnelShared::default()),
        };
        self.update(TableUpdate::Tunnel(entry));
    }

    /// An open session whose ids are the same on both sides.
    pub fn session(&self, tunnel: u16, session: u16, address: [u8; 4]) -> SessionEntry {
        SessionEntry {
            tunnel: tunnel_id(tunnel),
            session: session_id(session),
            peer_session: session_id(session),
            open: true,
            ipv6: true,
            address: Some(address.into()),
            routes: Vec::new(),
            mtu: 1400,
            mss_clamp: true,
            sequencing: false,
            filters: 0,
            limits: holdfast::dataplane::rate::Limits::default(),
            magics: MAGICS,
            shared: Arc::new(SessionShared::new(
                self.dataplane.shards(),
                SendSequence::default(),
            )),
        }
    }

    pub fn add_session(&self, tunnel: u16, session: u16, address: [u8; 4]) -> Arc<SessionShared> {
        let entry = self.session(tunnel, session, address);
        let shared = Arc::clone(&entry.shared);
        self.update(TableUpdate::Session(entry));
        shared
    }

    pub fn update(&self, update: TableUpdate) {
        self.dataplane.update(update).expect("the threads run");
    }

    /// Waits until the totals of all shards satisfy `condition`.
    pub fn wait(&self, what: &str, condition: impl Fn(&[ShardTotals]) -> bool) -> Vec<ShardTotals> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let totals = self.dataplane.totals();
            if condition(&totals) {
                return totals;
            }
            assert!(Instant::now() < deadline, "{what}: {totals:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn wait_for_drops(&self, reason: DropReason, count: u64) {
        self.wait(reason.name(), |totals| dropped(totals, reason) == count);
    }

    /// The next message for the control side of `shard`.
    pub fn next(&mut self, shard: usize) -> Inbound {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(message) = self.inbound[shard].try_recv() {
                return message;
            }
            assert!(
                Instant::now() < deadline,
                "nothing for the control side of shard {shard}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub fn dropped(totals: &[ShardTotals], reason: DropReason) -> u64 {
    totals.iter().map(|shard| shard.dropped(reason)).sum()
}

pub struct Lac {
    pub socket: UdpSocket,
}

impl Lac {
    pub fn new(address: &str) -> Self {
        let socket = UdpSocket::bind(address).expect("a loopback socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    pub fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.socket.send_to(datagram, to).expect("loopback takes it");
    }

    pub fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 4096];
        let (length, from) = self.socket.recv_from(&mut buffer).expect("a datagram comes");
        (buffer[..length].to_vec(), from)
    }

    /// A datagram and the TOS or Traffic Class of its IP header.
    pub fn receive_with_tos(&self) -> (Vec<u8>, u8) {
        let mut buffer = [0; 4096];
        let mut control = nix::cmsg_space!(i32, i32);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::empty())
            .expect("a datagram comes");
        let tos = message
            .cmsgs()
            .expect("whole control messages")
            .find_map(|message| match message {
                ControlMessageOwned::Ipv4Tos(tos) => Some(tos),
                ControlMessageOwned::Ipv6TClass(class) => Some(class as u8),
                _ => None,
            });
        let (length, tos) = (message.bytes, tos.expect("the kernel tells"));
        (buffer[..length].to_vec(), tos)
    }

    /// Sends all `datagrams`, each of `size` octets, as one GSO super-packet.
    pub fn send_super_packet(&self, datagrams: &[u8], size: u16, to: SocketAddr) {
        let slices = [IoSlice::new(datagrams)];
        let control = [ControlMessage::UdpGsoSegments(&size)];
        let to = SockaddrStorage::from(to);
        let sent = sendmsg(
            self.socket.as_raw_fd(),
            &slices,
            &control,
            MsgFlags::empty(),
            Some(&to),
        );
        assert_eq!(sent, Ok(datagrams.len()));
    }
}

/// An unsequenced data message.
pub fn data(tunnel: u16, session: u16, frame: &[u8]) -> Vec<u8> {
    let [t1, t2] = tunnel.to_be_bytes();
    let [s1, s2] = session.to_be_bytes();
    [&[0, 2, t1, t2, s1, s2], frame].concat()
}

/// An IPv4 packet in a data message.
pub fn ip_data(tunnel: u16, session: u16, packet: &[u8]) -> Vec<u8> {
    data(tunnel, session, &[&[0xff, 3, 0, 0x21], packet].concat())
}

/// An acknowledgement without a body.
pub fn zlb(tunnel: u16) -> Vec<u8> {
    let [t1, t2] = tunnel.to_be_bytes();
    vec![0xc8, 2, 0, 12, t1, t2, 0, 0, 0, 1, 0, 1]
}

/// An Echo-Request with `payload` octets of payload and the given TOS.
pub fn ping(from: [u8; 4], to: Ipv4Addr, sequence: u16, payload: usize, tos: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(from, to.octets(), 64)
        .icmpv4_echo_request(7, sequence)
        .write(&mut packet, &vec![0x5a; payload])
        .expect("a vector takes it");
    packet[1] = tos;
    set_checksum(&mut packet);
    packet
}

/// Computes the checksum of an IPv4 header without options anew.
pub fn set_checksum(packet: &mut [u8]) {
    let header = etherparse::Ipv4HeaderSlice::from_slice(packet)
        .expect("well formed")
        .to_header();
    packet[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

/// Whether the address of a test's socket is one of IPv6.
pub fn is_ipv6(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(_))
}
