use std::net::Ipv6Addr;
use std::sync::Arc;

use etherparse::{Icmpv6Type, PacketBuilder};
use holdfast_cluster::records::{NcpRow, SessionRow};
use holdfast_ppp::frame::Frame;

use super::*;
use crate::lns::session::{Command, Session};
use crate::lns::{Now, granted};

const SUBSCRIBER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const SECOND: Duration = Duration::from_secs(1);

fn row() -> PppRow {
    let net = |text: &str| Some(granted::prefix(text.parse().expect("a prefix")));
    PppRow {
        local_mru: 1492,
        peer_mru: 1400,
        ncps: vec![NcpRow {
            protocol: 0x8057,
            open: true,
            local: vec![0, 0, 0, 0, 0, 0, 0, 1],
            peer: vec![0, 0, 0, 0, 0, 0, 0, 9],
            ..NcpRow::default()
        }],
        link_prefix: net("2001:db8:1::/64"),
        delegated_prefix: net("2001:db8:2::/56"),
        dns6: vec![
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53)
                .octets()
                .to_vec(),
        ],
        ..PppRow::default()
    }
}

fn duid() -> Duid {
    Duid::of_cluster("isp-1")
}

/// The IPv6 packet in a frame: next header, hop limit, source, destination, payload.
fn sent(answer: &Answer) -> (u8, u8, Ipv6Addr, Ipv6Addr, Vec<u8>) {
    let octets = answer.frame.as_ref().expect("a frame");
    let frame = Frame::parse(octets).expect("a frame");
    assert_eq!(frame.protocol, 0x0057);
    let packet = frame.information;
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen"));
    (
        packet[6],
        packet[7],
        address(8),
        address(24),
        packet[40..].to_vec(),
    )
}

fn dhcp(message: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv6(
        SUBSCRIBER.octets(),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2).octets(),
        1,
    )
    .udp(546, 547)
    .write(&mut packet, message)
    .expect("a vector takes it");
    packet
}

#[test]
fn the_advertisement_comes_from_our_address_on_the_link_and_says_what_the_row_does() {
    let mut services = Services::begin(SECOND, 1);
    assert_eq!(services.handle_timeout(SECOND, &row()), Answer::default());
    let answer = services.handle_timeout(services.poll_timeout(), &row());
    let (next, hop_limit, from, to, message) = sent(&answer);
    assert_eq!((next, hop_limit), (58, 255));
    assert_eq!(
        (from.to_string(), to.to_string()),
        ("fe80::1".into(), "ff02::1".into())
    );
    assert_eq!((message[0], message[5]), (134, 0x40));
    assert!(
        message
            .windows(8)
            .any(|part| part == [5, 1, 0, 0, 0, 0, 0x05, 0x78]),
        "MTU 1400"
    );
    assert!(message.windows(4).any(|part| part == [3, 4, 64, 0xc0]));
    assert_eq!(answer.count, Some(Counter::RouterAdvertisements));
}

#[test]
fn a_product_may_lower_the_mtu_and_no_name_servers_leave_dhcpv6_out() {
    let mut row = row();
    row.dns6.clear();
    row.service = Some(holdfast_cluster::records::Service {
        mtu: 1300,
        ..Default::default()
    });
    let mut services = Services::begin(SECOND, 1);
    let answer = services.handle_timeout(services.poll_timeout(), &row);
    let (.., message) = sent(&answer);
    assert_eq!(message[5], 0);
    assert!(
        message
            .windows(8)
            .any(|part| part == [5, 1, 0, 0, 0, 0, 0x05, 0x14])
    );
}

#[test]
fn a_solicitation_brings_one_forward() {
    let mut services = Services::go_on(SECOND, 1);
    let mut packet = Vec::new();
    PacketBuilder::ipv6(SUBSCRIBER.octets(), [0xff; 16], 255)
        .icmpv6(Icmpv6Type::RouterSolicitation)
        .write(&mut packet, &[])
        .expect("a vector takes it");
    let answer = services.handle_packet(SECOND, &row(), duid(), &packet);
    assert_eq!(answer.count, Some(Counter::RouterSolicitations));
    assert!(services.poll_timeout() <= SECOND * 2);
}

#[test]
fn dhcpv6_is_answered_to_the_client_itself() {
    let mut services = Services::begin(SECOND, 1);
    let solicit = [
        &[1, 1, 2, 3, 0, 1, 0, 3, 0, 3, 7][..],
        &[0, 25, 0, 12, 0, 0, 0, 5],
        &[0; 8],
    ]
    .concat();
    let answer = services.handle_packet(SECOND, &row(), duid(), &dhcp(&solicit));
    let (next, _, from, to, datagram) = sent(&answer);
    assert_eq!((next, from.to_string(), to), (17, "fe80::1".into(), SUBSCRIBER));
    assert_eq!(datagram[..4], [0x02, 0x23, 0x02, 0x22]);
    assert_eq!(datagram[8..12], [2, 1, 2, 3], "an Advertise");
    assert!(datagram.windows(4).any(|part| part == [0x20, 1, 0x0d, 0xb8]));
    assert_eq!(answer.count, Some(Counter::Dhcp6Answered));
}

#[test]
fn what_is_wrong_is_counted_and_dropped() {
    let mut services = Services::begin(SECOND, 1);
    let mut count = |octets: &[u8]| {
        let answer = services.handle_packet(SECOND, &row(), duid(), octets);
        assert_eq!(answer.frame, None);
        answer.count
    };
    assert_eq!(count(&dhcp(&[1, 2])), Some(Counter::Dhcp6Malformed));
    assert_eq!(count(&dhcp(&[7, 1, 2, 3])), Some(Counter::Dhcp6Ignored));
    assert_eq!(count(&[0x60]), Some(Counter::Ipv6Malformed));
}

/// A session as a node bears it from its row.
fn born(row: PppRow, seed: u64) -> Session {
    let row = SessionRow {
        session_id: 5,
        peer_session_id: 6,
        ppp: Some(row),
        ..SessionRow::default()
    };
    let mut session = Session::born(now(SECOND), Arc::default(), Arc::new(row), None, seed);
    session.serve_as(duid());
    session
}

fn now(monotonic: Duration) -> Now {
    Now {
        monotonic,
        table_ms: 1000,
    }
}

/// The frames that a session sends.
fn frames(session: &mut Session) -> Vec<Vec<u8>> {
    let commands = std::iter::from_fn(|| session.poll_output());
    let frames = commands.filter_map(|command| match command {
        Command::SendFrame(frame) => Some(frame),
        _ => None,
    });
    frames.collect()
}

#[test]
fn whoever_has_the_row_renews_what_another_node_has_delegated() {
    let renew = |kind: u8, server: bool| {
        let solicit = [
            0, 1, 0, 3, 0, 3, 7, 0, 25, 0, 12, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let mut message = [&[kind, 1, 2, 3][..], &solicit].concat();
        if server {
            let mut named = vec![];
            let mut session = born(row(), 1);
            session.handle_input(
                now(SECOND),
                &frame(&dhcp(&[&[1, 1, 2, 3][..], &solicit].concat())),
            );
            let advertise = frames(&mut session).remove(0);
            // The server's identifier as it said it itself: option 2 of 18 octets.
            let at = advertise
                .windows(4)
                .position(|part| part == [0, 2, 0, 18])
                .expect("it is there");
            named.extend_from_slice(&advertise[at..at + 22]);
            message.extend(named);
        }
        message
    };
    for (kind, server) in [(5, true), (6, false)] {
        let message = frame(&dhcp(&renew(kind, server)));
        let [one, two] = [1, 2].map(|seed| {
            let mut session = born(row(), seed);
            session.handle_input(now(SECOND), &message);
            frames(&mut session)
        });
        assert_eq!((one.len(), &one), (1, &two));
        let prefix = [0x20, 1, 0x0d, 0xb8, 0, 2];
        assert!(
            one[0].windows(6).any(|part| part == prefix),
            "the prefix of the row"
        );
    }
}

#[test]
fn after_a_takeover_advertisements_go_on_and_without_ipv6cp_there_are_none() {
    let mut session = born(row(), 1);
    let mut advertised = 0;
    while let Some(at) = session.poll_timeout().filter(|at| *at < SECOND * 3600) {
        session.handle_timeout(now(at));
        advertised += frames(&mut session)
            .iter()
            .filter(|frame| frame.starts_with(&[0xff, 3, 0, 0x57]))
            .count();
        session.note_heard(at);
    }
    assert!((6..=19).contains(&advertised), "{advertised}");
    let mut closed = row();
    closed.ncps[0].open = false;
    closed.ncps.push(NcpRow {
        protocol: 0x8021,
        open: true,
        local: vec![100, 64, 0, 1],
        peer: vec![100, 64, 0, 2],
        ..NcpRow::default()
    });
    let mut session = born(closed, 1);
    session.handle_input(now(SECOND), &frame(&dhcp(&[11, 1, 2, 3])));
    assert_eq!(frames(&mut session), Vec::<Vec<u8>>::new());
}
