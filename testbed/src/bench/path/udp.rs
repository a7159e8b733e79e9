//! Packets a second of UDP in sessions, at a tolerable loss.

use std::time::{Duration, Instant};

use super::counter::{Arrived, Counter};
use super::cpu::Used;
use super::load::{Load, Sent};
use super::search::{Found, Search, Step};
use crate::lab::error::Result;

/// What arrives so long after the last packet was sent is late: a full buffer must not pass for a fast server.
const GRACE: Duration = Duration::from_millis(10);
/// Between two looks at a counter that has to come to rest, and how long that may take.
const REST: Duration = Duration::from_millis(15);
const REST_LIMIT: Duration = Duration::from_secs(3);

/// How long things are measured.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub step: Duration,
    /// At the rate found, for the processor time of a packet.
    pub steady: Duration,
}

/// Load in one direction, and how what arrives of it is counted.
#[derive(Debug)]
pub struct Path<'a> {
    pub load: Load,
    pub arrivals: &'a Counter,
    /// Octets that a datagram's UDP payload has more on arrival than when it was sent.
    pub growth: i64,
    /// The generator's cores.
    pub places: &'a [usize],
}

/// What a UDP cell found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UdpResult {
    pub found: Found,
    /// Nanoseconds of processor time a packet, at the rate found: the server in user space, in the kernel, and the machine
    /// without the generator's waiting.
    pub user_ns: f64,
    pub system_ns: f64,
    pub machine_ns: f64,
}

impl Path<'_> {
    /// Offers load at one rate; what was sent, and the part that was lost.
    pub fn step(&self, rate: f64, time: Duration) -> Result<(Sent, Step)> {
        let before = self.arrivals.read()?;
        let sent = self.load.run(self.places, rate, time)?;
        std::thread::sleep(GRACE);
        let arrived = self.arrivals.read()?.since(before);
        let expected = sent.payload as i64 + self.growth * sent.datagrams as i64;
        let loss = 1.0 - arrived.payload() as f64 / expected.max(1) as f64;
        self.rest()?;
        let offered = sent.datagrams as f64 / sent.seconds;
        Ok((
            sent,
            Step {
                offered,
                loss: loss.max(0.0),
            },
        ))
    }

    /// Waits until nothing arrives any more.
    fn rest(&self) -> Result<Arrived> {
        let deadline = Instant::now() + REST_LIMIT;
        let mut last = self.arrivals.read()?;
        loop {
            std::thread::sleep(REST);
            let now = self.arrivals.read()?;
            // A control message now and then does not count.
            if now.packets - last.packets <= 2 || Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Searches the rate.
    pub fn search(&self, times: Times) -> Result<Found> {
        // Neighbours are resolved, caches are warm, and the rate under overload says where to look.
        self.step(1000.0, times.step / 4)?;
        let (_, overload) = self.step(f64::INFINITY, times.step)?;
        let mut search = Search::new(overload.offered * (1.0 - overload.loss) * 0.8);
        while let Some(rate) = search.poll_rate() {
            let (_, step) = self.step(rate, times.step)?;
            search.handle_step(step);
        }
        Ok(search.found())
    }

    /// Searches the rate and measures the processor time a packet at it.
    pub fn measure(&self, server: u32, times: Times) -> Result<UdpResult> {
        let found = self.search(times)?;
        let before = Used::now(server)?;
        let (sent, _) = self.step(found.rate.max(1000.0), times.steady)?;
        let used = Used::now(server)?.since(before);
        let a_packet = |seconds: f64| seconds * 1e9 / sent.datagrams.max(1) as f64;
        Ok(UdpResult {
            found,
            user_ns: a_packet(used.user),
            system_ns: a_packet(used.system),
            machine_ns: a_packet((used.machine - sent.user_seconds).max(0.0)),
        })
    }
}
