//! From LACs that send many datagrams a message, through a real TUN: what comes out behind the kernel is what went in.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv6Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header};
use nix::poll::{PollFd, PollFlags, poll};

use super::*;

/// Behind a second device whose other end is this test's: the kernel routes there, and cuts large packets, as it has no
/// offload.
const BEHIND: [u8; 4] = [10, 200, 0, 1];
const BEHIND_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x200, 0, 0, 0, 0, 1);
/// A tunnel of another shard than [`TUNNEL`].
const OTHER_TUNNEL: u16 = 0x0104;
/// Octets of the IP packets in a burst.
const LENGTH: usize = 940;
/// Packets in a burst.
const BURST: usize = 60;

const UDP: u8 = 17;
const TCP: u8 = 6;

/// The device that the kernel routes to [`BEHIND`].
fn behind() -> OwnedFd {
    let config = TunConfig {
        name: "hf1".into(),
        address: [10, 254, 0, 1].into(),
        mtu: 1500,
        routes: vec!["10.200.0.0/16".parse().expect("a prefix")],
        routes6: Vec::new(),
        anycast: Vec::new(),
        offload: false,
    };
    let device = Tun::open(&config, 1).expect("root may make a TUN device");
    for (file, value) in [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")] {
        std::fs::write(format!("/proc/sys/net/{file}"), value).expect("the namespace is ours");
    }
    ip("-6 route add 2001:db8:200::/48 dev hf1");
    device.into_descriptors().remove(0)
}

/// The next packet for [`BEHIND`] or [`BEHIND_V6`].
fn next_behind(device: &OwnedFd) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let mut wait = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        poll(&mut wait, 10u8).expect("a descriptor");
        let Ok(length) = nix::unistd::read(device, &mut buffer) else {
            continue;
        };
        let packet = &buffer[..length];
        let is_v6 = packet[0] >> 4 == 6;
        if packet[16..20] == BEHIND || is_v6 && packet[24..40] == BEHIND_V6.octets() {
            return packet.to_vec();
        }
    }
    panic!("a packet is missing");
}

/// A packet of `LENGTH` octets, the `count`th of its flow. The subscriber is known by its last octet.
fn packet(subscriber: u8, v6: bool, protocol: u8, count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if v6 {
        let header = Ipv6Header {
            payload_length: (LENGTH - 40) as u16,
            next_header: IpNumber(protocol),
            hop_limit: 64,
            source: [0x20, 1, 0x0d, 0xb8, 0, subscriber, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            destination: BEHIND_V6.octets(),
            ..Ipv6Header::default()
        };
        header.write(&mut out).expect("a vector takes it");
    } else {
        let source = [10, 77, 0, subscriber];
        let mut header = Ipv4Header::new((LENGTH - 20) as u16, 64, IpNumber(protocol), source, BEHIND)
            .expect("it is short");
        header.identification = count as u16;
        header.write(&mut out).expect("a vector takes it");
    }
    let start = out.len();
    out.extend([0x0f, 0xa0, 0, 53]);
    if protocol == UDP {
        out.extend(((LENGTH - start) as u16).to_be_bytes());
        out.extend([0, 0]);
    } else {
        let sequence = 1 + count * (LENGTH - start - 20);
        out.extend((sequence as u32).to_be_bytes());
        out.extend([0, 0, 0, 9, 0x50, 0x10, 2, 0, 0, 0, 0, 0]);
    }
    let rest = LENGTH - out.len();
    out.extend((0..rest).map(|at| (at * 7 + count) as u8));
    set_transport_checksum(&mut out, protocol);
    out
}

fn set_transport_checksum(packet: &mut [u8], protocol: u8) {
    let (start, addresses) = if packet[0] >> 4 == 6 {
        (40, 8..40)
    } else {
        (20, 12..20)
    };
    let at = start + if protocol == UDP { 6 } else { 16 };
    let length = (packet.len() - start) as u32;
    let words = [&packet[addresses], &[0, protocol], &packet[start..]].concat();
    let mut sum = words.chunks(2).fold(length, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + pair.get(1).map_or(0, |low| u32::from(*low))
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[at..at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// As it leaves the router: a hop further.
fn routed(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
    } else {
        packet[8] -= 1;
        set_checksum(&mut packet);
    }
    packet
}

/// Source address, version and protocol.
fn flow(packet: &[u8]) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        [&[6, packet[6]], &packet[8..24]].concat()
    } else {
        [&[4, packet[9]], &packet[12..16]].concat()
    }
}

fn by_flow(packets: Vec<Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for packet in packets {
        flows.entry(flow(&packet)).or_default().push(packet);
    }
    flows
}

/// Packets that the device has received from the LNS: a large one counts once.
fn written_to_tun() -> usize {
    let text = ip("-statistics link show dev hf0");
    let (_, after) = text.split_once("RX:").expect("a line of headings");
    let numbers = after.lines().nth(1).expect("a line of numbers");
    let packets = numbers
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok());
    packets.expect("octets and then packets")
}

/// An LNS with sessions in tunnels of two shards, all of one LAC.
fn lns_of_two_tunnels() -> (Lns, Lac) {
    let (lns, lac) = lns();
    lns.add_tunnel(OTHER_TUNNEL, lac.address(), lns.address());
    for (tunnel, session, subscriber) in [(TUNNEL, 2, 6), (OTHER_TUNNEL, 1, 7), (OTHER_TUNNEL, 2, 8)] {
        let mut entry = lns.session(tunnel, session, [10, 77, 0, subscriber]);
        let prefix = format!("2001:db8:{subscriber:x}::/48");
        entry.routes = vec![prefix.parse().expect("a prefix")];
        lns.update(TableUpdate::Session(entry));
    }
    assert_ne!(
        tunnel_id(TUNNEL).shard(SHARDS),
        tunnel_id(OTHER_TUNNEL).shard(SHARDS)
    );
    (lns, lac)
}

/// A burst of packets by turns from each of the flows, each in its data message, and the packets alone. One in
/// `wrong_each` has a wrong checksum.
fn burst(first: usize, wrong_each: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let flows = [
        (TUNNEL, 1, 5, false, UDP),
        (TUNNEL, 2, 6, false, TCP),
        (TUNNEL, 2, 6, true, UDP),
        (OTHER_TUNNEL, 1, 7, false, TCP),
        (OTHER_TUNNEL, 2, 8, false, UDP),
        (OTHER_TUNNEL, 2, 8, true, TCP),
    ];
    let (mut datagrams, mut packets) = (Vec::new(), Vec::new());
    for at in 0..BURST {
        let (tunnel, session, subscriber, v6, protocol) = flows[at % flows.len()];
        let mut packet = packet(subscriber, v6, protocol, first + at / flows.len());
        if at % wrong_each == wrong_each - 1 {
            packet[LENGTH - 3] ^= 0x20;
        }
        let header = [0xff, 3, 0, if v6 { 0x57 } else { 0x21 }];
        datagrams.extend(data(tunnel, session, &[&header, &packet[..]].concat()));
        packets.push(packet);
    }
    (datagrams, packets)
}

#[test]
#[ignore = "needs root: run by the test command"]
fn the_kernel_makes_the_packets_again_that_subscribers_sent() {
    let _alone = own_namespace();
    let (lns, lac) = lns_of_two_tunnels();
    let device = behind();
    let before = written_to_tun();
    let mut sent = Vec::new();
    for number in 0..5 {
        let (datagrams, packets) = burst(number * BURST / 6, if number < 3 { usize::MAX } else { 11 });
        lac.send_super_packet(&datagrams, (LENGTH + 10) as u16, lns.address());
        sent.extend(packets);
    }
    let came: Vec<Vec<u8>> = sent.iter().map(|_| next_behind(&device)).collect();
    let expected = by_flow(sent.into_iter().map(routed).collect());
    for (flow, packets) in by_flow(came) {
        assert!(packets == expected[&flow], "flow {flow:02x?}");
    }
    let totals = lns.dataplane.totals();
    assert_eq!(totals.iter().map(|shard| shard.uplink).sum::<u64>(), 300);
    let handed_over: u64 = totals.iter().map(|shard| shard.handed_over).sum();
    assert_eq!(
        handed_over, 150,
        "one of the two tunnels is always another shard's"
    );
    let written = written_to_tun() - before;
    assert!(written < 150, "{written} packets were written one by one");
}

/// A TCP connection by hand: the kernel's own end reads what came in bursts.
#[test]
#[ignore = "needs root: run by the test command"]
fn a_tcp_connection_of_a_subscriber_carries_bursts() {
    let _alone = own_namespace();
    let (lns, lac) = lns();
    let listener = TcpListener::bind((OWN, 80)).expect("the TUN has the address");
    let segment = |sequence: u32, acknowledgement: u32, flags: u8, payload: &[u8]| {
        let length = (20 + payload.len()) as u16;
        let mut packet = Vec::new();
        let header = Ipv4Header::new(length, 64, IpNumber(TCP), SUBSCRIBER, OWN.octets());
        let mut header = header.expect("it is short");
        header.dont_fragment = true;
        header.write(&mut packet).expect("a vector takes it");
        packet.extend([0x0f, 0xa0, 0, 80]);
        packet.extend(sequence.to_be_bytes());
        packet.extend(acknowledgement.to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        set_transport_checksum(&mut packet, TCP);
        ip_data(TUNNEL, 1, &packet)
    };
    lac.send(&segment(99, 0, 0x02, &[]), lns.address());
    let answer = next_packet(&lac);
    assert_eq!(answer[33], 0x12, "SYN and ACK");
    let theirs = u32::from_be_bytes(answer[24..28].try_into().expect("four octets")) + 1;
    lac.send(&segment(100, theirs, 0x10, &[]), lns.address());
    let (mut stream, _) = listener.accept().expect("it is connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let before = written_to_tun();
    let octets: Vec<u8> = (0..40_000u32).map(|at| (at * 13 / 7) as u8).collect();
    let burst: Vec<u8> = (0u32..)
        .zip(octets.chunks(1000))
        .flat_map(|(at, chunk)| segment(100 + at * 1000, theirs, 0x10, chunk))
        .collect();
    lac.send_super_packet(&burst, 1050, lns.address());
    let mut read = vec![0; octets.len()];
    stream.read_exact(&mut read).expect("all of it comes");
    assert!(read == octets);
    let written = written_to_tun() - before;
    assert!(written < 40, "{written} packets were written one by one");
    assert_eq!(
        lns.dataplane
            .totals()
            .iter()
            .map(|shard| shard.uplink)
            .sum::<u64>(),
        42
    );
}
