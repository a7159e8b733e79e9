//! What one packet costs in user space, system calls apart: `cargo bench -p holdfast`.
//!
//! Lookups go through all sessions in a scattered order, so the larger tables do not fit the caches.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use holdfast::dataplane::downlink::{self, HEADROOM};
use holdfast::dataplane::sequence::SendSequence;
use holdfast::dataplane::uplink::{self, Policy, Uplink};
use holdfast::dataplane::{Magics, SessionEntry, SessionShared, Table, TableUpdate, TunnelEntry};
use holdfast_protocol::header::DataHeader;
use holdfast_protocol::{SessionId, TunnelId};

const SESSIONS_PER_TUNNEL: u32 = 100;
/// A prime that no table size has in common: steps of it visit every session once.
const STRIDE: u32 = 104_729;
const POLICY: Policy = Policy {
    shard: 0,
    shards: 1,
    own_address: Ipv4Addr::new(10, 255, 255, 254),
    has_tun: true,
};

fn lac() -> SocketAddr {
    "192.0.2.1:1701".parse().expect("an address")
}

fn address(session: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + session)
}

/// Ids of session number `session`, counted from 0.
fn ids(session: u32) -> (TunnelId, SessionId) {
    let tunnel = 1 + session / SESSIONS_PER_TUNNEL;
    let id = 1 + (session % SESSIONS_PER_TUNNEL) * 599;
    let ids = (TunnelId::new(tunnel as u16), SessionId::new(id as u16));
    (ids.0.expect("not zero"), ids.1.expect("not zero"))
}

fn table(sessions: u32) -> Table {
    let mut table = Table::new(&["198.51.100.1:1701".parse().expect("an address")]);
    for session in 0..sessions {
        let (tunnel, id) = ids(session);
        if session % SESSIONS_PER_TUNNEL == 0 {
            table.apply(TableUpdate::Tunnel(TunnelEntry {
                tunnel,
                peer: lac(),
                local: None,
                peer_tunnel: tunnel,
                shared: Arc::default(),
            }));
        }
        table.apply(TableUpdate::Session(SessionEntry {
            tunnel,
            session: id,
            peer_session: id,
            open: true,
            ipv6: true,
            address: Some(address(session)),
            routes: Vec::new(),
            mtu: 1460,
            mss_clamp: true,
            sequencing: false,
            filters: 0,
            limits: holdfast::dataplane::rate::Limits::default(),
            magics: Magics { local: 7, peer: 9 },
            shared: Arc::new(SessionShared::new(1, SendSequence::default())),
        }));
    }
    table
}

/// A UDP packet of `length` octets.
fn packet(source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), 64).udp(5000, 6000);
    let mut packet = Vec::new();
    let payload = vec![0; length - builder.size(0)];
    builder.write(&mut packet, &payload).expect("a vector takes it");
    packet
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    for sessions in [1_000, 100_000] {
        let table = table(sessions);
        let mut at = 0;
        let mut next = move || {
            at = (at + STRIDE) % sessions;
            at
        };
        group.bench_function(BenchmarkId::new("by ids", sessions), |b| {
            b.iter(|| {
                let (tunnel, session) = ids(next());
                table.find_session(black_box(tunnel.get()), session.get())
            });
        });
        group.bench_function(BenchmarkId::new("by address", sessions), |b| {
            b.iter(|| table.route(IpAddr::V4(address(black_box(next())))));
        });
    }
    group.finish();
}

fn decap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decap");
    group.throughput(Throughput::Elements(1));
    let mut table = table(1_000);
    for length in [64, 1400] {
        let (tunnel, session) = ids(500);
        let packet = packet(address(500), Ipv4Addr::new(192, 0, 2, 77), length);
        let frame = [&[0xff, 0x03, 0x00, 0x21], &packet[..]].concat();
        let message = DataHeader::short(tunnel, session).message(&frame);
        let mut datagram = message.expect("short enough");
        group.bench_function(BenchmarkId::from_parameter(length), |b| {
            b.iter(|| {
                let verdict = uplink::classify(&mut table, &POLICY, lac(), black_box(&mut datagram), 7);
                assert!(matches!(verdict, Uplink::Packet { .. }));
            });
        });
    }
    group.finish();
}

fn encap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encap");
    group.throughput(Throughput::Elements(1));
    let table = table(1_000);
    for length in [64, 1400] {
        let packet = packet(Ipv4Addr::new(192, 0, 2, 77), address(500), length);
        let mut buffer = [&[0; HEADROOM], &packet[..]].concat();
        group.bench_function(BenchmarkId::from_parameter(length), |b| {
            b.iter(|| {
                let (session, view) =
                    downlink::route(&table, black_box(&packet)).expect("it has the address");
                let session = table.session(session);
                downlink::encapsulate(&table, session, &POLICY, &mut buffer, HEADROOM, view.length)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, decap, encap);
criterion_main!(benches);
