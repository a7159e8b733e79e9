//! The ICMP messages that the node makes itself (RFC 792, RFC 1191, RFC 4443): errors of both families, and the answer to an echo.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;
use super::ip::{self, ICMP, ICMPV6, IPV4_HEADER, IPV6_HEADER, View};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
/// Communication administratively prohibited (RFC 1812 §5.2.7.1).
const PROHIBITED: u8 = 13;
const ECHO_REQUEST: u8 = 8;

const ICMP_HEADER: usize = 8;
/// An ICMP error quotes as much of the packet as keeps it within 576 octets (RFC 1812 §4.3.2.3).
const MAX_ERROR_V4: usize = 576;
/// An ICMPv6 error quotes as much as keeps it within the least MTU (RFC 4443 §2.4 (c)).
pub const MAX_ERROR: usize = 1280;

/// Octets of a packet below which no IPv6 host goes (RFC 8200 §5).
const IPV6_MIN_MTU: u16 = 1280;
const V6_UNREACHABLE: u8 = 1;
/// Communication with destination administratively prohibited.
const V6_PROHIBITED: u8 = 1;
const V6_PACKET_TOO_BIG: u8 = 2;
/// ICMPv6 types from here on are no errors.
const V6_FIRST_INFORMATIONAL: u8 = 128;
const V6_REDIRECT: u8 = 137;
const TTL: u8 = 64;

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is larger than the next hop's MTU, octets: "fragmentation needed and DF set" (RFC 1191 §4), Packet Too Big (RFC 4443 §3.2).
    TooBig(u16),
    /// Nobody may send it: "communication administratively prohibited" (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
    Prohibited,
}

impl Error {
    fn message(self) -> [u8; ICMP_HEADER] {
        match self {
            Self::TooBig(mtu) => {
                let [high, low] = mtu.to_be_bytes();
                [UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0, high, low]
            }
            Self::Prohibited => [UNREACHABLE, PROHIBITED, 0, 0, 0, 0, 0, 0],
        }
    }

    fn message_v6(self) -> [u8; ICMP_HEADER] {
        match self {
            Self::TooBig(mtu) => {
                let [high, low] = mtu.max(IPV6_MIN_MTU).to_be_bytes();
                [V6_PACKET_TOO_BIG, 0, 0, 0, 0, 0, high, low]
            }
            Self::Prohibited => [V6_UNREACHABLE, V6_PROHIBITED, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// Whether `packet` is an unfragmented Echo-Request to `own`.
pub fn is_echo_request(packet: &[u8], view: &View, own: Ipv4Addr) -> bool {
    let whole = view.source.is_ipv4() && ip::fragment_word(packet) == (false, 0);
    whole
        && view.destination == IpAddr::V4(own)
        && view.protocol == ICMP
        && view.length >= view.header + ICMP_HEADER
        && packet[view.header] == ECHO_REQUEST
}

/// Turns an Echo-Request ([`is_echo_request`]) into its answer, in place. DF is cleared and the TTL renewed, as a
/// packet of our own making has them.
pub fn answer_echo(packet: &mut [u8], view: &View) {
    let (header, message) = packet.split_at_mut(view.header);
    let (source, destination) = header[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    header[8] = TTL;
    ip::set_fragment_word(header, false, 0);
    ip::set_checksum(header);
    let before = u16::from_be_bytes([message[2], message[3]]);
    let after = checksum::update(
        before,
        u16::from(ECHO_REQUEST) << 8,
        u16::from(ECHO_REPLY) << 8,
        false,
    );
    message[0] = ECHO_REPLY;
    message[2..4].copy_from_slice(&after.to_be_bytes());
}

/// Whether RFC 1812 §4.3.2.7 lets an error be sent about `packet`: not about an ICMP error, a later fragment, or a
/// packet that does not come from one host or go to one.
fn may_be_answered(packet: &[u8], view: &View) -> bool {
    let IpAddr::V4(source) = view.source else {
        return false;
    };
    let IpAddr::V4(destination) = view.destination else {
        return false;
    };
    let one_host = |address: Ipv4Addr| {
        let first = address.octets()[0];
        (1..224).contains(&first) && !address.is_loopback()
    };
    let is_error =
        view.protocol == ICMP && !matches!(packet.get(view.header), Some(&ECHO_REPLY | &ECHO_REQUEST));
    one_host(source) && one_host(destination) && !view.later_fragment && !is_error
}

/// Writes an error about `packet`, to its source, and returns its length. `None` if no error may be sent about it.
///
/// It comes from the packet's destination, not from our own address as RFC 1812 §4.3.2.4 has it: that one is local to the
/// kernel, which drops what comes out of the TUN with it as a martian.
pub fn error(packet: &[u8], view: &View, error: Error, out: &mut [u8; MAX_ERROR]) -> Option<usize> {
    if let (IpAddr::V6(source), IpAddr::V6(destination)) = (view.source, view.destination) {
        return error_v6(packet, view, (source, destination), error, out);
    }
    if !may_be_answered(packet, view) {
        return None;
    }
    let quoted = view.length.min(MAX_ERROR_V4 - IPV4_HEADER - ICMP_HEADER);
    let length = IPV4_HEADER + ICMP_HEADER + quoted;
    let (header, message) = out[..length].split_at_mut(IPV4_HEADER);
    header.fill(0);
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    header[8] = TTL;
    header[9] = ICMP;
    header[12..16].copy_from_slice(&packet[16..20]);
    header[16..20].copy_from_slice(&packet[12..16]);
    ip::set_checksum(header);
    message[..ICMP_HEADER].copy_from_slice(&error.message());
    message[ICMP_HEADER..].copy_from_slice(&packet[..quoted]);
    let checksum = checksum::of(message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    Some(length)
}

/// As [`error`], from the packet's destination too. Packet Too Big may be sent about a packet to a group as well, but none comes here.
/// Behind extension headers an error is not looked for: the rate limit holds.
fn error_v6(
    packet: &[u8],
    view: &View,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    error: Error,
    out: &mut [u8; MAX_ERROR],
) -> Option<usize> {
    let kind = packet.get(view.header).filter(|_| view.protocol == ICMPV6);
    let is_error = kind.is_some_and(|kind| *kind < V6_FIRST_INFORMATIONAL || *kind == V6_REDIRECT);
    if source.is_unspecified() || source.is_multicast() || source.is_unicast_link_local() || is_error {
        return None;
    }
    let quoted = view.length.min(MAX_ERROR - IPV6_HEADER - ICMP_HEADER);
    let length = IPV6_HEADER + ICMP_HEADER + quoted;
    let (header, message) = out[..length].split_at_mut(IPV6_HEADER);
    header.fill(0);
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(message.len() as u16).to_be_bytes());
    (header[6], header[7]) = (ICMPV6, TTL);
    header[8..24].copy_from_slice(&destination.octets());
    header[24..40].copy_from_slice(&source.octets());
    message[..ICMP_HEADER].copy_from_slice(&error.message_v6());
    message[ICMP_HEADER..].copy_from_slice(&packet[..quoted]);
    let pseudo = checksum::pseudo_header(&header[8..], ICMPV6, message.len());
    let checksum = !(checksum::add(pseudo, checksum::sum(message)) as u16);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{
        Icmpv4Slice, Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice, icmpv4::DestUnreachableHeader,
    };

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

    fn icmp_of(packet: &[u8]) -> (Icmpv4Slice<'_>, [u8; 4], [u8; 4]) {
        let sliced = SlicedPacket::from_ip(packet).expect("well formed");
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
            panic!("not IPv4")
        };
        let header = ip.header();
        assert_eq!(
            header.header_checksum(),
            header.to_header().calc_header_checksum()
        );
        let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else {
            panic!("not ICMP")
        };
        assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
        (icmp, header.source(), header.destination())
    }

    #[test]
    fn an_echo_request_becomes_its_answer() {
        for payload in [0usize, 1, 56, 57] {
            let mut packet = Vec::new();
            PacketBuilder::ipv4([10, 0, 0, 1], OWN.octets(), 3)
                .icmpv4_echo_request(7, 9)
                .write(&mut packet, &vec![0x5a; payload])
                .expect("a vector takes it");
            let view = View::parse(&packet).expect("well formed");
            assert!(is_echo_request(&packet, &view, OWN));
            answer_echo(&mut packet, &view);
            let (icmp, source, destination) = icmp_of(&packet);
            assert_eq!((source, destination), (OWN.octets(), [10, 0, 0, 1]));
            let Icmpv4Type::EchoReply(echo) = icmp.icmp_type() else {
                panic!("not a reply")
            };
            assert_eq!((echo.id, echo.seq, icmp.payload().len()), (7, 9, payload));
        }
    }

    #[test]
    fn other_packets_are_no_echo_request() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], OWN.octets(), 3)
            .icmpv4_echo_request(7, 9)
            .write(&mut packet, &[1])
            .expect("a vector takes it");
        let is = |packet: &[u8]| is_echo_request(packet, &View::parse(packet).expect("well formed"), OWN);
        assert!(is(&packet));
        for (at, value) in [(20, 0), (9, 17), (19, 8), (6, 0x20)] {
            let mut other = packet.clone();
            other[at] = value;
            assert!(!is(&other), "octet {at} = {value}");
        }
    }

    #[test]
    fn s_101_too_big_carries_the_mtu_and_the_packet() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 1], [10, 0, 0, 1], 60)
            .udp(5, 6)
            .write(&mut packet, &[0x11; 1472])
            .expect("a vector takes it");
        let view = View::parse(&packet).expect("well formed");
        let mut out = [0; MAX_ERROR];
        let length = error(&packet, &view, Error::TooBig(1400), &mut out).expect("it may be answered");
        let (icmp, source, destination) = icmp_of(&out[..length]);
        assert_eq!(
            (length, source, destination),
            (576, [10, 0, 0, 1], [192, 0, 2, 1])
        );
        let expected = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
        assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(expected));
        assert_eq!(icmp.payload(), &packet[..548]);
    }

    #[test]
    fn s_101_packet_too_big_of_ipv6() {
        let (far, near) = ([0x20; 16], [0x2a; 16]);
        for (mtu, told) in [(1400, 1400), (1000, 1280)] {
            let mut packet = Vec::new();
            PacketBuilder::ipv6(far, near, 60)
                .udp(5, 6)
                .write(&mut packet, &[0x11; 1450])
                .expect("a vector takes it");
            let view = View::parse(&packet).expect("well formed");
            let mut out = [0; MAX_ERROR];
            let length = error(&packet, &view, Error::TooBig(mtu), &mut out).expect("it may be answered");
            let sliced = SlicedPacket::from_ip(&out[..length]).expect("well formed");
            let Some(etherparse::NetSlice::Ipv6(ip)) = &sliced.net else {
                panic!("not IPv6")
            };
            assert_eq!((ip.header().source(), ip.header().destination()), (near, far));
            let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else {
                panic!("not ICMPv6")
            };
            assert!(icmp.is_checksum_valid(near, far));
            assert_eq!(
                icmp.icmp_type(),
                etherparse::Icmpv6Type::PacketTooBig { mtu: told }
            );
            assert_eq!((length, icmp.payload()), (1280, &packet[..1232]));
        }
    }

    #[test]
    fn no_error_about_an_icmpv6_error_or_from_no_one_host() {
        let packet = |source: [u8; 16], kind: u8| {
            let mut packet = Vec::new();
            PacketBuilder::ipv6(source, [0x2a; 16], 60)
                .icmpv6_raw(kind, 0, [0; 4])
                .write(&mut packet, &[0; 1450])
                .expect("a vector takes it");
            packet
        };
        let answered = |packet: &[u8]| {
            let view = View::parse(packet).expect("well formed");
            error(packet, &view, Error::TooBig(1400), &mut [0; MAX_ERROR]).is_some()
        };
        assert!(answered(&packet([0x20; 16], 128)));
        let link_local = *[&[0xfe, 0x80][..], &[0; 13], &[1]]
            .concat()
            .first_chunk()
            .expect("sixteen");
        for (source, kind) in [
            ([0x20; 16], 1),
            ([0x20; 16], 2),
            ([0x20; 16], 137),
            ([0; 16], 128),
            ([0xff; 16], 128),
            (link_local, 128),
        ] {
            assert!(!answered(&packet(source, kind)), "{source:?} {kind}");
        }
    }

    #[test]
    fn no_error_about_errors_later_fragments_and_groups() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 1], [10, 0, 0, 1], 60)
            .icmpv4_echo_request(1, 1)
            .write(&mut packet, &[0; 1472])
            .expect("a vector takes it");
        let mut out = [0; MAX_ERROR];
        let mut answered = |packet: &[u8]| {
            error(
                packet,
                &View::parse(packet).expect("well formed"),
                Error::TooBig(1400),
                &mut out,
            )
            .is_some()
        };
        assert!(answered(&packet));
        for (at, value) in [(20, 3), (7, 1), (16, 224), (12, 0), (12, 127), (12, 255)] {
            let mut other = packet.clone();
            other[at] = value;
            assert!(!answered(&other), "octet {at} = {value}");
        }
    }
}
