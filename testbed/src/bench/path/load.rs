//! The generator: threads that send prepared messages at a rate, all of them plain datagrams or all of them GSO bursts.

use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use nix::sys::time::TimeVal;

use super::cores;
use crate::lab::error::{LabError, Result};

/// Messages in one sendmmsg at most, single datagrams: a router's train on one link is no longer.
const BATCH: usize = 16;
/// The same of bursts, which are trains themselves.
const BATCH_OF_BURSTS: usize = 1;

/// What one socket sends, round and round.
#[derive(Debug)]
pub struct Lane {
    pub socket: UdpSocket,
    pub messages: Vec<Message>,
}

/// What one message to the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub octets: Vec<u8>,
    pub to: SocketAddrV4,
}

/// All that is sent in one measurement.
#[derive(Debug)]
pub struct Load {
    pub lanes: Vec<Lane>,
    /// Octets of each datagram of a burst; absent: each message is one datagram.
    pub segment: Option<u16>,
    /// Datagrams of a message.
    pub datagrams: u32,
}

/// What the generator did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sent {
    pub datagrams: u64,
    /// Octets of UDP payload.
    pub payload: u64,
    pub seconds: f64,
    /// Of the generator's threads in user space, which is mostly waiting for the next moment to send.
    pub user_seconds: f64,
}

impl Load {
    /// Sends at `rate` datagrams a second from one thread on each of `places`; infinity for as fast as it goes.
    pub fn run(&self, places: &[usize], rate: f64, time: Duration) -> Result<Sent> {
        let barrier = Barrier::new(places.len());
        let share = rate / places.len() as f64;
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = places
                .iter()
                .enumerate()
                .map(|(number, core)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        let pinned = cores::pin(&[*core]);
                        let mut sender = Sender::new(self, number);
                        barrier.wait();
                        pinned?;
                        sender.run(share, number as f64 / places.len() as f64, time)
                    })
                })
                .collect();
            let joined = threads
                .into_iter()
                .map(|thread| thread.join().expect("a generator does not panic"));
            joined.collect::<Result<Vec<Sent>>>()
        })?;
        let sum = |of: fn(&Sent) -> u64| results.iter().map(of).sum();
        Ok(Sent {
            datagrams: sum(|sent| sent.datagrams),
            payload: sum(|sent| sent.payload),
            seconds: results.iter().map(|sent| sent.seconds).fold(0.0, f64::max),
            user_seconds: results.iter().map(|sent| sent.user_seconds).sum(),
        })
    }
}

/// One socket's messages as the system call takes them.
struct Prepared<'a> {
    socket: i32,
    slices: Vec<[IoSlice<'a>; 1]>,
    addresses: Vec<Option<SockaddrIn>>,
    next: usize,
}

/// One thread of the generator.
struct Sender<'a> {
    lanes: Vec<Prepared<'a>>,
    lane: usize,
    headers: MultiHeaders<SockaddrIn>,
    segment: Option<u16>,
    datagrams: u32,
}

impl<'a> Sender<'a> {
    /// Threads begin at different places of the round.
    fn new(load: &'a Load, number: usize) -> Self {
        let prepare = |lane: &'a Lane| Prepared {
            socket: lane.socket.as_raw_fd(),
            slices: lane
                .messages
                .iter()
                .map(|message| [IoSlice::new(&message.octets)])
                .collect(),
            addresses: lane
                .messages
                .iter()
                .map(|message| Some(SockaddrIn::from(message.to)))
                .collect(),
            next: number * BATCH % lane.messages.len(),
        };
        let space = load.segment.map(|_| cmsg_space!(u16));
        Self {
            lanes: load.lanes.iter().map(prepare).collect(),
            lane: number % load.lanes.len(),
            headers: MultiHeaders::preallocate(BATCH, space),
            segment: load.segment,
            datagrams: load.datagrams,
        }
    }

    /// `behind`: the part of the time between two messages by which the first one is put off, so that threads are out of step.
    fn run(&mut self, rate: f64, behind: f64, time: Duration) -> Result<Sent> {
        let batch = self.segment.map_or(BATCH, |_| BATCH_OF_BURSTS);
        let messages_a_second = rate / f64::from(self.datagrams);
        let user_before = user_seconds();
        let start = Instant::now();
        let (mut messages, mut payload) = (0u64, 0u64);
        let mut elapsed = 0.0;
        while elapsed < time.as_secs_f64() {
            let due = (messages_a_second * elapsed + 1.0 - behind) as u64;
            let due = due.saturating_sub(messages).min(batch as u64) as usize;
            if due == 0 {
                std::hint::spin_loop();
            } else {
                let (count, octets) = self.send(due)?;
                messages += count;
                payload += octets;
            }
            elapsed = start.elapsed().as_secs_f64();
        }
        Ok(Sent {
            datagrams: messages * u64::from(self.datagrams),
            payload,
            seconds: elapsed,
            user_seconds: user_seconds() - user_before,
        })
    }

    /// Sends up to `wanted` messages of the next lane; how many, and their octets.
    fn send(&mut self, wanted: usize) -> Result<(u64, u64)> {
        let turn = self.lane;
        self.lane = (turn + 1) % self.lanes.len();
        let lane = &mut self.lanes[turn];
        let end = (lane.next + wanted).min(lane.slices.len());
        let (slices, addresses) = (&lane.slices[lane.next..end], &lane.addresses[lane.next..end]);
        let control = self.segment.as_ref().map(ControlMessage::UdpGsoSegments);
        let sent = sendmmsg(
            lane.socket,
            &mut self.headers,
            slices,
            addresses,
            control.as_slice(),
            MsgFlags::empty(),
        );
        let count = match sent {
            Ok(results) => results.count(),
            // The queue is full for a moment.
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ENOBUFS) => 0,
            Err(error) => return Err(LabError::io("sendmmsg", error.into())),
        };
        let octets = slices[..count].iter().map(|slice| slice[0].len() as u64).sum();
        lane.next = (lane.next + count) % lane.slices.len();
        Ok((count as u64, octets))
    }
}

/// Of the calling thread.
fn user_seconds() -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0.0, |usage| seconds(usage.user_time()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(to: SocketAddrV4, messages: usize, octets: usize) -> Lane {
        let message = Message {
            octets: vec![7; octets],
            to,
        };
        Lane {
            socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
            messages: vec![message; messages],
        }
    }

    #[test]
    fn everything_that_is_counted_arrives() {
        for (segment, datagrams, octets) in [(None, 1, 100), (Some(100), 5, 500)] {
            let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
            sink.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let std::net::SocketAddr::V4(to) = sink.local_addr().unwrap() else {
                unreachable!("bound to an IPv4 address")
            };
            let load = Load {
                lanes: vec![lane(to, 3, octets), lane(to, 2, octets)],
                segment,
                datagrams,
            };
            let core = cores::allowed().unwrap()[0];
            let sent = load.run(&[core], 1000.0, Duration::from_millis(50)).unwrap();
            assert!(sent.datagrams >= 5);
            assert_eq!(sent.payload, sent.datagrams * 100);
            let mut buffer = [0; 2000];
            let received = std::iter::from_fn(|| sink.recv(&mut buffer).ok());
            assert!(received.eq((0..sent.datagrams).map(|_| 100)));
        }
    }
}
