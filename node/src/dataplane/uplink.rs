//! From the LAC: what a received datagram is and where it goes (RFC 2661 §3.1, §5.4; RFC 1661 §2).
//!
//! A peer is never answered from here: what cannot be used is dropped and counted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use holdfast_protocol::{SessionId, TunnelId};

use super::counters::DropReason;
use super::header::{self, Header};
use super::icmp;
use super::ip::{ICMPV6, UDP, View};
use super::mss;
use super::table::{Session, Table};

/// PPP protocol numbers of user data; everything else goes to the control side.
pub const PPP_IPV4: u16 = 0x0021;
/// See [`PPP_IPV4`].
pub const PPP_IPV6: u16 = 0x0057;

/// Address and Control fields of a PPP frame, all stations and unnumbered information (RFC 1662 §3.1).
const ADDRESS_CONTROL: [u8; 2] = [0xff, 0x03];

const ICMPV6_ROUTER_SOLICITATION: u8 = 133;
const DHCPV6_SERVER_PORT: u16 = 547;

/// What does not change while a shard runs.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// This shard.
    pub shard: usize,
    /// Of how many.
    pub shards: usize,
    /// The node's own address in all sessions.
    pub own_address: Ipv4Addr,
    /// Whether user data can be passed on.
    pub has_tun: bool,
}

/// Where a datagram goes. Ranges are within the datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Uplink {
    /// To the control side, without octets behind its end.
    Control {
        /// Our id as the header carries it; 0 = not known yet.
        tunnel: u16,
        /// Octets of the message.
        end: usize,
    },
    /// A PPP frame for the control side.
    Ppp {
        /// Our id.
        tunnel: TunnelId,
        /// Our id.
        session: SessionId,
        /// From the Address field, if there is one.
        frame: Range<usize>,
    },
    /// An IP packet for the TUN.
    Packet {
        /// The packet without padding.
        packet: Range<usize>,
    },
    /// An Echo-Request to our own address that no kernel will answer: there is no TUN.
    Echo {
        /// Index of the session it came from.
        session: u32,
        /// The packet without padding.
        packet: Range<usize>,
    },
    /// The tunnel is another shard's.
    Foreign {
        /// Whose.
        shard: usize,
    },
    /// Nowhere.
    Drop(DropReason),
}

/// Judges a datagram that came from `from`, `now_ms` milliseconds of CLOCK_BOOTTIME. The MSS of a TCP SYN is changed in
/// place; a drop that a session is to blame for is counted there, other counters are the caller's.
pub fn classify(
    table: &mut Table,
    policy: &Policy,
    from: SocketAddr,
    datagram: &mut [u8],
    now_ms: u64,
) -> Uplink {
    let header = match header::parse(datagram) {
        Ok(header) => header,
        Err(reason) => return Uplink::Drop(reason),
    };
    let Some(id) = TunnelId::new(header.tunnel()) else {
        return match header {
            Header::Control { tunnel, end } => Uplink::Control { tunnel, end },
            Header::Data { .. } => Uplink::Drop(DropReason::UnknownTunnel),
        };
    };
    // The kernel may deliver to the wrong shard: a GSO super-packet with several tunnels goes whole to one socket.
    let shard = id.shard(policy.shards);
    if shard != policy.shard {
        return Uplink::Foreign { shard };
    }
    let Some(tunnel) = table.tunnel(id.get()) else {
        return Uplink::Drop(DropReason::UnknownTunnel);
    };
    if (tunnel.peer.ip(), tunnel.peer.port()) != (from.ip(), from.port()) {
        return Uplink::Drop(DropReason::Spoof);
    }
    tunnel.shared.note_received(now_ms);
    match header {
        Header::Control { tunnel, end } => Uplink::Control { tunnel, end },
        Header::Data {
            session, ns, frame, ..
        } => {
            let Some(index) = table.find_session(id.get(), session) else {
                return Uplink::Drop(DropReason::UnknownSession);
            };
            table.session(index).shared.note_received(now_ms);
            let verdict = classify_data(table, policy, id, index, ns, frame, datagram);
            verdict.unwrap_or_else(|reason| {
                table.session(index).shared.count_drop(policy.shard, reason);
                Uplink::Drop(reason)
            })
        }
    }
}

fn classify_data(
    table: &mut Table,
    policy: &Policy,
    tunnel: TunnelId,
    index: u32,
    ns: Option<u16>,
    frame: Range<usize>,
    datagram: &mut [u8],
) -> Result<Uplink, DropReason> {
    let session = table.session_mut(index);
    match ns {
        Some(ns) if !session.receive.accept(ns) => return Err(DropReason::SequenceOld),
        None if session.sequencing => return Err(DropReason::SequenceMissing),
        Some(_) | None => {}
    }
    let (protocol, at) = ppp_protocol(&datagram[frame.clone()])?;
    let session = table.session(index);
    if !matches!(protocol, PPP_IPV4 | PPP_IPV6) {
        return Ok(Uplink::Ppp {
            tunnel,
            session: session.id,
            frame,
        });
    }
    if !session.open {
        return Err(DropReason::NotOpen);
    }
    let start = frame.start + at;
    let view = View::parse(&datagram[start..frame.end])?;
    if view.source.is_ipv4() != (protocol == PPP_IPV4) {
        return Err(DropReason::MalformedIp);
    }
    let packet = start..start + view.length;
    let octets = &mut datagram[packet.clone()];
    if let IpAddr::V6(source) = view.source
        && source.is_unicast_link_local()
    {
        return link_local(session, &view, octets)
            .then_some(Uplink::Ppp {
                tunnel,
                session: session.id,
                frame,
            })
            .ok_or(DropReason::SourceAddress);
    }
    if !session.owns(view.source) {
        return Err(DropReason::SourceAddress);
    }
    if is_recursion(table, policy, &view, octets) {
        return Err(DropReason::Recursion);
    }
    if !policy.has_tun {
        let echo = icmp::is_echo_request(octets, &view, policy.own_address);
        return echo
            .then_some(Uplink::Echo {
                session: index,
                packet,
            })
            .ok_or(DropReason::NoTun);
    }
    if session.mss_clamp {
        mss::clamp(octets, &view, session.mtu);
    }
    session.shared.count_received(policy.shard, view.length);
    Ok(Uplink::Packet { packet })
}

/// The PPP protocol number of a frame and where the information field begins. `FF 03` and the first octet of the
/// protocol may both be missing whatever was negotiated (S-93). A number with an even last octet (S-94) comes out as it
/// is and goes to the control side like any unknown one.
fn ppp_protocol(frame: &[u8]) -> Result<(u16, usize), DropReason> {
    let at = if frame.starts_with(&ADDRESS_CONTROL) {
        ADDRESS_CONTROL.len()
    } else {
        0
    };
    match frame[at..] {
        [first, _, ..] if first & 1 == 1 => Ok((u16::from(first), at + 1)),
        [first, second, _, ..] => Ok((u16::from_be_bytes([first, second]), at + 2)),
        [] | [_] | [_, _] => Err(DropReason::EmptyPpp),
    }
}

/// What may come from a link-local address: router solicitations and DHCPv6, which the control side answers.
fn link_local(session: &Session, view: &View, packet: &[u8]) -> bool {
    let solicitation =
        view.protocol == ICMPV6 && packet.get(view.header) == Some(&ICMPV6_ROUTER_SOLICITATION);
    session.has_ipv6() && (solicitation || view.udp_destination(packet) == Some(DHCPV6_SERVER_PORT))
}

/// Whether the packet goes to a tunnel endpoint of ours (S-100). Where the endpoint's address is also the node's address
/// in the sessions only L2TP is meant.
fn is_recursion(table: &Table, policy: &Policy, view: &View, packet: &[u8]) -> bool {
    if !table.is_endpoint(view.destination) {
        return false;
    }
    if view.destination != IpAddr::V4(policy.own_address) {
        return true;
    }
    let later_fragment = view.protocol == UDP && view.later_fragment;
    later_fragment
        || view
            .udp_destination(packet)
            .is_some_and(|port| table.is_listening(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::TableUpdate;
    use crate::dataplane::table::tests::{SHARDS, peer, session, session_id, tunnel, tunnel_id};
    use etherparse::{PacketBuilder, TcpOptionElement};

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
    const SUBSCRIBER: [u8; 4] = [10, 0, 0, 1];
    const ENDPOINT: [u8; 4] = [198, 51, 100, 1];
    const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    /// One tunnel, 4, of shard 0, and its sessions: 10 (open), 11 (not open), 12 (sequenced), 13 (with IPv6).
    struct Bench {
        table: Table,
        policy: Policy,
    }

    impl Bench {
        fn new() -> Self {
            let mut table = Table::new(&["0.0.0.0:1701".parse().expect("an address")]);
            table.apply(TableUpdate::Tunnel(tunnel(4)));
            table.apply(TableUpdate::Session(session(4, 10, SUBSCRIBER)));
            let mut closed = session(4, 11, [10, 0, 0, 2]);
            closed.open = false;
            let mut sequenced = session(4, 12, [10, 0, 0, 3]);
            sequenced.sequencing = true;
            let mut dual = session(4, 13, [10, 0, 0, 4]);
            dual.routes = vec![
                "2001:db8::/56".parse().expect("a prefix"),
                "10.8.0.0/24".parse().expect("a prefix"),
            ];
            for entry in [closed, sequenced, dual] {
                table.apply(TableUpdate::Session(entry));
            }
            Self {
                table,
                policy: Policy {
                    shard: 0,
                    shards: SHARDS,
                    own_address: OWN,
                    has_tun: true,
                },
            }
        }

        fn input(&mut self, datagram: &[u8]) -> Uplink {
            self.input_from(peer(), datagram)
        }

        fn input_from(&mut self, from: SocketAddr, datagram: &[u8]) -> Uplink {
            classify(&mut self.table, &self.policy, from, &mut datagram.to_vec(), 5)
        }

        fn session(&self, id: u16) -> &Session {
            self.table
                .session(self.table.find_session(4, id).expect("it exists"))
        }

        /// When the tunnel's peer was last heard.
        fn heard(&self) -> Option<std::time::Duration> {
            self.table.tunnel(4).expect("it exists").shared.last_received()
        }

        fn dropped(&self, id: u16, reason: DropReason) -> u64 {
            self.session(id).shared.totals().dropped(reason)
        }
    }

    /// A data message of tunnel 4.
    fn data(session: u16, ns: Option<u16>, frame: &[u8]) -> Vec<u8> {
        let mut buffer = [&[0; 10], frame].concat();
        let start = header::write_data(&mut buffer, 10, 4, session, ns);
        buffer.split_off(start)
    }

    fn ipv4(source: [u8; 4], destination: [u8; 4], port: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(source, destination, 64)
            .udp(5000, port)
            .write(&mut packet, &[1, 2, 3])
            .expect("a vector takes it");
        packet
    }

    fn in_ppp(header: &[u8], packet: &[u8]) -> Vec<u8> {
        [header, packet].concat()
    }

    fn from_subscriber() -> Vec<u8> {
        in_ppp(&[0xff, 3, 0, 0x21], &ipv4(SUBSCRIBER, [192, 0, 2, 9], 53))
    }

    #[test]
    fn user_data_goes_to_the_tun_without_padding_and_is_counted() {
        let mut bench = Bench::new();
        let mut frame = from_subscriber();
        frame.extend_from_slice(&[0; 9]);
        assert_eq!(
            bench.input(&data(10, None, &frame)),
            Uplink::Packet { packet: 10..41 }
        );
        let totals = bench.session(10).shared.totals();
        assert_eq!((totals.received_packets, totals.received_octets), (1, 31));
        let now = Some(std::time::Duration::from_millis(5));
        assert_eq!(
            (bench.session(10).shared.last_received(), bench.heard()),
            (now, now)
        );
    }

    #[test]
    fn s_1_to_s_4_malformed_datagrams_drop_before_any_look_up() {
        let mut bench = Bench::new();
        let cases: [(&[u8], DropReason); 4] = [
            (&[0, 2, 0, 4, 0], DropReason::Runt),
            (&[0, 1, 0, 4, 0, 10], DropReason::Version),
            (&[0x80, 2, 0, 12, 0, 4, 0, 0, 0, 0, 0, 0], DropReason::Flags),
            (&[0x40, 2, 0, 99, 0, 4, 0, 10], DropReason::Length),
        ];
        for (datagram, reason) in cases {
            assert_eq!(bench.input(datagram), Uplink::Drop(reason));
        }
        assert_eq!(bench.heard(), None);
    }

    #[test]
    fn control_goes_to_the_control_side_with_its_end() {
        let mut bench = Bench::new();
        let zlb = [0xc8, 2, 0, 12, 0, 4, 0, 0, 0, 1, 0, 1, 0xee];
        assert_eq!(bench.input(&zlb), Uplink::Control { tunnel: 4, end: 12 });
        let stranger = "203.0.113.9:4444".parse().expect("an address");
        let sccrq = [0xc8, 2, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            bench.input_from(stranger, &sccrq),
            Uplink::Control { tunnel: 0, end: 12 }
        );
    }

    #[test]
    fn s_7_control_for_an_unknown_tunnel_drops() {
        let mut bench = Bench::new();
        let zlb = [0xc8, 2, 0, 12, 0, 8, 0, 0, 0, 1, 0, 1];
        assert_eq!(bench.input(&zlb), Uplink::Drop(DropReason::UnknownTunnel));
    }

    #[test]
    fn s_8_another_address_or_port_is_a_spoof() {
        let mut bench = Bench::new();
        let zlb = vec![0xc8, 2, 0, 12, 0, 4, 0, 0, 0, 1, 0, 1];
        let ppp = data(10, None, &[0xff, 3, 0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0]);
        for datagram in [zlb, ppp, data(10, None, &from_subscriber())] {
            for from in ["192.0.2.1:1702", "192.0.2.2:1701"] {
                let verdict = bench.input_from(from.parse().expect("an address"), &datagram);
                assert_eq!(verdict, Uplink::Drop(DropReason::Spoof));
            }
        }
        assert_eq!(bench.heard(), None);
    }

    #[test]
    fn a_tunnel_of_another_shard_is_handed_over_unread() {
        let mut bench = Bench::new();
        bench.policy.shard = 1;
        assert_eq!(
            bench.input(&data(10, None, &from_subscriber())),
            Uplink::Foreign { shard: 0 }
        );
    }

    #[test]
    fn s_90_unknown_tunnel_unknown_session_and_session_0() {
        let mut bench = Bench::new();
        let mut unknown_tunnel = data(10, None, &from_subscriber());
        unknown_tunnel[3] = 8;
        assert_eq!(
            bench.input(&unknown_tunnel),
            Uplink::Drop(DropReason::UnknownTunnel)
        );
        unknown_tunnel[3] = 0;
        assert_eq!(
            bench.input(&unknown_tunnel),
            Uplink::Drop(DropReason::UnknownTunnel)
        );
        for session in [0, 99] {
            let verdict = bench.input(&data(session, None, &from_subscriber()));
            assert_eq!(verdict, Uplink::Drop(DropReason::UnknownSession));
        }
    }

    #[test]
    fn s_91_before_open_only_ppp_control_passes() {
        let mut bench = Bench::new();
        let frame = in_ppp(&[0xff, 3, 0, 0x21], &ipv4([10, 0, 0, 2], [192, 0, 2, 9], 53));
        assert_eq!(
            bench.input(&data(11, None, &frame)),
            Uplink::Drop(DropReason::NotOpen)
        );
        assert_eq!(bench.dropped(11, DropReason::NotOpen), 1);
        let lcp = data(11, None, &[0xff, 3, 0xc0, 0x21, 1, 1, 0, 4]);
        let (tunnel, session) = (tunnel_id(4), session_id(11));
        assert_eq!(
            bench.input(&lcp),
            Uplink::Ppp {
                tunnel,
                session,
                frame: 6..14
            }
        );
    }

    #[test]
    fn s_92_frames_without_protocol_or_information_drop() {
        let mut bench = Bench::new();
        let frames: [&[u8]; 7] = [
            &[],
            &[0xff, 3],
            &[0xff, 3, 0x21],
            &[0x21],
            &[0xff, 3, 0],
            &[0xff, 3, 0, 0x21],
            &[0xc0, 0x21],
        ];
        for frame in frames {
            assert_eq!(
                bench.input(&data(10, None, frame)),
                Uplink::Drop(DropReason::EmptyPpp),
                "{frame:02x?}"
            );
        }
    }

    #[test]
    fn s_93_address_control_and_protocol_may_be_compressed() {
        let mut bench = Bench::new();
        let packet = ipv4(SUBSCRIBER, [192, 0, 2, 9], 53);
        let headers: [&[u8]; 4] = [&[0xff, 3, 0, 0x21], &[0, 0x21], &[0x21], &[0xff, 3, 0x21]];
        for header in headers {
            let verdict = bench.input(&data(10, None, &in_ppp(header, &packet)));
            let Uplink::Packet { packet: range } = verdict else {
                panic!("{header:02x?}: {verdict:?}")
            };
            assert_eq!(range, 6 + header.len()..6 + header.len() + packet.len());
        }
    }

    #[test]
    fn s_94_an_even_protocol_goes_to_the_control_side_like_any_unknown() {
        let mut bench = Bench::new();
        let (tunnel, session) = (tunnel_id(4), session_id(10));
        for frame in [[0xff, 3, 0x00, 0x20, 1], [0xff, 3, 0x80, 0x99, 1]] {
            let verdict = bench.input(&data(10, None, &frame));
            assert_eq!(
                verdict,
                Uplink::Ppp {
                    tunnel,
                    session,
                    frame: 6..11
                }
            );
        }
    }

    #[test]
    fn s_95_s_96_a_sequenced_session_takes_new_numbers_only() {
        let mut bench = Bench::new();
        let frame = in_ppp(&[0xff, 3, 0, 0x21], &ipv4([10, 0, 0, 3], [192, 0, 2, 9], 53));
        let mut passes = |ns| !matches!(bench.input(&data(12, ns, &frame)), Uplink::Drop(_));
        assert!(passes(Some(7)) && passes(Some(9)));
        assert!(!passes(Some(8)) && !passes(Some(9)) && !passes(None));
        assert!(passes(Some(10)));
        assert_eq!(bench.dropped(12, DropReason::SequenceOld), 2);
        assert_eq!(bench.dropped(12, DropReason::SequenceMissing), 1);
    }

    /// We number only where AVP 39 asks for it, so a LAC may begin and stop elsewhere as it likes.
    #[test]
    fn s_97_numbers_may_stop_where_nobody_required_them() {
        let mut bench = Bench::new();
        for ns in [Some(0), Some(1), None, Some(2), None] {
            let verdict = bench.input(&data(10, ns, &from_subscriber()));
            assert!(matches!(verdict, Uplink::Packet { .. }), "{ns:?}: {verdict:?}");
        }
        assert_eq!(
            bench.input(&data(10, Some(1), &from_subscriber())),
            Uplink::Drop(DropReason::SequenceOld)
        );
    }

    #[test]
    fn s_98_nr_of_data_is_ignored() {
        let mut bench = Bench::new();
        let mut datagram = data(10, Some(0), &from_subscriber());
        datagram[8..10].copy_from_slice(&[0xde, 0xad]);
        assert!(matches!(bench.input(&datagram), Uplink::Packet { .. }));
    }

    #[test]
    fn s_99_a_foreign_source_address_drops() {
        let mut bench = Bench::new();
        let mut verdict = |session: u16, source: [u8; 4]| {
            let frame = in_ppp(&[0xff, 3, 0, 0x21], &ipv4(source, [192, 0, 2, 9], 53));
            bench.input(&data(session, None, &frame))
        };
        assert_eq!(
            verdict(10, [10, 0, 0, 2]),
            Uplink::Drop(DropReason::SourceAddress)
        );
        assert_eq!(
            verdict(10, [10, 8, 0, 7]),
            Uplink::Drop(DropReason::SourceAddress)
        );
        assert!(
            matches!(verdict(13, [10, 8, 0, 7]), Uplink::Packet { .. }),
            "a prefix behind the subscriber"
        );
        assert_eq!(bench.dropped(10, DropReason::SourceAddress), 2);
    }

    #[test]
    fn s_99_ipv6_sources_and_what_link_local_ones_may_say() {
        let mut bench = Bench::new();
        let inside = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1];
        let outside = [0x20, 1, 0x0d, 0xb8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
        let mut udp = |session: u16, source: [u8; 16], port: u16| {
            let mut packet = Vec::new();
            PacketBuilder::ipv6(source, group, 1)
                .udp(546, port)
                .write(&mut packet, &[1])
                .expect("a vector takes it");
            bench.input(&data(session, None, &in_ppp(&[0xff, 3, 0, 0x57], &packet)))
        };
        assert!(matches!(udp(13, inside, 53), Uplink::Packet { .. }));
        assert_eq!(udp(13, outside, 53), Uplink::Drop(DropReason::SourceAddress));
        assert!(matches!(udp(13, LINK_LOCAL, 547), Uplink::Ppp { .. }), "DHCPv6");
        assert_eq!(udp(13, LINK_LOCAL, 53), Uplink::Drop(DropReason::SourceAddress));
        assert_eq!(
            udp(10, LINK_LOCAL, 547),
            Uplink::Drop(DropReason::SourceAddress),
            "no IPv6 there"
        );
        let mut solicitation = Vec::new();
        PacketBuilder::ipv6(LINK_LOCAL, group, 255)
            .icmpv6_raw(133, 0, [0; 4])
            .write(&mut solicitation, &[])
            .expect("a vector takes it");
        let frame = in_ppp(&[0x57], &solicitation);
        assert!(matches!(bench.input(&data(13, None, &frame)), Uplink::Ppp { .. }));
    }

    #[test]
    fn the_ppp_protocol_and_the_ip_version_must_agree() {
        let mut bench = Bench::new();
        let frame = in_ppp(&[0x57], &ipv4(SUBSCRIBER, [192, 0, 2, 9], 53));
        assert_eq!(
            bench.input(&data(10, None, &frame)),
            Uplink::Drop(DropReason::MalformedIp)
        );
        assert_eq!(
            bench.input(&data(10, None, &[0x21, 0x45, 0, 0])),
            Uplink::Drop(DropReason::MalformedIp)
        );
    }

    #[test]
    fn s_100_nothing_goes_to_a_tunnel_endpoint_from_inside() {
        let mut bench = Bench::new();
        let to = |destination: [u8; 4], port: u16| {
            data(10, None, &in_ppp(&[0x21], &ipv4(SUBSCRIBER, destination, port)))
        };
        assert_eq!(
            bench.input(&to(ENDPOINT, 1701)),
            Uplink::Drop(DropReason::Recursion)
        );
        assert_eq!(
            bench.input(&to(ENDPOINT, 53)),
            Uplink::Drop(DropReason::Recursion)
        );
        assert_eq!(bench.dropped(10, DropReason::Recursion), 2);
        assert!(
            matches!(bench.input(&to([192, 0, 2, 9], 1701)), Uplink::Packet { .. }),
            "somebody else's LNS"
        );
        bench.policy.own_address = ENDPOINT.into();
        assert_eq!(
            bench.input(&to(ENDPOINT, 1701)),
            Uplink::Drop(DropReason::Recursion)
        );
        assert!(
            matches!(bench.input(&to(ENDPOINT, 53)), Uplink::Packet { .. }),
            "it is our address inside too"
        );
    }

    #[test]
    fn without_a_tun_pings_to_our_own_address_are_for_us_and_the_rest_drops() {
        let mut bench = Bench::new();
        bench.policy.has_tun = false;
        let ping = |destination: [u8; 4]| {
            let mut packet = Vec::new();
            PacketBuilder::ipv4(SUBSCRIBER, destination, 64)
                .icmpv4_echo_request(1, 2)
                .write(&mut packet, &[7; 8])
                .expect("a vector takes it");
            data(10, None, &in_ppp(&[0xff, 3, 0, 0x21], &packet))
        };
        assert!(
            matches!(bench.input(&ping(OWN.octets())), Uplink::Echo { packet, .. } if packet == (10..46))
        );
        assert_eq!(
            bench.input(&ping([192, 0, 2, 9])),
            Uplink::Drop(DropReason::NoTun)
        );
    }

    #[test]
    fn the_mss_of_a_subscribers_syn_is_clamped_where_the_session_says_so() {
        let mut bench = Bench::new();
        let mut packet = Vec::new();
        PacketBuilder::ipv4(SUBSCRIBER, [192, 0, 2, 9], 64)
            .tcp(4000, 80, 1, 65000)
            .syn()
            .options(&[TcpOptionElement::MaximumSegmentSize(1460)])
            .expect("it fits")
            .write(&mut packet, &[])
            .expect("a vector takes it");
        let mss_after = |bench: &mut Bench| {
            let mut datagram = data(10, None, &in_ppp(&[0x21], &packet));
            classify(&mut bench.table, &bench.policy, peer(), &mut datagram, 5);
            let at = datagram.len() - 2;
            u16::from_be_bytes([datagram[at], datagram[at + 1]])
        };
        assert_eq!(mss_after(&mut bench), 1360);
        let mut entry = session(4, 10, SUBSCRIBER);
        entry.mss_clamp = false;
        bench.table.apply(TableUpdate::Session(entry));
        assert_eq!(mss_after(&mut bench), 1460);
    }
}
