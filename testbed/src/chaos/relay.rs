//! Between the nodes and the server: passes datagrams both ways, and withholds answers of one kind until it is told otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use holdfast::aaa::radius::Packet;
use holdfast::aaa::radius::dictionary::{Code, attribute};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::Result;
use crate::lab::namespace::Namespace;

/// Authentication and accounting, at the relay and at the server.
const PORTS: [u16; 2] = [1812, 1813];
/// How soon the relay notices that it is to end, milliseconds.
const TURN_MS: u16 = 20;
/// Sockets towards the server, one for each that a node asks from; the oldest serves another when all are taken.
const UPSTREAM: usize = 64;
/// Acct-Status-Type (RFC 2866 §5.1).
const START: u32 = 1;
const INTERIM: u32 = 3;

/// Answers that can be withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// To Access-Requests.
    Access,
    /// To Accounting-Requests that say Start.
    Start,
    /// To those that say Interim-Update.
    Interim,
}

/// What a request is about.
#[derive(Clone, Debug)]
struct Subject {
    held: Option<Held>,
    user: String,
}

/// An answer that waits.
#[derive(Debug)]
struct Waiting {
    port: usize,
    to: SocketAddr,
    user: String,
    octets: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    waiting: Vec<Waiting>,
    /// A line a datagram.
    history: String,
}

/// See the module; dropped, it ends.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    sockets: [UdpSocket; 2],
    stop: AtomicBool,
    begun: Instant,
}

/// A socket towards the server, and who asks through it.
#[derive(Debug)]
struct Upstream {
    port: usize,
    socket: UdpSocket,
    from: Option<SocketAddr>,
    /// By identifier.
    asked: BTreeMap<u8, Subject>,
}

impl Relay {
    /// Listens at `address` in a namespace, on whose loopback the server is.
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> Result<Self> {
        let open = || -> std::io::Result<_> {
            let listen = |port| UdpSocket::bind((address, port));
            let sockets = [listen(PORTS[0])?, listen(PORTS[1])?];
            let mut upstream = Vec::new();
            for index in 0..UPSTREAM {
                let port = index % PORTS.len();
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.connect((Ipv4Addr::LOCALHOST, PORTS[port]))?;
                socket.set_nonblocking(true)?;
                upstream.push(Upstream {
                    port,
                    socket,
                    from: None,
                    asked: BTreeMap::new(),
                });
            }
            sockets
                .iter()
                .try_for_each(|socket| socket.set_nonblocking(true))?;
            Ok((sockets, upstream))
        };
        let (sockets, mut upstream) = namespace.enter(open)??;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            sockets,
            stop: AtomicBool::new(false),
            begun: Instant::now(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || {
            let mut turn = 0;
            while !of_thread.stop.load(Ordering::Relaxed) {
                of_thread.turn(&mut upstream, &mut turn);
            }
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// From here on answers of this kind wait.
    pub fn hold(&self, what: Held) {
        self.shared.lock().held = Some(what);
    }

    /// The users whose answers wait on their way to a node.
    pub fn waiting_for(&self, node: u8) -> BTreeSet<String> {
        let state = self.shared.lock();
        let there = state
            .waiting
            .iter()
            .filter(|waiting| node_of(waiting.to) == Some(node));
        there.map(|waiting| waiting.user.clone()).collect()
    }

    /// All answers that wait leave at once, and no more are withheld.
    pub fn release(&self) {
        let mut state = self.shared.lock();
        state.held = None;
        for waiting in std::mem::take(&mut state.waiting) {
            let line = format!("released {} to {}", waiting.user, waiting.to);
            self.shared.note(&mut state, &line);
            // Who has asked may be dead.
            let _ = self.shared.sockets[waiting.port].send_to(&waiting.octets, waiting.to);
        }
    }

    /// What has passed, a line each: seconds since the start of the lab, and what it was.
    pub fn history(&self) -> String {
        self.shared.lock().history.clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while the state is locked")
    }

    fn note(&self, state: &mut State, line: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        writeln!(state.history, "{at:.3} {line}").expect("writing to a string cannot fail");
    }

    /// Waits for datagrams and passes all that are there.
    fn turn(&self, upstream: &mut [Upstream], next: &mut usize) {
        let sockets = self
            .sockets
            .iter()
            .chain(upstream.iter().map(|upstream| &upstream.socket));
        let mut ready: Vec<_> = sockets
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        // Interrupted or not: who has nothing says so.
        let _ = poll(&mut ready, PollTimeout::from(TURN_MS));
        drop(ready);
        let mut buffer = [0; 4096];
        for port in 0..PORTS.len() {
            while let Ok((length, from)) = self.sockets[port].recv_from(&mut buffer) {
                self.ask(upstream, next, port, from, &buffer[..length]);
            }
        }
        for upstream in upstream {
            while let Ok(length) = upstream.socket.recv(&mut buffer) {
                self.answer(upstream, &buffer[..length]);
            }
        }
    }

    fn ask(&self, upstream: &mut [Upstream], next: &mut usize, port: usize, from: SocketAddr, octets: &[u8]) {
        let Ok(packet) = Packet::parse(octets) else {
            let line = format!("what is no packet from {from}");
            return self.note(&mut self.lock(), &line);
        };
        let known = upstream
            .iter()
            .position(|upstream| upstream.port == port && upstream.from == Some(from));
        let index = known.unwrap_or_else(|| {
            *next += 1;
            (*next * PORTS.len() + port) % UPSTREAM
        });
        let upstream = &mut upstream[index];
        if upstream.from != Some(from) {
            upstream.from = Some(from);
            upstream.asked.clear();
        }
        let subject = subject(&packet);
        let line = format!(
            "{from} id {} asks: {:?} of {:?}",
            packet.id(),
            subject.held,
            subject.user
        );
        self.note(&mut self.lock(), &line);
        upstream.asked.insert(packet.id(), subject);
        // A server that is dead says so here; the node notices by itself.
        let _ = upstream.socket.send(octets);
    }

    fn answer(&self, upstream: &Upstream, octets: &[u8]) {
        let (Some(to), Some(id)) = (upstream.from, octets.get(1)) else {
            return;
        };
        let Some(subject) = upstream.asked.get(id) else {
            return;
        };
        let mut state = self.lock();
        let is_held = state.held.is_some() && subject.held == state.held;
        let word = if is_held { "waits" } else { "passes" };
        let line = format!(
            "{to} id {id}: the answer {} for {:?} {word}",
            octets[0], subject.user
        );
        self.note(&mut state, &line);
        if is_held {
            state.waiting.push(Waiting {
                port: upstream.port,
                to,
                user: subject.user.clone(),
                octets: octets.to_vec(),
            });
        } else {
            let _ = self.sockets[upstream.port].send_to(octets, to);
        }
    }
}

fn subject(packet: &Packet<'_>) -> Subject {
    let status = packet
        .first(attribute::ACCT_STATUS_TYPE)
        .and_then(|status| status.u32().ok());
    let held = match (packet.code(), status) {
        (Code::ACCESS_REQUEST, _) => Some(Held::Access),
        (_, Some(START)) => Some(Held::Start),
        (_, Some(INTERIM)) => Some(Held::Interim),
        _ => None,
    };
    let user = packet
        .first(attribute::USER_NAME)
        .map(|user| String::from_utf8_lossy(user.value).into_owned());
    Subject {
        held,
        user: user.unwrap_or_default(),
    }
}

/// Which node has an address: 10.1.N.2 or 10.2.N.2.
fn node_of(address: SocketAddr) -> Option<u8> {
    match address.ip() {
        IpAddr::V4(address) => Some(address.octets()[2]),
        IpAddr::V6(_) => None,
    }
}
