//! A subscriber's data and echoes, sent to every node of a cluster, as a router that knows nothing of owners does.
//!
//! The nodes have no TUN interfaces and so answer pings to their own address inside the session themselves: each answer is a
//! packet for the subscriber that enters the cluster at the node which was pinged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use holdfast_protocol::{Secret, SessionId, Settings};
use nix::sys::signal::Signal;

use crate::lac::Lac;
use crate::site::{Daemon, Site, member};

/// The first address of the pool.
const GATEWAY: [u8; 4] = [100, 64, 0, 1];
/// What the LAC's only call has as its number, and its subscriber as name and magic number.
const SUBSCRIBER: u32 = 1 << 8 | 1;
/// Pings that every node must have brought an answer to.
const PINGS: usize = 50;

const IPV4: [u8; 4] = [0xff, 3, 0, 0x21];
const LCP: [u8; 4] = [0xff, 3, 0xc0, 0x21];

/// A LAC with one call, on a socket.
pub struct Line {
    socket: UdpSocket,
    lac: Lac,
    began: Instant,
    /// The node that hears the LAC's control messages and the subscriber's PPP.
    pub node: SocketAddr,
    /// Of data messages from the subscriber, where the LAC requires sequencing.
    next_ns: u16,
    /// Ns of the data messages to the subscriber, each with how often it came.
    numbers: BTreeMap<u16, u32>,
    /// ICMP sequence numbers of pings that were answered.
    answered: BTreeSet<u16>,
    next_ping: u16,
    /// Identifiers of LCP Echo-Replies.
    echoes: BTreeSet<u8>,
}

impl Line {
    /// Dials at a node, until the subscriber is online.
    pub fn dial(site: &Site, node: u8, sequencing: bool) -> Self {
        let socket = UdpSocket::bind((site.address(0), 0)).expect("an address of loopback");
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .expect("a timeout");
        let settings = Settings {
            secret: Some(Secret::new(b"hunter2")),
            ..Settings::default()
        };
        let own = socket.local_addr().expect("it is bound");
        let mut lac = Lac::new(Duration::ZERO, own, 1, 1, settings);
        lac.sequencing = sequencing;
        let mut line = Self {
            socket,
            lac,
            began: Instant::now(),
            node: l2tp(site, node),
            next_ns: 0,
            numbers: BTreeMap::new(),
            answered: BTreeSet::new(),
            next_ping: 0,
            echoes: BTreeSet::new(),
        };
        site.until("the subscriber is online", || {
            line.turn();
            line.lac.calls.values().any(|call| call.client.is_up())
        });
        line
    }

    pub fn turn(&mut self) {
        let mut buffer = [0; 2048];
        // Also a timeout, or ICMP's word on a node that was killed.
        if let Ok((length, _)) = self.socket.recv_from(&mut buffer) {
            self.receive(&buffer[..length]);
        }
        let now = self.began.elapsed();
        self.lac.connection.handle_timeout(now);
        self.lac.settle(now);
        while let Some(datagram) = self.lac.connection.poll_transmit(now) {
            self.send(self.node, &datagram);
        }
        let mut frames = Vec::new();
        for call in self.lac.calls.values_mut() {
            call.client.handle_timeout(now);
            frames.append(&mut call.client.out);
        }
        for frame in frames {
            self.send_frame(self.node, &frame);
        }
    }

    fn receive(&mut self, datagram: &[u8]) {
        let now = self.began.elapsed();
        if datagram[0] & 0x80 != 0 {
            return self.lac.handle_input(now, datagram);
        }
        assert_eq!(datagram[0] & 0x08 != 0, self.lac.sequencing, "{datagram:02x?}");
        let session = u16::from_be_bytes([datagram[4], datagram[5]]);
        let frame = if self.lac.sequencing {
            let ns = u16::from_be_bytes([datagram[6], datagram[7]]);
            *self.numbers.entry(ns).or_default() += 1;
            &datagram[10..]
        } else {
            &datagram[6..]
        };
        match frame.split_at_checked(4) {
            Some((header, packet)) if header == IPV4 => {
                self.answered.insert(u16::from_be_bytes([packet[26], packet[27]]));
            }
            Some((header, packet)) if header == LCP && packet[0] == 10 => {
                self.echoes.insert(packet[1]);
            }
            _ => {
                let session = SessionId::new(session).expect("a session of ours");
                self.lac.call(session).client.handle_input(now, frame);
            }
        }
    }

    /// To a node that was killed nothing can be sent.
    fn send(&self, node: SocketAddr, datagram: &[u8]) {
        let _ = self.socket.send_to(datagram, node);
    }

    fn send_frame(&mut self, node: SocketAddr, frame: &[u8]) {
        let peer = self.lac.first().peer.expect("the call was answered");
        let tunnel = self.lac.connection.peer().tunnel;
        let tunnel = tunnel.expect("the tunnel is up").get().to_be_bytes();
        let mut datagram = vec![0, 2, tunnel[0], tunnel[1]];
        datagram.extend(peer.get().to_be_bytes());
        if self.lac.sequencing {
            datagram[0] = 0x08;
            datagram.extend(self.next_ns.to_be_bytes());
            datagram.extend([0, 0]);
            self.next_ns = self.next_ns.wrapping_add(1);
        }
        datagram.extend(frame);
        self.send(node, &datagram);
    }

    /// Pings the node, by way of itself; the number of the ping.
    fn ping(&mut self, node: SocketAddr) -> u16 {
        let address = <[u8; 4]>::try_from(self.lac.first().client.address()).expect("four octets");
        self.next_ping += 1;
        let mut frame = IPV4.to_vec();
        PacketBuilder::ipv4(address, GATEWAY, 64)
            .icmpv4_echo_request(1, self.next_ping)
            .write(&mut frame, b"ping")
            .expect("a vector takes it");
        self.send_frame(node, &frame);
        self.next_ping
    }

    /// Hangs up.
    pub fn hang_up(&mut self) {
        let session = *self.lac.calls.keys().next().expect("a call");
        let now = self.began.elapsed();
        self.lac.hang_up(now, session);
    }

    /// Until the LNS has acknowledged all that the LAC has said.
    pub fn until_quiet(&mut self, site: &Site) {
        site.until("the LNS has heard all", || {
            self.turn();
            let progress = self.lac.connection.progress();
            progress.queued == progress.acknowledged
        });
    }

    /// Pings by way of all these nodes until each ping that was sent is answered. How many that are in all.
    pub fn ping_evenly(&mut self, site: &Site, nodes: &[u8]) -> u32 {
        self.ping_all(site, nodes);
        site.until("all pings are answered", || {
            self.turn();
            self.answered.len() == usize::from(self.next_ping)
        });
        u32::from(self.next_ping)
    }

    /// Pings by way of all these nodes in turn until each has brought [`PINGS`] answers since.
    fn ping_all(&mut self, site: &Site, nodes: &[u8]) {
        let mut sent: BTreeMap<u8, BTreeSet<u16>> =
            nodes.iter().map(|node| (*node, BTreeSet::new())).collect();
        site.until("pings by all nodes are answered", || {
            for (node, pings) in &mut sent {
                for _ in 0..5 {
                    pings.insert(self.ping(l2tp(site, *node)));
                }
            }
            for _ in 0..5 * nodes.len() {
                self.turn();
            }
            let answered = |pings: &BTreeSet<u16>| pings.intersection(&self.answered).count();
            sent.values().all(|pings| answered(pings) >= PINGS)
        });
    }

    /// No data message of all that came had the number of another one.
    fn check_numbers(&self, at_least: usize) {
        let twice: Vec<_> = self.numbers.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "Ns that were given twice: {twice:?}");
        assert!(self.numbers.len() >= at_least, "{}", self.numbers.len());
    }
}

pub fn l2tp(site: &Site, node: u8) -> SocketAddr {
    format!("{}:1701", site.address(node))
        .parse()
        .expect("an address")
}

#[test]
fn no_data_message_of_a_sequenced_session_has_the_number_of_another_whoever_sends_it() {
    let site = Site::new();
    let mut daemons: Vec<Daemon> = site.start_three().into();
    let mut line = Line::dial(&site, 1, true);
    line.ping_all(&site, &[1, 2, 3]);
    line.check_numbers(3 * PINGS);
    assert!(
        line.numbers.keys().all(|ns| *ns < 4096),
        "the first owner's block"
    );
    for (dead, living) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
        let before = line.numbers.len();
        daemons.remove(dead - 1).stop(Signal::SIGKILL);
        living.iter().for_each(|node| site.until_whole(*node, &living));
        line.node = l2tp(&site, living[0]);
        line.ping_all(&site, &living);
        line.check_numbers(before + 2 * PINGS);
        daemons.insert(dead - 1, site.start(dead as u8));
        living.iter().for_each(|node| {
            site.until("it is back", || {
                member(&site.status(*node), dead as u8, "state") == "alive"
            })
        });
        line.ping_all(&site, &[1, 2, 3]);
        line.check_numbers(before + 5 * PINGS);
    }
    assert!(line.numbers.keys().any(|ns| *ns >= 4096), "a later owner's block");
}

/// Two of three stand still, so nobody takes over, and the one that is left can ask nobody.
#[test]
fn an_echo_is_answered_by_a_node_that_is_not_the_owner_and_is_left_alone() {
    let site = Site::new();
    let daemons: Vec<Daemon> = site.start_three().into();
    let mut line = Line::dial(&site, 1, false);
    line.ping_all(&site, &[2]);
    for stopped in [1, 3] {
        daemons[stopped - 1].signal(Signal::SIGSTOP);
    }
    let (mut id, node) = (0_u8, l2tp(&site, 2));
    // More than were under way when the owner stopped.
    site.until("echoes are answered", || {
        id = id.wrapping_add(1);
        let echo = [&LCP[..], &[9, id, 0, 8], &SUBSCRIBER.to_be_bytes()].concat();
        line.send_frame(node, &echo);
        line.turn();
        line.echoes.len() > 10
    });
}
