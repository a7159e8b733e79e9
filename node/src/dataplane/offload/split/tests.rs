use super::*;
use etherparse::{Ipv4Header, Ipv6Header, TcpHeader, UdpHeader, ip_number};
use proptest::prelude::*;

const FROM: [u8; 4] = [192, 0, 2, 9];
const TO: [u8; 4] = [10, 0, 0, 1];
const FROM6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
const TO6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];

/// A large packet, and what etherparse makes of the packets for which it stands.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) ipv6: bool,
    pub(crate) udp: bool,
    /// Words of IPv4 options, or an IPv6 extension header if not 0.
    pub(crate) ip_options: usize,
    /// Words of TCP options.
    pub(crate) tcp_options: usize,
    identification: u16,
    sequence: u32,
    pub(crate) flags: u8,
    payload: Vec<u8>,
    segment: u16,
}

impl Flow {
    pub(crate) fn new(ipv6: bool, udp: bool, length: usize, segment: u16) -> Self {
        Self {
            ipv6,
            udp,
            ip_options: 0,
            tcp_options: 3,
            identification: 0xfffe,
            sequence: 0xffff_ff00,
            flags: 0x10,
            payload: (0..length).map(|n| (n * 7 + n / 256) as u8).collect(),
            segment,
        }
    }

    fn transport(&self) -> usize {
        match (self.ipv6, self.ip_options) {
            (false, words) => 20 + 4 * words,
            (true, 0) => 40,
            (true, _) => 48,
        }
    }

    fn protocol(&self) -> etherparse::IpNumber {
        if self.udp { ip_number::UDP } else { ip_number::TCP }
    }

    /// One packet of the flow, its checksum complete.
    fn packet(&self, number: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let tcp = self.tcp(sequence, flags);
        let length = payload.len() + if self.udp { 8 } else { tcp.header_len() };
        let mut out = Vec::new();
        if self.ipv6 {
            let mut ip = Ipv6Header {
                traffic_class: 0x48,
                payload_length: (length + self.transport() - 40) as u16,
                next_header: self.protocol(),
                hop_limit: 61,
                source: FROM6,
                destination: TO6,
                ..Ipv6Header::default()
            };
            let udp = UdpHeader::with_ipv6_checksum(53, 9, &ip, payload);
            let mut tcp = tcp;
            tcp.checksum = tcp.calc_checksum_ipv6(&ip, payload).expect("short");
            if self.ip_options > 0 {
                ip.next_header = ip_number::IPV6_DEST_OPTIONS;
            }
            ip.write(&mut out).expect("a vector takes it");
            if self.ip_options > 0 {
                out.extend_from_slice(&[self.protocol().0, 0, 1, 4, 0, 0, 0, 0]);
            }
            self.write_transport(&mut out, tcp, udp.ok());
        } else {
            let mut ip = Ipv4Header::new(0, 61, self.protocol(), FROM, TO).expect("short");
            ip.identification = self.identification.wrapping_add(number);
            ip.options = vec![1; 4 * self.ip_options].as_slice().try_into().expect("words");
            ip.total_len = (ip.header_len() + length) as u16;
            ip.header_checksum = ip.calc_header_checksum();
            let udp = UdpHeader::with_ipv4_checksum(53, 9, &ip, payload);
            let mut tcp = tcp;
            tcp.checksum = tcp.calc_checksum_ipv4(&ip, payload).expect("short");
            ip.write_raw(&mut out).expect("a vector takes it");
            self.write_transport(&mut out, tcp, udp.ok());
        }
        out.extend_from_slice(payload);
        out
    }

    fn write_transport(&self, out: &mut Vec<u8>, tcp: TcpHeader, udp: Option<UdpHeader>) {
        if self.udp {
            udp.expect("short").write(out).expect("a vector takes it");
        } else {
            tcp.write(out).expect("a vector takes it");
        }
    }

    fn tcp(&self, sequence: u32, flags: u8) -> TcpHeader {
        let mut tcp = TcpHeader::new(80, 4000, sequence, 0x7fff);
        tcp.acknowledgment_number = 0x0102_0304;
        [
            tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg, tcp.ece, tcp.cwr,
        ] = std::array::from_fn(|bit| flags >> bit & 1 != 0);
        tcp.set_options_raw(&vec![1; 4 * self.tcp_options])
            .expect("ten words at most");
        tcp
    }

    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        let pieces: Vec<&[u8]> = self.payload.chunks(self.segment.into()).collect();
        let last = pieces.len() - 1;
        let packet = |(number, piece): (usize, &&[u8])| {
            let mut flags = self.flags;
            if number > 0 {
                flags &= !CWR;
            }
            if number < last {
                flags &= !(FIN | PSH);
            }
            let sequence = self
                .sequence
                .wrapping_add((number * usize::from(self.segment)) as u32);
            self.packet(number as u16, sequence, flags, piece)
        };
        pieces.iter().enumerate().map(packet).collect()
    }

    /// As the kernel gives it: the checksum is the sum of the pseudo-header.
    pub(crate) fn large(&self) -> (VnetHeader, Vec<u8>) {
        let mut packet = self.packet(0, self.sequence, self.flags, &self.payload);
        let transport = self.transport();
        let kind = match (self.udp, self.ipv6) {
            (true, _) => Kind::Udp,
            (false, false) => Kind::Tcp4,
            (false, true) => Kind::Tcp6,
        };
        let offset = if self.udp { 6 } else { 16 };
        let header = VnetHeader {
            kind,
            needs_checksum: true,
            ecn: self.flags & CWR != 0,
            header_length: 0,
            segment: self.segment,
            checksum_start: transport as u16,
            checksum_offset: offset,
        };
        let addresses = if self.ipv6 { 8..40 } else { 12..20 };
        let mut sum = checksum::sum(&packet[addresses]);
        sum += u32::from(self.protocol().0) + (packet.len() - transport) as u32;
        let at = transport + usize::from(offset);
        packet[at..at + 2].copy_from_slice(&(!inverted(sum, false)).to_be_bytes());
        (header, packet)
    }
}

fn split(header: &VnetHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, DropReason> {
    let split = Split::new(header, packet)?;
    let piece = |number| {
        let mut out = vec![0xee; split.headers() + 3];
        let payload = split.write_headers(packet, number, &mut out);
        assert_eq!(out.split_off(split.headers()), [0xee; 3]);
        out.extend_from_slice(&packet[payload]);
        assert!(out.len() <= split.largest());
        out
    };
    Ok((0..split.packets()).map(piece).collect())
}

fn check(flow: &Flow) {
    let (header, packet) = flow.large();
    let (found, expected) = (split(&header, &packet).expect("well formed"), flow.packets());
    assert_eq!(found.len(), expected.len());
    for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "packet {number} of {flow:?}");
    }
}

#[test]
fn the_octets_of_two_tcp_segments_over_ipv4() {
    let mut flow = Flow::new(false, false, 5, 3);
    (flow.tcp_options, flow.flags) = (0, 0x99); // CWR, ACK, PSH, FIN
    let (header, packet) = flow.large();
    let pieces = split(&header, &packet).expect("well formed");
    let first = [
        0x45, 0, 0, 43, 0xff, 0xfe, 0x40, 0, 61, 6, 0xb3, 0xc2, 192, 0, 2, 9, 10, 0, 0, 1, // IPv4
        0, 80, 0x0f, 0xa0, 0xff, 0xff, 0xff, 0, 1, 2, 3, 4, 0x50, 0x90, 0x7f, 0xff, // TCP: CWR, ACK
    ];
    assert_eq!(pieces[0][..10], first[..10]);
    assert_eq!(pieces[0][12..36], first[12..]);
    assert_eq!(pieces[0][40..], [0, 7, 14]);
    assert_eq!(pieces[1][2..6], [0, 42, 0xff, 0xff]);
    assert_eq!(pieces[1][24..28], [0xff, 0xff, 0xff, 3]);
    assert_eq!((pieces[1][33], &pieces[1][40..]), (0x19, &[21, 28][..])); // ACK, PSH, FIN
    assert_eq!(pieces, flow.packets());
}

#[test]
fn every_kind_as_etherparse_writes_the_single_packets() {
    for ipv6 in [false, true] {
        for udp in [false, true] {
            for (length, segment) in [(65_000, 1348), (2000, 1000), (2001, 1000), (10, 11), (7, 1)] {
                for flags in [0x10, 0x99, 0xd1] {
                    let mut flow = Flow::new(ipv6, udp, length, segment);
                    flow.flags = flags;
                    check(&flow);
                    (flow.ip_options, flow.tcp_options) = (2, 0);
                    check(&flow);
                }
            }
        }
    }
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_all_ones() {
    let mut flow = Flow::new(false, true, 4, 2);
    flow.payload = vec![0; 4];
    // What makes the sum of the first datagram all ones is its checksum so far.
    let checksum = &flow.packets()[0][26..28];
    flow.payload[..2].copy_from_slice(checksum);
    let (header, packet) = flow.large();
    let pieces = split(&header, &packet).expect("well formed");
    assert_eq!(pieces[0][26..28], [0xff, 0xff]);
    assert_eq!(pieces, flow.packets());

    let mut whole = packet[..30].to_vec();
    whole[3] = 30;
    whole[25] = 10;
    let pseudo = !inverted(checksum::sum(&whole[12..20]) + 17 + 10, false);
    whole[26..28].copy_from_slice(&pseudo.to_be_bytes());
    let header = VnetHeader {
        kind: Kind::Whole,
        ..header
    };
    finish_checksum(&header, &mut whole).expect("its place is there");
    assert_eq!(whole[26..28], [0xff, 0xff]);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let malformed = |ipv6, udp, change: &dyn Fn(&mut VnetHeader, &mut Vec<u8>)| {
        let (mut header, mut packet) = Flow::new(ipv6, udp, 100, 40).large();
        change(&mut header, &mut packet);
        assert_eq!(split(&header, &packet), Err(DropReason::MalformedIp));
    };
    malformed(false, false, &|header, _| header.segment = 0);
    malformed(false, false, &|header, _| header.needs_checksum = false);
    malformed(false, false, &|header, _| header.kind = Kind::Whole);
    malformed(false, false, &|header, _| header.kind = Kind::Tcp6);
    malformed(false, false, &|header, _| header.kind = Kind::Udp);
    malformed(false, false, &|header, _| header.checksum_offset = 6);
    malformed(false, false, &|header, _| header.checksum_start = 24);
    malformed(false, false, &|_, packet| packet[6] = 0x20); // more fragments
    malformed(false, false, &|_, packet| packet[32] = 0x40); // a TCP header of 16 octets
    malformed(false, false, &|_, packet| packet.truncate(100));
    malformed(true, false, &|header, _| header.kind = Kind::Tcp4);
    malformed(true, false, &|header, _| header.checksum_start = 39);
    malformed(true, false, &|header, _| header.checksum_start = 0xffff);
    malformed(true, true, &|header, _| header.kind = Kind::Tcp6);
    malformed(true, true, &|header, _| header.checksum_start = 141);
    malformed(false, true, &|_, packet| packet.clear());
}

#[test]
fn a_whole_packet_gets_its_checksum_or_is_refused() {
    for (ipv6, udp) in [(false, false), (false, true), (true, false), (true, true)] {
        let flow = Flow::new(ipv6, udp, 33, 33);
        let (header, mut packet) = flow.large();
        finish_checksum(&header, &mut packet).expect("its place is there");
        assert_eq!(packet, flow.packets()[0]);
        let outside = VnetHeader {
            checksum_offset: 200,
            ..header
        };
        assert_eq!(
            finish_checksum(&outside, &mut packet),
            Err(DropReason::MalformedIp)
        );
        finish_checksum(&VnetHeader::default(), &mut packet).expect("nothing to do");
        assert_eq!(packet, flow.packets()[0]);
    }
}

proptest! {
    #[test]
    fn what_was_joined_comes_apart_again(
        (ipv6, udp) in any::<(bool, bool)>(), ip_options in 0usize..11, tcp_options in 0usize..11, identification: u16, sequence: u32,
        flags: u8, payload in prop::collection::vec(any::<u8>(), 1..4000), segment in 1u16..1500,
    ) {
        // A segment of one octet and a payload of thousands: enough to know, and slow.
        let segment = segment.max((payload.len() / 100) as u16 + 1);
        check(&Flow { ipv6, udp, ip_options, tcp_options, identification, sequence, flags, payload, segment });
    }

    #[test]
    fn nothing_the_kernel_says_panics(
        (ipv6, udp) in any::<(bool, bool)>(), ip_options in 0usize..4, length in 0usize..300, segment in 1u16..100,
        changes in prop::collection::vec((0usize..120, any::<u8>()), 0..4),
    ) {
        let mut flow = Flow::new(ipv6, udp, length, segment);
        flow.ip_options = ip_options;
        let (header, mut packet) = flow.large();
        let mut octets = header.encode();
        for (at, octet) in changes {
            // Half of the changes fall on the kernel's header.
            let place = match at.checked_sub(60) {
                Some(at) => octets.get_mut(at % 20),
                None => packet.get_mut(at),
            };
            if let Some(place) = place {
                *place = octet;
            }
        }
        if let Some(header) = VnetHeader::decode(octets) {
            let _ = split(&header, &packet);
            let _ = finish_checksum(&header, &mut packet);
        }
    }
}
