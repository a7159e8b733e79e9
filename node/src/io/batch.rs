//! Many datagrams a system call: recvmmsg(2) and sendmmsg(2) over buffers that are allocated once.
//!
//! The pointers that the kernel needs are written anew before each call, so nothing here refers to itself in between.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, cmsghdr, iovec, mmsghdr, msghdr, sockaddr_storage, socklen_t};
use socket2::{SockAddr, SockAddrStorage};

use super::MAX_DATAGRAM;
use super::socket::ShardSocket;
use crate::dataplane::downlink::HEADROOM;

/// Datagrams in one system call.
pub(crate) const BATCH: usize = 64;

/// Octets of a packet buffer that is to be sent: room for headers, then the packet.
const SEND_SLOT: usize = HEADROOM + MAX_DATAGRAM;

/// Room for the control messages of one datagram: IPv6 PKTINFO and the traffic class, with their headers.
const CONTROL: usize = 96;

/// Aligned as `cmsghdr` must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL]);

/// What one call needs besides the data.
struct Vectors {
    names: Vec<sockaddr_storage>,
    controls: Vec<ControlBuffer>,
    iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
}

impl Vectors {
    fn new() -> Self {
        // SAFETY: these are plain data for which zero is a value.
        let (name, iov, header) = unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            names: vec![name; BATCH],
            controls: vec![ControlBuffer([0; CONTROL]); BATCH],
            iovecs: vec![iov; BATCH],
            headers: vec![header; BATCH],
        }
    }

    /// Points header `at` to its own name and control buffers and to `data`.
    fn set(&mut self, at: usize, data: &mut [u8]) {
        self.iovecs[at] = iovec {
            iov_base: data.as_mut_ptr().cast(),
            iov_len: data.len(),
        };
        // SAFETY: msghdr is plain data for which zero is a value (musl has private padding in it).
        let mut header: msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = (&raw mut self.names[at]).cast();
        header.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
        header.msg_iov = &raw mut self.iovecs[at];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut self.controls[at]).cast();
        header.msg_controllen = CONTROL as _;
        self.headers[at] = mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        };
    }
}

/// Buffers for received datagrams.
pub(crate) struct ReceiveBatch {
    data: Vec<u8>,
    vectors: Vectors,
}

/// One received datagram.
pub(crate) struct Received<'a> {
    pub(crate) octets: &'a mut [u8],
    pub(crate) from: SocketAddr,
    /// The address in the IP header, if the kernel told it.
    pub(crate) to: Option<IpAddr>,
    /// It was longer than the buffer.
    pub(crate) truncated: bool,
}

impl ReceiveBatch {
    pub(crate) fn new() -> Self {
        Self {
            data: vec![0; BATCH * MAX_DATAGRAM],
            vectors: Vectors::new(),
        }
    }

    /// Reads what is there, at most [`BATCH`] datagrams; 0 if nothing is.
    pub(crate) fn receive(&mut self, socket: &ShardSocket) -> io::Result<usize> {
        for (at, data) in self.data.chunks_exact_mut(MAX_DATAGRAM).enumerate() {
            self.vectors.set(at, data);
        }
        // SAFETY: `set` has just pointed every header to buffers of `self`, which is borrowed through the call.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.vectors.headers.as_mut_ptr(),
                BATCH as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if result >= 0 {
            return Ok(result as usize);
        }
        let error = io::Error::last_os_error();
        let nothing = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
        );
        if nothing { Ok(0) } else { Err(error) }
    }

    /// The datagram at `at`, below what [`ReceiveBatch::receive`] returned. `None` if its source is no IP address.
    pub(crate) fn get(&mut self, at: usize) -> Option<Received<'_>> {
        let header = &self.vectors.headers[at];
        let length = (header.msg_len as usize).min(MAX_DATAGRAM);
        let from = read_address(&self.vectors.names[at], header.msg_hdr.msg_namelen)?;
        let to = destination(&header.msg_hdr);
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let start = at * MAX_DATAGRAM;
        Some(Received {
            octets: &mut self.data[start..start + length],
            from,
            to,
            truncated,
        })
    }
}

fn read_address(name: &sockaddr_storage, length: socklen_t) -> Option<SocketAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: SockAddrStorage is a sockaddr_storage by another name.
    unsafe { *storage.view_as::<sockaddr_storage>() = *name };
    // SAFETY: the kernel has written an address of `length` octets there, or `set` has left zeros, which is family 0.
    unsafe { SockAddr::new(storage, length) }.as_socket()
}

/// The destination address that IP_PKTINFO or IPV6_PKTINFO tells.
fn destination(header: &msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled `msg_control` and set `msg_controllen`; the macros stay within the two, and a
    // message of these types carries these structures (read unaligned, as their place is not ours to choose).
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = libc::CMSG_DATA(message)
                        .cast::<libc::in_pktinfo>()
                        .read_unaligned();
                    return Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = libc::CMSG_DATA(message)
                        .cast::<libc::in6_pktinfo>()
                        .read_unaligned();
                    return Some(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    }
    None
}

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

/// Appends one control message at `used` and returns where the next one goes.
fn put_control<T: Copy>(
    control: &mut [u8; CONTROL],
    used: usize,
    level: c_int,
    kind: c_int,
    value: &T,
) -> usize {
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    let (space, length) = unsafe {
        (
            libc::CMSG_SPACE(size_of::<T>() as u32) as usize,
            libc::CMSG_LEN(size_of::<T>() as u32) as usize,
        )
    };
    let place = &mut control[used..used + space];
    let header = place.as_mut_ptr().cast::<cmsghdr>();
    // SAFETY: `place` has CMSG_SPACE octets, so the header and the value fit; the buffer is aligned to 8 and
    // CMSG_SPACE keeps that; the value is written unaligned.
    unsafe {
        (*header).cmsg_len = length as _;
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(*value);
    }
    used + space
}
