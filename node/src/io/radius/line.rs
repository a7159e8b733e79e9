//! One socket to one server, whatever its transport.

use std::io;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Arrival, tls, udp};
use crate::aaa::radius::client::{EndpointId, EndpointSettings, Transport};

/// Packets that wait for a TLS stream; more are dropped.
const STREAM_QUEUE: usize = 256;

/// Ends with its value.
pub(super) struct Line {
    number: u64,
    way: Way,
    task: JoinHandle<()>,
}

enum Way {
    Udp(Arc<UdpSocket>),
    Stream(mpsc::Sender<Arc<[u8]>>),
}

impl Line {
    /// Opens it; a stream is connected meanwhile.
    pub(super) fn open(
        settings: &EndpointSettings,
        place: (EndpointId, u16),
        number: u64,
        arrivals: mpsc::Sender<Arrival>,
    ) -> io::Result<Self> {
        let (way, task) = match &settings.transport {
            Transport::Udp => {
                let socket = Arc::new(udp::open(settings.address)?);
                let task = tokio::spawn(udp::receive(socket.clone(), place, arrivals));
                (Way::Udp(socket), task)
            }
            Transport::Tls(files) => {
                let (packets, queue) = mpsc::channel(STREAM_QUEUE);
                let config = tls::config(files)?;
                let name = tls::server_name(files, settings.address)?;
                let task = tls::carry(settings.address, config, name, queue, place, number, arrivals);
                (Way::Stream(packets), tokio::spawn(task))
            }
        };
        Ok(Self { number, way, task })
    }

    /// Tells lines in the same place apart.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// `false` if it could not be sent.
    pub(super) fn send(&self, octets: Arc<[u8]>) -> bool {
        match &self.way {
            // Not by way of the runtime, which takes a new socket for a full one until it has been polled: the first packet would be lost.
            Way::Udp(socket) => SockRef::from(&**socket).send(&octets).is_ok(),
            Way::Stream(packets) => packets.try_send(octets).is_ok(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}
