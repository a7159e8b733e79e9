//! A shard with offload and one without bring the same packets across, octet by octet, and count the same.

use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use etherparse::PacketBuilder;
use nix::sys::socket::{MsgFlags, recv};
use proptest::prelude::*;

use super::Worker;
use super::backlog::tests::worker;
use super::from_core::tests::worker_with_offload;
use super::handover::Origin;
use crate::dataplane::offload::coalesce::tests::{Step, flow, in_order, packets, segments, step};
use crate::dataplane::offload::split::tests::Flow;
use crate::dataplane::offload::vnet::VNET_HEADER;
use crate::dataplane::offload::{Coalescer, VnetHeader};
use crate::dataplane::sequence::SendSequence;
use crate::dataplane::table::tests::{session, tunnel};
use crate::dataplane::{DropReason, SessionEntry, SessionShared, SessionTotals, TableUpdate};
use crate::io::batch::Segments;
use crate::io::tun::WriteRing;

/// Datagrams that the kernel's GRO joins at most, in these tests.
const LONGEST_MESSAGE: usize = 8;

/// What a subscriber sends besides TCP and UDP.
#[derive(Clone, Copy, Debug)]
enum Odd {
    Icmp4,
    Icmp6,
    /// In the packet as it is.
    IpOptions,
    ExtensionHeader,
    ForeignSource,
    WrongPppProtocol,
    Padding,
}

fn odd() -> impl Strategy<Value = Option<Odd>> {
    let all = [
        Odd::Icmp4,
        Odd::Icmp6,
        Odd::IpOptions,
        Odd::ExtensionHeader,
        Odd::ForeignSource,
        Odd::WrongPppProtocol,
        Odd::Padding,
    ];
    prop::option::weighted(0.15, prop::sample::select(all.to_vec()))
}

/// A data message of session 11 in tunnel 4 with the packet, or with what `odd` makes of it.
fn data(mut packet: Vec<u8>, odd: Option<Odd>) -> Vec<u8> {
    let is_v4 = packet[0] >> 4 == 4;
    let mut padding = 0;
    let mut protocol = if is_v4 { 0x21 } else { 0x57 };
    match odd {
        Some(Odd::Icmp4) => {
            (packet, protocol) = (Vec::new(), 0x21);
            let builder = PacketBuilder::ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64).icmpv4_echo_request(7, 1);
            builder.write(&mut packet, &[9; 33]).expect("a vector takes it");
        }
        Some(Odd::Icmp6) => {
            (packet, protocol) = (Vec::new(), 0x57);
            let builder = PacketBuilder::ipv6([0x20; 16], [0x21; 16], 64).icmpv6_echo_request(7, 1);
            builder.write(&mut packet, &[9; 33]).expect("a vector takes it");
        }
        Some(Odd::IpOptions) if is_v4 => {
            packet.splice(20..20, [1; 4]);
            (packet[0], packet[3]) = (0x46, packet[3] + 4);
            crate::dataplane::ip::set_checksum(&mut packet[..24]);
        }
        Some(Odd::ExtensionHeader) if !is_v4 => {
            packet.splice(40..40, [packet[6], 0, 1, 4, 0, 0, 0, 0]);
            (packet[6], packet[5]) = (60, packet[5] + 8);
        }
        Some(Odd::ForeignSource) => packet[if is_v4 { 13 } else { 8 }] ^= 0x40,
        Some(Odd::WrongPppProtocol) => protocol ^= 0x21 ^ 0x57,
        Some(Odd::Padding) => padding = 5,
        Some(Odd::IpOptions | Odd::ExtensionHeader) | None => {}
    }
    let header = [0, 2, 0, 4, 0, 11, 0xff, 3, 0, protocol];
    [&header[..], &packet, &vec![0; padding]].concat()
}

/// Session 11 of the LAC at `lac`, with an address and prefixes of IPv6; `worker`'s clock has looked whether it may forward.
fn with_session(worker: &mut Worker, lac: &UdpSocket, change: impl Fn(&mut SessionEntry)) {
    let mut tunnel = tunnel(4);
    (tunnel.peer, tunnel.local) = (lac.local_addr().expect("it is bound"), None);
    worker.table.apply(TableUpdate::Tunnel(tunnel));
    let mut entry = session(4, 11, [10, 0, 0, 1]);
    entry.routes = ["2020::/16", "2001:db8:0:2::/64"]
        .map(|prefix| prefix.parse().expect("a prefix"))
        .to_vec();
    entry.shared = Arc::new(SessionShared::new(1, SendSequence::new(0, 4096)));
    change(&mut entry);
    worker.table.apply(TableUpdate::Session(entry));
    worker.forwards = true;
}

fn totals(worker: &Worker) -> (SessionTotals, u64, u64, Vec<u64>) {
    let index = worker.table.find_session(4, 11).expect("it exists");
    let shard = worker.shard.counters.totals();
    assert_eq!(
        shard.dropped(DropReason::TunRefused),
        0,
        "the test's TUN has room"
    );
    (
        worker.table.session(index).shared.totals(),
        shard.uplink,
        shard.downlink,
        shard.drops,
    )
}

/// All datagrams behind one another, and the messages that the kernel makes of them: of one size, the last may be shorter.
fn messages(datagrams: &[Vec<u8>]) -> (Vec<u8>, Vec<(Range<usize>, usize)>) {
    let mut octets = Vec::new();
    let mut messages: Vec<(Range<usize>, usize)> = Vec::new();
    for datagram in datagrams {
        let (start, end) = (octets.len(), octets.len() + datagram.len());
        octets.extend(datagram);
        match messages.last_mut() {
            Some((place, size))
                if datagram.len() <= *size
                    && place.len() % *size == 0
                    && place.len() / *size < LONGEST_MESSAGE =>
            {
                place.end = end;
            }
            _ => messages.push((start..end, datagram.len())),
        }
    }
    (octets, messages)
}

fn read(core: &OwnedFd) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 70_000];
    std::iter::from_fn(|| {
        let length = recv(core.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
        Some(buffer[..length].to_vec())
    })
    .collect()
}

/// What the kernel makes of what was written to a TUN with headers.
fn taken_apart(written: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let apart = |octets: &Vec<u8>| {
        let (header, packet) = octets.split_at(VNET_HEADER);
        let header = VnetHeader::decode(*header.first_chunk().expect("a header")).expect("of a known kind");
        segments(&(header, packet.to_vec()))
    };
    written.iter().flat_map(apart).collect()
}

fn uplink(steps: &[(Step, Option<Odd>)]) {
    let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    let inner: Vec<Step> = steps.iter().map(|(step, _)| step.clone()).collect();
    let datagrams: Vec<_> = packets(&inner)
        .into_iter()
        .zip(steps)
        .map(|(packet, (_, odd))| data(packet, *odd))
        .collect();
    let (from, to) = (lac.local_addr().expect("it is bound"), "127.0.0.1:1701");
    let to = to.parse().expect("an address");

    let (mut plain, _, plain_core) = worker();
    plain.coalescer = Coalescer::new(false, false);
    with_session(&mut plain, &lac, |_| {});
    for datagram in &datagrams {
        plain.handle_datagram(&mut datagram.clone(), from, to);
    }

    let (mut offloaded, offloaded_core) = worker_with_offload();
    offloaded.coalescer = Coalescer::new(true, true);
    offloaded.ring = WriteRing::open();
    with_session(&mut offloaded, &lac, |_| {});
    let (mut octets, messages) = messages(&datagrams);
    for (place, segment) in messages {
        let origin = Origin { from, to, segment };
        offloaded.handle_message(origin, Segments::new(place, segment), &mut octets);
    }
    offloaded.write_coalesced(&mut octets);

    let (expected, found) = (read(&plain_core), taken_apart(&read(&offloaded_core)));
    for packet in &expected {
        let Some(of) = flow(packet).filter(|of| of != &[0]) else {
            continue;
        };
        assert_eq!(in_order(&found, &of), in_order(&expected, &of));
    }
    assert_eq!(sorted(found), sorted(expected));
    assert_eq!(totals(&offloaded), totals(&plain));
}

fn sorted(mut packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    packets.sort();
    packets
}

/// What reaches the LAC of a worker after `flows`, as large packets or one by one; what went back to the core; the counts.
fn downlink(flows: &[Flow], large: bool, change: impl Fn(&mut SessionEntry)) -> Arrived {
    let lac = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    lac.set_nonblocking(true).expect("a socket");
    let (mut worker, core) = if large {
        worker_with_offload()
    } else {
        let (worker, _, core) = worker();
        (worker, core)
    };
    with_session(&mut worker, &lac, change);
    for flow in flows {
        let reads = if large {
            let (header, packet) = flow.large();
            vec![[&header.encode()[..], &packet].concat()]
        } else {
            flow.packets()
        };
        for octets in reads {
            nix::unistd::write(&core, &octets).expect("there is room");
            worker.read_tun();
        }
    }
    worker.flush();
    let mut buffer = [0; 70_000];
    let datagrams: Vec<_> =
        std::iter::from_fn(|| lac.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect();
    let back = read(&core);
    let back = if large { taken_apart(&back) } else { back };
    // Datagrams of different TOS may overtake one another: the flows of IPv6 have another than those of IPv4.
    let (of_v4, of_v6) = datagrams.into_iter().partition(|datagram| {
        let numbered = datagram[0] & 0x08 != 0;
        datagram[if numbered { 13 } else { 9 }] == 0x21
    });
    Arrived {
        of_v4,
        of_v6,
        back,
        totals: totals(&worker),
    }
}

#[derive(Debug, PartialEq)]
struct Arrived {
    of_v4: Vec<Vec<u8>>,
    of_v6: Vec<Vec<u8>>,
    back: Vec<Vec<u8>>,
    totals: (SessionTotals, u64, u64, Vec<u64>),
}

fn from_core() -> impl Strategy<Value = Flow> {
    let sizes = (1usize..2000, 50u16..1500);
    (any::<(bool, bool)>(), sizes, 0usize..4, 0usize..4, any::<u8>()).prop_map(
        |((ipv6, udp), (length, segment), ip_options, tcp_options, flags)| {
            let mut flow = Flow::new(ipv6, udp, length, segment);
            (flow.ip_options, flow.tcp_options, flow.flags) = (ip_options, tcp_options, flags);
            flow
        },
    )
}

proptest! {
    #[test]
    fn to_the_core(steps in prop::collection::vec((step(), odd()), 0..50)) {
        uplink(&steps);
    }

    #[test]
    fn to_the_subscriber(
        flows in prop::collection::vec(from_core(), 1..4), mtu in prop::sample::select(vec![576u16, 1280, 1400]), sequencing: bool,
    ) {
        let change = |entry: &mut SessionEntry| (entry.mtu, entry.sequencing) = (mtu, sequencing);
        prop_assert_eq!(downlink(&flows, true, change), downlink(&flows, false, change));
    }
}
