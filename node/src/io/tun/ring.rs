//! Many writes to a TUN queue by one system call: io_uring(7), which containers and hosts often forbid.
//!
//! Nothing waits here: the queue does not block, so each write has ended when the call returns, in the order in which they
//! were given. The ring does not hold the descriptor, so the device goes with the process as it does without.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Once;

use io_uring::{IoUring, opcode, types};
use libc::iovec;

use super::TunQueue;
use crate::dataplane::offload::coalesce::{CAPACITY, Joined};
use crate::dataplane::offload::vnet::VNET_HEADER;

/// Writes by one system call at most.
const WRITES: usize = 64;
/// Fewer are not worth it: what the ring costs by itself is what two system calls do.
pub(crate) const LEAST_WRITES: usize = 4;
/// Calls after which the kernel is not asked again to take the rest.
const ATTEMPTS: usize = 100;
/// Parts of all packets of a call: what a batch of the coalescer has at most, and a header each.
const PARTS: usize = CAPACITY + WRITES;

static SAID: Once = Once::new();

/// Packets that are to be written to a queue with a header before each, and the ring by which they are.
pub(crate) struct WriteRing {
    ring: IoUring,
    writes: Vec<Write>,
    /// Where the parts of the packets are, in the caller's octets.
    places: Vec<Range<usize>>,
    /// What the kernel reads; written anew before each call.
    vectors: Vec<iovec>,
    broken: bool,
}

struct Write {
    header: [u8; VNET_HEADER],
    /// Its parts in `places`.
    places: Range<usize>,
    /// How many packets it stands for.
    packets: usize,
}

impl Write {
    /// Where the vectors of the write with number `at` are: each before it has one more than places, for its header.
    fn vectors(&self, at: usize) -> Range<usize> {
        self.places.start + at..self.places.end + at + 1
    }
}

/// What came of the writes: packets, large ones counted as those for which they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) taken: u64,
    pub(crate) refused: u64,
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.taken += other.taken;
        self.refused += other.refused;
    }
}

impl WriteRing {
    /// `None` where the kernel has no io_uring or this process may not use it, which is said in the log once.
    pub(crate) fn open() -> Option<Self> {
        Self::new()
            .inspect_err(|error| {
                SAID.call_once(|| {
                    tracing::info!(
                        %error,
                        "no io_uring (the kernel, kernel.io_uring_disabled or the container forbids it): packets of many flows to \
                         the core cost a system call each"
                    );
                });
            })
            .ok()
    }

    fn new() -> io::Result<Self> {
        Ok(Self {
            ring: IoUring::builder().dontfork().build(WRITES as u32)?,
            writes: Vec::with_capacity(WRITES),
            places: Vec::with_capacity(PARTS),
            vectors: Vec::with_capacity(PARTS),
            broken: false,
        })
    }

    /// Whether the kernel does not take such writes: this ring is of no use.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether [`WriteRing::write`] must come before `large` is added.
    pub(crate) fn is_full(&self, large: &Joined<'_>) -> bool {
        self.writes.len() == WRITES || self.places.len() + large.packets > CAPACITY
    }

    /// Adds a packet, whose parts are in the octets that [`WriteRing::write`] is given.
    pub(crate) fn add(&mut self, large: &Joined<'_>) {
        let start = self.places.len();
        self.places.extend(large.pieces());
        self.writes.push(Write {
            header: large.header.encode(),
            places: start..self.places.len(),
            packets: large.packets,
        });
    }

    /// Writes all that was added. `octets` are those in which their parts are.
    pub(crate) fn write(&mut self, tun: &TunQueue, octets: &[u8]) -> Written {
        let mut written = Written::default();
        if self.writes.is_empty() {
            return written;
        }
        self.submit(tun, octets);
        let mut ended = [None; WRITES];
        for entry in self.ring.completion() {
            ended[entry.user_data() as usize] = Some(entry.result());
        }
        for (at, write) in self.writes.iter().enumerate() {
            let taken = match ended[at] {
                Some(result) if result != -libc::EOPNOTSUPP => result >= 0,
                _ => {
                    self.broken = true;
                    write_alone(tun, &self.vectors[write.vectors(at)])
                }
            };
            let count = if taken {
                &mut written.taken
            } else {
                &mut written.refused
            };
            *count += write.packets as u64;
        }
        self.writes.clear();
        self.places.clear();
        written
    }

    /// Gives the kernel all writes and returns when each of them has ended.
    fn submit(&mut self, tun: &TunQueue, octets: &[u8]) {
        self.point(octets);
        let descriptor = types::Fd(tun.as_fd().as_raw_fd());
        let mut queue = self.ring.submission();
        for (at, write) in self.writes.iter().enumerate() {
            let own = &self.vectors[write.vectors(at)];
            let entry = opcode::Writev::new(descriptor, own.as_ptr(), own.len() as u32);
            // Or the kernel would wait for room by itself.
            let entry = entry.rw_flags(libc::RWF_NOWAIT).build().user_data(at as u64);
            // SAFETY: the vectors and what they point to, `octets` and the headers in `writes`, stay where they are until this
            // function returns, and it returns when no write is under way any more.
            let pushed = unsafe { queue.push(&entry) };
            pushed.expect("the ring has room for as many as there may be");
        }
        drop(queue);
        let mut attempts = 0;
        loop {
            let missing = self.writes.len() - self.ring.completion().len();
            let not_taken = self.ring.submission().len();
            self.broken = attempts >= ATTEMPTS && not_taken > 0;
            if missing == 0 || (self.broken && missing == not_taken) {
                return;
            }
            attempts += 1;
            // A signal may end the call early, want of memory may stop it in the middle: the rest is given again.
            let _ = self.ring.submit_and_wait(missing);
        }
    }

    /// Points the vectors to headers and parts, one write behind the other.
    fn point(&mut self, octets: &[u8]) {
        self.vectors.clear();
        for write in &self.writes {
            self.vectors.push(vector(&write.header));
            let parts = self.places[write.places.clone()].iter();
            self.vectors
                .extend(parts.map(|place| vector(&octets[place.clone()])));
        }
    }
}

/// Writes one packet without the ring; whether the kernel took it.
fn write_alone(tun: &TunQueue, vectors: &[iovec]) -> bool {
    // SAFETY: the vectors point to octets that live through the call.
    let result = unsafe { libc::writev(tun.as_fd().as_raw_fd(), vectors.as_ptr(), vectors.len() as _) };
    result >= 0
}

/// The kernel only reads what is written.
fn vector(data: &[u8]) -> iovec {
    iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, recv, setsockopt, socketpair, sockopt,
    };

    use super::*;
    use crate::dataplane::offload::Coalescer;
    use crate::io::tun::Offload;

    fn pair() -> (TunQueue, OwnedFd) {
        let (tun, core) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_NONBLOCK,
        )
        .expect("a pair");
        let offload = Offload {
            header: true,
            ..Offload::default()
        };
        (TunQueue::new(tun, offload), core)
    }

    /// Packets of no protocol that is coalesced, one octet longer each; and where they are.
    fn packets(count: usize) -> (Vec<u8>, Coalescer) {
        let mut coalescer = Coalescer::new(true, true);
        let mut octets = Vec::new();
        for at in 0..count {
            let start = octets.len();
            octets.resize(start + 1 + at, at as u8);
            coalescer.add(&octets, start..start + 1 + at);
        }
        (octets, coalescer)
    }

    /// Writes so many packets by one ring, as often as needed.
    fn write(ring: &mut WriteRing, tun: &TunQueue, count: usize) -> Written {
        let (mut octets, mut coalescer) = packets(count);
        let mut written = Written::default();
        while let Some(large) = coalescer.take(&mut octets) {
            if ring.is_full(&large) {
                written += ring.write(tun, &octets);
            }
            ring.add(&large);
        }
        written += ring.write(tun, &octets);
        written
    }

    fn ring() -> WriteRing {
        WriteRing::new().expect("io_uring is permitted where the tests run")
    }

    #[test]
    fn packets_arrive_whole_and_in_order_each_behind_its_header() {
        let ((tun, core), mut ring) = (pair(), ring());
        for count in [1, 5, WRITES, 2 * WRITES + 3] {
            let expected = Written {
                taken: count as u64,
                refused: 0,
            };
            assert_eq!(write(&mut ring, &tun, count), expected);
            let mut buffer = [0; 1000];
            for at in 0..count {
                let length = recv(core.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("it was written");
                assert_eq!(buffer[..VNET_HEADER], [0; VNET_HEADER]);
                assert_eq!(buffer[VNET_HEADER..length], vec![at as u8; 1 + at]);
            }
            assert!(recv(core.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_err());
            assert!(!ring.is_broken());
        }
    }

    #[test]
    fn what_has_no_room_is_refused_and_later_packets_are_taken() {
        let ((tun, core), mut ring) = (pair(), ring());
        setsockopt(&tun, sockopt::SndBuf, &4096).expect("less is always allowed");
        let written = write(&mut ring, &tun, WRITES);
        assert!(written.taken > 0 && written.refused > 0, "{written:?}");
        assert_eq!(written.taken + written.refused, WRITES as u64);
        let mut buffer = [0; 1000];
        let arrived = std::iter::from_fn(|| recv(core.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok());
        assert_eq!(arrived.count() as u64, written.taken);
        assert_eq!(write(&mut ring, &tun, 2).taken, 2);
        drop(core);
        assert!(!ring.is_broken());
        assert_eq!(write(&mut ring, &tun, 5), Written { taken: 0, refused: 5 });
    }

    /// A file that knows no write that does not wait, as TUN queues before Linux 6.4.
    #[test]
    fn what_the_ring_cannot_write_is_written_without() {
        let file = std::fs::File::options()
            .write(true)
            .open("/proc/thread-self/comm")
            .expect("procfs");
        let (tun, mut ring) = (TunQueue::new(file.into(), Offload::default()), ring());
        let expected = Written { taken: 5, refused: 0 };
        assert_eq!(write(&mut ring, &tun, 5), expected);
        assert!(ring.is_broken());
        let comm = std::fs::read("/proc/thread-self/comm").expect("procfs");
        assert_eq!(comm, [4, 4, 4, 4, 4, b'\n']);
    }
}
