//! The two ICMP messages that the node makes itself (RFC 792, RFC 1191): Packet Too Big, and the answer to an echo.

use std::net::{IpAddr, Ipv4Addr};

use super::checksum;
use super::ip::{self, ICMP, IPV4_HEADER, View};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const ECHO_REQUEST: u8 = 8;

const ICMP_HEADER: usize = 8;
/// An ICMP error quotes as much of the packet as keeps it within 576 octets (RFC 1812 §4.3.2.3).
pub const MAX_ERROR: usize = 576;
const TTL: u8 = 64;

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

/// Writes "fragmentation needed and DF set" with the next hop's `mtu` (RFC 1191 §4) about the IPv4 `packet`, to its
/// source, and returns its length. `None` if no error may be sent about it.
///
/// It comes from the packet's destination, not from our own address as RFC 1812 §4.3.2.4 has it: that one is local to the
/// kernel, which drops what comes out of the TUN with it as a martian.
pub fn too_big(packet: &[u8], view: &View, mtu: u16, out: &mut [u8; MAX_ERROR]) -> Option<usize> {
    if !may_be_answered(packet, view) {
        return None;
    }
    let quoted = view.length.min(MAX_ERROR - IPV4_HEADER - ICMP_HEADER);
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
    message[..ICMP_HEADER].copy_from_slice(&[UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0, 0, 0]);
    message[6..8].copy_from_slice(&mtu.to_be_bytes());
    message[ICMP_HEADER..].copy_from_slice(&packet[..quoted]);
    let checksum = checksum::of(message);
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
        let length = too_big(&packet, &view, 1400, &mut out).expect("it may be answered");
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
    fn no_error_about_errors_later_fragments_and_groups() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 1], [10, 0, 0, 1], 60)
            .icmpv4_echo_request(1, 1)
            .write(&mut packet, &[0; 1472])
            .expect("a vector takes it");
        let mut out = [0; MAX_ERROR];
        let mut answered = |packet: &[u8]| {
            too_big(packet, &View::parse(packet).expect("well formed"), 1400, &mut out).is_some()
        };
        assert!(answered(&packet));
        for (at, value) in [(20, 3), (7, 1), (16, 224), (12, 0), (12, 127), (12, 255)] {
            let mut other = packet.clone();
            other[at] = value;
            assert!(!answered(&other), "octet {at} = {value}");
        }
    }
}
