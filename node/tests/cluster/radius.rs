//! A RADIUS server on a thread: it lets everybody in, and writes down what accounting tells it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast::aaa::radius::dictionary::{Code, attribute};
use holdfast::aaa::radius::{Builder, Packet, verify_request};

pub const SECRET: &str = "radius-secret";

/// Acct-Status-Type.
pub const START: u32 = 1;
pub const STOP: u32 = 2;
pub const INTERIM: u32 = 3;
pub const ON: u32 = 7;
pub const OFF: u32 = 8;

/// An Accounting-Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub status: u32,
    /// Acct-Session-Id.
    pub name: Vec<u8>,
    /// All attributes, as they came.
    pub attributes: Vec<(u8, Vec<u8>)>,
}

impl Heard {
    fn of(packet: &Packet) -> Self {
        let attributes: Vec<_> = packet.attributes().map(|a| (a.kind, a.value.to_vec())).collect();
        let status = packet.first(attribute::ACCT_STATUS_TYPE).expect("always there");
        let name = packet.first(attribute::ACCT_SESSION_ID).expect("always there");
        Self {
            status: status.u32().expect("four octets"),
            name: name.value.to_vec(),
            attributes,
        }
    }

    pub fn number(&self, kind: u8) -> Option<u32> {
        let (_, value) = self.attributes.iter().find(|(found, _)| *found == kind)?;
        Some(u32::from_be_bytes(
            value.as_slice().try_into().expect("four octets"),
        ))
    }

    pub fn octets(&self, low: u8, high: u8) -> u64 {
        let number = |kind| u64::from(self.number(kind).expect("it is there"));
        number(high) << 32 | number(low)
    }
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Vec<Heard>>,
    /// It hears accounting, and says nothing.
    silent: AtomicBool,
    ends: AtomicBool,
}

/// See the module.
pub struct Server {
    pub access: SocketAddr,
    pub accounting: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub fn start(address: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        let [access, accounting] = [(); 2].map(|()| {
            let socket = UdpSocket::bind((address, 0)).expect("an address of loopback");
            let bound = socket.local_addr().expect("it is bound");
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .expect("a timeout");
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || serve(&socket, &shared)));
            bound
        });
        Self {
            access,
            accounting,
            shared,
            threads,
        }
    }

    pub fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, SeqCst);
    }

    /// What accounting has told of sessions, repetitions included.
    pub fn heard(&self, status: u32) -> Vec<Heard> {
        let heard = self.shared.heard.lock().expect("nothing panics with it");
        heard
            .iter()
            .filter(|heard| heard.status == status)
            .cloned()
            .collect()
    }

    /// The kinds of what it was told, without repetitions that came one after the other.
    pub fn order(&self) -> Vec<u32> {
        let heard = self.shared.heard.lock().expect("nothing panics with it");
        let mut order: Vec<u32> = heard.iter().map(|heard| heard.status).collect();
        order.dedup();
        order
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ends.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while !shared.ends.load(SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let packet = verify_request(&buffer[..length], SECRET.as_bytes()).expect("the secret is right");
        let reply = match packet.code() {
            Code::ACCESS_REQUEST => accept(&packet),
            Code::ACCOUNTING_REQUEST => {
                let mut heard = shared.heard.lock().expect("nothing panics with it");
                heard.push(Heard::of(&packet));
                if shared.silent.load(SeqCst) {
                    continue;
                }
                Builder::new(Code::ACCOUNTING_RESPONSE, packet.id())
            }
            _ => Builder::new(Code::ACCESS_ACCEPT, packet.id()),
        };
        let octets = { reply }.finish_reply(SECRET.as_bytes(), &packet.authenticator());
        // Nobody may be there any more.
        let _ = socket.send_to(&octets.expect("it fits"), from);
    }
}

fn accept(request: &Packet) -> Builder {
    let mut reply = Builder::new(Code::ACCESS_ACCEPT, request.id());
    reply
        .message_authenticator()
        .octets(attribute::CLASS, b"gold")
        .u32(attribute::ACCT_INTERIM_INTERVAL, 60);
    reply
}
