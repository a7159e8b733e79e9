//! What a TUN queue says about a packet, in front of it (virtio 1.2 §5.1.6, `struct virtio_net_hdr`; in host order).

/// Octets of the header.
pub const VNET_HEADER: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// CWR may be set in the first packet alone (RFC 3168 §6.1.2).
const GSO_ECN: u8 = 0x80;

/// For how many packets one stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// For itself.
    #[default]
    Whole,
    /// For several TCP segments over IPv4.
    Tcp4,
    /// For several TCP segments over IPv6.
    Tcp6,
    /// For several UDP datagrams (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// The header, all lengths and offsets in octets from the start of the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// Whether it stands for several.
    pub kind: Kind,
    /// The TCP or UDP checksum holds the sum of the pseudo-header alone; what is behind `checksum_start` is to be added.
    pub needs_checksum: bool,
    /// The first packet carries CWR.
    pub ecn: bool,
    /// Octets of the headers, a hint.
    pub header_length: u16,
    /// Octets of payload in each packet but the last; 0 for a whole one.
    pub segment: u16,
    /// Where the TCP or UDP header begins.
    pub checksum_start: u16,
    /// Where in it the checksum is.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// Reads the header. `None` if it stands for several of a kind that nobody asked for.
    pub fn decode(octets: [u8; VNET_HEADER]) -> Option<Self> {
        let word = |at: usize| u16::from_ne_bytes([octets[at], octets[at + 1]]);
        let kind = match octets[1] & !GSO_ECN {
            GSO_NONE => Kind::Whole,
            GSO_TCP4 => Kind::Tcp4,
            GSO_TCP6 => Kind::Tcp6,
            GSO_UDP => Kind::Udp,
            _ => return None,
        };
        Some(Self {
            kind,
            needs_checksum: octets[0] & NEEDS_CHECKSUM != 0,
            ecn: octets[1] & GSO_ECN != 0,
            header_length: word(2),
            segment: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        })
    }

    /// The octets of the header.
    pub fn encode(self) -> [u8; VNET_HEADER] {
        let kind = match self.kind {
            Kind::Whole => GSO_NONE,
            Kind::Tcp4 => GSO_TCP4,
            Kind::Tcp6 => GSO_TCP6,
            Kind::Udp => GSO_UDP,
        };
        let mut octets = [0; VNET_HEADER];
        octets[0] = if self.needs_checksum { NEEDS_CHECKSUM } else { 0 };
        octets[1] = if self.ecn { kind | GSO_ECN } else { kind };
        let words = [
            self.header_length,
            self.segment,
            self.checksum_start,
            self.checksum_offset,
        ];
        for (word, place) in words.iter().zip(octets[2..].chunks_exact_mut(2)) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_value_both_ways() {
        let header = VnetHeader {
            kind: Kind::Tcp4,
            needs_checksum: true,
            ecn: true,
            header_length: 0x0034,
            segment: 0x0550,
            checksum_start: 20,
            checksum_offset: 16,
        };
        let words = [0x0034u16, 0x0550, 20, 16];
        let mut octets = vec![1, 0x81];
        octets.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        assert_eq!(header.encode()[..], octets);
        assert_eq!(VnetHeader::decode(header.encode()), Some(header));
        assert_eq!(VnetHeader::default().encode(), [0; VNET_HEADER]);
        for kind in [Kind::Whole, Kind::Tcp6, Kind::Udp] {
            let header = VnetHeader {
                kind,
                ..VnetHeader::default()
            };
            assert_eq!(VnetHeader::decode(header.encode()), Some(header));
        }
    }

    #[test]
    fn what_nobody_asked_for_is_refused() {
        for kind in [2, 3, 6, 0x7f] {
            let mut octets = [0; VNET_HEADER];
            octets[1] = kind;
            assert_eq!(VnetHeader::decode(octets), None, "{kind}");
        }
    }
}
