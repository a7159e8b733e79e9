//! Just enough IPv4 and ICMP to ping through a session (RFC 791, RFC 792).

use std::net::Ipv4Addr;

const HEADER: usize = 20;
const ICMP: u8 = 1;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// An ICMP Echo-Reply that arrived in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub id: u16,
    pub sequence: u16,
}

/// An IPv4 packet with an ICMP Echo-Request and `payload` octets of data.
pub fn echo_request(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    id: u16,
    sequence: u16,
    payload: usize,
) -> Vec<u8> {
    let total = HEADER + 8 + payload;
    let mut packet = vec![0; total];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(total).unwrap_or(u16::MAX).to_be_bytes());
    packet[4..6].copy_from_slice(&sequence.to_be_bytes());
    packet[8] = 64;
    packet[9] = ICMP;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    let sum = checksum(&packet[..HEADER]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[HEADER] = ECHO_REQUEST;
    packet[24..26].copy_from_slice(&id.to_be_bytes());
    packet[26..28].copy_from_slice(&sequence.to_be_bytes());
    let sum = checksum(&packet[HEADER..]);
    packet[22..24].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The Echo-Reply in `packet`, if it is one and both checksums are right.
pub fn parse_echo_reply(packet: &[u8]) -> Option<EchoReply> {
    let &[first, ..] = packet else { return None };
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < HEADER || packet.len() < header + 8 || packet[9] != ICMP {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let icmp = packet.get(header..total)?;
    if icmp.len() < 8 || icmp[0] != ECHO_REPLY || checksum(&packet[..header]) != 0 || checksum(icmp) != 0 {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    Some(EchoReply {
        source: address(12),
        destination: address(16),
        id: u16::from_be_bytes([icmp[4], icmp[5]]),
        sequence: u16::from_be_bytes([icmp[6], icmp[7]]),
    })
}

/// The Internet checksum (RFC 1071); 0 over data that contains its own right checksum.
fn checksum(data: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in data.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_turned_round_is_a_reply() {
        let (client, server) = (Ipv4Addr::new(100, 64, 0, 2), Ipv4Addr::new(100, 64, 0, 1));
        let mut packet = echo_request(client, server, 7, 9, 16);
        assert_eq!(checksum(&packet[..HEADER]), 0);
        assert_eq!(checksum(&packet[HEADER..]), 0);
        assert_eq!(parse_echo_reply(&packet), None, "a request is no reply");
        packet[12..16].copy_from_slice(&server.octets());
        packet[16..20].copy_from_slice(&client.octets());
        packet[HEADER] = ECHO_REPLY;
        packet[22..24].copy_from_slice(&[0, 0]);
        let sum = checksum(&packet[HEADER..]);
        packet[22..24].copy_from_slice(&sum.to_be_bytes());
        let expected = EchoReply {
            source: server,
            destination: client,
            id: 7,
            sequence: 9,
        };
        assert_eq!(parse_echo_reply(&packet), Some(expected));
        packet[HEADER + 10] ^= 1;
        assert_eq!(parse_echo_reply(&packet), None, "damaged");
    }
}
