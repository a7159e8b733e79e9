//! Datagrams from a LAC and packets from the core on the packet path: decapsulation, clamping, fragments, errors, large packets.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use holdfast::dataplane::downlink::{self, Downlink, HEADROOM};
use holdfast::dataplane::filter::portal::Redirect;
use holdfast::dataplane::filter::{Answer, Direction, Filter, FilterSet, MAX_ANSWER};
use holdfast::dataplane::fragment::Fragments;
use holdfast::dataplane::icmp::{self, MAX_ERROR};
use holdfast::dataplane::ip::View;
use holdfast::dataplane::offload::split::finish_checksum;
use holdfast::dataplane::offload::{Coalescer, Split, VnetHeader};
use holdfast::dataplane::rate::Limits;
use holdfast::dataplane::sequence::SendSequence;
use holdfast::dataplane::uplink::{Policy, Uplink, classify};
use holdfast::dataplane::{Magics, SessionEntry, SessionShared, Table, TableUpdate, TunnelEntry};
use holdfast_protocol::{SessionId, TunnelId};
use libfuzzer_sys::fuzz_target;

const LAC: ([u8; 4], u16) = ([192, 0, 2, 1], 1701);
const SUBSCRIBER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const MTU: u16 = 100;

fuzz_target!(|datagram: &[u8]| {
    let mut table = table();
    let policy = Policy {
        shard: 0,
        shards: 1,
        own_address: Ipv4Addr::new(100, 64, 0, 1),
        has_tun: true,
    };
    for has_tun in [true, false] {
        let mut octets = datagram.to_vec();
        let policy = Policy { has_tun, ..policy };
        match classify(&mut table, &policy, SocketAddr::from(LAC), &mut octets, 1) {
            Uplink::Packet { packet, .. } | Uplink::Echo { packet, .. } | Uplink::LcpEcho { packet, .. } => {
                assert!(!octets[packet].is_empty())
            }
            Uplink::Ppp { frame, .. } => assert!(!octets[frame].is_empty()),
            Uplink::Control { end, .. } => assert!(end <= octets.len()),
            Uplink::Foreign { shard } => panic!("there is no shard {shard}"),
            Uplink::Drop(_) => {}
        }
    }
    // Whatever the datagram would carry, sent the other way.
    down(&table, &policy, datagram);
    down(&table, &policy, datagram.get(8..).unwrap_or_default());
    filtered(datagram);
    large(datagram);
    joined(datagram);
});

/// A packet of a subscriber whose filter permits what has ports alone: whatever it is told fits and is well formed.
fn filtered(packet: &[u8]) {
    let Ok(view) = View::parse(packet) else {
        return;
    };
    let rules = [
        "permit in udp from any to any 53-99",
        "permit both tcp from any to any established",
    ];
    let rules = rules.map(|rule| rule.parse().expect("a rule")).to_vec();
    let answer = Answer::Portal(Redirect::new("http://192.0.2.80/"));
    let set = FilterSet::Filters(vec![Arc::new(Filter::new(
        "garden",
        rules,
        answer,
        Arc::default(),
    ))]);
    let _ = set.judge(Direction::Out, &view, packet, 1);
    let Err(denied) = set.judge(Direction::In, &view, packet, 1) else {
        return;
    };
    let mut out = [0; MAX_ANSWER];
    if let Some(length) = denied.answer(&view, packet, &mut out) {
        let told = View::parse(&out[..length]).expect("an answer is well formed");
        assert_eq!((told.destination, told.length), (view.source, length));
    }
}

/// Packets one behind another, each behind its length: whatever is made of them stands for all, and comes apart again.
fn joined(input: &[u8]) {
    let mut octets = input.to_vec();
    let mut coalescer = Coalescer::new(true, true);
    let (mut at, mut added) = (0, 0);
    while let Some(length) = input.get(at).map(|length| usize::from(*length)) {
        let end = (at + 1 + length).min(input.len());
        if coalescer.is_full() {
            break;
        }
        coalescer.add(&octets, at + 1..end);
        (at, added) = (end, added + 1);
    }
    while let Some(large) = coalescer.take(&mut octets) {
        added -= large.packets;
        let whole: Vec<u8> = large.pieces().flat_map(|place| octets[place].to_vec()).collect();
        if large.single().is_none() {
            let split = Split::new(&large.header, &whole).expect("what is joined can be taken apart");
            assert_eq!(split.packets(), large.packets);
        }
    }
    assert_eq!(added, 0);
}

/// A packet behind the kernel's header: its parts make the whole.
fn large(input: &[u8]) {
    let Some((header, packet)) = input.split_first_chunk() else {
        return;
    };
    let Some(header) = VnetHeader::decode(*header) else {
        return;
    };
    let _ = finish_checksum(&header, &mut packet.to_vec());
    let Ok(split) = Split::new(&header, packet) else {
        return;
    };
    let mut out = vec![0; split.headers()];
    let mut done = split.headers();
    for number in 0..split.packets() {
        let payload = split.write_headers(packet, number, &mut out);
        assert_eq!(payload.start, done);
        assert!(out.len() + payload.len() <= split.largest());
        done = payload.end;
    }
    assert!(done <= packet.len());
}

fn down(table: &Table, policy: &Policy, packet: &[u8]) {
    let Ok((index, view)) = downlink::route(table, packet) else {
        return;
    };
    let session = table.session(index);
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(packet);
    match downlink::judge(session, policy, &mut buffer[HEADROOM..], view) {
        Downlink::Send(view) => {
            let sent = downlink::encapsulate(table, session, policy, &mut buffer, HEADROOM, view.length);
            assert!(sent.is_ok_and(|sent| sent.start < HEADROOM));
        }
        Downlink::Fragment { view, mtu } => {
            let Some(mut fragments) = Fragments::new(&packet[..view.length], view.header, mtu) else {
                return;
            };
            let mut out = vec![0; usize::from(mtu)];
            while let Some(length) = fragments.next_into(&mut out) {
                assert!(length <= usize::from(mtu));
            }
        }
        Downlink::TooBig { view, mtu } => {
            icmp::error(packet, &view, icmp::Error::TooBig(mtu), &mut [0; MAX_ERROR]);
        }
        Downlink::Drop(_) => {}
    }
}

/// One tunnel 0x2002 with the sessions 0x4004, and 0x4005, which has sequence numbers.
fn table() -> Table {
    let mut table = Table::new(&["192.0.2.9:1701".parse().expect("an address")]);
    let id = |number| TunnelId::new(number).expect("not zero");
    let tunnel = TunnelEntry {
        tunnel: id(0x2002),
        peer: SocketAddr::from(LAC),
        local: None,
        peer_tunnel: id(0x1001),
        shared: Arc::default(),
    };
    table.apply(TableUpdate::Tunnel(tunnel));
    for (session, address, sequencing) in [(0x4004, Some(SUBSCRIBER), false), (0x4005, None, true)] {
        table.apply(TableUpdate::Session(SessionEntry {
            tunnel: id(0x2002),
            session: SessionId::new(session).expect("not zero"),
            peer_session: SessionId::new(0x3003).expect("not zero"),
            open: true,
            ipv6: true,
            address,
            routes: vec!["198.51.100.0/24".parse().expect("a prefix")],
            mtu: MTU,
            mss_clamp: true,
            sequencing,
            filters: 0,
            limits: Limits::new((64_000, 0), (0, 0)),
            magics: Magics { local: 7, peer: 9 },
            shared: Arc::new(SessionShared::new(1, SendSequence::new(0, 4096))),
        }));
    }
    table
}
