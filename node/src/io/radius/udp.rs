//! RADIUS over UDP: a connected socket hears its server alone.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::Arrival;
use crate::aaa::radius::client::EndpointId;
use crate::aaa::radius::packet::LONGEST;

/// A socket that sends to `server` from a port that nobody foresees, and hears nobody else.
pub(super) fn open(server: SocketAddr) -> io::Result<UdpSocket> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(local)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Hands in what comes, until the client is gone.
pub(super) async fn receive(
    socket: Arc<UdpSocket>,
    (endpoint, id): (EndpointId, u16),
    arrivals: mpsc::Sender<Arrival>,
) {
    // One octet more than a packet has: what fills it was cut off, and does not parse.
    let mut buffer = [0; LONGEST + 1];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                let octets = buffer[..length].to_vec();
                let reply = Arrival::Reply {
                    endpoint,
                    socket: id,
                    octets,
                };
                if arrivals.send(reply).await.is_err() {
                    return;
                }
            }
            // ICMP's word on what we sent proves nothing and is no reason to stop, nor to spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}
