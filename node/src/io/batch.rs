//! Many datagrams a system call: recvmmsg(2) and sendmmsg(2) over buffers that are allocated once.
//!
//! The pointers that the kernel needs are written anew before each call, so nothing here refers to itself in between.

mod receive;
mod segments;
mod send;

use libc::{c_int, cmsghdr, iovec, mmsghdr, msghdr, sockaddr_storage, socklen_t};

pub(crate) use receive::ReceiveBatch;
pub(crate) use segments::Segments;
pub(crate) use send::{Destination, SendBatch};

/// Datagrams in one system call.
pub(crate) const BATCH: usize = 64;

/// Room for the control messages of one datagram with their headers: IPv6 PKTINFO and two more of four octets.
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
