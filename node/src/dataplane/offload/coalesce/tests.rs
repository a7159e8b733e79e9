//! What is joined, what ends a run, and that GSO takes apart what was joined into what it was.

use super::*;
use crate::dataplane::checksum::{add, pseudo_header, sum};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader};
use proptest::prelude::*;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [192, 0, 2, 9];
/// Octets of an IPv4 and a TCP header without options, and where the TCP fields lie that tests change.
const HEADERS: usize = 40;
const FLAGS: usize = 33;

/// A TCP segment over IPv4 with DF.
#[derive(Clone, Copy)]
struct Tcp {
    v6: bool,
    port: u16,
    sequence: u32,
    identification: u16,
    flags: u8,
    payload: usize,
    options: &'static [u8],
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            v6: false,
            port: 4000,
            sequence: 1000,
            identification: 7,
            flags: ACK,
            payload: 100,
            options: &[],
        }
    }
}

impl Tcp {
    fn packet(self) -> Vec<u8> {
        let mut header = TcpHeader::new(self.port, 80, self.sequence, 512);
        header.acknowledgment_number = 99;
        header.set_options_raw(self.options).expect("they fit");
        let mut packet = ip(
            self.v6,
            TCP,
            header.header_len() + self.payload,
            self.identification,
        );
        let start = packet.len();
        header.write(&mut packet).expect("a vector takes it");
        packet.extend(payload(self.sequence, self.payload));
        packet[start + TCP_FLAGS] = self.flags;
        fix(&mut packet);
        packet
    }

    /// `count` segments that follow one another.
    fn train(self, count: usize) -> Vec<Vec<u8>> {
        let segment = |at: usize| Self {
            sequence: self.sequence.wrapping_add((at * self.payload) as u32),
            identification: self.identification.wrapping_add(at as u16),
            ..self
        };
        (0..count).map(|at| segment(at).packet()).collect()
    }
}

fn payload(seed: u32, length: usize) -> impl Iterator<Item = u8> {
    (0..length).map(move |at| (seed as usize + at * 31) as u8)
}

fn ip(v6: bool, protocol: u8, length: usize, identification: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    if v6 {
        let header = Ipv6Header {
            payload_length: length as u16,
            next_header: IpNumber(protocol),
            hop_limit: 64,
            source: [0x20; 16],
            destination: [0x21; 16],
            ..Ipv6Header::default()
        };
        header.write(&mut packet).expect("a vector takes it");
    } else {
        let mut header = Ipv4Header::new(length as u16, 64, IpNumber(protocol), A, B).expect("it is short");
        header.identification = identification;
        header.dont_fragment = true;
        header.write(&mut packet).expect("a vector takes it");
    }
    packet
}

fn udp(v6: bool, port: u16, identification: u16, length: usize) -> Vec<u8> {
    let mut packet = ip(v6, UDP, 8 + length, identification);
    packet.extend(port.to_be_bytes());
    packet.extend(53u16.to_be_bytes());
    packet.extend(((8 + length) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload(u32::from(identification), length));
    fix(&mut packet);
    packet
}

/// Computes all checksums of `packet` anew.
fn fix(packet: &mut [u8]) {
    let (ip, protocol, addresses) = if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 15) * 4;
        ip::set_checksum(&mut packet[..header]);
        (header, packet[9], 12..20)
    } else {
        (40, packet[6], 8..40)
    };
    let at = ip + if protocol == UDP { 6 } else { 16 };
    packet[at..at + 2].fill(0);
    let pseudo = pseudo_header(&packet[addresses], protocol, packet.len() - ip);
    let mut checksum = !(add(pseudo, sum(&packet[ip..])) as u16);
    if protocol == UDP && checksum == 0 {
        checksum = 0xffff;
    }
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// What is written for `packets`: the header and the octets of each.
fn written_by(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    // As in the receive buffers there is something else between the packets.
    let mut octets = Vec::new();
    let mut places = Vec::new();
    for packet in packets {
        octets.extend([0xee; 10]);
        places.push(octets.len()..octets.len() + packet.len());
        octets.extend(packet);
    }
    let mut written = Vec::new();
    let mut write = |coalescer: &mut Coalescer, octets: &mut [u8]| {
        while let Some(joined) = coalescer.take(octets) {
            let whole = joined.pieces().flat_map(|piece| octets[piece].to_vec()).collect();
            assert_eq!(joined.pieces().count(), joined.packets);
            written.push((joined.header, whole));
        }
    };
    for place in places {
        if coalescer.is_full() {
            write(coalescer, &mut octets);
        }
        coalescer.add(&octets, place);
    }
    write(coalescer, &mut octets);
    written
}

fn written(packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    written_by(&mut Coalescer::new(true, true), packets)
}

/// For how many packets each written one stands, after looking that GSO makes the same packets of them.
fn joined(packets: &[Vec<u8>]) -> Vec<usize> {
    let runs: Vec<Vec<Vec<u8>>> = written(packets).iter().map(segments).collect();
    let (mut went_in, mut came_out) = (packets.to_vec(), runs.concat());
    went_in.sort();
    came_out.sort();
    assert!(went_in == came_out, "the packets are not the same");
    runs.iter().map(Vec::len).collect()
}

/// What `tcp_gso_segment`, `__udp_gso_segment` and `inet_gso_segment` of the kernel do.
pub(crate) fn segments((header, whole): &(VnetHeader, Vec<u8>)) -> Vec<Vec<u8>> {
    if *header == VnetHeader::default() {
        return vec![whole.clone()];
    }
    let ip = usize::from(header.checksum_start);
    let (headers, payload) = whole.split_at(usize::from(header.header_length));
    let (is_v6, is_udp) = (headers[0] >> 4 == 6, header.kind == Kind::Udp);
    assert!(header.needs_checksum && whole.len() <= 65_535);
    assert_eq!(usize::from(header.checksum_offset), if is_udp { 6 } else { 16 });
    let segment = usize::from(header.segment);
    let count = payload.len().div_ceil(segment);
    assert!((2..=64).contains(&count));
    check_whole(whole, ip, is_udp);
    let cut = |(at, part): (usize, &[u8])| {
        let mut packet = [headers, part].concat();
        let length = packet.len();
        let set = |packet: &mut [u8], at: usize, value: usize| {
            packet[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
        };
        if is_v6 {
            set(&mut packet, 4, length - 40);
        } else {
            let identification = word(&packet, 4).wrapping_add(at as u16);
            set(&mut packet, 2, length);
            set(&mut packet, 4, usize::from(identification));
        }
        if is_udp {
            set(&mut packet, ip + 4, length - ip);
        } else {
            let first = u32::from_be_bytes(packet[ip + 4..ip + 8].try_into().expect("four octets"));
            let sequence = first.wrapping_add((at * segment) as u32);
            packet[ip + 4..ip + 8].copy_from_slice(&sequence.to_be_bytes());
            if at + 1 < count {
                packet[ip + 13] &= !(FIN | PSH);
            }
        }
        fix(&mut packet);
        packet
    };
    payload.chunks(segment).enumerate().map(cut).collect()
}

/// The lengths and checksums that the kernel looks at and goes on from.
fn check_whole(whole: &[u8], ip: usize, is_udp: bool) {
    let (protocol, addresses, length) = if ip == 40 {
        (whole[6], 8..40, usize::from(word(whole, 4)) + 40)
    } else {
        assert_eq!(sum(&whole[..ip]), 0xffff, "the IPv4 header's checksum");
        (whole[9], 12..20, usize::from(word(whole, 2)))
    };
    assert_eq!(length, whole.len());
    let pseudo = pseudo_header(&whole[addresses], protocol, length - ip) as u16;
    let at = ip + if is_udp { 6 } else { 16 };
    assert_eq!(
        word(whole, at),
        pseudo,
        "the checksum holds the pseudo-header's sum"
    );
    assert!(!is_udp || usize::from(word(whole, ip + 4)) == length - ip);
}

/// Two segments that would be joined, the second changed by `change` and with right checksums.
fn pair(v6: bool, change: impl Fn(&mut Vec<u8>)) -> Vec<Vec<u8>> {
    let tcp = Tcp {
        v6,
        options: &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        ..Tcp::default()
    };
    let mut packets = tcp.train(2);
    change(&mut packets[1]);
    fix(&mut packets[1]);
    packets
}

#[test]
fn segments_of_one_connection_become_one_packet() {
    let packets = Tcp::default().train(3);
    let [(header, whole)] = &written(&packets)[..] else {
        panic!("one packet")
    };
    let expected = VnetHeader {
        kind: Kind::Tcp4,
        needs_checksum: true,
        ecn: false,
        header_length: 40,
        segment: 100,
        checksum_start: 20,
        checksum_offset: 16,
    };
    assert_eq!((*header, whole.len()), (expected, 340));
    assert_eq!(whole[2..4], [0x01, 0x54]);
    let payloads: Vec<u8> = packets
        .iter()
        .flat_map(|packet| packet[HEADERS..].to_vec())
        .collect();
    assert_eq!(whole[HEADERS..], payloads);
    assert_eq!(joined(&packets), [3]);
    let six = Tcp {
        v6: true,
        options: &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        ..Tcp::default()
    };
    let six = six.train(3);
    let (header, whole) = &written(&six)[0];
    assert_eq!(
        (header.kind, header.header_length, header.checksum_start),
        (Kind::Tcp6, 72, 40)
    );
    assert_eq!(usize::from(word(whole, 4)) + 40, whole.len());
    assert_eq!(joined(&six), [3]);
}

#[test]
fn datagrams_of_one_flow_become_one_packet() {
    for v6 in [false, true] {
        let packets: Vec<_> = (0..4)
            .map(|at| udp(v6, 9, at, if at == 3 { 20 } else { 60 }))
            .collect();
        let (header, whole) = &written(&packets)[0];
        let ip = if v6 { 40 } else { 20 };
        assert_eq!(
            (header.kind, header.segment, header.checksum_offset),
            (Kind::Udp, 60, 6)
        );
        assert_eq!(
            (usize::from(header.checksum_start), whole.len()),
            (ip, ip + 8 + 200)
        );
        assert_eq!(joined(&packets), [4]);
    }
}

#[test]
fn a_lone_packet_stays_as_it_is() {
    let packet = Tcp::default().packet();
    assert_eq!(
        written(std::slice::from_ref(&packet)),
        [(VnetHeader::default(), packet)]
    );
}

#[test]
fn what_the_kernel_does_not_take_is_not_made() {
    let packets = [
        Tcp::default().train(2),
        vec![udp(false, 9, 1, 50), udp(false, 9, 2, 50)],
    ]
    .concat();
    let counts = |tcp, udp| -> Vec<usize> {
        let written = written_by(&mut Coalescer::new(tcp, udp), &packets);
        written.iter().map(|run| segments(run).len()).collect()
    };
    assert_eq!(counts(true, true), [2, 2]);
    assert_eq!(counts(true, false), [2, 1, 1]);
    assert_eq!(counts(false, true), [1, 1, 2]);
    assert_eq!(counts(false, false), [1, 1, 1, 1]);
}

#[test]
fn headers_that_differ_end_a_run() {
    assert_eq!(joined(&pair(false, |_| ())), [2]);
    assert_eq!(joined(&pair(true, |_| ())), [2]);
    let v4: [(&str, usize, u8); 17] = [
        ("ECN", 1, 0x03),
        ("DSCP", 1, 0xb8),
        ("DF", 6, 0x40),
        ("the reserved flag", 6, 0x80),
        ("TTL", 8, 1),
        ("source", 15, 1),
        ("destination", 19, 1),
        ("source port", 21, 1),
        ("destination port", 23, 1),
        ("sequence", 27, 1),
        ("acknowledgement", 31, 1),
        ("reserved bits", 32, 1),
        ("window", 35, 1),
        ("urgent pointer", 39, 1),
        ("the timestamp", 46, 1),
        ("its echo", 51, 1),
        ("the kind of an option", 40, 1),
    ];
    for (what, at, bits) in v4 {
        assert_eq!(
            joined(&pair(false, |packet| packet[at] ^= bits)),
            [1, 1],
            "{what}"
        );
    }
    let v6 = [
        ("ECN", 1, 0x30),
        ("flow label", 3, 1),
        ("hop limit", 7, 1),
        ("source", 23, 1),
        ("destination", 39, 1),
        ("acknowledgement", 51, 1),
    ];
    for (what, at, bits) in v6 {
        assert_eq!(joined(&pair(true, |packet| packet[at] ^= bits)), [1, 1], "{what}");
    }
    for flag in [0x02, 0x04, 0x20, 0x40, 0x80] {
        assert_eq!(
            joined(&pair(false, |packet| packet[FLAGS] ^= flag)),
            [1, 1],
            "{flag:#x}"
        );
    }
    assert_eq!(joined(&pair(false, |packet| packet[FLAGS] ^= ACK)), [1, 1]);
}

/// They may be in use for what GSO does not know.
#[test]
fn segments_with_reserved_bits_join_nothing() {
    let mut packets = Tcp::default().train(2);
    for packet in &mut packets {
        packet[32] |= 1;
        fix(packet);
    }
    assert_eq!(joined(&packets), [1, 1]);
}

/// Flows other than that of `first` and than one another, with the same places in the table, a packet of each.
fn others_in_its_places(first: Tcp, count: usize) -> Vec<Vec<u8>> {
    let packet = first.packet();
    let Form::Flow(layout) = form(&packet) else {
        panic!("it has ports")
    };
    let places = first_place(&packet, layout);
    let others = (1..60_000).map(|port| Tcp { port, ..first }.packet());
    let with_address = (1..60_000u16).map(|address| {
        let mut packet = packet.clone();
        packet[14..16].copy_from_slice(&address.to_be_bytes());
        fix(&mut packet);
        packet
    });
    let is_other = |other: &Vec<u8>| first_place(other, layout) == places && other[12..22] != packet[12..22];
    let others: Vec<_> = others
        .take(30_000)
        .chain(with_address)
        .filter(is_other)
        .take(count)
        .collect();
    assert_eq!(others.len(), count, "there are few places");
    others
}

/// As many flows as have room in the same places are each joined, one more ends the run of the first.
#[test]
fn a_flow_in_the_place_of_another_ends_its_run() {
    let first = Tcp::default();
    let next = Tcp {
        sequence: 1200,
        identification: 9,
        ..first
    };
    let others = others_in_its_places(first, WAYS);
    let mut packets = first.train(2);
    packets.extend_from_slice(&others[1..]);
    packets.push(next.packet());
    assert_eq!(joined(&packets), [3, 1, 1, 1]);
    packets.insert(2, others[0].clone());
    assert_eq!(joined(&packets), [2, 1, 1, 1, 1, 1]);
}

/// A packet that cannot join its flow's run ends that one, also where other flows have places beside it.
#[test]
fn a_run_in_a_place_beside_others_is_not_gone_by() {
    let first = Tcp::default();
    let train = first.train(4);
    for other in others_in_its_places(first, WAYS - 1) {
        let late = Tcp {
            sequence: 90_000,
            identification: 9,
            ..first
        };
        let packets = [&other, &train[0], &train[1], &late.packet(), &train[2], &train[3]].map(Clone::clone);
        assert_eq!(joined(&packets), [1, 2, 1, 2]);
    }
}

#[test]
fn many_flows_beside_each_other_are_each_joined() {
    let trains: Vec<_> = (0..64)
        .map(|port| {
            Tcp {
                port: 4000 + port,
                ..Tcp::default()
            }
            .train(16)
        })
        .collect();
    let mixed: Vec<_> = (0..16)
        .flat_map(|at| trains.iter().map(move |train| train[at].clone()))
        .collect();
    assert_eq!(joined(&mixed), [16; 64]);
}

#[test]
fn psh_and_fin_end_a_run_and_begin_none() {
    for flags in [PSH, FIN, PSH | FIN] {
        let mut packets = Tcp::default().train(5);
        packets[2][FLAGS] |= flags;
        fix(&mut packets[2]);
        assert_eq!(joined(&packets), [3, 2]);
        assert_eq!(written(&packets)[0].1[FLAGS], ACK | flags);
        packets.remove(0);
        packets.remove(0);
        assert_eq!(joined(&packets), [1, 2]);
    }
}

#[test]
fn a_shorter_packet_ends_a_run_and_a_longer_one_begins_another() {
    let segment = |sequence, identification, payload| {
        let tcp = Tcp {
            sequence,
            identification,
            payload,
            ..Tcp::default()
        };
        tcp.packet()
    };
    let packets = [
        segment(0, 0, 50),
        segment(50, 1, 49),
        segment(99, 2, 50),
        segment(149, 3, 51),
    ];
    assert_eq!(joined(&packets), [2, 1, 1]);
    let lengths = [50, 50, 7, 50, 51];
    let datagrams: Vec<_> = (0..5)
        .map(|at| udp(false, 9, at, lengths[usize::from(at)]))
        .collect();
    assert_eq!(joined(&datagrams), [3, 1, 1]);
}

#[test]
fn packets_without_payload_join_nothing_and_are_not_overtaken() {
    let mut packets = Tcp::default().train(3);
    let acknowledgement = Tcp {
        payload: 0,
        sequence: 1200,
        identification: 9,
        ..Tcp::default()
    };
    packets.insert(2, acknowledgement.packet());
    packets[3][4..6].copy_from_slice(&10u16.to_be_bytes());
    fix(&mut packets[3]);
    assert_eq!(joined(&packets), [2, 1, 1]);
    let empty = [udp(false, 9, 1, 0), udp(false, 9, 2, 0), udp(false, 9, 3, 0)];
    assert_eq!(joined(&empty), [1, 1, 1]);
}

#[test]
fn the_identification_counts_up_or_stays_with_df() {
    let with = |identifications: [u16; 3], dont_fragment: bool| {
        let mut packets = Tcp::default().train(3);
        for (packet, identification) in packets.iter_mut().zip(identifications) {
            packet[4..6].copy_from_slice(&identification.to_be_bytes());
            packet[6] = if dont_fragment { 0x40 } else { 0 };
            fix(packet);
        }
        let written = written(&packets);
        written.iter().map(|run| segments(run).len()).collect::<Vec<_>>()
    };
    for dont_fragment in [true, false] {
        assert_eq!(with([0xffff, 0, 1], dont_fragment), [3], "it wraps");
        assert_eq!(with([5, 7, 8], dont_fragment), [1, 2]);
        assert_eq!(with([5, 6, 6], dont_fragment), [2, 1]);
        assert_eq!(with([5, 4, 3], dont_fragment), [1, 1, 1]);
    }
    assert_eq!(with([0, 0, 0], true), [3]);
    assert_eq!(with([0, 0, 1], true), [2, 1]);
    assert_eq!(with([0, 0, 2], true), [2, 1]);
    assert_eq!(with([0, 0, 0], false), [1, 1, 1]);
}

#[test]
fn a_wrong_checksum_joins_nothing_and_stays_wrong() {
    // Of the payload, the TCP header and the IPv4 header.
    for octet in [60, 36, 10] {
        for (wrong, expected) in [(0, &[1, 2][..]), (1, &[1, 1, 1]), (2, &[2, 1])] {
            let mut packets = Tcp::default().train(3);
            packets[wrong][octet] ^= 0x11;
            assert_eq!(joined(&packets), expected, "packet {wrong}, octet {octet}");
            let mut datagrams: Vec<_> = (0..3).map(|at| udp(false, 9, at, 50)).collect();
            datagrams[wrong][if octet == 36 { 26 } else { octet }] ^= 0x11;
            assert_eq!(joined(&datagrams), expected, "datagram {wrong}, octet {octet}");
        }
    }
}

/// Changes two octets that are summed up so that the checksum at `at` is the zero of `form`.
fn make_zero(packet: &mut [u8], filler: usize, at: usize, form: u16) {
    let filled = add(u32::from(word(packet, filler)), u32::from(word(packet, at))) as u16;
    packet[filler..filler + 2].copy_from_slice(&filled.to_be_bytes());
    fix(packet);
    assert!(matches!(word(packet, at), 0 | 0xffff));
    packet[at..at + 2].copy_from_slice(&form.to_be_bytes());
}

/// Two values stand for zero. GSO writes but one of them.
#[test]
fn a_checksum_that_gso_would_write_otherwise_joins_nothing() {
    for (form, expected) in [(0, &[2][..]), (0xffff, &[1, 1])] {
        let mut packets = Tcp::default().train(2);
        let end = packets[1].len();
        make_zero(&mut packets[1], end - 2, 36, form);
        assert_eq!(joined(&packets), expected, "TCP {form:#x}");
        let mut packets = Tcp::default().train(2);
        make_zero(&mut packets[1], 4, 10, form);
        let mut before = packets[1].clone();
        let identification = word(&before, 4).wrapping_sub(1);
        before[4..6].copy_from_slice(&identification.to_be_bytes());
        before[24..28].copy_from_slice(&1000u32.to_be_bytes());
        before.splice(HEADERS.., payload(1000, 100));
        fix(&mut before);
        assert_eq!(joined(&[before, packets[1].clone()]), expected, "IPv4 {form:#x}");
    }
    for (form, expected) in [(0, &[1, 1][..]), (0xffff, &[2])] {
        let mut datagrams = [udp(false, 9, 0, 50), udp(false, 9, 1, 50)];
        make_zero(&mut datagrams[1], 76, 26, form);
        assert_eq!(joined(&datagrams), expected, "UDP {form:#x}");
    }
}

#[test]
fn datagrams_without_a_checksum_or_with_another_length_join_nothing() {
    let mut datagrams: Vec<_> = (0..3).map(|at| udp(false, 9, at, 50)).collect();
    for datagram in &mut datagrams {
        datagram[26..28].fill(0);
    }
    assert_eq!(joined(&datagrams), [1, 1, 1]);
    let mut datagrams: Vec<_> = (0..3).map(|at| udp(false, 9, at, 50)).collect();
    datagrams[1][25] -= 1;
    fix(&mut datagrams[1]);
    assert_eq!(joined(&datagrams), [1, 1, 1]);
}

#[test]
fn fragments_and_options_join_nothing_and_are_not_overtaken() {
    let datagram = |at| udp(false, 9, at, 50);
    let mut fragment = datagram(2);
    fragment[6] = 0x20;
    ip::set_checksum(&mut fragment[..20]);
    let mut later = datagram(2);
    later[7] = 7;
    ip::set_checksum(&mut later[..20]);
    let mut options = datagram(2);
    options.splice(20..20, [1, 1, 1, 1]);
    (options[0], options[3]) = (0x46, options[3] + 4);
    fix(&mut options);
    for between in [fragment, later, options] {
        let packets = [
            datagram(0),
            datagram(1),
            between.clone(),
            datagram(2),
            datagram(3),
        ];
        assert_eq!(joined(&packets), [2, 1, 2]);
        assert_eq!(written(&packets)[1].1, between);
    }
    let mut extended: Vec<_> = (0..3).map(|_| udp(true, 9, 0, 50)).collect();
    extended[1][6] = 60;
    extended[1].splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
    extended[1][5] += 8;
    assert_eq!(joined(&extended), [1, 1, 1]);
}

#[test]
fn other_protocols_are_passed_by() {
    let mut echo = Vec::new();
    PacketBuilder::ipv4(A, B, 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut echo, &[7; 8])
        .expect("a vector takes it");
    let mut packets = Tcp::default().train(4);
    packets.insert(2, echo);
    assert_eq!(joined(&packets), [4, 1]);
    let mut echo = Vec::new();
    PacketBuilder::ipv6([0x20; 16], [0x21; 16], 64)
        .icmpv6_echo_request(1, 2)
        .write(&mut echo, &[7; 8])
        .expect("a vector takes it");
    let mut packets = Tcp {
        v6: true,
        ..Tcp::default()
    }
    .train(4);
    packets.insert(2, echo);
    assert_eq!(joined(&packets), [4, 1]);
    assert_eq!(joined(&[vec![], vec![0x45], vec![0x60; 39]]), [1, 1, 1]);
}

#[test]
fn flows_beside_each_other_are_each_joined() {
    let trains: Vec<_> = (0..8)
        .map(|port| {
            Tcp {
                port,
                ..Tcp::default()
            }
            .train(6)
        })
        .collect();
    let mixed: Vec<_> = (0..6)
        .flat_map(|at| trains.iter().map(move |train| train[at].clone()))
        .collect();
    assert_eq!(joined(&mixed), [6; 8]);
}

#[test]
fn a_run_ends_at_64_packets_and_at_65535_octets() {
    assert_eq!(
        joined(
            &Tcp {
                payload: 10,
                ..Tcp::default()
            }
            .train(130)
        ),
        [64, 64, 2]
    );
    let datagrams: Vec<_> = (0..70).map(|at| udp(true, 9, at, 10)).collect();
    assert_eq!(joined(&datagrams), [64, 6]);
    assert_eq!(
        joined(
            &Tcp {
                payload: 1400,
                ..Tcp::default()
            }
            .train(60)
        ),
        [46, 14]
    );
    // 40 + 65,495 octets; one more does not fit.
    assert_eq!(
        joined(
            &Tcp {
                payload: 13_099,
                ..Tcp::default()
            }
            .train(5)
        ),
        [5]
    );
    assert_eq!(
        joined(
            &Tcp {
                payload: 13_100,
                ..Tcp::default()
            }
            .train(5)
        ),
        [4, 1]
    );
    assert_eq!(
        joined(
            &Tcp {
                payload: 13_095,
                v6: true,
                ..Tcp::default()
            }
            .train(5)
        ),
        [5]
    );
    assert_eq!(
        joined(
            &Tcp {
                payload: 13_096,
                v6: true,
                ..Tcp::default()
            }
            .train(5)
        ),
        [4, 1]
    );
}

#[test]
fn a_full_one_is_emptied_and_begins_anew() {
    let packets: Vec<_> = (0..CAPACITY + 3)
        .map(|at| udp(false, at as u16 & 1, (at / 2) as u16, 9))
        .collect();
    let counts = joined(&packets);
    assert_eq!(counts.iter().sum::<usize>(), CAPACITY + 3);
    assert_eq!(counts[counts.len() - 2..], [2, 1]);
    let mut coalescer = Coalescer::new(true, true);
    for _ in 0..2 {
        let written = written_by(&mut coalescer, &Tcp::default().train(3));
        assert_eq!(written.len(), 1, "nothing of the batch before is left");
    }
}

/// One packet of a few flows that are close to one another, and what goes wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    flow: u8,
    short: bool,
    flags: u8,
    spoil: Option<(usize, u8)>,
    gap: bool,
    fragment: bool,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![
        ACK,
        ACK,
        ACK,
        ACK,
        ACK,
        ACK | PSH,
        ACK | FIN,
        ACK | 0x80,
        0x12,
    ]);
    let rare = prop::bool::weighted;
    let spoil = prop::option::weighted(0.1, (0usize..90, 1u8..));
    (0u8..6, rare(0.1), flags, spoil, rare(0.1), rare(0.03)).prop_map(
        |(flow, short, flags, spoil, gap, fragment)| Step {
            flow,
            short,
            flags,
            spoil,
            gap,
            fragment,
        },
    )
}

/// The packets of `steps`: flows 0 and 1 are TCP over IPv4, 2 over IPv6, 3 and 4 UDP over IPv4, 5 over IPv6.
pub(crate) fn packets(steps: &[Step]) -> Vec<Vec<u8>> {
    let mut next = [(1u32, 0u16); 6];
    let mut packets = Vec::new();
    for step in steps {
        let (sequence, identification) = &mut next[usize::from(step.flow)];
        let length = if step.short { 17 } else { 40 };
        if step.gap {
            *sequence = sequence.wrapping_add(1);
            *identification = identification.wrapping_add(1);
        }
        let (port, v6) = (u16::from(step.flow), matches!(step.flow, 2 | 5));
        let mut packet = if step.flow < 3 {
            let tcp = Tcp {
                v6,
                port,
                sequence: *sequence,
                identification: *identification,
                flags: step.flags,
                payload: length,
                options: &[],
            };
            tcp.packet()
        } else {
            udp(v6, port, *identification, length)
        };
        *sequence = sequence.wrapping_add(length as u32);
        *identification = identification.wrapping_add(1);
        if step.fragment && !v6 {
            let offset = IpFragOffset::try_new(3).expect("thirteen bits").value();
            packet[6..8].copy_from_slice(&offset.to_be_bytes());
            ip::set_checksum(&mut packet[..20]);
        }
        if let Some((at, bits)) = step.spoil
            && let Some(octet) = packet.get_mut(at)
        {
            *octet ^= bits;
        }
        packets.push(packet);
    }
    packets
}

/// Which flow a packet is of as far as order goes: version, protocol, addresses and ports. What has no ports in sight is
/// kept in order with everything, which `in_order` looks at.
pub(crate) fn flow(packet: &[u8]) -> Option<Vec<u8>> {
    match form(packet) {
        Form::Flow(layout) if layout.ip == 20 => Some([&[4, packet[9]], &packet[12..24]].concat()),
        Form::Flow(_) => Some([&[6, packet[6]], &packet[8..44]].concat()),
        Form::Other => Some(vec![0]),
        Form::Hidden => None,
    }
}

/// The packets that keep their order with those of `of`.
pub(crate) fn in_order(packets: &[Vec<u8>], of: &[u8]) -> Vec<Vec<u8>> {
    let belongs = |packet: &&Vec<u8>| flow(packet).is_none_or(|flow| flow == of);
    packets.iter().filter(belongs).cloned().collect()
}

proptest! {
    #[test]
    fn gso_makes_the_packets_that_went_in_flow_by_flow(steps in prop::collection::vec(step(), 0..60)) {
        let went_in = packets(&steps);
        let runs: Vec<_> = written(&went_in).iter().map(segments).collect();
        let came_out = runs.concat();
        prop_assert_eq!(came_out.len(), went_in.len());
        for packet in &went_in {
            let Some(of) = flow(packet).filter(|of| of != &[0]) else { continue };
            prop_assert_eq!(in_order(&came_out, &of), in_order(&went_in, &of));
        }
        let sorted = |mut packets: Vec<Vec<u8>>| { packets.sort(); packets };
        prop_assert_eq!(sorted(came_out), sorted(went_in));
    }

    #[test]
    fn whatever_octets_come_are_passed_on(heads in prop::collection::vec(
        (prop::sample::select(vec![&[0x45u8][..], &[0x60], &[0x46], &[]]), prop::collection::vec(any::<u8>(), 0..90)), 0..12)) {
        let went_in: Vec<Vec<u8>> = heads.into_iter().map(|(head, rest)| [head, &rest].concat()).collect();
        let mut came_out: Vec<_> = written(&went_in).iter().flat_map(segments).collect();
        let mut went_in = went_in;
        came_out.sort();
        went_in.sort();
        prop_assert_eq!(came_out, went_in);
    }
}
