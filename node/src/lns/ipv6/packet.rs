//! The packets that the LNS and its subscribers say to each other on the link: ICMPv6 (RFC 4443) and UDP in IPv6.

use std::net::Ipv6Addr;

use crate::dataplane::checksum;
use crate::dataplane::ip::{ICMPV6, IPV6_HEADER, UDP};

/// Neighbour Discovery is worth nothing unless nobody can have forwarded it (RFC 4861 §6.1.1).
const HOP_LIMIT: u8 = 255;

const ROUTER_SOLICITATION: u8 = 133;
/// Octets of a Router Solicitation without options.
const SOLICITATION: usize = 8;

const UDP_HEADER: usize = 8;
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;

/// Where a header's checksum stands.
const ICMP_CHECKSUM: usize = 2;
const UDP_CHECKSUM: usize = 6;

/// What a subscriber says to the LNS.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    RouterSolicitation,
    Dhcp { from: Ipv6Addr, message: &'a [u8] },
}

/// Takes a packet apart; `None` for one that is none of these, or damaged.
pub(super) fn parse(octets: &[u8]) -> Option<Heard<'_>> {
    let (header, rest) = octets.split_first_chunk::<IPV6_HEADER>()?;
    let payload = rest.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let (addresses, next) = (&header[8..IPV6_HEADER], header[6]);
    let pseudo = checksum::pseudo_header(addresses, next, payload.len());
    if header[0] >> 4 != 6 || checksum::add(pseudo, checksum::sum(payload)) != 0xffff {
        return None;
    }
    match next {
        ICMPV6 => {
            let right = header[7] == HOP_LIMIT && payload.len() >= SOLICITATION;
            let solicits = right && payload[..2] == [ROUTER_SOLICITATION, 0];
            solicits.then_some(Heard::RouterSolicitation)
        }
        UDP => {
            let (udp, message) = payload.split_first_chunk::<UDP_HEADER>()?;
            let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
            let whole = usize::from(word(4)) == payload.len() && word(UDP_CHECKSUM) != 0;
            let source = <[u8; 16]>::try_from(&addresses[..16]).ok()?;
            (word(2) == SERVER_PORT && whole).then_some(Heard::Dhcp {
                from: source.into(),
                message,
            })
        }
        _ => None,
    }
}

/// An ICMPv6 message in its packet.
pub(super) fn icmp(from: Ipv6Addr, to: Ipv6Addr, message: Vec<u8>) -> Vec<u8> {
    packet(from, to, ICMPV6, ICMP_CHECKSUM, message)
}

/// A DHCPv6 message of the server in its packet.
pub(super) fn dhcp(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = (UDP_HEADER + message.len()) as u16;
    let mut datagram = Vec::with_capacity(usize::from(length));
    for word in [SERVER_PORT, CLIENT_PORT, length, 0] {
        datagram.extend_from_slice(&word.to_be_bytes());
    }
    datagram.extend_from_slice(message);
    packet(from, to, UDP, UDP_CHECKSUM, datagram)
}

fn packet(from: Ipv6Addr, to: Ipv6Addr, next: u8, checksum_at: usize, mut payload: Vec<u8>) -> Vec<u8> {
    let addresses = [from.octets(), to.octets()].concat();
    let pseudo = checksum::pseudo_header(&addresses, next, payload.len());
    let sum = !(checksum::add(pseudo, checksum::sum(&payload)) as u16);
    // Zero would say "none" in UDP, and means the same.
    let sum = if sum == 0 { 0xffff } else { sum };
    payload[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next, HOP_LIMIT]);
    packet.extend_from_slice(&addresses);
    packet.append(&mut payload);
    packet
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Type, PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    const SUBSCRIBER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    const LNS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

    fn solicitation(hop_limit: u8) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv6(SUBSCRIBER.octets(), SERVERS.octets(), hop_limit)
            .icmpv6(Icmpv6Type::RouterSolicitation)
            .write(&mut packet, &[])
            .expect("a vector takes it");
        packet
    }

    fn datagram(source: u16, destination: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv6(SUBSCRIBER.octets(), SERVERS.octets(), 1)
            .udp(source, destination)
            .write(&mut packet, b"message")
            .expect("a vector takes it");
        packet
    }

    #[test]
    fn a_solicitation_of_the_link_itself_is_heard() {
        assert_eq!(parse(&solicitation(255)), Some(Heard::RouterSolicitation));
        assert_eq!(parse(&solicitation(254)), None, "it was forwarded");
    }

    #[test]
    fn a_datagram_to_the_servers_port_is_heard() {
        let expected = Heard::Dhcp {
            from: SUBSCRIBER,
            message: b"message",
        };
        assert_eq!(parse(&datagram(546, 547)), Some(expected));
        assert_eq!(parse(&datagram(546, 546)), None);
    }

    #[test]
    fn a_damaged_packet_is_not() {
        for packet in [solicitation(255), datagram(546, 547)] {
            for at in [0, 5, 20, packet.len() - 1] {
                let mut damaged = packet.clone();
                damaged[at] ^= 0x11;
                assert_eq!(parse(&damaged), None, "octet {at}");
            }
            assert_eq!(parse(&packet[..packet.len() - 1]), None);
        }
    }

    #[test]
    fn what_we_say_has_a_good_checksum() {
        let packet = dhcp(LNS, SUBSCRIBER, b"reply");
        let sliced = SlicedPacket::from_ip(&packet).expect("well formed");
        let Some(TransportSlice::Udp(udp)) = sliced.transport else {
            panic!("not UDP")
        };
        let checksum = udp
            .to_header()
            .calc_checksum_ipv6_raw(LNS.octets(), SUBSCRIBER.octets(), b"reply");
        assert_eq!(Ok(udp.checksum()), checksum);
        assert_eq!((udp.source_port(), udp.destination_port()), (547, 546));
        let packet = icmp(LNS, SUBSCRIBER, vec![134, 0, 0, 0, 1, 2, 3, 4, 5]);
        let sliced = SlicedPacket::from_ip(&packet).expect("well formed");
        let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else {
            panic!("not ICMPv6")
        };
        assert!(icmp.is_checksum_valid(LNS.octets(), SUBSCRIBER.octets()));
    }

    proptest! {
        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&octets);
        }
    }
}
