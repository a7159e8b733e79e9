//! What leaves: sendmmsg(2), many datagrams of one size to one LAC as one message (UDP_SEGMENT, udp(7)).
//!
//! ```text
//!   buffer: | h packet | h packet | h packet |         large packet         |   room to read   |  | headers | headers ..
//!            <------- one range ------------>    payload    payload   ..                             h + IP, TCP
//! ```
//!
//! A packet is read from the TUN right behind its predecessor, with room for its L2TP and PPP header (h) in front of it,
//! into which they are written. So a burst of packets is one range, which the kernel copies at once; a list of as many
//! ranges would cost it some 15 ns for each, and a buffer a packet more cache lines besides. The payload of a large packet is
//! sent from where it was read: each of its packets is a header, written into an area of its own, and a range of the payload.
//! Nothing is copied in user space. Packets that go another way (numbered, in fragments, by the control side) have a slot
//! behind the last one.
//!
//! The buffer is small enough to stay in a core's cache: what the kernel has just written there is read again at once.
//!
//! Not every way out takes a burst: a device without checksum offload (older kernels), IPsec, an MTU below the
//! datagrams' size. What is refused is sent one by one, so that each datagram fares as it would by itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Once;

use libc::{c_int, iovec, mmsghdr, msghdr, sockaddr_storage};
use socket2::SockAddr;

use super::{CONTROL, ControlBuffer, put_control};
use crate::dataplane::downlink::{DATA_LEAD, HEADROOM};
use crate::dataplane::offload::Split;
use crate::dataplane::offload::vnet::VNET_HEADER;
use crate::io::MAX_DATAGRAM;
use crate::io::socket::ShardSocket;
use crate::throttled;

use bursts::{Bursts, Datagram, MESSAGES, PIECES, SEGMENTS};

pub(crate) use bursts::Destination;

mod bursts;

/// Octets of a packet buffer that is to be sent: room for headers, then the packet.
const SEND_SLOT: usize = HEADROOM + MAX_DATAGRAM;
/// Octets of the largest packet that the TUN gives, with what stands in front of it.
const READ_ROOM: usize = VNET_HEADER + 65_535;
/// Octets of packets that may wait to be sent before there is no room to read another. A quarter of a core's second cache.
pub(crate) const PACKETS: usize = 256 * 1024;
/// Where the headers of a large packet's packets begin. The last packet may be a large one that needs slots behind it.
const HEADERS: usize = PACKETS + READ_ROOM + SEND_SLOT;
/// Octets for them. Enough for a thousand of the usual length.
const HEADER_ROOM: usize = 64 * 1024;

/// Messages in a row that a socket has refused as bursts and taken one by one, after which it gets no more bursts for a while.
const REFUSALS: u8 = 8;
/// Datagrams until it is tried again: the way to one LAC may have been bad for a moment. One try costs a system call.
const TRY_AGAIN_AFTER: u32 = 100_000;

/// All shards have the same kernel.
static SAID: Once = Once::new();

/// Datagrams collected to be sent.
pub(crate) struct SendBatch {
    data: Vec<u8>,
    /// Where the next packet goes, and from where on at the least.
    used: usize,
    held: usize,
    /// Where the next header goes.
    headers: usize,
    bursts: Bursts,
    vectors: Vectors,
    sockets: Vec<Segmentation>,
}

/// Whether a socket takes bursts.
#[derive(Clone, Copy, Debug)]
struct Segmentation {
    segments: usize,
    /// Bursts refused since the last one that was not.
    refusals: u8,
    /// Datagrams to be sent one by one before bursts are tried again; 0 if they are not held back.
    held_back: u32,
}

/// What one call needs besides the data. The pointers are written anew before each.
struct Vectors {
    names: Vec<sockaddr_storage>,
    controls: Vec<ControlBuffer>,
    /// Octets of the control messages that stand before that which tells the segments' size.
    plain_controls: Vec<usize>,
    iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
}

/// What a flush did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    pub(crate) sent: u64,
    /// Datagrams larger than the MTU of the interface they leave by.
    pub(crate) too_big: u64,
    /// Datagrams that the kernel refused for another reason. None is tried again.
    pub(crate) failed: u64,
    /// Bursts that had to be sent datagram by datagram.
    pub(crate) taken_apart: u64,
}

impl SendBatch {
    /// For datagrams that leave by `sockets`.
    pub(crate) fn new(sockets: &[ShardSocket]) -> Self {
        let segmentation = |socket| Segmentation {
            segments: if knows_segments(socket) { SEGMENTS } else { 1 },
            refusals: 0,
            held_back: 0,
        };
        let sockets: Vec<_> = sockets.iter().map(segmentation).collect();
        if sockets.iter().any(|socket| socket.segments == 1) {
            SAID.call_once(|| {
                tracing::warn!(
                    "this kernel has no UDP segmentation offload (Linux 4.18 has it): each packet to a subscriber is sent by \
                     itself, which costs several times as much CPU"
                );
            });
        }
        Self {
            data: vec![0; HEADERS + HEADER_ROOM],
            used: 0,
            held: 0,
            headers: HEADERS,
            bursts: Bursts::new(),
            vectors: Vectors::new(),
            sockets,
        }
    }

    /// How many of the sockets do not send several datagrams at once.
    pub(crate) fn lacks(&self) -> usize {
        self.sockets.iter().filter(|socket| socket.segments == 1).count()
    }

    /// Whether there may be no room for one more datagram in a slot.
    pub(crate) fn is_full(&self) -> bool {
        self.bursts.is_full() || self.used + SEND_SLOT > HEADERS
    }

    /// Whether a packet may be read to [`SendBatch::read_room`], and one datagram pushed then.
    pub(crate) fn has_room_to_read(&self) -> bool {
        !self.bursts.is_full() && self.used <= PACKETS
    }

    /// The buffer for the next datagram. The batch must not be full.
    pub(crate) fn slot(&mut self) -> &mut [u8] {
        &mut self.data[self.used..self.used + SEND_SLOT]
    }

    /// The buffer for the next packet from the TUN, which begins at [`VNET_HEADER`] there.
    pub(crate) fn read_room(&mut self) -> &mut [u8] {
        &mut self.data[self.used..self.used + READ_ROOM]
    }

    /// Moves the packet of `length` octets that was read to its place in [`SendBatch::slot`], behind [`HEADROOM`].
    pub(crate) fn move_to_slot(&mut self, length: usize) {
        let slot = &mut self.data[self.used..];
        slot.copy_within(VNET_HEADER..VNET_HEADER + length, HEADROOM);
    }

    /// The datagram at `octets` in the buffer that [`SendBatch::slot`] gives is to leave. With `in_order` it does so behind all
    /// that were pushed in order before, whatever their destination.
    pub(crate) fn push(&mut self, destination: &Destination, octets: Range<usize>, in_order: bool) {
        let piece = self.used + octets.start..self.used + octets.end;
        self.used = piece.end;
        let segments = self.sockets[destination.socket].segments;
        self.bursts.add(destination, &[piece], segments, in_order);
    }

    /// Keeps the large packet of `length` octets that was read where it is, whatever is sent meanwhile. Until
    /// [`SendBatch::release`] slots are behind it. Returns where it begins.
    pub(crate) fn hold(&mut self, length: usize) -> usize {
        let at = self.used + VNET_HEADER;
        self.used = at + length;
        self.held = self.used;
        at
    }

    pub(crate) fn release(&mut self) {
        self.held = 0;
    }

    /// Whether packets of `split` may be pushed right now.
    pub(crate) fn has_room_for(&self, split: &Split) -> bool {
        !self.bursts.is_full() && self.headers + DATA_LEAD + split.headers() <= self.data.len()
    }

    /// Packet `number` of the held large packet at `at` is to leave, `lead` before it. Returns its octets without that. There
    /// must be room.
    pub(crate) fn push_part(
        &mut self,
        destination: &Destination,
        lead: &[u8; DATA_LEAD],
        split: &Split,
        number: usize,
        at: usize,
    ) -> usize {
        let (packets, headers) = self.data.split_at_mut(HEADERS);
        let out = &mut headers[self.headers - HEADERS..];
        out[..DATA_LEAD].copy_from_slice(lead);
        let payload = split.write_headers(&packets[at..], number, &mut out[DATA_LEAD..]);
        let header = self.headers..self.headers + DATA_LEAD + split.headers();
        self.headers = header.end;
        let length = split.headers() + payload.len();
        let payload = at + payload.start..at + payload.end;
        let segments = self.sockets[destination.socket].segments;
        let pieces = [header, payload];
        let count = if pieces[1].is_empty() { 1 } else { 2 };
        self.bursts.add(destination, &pieces[..count], segments, false);
        length
    }

    /// Copies packet `number` of the held large packet at `at` to its place in [`SendBatch::slot`], behind [`HEADROOM`].
    /// Returns its octets. The batch must not be full.
    pub(crate) fn copy_part(&mut self, split: &Split, number: usize, at: usize) -> usize {
        let (packets, slot) = self.data.split_at_mut(self.used);
        let out = &mut slot[HEADROOM..];
        let payload = &packets[at..][split.write_headers(&packets[at..], number, out)];
        let length = split.headers() + payload.len();
        out[split.headers()..length].copy_from_slice(payload);
        length
    }

    /// Sends all. A datagram that the kernel does not take is lost, as on any full link.
    pub(crate) fn flush(&mut self, sockets: &[ShardSocket]) -> Flushed {
        let mut flushed = Flushed::default();
        self.bursts.sort();
        self.vectors.point(&self.data, &self.bursts);
        let count = self.bursts.all().len();
        let mut at = 0;
        while at < count {
            let bursts = &self.bursts.all()[at..];
            let socket = bursts[0].destination.socket;
            let run = bursts
                .iter()
                .take_while(|burst| burst.destination.socket == socket)
                .count();
            // SAFETY: `point` has just pointed the first `count` headers to buffers of `self`, which is borrowed through the call.
            let result = unsafe {
                libc::sendmmsg(
                    sockets[socket].as_fd().as_raw_fd(),
                    self.vectors.headers[at..].as_mut_ptr(),
                    run as _,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if result > 0 {
                let taken = &bursts[..result as usize];
                let datagrams = taken.iter().map(|burst| burst.datagrams).sum::<usize>();
                flushed.sent += datagrams as u64;
                self.sockets[socket].took(datagrams, datagrams > taken.len());
                at += result as usize;
            } else {
                let error = io::Error::last_os_error();
                tracing::trace!(to = %bursts[0].destination.to, %error, "not sent");
                self.refused(at, &error, &sockets[socket], &mut flushed);
                at += 1;
            }
        }
        self.bursts.clear();
        self.used = self.held;
        self.headers = HEADERS;
        flushed
    }

    /// The kernel did not take burst `at`. If that may be because it is one, its datagrams are sent one by one.
    fn refused(&mut self, at: usize, error: &io::Error, socket: &ShardSocket, flushed: &mut Flushed) {
        let burst = &self.bursts.all()[at];
        let kind = error.raw_os_error();
        let as_burst = matches!(kind, Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE));
        if burst.datagrams == 1 || !as_burst {
            flushed.count(error, burst.datagrams as u64);
            return;
        }
        flushed.taken_apart += 1;
        let mut refused: Option<(usize, io::Error)> = None;
        let mut sent = 0;
        for datagram in burst.each(self.bursts.sorted()) {
            // Those of one size fare alike.
            if let Some((_, error)) = refused.as_ref().filter(|(size, _)| *size == datagram.len()) {
                flushed.count(error, 1);
                continue;
            }
            match self.vectors.send_one(&self.data, at, &datagram, socket) {
                Ok(()) => sent += 1,
                Err(error) => {
                    flushed.count(&error, 1);
                    refused = Some((datagram.len(), error));
                }
            }
        }
        flushed.sent += sent;
        let state = &mut self.sockets[burst.destination.socket];
        if refused.is_none() && state.segments > 1 {
            state.refusals += 1;
            if state.refusals == REFUSALS {
                (state.segments, state.held_back) = (1, TRY_AGAIN_AFTER);
                throttled!(
                    warn,
                    socket = %socket.address,
                    to = %burst.destination.to,
                    %error,
                    "the kernel does not take several datagrams at once for this destination: each packet to a subscriber is sent \
                     by itself for a while, which costs several times as much CPU"
                );
            }
        }
    }
}

impl Segmentation {
    /// The kernel took so many datagrams.
    fn took(&mut self, datagrams: usize, bursts: bool) {
        if bursts {
            self.refusals = 0;
        } else if self.held_back > 0 {
            self.held_back = self.held_back.saturating_sub(datagrams as u32);
            if self.held_back == 0 {
                // One more refusal and they are held back again.
                (self.segments, self.refusals) = (SEGMENTS, REFUSALS - 1);
            }
        }
    }
}

impl Flushed {
    fn count(&mut self, error: &io::Error, datagrams: u64) {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => self.too_big += datagrams,
            _ => self.failed += datagrams,
        }
    }
}

impl Vectors {
    fn new() -> Self {
        // SAFETY: these are plain data for which zero is a value.
        let (name, iov, header) = unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            names: vec![name; MESSAGES],
            controls: vec![ControlBuffer([0; CONTROL]); MESSAGES],
            plain_controls: vec![0; MESSAGES],
            iovecs: vec![iov; PIECES],
            headers: vec![header; MESSAGES],
        }
    }

    /// A header for each of `bursts`, whose ranges are of `data`.
    fn point(&mut self, data: &[u8], bursts: &Bursts) {
        for (iovec, piece) in self.iovecs.iter_mut().zip(bursts.sorted()) {
            *iovec = vector(&data[piece.clone()]);
        }
        for (at, burst) in bursts.all().iter().enumerate() {
            let pieces = burst.pieces();
            // SAFETY: msghdr is plain data for which zero is a value (musl has private padding in it).
            let mut header: msghdr = unsafe { std::mem::zeroed() };
            header.msg_iov = self.iovecs[pieces.clone()].as_mut_ptr();
            header.msg_iovlen = pieces.len() as _;
            self.headers[at] = mmsghdr {
                msg_hdr: header,
                msg_len: 0,
            };
            self.write_destination(at, &burst.destination);
            if burst.datagrams > 1 {
                self.write_segment(at, burst.size as u16);
            }
        }
    }

    /// Sends one datagram of the burst to which header `at` belongs.
    fn send_one(
        &mut self,
        data: &[u8],
        at: usize,
        datagram: &Datagram,
        socket: &ShardSocket,
    ) -> io::Result<()> {
        let mut iovecs = [vector(&[]); bursts::PIECES_OF_ONE];
        for (iovec, piece) in iovecs.iter_mut().zip(datagram.pieces()) {
            *iovec = vector(&data[piece.clone()]);
        }
        let mut header = self.headers[at].msg_hdr;
        header.msg_iov = iovecs.as_mut_ptr();
        header.msg_iovlen = datagram.pieces().len() as _;
        header.msg_controllen = self.plain_controls[at] as _;
        // SAFETY: the header points to its name and control messages in `self`, to `iovecs`, and these to `data`; all live
        // through the call.
        let result =
            unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Fills in the address and the control messages of header `at`.
    fn write_destination(&mut self, at: usize, destination: &Destination) {
        let address = SockAddr::from(destination.to);
        // SAFETY: a SockAddr holds a whole sockaddr_storage.
        self.names[at] = unsafe { *address.as_ptr().cast::<sockaddr_storage>() };
        let control = &mut self.controls[at].0;
        let used = put_destination(control, destination);
        self.plain_controls[at] = used;
        let header = &mut self.headers[at].msg_hdr;
        header.msg_name = (&raw mut self.names[at]).cast();
        header.msg_namelen = address.len();
        header.msg_control = (&raw mut self.controls[at]).cast();
        header.msg_controllen = used as _;
    }

    /// What header `at` points to is to be cut into datagrams of `size` octets.
    fn write_segment(&mut self, at: usize, size: u16) {
        let control = &mut self.controls[at].0;
        let used = self.plain_controls[at];
        let used = put_control(control, used, libc::SOL_UDP, libc::UDP_SEGMENT, &size);
        self.headers[at].msg_hdr.msg_controllen = used as _;
    }
}

/// The kernel only reads what is sent.
fn vector(data: &[u8]) -> iovec {
    iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    }
}

/// Writes TOS and source address; returns how many octets they take.
fn put_destination(control: &mut [u8; CONTROL], destination: &Destination) -> usize {
    let tos = c_int::from(destination.tos);
    match destination.to {
        SocketAddr::V4(_) => {
            let used = put_control(control, 0, libc::IPPROTO_IP, libc::IP_TOS, &tos);
            let Some(IpAddr::V4(source)) = destination.source else {
                return used;
            };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(source.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put_control(control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
        }
        SocketAddr::V6(_) => {
            let used = put_control(control, 0, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &tos);
            let Some(IpAddr::V6(source)) = destination.source else {
                return used;
            };
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            };
            put_control(control, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
        }
    }
}

/// Whether the kernel knows UDP_SEGMENT. One that does not would send a burst as one datagram.
fn knows_segments(socket: &ShardSocket) -> bool {
    let mut size: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the pointers describe `size` and `length`, which live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw mut size).cast(),
            &raw mut length,
        )
    };
    result == 0
}

#[cfg(test)]
mod tests;
