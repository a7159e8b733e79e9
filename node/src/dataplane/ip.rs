//! The few fields of IPv4 (RFC 791) and IPv6 (RFC 8200) headers that forwarding needs, read in place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::counters::DropReason;

/// IANA protocol numbers.
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const TCP: u8 = 6;
/// See [`ICMP`].
pub const UDP: u8 = 17;
/// See [`ICMP`].
pub const ICMPV6: u8 = 58;

/// Octets of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Octets of an IPv6 header without extension headers.
pub const IPV6_HEADER: usize = 40;

const MORE_FRAGMENTS: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// The six bits of the DSCP in a TOS or Traffic Class octet; the other two are ECN, which stays inside (RFC 6040 §4.1,
/// compatibility mode).
const DSCP: u8 = 0xfc;

/// What forwarding needs to know of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// IPv4 Protocol or the first IPv6 Next Header.
    pub protocol: u8,
    /// Octets of the IP header.
    pub header: usize,
    /// Octets of the whole packet as its header tells; anything behind is padding.
    pub length: usize,
    /// IPv4 DF; true for IPv6, which routers never fragment.
    pub dont_fragment: bool,
    /// A fragment other than the first.
    pub later_fragment: bool,
    /// TOS or Traffic Class without ECN, shifted as the octet has it.
    pub dscp_bits: u8,
}

impl View {
    /// Reads the header of `packet`.
    ///
    /// # Errors
    /// [`DropReason::MalformedIp`] if lengths do not fit or the version is neither 4 nor 6.
    pub fn parse(packet: &[u8]) -> Result<View, DropReason> {
        match packet.first().map(|octet| octet >> 4) {
            Some(4) => parse_v4(packet),
            Some(6) => parse_v6(packet),
            _ => None,
        }
        .ok_or(DropReason::MalformedIp)
    }

    /// Destination port, if the packet is UDP and has one.
    pub fn udp_destination(&self, packet: &[u8]) -> Option<u16> {
        self.udp_port(packet, 2)
    }

    /// Source port, if the packet is UDP and has one.
    pub fn udp_source(&self, packet: &[u8]) -> Option<u16> {
        self.udp_port(packet, 0)
    }

    fn udp_port(&self, packet: &[u8], offset: usize) -> Option<u16> {
        if self.protocol != UDP || self.later_fragment {
            return None;
        }
        let at = self.header + offset;
        Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
    }
}

fn parse_v4(packet: &[u8]) -> Option<View> {
    let fixed: &[u8; IPV4_HEADER] = packet.first_chunk()?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if header < IPV4_HEADER || length < header || length > packet.len() {
        return None;
    }
    let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
    Some(View {
        source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
        destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
        protocol: fixed[9],
        header,
        length,
        dont_fragment: fragment & DONT_FRAGMENT != 0,
        later_fragment: fragment & FRAGMENT_OFFSET != 0,
        dscp_bits: fixed[1] & DSCP,
    })
}

fn parse_v6(packet: &[u8]) -> Option<View> {
    let fixed: &[u8; IPV6_HEADER] = packet.first_chunk()?;
    let length = IPV6_HEADER + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    if length > packet.len() {
        return None;
    }
    let address = |at: usize| -> Option<Ipv6Addr> {
        Some(Ipv6Addr::from(
            <[u8; 16]>::try_from(fixed.get(at..at + 16)?).ok()?,
        ))
    };
    Some(View {
        source: address(8)?.into(),
        destination: address(24)?.into(),
        protocol: fixed[6],
        header: IPV6_HEADER,
        length,
        dont_fragment: true,
        later_fragment: false,
        dscp_bits: ((fixed[0] << 4) | (fixed[1] >> 4)) & DSCP,
    })
}

/// The fragment word of an IPv4 header: whether more follow, and the offset in units of 8 octets.
pub fn fragment_word(header: &[u8]) -> (bool, u16) {
    let word = u16::from_be_bytes([header[6], header[7]]);
    (word & MORE_FRAGMENTS != 0, word & FRAGMENT_OFFSET)
}

/// Whether DF is set in an IPv4 header.
pub fn dont_fragment(header: &[u8]) -> bool {
    u16::from_be_bytes([header[6], header[7]]) & DONT_FRAGMENT != 0
}

/// Writes the fragment word; DF is cleared.
pub fn set_fragment_word(header: &mut [u8], more: bool, offset: u16) {
    let word = (offset & FRAGMENT_OFFSET) | if more { MORE_FRAGMENTS } else { 0 };
    header[6..8].copy_from_slice(&word.to_be_bytes());
}

/// Computes the checksum of an IPv4 header of `header.len()` octets anew.
pub fn set_checksum(header: &mut [u8]) {
    header[10..12].copy_from_slice(&[0, 0]);
    let checksum = super::checksum::of(header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IpFragOffset, Ipv4Options, PacketBuilder, ip_number};

    #[test]
    fn an_ipv4_header_as_etherparse_writes_it() {
        let mut header = etherparse::Ipv4Header::new(12, 64, ip_number::UDP, [10, 0, 0, 1], [10, 0, 0, 2])
            .expect("a short packet");
        header.dscp = 46u8.try_into().expect("six bits");
        header.ecn = 1u8.try_into().expect("two bits");
        header.dont_fragment = true;
        header.options = Ipv4Options::from([1, 1, 1, 1]);
        header.total_len = header.header_len() as u16 + 12;
        let mut packet = Vec::new();
        header.write(&mut packet).expect("a vector takes it");
        packet.extend_from_slice(&[0x06, 0xa5, 0x30, 0x39, 0, 12, 0, 0, 1, 2, 3, 4, 0xee]);
        let view = View::parse(&packet).expect("well formed");
        assert_eq!(view.source, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(view.destination, IpAddr::from([10, 0, 0, 2]));
        assert_eq!((view.header, view.length, view.dscp_bits), (24, 36, 46 << 2));
        assert!(view.dont_fragment && !view.later_fragment);
        assert_eq!(
            (view.udp_source(&packet), view.udp_destination(&packet)),
            (Some(1701), Some(12345))
        );
        header.fragment_offset = IpFragOffset::try_new(3).expect("thirteen bits");
        let mut fragment = Vec::new();
        header.write(&mut fragment).expect("a vector takes it");
        fragment.extend_from_slice(&[0; 12]);
        let view = View::parse(&fragment).expect("well formed");
        assert_eq!(
            (view.later_fragment, view.udp_destination(&fragment)),
            (true, None)
        );
        assert_eq!(fragment_word(&fragment), (false, 3));
    }

    #[test]
    fn an_ipv6_header_as_etherparse_writes_it() {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([0x20; 16], [0xfe; 16], 64)
            .udp(1701, 53)
            .write(&mut packet, &[1, 2, 3])
            .expect("a vector takes it");
        packet[0] |= 0x0b; // traffic class 0xb8: EF
        packet[1] |= 0x80;
        let view = View::parse(&packet).expect("well formed");
        assert_eq!(
            (view.source, view.destination),
            (IpAddr::from([0x20; 16]), IpAddr::from([0xfe; 16]))
        );
        assert_eq!((view.protocol, view.length, view.dscp_bits), (UDP, 51, 46 << 2));
        assert_eq!(view.udp_destination(&packet), Some(53));
    }

    #[test]
    fn lengths_that_do_not_fit_are_malformed() {
        let mut v4 = [0u8; 20];
        for (first, length) in [(0x44, 20u16), (0x46, 20), (0x45, 21), (0x45, 19), (0x55, 20)] {
            v4[0] = first;
            v4[2..4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(View::parse(&v4), Err(DropReason::MalformedIp));
        }
        let mut v6 = [0u8; 40];
        v6[0] = 0x60;
        assert!(View::parse(&v6).is_ok());
        v6[5] = 1;
        assert_eq!(View::parse(&v6), Err(DropReason::MalformedIp));
        assert_eq!(View::parse(&[]), Err(DropReason::MalformedIp));
    }
}
