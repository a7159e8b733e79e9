//! A RADIUS server that does what a test tells it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast::aaa::radius::{Builder, Code, Packet, verify_request};

use crate::lab::error::{LabError, Result};

pub(super) const SECRET: &str = "scripted";
/// How soon the end is noticed.
const TICK: Duration = Duration::from_millis(50);

/// What it answers to a request of a user.
pub(super) type Script = Box<dyn FnMut(&Request) -> Vec<Reply> + Send>;

/// A request as it came.
pub(super) struct Request {
    pub(super) user: String,
    pub(super) octets: Vec<u8>,
    /// How often these very octets came before.
    pub(super) repeats: usize,
}

/// A datagram to send back.
pub(super) struct Reply {
    octets: Vec<u8>,
    after: Duration,
}

/// A running server; it ends when dropped.
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Request {
    /// A reply that is signed as it should be.
    pub(super) fn reply(&self, code: Code, write: impl FnOnce(&mut Builder)) -> Reply {
        self.signed(code, SECRET, |builder| {
            builder.message_authenticator();
            write(builder);
        })
    }

    /// A reply signed by this secret, without Message-Authenticator unless it is written.
    pub(super) fn signed(&self, code: Code, secret: &str, write: impl FnOnce(&mut Builder)) -> Reply {
        let request = Packet::parse(&self.octets).expect("it was verified");
        let mut builder = Builder::new(code, request.id());
        write(&mut builder);
        let octets = builder.finish_reply(secret.as_bytes(), &request.authenticator());
        Reply {
            octets: octets.expect("it fits"),
            after: Duration::ZERO,
        }
    }
}

impl Reply {
    pub(super) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// Other octets in its place, signed anew so that nothing but them is wrong.
    pub(super) fn with_attributes(request: &Request, code: Code, attributes: &[u8]) -> Self {
        use md5::{Digest, Md5};
        let asked = Packet::parse(&request.octets).expect("it was verified");
        let length = u16::try_from(20 + attributes.len()).expect("short").to_be_bytes();
        let mut octets = vec![code.0, asked.id(), length[0], length[1]];
        octets.extend(asked.authenticator());
        octets.extend(attributes);
        let signature = Md5::new().chain_update(&octets).chain_update(SECRET).finalize();
        octets[4..20].copy_from_slice(&signature);
        Self {
            octets,
            after: Duration::ZERO,
        }
    }
}

impl Server {
    /// Starts one on any port.
    pub(super) fn start(script: Script) -> Result<Self> {
        Self::start_on(0, script)
    }

    pub(super) fn start_on(port: u16, script: Script) -> Result<Self> {
        let io = |source| LabError::io("scripted RADIUS server", source);
        let socket = UdpSocket::bind(("127.0.0.1", port)).map_err(io)?;
        socket.set_read_timeout(Some(TICK)).map_err(io)?;
        let port = socket.local_addr().map_err(io)?.port();
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = {
            let (stop, requests) = (stop.clone(), Arc::clone(&requests));
            std::thread::spawn(move || serve(&socket, script, &stop, &requests))
        };
        Ok(Self {
            stop,
            thread: Some(thread),
            port,
            requests,
        })
    }

    /// Every datagram that came.
    pub(super) fn requests(&self) -> Vec<Vec<u8>> {
        self.requests
            .lock()
            .expect("no panic while they are locked")
            .clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, mut script: Script, stop: &AtomicBool, requests: &Mutex<Vec<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let octets = buffer[..length].to_vec();
        let Ok(packet) = verify_request(&octets, SECRET.as_bytes()) else {
            continue;
        };
        let user = packet
            .first(1)
            .map(|name| String::from_utf8_lossy(name.value).into_owned());
        let repeats = {
            let mut requests = requests.lock().expect("no panic while they are locked");
            let repeats = requests.iter().filter(|earlier| **earlier == octets).count();
            requests.push(octets.clone());
            repeats
        };
        let request = Request {
            user: user.unwrap_or_default(),
            octets: octets.clone(),
            repeats,
        };
        for reply in script(&request) {
            std::thread::sleep(reply.after);
            let _: io::Result<usize> = send(socket, &reply.octets, from);
        }
    }
}

fn send(socket: &UdpSocket, octets: &[u8], to: SocketAddr) -> io::Result<usize> {
    socket.send_to(octets, to)
}
