//! What arrives: recvmmsg(2).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use libc::{msghdr, sockaddr_storage, socklen_t};
use socket2::{SockAddr, SockAddrStorage};

use super::{BATCH, Vectors};
use crate::io::MAX_DATAGRAM;
use crate::io::socket::ShardSocket;

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
