//! A RADIUS server on loopback that lets everybody in and keeps every record: what a set-up costs with one, without the server's own work.
//!
//! It checks no password and no authenticator of requests: l2tpns signs none.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast::aaa::radius::dictionary::{FRAMED_PROTOCOL_PPP, attribute, service_type};
use holdfast::aaa::radius::{Builder, Code, Packet};

use crate::lab::error::{LabError, Result};
use crate::lab::namespace::Namespace;

/// What the client and we share.
pub const SECRET: &str = "bench";
/// Of authentication and of accounting, where nobody else has them.
const PORTS: [u16; 2] = [1812, 1813];
/// How soon the end is noticed.
const TICK: Duration = Duration::from_millis(50);

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct Radius {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    ports: [u16; 2],
}

impl Radius {
    /// On unused ports; who asks gives the addresses.
    pub fn start() -> Result<Self> {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let sockets = [bind(), bind()].map(|bound| bound.map_err(|source| LabError::io("RADIUS", source)));
        let [access, accounting] = sockets;
        Self::serve([access?, accounting?], None)
    }

    /// On loopback in a namespace; the first user gets the address `first`, each further one the next.
    pub fn start_in(namespace: &Namespace, first: Ipv4Addr) -> Result<Self> {
        let bind = |port: u16| {
            let bound = namespace.enter(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
            bound.map_err(|source| LabError::io("RADIUS", source))
        };
        let [access, accounting] = PORTS.map(bind);
        Self::serve([access?, accounting?], Some(first))
    }

    fn serve(sockets: [UdpSocket; 2], first: Option<Ipv4Addr>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut ports) = (Vec::new(), [0; 2]);
        for (socket, port) in sockets.into_iter().zip(&mut ports) {
            let prepared = socket
                .set_read_timeout(Some(TICK))
                .and_then(|()| socket.local_addr());
            *port = prepared.map_err(|source| LabError::io("RADIUS", source))?.port();
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || answer_all(&socket, first, &stop)));
        }
        Ok(Self { stop, threads, ports })
    }

    /// What makes a node ask it.
    pub fn section(&self) -> String {
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

fn answer_all(socket: &UdpSocket, first: Option<Ipv4Addr>, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    let mut next = first;
    while !stop.load(Ordering::Relaxed) {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // The timeout; or a client that has closed its socket before the answer came.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => continue,
            Err(_) => return,
        };
        if let Some(octets) = answer(&buffer[..length], next) {
            if octets[0] == Code::ACCESS_ACCEPT.0 {
                next = next.map(|address| Ipv4Addr::from(u32::from(address) + 1));
            }
            // A lost answer is asked for again.
            let _ = socket.send_to(&octets, from);
        }
    }
}

/// The answer to a request, if it is one.
fn answer(request: &[u8], address: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let request = Packet::parse(request).ok()?;
    let code = match request.code() {
        Code::ACCESS_REQUEST => Code::ACCESS_ACCEPT,
        Code::ACCOUNTING_REQUEST => Code::ACCOUNTING_RESPONSE,
        _ => return None,
    };
    let mut reply = Builder::new(code, request.id());
    reply.message_authenticator();
    if code == Code::ACCESS_ACCEPT {
        reply
            .u32(attribute::SERVICE_TYPE, service_type::FRAMED)
            .u32(attribute::FRAMED_PROTOCOL, FRAMED_PROTOCOL_PPP);
        if let Some(address) = address {
            reply.ipv4(attribute::FRAMED_IP_ADDRESS, address);
        }
    }
    reply
        .finish_reply(SECRET.as_bytes(), &request.authenticator())
        .ok()
}

#[cfg(test)]
mod tests {
    use holdfast::aaa::radius::verify_reply;

    use super::*;

    #[test]
    fn an_access_request_gets_an_address_and_what_proves_who_answers() {
        let mut request = vec![1, 7, 0, 20];
        request.extend_from_slice(&[0xab; 16]);
        let octets = answer(&request, Some(Ipv4Addr::new(100, 64, 0, 2))).expect("it is one");
        let reply = Packet::parse(&octets).expect("well formed");
        assert_eq!((reply.code(), reply.id()), (Code::ACCESS_ACCEPT, 7));
        let address = reply.first(attribute::FRAMED_IP_ADDRESS).expect("it has one");
        assert_eq!(address.ipv4(), Ok(Ipv4Addr::new(100, 64, 0, 2)));
        assert!(verify_reply(&octets, SECRET.as_bytes(), &[0xab; 16], true).is_ok());
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        assert_eq!(answer(&[2; 20], None), None);
        assert_eq!(answer(&[1; 19], None), None);
    }
}
