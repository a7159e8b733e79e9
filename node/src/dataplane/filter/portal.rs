//! Sends who asks for a page elsewhere: the answers of a web server that has but one, to TCP segments one by one.
//!
//! Nothing is remembered of a connection. Whoever connects gets the same first number, so an acknowledgement of it tells that he has
//! had nothing yet; all else is taken from the segment that is answered. A request may be repeated, cut into pieces or arrive anywhere:
//! its first piece gets the answer and the end of the connection, every other octet an acknowledgement.

use std::net::IpAddr;

use super::MAX_ANSWER;
use super::flow::Place;
use super::rule::{ACK, RST, SYN};
use crate::dataplane::checksum;
use crate::dataplane::ip::{self, IPV4_HEADER, IPV6_HEADER, TCP, View};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
/// Octets of a TCP header without options.
const TCP_HEADER: usize = 20;
/// The port of pages without TLS: with it nobody but the page's own server can answer.
const HTTP: u16 = 80;
/// The first number of each connection.
const FIRST: u32 = 0x1000_0000;
/// Requests are short.
const WINDOW: u16 = 16_384;
const TTL: u8 = 64;

/// Octets of the longest address of a portal.
pub const LOCATION_MAX: usize = 512;

/// The answer to all requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    response: Box<[u8]>,
}

/// An answer that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Octets of the packet.
    pub length: usize,
    /// Whether the portal's address is in it.
    pub redirects: bool,
}

/// What a segment for port 80 says.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    number: u32,
    acknowledged: u32,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// `None` if the packet is no whole TCP segment for port 80.
    pub fn of(view: &View, packet: &'a [u8]) -> Option<Self> {
        let place = Place::of(view, packet)?;
        let more = view.source.is_ipv4() && ip::fragment_word(packet).0;
        let octets = packet.get(place.at..view.length)?;
        let header: &[u8; TCP_HEADER] = octets.first_chunk()?;
        if place.protocol != TCP || place.offset > 0 || more {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let number = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
        Some(Self {
            source: view.source,
            destination: view.destination,
            source_port: word(0),
            number: number(4),
            acknowledged: number(8),
            flags: header[13],
            payload: octets.get(usize::from(header[12] >> 4) * 4..)?,
        })
        .filter(|_| word(2) == HTTP)
    }
}

impl Redirect {
    /// To `location`, an address of at most [`LOCATION_MAX`] octets as HTTP has it (RFC 9110 §15.4.3).
    pub fn new(location: &str) -> Self {
        let response = format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nCache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        Self {
            response: response.into_bytes().into(),
        }
    }

    /// Writes the packet that answers a segment.
    pub fn answer(&self, segment: &Segment<'_>, out: &mut [u8; MAX_ANSWER]) -> Option<Answered> {
        let asks = segment.acknowledged == FIRST.wrapping_add(1)
            && segment.payload.first().is_some_and(u8::is_ascii_uppercase);
        let (flags, number, payload): (u8, u32, &[u8]) = match segment.flags {
            flags if flags & RST != 0 => return None,
            flags if flags & (SYN | ACK) == SYN => (SYN | ACK, FIRST, &[]),
            flags if flags & ACK == 0 || flags & SYN != 0 => return None,
            _ if asks => (PSH | FIN | ACK, segment.acknowledged, &self.response),
            flags if flags & FIN != 0 || !segment.payload.is_empty() => (ACK, segment.acknowledged, &[]),
            _ => return None,
        };
        // SYN and FIN count as an octet each (RFC 9293 §3.4).
        let ends = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
        let next = segment
            .number
            .wrapping_add(segment.payload.len() as u32)
            .wrapping_add(ends);
        Some(Answered {
            length: write(segment, flags, (number, next), payload, out),
            redirects: !payload.is_empty(),
        })
    }
}

/// Writes a segment back to where one came from and returns the packet's length.
fn write(
    segment: &Segment<'_>,
    flags: u8,
    (number, acknowledged): (u32, u32),
    payload: &[u8],
    out: &mut [u8; MAX_ANSWER],
) -> usize {
    let header = match segment.source {
        IpAddr::V4(_) => IPV4_HEADER,
        IpAddr::V6(_) => IPV6_HEADER,
    };
    let octets = TCP_HEADER + payload.len();
    let (header, rest) = out.split_at_mut(header);
    let tcp = &mut rest[..octets];
    write_ip(segment, header, octets);
    tcp[..TCP_HEADER].fill(0);
    tcp[..2].copy_from_slice(&HTTP.to_be_bytes());
    tcp[2..4].copy_from_slice(&segment.source_port.to_be_bytes());
    tcp[4..8].copy_from_slice(&number.to_be_bytes());
    tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    tcp[12] = (TCP_HEADER as u8 / 4) << 4;
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    tcp[TCP_HEADER..].copy_from_slice(payload);
    let addresses = match segment.source {
        IpAddr::V4(_) => &header[12..],
        IpAddr::V6(_) => &header[8..],
    };
    let pseudo = checksum::pseudo_header(addresses, TCP, octets);
    let checksum = !(checksum::add(pseudo, checksum::sum(tcp)) as u16);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    header.len() + octets
}

fn write_ip(segment: &Segment<'_>, header: &mut [u8], octets: usize) {
    header.fill(0);
    match (segment.source, segment.destination) {
        (IpAddr::V4(to), IpAddr::V4(from)) => {
            header[0] = 0x45;
            header[2..4].copy_from_slice(&((IPV4_HEADER + octets) as u16).to_be_bytes());
            (header[8], header[9]) = (TTL, TCP);
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            ip::set_checksum(header);
        }
        (IpAddr::V6(to), IpAddr::V6(from)) => {
            header[0] = 0x60;
            header[4..6].copy_from_slice(&(octets as u16).to_be_bytes());
            (header[6], header[7]) = (TCP, TTL);
            header[8..24].copy_from_slice(&from.octets());
            header[24..40].copy_from_slice(&to.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            unreachable!("both are read from one header")
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};

    use super::*;

    const LOCATION: &str = "http://portal.example.net/pay";

    /// A segment to port 80 over IPv4 or IPv6.
    fn segment(v6: bool, change: impl Fn(&mut TcpHeader), payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let mut tcp = TcpHeader::new(4000, 80, 77, 1000);
        change(&mut tcp);
        let written = match v6 {
            true => PacketBuilder::ipv6([0x20; 16], [0x2a; 16], 64)
                .tcp_header(tcp)
                .write(&mut packet, payload),
            false => PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64)
                .tcp_header(tcp)
                .write(&mut packet, payload),
        };
        written.expect("a vector takes it");
        packet
    }

    /// Header and payload of the answer, which goes back to where the segment came from.
    fn answered(packet: &[u8]) -> Option<(TcpHeader, Vec<u8>)> {
        let view = View::parse(packet).expect("well formed");
        let segment = Segment::of(&view, packet).expect("one for port 80");
        let mut out = [0xee; MAX_ANSWER];
        let Answered { length, redirects } = Redirect::new(LOCATION).answer(&segment, &mut out)?;
        let back = View::parse(&out[..length]).expect("well formed");
        assert_eq!(
            (back.source, back.destination, back.length),
            (view.destination, view.source, length)
        );
        let sliced = SlicedPacket::from_ip(&out[..length]).expect("well formed");
        let (Some(net), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else {
            panic!("no TCP")
        };
        let sum = match net {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
            }
            NetSlice::Ipv6(ip) => tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()),
            NetSlice::Arp(_) => panic!("no IP"),
        };
        assert_eq!(Ok(tcp.checksum()), sum);
        assert_eq!(redirects, !tcp.payload().is_empty());
        Some((tcp.to_header(), tcp.payload().to_vec()))
    }

    #[test]
    fn a_whole_connection() {
        for v6 in [false, true] {
            let (syn_ack, _) = answered(&segment(v6, |tcp| tcp.syn = true, &[])).expect("he may connect");
            assert!(syn_ack.syn && syn_ack.ack && syn_ack.acknowledgment_number == 78);
            assert_eq!((syn_ack.source_port, syn_ack.destination_port), (80, 4000));
            let first = syn_ack.sequence_number.wrapping_add(1);
            let then = |fin: bool, acknowledged: u32| {
                move |tcp: &mut TcpHeader| {
                    (tcp.ack, tcp.fin) = (true, fin);
                    (tcp.sequence_number, tcp.acknowledgment_number) = (78, acknowledged);
                }
            };
            assert_eq!(
                answered(&segment(v6, then(false, first), &[])),
                None,
                "the handshake's end"
            );
            let request = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
            let (page, body) = answered(&segment(v6, then(false, first), request)).expect("an answer");
            assert!(page.fin && page.psh && page.ack);
            assert_eq!(
                (page.sequence_number, page.acknowledgment_number),
                (first, 78 + request.len() as u32)
            );
            let body = String::from_utf8(body).expect("ASCII");
            assert!(body.starts_with("HTTP/1.1 302 Found\r\n") && body.ends_with("\r\n\r\n"));
            assert!(body.contains("\r\nLocation: http://portal.example.net/pay\r\n"));
            let end = first.wrapping_add(body.len() as u32 + 1);
            let (last, rest) = answered(&segment(v6, then(true, end), &[])).expect("his end is acknowledged");
            assert_eq!((last.sequence_number, last.acknowledgment_number), (end, 79));
            assert!(!last.fin && rest.is_empty());
        }
    }

    #[test]
    fn a_request_in_pieces_has_one_answer() {
        let acknowledged = FIRST + 1;
        let piece = |payload: &'static [u8], acknowledged| {
            let change = |tcp: &mut TcpHeader| {
                tcp.ack = true;
                tcp.acknowledgment_number = acknowledged;
            };
            answered(&segment(false, change, payload)).expect("an answer")
        };
        assert!(!piece(b"GET / HT", acknowledged).1.is_empty());
        assert!(piece(b"cookie: x", acknowledged).1.is_empty());
        let (again, body) = piece(b"GET / HT", acknowledged + 200);
        assert!(body.is_empty() && !again.fin, "he has had it");
    }

    #[test]
    fn what_asks_nothing_gets_nothing() {
        assert_eq!(answered(&segment(false, |tcp| tcp.rst = true, &[])), None);
        let both = |tcp: &mut TcpHeader| (tcp.syn, tcp.ack) = (true, true);
        assert_eq!(answered(&segment(false, both, &[])), None);
        assert_eq!(answered(&segment(false, |_| {}, b"GET")), None);
        let other = |change: fn(&mut Vec<u8>)| {
            let mut packet = segment(false, |tcp| tcp.syn = true, &[]);
            change(&mut packet);
            let view = View::parse(&packet).expect("well formed");
            Segment::of(&view, &packet).is_some()
        };
        assert!(other(|_| {}));
        assert!(!other(|packet| packet[23] = 81), "another port");
        assert!(!other(|packet| packet[9] = 17), "another protocol");
        assert!(!other(|packet| packet[6] = 0x20), "not all of it");
        assert!(!other(|packet| packet[32] = 0xf0), "a header beyond the end");
        assert!(!other(|packet| packet[3] = 30), "cut");
    }

    #[test]
    fn the_longest_location_fits() {
        let redirect = Redirect::new(&"x".repeat(LOCATION_MAX));
        assert!(IPV6_HEADER + TCP_HEADER + redirect.response.len() <= MAX_ANSWER);
    }
}
