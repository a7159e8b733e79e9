//! The packet threads over loopback sockets, without a TUN: what needs no privilege.

mod dataplane_common;

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane_common::*;
use holdfast::dataplane::sequence::{BLOCK, SendSequence};
use holdfast::dataplane::{DropReason, SessionShared, ShardTotals, TableUpdate};
use holdfast::io::inbound::INBOUND_CAPACITY;
use holdfast::io::{Inbound, NotPassed, Passage, PppRoute, SocketGroup, clock};
use holdfast_protocol::TunnelId;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{IpRecvTos, Ipv6RecvTClass};

const SHARDS: usize = 4;

/// Tunnels of several groups, some on each shard.
const TUNNELS: [u16; 8] = [0x0101, 0x0102, 0x0103, 0x0104, 0x2000, 0x2100, 0x7f03, 0xff02];

fn subscriber(tunnel: u16) -> [u8; 4] {
    let [high, low] = tunnel.to_be_bytes();
    [10, 0, high, low]
}

/// An LNS with one session (1) in each of [`TUNNELS`], all of one LAC.
fn with_tunnels(listen: &str) -> (Lns, Lac) {
    let lns = Lns::start(listen, SHARDS, None);
    let lac = Lac::new(listen);
    for tunnel in TUNNELS {
        lns.add_tunnel(tunnel, lac.address(), lns.address());
        lns.add_session(tunnel, 1, subscriber(tunnel));
    }
    (lns, lac)
}

fn tunnels_of(shard: usize) -> u64 {
    TUNNELS
        .iter()
        .filter(|tunnel| tunnel_id(**tunnel).shard(SHARDS) == shard)
        .count() as u64
}

fn pings_are_answered_on_their_own_shard(listen: &str) {
    let (lns, lac) = with_tunnels(listen);
    for sequence in 0..5 {
        for tunnel in TUNNELS {
            lac.send(
                &ip_data(tunnel, 1, &ping(subscriber(tunnel), OWN, sequence, 32, 0)),
                lns.address(),
            );
        }
    }
    let mut answered = BTreeSet::new();
    for _ in 0..5 * TUNNELS.len() {
        let (datagram, from) = lac.receive();
        assert_eq!(from, lns.address());
        assert_eq!(
            (&datagram[..2], datagram[4..10].to_vec()),
            (&[0, 2][..], vec![0, 1, 0xff, 3, 0, 0x21])
        );
        let tunnel = u16::from_be_bytes([datagram[2], datagram[3]]);
        assert_eq!(datagram[10..][16..20], subscriber(tunnel), "to the subscriber");
        assert_eq!(datagram[10..][20], 0, "an Echo-Reply");
        assert!(answered.insert((tunnel, datagram[10..][27])), "answered twice");
    }
    for (shard, totals) in lns.dataplane.totals().iter().enumerate() {
        assert_eq!(totals.uplink, 5 * tunnels_of(shard), "shard {shard}");
        assert_eq!(
            (totals.received, totals.handed_over),
            (totals.uplink, 0),
            "the kernel steered all"
        );
    }
}

#[test]
fn each_tunnel_stays_on_its_shard_over_ipv4() {
    pings_are_answered_on_their_own_shard("127.0.0.1:0");
}

#[test]
fn each_tunnel_stays_on_its_shard_over_ipv6() {
    pings_are_answered_on_their_own_shard("[::1]:0");
}

/// A GSO super-packet with several tunnels goes whole to one socket; the shards sort it out.
#[test]
fn datagrams_of_other_shards_are_handed_over() {
    let (lns, lac) = with_tunnels("127.0.0.1:0");
    let each = TUNNELS.map(|tunnel| ip_data(tunnel, 1, &ping(subscriber(tunnel), OWN, 1, 32, 0)));
    let size = each[0].len() as u16;
    lac.send_super_packet(&each.concat(), size, lns.address());
    let answered: BTreeSet<Vec<u8>> = TUNNELS.iter().map(|_| lac.receive().0[2..4].to_vec()).collect();
    assert_eq!(answered.len(), TUNNELS.len());
    let totals = lns.dataplane.totals();
    let first = tunnel_id(TUNNELS[0]).shard(SHARDS);
    let foreign = TUNNELS.len() as u64 - tunnels_of(first);
    for (shard, totals) in totals.iter().enumerate() {
        let at_first = shard == first;
        assert_eq!(totals.received, if at_first { TUNNELS.len() as u64 } else { 0 });
        assert_eq!(totals.handed_over, if at_first { foreign } else { 0 });
        assert_eq!(totals.taken_over, if at_first { 0 } else { tunnels_of(shard) });
        assert_eq!(totals.uplink, tunnels_of(shard));
    }
}

#[test]
fn control_goes_to_the_tunnels_shard_and_sccrqs_by_source_port() {
    let (mut lns, lac) = with_tunnels("127.0.0.1:0");
    for tunnel in TUNNELS {
        let mut datagram = zlb(tunnel);
        datagram.push(0xee); // behind its Length
        lac.send(&datagram, lns.address());
        let message = lns.next(tunnel_id(tunnel).shard(SHARDS));
        let (from, to) = (lac.address(), lns.address());
        assert_eq!(
            message,
            Inbound::Control {
                from,
                to,
                tunnel,
                datagram: zlb(tunnel)
            }
        );
    }
    for _ in 0..4 {
        let stranger = Lac::new("127.0.0.1:0");
        stranger.send(&zlb(0), lns.address());
        let message = lns.next(usize::from(stranger.address().port()) % SHARDS);
        assert!(matches!(message, Inbound::Control { tunnel: 0, from, .. } if from == stranger.address()));
    }
}

#[test]
fn ppp_control_goes_to_the_tunnels_shard() {
    let (mut lns, lac) = with_tunnels("127.0.0.1:0");
    let frame = [0xff, 3, 0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0];
    lac.send(&data(0x0102, 1, &frame), lns.address());
    let (tunnel, session) = (tunnel_id(0x0102), session_id(1));
    assert_eq!(
        lns.next(tunnel.shard(SHARDS)),
        Inbound::Ppp {
            tunnel,
            session,
            frame: frame.to_vec()
        }
    );
}

#[test]
fn s_7_s_8_s_90_what_is_not_ours_is_counted_and_never_answered() {
    let (lns, lac) = with_tunnels("127.0.0.1:0");
    let stranger = Lac::new("127.0.0.1:0");
    lac.send(&zlb(0x0909), lns.address());
    lac.send(&data(0x0909, 1, &[0xff, 3, 0xc0, 0x21, 1]), lns.address());
    lac.send(&data(0x0101, 0, &[0xff, 3, 0xc0, 0x21, 1]), lns.address());
    stranger.send(&zlb(0x0101), lns.address());
    stranger.send(&data(0x0101, 1, &[0xff, 3, 0xc0, 0x21, 1]), lns.address());
    lns.wait_for_drops(DropReason::UnknownTunnel, 2);
    lns.wait_for_drops(DropReason::UnknownSession, 1);
    lns.wait_for_drops(DropReason::Spoof, 2);
    assert_eq!(
        lns.dataplane.totals().iter().map(|shard| shard.sent).sum::<u64>(),
        0
    );
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    let mut lns = Lns::start("0.0.0.0:0", SHARDS, None);
    let lac = Lac::new("127.0.0.1:0");
    let asked = format!("127.0.0.7:{}", lns.address().port())
        .parse()
        .expect("an address");
    lac.send(&zlb(0), asked);
    let shard = usize::from(lac.address().port()) % SHARDS;
    let Inbound::Control { from, to, .. } = lns.next(shard) else {
        panic!("not control")
    };
    assert_eq!((from, to), (lac.address(), asked));
    lns.dataplane
        .send_control(shard, Some(to), from, zlb(9))
        .expect("there is room");
    assert_eq!(lac.receive(), (zlb(9), asked));
    lns.add_tunnel(0x0101, from, to);
    lns.add_session(0x0101, 1, [10, 0, 0, 1]);
    lac.send(&ip_data(0x0101, 1, &ping([10, 0, 0, 1], OWN, 1, 8, 0)), asked);
    assert_eq!(lac.receive().1, asked, "user data too");
}

#[test]
fn a_wildcard_of_ipv6_knows_where_a_message_was_sent_to() {
    let mut lns = Lns::start("[::]:0", SHARDS, None);
    let lac = Lac::new("[::1]:0");
    let asked = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), lns.address().port());
    lac.send(&zlb(0), asked);
    let shard = usize::from(lac.address().port()) % SHARDS;
    let Inbound::Control { from, to, .. } = lns.next(shard) else {
        panic!("not control")
    };
    assert_eq!((from, to), (lac.address(), asked));
    lns.dataplane
        .send_control(shard, Some(to), from, zlb(9))
        .expect("there is room");
    assert_eq!(lac.receive(), (zlb(9), asked));
}

#[test]
fn the_dscp_of_the_packet_is_that_of_the_datagram_and_ecn_is_not() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let (lns, lac) = with_tunnels(listen);
        if is_ipv6(lac.address()) {
            setsockopt(&lac.socket, Ipv6RecvTClass, &true).expect("an option");
        } else {
            setsockopt(&lac.socket, IpRecvTos, &true).expect("an option");
        }
        for tos in [0xb8, 0x2b, 0] {
            lac.send(
                &ip_data(0x0101, 1, &ping(subscriber(0x0101), OWN, 1, 8, tos)),
                lns.address(),
            );
            let (datagram, outer) = lac.receive_with_tos();
            assert_eq!((datagram[11], outer), (tos, tos & 0xfc));
        }
    }
}

#[test]
fn s_101_an_answer_larger_than_the_mtu_comes_in_fragments() {
    let (lns, lac) = with_tunnels("127.0.0.1:0");
    lac.send(
        &ip_data(0x0101, 1, &ping(subscriber(0x0101), OWN, 1, 1472, 0)),
        lns.address(),
    );
    let lengths = [lac.receive().0.len(), lac.receive().0.len()];
    assert_eq!(lengths, [10 + 1396, 10 + 124]);
}

fn route(lns: &Lns, lac: &Lac, sequencing: bool, shared: Arc<SessionShared>) -> PppRoute {
    PppRoute {
        tunnel: tunnel_id(0x0101),
        session: session_id(2),
        local: Some(lns.address()),
        peer: lac.address(),
        peer_tunnel: tunnel_id(0x0a0b),
        peer_session: session_id(0x0c0d),
        sequencing,
        shared,
    }
}

#[test]
fn a_ppp_frame_leaves_unless_its_deadline_has_passed() {
    let (lns, lac) = with_tunnels("127.0.0.1:0");
    let shared = Arc::new(SessionShared::new(SHARDS, SendSequence::default()));
    let route = route(&lns, &lac, false, shared);
    let frame = vec![0xff, 3, 0xc0, 0x21, 1, 1, 0, 4];
    let now = clock::since_boot();
    let send = |fresh_until| lns.send_ppp(route.clone(), frame.clone(), fresh_until);
    send(Some(now - Duration::from_millis(1))).expect("there is room");
    lns.wait_for_drops(DropReason::Stale, 1);
    send(Some(now + Duration::from_secs(60))).expect("there is room");
    send(None).expect("there is room");
    let expected = [&[0, 2, 0x0a, 0x0b, 0x0c, 0x0d], &frame[..]].concat();
    assert_eq!([lac.receive().0, lac.receive().0], [expected.clone(), expected]);
}

#[test]
fn ppp_and_user_data_share_the_numbers_and_the_next_block_is_asked_for_once() {
    let (mut lns, lac) = with_tunnels("127.0.0.1:0");
    let mut entry = lns.session(0x0101, 2, [10, 0, 0, 2]);
    entry.sequencing = true;
    entry.shared = Arc::new(SessionShared::new(SHARDS, SendSequence::new(BLOCK, BLOCK + 3)));
    let shared = Arc::clone(&entry.shared);
    lns.update(TableUpdate::Session(entry));
    let route = route(&lns, &lac, true, Arc::clone(&shared));
    let ppp = || lns.send_ppp(route.clone(), vec![0xff, 3, 0xc0, 0x21, 1, 1, 0, 4], None);
    let numbered_ping = |ns: u8| {
        let packet = ping([10, 0, 0, 2], OWN, 1, 8, 0);
        [&[0x08, 2, 1, 1, 0, 2, 0, ns, 0, 0, 0xff, 3, 0, 0x21], &packet[..]].concat()
    };
    let ns = |lac: &Lac| {
        let datagram = lac.receive().0;
        assert_eq!(datagram[..2], [0x08, 2]);
        u64::from(u16::from_be_bytes([datagram[6], datagram[7]]))
    };
    ppp().expect("there is room");
    assert_eq!(ns(&lac), BLOCK);
    lac.send(&numbered_ping(0), lns.address());
    assert_eq!(ns(&lac), BLOCK + 1);
    ppp().expect("there is room");
    assert_eq!(ns(&lac), BLOCK + 2);
    ppp().expect("there is room");
    lac.send(&numbered_ping(1), lns.address());
    lns.wait_for_drops(DropReason::SequenceExhausted, 2);
    let (tunnel, session, reserved) = (tunnel_id(0x0101), session_id(2), BLOCK + 3);
    let shard = tunnel.shard(SHARDS);
    assert_eq!(
        lns.next(shard),
        Inbound::SequenceLow {
            tunnel,
            session,
            reserved
        }
    );
    assert!(lns.inbound[shard].try_recv().is_err(), "asked once");
    shared.sequence.grant(2 * BLOCK);
    lns.send_ppp(route, vec![0xff, 3, 0xc0, 0x21, 1, 1, 0, 4], None)
        .expect("there is room");
    assert_eq!(ns(&lac), BLOCK + 3);
}

/// The control side sends an SCCRP after its update; the answer to it must find the tunnel.
#[test]
fn a_datagram_that_follows_an_update_finds_it_made() {
    let lns = Lns::start("127.0.0.1:0", SHARDS, None);
    let lac = Lac::new("127.0.0.1:0");
    for tunnel in 1..=2000 {
        lns.add_tunnel(tunnel, lac.address(), lns.address());
        lac.send(&zlb(tunnel), lns.address());
    }
    let totals = lns.wait("2000 messages", |totals| {
        totals.iter().map(|shard| shard.received).sum::<u64>() == 2000
    });
    assert_eq!(dropped(&totals, DropReason::UnknownTunnel), 0);
}

/// Sends `datagram` `count` times, no faster than the thread reads.
fn flood(lns: &Lns, lac: &Lac, datagram: &[u8], count: u64) {
    let before = lns.dataplane.totals()[0].received;
    for sent in 1..=count {
        lac.send(datagram, lns.address());
        if sent % 64 == 0 || sent == count {
            lns.wait("the thread to keep up", |totals| {
                totals[0].received == before + sent
            });
        }
    }
}

#[test]
fn what_the_control_side_does_not_take_is_dropped_and_sccrqs_first() {
    let lns = Lns::start("127.0.0.1:0", 1, None);
    let lac = Lac::new("127.0.0.1:0");
    lns.add_tunnel(1, lac.address(), lns.address());
    let half = INBOUND_CAPACITY as u64 / 2;
    flood(&lns, &lac, &zlb(0), half + 10);
    lns.wait_for_drops(DropReason::SetupFull, 10);
    flood(&lns, &lac, &zlb(1), half + 10);
    lns.wait_for_drops(DropReason::InboundFull, 10);
    assert_eq!(lns.dataplane.totals()[0].control, 2 * half);
}

#[test]
fn shutdown_sends_what_it_was_given_and_frees_the_address() {
    let lns = Lns::start("127.0.0.1:0", SHARDS, None);
    let lac = Lac::new("127.0.0.1:0");
    for shard in 0..SHARDS {
        lns.dataplane
            .send_control(shard, None, lac.address(), zlb(9))
            .expect("there is room");
    }
    lns.dataplane.shutdown();
    for _ in 0..SHARDS {
        assert_eq!(lac.receive(), (zlb(9), lns.address()));
    }
    SocketGroup::open(&[lns.address()], 1).expect("the address is free again");
    assert!(
        lns.dataplane
            .send_control(0, None, lac.address(), zlb(9))
            .is_err()
    );
}

/// Another node that numbers sessions: what was passed to it, and whether it takes more.
#[derive(Default)]
struct Owner {
    passed: Mutex<Vec<(TunnelId, Vec<u8>)>>,
    refuses: Mutex<Option<NotPassed>>,
}

impl Passage for Owner {
    fn pass(&self, tunnel: TunnelId, packet: &[u8]) -> Result<(), NotPassed> {
        let refuses = *self.refuses.lock().expect("not poisoned");
        if let Some(why) = refuses {
            return Err(why);
        }
        self.passed
            .lock()
            .expect("not poisoned")
            .push((tunnel, packet.to_vec()));
        Ok(())
    }
}

/// A node with a sequenced session, 0x0101/2, that the given node numbers.
fn with_sequenced(owner: Option<Arc<Owner>>) -> (Lns, Lac, Arc<SessionShared>) {
    let passage = owner.map(|owner| owner as Arc<dyn Passage>);
    let lns = Lns::start_in_cluster("127.0.0.1:0", SHARDS, None, passage);
    let lac = Lac::new("127.0.0.1:0");
    lns.add_tunnel(0x0101, lac.address(), lns.address());
    let mut entry = lns.session(0x0101, 2, [10, 0, 0, 2]);
    entry.sequencing = true;
    entry.shared = Arc::new(SessionShared::new(SHARDS, SendSequence::elsewhere(BLOCK)));
    let shared = Arc::clone(&entry.shared);
    lns.update(TableUpdate::Session(entry));
    (lns, lac, shared)
}

/// A ping of the subscriber to the node, whose answer is a packet for the subscriber.
fn numbered_ping(ns: u8) -> Vec<u8> {
    let packet = ping([10, 0, 0, 2], OWN, 1, 8, 0);
    [&[0x08, 2, 1, 1, 0, 2, 0, ns, 0, 0, 0xff, 3, 0, 0x21], &packet[..]].concat()
}

fn sum(totals: &[ShardTotals], of: impl Fn(&ShardTotals) -> u64) -> u64 {
    totals.iter().map(of).sum()
}

#[test]
fn packets_of_a_session_that_another_node_numbers_go_there_as_they_came() {
    let owner = Arc::new(Owner::default());
    let (lns, lac, shared) = with_sequenced(Some(owner.clone()));
    // A grant for the other node is none for this one.
    shared.sequence.grant(2 * BLOCK);
    lac.send(&numbered_ping(0), lns.address());
    lns.wait("it is passed", |totals| sum(totals, |shard| shard.passed_on) == 1);
    let passed = owner.passed.lock().expect("not poisoned").pop().expect("one");
    assert_eq!(
        (passed.0, &passed.1[16..20], passed.1[20]),
        (tunnel_id(0x0101), &[10, 0, 0, 2][..], 0)
    );
    *owner.refuses.lock().expect("not poisoned") = Some(NotPassed::NoOwner);
    lac.send(&numbered_ping(1), lns.address());
    lns.wait_for_drops(DropReason::NoOwner, 1);
    *owner.refuses.lock().expect("not poisoned") = Some(NotPassed::Full);
    lac.send(&numbered_ping(2), lns.address());
    lns.wait_for_drops(DropReason::PassFull, 1);
    // This node takes over: it begins behind the block that the other one may have used.
    *owner.refuses.lock().expect("not poisoned") = None;
    shared.sequence.begin_here();
    lac.send(&numbered_ping(3), lns.address());
    lns.wait_for_drops(DropReason::SequenceExhausted, 1);
    shared.sequence.grant(3 * BLOCK);
    lac.send(&numbered_ping(4), lns.address());
    let datagram = lac.receive().0;
    assert_eq!(
        (&datagram[..2], &datagram[6..8]),
        (&[0x08, 2][..], &(2 * BLOCK as u16).to_be_bytes()[..])
    );
    let totals = lns.wait("one is sent", |totals| sum(totals, |shard| shard.sent) == 1);
    assert_eq!(sum(&totals, |shard| shard.downlink), 1);
}

#[test]
fn a_node_alone_passes_nothing() {
    let (lns, lac, _) = with_sequenced(None);
    lac.send(&numbered_ping(0), lns.address());
    lns.wait_for_drops(DropReason::NoOwner, 1);
}

#[test]
fn what_was_passed_here_is_numbered_or_dropped_and_never_passed_on() {
    let owner = Arc::new(Owner::default());
    let (lns, lac, shared) = with_sequenced(Some(owner.clone()));
    let entrance = lns.dataplane.entrance();
    let packet = ping([10, 1, 1, 1], [10, 0, 0, 2].into(), 1, 8, 0);
    let (tunnel, other) = (
        tunnel_id(0x0101),
        ping([10, 1, 1, 1], [10, 0, 0, 9].into(), 1, 8, 0),
    );
    assert!(entrance.take(tunnel, packet.clone()));
    lns.wait_for_drops(DropReason::PassAstray, 1);
    shared.sequence.begin_here();
    shared.sequence.grant(2 * BLOCK);
    assert!(entrance.take(tunnel, packet.clone()));
    let expected = [
        &[0x08, 2, 1, 1, 0, 2, 0x10, 0, 0, 0, 0xff, 3, 0, 0x21],
        &packet[..],
    ]
    .concat();
    assert_eq!(lac.receive().0, expected);
    for (packet, reason) in [
        (other, DropReason::NoRoute),
        (Vec::new(), DropReason::MalformedIp),
        (vec![0x45; 10_000], DropReason::Oversize),
    ] {
        assert!(entrance.take(tunnel, packet));
        lns.wait_for_drops(reason, 1);
    }
    let totals = lns.dataplane.totals();
    let counted = (
        sum(&totals, |shard| shard.passed_in),
        sum(&totals, |shard| shard.passed_on),
    );
    assert_eq!(counted, (5, 0));
    assert!(owner.passed.lock().expect("not poisoned").is_empty());
}

#[test]
fn an_lcp_echo_is_answered_without_a_control_side() {
    let (mut lns, lac) = with_tunnels("127.0.0.1:0");
    let request = [
        &[0xff, 3, 0xc0, 0x21, 9, 77, 0, 12][..],
        &MAGICS.peer.to_be_bytes(),
        b"data",
    ]
    .concat();
    lac.send(&data(0x0101, 1, &request), lns.address());
    let reply = [
        &[0xff, 3, 0xc0, 0x21, 10, 77, 0, 12][..],
        &MAGICS.local.to_be_bytes(),
        b"data",
    ]
    .concat();
    assert_eq!(lac.receive(), (data(0x0101, 1, &reply), lns.address()));
    let totals = lns.dataplane.totals();
    assert_eq!(
        (
            sum(&totals, |shard| shard.lcp_echoes),
            sum(&totals, |shard| shard.ppp)
        ),
        (1, 0)
    );
    // Of another negotiation, as after a takeover that this node has not heard of: silence here, and the actor's word.
    let stranger = [&[0xff, 3, 0xc0, 0x21, 9, 78, 0, 12][..], &[0, 0, 0, 8], b"data"].concat();
    lac.send(&data(0x0101, 1, &stranger), lns.address());
    let Inbound::Ppp { frame, .. } = lns.next(tunnel_id(0x0101).shard(SHARDS)) else {
        panic!("no PPP frame");
    };
    assert_eq!(frame, stranger);
}
