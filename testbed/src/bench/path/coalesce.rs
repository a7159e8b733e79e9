//! Puts consecutive TCP segments of one flow together again, for a TUN device with `vnet_hdr` (virtio 1.2 §5.1.6).
//!
//! Nothing is copied: a run is a header and the places of its payloads. Segments belong together as the kernel's own receive
//! offload has it: same addresses, ports, acknowledgement, window and options, each of the first one's size where the one
//! before ends; a shorter one or one with PSH is the last. IPv4 without options only. The checksum of the first segment of
//! a run is verified, the others' are left to the server's own tests: the kernel computes a new one.

use super::packet::tcp_checksum_holds;

/// Octets of virtio_net_hdr.
pub const VNET_HEADER: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCP_IPV4: u8 = 1;

const IP_HEADER: usize = 20;
const MAX_PACKET: usize = 65_535;
/// Segments of a run at most; so many slices go to the kernel in one call.
pub const SEGMENTS: usize = 64;
const PROTOCOL_TCP: u8 = 6;
/// Where things stand in the TCP header.
const SEQUENCE: usize = 4;
const FLAGS: usize = 13;
const CHECKSUM: usize = 16;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// Segments that become one packet: so many of the packets, from the first of those given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub packets: usize,
    /// What goes before the payloads: virtio_net_hdr, IPv4 and TCP. Of a packet that stays as it is virtio_net_hdr alone.
    pub header: Vec<u8>,
    /// Octets at the start of each packet that the header replaces.
    pub skip: usize,
}

/// A sound server never sends this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCP segment came through the server with a wrong checksum")]
pub struct WrongChecksum;

/// The run that the first of these packets, at least one, begins.
pub fn first_run(packets: &[&[u8]]) -> Result<Run, WrongChecksum> {
    let alone = Run {
        packets: 1,
        header: vec![0; VNET_HEADER],
        skip: 0,
    };
    let Some(first) = Segment::parse(packets[0]) else {
        return Ok(alone);
    };
    let mut count = 1;
    let mut total = packets[0].len();
    let mut last = first;
    for packet in packets.iter().take(SEGMENTS).skip(1) {
        let next = Segment::parse(packet).filter(|next| first.continues(&last, next));
        let Some(next) = next.filter(|next| total + next.payload <= MAX_PACKET) else {
            break;
        };
        total += next.payload;
        last = next;
        count += 1;
    }
    if count == 1 {
        return Ok(alone);
    }
    if !tcp_checksum_holds(packets[0]) {
        return Err(WrongChecksum);
    }
    Ok(Run {
        packets: count,
        header: header(&first, &last, total),
        skip: first.headers,
    })
}

/// A TCP segment that can be part of a run.
#[derive(Clone, Copy, Debug)]
struct Segment<'a> {
    packet: &'a [u8],
    /// Octets of both headers, and of what they carry.
    headers: usize,
    payload: usize,
    sequence: u32,
    flags: u8,
}

impl<'a> Segment<'a> {
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let ip: &[u8; IP_HEADER] = packet.first_chunk()?;
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        // Nothing of a fragment but "don't".
        let whole = ip[6] & 0xbf == 0 && ip[7] == 0;
        if ip[0] != 0x45 || ip[9] != PROTOCOL_TCP || !whole || total != packet.len() {
            return None;
        }
        let tcp: &[u8; 20] = packet[IP_HEADER..].first_chunk()?;
        let headers = IP_HEADER + usize::from(tcp[12] >> 4) * 4;
        let payload = total.checked_sub(headers).filter(|payload| *payload > 0)?;
        let flags = tcp[FLAGS];
        (flags & !PSH == ACK && headers >= IP_HEADER + 20).then_some(Self {
            packet,
            headers,
            payload,
            sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            flags,
        })
    }

    /// Whether `next` comes right behind `last` in the run that `self` began.
    fn continues(&self, last: &Self, next: &Self) -> bool {
        let same = |range: std::ops::Range<usize>| self.packet[range.clone()] == next.packet[range];
        let tcp = |from: usize, to: usize| IP_HEADER + from..IP_HEADER + to;
        self.headers == next.headers
            && last.payload == self.payload
            && last.flags & PSH == 0
            && next.payload <= self.payload
            && next.sequence == last.sequence.wrapping_add(last.payload as u32)
            // Type of service; lifetime and protocol; addresses.
            && same(1..2)
            && same(8..10)
            && same(12..20)
            && same(tcp(0, SEQUENCE))
            && same(tcp(8, FLAGS))
            && same(tcp(14, CHECKSUM))
            && same(tcp(18, self.headers - IP_HEADER))
    }
}

fn header(first: &Segment<'_>, last: &Segment<'_>, total: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(VNET_HEADER + first.headers);
    header.extend_from_slice(&[NEEDS_CHECKSUM, GSO_TCP_IPV4]);
    for value in [first.headers, first.payload, IP_HEADER, CHECKSUM] {
        let value = u16::try_from(value).expect("smaller than a packet");
        header.extend_from_slice(&value.to_ne_bytes());
    }
    header.extend_from_slice(&first.packet[..first.headers]);
    let (ip, tcp) = header[VNET_HEADER..].split_at_mut(IP_HEADER);
    let total = u16::try_from(total).expect("a run is bounded");
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[10..12].fill(0);
    let sum = !super::packet::sum(0, ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    tcp[FLAGS] |= last.flags;
    // The sum of the pseudo-header, not complemented: the kernel adds the rest.
    let pseudo = super::packet::pseudo_sum(ip, total - IP_HEADER as u16);
    tcp[CHECKSUM..CHECKSUM + 2].copy_from_slice(&pseudo.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::path::packet::{pseudo_sum, sum};

    /// A segment with this payload at this place in its flow.
    fn segment(port: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 52];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&((52 + payload.len()) as u16).to_be_bytes());
        packet[6] = 0x40;
        packet[8] = 64;
        packet[9] = PROTOCOL_TCP;
        packet[12..20].copy_from_slice(&[100, 64, 0, 2, 203, 0, 113, 2]);
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        packet[24..28].copy_from_slice(&sequence.to_be_bytes());
        packet[32] = 0x80;
        packet[33] = flags;
        packet[40..52].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9]);
        packet.extend_from_slice(payload);
        let pseudo = pseudo_sum(&packet[..20], (packet.len() - 20) as u16);
        let checksum = !sum(u32::from(pseudo), &packet[20..]);
        packet[36..38].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn run_of(packets: &[Vec<u8>]) -> Run {
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        first_run(&packets).unwrap()
    }

    #[test]
    fn segments_in_sequence_become_one_packet_as_if_it_had_been_sent_so() {
        let parts = [
            segment(80, 1000, ACK, b"abcd"),
            segment(80, 1004, ACK, b"efgh"),
            segment(80, 1008, ACK | PSH, b"ij"),
        ];
        let run = run_of(&parts);
        assert_eq!((run.packets, run.skip), (3, 52));
        assert_eq!(run.header[..2], [NEEDS_CHECKSUM, GSO_TCP_IPV4]);
        let numbers: Vec<u16> = run.header[2..10]
            .chunks(2)
            .map(|pair| u16::from_ne_bytes([pair[0], pair[1]]))
            .collect();
        assert_eq!(numbers, [52, 4, 20, 16]);
        // What the kernel makes of it: the checksum over everything from its start.
        let mut whole = run.header[VNET_HEADER..].to_vec();
        parts.iter().for_each(|part| whole.extend_from_slice(&part[52..]));
        let checksum = !sum(0, &whole[20..]);
        whole[36..38].copy_from_slice(&checksum.to_be_bytes());
        let mut expected = segment(80, 1000, ACK | PSH, b"abcdefghij");
        let sum = !sum(0, &expected[..20]);
        expected[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(whole, expected);
    }

    #[test]
    fn what_does_not_belong_together_stays_apart() {
        let first = segment(80, 1000, ACK, b"abcd");
        let mut other_window = segment(80, 1004, ACK, b"efgh");
        other_window[35] = 1;
        let mut fragment = segment(80, 1004, ACK, b"efgh");
        fragment[6] = 0x20;
        let others = [
            segment(81, 1004, ACK, b"efgh"),
            segment(80, 1005, ACK, b"efgh"),
            segment(80, 1004, ACK, b"efghi"),
            segment(80, 1004, ACK | 1, b"efgh"),
            segment(80, 1004, ACK, b""),
            other_window,
            fragment,
            vec![0x45],
        ];
        for other in others {
            let run = run_of(&[first.clone(), other.clone()]);
            assert_eq!((run.packets, run.skip), (1, 0), "{other:02x?}");
            assert_eq!(run.header, [0; VNET_HEADER]);
        }
        let pushed = segment(80, 1000, ACK | PSH, b"abcd");
        assert_eq!(run_of(&[pushed, segment(80, 1004, ACK, b"efgh")]).packets, 1);
        let short = segment(80, 1000, ACK, b"abc");
        assert_eq!(run_of(&[short, segment(80, 1003, ACK, b"efgh")]).packets, 1);
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        let mut first = segment(80, 1000, ACK, b"abcd");
        first[36] ^= 1;
        let next = segment(80, 1004, ACK, b"efgh");
        assert_eq!(first_run(&[&first, &next]), Err(WrongChecksum));
    }

    #[test]
    fn a_run_is_bounded() {
        let payload = vec![7; 1348];
        let many: Vec<Vec<u8>> = (0..100)
            .map(|number| segment(80, number * 1348, ACK, &payload))
            .collect();
        assert_eq!(run_of(&many).packets, (MAX_PACKET - 52) / 1348);
    }
}
