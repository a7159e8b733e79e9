//! What leaves: sendmmsg(2).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, sockaddr_storage};
use socket2::SockAddr;

use super::{BATCH, Vectors, put_control};
use crate::dataplane::downlink::HEADROOM;
use crate::io::MAX_DATAGRAM;
use crate::io::socket::ShardSocket;

/// Octets of a packet buffer that is to be sent: room for headers, then the packet.
const SEND_SLOT: usize = HEADROOM + MAX_DATAGRAM;

/// Where and how a datagram leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    /// Index of the shard's socket.
    pub(crate) socket: usize,
    pub(crate) to: SocketAddr,
    /// The address it leaves from; `None` = the kernel picks.
    pub(crate) source: Option<IpAddr>,
    /// TOS or Traffic Class of the outer header.
    pub(crate) tos: u8,
    /// First octet in its slot.
    pub(crate) start: usize,
    /// Octets from there.
    pub(crate) length: usize,
}

/// Datagrams collected to be sent.
pub(crate) struct SendBatch {
    data: Vec<u8>,
    departures: Vec<Departure>,
    vectors: Vectors,
}

/// What a flush did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    pub(crate) sent: u64,
    /// Datagrams larger than the MTU of the interface they leave by.
    pub(crate) too_big: u64,
    /// Datagrams that the kernel refused for another reason. None is tried again.
    pub(crate) failed: u64,
}

impl SendBatch {
    pub(crate) fn new() -> Self {
        Self {
            data: vec![0; BATCH * SEND_SLOT],
            departures: Vec::with_capacity(BATCH),
            vectors: Vectors::new(),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.departures.len() == BATCH
    }

    /// The buffer for the next datagram. The batch must not be full.
    pub(crate) fn slot(&mut self) -> &mut [u8] {
        let start = self.departures.len() * SEND_SLOT;
        &mut self.data[start..start + SEND_SLOT]
    }

    /// The datagram in the buffer that [`SendBatch::slot`] gives is to leave.
    pub(crate) fn push(&mut self, departure: Departure) {
        self.departures.push(departure);
    }

    /// Sends all. A datagram that the kernel does not take is lost, as on any full link.
    pub(crate) fn flush(&mut self, sockets: &[ShardSocket]) -> Flushed {
        let mut flushed = Flushed::default();
        for (at, departure) in self.departures.iter().enumerate() {
            let start = at * SEND_SLOT + departure.start;
            self.vectors
                .set(at, &mut self.data[start..start + departure.length]);
            write_departure(&mut self.vectors, at, departure);
        }
        let mut at = 0;
        while at < self.departures.len() {
            let socket = self.departures[at].socket;
            let run = self.departures[at..]
                .iter()
                .take_while(|departure| departure.socket == socket)
                .count();
            // SAFETY: `at + run` headers were just pointed to buffers of `self`, which is borrowed through the call.
            let result = unsafe {
                libc::sendmmsg(
                    sockets[socket].as_fd().as_raw_fd(),
                    self.vectors.headers[at..].as_mut_ptr(),
                    run as _,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if result > 0 {
                flushed.sent += result as u64;
                at += result as usize;
            } else {
                let error = io::Error::last_os_error();
                tracing::trace!(to = %self.departures[at].to, %error, "not sent");
                let counter = match error.raw_os_error() {
                    Some(libc::EMSGSIZE) => &mut flushed.too_big,
                    _ => &mut flushed.failed,
                };
                *counter += 1;
                at += 1;
            }
        }
        self.departures.clear();
        flushed
    }
}

/// Fills in the address and the control messages of header `at`.
fn write_departure(vectors: &mut Vectors, at: usize, departure: &Departure) {
    let address = SockAddr::from(departure.to);
    // SAFETY: a SockAddr holds a whole sockaddr_storage.
    vectors.names[at] = unsafe { *address.as_ptr().cast::<sockaddr_storage>() };
    let control = &mut vectors.controls[at].0;
    let tos = c_int::from(departure.tos);
    let used = match departure.to {
        SocketAddr::V4(_) => {
            let mut used = put_control(control, 0, libc::IPPROTO_IP, libc::IP_TOS, &tos);
            if let Some(IpAddr::V4(source)) = departure.source {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(source.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                used = put_control(control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            used
        }
        SocketAddr::V6(_) => {
            let mut used = put_control(control, 0, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &tos);
            if let Some(IpAddr::V6(source)) = departure.source {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: source.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                used = put_control(control, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            used
        }
    };
    let header = &mut vectors.headers[at].msg_hdr;
    header.msg_namelen = address.len();
    header.msg_controllen = used as _;
}
