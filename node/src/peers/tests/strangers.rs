//! Who is no member, and members that misbehave: refused and counted, and the others go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::{CLUSTER, Event, Running, World, expired, hello, runtime, valid, wait};
use crate::metrics::Counter;
use crate::peers::datagram::{Key, Sealer};
use crate::peers::frame::encode_hello;
use crate::peers::issue::{Authority, Issued};
use crate::peers::limits::{HANDSHAKES_MAX, RAFT_FRAME_OCTETS_MAX};
use crate::peers::stream::{read_hello, write_hello};
use crate::peers::tls::Identity;
use crate::peers::{Frame, credentials};

/// Both still talk to each other.
#[track_caller]
fn undisturbed(nodes: &[Running], mark: u8) {
    for (here, to) in [(0, 2), (1, 1)] {
        assert!(nodes[here].handle.send(to, Frame::Order(vec![mark])));
    }
    for (there, from) in [(1, 1), (0, 2)] {
        wait("the other member", || {
            nodes[there]
                .heard
                .has(&Event::Frame(from, Frame::Order(vec![mark])))
        });
    }
    assert!(nodes.iter().all(|node| {
        !node
            .heard
            .events()
            .iter()
            .any(|e| matches!(e, Event::Down(1 | 2, false)))
    }));
}

/// Dials with the certificate and says Hello as `node`; expects to be sent away, and counted there.
#[track_caller]
fn refused(world: &World, first: &Running, node: u64, issued: &Issued, counter: Counter) {
    let before = first.count(counter);
    let answered = runtime().block_on(async {
        let Ok(mut tls) = world.dial(3, issued).await else {
            return false;
        };
        // The other end may have closed already.
        drop(write_hello(&mut tls, &hello(node, 1)).await);
        let mut octet = [0];
        matches!(tls.read(&mut octet).await, Ok(1..))
    });
    assert!(!answered, "a stranger was greeted");
    wait("counted", || first.count(counter) == before + 1);
}

#[test]
fn certificates_that_are_not_enough() {
    let world = World::new(3);
    // The third never runs: strangers come from its address.
    let nodes = [world.start(1, 1), world.start(2, 1)];
    wait("connected", || {
        nodes[0].handle.connected() == [2] && nodes[1].handle.connected() == [1]
    });
    let first = &nodes[0];
    let issue = |authority: &Authority, node| authority.issue(node, valid()).expect("a certificate");
    // Of another CA, though it says all the right things.
    let impostor = Authority::new(CLUSTER, valid()).expect("a CA");
    refused(
        &world,
        first,
        3,
        &issue(&impostor, 3),
        Counter::PeersRefusedCertificate,
    );
    let old = world.authority.issue(3, expired()).expect("a certificate");
    refused(&world, first, 3, &old, Counter::PeersRefusedCertificate);
    // No member; ourselves; another node's Hello.
    refused(
        &world,
        first,
        9,
        &issue(&world.authority, 9),
        Counter::PeersRefusedNode,
    );
    refused(
        &world,
        first,
        1,
        &issue(&world.authority, 1),
        Counter::PeersRefusedNode,
    );
    refused(
        &world,
        first,
        2,
        &issue(&world.authority, 3),
        Counter::PeersRefusedProtocol,
    );
    undisturbed(&nodes, 1);
    assert_eq!(first.count(Counter::PeersAccepted), 1);
}

#[test]
fn one_ca_for_two_clusters() {
    let world = World::new(3);
    let nodes = [world.start(1, 1), world.start(2, 1)];
    wait("connected", || {
        nodes[0].handle.connected() == [2] && nodes[1].handle.connected() == [1]
    });
    let elsewhere = Identity {
        cluster_id: "c-2".to_owned(),
        node: 3,
    };
    let issued = world
        .authority
        .issue_to(&elsewhere, valid())
        .expect("a certificate");
    refused(&world, &nodes[0], 3, &issued, Counter::PeersRefusedCluster);
    undisturbed(&nodes, 1);
}

#[test]
fn garbage_before_and_inside_tls() {
    let world = World::new(3);
    let nodes = [world.start(1, 1), world.start(2, 1)];
    wait("connected", || {
        nodes[0].handle.connected() == [2] && nodes[1].handle.connected() == [1]
    });
    let first = &nodes[0];
    let refusals = || first.count(Counter::PeersRefusedProtocol);
    let mut tcp = TcpStream::connect(world.address(1)).expect("connected");
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
    tcp.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    // An alert, or nothing: the end comes either way.
    drop(tcp.read_to_end(&mut Vec::new()));
    wait("counted", || refusals() == 1);
    let issued = world.authority.issue(3, valid()).expect("a certificate");
    let too_long = u32::try_from(RAFT_FRAME_OCTETS_MAX + 1)
        .expect("fits")
        .to_be_bytes();
    let order_too_long = [&70_001_u32.to_be_bytes()[..], &[0x22]].concat();
    let twice = encode_hello(&hello(3, 1)).expect("short");
    let cases: [(&str, &[u8]); 4] = [
        ("no message", &[0, 0, 0, 3, 0xff, 0xff, 0xff]),
        ("a frame that is too long", &too_long),
        ("an order that is too long", &order_too_long),
        ("two Hellos", &twice),
    ];
    for (number, (what, octets)) in cases.into_iter().enumerate() {
        runtime().block_on(async {
            let mut tls = world.dial(3, &issued).await.expect("a handshake");
            write_hello(&mut tls, &hello(3, 1)).await.expect("written");
            let certified = Identity {
                cluster_id: CLUSTER.to_owned(),
                node: 1,
            };
            read_hello(&mut tls, &certified).await.expect("greeted");
            tls.write_all(octets).await.expect("written");
            tls.flush().await.expect("written");
            let mut octet = [0];
            assert!(!matches!(tls.read(&mut octet).await, Ok(1..)), "{what}");
        });
        wait(what, || refusals() == number as u64 + 2);
    }
    // A frame where the Hello belongs.
    runtime().block_on(async {
        let mut tls = world.dial(3, &issued).await.expect("a handshake");
        tls.write_all(&[0; 4]).await.expect("written");
        tls.flush().await.expect("written");
        let mut octet = [0];
        assert!(!matches!(tls.read(&mut octet).await, Ok(1..)));
    });
    wait("counted", || refusals() == 6);
    undisturbed(&nodes, 2);
}

#[test]
fn idle_strangers_do_not_keep_members_out() {
    let world = World::new(2);
    let first = world.start(1, 1);
    let idle: Vec<_> = (0..HANDSHAKES_MAX + 5)
        .map(|_| TcpStream::connect(world.address(1)).expect("connected"))
        .collect();
    wait("counted", || first.count(Counter::PeersRefusedBusy) > 0);
    let second = world.start(2, 1);
    wait("connected", || {
        second.handle.connected() == [1] && first.handle.connected() == [2]
    });
    drop(idle);
}

#[test]
fn forged_replayed_and_late_datagrams() {
    let world = World::new(3);
    let nodes = [world.start(1, 1), world.start(2, 1)];
    let first = &nodes[0];
    wait("connected", || first.handle.connected() == [2]);
    let issued = world.authority.issue(3, valid()).expect("a certificate");
    let socket = UdpSocket::bind(SocketAddr::new(world.address(3).ip(), 0)).expect("bound");
    let send = |octets: &[u8]| socket.send_to(octets, world.address(1)).expect("sent");
    let runtime = runtime();
    let (tls, sealer) = runtime.block_on(async {
        let mut tls = world.dial(3, &issued).await.expect("a handshake");
        let sealer = Sealer::new(Key::export(tls.get_ref().1).expect("a key"));
        write_hello(&mut tls, &hello(3, 1)).await.expect("written");
        let certified = super::world::identity(1);
        read_hello(&mut tls, &certified).await.expect("greeted");
        (tls, sealer)
    });
    let good = sealer.seal(b"probe").expect("short");
    let mut forged = sealer.seal(b"other").expect("short");
    *forged.last_mut().expect("not empty") ^= 1;
    send(b"");
    send(&[0xff; 2000]);
    send(&forged);
    send(&good);
    send(&good);
    wait("heard", || {
        first.heard.has(&Event::Datagram(3, b"probe".to_vec()))
    });
    wait("counted", || {
        first.count(Counter::PeersDatagramsRefused) == 3 && first.count(Counter::PeersDatagramsReplayed) == 1
    });
    assert_eq!(first.count(Counter::PeersDatagramsReceived), 1);
    // With the stream the key is gone.
    let late = sealer.seal(b"late").expect("short");
    runtime.block_on(async { drop(tls) });
    wait("no longer heard", || !first.handle.status()[1].heard);
    send(&late);
    wait("counted", || first.count(Counter::PeersDatagramsRefused) == 4);
    // Nothing was ever answered.
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("set");
    assert!(socket.recv(&mut [0; 10]).is_err());
    undisturbed(&nodes, 3);
}

#[test]
fn mistakes_in_the_files_are_named() {
    let world = World::new(2);
    let (ca, other) = (
        world.authority.issued(),
        Authority::new(CLUSTER, valid()).expect("a CA"),
    );
    let issue = |node, validity| world.authority.issue(node, validity).expect("a certificate");
    let good = issue(1, valid());
    let examine = |ca: &Issued, issued: &Issued| {
        let findings = credentials::examine(&world.cluster_with(1, ca, issued), 1);
        let texts = findings
            .into_iter()
            .map(|finding| format!("{}: {}", finding.key, finding.text));
        texts.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(examine(&ca, &good), "");
    let foreign = Issued {
        certificate: good.certificate.clone(),
        key: issue(1, valid()).key,
    };
    let empty = Issued {
        certificate: "nothing".to_owned(),
        key: String::new().into(),
    };
    for (ca, issued, key, text) in [
        (
            &ca,
            &issue(2, valid()),
            "certificate",
            "is for node 2, not for node 1",
        ),
        (&ca, &issue(1, expired()), "certificate", "days ago"),
        (
            &other.issued(),
            &good,
            "certificate",
            "not signed by our [cluster] ca",
        ),
        (&ca, &foreign, "key", "does not belong to the certificate"),
        (&ca, &empty, "certificate", "holds no certificate"),
        (&ca, &empty, "key", "holds no private key"),
        (&empty, &good, "ca", "holds no certificate"),
    ] {
        let found = examine(ca, issued);
        assert!(
            found
                .lines()
                .any(|line| line.starts_with(&format!("{key}: ")) && line.contains(text)),
            "{found:?} lacks {text:?}"
        );
    }
}
