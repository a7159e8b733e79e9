//! A RADIUS server on loopback that lets everybody in and keeps every record: what a set-up costs with one, without the server's own work.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast::aaa::radius::{Builder, Code, verify_request};

const SECRET: &str = "bench";
/// How soon the end is noticed.
const TICK: Duration = Duration::from_millis(50);

/// A running server; it ends when dropped.
pub(super) struct Radius {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    ports: [u16; 2],
}

impl Radius {
    pub(super) fn start() -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut ports) = (Vec::new(), [0; 2]);
        for port in &mut ports {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_read_timeout(Some(TICK))?;
            *port = socket.local_addr()?.port();
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || serve(&socket, &stop)));
        }
        Ok(Self { stop, threads, ports })
    }

    /// What makes a node ask it.
    pub(super) fn section(&self) -> String {
        let [auth, acct] = self.ports;
        format!(
            "[[radius]]\naddress = \"127.0.0.1\"\nauth_port = {auth}\nacct_port = {acct}\nsecret = \"{SECRET}\"\n"
        )
    }
}

impl Drop for Radius {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Ok(request) = verify_request(&buffer[..length], SECRET.as_bytes()) else {
            continue;
        };
        let code = match request.code() {
            Code::ACCOUNTING_REQUEST => Code::ACCOUNTING_RESPONSE,
            _ => Code::ACCESS_ACCEPT,
        };
        let mut reply = Builder::new(code, request.id());
        reply.message_authenticator();
        if let Ok(octets) = reply.finish_reply(SECRET.as_bytes(), &request.authenticator()) {
            // One that is lost is asked for again.
            let _ = socket.send_to(&octets, from);
        }
    }
}
