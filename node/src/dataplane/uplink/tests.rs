//! What becomes of a datagram, case by case.

use super::*;
use crate::dataplane::TableUpdate;
use crate::dataplane::table::Session;
use crate::dataplane::table::tests::{SHARDS, peer, session, session_id, tunnel, tunnel_id};
use etherparse::{PacketBuilder, TcpOptionElement};
use proptest::prelude::*;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const SUBSCRIBER: [u8; 4] = [10, 0, 0, 1];
const ENDPOINT: [u8; 4] = [198, 51, 100, 1];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

const GROUP: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
const FAR: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

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
        dual.ipv6 = true;
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
fn user_data_goes_to_the_tun_without_padding() {
    let mut bench = Bench::new();
    let mut frame = from_subscriber();
    frame.extend_from_slice(&[0; 9]);
    let Uplink::Packet { session, packet } = bench.input(&data(10, None, &frame)) else {
        panic!("it is for the TUN")
    };
    assert_eq!((bench.table.session(session).id.get(), packet), (10, 10..41));
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
        let Uplink::Packet { packet: range, .. } = verdict else {
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
    let mut udp = |session: u16, source: [u8; 16], to: [u8; 16], port: u16| {
        let packet = udp6(source, to, port);
        bench.input(&data(session, None, &in_ppp(&[0xff, 3, 0, 0x57], &packet)))
    };
    assert!(matches!(udp(13, inside, FAR, 53), Uplink::Packet { .. }));
    assert_eq!(udp(13, outside, FAR, 53), Uplink::Drop(DropReason::SourceAddress));
    assert!(
        matches!(udp(13, LINK_LOCAL, GROUP, 547), Uplink::Ppp { .. }),
        "DHCPv6"
    );
    assert_eq!(
        udp(10, LINK_LOCAL, GROUP, 547),
        Uplink::Drop(DropReason::NotOpen),
        "no IPv6 there"
    );
    let frame = in_ppp(&[0x57], &icmp6(LINK_LOCAL, GROUP, 133));
    assert!(matches!(bench.input(&data(13, None, &frame)), Uplink::Ppp { .. }));
}

#[test]
fn ipv6_of_the_link_alone_never_reaches_the_core() {
    let mut bench = Bench::new();
    let inside = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1];
    let other = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
    let cases = [
        (LINK_LOCAL, GROUP, "to a group"),
        (LINK_LOCAL, FAR, "from the link"),
        (inside, LINK_LOCAL, "to the link"),
        (inside, GROUP, "from an address of its own to a group"),
        ([0; 16], FAR, "from nowhere"),
        (inside, [0; 16], "to nowhere"),
        (inside, other, "to a prefix of its own"),
    ];
    for (source, to, what) in cases {
        let frame = in_ppp(&[0x57], &udp6(source, to, 53));
        let verdict = bench.input(&data(13, None, &frame));
        assert_eq!(verdict, Uplink::Drop(DropReason::LinkScope), "{what}");
    }
}

#[test]
fn s_139_a_subscriber_is_neither_router_nor_dhcpv6_server() {
    let mut bench = Bench::new();
    let inside = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1];
    for packet in [
        icmp6(LINK_LOCAL, GROUP, 134),
        icmp6(inside, FAR, 134),
        icmp6(LINK_LOCAL, GROUP, 137),
        udp6(LINK_LOCAL, GROUP, 546),
        udp6(inside, FAR, 546),
    ] {
        let verdict = bench.input(&data(13, None, &in_ppp(&[0x57], &packet)));
        assert_eq!(verdict, Uplink::Drop(DropReason::Guard));
    }
}

fn udp6(source: [u8; 16], to: [u8; 16], port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(source, to, 1)
        .udp(546, port)
        .write(&mut packet, &[1])
        .expect("a vector takes it");
    packet
}

fn icmp6(source: [u8; 16], to: [u8; 16], kind: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(source, to, 255)
        .icmpv6_raw(kind, 0, [0; 4])
        .write(&mut packet, &[])
        .expect("a vector takes it");
    packet
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
    assert!(matches!(bench.input(&ping(OWN.octets())), Uplink::Echo { packet, .. } if packet == (10..46)));
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

proptest! {
    #[test]
    fn nothing_a_lac_sends_panics(session in 10u16..14, frame in prop::collection::vec(any::<u8>(), 0..96),
                                  header in prop::sample::select(vec![&[0x21u8, 0x45, 0, 0, 20][..], &[0x21], &[0x57, 0x60], &[]])) {
        let mut bench = Bench::new();
        let frame = [header, &frame[..]].concat();
        bench.input(&data(session, Some(0), &frame));
        bench.policy.has_tun = false;
        bench.input(&data(session, Some(1), &frame));
    }

    #[test]
    fn a_packet_of_the_subscriber_is_never_longer_than_what_came(rest in prop::collection::vec(any::<u8>(), 8..64)) {
        let mut bench = Bench::new();
        let mut packet = ipv4(SUBSCRIBER, [192, 0, 2, 9], 53);
        packet[2..10].copy_from_slice(&rest[..8]);
        packet.extend_from_slice(&rest[8..]);
        let datagram = data(10, None, &in_ppp(&[0x21], &packet));
        if let Uplink::Packet { packet, .. } = bench.input(&datagram) {
            prop_assert!(packet.start == 7 && packet.end <= datagram.len());
        }
    }
}

/// An LCP Echo-Request, or with code 10 its reply, in a PPP frame.
fn lcp_echo(code: u8, magic: u32) -> Vec<u8> {
    [
        &[0xff, 3, 0xc0, 0x21, code, 3, 0, 12][..],
        &magic.to_be_bytes(),
        b"data",
    ]
    .concat()
}

#[test]
fn an_echo_on_an_open_link_is_for_no_actor() {
    let mut bench = Bench::new();
    let index = bench.table.find_session(4, 10).expect("it exists");
    let answered = |packet| Uplink::LcpEcho {
        session: index,
        packet,
    };
    let (request, now) = (lcp_echo(9, 9), std::time::Duration::from_millis(5));
    assert_eq!(bench.input(&data(10, None, &request)), answered(10..22));
    assert_eq!(bench.input(&data(10, None, &request[2..])), answered(8..20));
    assert_eq!(bench.session(10).shared.last_received(), Some(now));
    let padded = [&request[..], &[0; 9]].concat();
    assert_eq!(bench.input(&data(10, None, &padded)), answered(10..22));
    let totals = bench.session(10).shared.totals();
    assert_eq!(totals.received_packets, 0, "no user data");
}

#[test]
fn other_echoes_are_for_the_actor() {
    let mut bench = Bench::new();
    let request = lcp_echo(9, 9);
    let cases = [
        ("not open", data(11, None, &request)),
        ("its reply needs a number", data(12, Some(0), &request)),
        ("another negotiation's", data(10, None, &lcp_echo(9, 8))),
        ("our own come back", data(10, None, &lcp_echo(9, 7))),
        ("a reply", data(10, None, &lcp_echo(10, 9))),
        ("too short for a magic number", data(10, None, &request[..10])),
    ];
    for (what, datagram) in cases {
        assert!(matches!(bench.input(&datagram), Uplink::Ppp { .. }), "{what}");
    }
}
