//! Members among themselves.

use tokio::net::TcpListener;

use super::world::{Event, World, hello, identity, runtime, valid, wait};
use crate::metrics::{Counter, Limit};
use crate::peers::limits::{
    DATAGRAM_OCTETS_MAX, FRAME_OCTETS_MAX, LONG_OCTETS_MIN, PASSED_OCTETS_MAX, QUEUE_OCTETS_MAX,
    RAFT_OCTETS_MAX,
};
use crate::peers::stream::{read_hello, write_hello};
use crate::peers::{Frame, Passed, Relay};

fn passed(octets: usize) -> Frame {
    Frame::Passed(Passed {
        tunnel: 0x0102,
        packet: vec![0x45; octets],
    })
}

fn relay() -> Frame {
    Frame::Relay(Relay {
        epoch: 7,
        from: "192.0.2.1:1701".parse().expect("an address"),
        to: "[2001:db8::1]:1701".parse().expect("an address"),
        tunnel: 0x0102,
        session: Some(0),
        octets: vec![0xc8, 2],
    })
}

#[test]
fn frames_and_datagrams_go_both_ways_and_frames_in_order() {
    let world = World::new(2);
    let nodes = world.start_all();
    for (here, there) in [(0, 1), (1, 0)] {
        let (me, you) = (here as u64 + 1, there as u64 + 1);
        let mut expected = vec![
            relay(),
            Frame::Order(vec![1]),
            Frame::Counters(Vec::new()),
            passed(1),
        ];
        expected.extend((0..500_u32).map(|n| Frame::Raft(n.to_be_bytes().repeat(n as usize))));
        expected.push(Frame::Raft(vec![9; LONG_OCTETS_MIN]));
        for frame in &expected {
            assert!(nodes[here].handle.send(you, frame.clone()));
        }
        assert!(
            nodes[here]
                .handle
                .send_datagram(you, vec![5; DATAGRAM_OCTETS_MAX])
        );
        let datagram = Event::Datagram(me, vec![5; DATAGRAM_OCTETS_MAX]);
        wait("the last", || {
            nodes[there].heard.has(&datagram)
                && nodes[there].count(Counter::PeersFramesReceived) == expected.len() as u64
        });
        let frames = nodes[there]
            .heard
            .events()
            .into_iter()
            .filter_map(|event| match event {
                Event::Frame(from, frame) => Some((from, frame)),
                _ => None,
            });
        assert!(frames.eq(expected.into_iter().map(|frame| (me, frame))));
        wait("the queue is empty", || {
            nodes[here].handle.status()[0].queued_octets == 0
        });
    }
}

#[test]
fn what_is_too_long_or_for_nobody_is_not_sent() {
    let world = World::new(2);
    let node = world.start(1, 1);
    assert!(!node.handle.send(2, Frame::Order(vec![1])));
    assert!(!node.handle.send(3, Frame::Order(vec![1])));
    assert!(!node.handle.send_datagram(2, vec![1]));
    assert_eq!(node.count(Counter::PeersFramesUnreachable), 2);
    let _other = world.start(2, 1);
    wait("connected", || node.handle.connected() == [2]);
    assert!(!node.handle.send(2, Frame::Order(vec![0; FRAME_OCTETS_MAX])));
    assert!(!node.handle.send(2, Frame::Raft(vec![0; RAFT_OCTETS_MAX + 1])));
    assert!(!node.handle.send_datagram(2, vec![0; DATAGRAM_OCTETS_MAX + 1]));
    assert_eq!(node.count(Counter::PeersFramesDropped), 2);
    assert_eq!(node.count(Counter::PeersDatagramsDropped), 2);
}

/// A snapshot is on its way: what comes after it arrives before it.
#[test]
fn a_long_message_does_not_keep_short_ones_waiting() {
    let world = World::new(2);
    let nodes = world.start_all();
    let long = Frame::Raft((0..100_000_000_u32).map(|n| (n >> 8) as u8).collect());
    let short = Frame::Raft(vec![1]);
    // Copied before: nothing that takes long lies between these.
    let (sent, another, sent_short) = (long.clone(), long.clone(), short.clone());
    let taken = [sent, another, sent_short].map(|frame| nodes[0].handle.send(2, frame));
    assert_eq!(taken, [true, false, true], "one long message at a time");
    wait("both", || nodes[1].count(Counter::PeersFramesReceived) == 2);
    let [first, second] = <[Event; 2]>::try_from(
        nodes[1]
            .heard
            .events()
            .into_iter()
            .filter(|event| matches!(event, Event::Frame(..)))
            .collect::<Vec<_>>(),
    )
    .expect("two");
    assert!(first == Event::Frame(1, short) && second == Event::Frame(1, long));
}

#[test]
fn one_of_three_dies_and_comes_back() {
    let world = World::new(3);
    let mut nodes = world.start_all();
    for node in &nodes {
        node.heard.clear();
    }
    drop(nodes.pop());
    for node in &nodes {
        wait("refused", || node.heard.has(&Event::Down(3, true)));
        assert!(node.heard.has(&Event::Down(3, false)));
    }
    assert_eq!(nodes[0].handle.connected(), [2]);
    assert!(nodes[0].handle.status()[1].last_error.is_some());
    let third = world.start(3, 2);
    for node in &nodes {
        wait("up again", || node.heard.has(&Event::Up(3, 2)));
    }
    wait("up there", || third.handle.connected() == [1, 2]);
    assert!(nodes[0].handle.send(3, Frame::Order(vec![3])));
    assert!(nodes[0].handle.send_datagram(3, vec![3]));
    wait("frame and datagram", || {
        third.heard.has(&Event::Frame(1, Frame::Order(vec![3])))
            && third.heard.has(&Event::Datagram(1, vec![3]))
    });
    let downs = |node: u64| {
        let events = nodes[0].heard.events();
        events
            .iter()
            .filter(|event| matches!(event, Event::Down(n, _) if *n == node))
            .count()
    };
    assert_eq!((downs(2), downs(3)), (0, 2));
}

/// The third member's process has stopped reading: it fills its own queue and nobody else's.
#[test]
fn a_peer_that_does_not_read_is_bounded_and_dropped() {
    let world = World::new(3);
    let issued = world.authority.issue(3, valid()).expect("a certificate");
    let runtime = runtime();
    let listener = runtime
        .block_on(TcpListener::bind(world.address(3)))
        .expect("bound");
    let (first, second) = (world.start(1, 1), world.start(2, 1));
    let stalled = runtime.block_on(async {
        let acceptor = world.acceptor(&issued);
        loop {
            let (tcp, from) = listener.accept().await.expect("a connection");
            if from.ip() != world.address(1).ip() {
                continue;
            }
            let mut tls = acceptor.accept(tcp).await.expect("a handshake");
            read_hello(&mut tls, &identity(1)).await.expect("a Hello");
            write_hello(&mut tls, &hello(3, 1)).await.expect("written");
            return (listener, tls);
        }
    });
    wait("up", || first.handle.connected() == [2, 3]);
    let mut packets = 0;
    while first.handle.send(3, passed(60_000)) {
        packets += 1;
        assert!(
            packets < 2_000,
            "packets of subscribers have no bound of their own"
        );
    }
    assert!(first.handle.status()[1].queued_octets <= PASSED_OCTETS_MAX);
    assert!(first.metrics.hits(Limit::PeerPassed) > 0 && first.metrics.hits(Limit::PeerQueue) == 0);
    let frame = || Frame::Raft(vec![0; 1_000_000]);
    let mut sent = 0;
    while first.handle.send(3, frame()) {
        sent += 1;
        assert!(sent < 200, "the queue has no end");
    }
    assert!(first.handle.status()[1].queued_octets <= QUEUE_OCTETS_MAX);
    assert!(first.count(Counter::PeersFramesDropped) > 0 && first.metrics.hits(Limit::PeerQueue) > 0);
    assert!(first.handle.send(2, Frame::Order(vec![1])));
    wait("the other hears", || {
        second.heard.has(&Event::Frame(1, Frame::Order(vec![1])))
    });
    wait("dropped", || first.heard.has(&Event::Down(3, false)));
    assert!(!first.heard.has(&Event::Down(3, true)), "it still listens");
    drop(stalled);
}

#[test]
fn members_come_go_and_move_while_the_others_run() {
    let mut world = World::new(3);
    let newcomer = world.members[2].clone();
    world.members.pop();
    let nodes = world.start_all();
    world.members.push(newcomer);
    let third = world.start(3, 1);
    let told = |members: &[crate::config::MemberConfig]| {
        nodes.iter().for_each(|node| node.handle.set_members(members));
    };
    told(&world.members);
    wait("the third has come", || {
        let status = nodes.iter().flat_map(|node| node.handle.status());
        third.handle.connected() == [1, 2]
            && status
                .into_iter()
                .all(|peer| peer.heard && peer.connected.is_some())
    });
    let boot = |node: &super::world::Running| node.handle.status()[0].connected;
    let before = boot(&nodes[0]);
    // Where the second is dialled next; the stream that stands, and its datagrams, are not disturbed.
    let mut moved = world.members.clone();
    moved[1].address.set_ip("127.0.0.1".parse().expect("an address"));
    nodes[0].handle.set_members(&moved);
    assert_eq!(nodes[0].handle.status()[0].member, moved[1]);
    assert!(nodes[0].handle.send_datagram(2, vec![7]));
    wait("the datagram", || {
        nodes[1].heard.has(&Event::Datagram(1, vec![7]))
    });
    assert!(boot(&nodes[0]) >= before && before.is_some());
    told(&world.members[..2]);
    wait("the third is gone", || {
        third.handle.connected().is_empty()
            && third.handle.status().iter().all(|peer| !peer.heard)
            && nodes.iter().all(|node| node.count(Counter::PeersLost) == 1)
    });
    assert_eq!(
        (nodes[0].handle.connected(), nodes[1].handle.connected()),
        (vec![2], vec![1])
    );
    assert!(!nodes[0].handle.send(3, Frame::Order(vec![1])));
    wait("the third is a stranger", || {
        nodes[0].count(Counter::PeersRefusedNode) > 0
    });
    // And again, as if nothing had been.
    told(&world.members);
    wait("the third is back", || third.handle.connected() == [1, 2]);
}
