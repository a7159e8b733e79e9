//! What the rules of a filter look at of a packet.

use std::net::IpAddr;

use crate::dataplane::ip::{self, ICMP, ICMPV6, TCP, UDP, View};

/// IPv6 next headers that stand before the transport's (RFC 8200 §4.1).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
/// Extension headers that are gone past. More than that many hide what they carry.
const EXTENSIONS_MAX: usize = 8;
/// Octets of a fragment header.
const FRAGMENT_HEADER: usize = 8;
/// Where the flags of TCP stand.
const TCP_FLAGS: usize = 13;

/// A packet's addresses, protocol and what its transport begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// Of the transport, behind all extension headers.
    pub protocol: u8,
    /// What is told by the transport's own header.
    pub transport: Transport,
}

/// The first octets behind the IP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// They are in another packet: this one is a later fragment.
    Elsewhere,
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// FIN is the lowest bit (RFC 9293 §3.1).
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP or ICMPv6 of this type.
    Icmp(u8),
    /// Any other protocol.
    Other,
}

impl Flow {
    /// Of the packet that starts with `view`. `None` if it hides its transport: behind too many or broken extension headers, in a
    /// first fragment too short for it, or in a fragment made to overwrite it (RFC 1858 §3).
    pub fn of(view: &View, packet: &[u8]) -> Option<Self> {
        let place = Place::of(view, packet)?;
        Some(Self {
            source: view.source,
            destination: view.destination,
            protocol: place.protocol,
            transport: transport(&place, packet.get(..view.length)?)?,
        })
    }

    /// Source and destination port.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp {
                source, destination, ..
            }
            | Transport::Udp { source, destination } => Some((source, destination)),
            Transport::Elsewhere | Transport::Icmp(_) | Transport::Other => None,
        }
    }
}

/// Where the transport begins.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The transport's number.
    pub protocol: u8,
    /// Octets before it.
    pub at: usize,
    /// Octets of the whole packet's transport that come before these.
    pub offset: usize,
}

impl Place {
    /// `None` if there is no telling.
    pub fn of(view: &View, packet: &[u8]) -> Option<Self> {
        let (protocol, at) = (view.protocol, view.header);
        if view.source.is_ipv4() {
            let (_, offset) = ip::fragment_word(packet);
            let offset = usize::from(offset) * 8;
            return Some(Self { protocol, at, offset });
        }
        let mut place = Self {
            protocol,
            at,
            offset: 0,
        };
        for _ in 0..=EXTENSIONS_MAX {
            let header = packet.get(place.at..view.length)?;
            let length = match (place.protocol, header) {
                (HOP_BY_HOP | ROUTING | DESTINATION, [_, length, ..]) => (usize::from(*length) + 1) * 8,
                (AUTHENTICATION, [_, length, ..]) => (usize::from(*length) + 2) * 4,
                (FRAGMENT, [_, _, high, low, ..]) => {
                    place.offset = usize::from(u16::from_be_bytes([*high, *low]) & !7);
                    FRAGMENT_HEADER
                }
                (HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION | FRAGMENT, _) => return None,
                _ => return Some(place),
            };
            place.protocol = header[0];
            place.at += length;
            if place.offset > 0 {
                return Some(place);
            }
        }
        None
    }
}

/// `None` if its header is not whole where it should be.
fn transport(place: &Place, packet: &[u8]) -> Option<Transport> {
    if place.offset > 0 {
        let overwrites = place.protocol == TCP && place.offset <= TCP_FLAGS;
        return (!overwrites).then_some(Transport::Elsewhere);
    }
    let header = packet.get(place.at..).unwrap_or_default();
    let port = |at: usize| Some(u16::from_be_bytes(*header.get(at..)?.first_chunk()?));
    Some(match place.protocol {
        TCP => Transport::Tcp {
            source: port(0)?,
            destination: port(2)?,
            flags: *header.get(TCP_FLAGS)?,
        },
        UDP => Transport::Udp {
            source: port(0)?,
            destination: port(2)?,
        },
        ICMP | ICMPV6 => Transport::Icmp(*header.first()?),
        _ => Transport::Other,
    })
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv6FragmentHeader, PacketBuilder};

    use super::*;

    fn flow(packet: &[u8]) -> Option<Flow> {
        Flow::of(&View::parse(packet).expect("well formed"), packet)
    }

    fn tcp_v4() -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64)
            .tcp(4000, 80, 1, 1000)
            .syn()
            .write(&mut packet, &[])
            .expect("a vector takes it");
        packet
    }

    /// UDP from port 5 to port 53 behind these extension headers, each its number and its octets but for the next header.
    fn behind(extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([0x20; 16], [0x2a; 16], 64)
            .udp(5, 53)
            .write(&mut packet, &[1, 2, 3])
            .expect("a vector takes it");
        let mut headers = Vec::new();
        for (at, (_, octets)) in extensions.iter().enumerate() {
            headers.push(extensions.get(at + 1).map_or(UDP, |next| next.0));
            headers.extend_from_slice(octets);
        }
        if let Some((first, _)) = extensions.first() {
            packet[6] = *first;
        }
        packet.splice(40..40, headers);
        let length = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet
    }

    #[test]
    fn ports_flags_and_types() {
        let syn = flow(&tcp_v4()).expect("it hides nothing");
        let tcp = Transport::Tcp {
            source: 4000,
            destination: 80,
            flags: 2,
        };
        assert_eq!(
            (syn.protocol, syn.transport, syn.ports()),
            (TCP, tcp, Some((4000, 80)))
        );
        let mut echo = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64)
            .icmpv4_echo_request(1, 1)
            .write(&mut echo, &[])
            .expect("a vector takes it");
        assert_eq!(flow(&echo).map(|flow| flow.transport), Some(Transport::Icmp(8)));
        let mut other = tcp_v4();
        other[9] = 50;
        assert_eq!(
            flow(&other).map(|flow| (flow.protocol, flow.ports())),
            Some((50, None))
        );
    }

    #[test]
    fn behind_extension_headers() {
        let (hop, routing): (&[u8], &[u8]) = (&[0, 0, 0, 0, 0, 0, 0], &[1; 15]);
        let authentication: &[u8] = &[1; 11];
        for extensions in [
            &[][..],
            &[(HOP_BY_HOP, hop)],
            &[
                (HOP_BY_HOP, hop),
                (ROUTING, routing),
                (AUTHENTICATION, authentication),
            ],
            &[(DESTINATION, hop); EXTENSIONS_MAX],
        ] {
            let found = flow(&behind(extensions)).expect("it hides nothing");
            assert_eq!(
                (found.protocol, found.ports()),
                (UDP, Some((5, 53))),
                "{extensions:?}"
            );
        }
        assert_eq!(flow(&behind(&[(DESTINATION, hop); EXTENSIONS_MAX + 1])), None);
        let mut cut = behind(&[(HOP_BY_HOP, hop)]);
        cut[41] = 200;
        assert_eq!(flow(&cut), None, "longer than the packet");
    }

    #[test]
    fn later_fragments_and_those_that_hide_something() {
        let transport = |packet: &[u8]| flow(packet).map(|flow| flow.transport);
        let mut later = tcp_v4();
        later[7] = 2;
        assert_eq!(transport(&later), Some(Transport::Elsewhere));
        later[7] = 1;
        assert_eq!(transport(&later), None, "it would overwrite the flags");
        later[9] = UDP;
        assert_eq!(transport(&later), Some(Transport::Elsewhere));
        let mut tiny = tcp_v4();
        (tiny[3], tiny[6]) = (20 + 12, 0x20);
        assert_eq!(transport(&tiny), None, "no flags");
        tiny[3] = 20;
        assert_eq!(transport(&tiny), None, "nothing at all");

        for (offset, expected) in [(0, None), (185, Some(Transport::Elsewhere))] {
            let header =
                Ipv6FragmentHeader::new(UDP.into(), offset.try_into().expect("thirteen bits"), true, 7);
            let found = transport(&behind(&[(FRAGMENT, &header.to_bytes()[1..])]));
            let first = Transport::Udp {
                source: 5,
                destination: 53,
            };
            assert_eq!(found, expected.or(Some(first)));
        }
    }
}
