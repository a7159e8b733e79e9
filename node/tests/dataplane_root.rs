//! The packet threads with a TUN device, each test in a network namespace of its own. Needs root.

mod dataplane_common;
#[path = "dataplane_root/uplink.rs"]
mod uplink;

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dataplane_common::*;
use etherparse::{PacketBuilder, TcpOptionElement};
use holdfast::dataplane::{DropReason, TableUpdate};
use holdfast::io::{Tun, TunConfig, TunError};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::sockopt::{IpRecvTos, Ipv4Tos};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt,
};
use std::os::fd::AsRawFd;

const SHARDS: usize = 4;
const SUBSCRIBER: [u8; 4] = [10, 77, 0, 5];
const TUNNEL: u16 = 0x0103;

fn config() -> TunConfig {
    TunConfig {
        name: "hf0".into(),
        address: OWN,
        mtu: 1500,
        routes: vec![
            "10.77.0.0/16".parse().expect("a prefix"),
            "10.99.0.1/32".parse().expect("a prefix"),
        ],
        routes6: Vec::new(),
        anycast: Vec::new(),
        offload: true,
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Moves this test's thread, and what it starts, into an empty namespace with a loopback device.
///
/// One test at a time, as long as the guard lives: while `ip` is being started its process holds a copy of every
/// descriptor of this one, so another test's devices and sockets would outlive their close for a moment.
fn own_namespace() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
    ip("link set lo up");
    alone
}

/// An LNS with a TUN and one session, whose LAC is on loopback.
fn lns() -> (Lns, Lac) {
    let tun = Tun::open(&config(), SHARDS).expect("root may make a TUN device");
    let lns = Lns::start("127.0.0.1:1701", SHARDS, Some(tun));
    let lac = Lac::new("127.0.0.1:0");
    lns.add_tunnel(TUNNEL, lac.address(), lns.address());
    lns.add_session(TUNNEL, 1, SUBSCRIBER);
    (lns, lac)
}

/// A host of the core: a socket in the namespace whose packets for subscribers are routed to the TUN.
fn core_host() -> UdpSocket {
    let socket = UdpSocket::bind((OWN, 0)).expect("the TUN has the address");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// The next datagram's IP packet; the kernel also sends some of its own accord over a new device.
fn next_packet(lac: &Lac) -> Vec<u8> {
    let (datagram, _) = lac.receive();
    assert_eq!(datagram[..10], [0, 2, 0x01, 0x03, 0, 1, 0xff, 3, 0, 0x21]);
    datagram[10..].to_vec()
}

#[test]
#[ignore = "needs root: run by the test command"]
fn the_device_has_what_was_asked_for_and_goes_with_the_process() {
    let _alone = own_namespace();
    let (lns, _lac) = lns();
    let link = ip("-details link show dev hf0");
    for part in ["mtu 1500", ",UP", "tun type tun", "multi_queue", "persist off"] {
        assert!(link.contains(part), "{part}: {link}");
    }
    assert!(ip("address show dev hf0").contains("inet 10.255.0.1/32"));
    let routes = ip("route show dev hf0");
    assert!(
        routes.contains("10.77.0.0/16") && routes.contains("10.99.0.1"),
        "{routes}"
    );
    let busy = Tun::open(&config(), SHARDS).expect_err("the name is taken");
    assert!(
        matches!(&busy, TunError::Busy { name } if name == "hf0"),
        "{busy}"
    );
    lns.dataplane.shutdown();
    drop(lns);
    assert!(!ip("link show").contains("hf0"));
}

#[test]
#[ignore = "needs root: run by the test command"]
fn a_device_that_somebody_else_made_is_refused_as_busy() {
    let _alone = own_namespace();
    ip("tuntap add dev hf0 mode tun");
    let busy = Tun::open(&config(), SHARDS).expect_err("somebody else made it");
    assert!(
        matches!(&busy, TunError::Busy { name } if name == "hf0"),
        "{busy}"
    );
}

#[test]
#[ignore = "needs root: run by the test command"]
fn a_route_that_exists_names_itself() {
    let _alone = own_namespace();
    let mut config = config();
    config.routes.push(config.routes[0]);
    let error = Tun::open(&config, 1).expect_err("twice the same route");
    assert!(
        matches!(&error, TunError::Route { route, .. } if *route == config.routes[0].into()),
        "{error}"
    );
    assert!(!ip("link show").contains("hf0"), "nothing is left behind");
}

/// Runs itself again as nobody, as a process cannot give up a capability for one thread alone.
#[test]
#[ignore = "needs root: run by the test command"]
fn without_cap_net_admin_the_error_says_so() {
    if !nix::unistd::geteuid().is_root() {
        let error = Tun::open(&config(), 1).expect_err("not permitted");
        assert!(matches!(error, TunError::NotPermitted { .. }), "{error}");
        return;
    }
    let _alone = own_namespace();
    let program = std::env::current_exe().expect("this program has a path");
    let copy = tempfile::tempdir().expect("a directory");
    let copied = copy.path().join("test");
    std::fs::copy(program, &copied).expect("a copy that nobody may run");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(copy.path(), open).expect("it is ours");
    let status = Command::new(&copied)
        .args(["--exact", "without_cap_net_admin_the_error_says_so", "--ignored"])
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .status()
        .expect("it starts");
    assert!(status.success());
}

#[test]
#[ignore = "needs root: run by the test command"]
fn a_subscriber_pings_the_node_and_talks_to_the_core() {
    let _alone = own_namespace();
    let (lns, lac) = lns();
    lac.send(
        &ip_data(TUNNEL, 1, &ping(SUBSCRIBER, OWN, 3, 56, 0)),
        lns.address(),
    );
    let reply = next_packet(&lac);
    assert_eq!(
        (&reply[12..16], &reply[16..20], reply[20]),
        (&OWN.octets()[..], &SUBSCRIBER[..], 0)
    );

    let host = core_host();
    let port = host.local_addr().expect("it is bound").port();
    let mut packet = Vec::new();
    PacketBuilder::ipv4(SUBSCRIBER, OWN.octets(), 64)
        .udp(4000, port)
        .write(&mut packet, b"up")
        .expect("a vector takes it");
    lac.send(&ip_data(TUNNEL, 1, &packet), lns.address());
    let mut buffer = [0; 16];
    let (length, from) = host.recv_from(&mut buffer).expect("it comes through the TUN");
    assert_eq!(
        (&buffer[..length], from),
        (&b"up"[..], SocketAddr::from((SUBSCRIBER, 4000)))
    );
    host.send_to(b"down", from).expect("there is a route");
    let down = next_packet(&lac);
    assert_eq!((&down[16..20], &down[28..]), (&SUBSCRIBER[..], &b"down"[..]));
    let totals = lns.dataplane.totals();
    assert_eq!(totals[tunnel_id(TUNNEL).shard(SHARDS)].uplink, 2);
    assert_eq!(totals.iter().map(|shard| shard.uplink).sum::<u64>(), 2);
    assert_eq!(totals.iter().map(|shard| shard.downlink).sum::<u64>(), 2);
}

#[test]
#[ignore = "needs root: run by the test command"]
fn one_session_downlink_may_use_every_shard() {
    let _alone = own_namespace();
    let (lns, lac) = lns();
    let hosts: Vec<UdpSocket> = (0..32).map(|_| core_host()).collect();
    for host in &hosts {
        host.send_to(b"x", SocketAddr::from((SUBSCRIBER, 9)))
            .expect("there is a route");
    }
    hosts.iter().for_each(|_| drop(next_packet(&lac)));
    let totals = lns.wait("32 packets", |totals| {
        totals.iter().map(|shard| shard.downlink).sum::<u64>() == 32
    });
    assert!(
        totals.iter().filter(|shard| shard.downlink > 0).count() > 1,
        "{totals:?}"
    );
}

#[test]
#[ignore = "needs root: run by the test command"]
fn the_dscp_of_a_packet_from_the_core_goes_outside() {
    let _alone = own_namespace();
    let (_lns, lac) = lns();
    setsockopt(&lac.socket, IpRecvTos, &true).expect("an option");
    let host = core_host();
    setsockopt(&host, Ipv4Tos, &0xb8).expect("an option");
    host.send_to(b"voice", SocketAddr::from((SUBSCRIBER, 9)))
        .expect("there is a route");
    let (datagram, outer) = lac.receive_with_tos();
    assert_eq!((datagram[11], outer), (0xb8, 0xb8));
}

#[test]
#[ignore = "needs root: run by the test command"]
fn s_101_large_packets_from_the_core_are_cut_or_refused() {
    let _alone = own_namespace();
    let (lns, lac) = lns();
    let mut packet = Vec::new();
    PacketBuilder::ipv4([192, 0, 2, 9], SUBSCRIBER, 64)
        .udp(5, 9)
        .write(&mut packet, &[7; 1472])
        .expect("a vector takes it");
    packet[6] = 0; // DF, which the builder sets
    send_raw(&packet, SUBSCRIBER);
    let fragments = [next_packet(&lac), next_packet(&lac)];
    assert_eq!(fragments.each_ref().map(Vec::len), [1396, 124]);
    assert_eq!(
        fragments.each_ref().map(|fragment| fragment[6..8].to_vec()),
        [vec![0x20, 0], vec![0, 172]]
    );

    // A UDP socket sets DF until it is told the path's MTU.
    let host = core_host();
    host.send_to(&[7; 1472], SocketAddr::from((SUBSCRIBER, 9)))
        .expect("nobody knows the path yet");
    lns.wait_for_drops(DropReason::TooBig, 1);
    let told = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(2));
        ip("route get 10.77.0.5").contains("mtu 1400")
    });
    assert!(told, "the kernel believes the ICMP message");
}

#[test]
#[ignore = "needs root: run by the test command"]
fn the_mss_is_clamped_towards_the_subscriber() {
    let _alone = own_namespace();
    let (_lns, lac) = lns();
    let mut syn = Vec::new();
    PacketBuilder::ipv4([192, 0, 2, 9], SUBSCRIBER, 64)
        .tcp(80, 4000, 1, 65_000)
        .syn()
        .options(&[TcpOptionElement::MaximumSegmentSize(1460)])
        .expect("it fits")
        .write(&mut syn, &[])
        .expect("a vector takes it");
    send_raw(&syn, SUBSCRIBER);
    assert_eq!(next_packet(&lac)[40..44], [2, 4, 0x05, 0x50]);
}

#[test]
#[ignore = "needs root: run by the test command"]
fn s_99_s_100_forged_sources_and_recursion_never_reach_the_kernel() {
    let _alone = own_namespace();
    let (lns, lac) = lns();
    let packet = |source: [u8; 4], to: [u8; 4], port: u16| {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(source, to, 64)
            .udp(1, port)
            .write(&mut packet, &[1])
            .expect("a vector takes it");
        ip_data(TUNNEL, 1, &packet)
    };
    lac.send(&packet([10, 77, 0, 6], OWN.octets(), 9), lns.address());
    lac.send(&packet(SUBSCRIBER, [127, 0, 0, 1], 1701), lns.address());
    lns.wait_for_drops(DropReason::SourceAddress, 1);
    lns.wait_for_drops(DropReason::Recursion, 1);
    assert_eq!(
        lns.dataplane
            .totals()
            .iter()
            .map(|shard| shard.uplink)
            .sum::<u64>(),
        0
    );
}

#[test]
#[ignore = "needs root: run by the test command"]
fn addresses_without_a_session_are_counted() {
    let _alone = own_namespace();
    let (lns, lac) = lns();
    let host = core_host();
    host.send_to(b"x", SocketAddr::from(([10, 77, 0, 6], 9)))
        .expect("there is a route");
    lns.wait("no route", |totals| dropped(totals, DropReason::NoRoute) >= 1);
    lns.update(TableUpdate::RemoveSession(tunnel_id(TUNNEL), session_id(1)));
    host.send_to(b"x", SocketAddr::from((SUBSCRIBER, 9)))
        .expect("there is a route");
    lns.wait("no route", |totals| dropped(totals, DropReason::NoRoute) >= 2);
    lac.socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    assert!(lac.socket.recv(&mut [0; 64]).is_err());
}

#[test]
#[ignore = "needs root: run by the test command"]
fn control_goes_on_when_the_device_is_taken_away() {
    let _alone = own_namespace();
    let (mut lns, lac) = lns();
    ip("link delete hf0");
    lac.send(
        &ip_data(TUNNEL, 1, &ping(SUBSCRIBER, OWN, 3, 56, 0)),
        lns.address(),
    );
    lns.wait_for_drops(DropReason::TunRefused, 1);
    lac.send(&zlb(TUNNEL), lns.address());
    let message = lns.next(tunnel_id(TUNNEL).shard(SHARDS));
    assert!(matches!(
        message,
        holdfast::io::Inbound::Control { tunnel: TUNNEL, .. }
    ));
}

/// Fragments inside, never outside: two nodes share one source address.
#[test]
#[ignore = "needs root: run by the test command"]
fn what_does_not_fit_the_interface_outside_is_counted_and_not_fragmented() {
    let _alone = own_namespace();
    let (lns, lac) = lns();
    ip("link set lo mtu 1300");
    let host = core_host();
    host.send_to(&[7; 1372], SocketAddr::from((SUBSCRIBER, 9)))
        .expect("the TUN carries it");
    lns.wait_for_drops(DropReason::OuterTooBig, 1);
    host.send_to(&[7; 1000], SocketAddr::from((SUBSCRIBER, 9)))
        .expect("the TUN carries it");
    assert_eq!(next_packet(&lac).len(), 1028);
}

/// The kernel reassembles what comes in fragments and keeps what is not whole.
#[test]
#[ignore = "needs root: run by the test command"]
fn s_102_outer_fragments_are_the_kernels_affair() {
    let _alone = own_namespace();
    let (lns, lac) = lns();
    let datagram = ip_data(TUNNEL, 1, &ping(SUBSCRIBER, OWN, 3, 56, 0));
    let mut whole = Vec::new();
    PacketBuilder::ipv4([127, 0, 0, 1], [127, 0, 0, 1], 64)
        .udp(lac.address().port(), 1701)
        .write(&mut whole, &datagram)
        .expect("a vector takes it");
    let fragment = |identification: u8, range: std::ops::Range<usize>, more: bool| {
        let mut out = [&whole[..20], &whole[20..][range.clone()]].concat();
        let length = out.len() as u16;
        out[2..4].copy_from_slice(&length.to_be_bytes());
        out[4..6].copy_from_slice(&[0, identification]);
        let word = (range.start / 8) as u16 | if more { 0x2000 } else { 0 };
        out[6..8].copy_from_slice(&word.to_be_bytes());
        set_checksum(&mut out);
        out
    };
    let end = whole.len() - 20;
    send_raw(&fragment(1, 0..48, true), [127, 0, 0, 1]);
    send_raw(&fragment(2, 48..end, false), [127, 0, 0, 1]);
    send_raw(&fragment(3, 0..48, true), [127, 0, 0, 1]);
    send_raw(&fragment(3, 48..end, false), [127, 0, 0, 1]);
    assert_eq!(
        next_packet(&lac)[20],
        0,
        "the Echo-Reply to the one that is whole"
    );
    assert_eq!(
        lns.dataplane
            .totals()
            .iter()
            .map(|shard| shard.received)
            .sum::<u64>(),
        1
    );
}

/// Sends a whole IPv4 packet.
fn send_raw(packet: &[u8], to: [u8; 4]) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = nix::sys::socket::socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Raw)
        .expect("root may have a raw socket");
    let [a, b, c, d] = to;
    let sent = sendto(
        socket.as_raw_fd(),
        packet,
        &SockaddrIn::new(a, b, c, d, 0),
        MsgFlags::empty(),
    );
    assert_eq!(sent, Ok::<usize, Errno>(packet.len()));
}
