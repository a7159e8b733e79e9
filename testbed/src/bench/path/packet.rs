//! The packets of the load: IPv4 with UDP, and the L2TP data message around one.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::simulator::{CallIds, PROTOCOL_IPV4, split_frame};

const IP_HEADER: usize = 20;
/// Octets of the headers of the smallest packet of the load.
pub const HEADERS: usize = IP_HEADER + 8;
const PROTOCOL_UDP: u8 = 17;
const DONT_FRAGMENT: u8 = 0x40;
/// RFC 2661 §3.1: a data message without a Length field, version 2.
const DATA_FLAGS: [u8; 2] = [0x00, 0x02];
/// Bits of a message's first octet.
const CONTROL: u8 = 0x80;
const LENGTH: u8 = 0x40;
/// PPP's address and control fields and its number for IPv4.
const PPP_IPV4: [u8; 4] = [0xff, 0x03, 0x00, 0x21];
/// What stands before the IP packet in a data message of ours.
pub const ENCAPSULATION: usize = 10;

/// A UDP datagram in an IPv4 packet of `length` octets, both checksums right. `tos` marks it.
pub fn udp(
    source: SocketAddrV4,
    destination: SocketAddrV4,
    tos: u8,
    length: usize,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0; length.max(HEADERS + payload.len())];
    let length = u16::try_from(packet.len()).expect("a packet of the load is short");
    packet[0] = 0x45;
    packet[1] = tos;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[6] = DONT_FRAGMENT;
    packet[8] = 64;
    packet[9] = PROTOCOL_UDP;
    packet[12..16].copy_from_slice(&source.ip().octets());
    packet[16..20].copy_from_slice(&destination.ip().octets());
    let sum = !sum(0, &packet[..IP_HEADER]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..22].copy_from_slice(&source.port().to_be_bytes());
    packet[22..24].copy_from_slice(&destination.port().to_be_bytes());
    packet[24..26].copy_from_slice(&(length - IP_HEADER as u16).to_be_bytes());
    packet[HEADERS..HEADERS + payload.len()].copy_from_slice(payload);
    let sum = match !udp_sum(&packet) {
        0 => 0xffff,
        sum => sum,
    };
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The data message that carries an IPv4 packet of this call to the LNS.
pub fn data_message(ids: &CallIds, packet: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(ENCAPSULATION + packet.len());
    message.extend_from_slice(&data_header(ids));
    message.extend_from_slice(packet);
    message
}

/// What [`data_message`] puts before the packet.
pub fn data_header(ids: &CallIds) -> [u8; ENCAPSULATION] {
    let mut header = [0; ENCAPSULATION];
    header[..2].copy_from_slice(&DATA_FLAGS);
    header[2..4].copy_from_slice(&ids.peer_tunnel.to_be_bytes());
    header[4..6].copy_from_slice(&ids.peer_session.to_be_bytes());
    header[6..].copy_from_slice(&PPP_IPV4);
    header
}

/// The IPv4 packet in a data message without sequence numbers and padding (RFC 2661 §3.1).
pub fn inner_packet(message: &[u8]) -> Option<&[u8]> {
    let header = match message.first()? & (CONTROL | LENGTH) {
        0 => 6,
        LENGTH => 8,
        _ => return None,
    };
    let frame = split_frame(message.get(header..)?)?;
    (frame.protocol == PROTOCOL_IPV4).then_some(frame.information)
}

/// The address `number` places after `first`.
pub fn address(first: Ipv4Addr, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first) + number)
}

/// The sum over pseudo-header and datagram of an IPv4 packet with UDP (RFC 768).
fn udp_sum(packet: &[u8]) -> u16 {
    let length = u16::try_from(packet.len() - IP_HEADER).expect("a packet of the load is short");
    sum(
        u32::from(pseudo_sum(&packet[..IP_HEADER], length)),
        &packet[IP_HEADER..],
    )
}

/// The sum of the pseudo-header of so many octets behind this IPv4 header.
pub fn pseudo_sum(ip: &[u8], length: u16) -> u16 {
    sum(u32::from(ip[9]) + u32::from(length), &ip[12..20])
}

/// Whether the checksum of an IPv4 packet with TCP, no options before that, is right.
pub fn tcp_checksum_holds(packet: &[u8]) -> bool {
    let length = u16::try_from(packet.len() - IP_HEADER).expect("no packet is longer");
    let pseudo = pseudo_sum(&packet[..IP_HEADER], length);
    sum(u32::from(pseudo), &packet[IP_HEADER..]) == 0xffff
}

/// RFC 1071's sum, not complemented.
pub fn sum(start: u32, data: &[u8]) -> u16 {
    let words = data
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum = words.fold(start, |sum, word| sum + word);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_of_the_load_has_its_length_and_right_checksums() {
        let (source, destination) = (
            "100.64.0.2:4000".parse().unwrap(),
            "198.51.100.1:9".parse().unwrap(),
        );
        for length in [64, 101, 1400] {
            let packet = udp(source, destination, 0, length, b"abc");
            assert_eq!(packet.len(), length);
            assert_eq!(&packet[HEADERS..HEADERS + 4], b"abc\0");
            assert_eq!(sum(0, &packet[..IP_HEADER]), 0xffff);
            assert_eq!(udp_sum(&packet), 0xffff);
        }
    }

    #[test]
    fn a_data_message_names_the_call_as_the_lns_does() {
        let ids = CallIds {
            lac: 0,
            tunnel: 1,
            session: 2,
            peer_tunnel: 0x1234,
            peer_session: 0x5678,
        };
        assert_eq!(
            data_message(&ids, &[0x45]),
            [0x00, 0x02, 0x12, 0x34, 0x56, 0x78, 0xff, 0x03, 0x00, 0x21, 0x45]
        );
    }

    #[test]
    fn the_packet_in_a_message_is_found_behind_any_header_of_the_servers() {
        for message in [
            &[0x00, 0x02, 0, 1, 0, 1, 0xff, 0x03, 0x00, 0x21, 0x45][..],
            &[0x00, 0x02, 0, 1, 0, 1, 0x00, 0x21, 0x45],
            &[0x40, 0x02, 0, 13, 0, 1, 0, 1, 0xff, 0x03, 0x00, 0x21, 0x45],
        ] {
            assert_eq!(inner_packet(message), Some(&[0x45][..]));
        }
        assert_eq!(inner_packet(&[0xc8, 0x02, 0, 12, 0, 1, 0, 0]), None, "control");
        assert_eq!(
            inner_packet(&[0x00, 0x02, 0, 1, 0, 1, 0xff, 0x03, 0xc0, 0x21, 9]),
            None
        );
    }
}
