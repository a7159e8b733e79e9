//! A RADIUS server that accepts everybody (RFC 2865 §4.2, RFC 2866): l2tpns does not set up a session without one.
//!
//! Each user gets the next address. It checks no password and no authenticator of requests.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use md5::{Digest, Md5};

use super::packet::address;
use crate::lab::error::{LabError, Result};
use crate::lab::namespace::Namespace;

/// What the client and we share.
pub const SECRET: &str = "bench";
/// Of authentication and of accounting.
const PORTS: [u16; 2] = [1812, 1813];

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCOUNTING_REQUEST: u8 = 4;
const ACCOUNTING_RESPONSE: u8 = 5;

const HEADER: usize = 20;
const SERVICE_TYPE: u8 = 6;
const FRAMED_PROTOCOL: u8 = 7;
const FRAMED_IP_ADDRESS: u8 = 8;
/// Service-Type Framed, Framed-Protocol PPP.
const FRAMED: u32 = 2;
const PPP: u32 = 1;

/// How soon the end is noticed.
const TICK: Duration = Duration::from_millis(100);

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct Radius {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Radius {
    /// Listens on loopback in a namespace; the first user gets the address `first`.
    pub fn start(namespace: &Namespace, first: Ipv4Addr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for port in PORTS {
            let bound = namespace.enter(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
            let socket = bound.map_err(|source| LabError::io("RADIUS", source))?;
            socket
                .set_read_timeout(Some(TICK))
                .map_err(|source| LabError::io("RADIUS", source))?;
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || serve(&socket, first, &stop)));
        }
        Ok(Self { stop, threads })
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

fn serve(socket: &UdpSocket, first: Ipv4Addr, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    let mut users = 0;
    while !stop.load(Ordering::Relaxed) {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // The timeout; or a client that has closed its socket before the answer came.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => continue,
            Err(_) => return,
        };
        if let Some(answer) = answer(&buffer[..length], SECRET.as_bytes(), address(first, users)) {
            users += u32::from(answer[0] == ACCESS_ACCEPT);
            // A lost answer is asked for again.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The answer to a request, if it is one.
fn answer(request: &[u8], secret: &[u8], user: Ipv4Addr) -> Option<Vec<u8>> {
    let header = request.get(..HEADER)?;
    let mut answer = vec![0; HEADER];
    answer[1] = header[1];
    match header[0] {
        ACCESS_REQUEST => {
            answer[0] = ACCESS_ACCEPT;
            let attributes = [
                (SERVICE_TYPE, FRAMED),
                (FRAMED_PROTOCOL, PPP),
                (FRAMED_IP_ADDRESS, u32::from(user)),
            ];
            for (kind, value) in attributes {
                answer.extend_from_slice(&[kind, 6]);
                answer.extend_from_slice(&value.to_be_bytes());
            }
        }
        ACCOUNTING_REQUEST => answer[0] = ACCOUNTING_RESPONSE,
        _ => return None,
    }
    let length = u16::try_from(answer.len()).expect("an answer is short");
    answer[2..4].copy_from_slice(&length.to_be_bytes());
    // The Response Authenticator: MD5 over the answer with the request's in its place, then the secret.
    answer[4..HEADER].copy_from_slice(&header[4..]);
    let digest = Md5::new_with_prefix(&answer).chain_update(secret).finalize();
    answer[4..HEADER].copy_from_slice(&digest);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_request_gets_an_address_and_an_authenticator() {
        let mut request = vec![ACCESS_REQUEST, 7, 0, 20];
        request.extend_from_slice(&[0xab; 16]);
        let answer = answer(&request, b"s", Ipv4Addr::new(100, 64, 0, 2)).unwrap();
        assert_eq!(answer[..4], [ACCESS_ACCEPT, 7, 0, 38]);
        assert_eq!(
            answer[20..],
            [6, 6, 0, 0, 0, 2, 7, 6, 0, 0, 0, 1, 8, 6, 100, 64, 0, 2]
        );
        let mut signed = answer.clone();
        signed[4..20].copy_from_slice(&[0xab; 16]);
        let expected = Md5::new_with_prefix(&signed).chain_update(b"s").finalize();
        assert_eq!(answer[4..20], expected[..]);
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        assert_eq!(answer(&[ACCESS_ACCEPT; 20], b"s", Ipv4Addr::LOCALHOST), None);
        assert_eq!(answer(&[ACCESS_REQUEST; 19], b"s", Ipv4Addr::LOCALHOST), None);
    }
}
