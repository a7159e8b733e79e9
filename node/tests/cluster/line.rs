//! A LAC with one subscriber on a real socket, which speaks to whichever node it is led to, as behind an anycast address.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use holdfast_protocol::{Secret, Settings};

use crate::lac::Lac;
use crate::site::Site;

/// How often the LAC looks at its clock.
const LOOK: Duration = Duration::from_millis(10);

/// See the module.
pub struct Line {
    socket: UdpSocket,
    node: SocketAddr,
    lac: Lac,
    started: Instant,
}

impl Line {
    /// Dials a node with tunnel id `tunnel`, 1 or 2.
    pub fn dial(site: &Site, node: u8, tunnel: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(LOOK)).expect("set");
        let settings = Settings {
            host_name: format!("lac-{tunnel}").into_bytes(),
            secret: Some(Secret::new(*b"hunter2")),
            challenge: Some([7; 16]),
            hello_interval: Duration::from_secs(1),
            max_retransmits: 100,
            setup_timeout: Duration::from_secs(120),
            ..Settings::default()
        };
        let address = socket.local_addr().expect("bound");
        let mut line = Self {
            lac: Lac::new(Duration::ZERO, address, tunnel, 1, settings),
            socket,
            node: address,
            started: Instant::now(),
        };
        line.lead_to(site, node);
        line
    }

    /// The routers send what comes from it to another node now.
    pub fn lead_to(&mut self, site: &Site, node: u8) {
        self.node = format!("{}:1701", site.address(node))
            .parse()
            .expect("an address");
    }

    /// Until its subscriber's interface is up.
    pub fn until_up(&mut self, site: &Site) {
        self.until(site, "the subscriber is up", |lac| {
            lac.calls.values().any(|call| call.client.is_up())
        });
    }

    /// Until an LNS has acknowledged what the LAC says from now on; the session has stayed up meanwhile.
    pub fn until_answered(&mut self, site: &Site) {
        let said = self.lac.connection.progress().queued;
        self.until(site, "an LNS answers the LAC", |lac| {
            let progress = lac.connection.progress();
            progress.queued != said && progress.acknowledged == progress.queued
        });
        assert_eq!(self.lac.closed, None, "the tunnel is kept");
        let call = self.lac.first();
        assert!(!call.over && call.client.is_up(), "the session is kept");
    }

    fn until(&mut self, site: &Site, what: &str, mut happens: impl FnMut(&Lac) -> bool) {
        site.until(what, || {
            (0..10).for_each(|_| self.turn());
            happens(&self.lac)
        });
    }

    /// What is due, what came, what follows.
    fn turn(&mut self) {
        let now = self.started.elapsed();
        let mut buffer = [0; 2048];
        if let Ok((length, _)) = self.socket.recv_from(&mut buffer) {
            self.receive(now, &buffer[..length]);
        }
        if self.lac.connection.poll_timeout().is_some_and(|due| due <= now) {
            self.lac.connection.handle_timeout(now);
        }
        self.lac.settle(now);
        while let Some(datagram) = self.lac.connection.poll_transmit(now) {
            self.send(&datagram);
        }
        let tunnel = self.lac.connection.peer().tunnel;
        let mut frames = Vec::new();
        for call in self.lac.calls.values_mut() {
            call.client.handle_timeout(now);
            let said = std::mem::take(&mut call.client.out);
            frames.extend(said.into_iter().map(|frame| (call.peer, frame)));
        }
        for (session, frame) in frames {
            let (Some(tunnel), Some(session)) = (tunnel, session) else {
                continue;
            };
            let header = [
                [0x00, 0x02],
                tunnel.get().to_be_bytes(),
                session.get().to_be_bytes(),
            ];
            self.send(&[header.as_flattened(), &frame].concat());
        }
    }

    fn send(&self, datagram: &[u8]) {
        // A node that is gone answers by ICMP; it is sent again.
        let _ = self.socket.send_to(datagram, self.node);
    }

    fn receive(&mut self, now: Duration, datagram: &[u8]) {
        let [flags, _, ..] = *datagram else { return };
        if flags & 0x80 != 0 {
            return self.lac.handle_input(now, datagram);
        }
        // With or without a length; the nodes send neither sequence numbers nor an offset unasked.
        let header = if flags & 0x40 == 0 { 6 } else { 8 };
        if let (Some(call), Some(frame)) = (self.lac.calls.values_mut().next(), datagram.get(header..)) {
            call.client.handle_input(now, frame);
        }
    }
}
