//! What arrives: recvmmsg(2) with UDP_GRO, so that one message may hold many datagrams of one size.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, msghdr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t};

use super::segments::Segments;
use super::{BATCH, CONTROL, Vectors};
use crate::io::socket::ShardSocket;

/// Octets that one message holds: more than UDP can carry.
const MESSAGE: usize = 65_535;

/// Octets from the beginning of one buffer to that of the next. A cache finds its sets by the low bits of an address: at
/// exactly 64 KiB all beginnings would fall into the same few sets, and single datagrams use nothing but the beginnings.
/// With 1600 octets more, an odd number of cache lines and a little more than an Ethernet frame, the beginnings lie in the
/// caches as if they followed one another.
const STRIDE: usize = 65_536 + 1600;

/// Octets that one system call is to bring at most, so that they are still in the cache when they are judged and written.
const BATCH_OCTETS: usize = 256 << 10;

/// Messages that are asked for at least: with the largest they are [`BATCH_OCTETS`].
const LEAST_MESSAGES: usize = 4;

/// Buffers for received datagrams. Memory is taken from the kernel as far as messages have filled it.
pub(crate) struct ReceiveBatch {
    octets: Vec<u8>,
    vectors: Vectors,
    /// How many headers the kernel has written to since they were made ready.
    used: usize,
    /// How many messages a call asks for.
    wanted: usize,
    /// The next call asks for one alone.
    one: bool,
    lost: u64,
}

/// One message: a datagram, or several of one size but a shorter last.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    /// The address in the IP header, if the kernel told it.
    pub(crate) to: Option<IpAddr>,
    /// It was longer than the buffer.
    pub(crate) truncated: bool,
    /// Its datagrams, in [`ReceiveBatch::octets`].
    pub(crate) segments: Segments,
}

impl ReceiveBatch {
    pub(crate) fn new() -> Self {
        let mut batch = Self {
            octets: vec![0; BATCH * STRIDE],
            vectors: Vectors::new(),
            used: 0,
            wanted: BATCH,
            one: false,
            lost: 0,
        };
        // The vectors never grow, so what the headers point to stays where it is.
        for (at, buffer) in batch.octets.chunks_exact_mut(STRIDE).enumerate() {
            batch.vectors.set(at, &mut buffer[..MESSAGE]);
        }
        batch
    }

    /// The next [`ReceiveBatch::receive`] reads one message at most: the kernel does not look for a second, and one that came
    /// alone is sooner on its way.
    pub(crate) fn ask_for_one(&mut self) {
        self.one = true;
    }

    /// Reads what is there and does not wait for more: at most [`BATCH`] messages, fewer while they are large. Returns how
    /// many; 0 if nothing is there.
    pub(crate) fn receive(&mut self, socket: &ShardSocket) -> io::Result<usize> {
        self.make_ready();
        let most = if std::mem::take(&mut self.one) {
            1
        } else {
            self.wanted
        };
        // SAFETY: every header points to buffers of `self`, which is borrowed through the call; none of them has moved
        // since `new`, and `most` is not more than there are.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.vectors.headers.as_mut_ptr(),
                most as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            let nothing = matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            );
            return if nothing { Ok(0) } else { Err(error) };
        }
        self.used = result as usize;
        self.adapt();
        // The kernel's total as it was when a message came: the last one knows most.
        let last = self.vectors.headers[..self.used].last();
        let dropped = last.and_then(|last| Controls::of(&last.msg_hdr).dropped);
        self.lost = dropped.map_or(0, |total| socket.newly_dropped(total));
        Ok(self.used)
    }

    /// How many messages the kernel had no room for in the socket, from what it said before to what it said with the last
    /// batch. A large message counts once.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// How many datagrams the last call brought.
    pub(crate) fn datagrams(&self) -> u64 {
        (0..self.used)
            .map(|at| {
                self.get(at)
                    .map_or(1, |message| message.segments.datagrams() as u64)
            })
            .sum()
    }

    /// The message at `at`, below what [`ReceiveBatch::receive`] returned. `None` if its source is no IP address.
    pub(crate) fn get(&self, at: usize) -> Option<Received> {
        let header = &self.vectors.headers[at];
        let length = (header.msg_len as usize).min(MESSAGE);
        let from = read_address(&self.vectors.names[at], header.msg_hdr.msg_namelen)?;
        let controls = Controls::of(&header.msg_hdr);
        let start = at * STRIDE;
        Some(Received {
            from,
            to: controls.to,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            segments: Segments::new(start..start + length, controls.segment.unwrap_or(length)),
        })
    }

    /// The buffers.
    pub(crate) fn octets(&mut self) -> &mut [u8] {
        &mut self.octets
    }

    /// Gives the kernel back the room in the headers that it has written to. A lone datagram costs one.
    fn make_ready(&mut self) {
        for header in &mut self.vectors.headers[..self.used] {
            header.msg_hdr.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_flags = 0;
        }
        self.used = 0;
    }

    /// Asks for fewer messages while they are large, for more while they are small.
    fn adapt(&mut self) {
        let headers = self.vectors.headers[..self.used].iter();
        let octets: usize = headers.map(|header| header.msg_len as usize).sum();
        if octets > BATCH_OCTETS {
            self.wanted = (self.wanted / 2).max(LEAST_MESSAGES);
        } else if octets < BATCH_OCTETS / 2 {
            self.wanted = (self.wanted * 2).min(BATCH);
        }
    }
}

fn read_address(name: &sockaddr_storage, length: socklen_t) -> Option<SocketAddr> {
    let name: *const sockaddr_storage = name;
    // SAFETY: the kernel has written an address of `length` octets there, or nothing and then `length` is 0. It is read as
    // what its family says that it is and only if it is as long; sockaddr_storage is large enough and aligned for both.
    unsafe {
        match c_int::from((*name).ss_family) {
            libc::AF_INET if length as usize >= size_of::<sockaddr_in>() => {
                let name = &*name.cast::<sockaddr_in>();
                let address = IpAddr::from(name.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(address, u16::from_be(name.sin_port)))
            }
            libc::AF_INET6 if length as usize >= size_of::<sockaddr_in6>() => {
                let name = &*name.cast::<sockaddr_in6>();
                let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
                let port = u16::from_be(name.sin6_port);
                let (flow, scope) = (name.sin6_flowinfo, name.sin6_scope_id);
                Some(SocketAddrV6::new(address, port, flow, scope).into())
            }
            _ => None,
        }
    }
}

/// What the kernel says about a message besides.
#[derive(Debug, Default)]
struct Controls {
    /// Of IP_PKTINFO or IPV6_PKTINFO: the destination address.
    to: Option<IpAddr>,
    /// Of UDP_GRO: octets of each datagram but the last.
    segment: Option<usize>,
    /// Of SO_RXQ_OVFL: how many messages the socket had no room for since it was opened.
    dropped: Option<u32>,
}

impl Controls {
    fn of(header: &msghdr) -> Self {
        let mut controls = Self::default();
        // SAFETY: the kernel has filled `msg_control` and set `msg_controllen`; the macros stay within the two, and a
        // message of these types carries these structures (read unaligned, as their place is not ours to choose).
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while !message.is_null() {
                let data = libc::CMSG_DATA(message);
                match ((*message).cmsg_level, (*message).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                        controls.to = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        controls.to = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        let octets = usize::try_from(data.cast::<c_int>().read_unaligned()).ok();
                        controls.segment = octets.filter(|octets| *octets > 0);
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                        controls.dropped = Some(data.cast::<u32>().read_unaligned());
                    }
                    _ => {}
                }
                message = libc::CMSG_NXTHDR(header, message);
            }
        }
        controls
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::net::UdpSocket;

    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};

    use super::*;
    use crate::io::SocketGroup;

    /// A socket of a shard, and one of a LAC.
    fn sockets(listen: &str) -> (ShardSocket, UdpSocket) {
        let group = SocketGroup::open(&[listen.parse().expect("an address")], 1).expect("a free port");
        let socket = group.into_shards().into_iter().flatten().next();
        let lac = UdpSocket::bind(listen).expect("a loopback socket");
        (socket.expect("one shard, one address"), lac)
    }

    /// Sends `octets` as datagrams of `size`.
    fn send(lac: &UdpSocket, octets: &[u8], size: u16, to: SocketAddr) {
        let control = [ControlMessage::UdpGsoSegments(&size)];
        let (slices, to) = ([IoSlice::new(octets)], SockaddrStorage::from(to));
        let sent = sendmsg(lac.as_raw_fd(), &slices, &control, MsgFlags::empty(), Some(&to));
        assert_eq!(sent, Ok(octets.len()));
    }

    fn come_as_one(listen: &str) {
        let (socket, lac) = sockets(listen);
        let mut receive = ReceiveBatch::new();
        assert_eq!(receive.receive(&socket).expect("a socket"), 0);
        let octets: Vec<u8> = (0..250u8).collect();
        send(&lac, &octets, 60, socket.address);
        lac.send_to(b"alone", socket.address).expect("loopback takes it");
        lac.send_to(b"", socket.address).expect("loopback takes it");
        assert_eq!(receive.receive(&socket).expect("a socket"), 3);
        assert_eq!((receive.datagrams(), receive.lost()), (5 + 1 + 1, 0));
        let from = lac.local_addr().expect("it is bound");
        let expected: [Vec<&[u8]>; 3] = [octets.chunks(60).collect(), vec![b"alone"], vec![b""]];
        for (at, expected) in expected.iter().enumerate() {
            let message = receive.get(at).expect("it has an address");
            assert_eq!((message.from, message.to), (from, Some(socket.address.ip())));
            assert!(!message.truncated);
            let buffer = receive.octets();
            let datagrams: Vec<&[u8]> = message.segments.map(|place| &buffer[place]).collect();
            assert_eq!(&datagrams, expected);
        }
    }

    #[test]
    fn datagrams_that_were_sent_as_one_come_as_one_over_ipv4() {
        come_as_one("127.0.0.1:0");
    }

    #[test]
    fn datagrams_that_were_sent_as_one_come_as_one_over_ipv6() {
        come_as_one("[::1]:0");
    }

    /// Headers that the kernel has written to are made ready again: a message that says less after one that said more.
    #[test]
    fn nothing_of_the_batch_before_is_left() {
        let (socket, lac) = sockets("[::1]:0");
        let mut receive = ReceiveBatch::new();
        for _ in 0..3 {
            for size in [40u16, 7] {
                send(&lac, &[1; 80], size, socket.address);
                assert_eq!(receive.receive(&socket).expect("a socket"), 1);
                let message = receive.get(0).expect("it has an address");
                assert_eq!(message.segments.size(), usize::from(size));
                let flags = receive.vectors.headers[0].msg_hdr.msg_flags;
                assert_eq!(
                    flags & libc::MSG_CTRUNC,
                    0,
                    "there is room for what the kernel says"
                );
            }
            lac.send_to(&[1; 80], socket.address).expect("loopback takes it");
            assert_eq!(receive.receive(&socket).expect("a socket"), 1);
            let message = receive.get(0).expect("it has an address");
            assert_eq!(
                (message.segments.size(), message.to),
                (80, Some(socket.address.ip()))
            );
        }
    }

    #[test]
    fn fewer_messages_are_asked_for_while_they_are_large() {
        let (socket, lac) = sockets("127.0.0.1:0");
        let mut receive = ReceiveBatch::new();
        let mut received = |large: bool, count: usize| {
            for _ in 0..count {
                match large {
                    true => send(&lac, &[7; 60_000], 1200, socket.address),
                    false => drop(lac.send_to(b"small", socket.address)),
                }
            }
            let counts = std::iter::from_fn(|| receive.receive(&socket).ok().filter(|count| *count > 0));
            counts.collect::<Vec<usize>>()
        };
        assert_eq!(received(true, 10), [10], "nobody knew");
        assert_eq!(received(true, 50), [32, 16, 2]);
        assert_eq!(received(true, 20), [16, 4], "two large ones ask for more again");
        assert_eq!(received(true, 20), [8, 4, 4, 4]);
        assert_eq!(received(false, 130), [4, 8, 16, 32, 64, 6]);
    }

    #[test]
    fn one_alone_is_asked_for_once() {
        let (socket, lac) = sockets("127.0.0.1:0");
        let mut receive = ReceiveBatch::new();
        for number in 0..3u8 {
            lac.send_to(&[number], socket.address).expect("loopback takes it");
        }
        receive.ask_for_one();
        assert_eq!(receive.receive(&socket).expect("a socket"), 1);
        assert_eq!(receive.octets()[0], 0);
        assert_eq!(receive.receive(&socket).expect("a socket"), 2);
        assert_eq!(receive.octets()[0], 1);
    }

    #[test]
    fn what_had_no_room_is_told_with_what_comes_next() {
        let (socket, lac) = sockets("127.0.0.1:0");
        setsockopt(&socket, sockopt::RcvBuf, &4096).expect("less is always allowed");
        let mut receive = ReceiveBatch::new();
        for count in [40, 30] {
            for _ in 0..count {
                lac.send_to(&[7; 500], socket.address).expect("loopback takes it");
            }
            let taken = receive.receive(&socket).expect("a socket");
            assert!(taken < count, "not all had room");
            let told = receive.lost();
            lac.send_to(&[7; 500], socket.address).expect("loopback takes it");
            assert_eq!(receive.receive(&socket).expect("a socket"), 1);
            assert_eq!(told + receive.lost(), (count - taken) as u64);
        }
    }
}
