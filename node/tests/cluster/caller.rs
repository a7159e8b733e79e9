//! A LAC and its subscribers over a real socket: the protocol's connection and the clients of the tests on virtual time.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use holdfast_protocol::header::{self, DataHeader, Packet};
use holdfast_protocol::{Secret, SessionId, Settings};

use crate::lac::Lac;
use crate::site::{PATIENCE, SECRET};

/// How long the socket is listened to before the timers are looked at.
const TURN: Duration = Duration::from_millis(2);

/// See the module.
pub struct Caller {
    pub lac: Lac,
    socket: UdpSocket,
    /// The node that the routers send the LAC's datagrams to.
    pub target: SocketAddr,
    /// A call whose subscriber says nothing for now; what it has to say is kept.
    pub silent: Option<SessionId>,
    started: Instant,
}

impl Caller {
    /// Of the tunnel with this id of the LAC's, 1 or 2; its subscribers are called by it and their call's number. It waits longer than
    /// any test for a node that is not there.
    pub fn new(target: &str, tunnel: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        socket.set_read_timeout(Some(TURN)).expect("a timeout");
        let address = socket.local_addr().expect("bound");
        let settings = Settings {
            host_name: format!("lac-{tunnel}").into_bytes(),
            secret: Some(Secret::new(SECRET)),
            challenge: Some([7; 16]),
            hello_interval: Duration::from_secs(1),
            max_retransmits: 100,
            setup_timeout: PATIENCE,
            ..Settings::default()
        };
        Self {
            lac: Lac::new(Duration::from_secs(1), address, tunnel, 0, settings),
            socket,
            target: node(target),
            silent: None,
            started: Instant::now(),
        }
    }

    pub fn send_to(&mut self, target: &str) {
        self.target = node(target);
    }

    pub fn place_call(&mut self, call: u16) -> SessionId {
        let now = self.now();
        self.lac.place_call(now, call);
        self.turn();
        SessionId::new(call).expect("not zero")
    }

    /// The subscriber's line is cut.
    pub fn hang_up(&mut self, call: u16) {
        let now = self.now();
        self.lac.hang_up(now, SessionId::new(call).expect("not zero"));
        self.turn();
    }

    /// Serves the line until something is so.
    pub fn until(&mut self, what: &str, mut happens: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !happens(self) {
            assert!(
                begun.elapsed() < PATIENCE,
                "in vain: {what}: {:?}",
                self.lac.calls
            );
            self.turn();
        }
    }

    /// Takes what comes within a moment, and sends what is due.
    pub fn turn(&mut self) {
        let mut buffer = [0; 2048];
        // Nothing came, or a node that is gone refused.
        if let Ok(length) = self.socket.recv(&mut buffer) {
            self.receive(&buffer[..length]);
        }
        let now = self.now();
        self.lac.connection.handle_timeout(now);
        for call in self.lac.calls.values_mut() {
            call.client.handle_timeout(now);
        }
        self.lac.settle(now);
        while let Some(datagram) = self.lac.connection.poll_transmit(now) {
            self.send(&datagram);
        }
        for datagram in self.frames() {
            self.send(&datagram);
        }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(1) + self.started.elapsed()
    }

    fn receive(&mut self, datagram: &[u8]) {
        let now = self.now();
        match header::decode(datagram).expect("a node sends L2TP") {
            Packet::Control(_) => self.lac.handle_input(now, datagram),
            Packet::Data(data) => {
                let call = data.session.and_then(|session| self.lac.calls.get_mut(&session));
                if let Some(call) = call.filter(|call| !call.over) {
                    call.client.handle_input(now, data.payload);
                }
            }
        }
    }

    /// What the subscribers have to say, as data of the tunnel.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        let Some(tunnel) = self.lac.connection.peer().tunnel else {
            return Vec::new();
        };
        let mut datagrams = Vec::new();
        for (session, call) in &mut self.lac.calls {
            let Some(peer) = call.peer.filter(|_| self.silent != Some(*session)) else {
                continue;
            };
            let header = DataHeader::short(tunnel, peer);
            let messages = call.client.out.drain(..).map(|frame| header.message(&frame));
            datagrams.extend(messages.map(|message| message.expect("a frame is not that long")));
        }
        datagrams
    }

    fn send(&self, datagram: &[u8]) {
        // As lost as any, if the node's process is gone.
        let _ = self.socket.send_to(datagram, self.target);
    }
}

fn node(address: &str) -> SocketAddr {
    format!("{address}:1701").parse().expect("an address")
}
