//! Large packets from the kernel, and bursts to the LACs: what arrives there is what single packets would have been. Each test
//! in a network namespace of its own. Needs root.

mod dataplane_common;

use std::io::{IoSlice, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataplane_common::*;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use holdfast::dataplane::sequence::SendSequence;
use holdfast::dataplane::{DropReason, SessionShared, TableUpdate};
use holdfast::io::{Tun, TunConfig};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

const TUNNEL: u16 = 0x0103;
const SUBSCRIBER: [u8; 4] = [10, 77, 0, 5];
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const SUBSCRIBER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 5);

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("iproute2 is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {complaint}");
    String::from_utf8(output.stdout).expect("text")
}

/// Moves this test's thread, and what it starts, into an empty namespace with a loopback device, one test at a time.
fn own_namespace() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
    ip("link set lo up");
    alone
}

/// An LNS with one shard, a TUN with or without offload and one session, whose LAC is on loopback.
fn lns(offload: bool) -> (Lns, Lac) {
    let config = TunConfig {
        name: "hf0".into(),
        address: OWN,
        mtu: 1500,
        routes: vec!["10.77.0.0/16".parse().expect("a prefix")],
        routes6: Vec::new(),
        anycast: Vec::new(),
        offload,
    };
    let tun = Tun::open(&config, 1).expect("root may make a TUN device");
    ip(&format!("address add {OWN6}/128 dev hf0 nodad"));
    ip("route add 2001:db8:2::/64 dev hf0");
    let lns = Lns::start("127.0.0.1:1701", 1, Some(tun));
    let lac = Lac::new("127.0.0.1:0");
    lns.add_tunnel(TUNNEL, lac.address(), lns.address());
    let mut session = lns.session(TUNNEL, 1, SUBSCRIBER);
    session.routes = vec!["2001:db8:2::/64".parse().expect("a prefix")];
    lns.update(TableUpdate::Session(session));
    (lns, lac)
}

/// A socket of the core. The kernel cuts what it sends if the TUN does not take it whole.
fn core_host(ipv6: bool) -> UdpSocket {
    let own: SocketAddr = if ipv6 { (OWN6, 0).into() } else { (OWN, 0).into() };
    UdpSocket::bind(own).expect("the TUN has the address")
}

/// Gives the kernel all of `payload` at once, to be sent in datagrams of `size` octets.
fn send_burst(host: &UdpSocket, payload: &[u8], size: u16, to: SocketAddr) {
    let sent = sendmsg(
        host.as_raw_fd(),
        &[IoSlice::new(payload)],
        &[ControlMessage::UdpGsoSegments(&size)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(to)),
    );
    assert_eq!(sent, Ok(payload.len()));
}

/// How many packets, large ones counted once, the kernel has put on the TUN.
fn on_the_tun() -> usize {
    let link = ip("-stats link show dev hf0");
    let after = link.lines().skip_while(|line| !line.contains("TX:")).nth(1);
    let fields: Vec<&str> = after.expect("a line of numbers").split_whitespace().collect();
    fields[1].parse().expect("packets")
}

fn octets(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 251) as u8).collect()
}

/// A packet as it arrived, lengths and checksums verified.
struct Arrived {
    identification: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: Flags,
    source_port: u16,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    syn: bool,
    fin: bool,
}

/// Reads the packet in a data message of `tunnel` and `session`. `None` if it is neither TCP nor UDP: the kernel says more on a
/// device than was asked for.
fn arrived(datagram: &[u8], tunnel: u16, session: u16) -> Option<Arrived> {
    let (protocol, packet) = (&datagram[8..10], &datagram[10..]);
    assert_eq!(datagram[..8], data(tunnel, session, &[0xff, 3])[..]);
    let sliced = SlicedPacket::from_ip(packet).expect("well formed");
    let mut identification = 0;
    let length = match sliced.net.as_ref().expect("an IP packet") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(protocol, [0, 0x21]);
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            identification = header.identification;
            usize::from(header.total_len)
        }
        NetSlice::Ipv6(ip) => {
            assert_eq!(protocol, [0, 0x57]);
            40 + usize::from(ip.header().payload_length())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(length, packet.len());
    let net = sliced.net.as_ref().expect("it is there");
    let mut found = Arrived {
        identification,
        sequence: 0,
        acknowledgement: 0,
        flags: Flags::default(),
        source_port: 0,
        payload: Vec::new(),
    };
    let complete = match (sliced.transport.as_ref()?, net) {
        (TransportSlice::Udp(udp), NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            found.payload = udp.payload().to_vec();
            (
                udp.checksum(),
                udp.to_header().calc_checksum_ipv4(&header, udp.payload()),
            )
        }
        (TransportSlice::Udp(udp), NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            found.payload = udp.payload().to_vec();
            (
                udp.checksum(),
                udp.to_header().calc_checksum_ipv6(&header, udp.payload()),
            )
        }
        (TransportSlice::Tcp(tcp), net) => {
            found.payload = tcp.payload().to_vec();
            (found.sequence, found.acknowledgement) = (tcp.sequence_number(), tcp.acknowledgment_number());
            found.source_port = tcp.source_port();
            found.flags = Flags {
                syn: tcp.syn(),
                fin: tcp.fin(),
            };
            let header = tcp.to_header();
            let complete = match net {
                NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()),
                NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), tcp.payload()),
                other => panic!("{other:?}"),
            };
            (tcp.checksum(), complete)
        }
        _ => return None,
    };
    assert_eq!(complete, (complete.0, Ok(complete.0)), "the checksum");
    Some(found)
}

/// The next TCP or UDP packet for the first session.
fn next(lac: &Lac) -> Arrived {
    loop {
        let (datagram, _) = lac.receive();
        if let Some(found) = arrived(&datagram, TUNNEL, 1) {
            return found;
        }
    }
}

#[test]
#[ignore = "needs root: run by the test command"]
fn udp_in_bursts_arrives_as_the_datagrams_that_were_meant() {
    for (offload, ipv6) in [(true, false), (true, true), (false, false), (false, true)] {
        let _alone = own_namespace();
        let (lns, lac) = lns(offload);
        let host = core_host(ipv6);
        let to: SocketAddr = if ipv6 {
            (SUBSCRIBER6, 9).into()
        } else {
            (SUBSCRIBER, 9).into()
        };
        let before = on_the_tun();
        let mut datagrams = 0;
        for (length, size) in [
            (10_300, 1000),
            (1, 1),
            (63, 1),
            (40_000, 1352),
            (1200, 1200),
            (2001, 1000),
        ] {
            let payload = octets(length);
            send_burst(&host, &payload, size, to);
            let mut identification = None;
            for expected in payload.chunks(size.into()) {
                let found = next(&lac);
                assert_eq!(found.payload, expected, "{offload} {ipv6} {length} {size}");
                let expected = identification.map(|last: u16| last.wrapping_add(1));
                assert!(ipv6 || expected.is_none_or(|expected| expected == found.identification));
                identification = Some(found.identification);
                datagrams += 1;
            }
        }
        let reads = on_the_tun() - before;
        assert!(
            (reads < datagrams / 4) == offload,
            "{reads} packets on the TUN, offload {offload}"
        );
        let session = lns.dataplane.totals();
        assert!(session[0].downlink >= datagrams as u64);
        lns.wait("all were sent", |totals| totals[0].sent >= datagrams as u64);
    }
}

/// The subscriber's end of a TCP connection.
struct Peer<'a> {
    lns: &'a Lns,
    lac: &'a Lac,
    ipv6: bool,
    host_port: u16,
    expected: u32,
}

impl Peer<'_> {
    fn send(&self, syn: bool) {
        let sequence = if syn { 999 } else { 1000 };
        let mut packet = Vec::new();
        let ports = (80, self.host_port);
        let address = |ipv6: bool| {
            if ipv6 {
                PacketBuilder::ipv6(SUBSCRIBER6.octets(), OWN6.octets(), 64)
                    .tcp(ports.0, ports.1, sequence, 65_535)
            } else {
                PacketBuilder::ipv4(SUBSCRIBER, OWN.octets(), 64).tcp(ports.0, ports.1, sequence, 65_535)
            }
        };
        let segment = address(self.ipv6).ack(self.expected);
        if syn {
            let options = [TcpOptionElement::MaximumSegmentSize(1300)];
            let segment = segment.syn().options(&options).expect("it fits");
            segment.write(&mut packet, &[]).expect("a vector takes it");
        } else {
            segment.write(&mut packet, &[]).expect("a vector takes it");
        }
        let protocol = if self.ipv6 { 0x57 } else { 0x21 };
        let frame = [&[0xff, 3, 0, protocol], &packet[..]].concat();
        self.lac.send(&data(TUNNEL, 1, &frame), self.lns.address());
    }

    /// Takes what the host sends until it has no more.
    fn receive(&mut self) -> (Vec<u8>, usize) {
        let (mut received, mut segments) = (Vec::new(), 0);
        loop {
            let found = next(self.lac);
            if found.flags.syn {
                self.host_port = found.source_port;
                self.expected = found.sequence.wrapping_add(1);
                self.send(true);
                continue;
            }
            if found.sequence == self.expected {
                segments += usize::from(!found.payload.is_empty());
                self.expected = self.expected.wrapping_add(found.payload.len() as u32);
                received.extend_from_slice(&found.payload);
                if found.flags.fin {
                    self.expected = self.expected.wrapping_add(1);
                    self.send(false);
                    return (received, segments);
                }
            }
            if !found.payload.is_empty() {
                assert_eq!(found.acknowledgement, 1000);
                self.send(false);
            }
        }
    }
}

#[test]
#[ignore = "needs root: run by the test command"]
fn tcp_arrives_as_the_segments_that_were_meant() {
    for (offload, ipv6) in [(true, false), (true, true), (false, false), (false, true)] {
        let _alone = own_namespace();
        let (lns, lac) = lns(offload);
        let before = on_the_tun();
        let payload = octets(1 << 20);
        // Opened here: another thread would be in another namespace.
        let to: SocketAddr = if ipv6 {
            (SUBSCRIBER6, 80).into()
        } else {
            (SUBSCRIBER, 80).into()
        };
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let sent = payload.clone();
        let host = std::thread::spawn(move || {
            socket.connect(&to.into()).expect("the peer answers");
            let mut stream = TcpStream::from(socket);
            stream.write_all(&sent).expect("the peer takes it");
            stream.shutdown(std::net::Shutdown::Write).expect("it is open");
            let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
            let _ = stream.read(&mut [0; 16]);
        });
        let mut peer = Peer {
            lns: &lns,
            lac: &lac,
            ipv6,
            host_port: 0,
            expected: 0,
        };
        let (received, segments) = peer.receive();
        assert!(received == payload, "{offload} {ipv6}: other octets");
        let reads = on_the_tun() - before;
        assert!(
            (reads < segments / 2) == offload,
            "{reads} packets on the TUN for {segments} segments, offload {offload}"
        );
        host.join().expect("the host has no complaint");
    }
}

/// What to send: a session and how many datagrams of which size.
const MIX: [(usize, usize, u16); 12] = [
    (0, 1, 64),
    (1, 1, 64),
    (0, 5, 576),
    (2, 9, 1372),
    (1, 1, 576),
    (0, 1, 64),
    (0, 1, 64),
    (3, 30, 64),
    (2, 1, 1000),
    (4, 2, 1372),
    (3, 1, 64),
    (0, 1, 1372),
];

#[test]
#[ignore = "needs root: run by the test command"]
fn several_lacs_and_sizes_at_once() {
    for offload in [true, false] {
        let _alone = own_namespace();
        let (lns, first) = lns(offload);
        let lacs = [first, Lac::new("127.0.0.1:0"), Lac::new("127.0.0.1:0")];
        // Session, its LAC and tunnel: two tunnels of the first LAC, two sessions of one tunnel.
        let sessions = [
            (0, TUNNEL, 1),
            (1, 0x0204, 1),
            (0, 0x0305, 7),
            (2, 0x0406, 1),
            (2, 0x0406, 2),
        ];
        for (lac, tunnel) in [(1, 0x0204), (0, 0x0305), (2, 0x0406)] {
            lns.add_tunnel(tunnel, lacs[lac].address(), lns.address());
        }
        let address = |index: usize| [10, 77, 1, index as u8];
        for (index, (_, tunnel, session)) in sessions.iter().enumerate() {
            lns.add_session(*tunnel, *session, address(index));
        }
        let host = core_host(false);
        for round in 0..8 {
            let mut expected: [Vec<(usize, Vec<u8>)>; 3] = Default::default();
            for (session, count, size) in MIX {
                let mut payload = octets(count * usize::from(size));
                payload[0] = round;
                let pieces = payload.chunks(size.into()).map(|piece| (session, piece.to_vec()));
                expected[sessions[session].0].extend(pieces);
                send_burst(&host, &payload, size, (address(session), 9).into());
            }
            for (session, payload, lac) in each(&lacs, expected) {
                let (datagram, from) = lac.receive();
                let (_, tunnel, id) = sessions[session];
                let found = arrived(&datagram, tunnel, id).expect("UDP");
                assert!(found.payload == payload, "{} octets", found.payload.len());
                assert_eq!(from, lns.address());
            }
        }
    }
}

/// What each LAC is to receive: session and payload.
fn each(
    lacs: &[Lac; 3],
    expected: [Vec<(usize, Vec<u8>)>; 3],
) -> impl Iterator<Item = (usize, Vec<u8>, &Lac)> {
    let of = |(lac, expected): (_, Vec<_>)| {
        expected
            .into_iter()
            .map(move |(session, payload)| (session, payload, lac))
    };
    lacs.iter().zip(expected).flat_map(of)
}

#[test]
#[ignore = "needs root: run by the test command"]
fn what_does_not_leave_as_it_is_goes_one_by_one() {
    let _alone = own_namespace();
    let (lns, lac) = lns(true);
    std::fs::write("/proc/sys/net/ipv4/ip_no_pmtu_disc", "1").expect("root may");
    let host = core_host(false);
    let mut sequenced = lns.session(TUNNEL, 2, [10, 77, 0, 6]);
    sequenced.sequencing = true;
    sequenced.shared = Arc::new(SessionShared::new(1, SendSequence::new(7, 1000)));
    lns.update(TableUpdate::Session(sequenced));
    let mut small = lns.session(TUNNEL, 3, [10, 77, 0, 7]);
    small.mtu = 1000;
    small.routes = vec!["2001:db8:2::7/128".parse().expect("a prefix")];
    lns.update(TableUpdate::Session(small));
    let mut closed = lns.session(TUNNEL, 4, [10, 77, 0, 8]);
    closed.open = false;
    lns.update(TableUpdate::Session(closed));

    let payload = octets(5100);
    send_burst(&host, &payload, 1000, ([10, 77, 0, 6], 9).into());
    for (number, expected) in payload.chunks(1000).enumerate() {
        let (datagram, _) = lac.receive();
        let header = [8, 2, 1, 3, 0, 2, 0, 7 + number as u8, 0, 0, 0xff, 3, 0, 0x21];
        assert_eq!(datagram[..14], header);
        assert_eq!(&datagram[42..], expected);
    }

    // Without DF: each datagram in two fragments.
    send_burst(&host, &payload, 1200, ([10, 77, 0, 7], 9).into());
    for expected in payload.chunks(1200) {
        let mut found = Vec::new();
        while found.len() < expected.len() + 8 {
            let (datagram, _) = lac.receive();
            assert!(datagram.len() <= 1010);
            found.extend_from_slice(&datagram[30..]);
        }
        assert_eq!(&found[8..], expected);
    }

    send_burst(&host, &payload, 1000, ([10, 77, 0, 8], 9).into());
    lns.wait_for_drops(DropReason::NotOpen, 6);
    send_burst(&host, &payload, 1000, ([10, 77, 0, 9], 9).into());
    lns.wait("no route", |totals| dropped(totals, DropReason::NoRoute) >= 6);

    let small = SocketAddr::from(([0x2001, 0xdb8, 2, 0, 0, 0, 0, 7], 9));
    send_burst(&core_host(true), &payload, 1200, small);
    // The last one fits.
    lns.wait_for_drops(DropReason::TooBig, 4);
    assert_eq!(lac.receive().0[58..], payload[4800..]);
}

/// Fragments inside, never outside, in bursts too; a burst that does not fit takes nobody else's along.
#[test]
#[ignore = "needs root: run by the test command"]
fn a_burst_that_does_not_fit_the_interface_outside_is_counted_to_the_datagram() {
    for offload in [true, false] {
        let _alone = own_namespace();
        let (lns, lac) = lns(offload);
        let other = Lac::new("127.0.0.1:0");
        lns.add_tunnel(0x0204, other.address(), lns.address());
        lns.add_session(0x0204, 1, [10, 77, 0, 6]);
        ip("link set lo mtu 1300");
        let host = core_host(false);
        for _ in 0..20 {
            send_burst(&host, &octets(5 * 1300 + 100), 1300, (SUBSCRIBER, 9).into());
            send_burst(&host, &octets(5000), 1000, ([10, 77, 0, 6], 9).into());
            assert_eq!(next(&lac).payload.len(), 100);
            for _ in 0..5 {
                let (datagram, _) = other.receive();
                assert_eq!(datagram.len(), 1038);
            }
        }
        lns.wait_for_drops(DropReason::OuterTooBig, 100);
    }
}
