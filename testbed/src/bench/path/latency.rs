//! How long a packet takes through the server: probes at a steady pace, alone or beside load.
//!
//! One thread sends and receives and never sleeps, so that waking it up is no part of what it measures.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::bed::{Bed, CORE, SERVER};
use super::cell::Direction;
use super::cores;
use super::packet::{data_message, udp};
use super::sessions::{Sessions, Subscriber};
use super::steering::PROBE_TOS;
use crate::lab::error::{LabError, Result};

/// Probes a second.
const PACE: u64 = 1000;
/// Probes before those that count.
const WARM_UP: usize = 100;
/// The ports of the probes, which the load does not use.
const PORT: u16 = 4701;
/// Octets of a probe's inner packet.
const OCTETS: usize = 64;
/// What has not come back by then is lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the probes found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
    /// Part of the probes that never came.
    pub lost: f64,
}

/// Where probes leave and where they arrive.
struct Way {
    from: UdpSocket,
    to: SocketAddrV4,
    at: UdpSocket,
    /// Of a probe with this number.
    datagram: Box<dyn Fn(u64) -> Vec<u8> + Send>,
}

/// Sends probes for a time from a thread on this core.
pub fn measure(
    bed: &Bed,
    sessions: &Sessions,
    direction: Direction,
    core: usize,
    time: Duration,
) -> Result<Latency> {
    let way = way(bed, sessions, direction)?;
    let count = usize::try_from(time.as_millis()).unwrap_or(usize::MAX) * PACE as usize / 1000;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            cores::pin(&[core])?;
            probe(&way, WARM_UP + count)
        });
        let delays = thread.join().expect("a probe does not panic")?;
        Ok(evaluate(&delays[WARM_UP..]))
    })
}

fn way(bed: &Bed, sessions: &Sessions, direction: Direction) -> Result<Way> {
    let io = |source| LabError::io("the probes' sockets", source);
    let subscriber = *sessions
        .subscribers
        .first()
        .ok_or_else(|| LabError::unmet("no session is up"))?;
    let lac = &sessions.sockets[usize::from(subscriber.ids.lac)];
    let core = bed.core.enter(|| UdpSocket::bind((CORE, PORT)))?.map_err(io)?;
    setsockopt(&core, sockopt::Ipv4Tos, &i32::from(PROBE_TOS)).map_err(|error| io(error.into()))?;
    core.set_nonblocking(true).map_err(io)?;
    let probe = lac.probe.try_clone().map_err(io)?;
    Ok(match direction {
        Direction::Up => Way {
            from: probe,
            to: SERVER,
            at: core,
            datagram: Box::new(move |number| uplink(&subscriber, number)),
        },
        Direction::Down => Way {
            from: core,
            to: SocketAddrV4::new(subscriber.address, PORT),
            at: probe,
            // The number stands at the end of the data message that this becomes.
            datagram: Box::new(|number| [vec![0; OCTETS - 36], number.to_be_bytes().to_vec()].concat()),
        },
    })
}

fn uplink(subscriber: &Subscriber, number: u64) -> Vec<u8> {
    let (source, destination) = (
        SocketAddrV4::new(subscriber.address, PORT),
        SocketAddrV4::new(CORE, PORT),
    );
    let payload = [vec![0; OCTETS - 36], number.to_be_bytes().to_vec()].concat();
    data_message(
        &subscriber.ids,
        &udp(source, destination, PROBE_TOS, OCTETS, &payload),
    )
}

/// The delay of each of so many probes; absent: lost.
fn probe(way: &Way, count: usize) -> Result<Vec<Option<Duration>>> {
    let io = |source| LabError::io("a probe", source);
    let mut sent: Vec<Instant> = Vec::with_capacity(count);
    let mut delays = vec![None; count];
    let mut buffer = [0; 2048];
    let start = Instant::now();
    let end = Duration::from_micros(1_000_000 / PACE) * count as u32 + PATIENCE;
    let mut datagram = (way.datagram)(0);
    while start.elapsed() < end {
        let due = start + Duration::from_micros(1_000_000 / PACE) * sent.len() as u32;
        if sent.len() < count && Instant::now() >= due {
            sent.push(Instant::now());
            match way.from.send_to(&datagram, way.to) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(io(error)),
            }
            datagram = (way.datagram)(sent.len() as u64);
        }
        let length = match way.at.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(io(error)),
        };
        let now = Instant::now();
        let number = buffer[..length]
            .last_chunk()
            .map(|octets| u64::from_be_bytes(*octets));
        let number = number.and_then(|number| usize::try_from(number).ok());
        if let Some((number, sent)) = number.and_then(|number| Some((number, sent.get(number)?))) {
            delays[number].get_or_insert(now - *sent);
        }
    }
    Ok(delays)
}

/// Percentiles by nearest rank; a lost probe counts as one that took for ever, as far as the percentile reaches it.
fn evaluate(delays: &[Option<Duration>]) -> Latency {
    let lost = delays.iter().filter(|delay| delay.is_none()).count();
    let mut micros: Vec<f64> = delays
        .iter()
        .map(|delay| delay.unwrap_or(PATIENCE).as_secs_f64() * 1e6)
        .collect();
    micros.sort_by(f64::total_cmp);
    let percentile = |part: f64| {
        let rank = (part * micros.len() as f64).ceil() as usize;
        micros.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    Latency {
        p50: percentile(0.5),
        p99: percentile(0.99),
        lost: lost as f64 / delays.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_what_was_lost() {
        let micros = |micros| Some(Duration::from_micros(micros));
        let mut delays: Vec<_> = (1..=98).map(micros).collect();
        delays.extend([None, None]);
        let latency = evaluate(&delays);
        assert_eq!(latency.p50, 50.0);
        assert_eq!(latency.p99, PATIENCE.as_secs_f64() * 1e6);
        assert_eq!(latency.lost, 0.02);
    }

    #[test]
    fn a_probe_carries_its_number_last() {
        let subscriber = Subscriber {
            ids: crate::simulator::CallIds {
                lac: 0,
                tunnel: 1,
                session: 1,
                peer_tunnel: 1,
                peer_session: 1,
            },
            address: [100, 64, 0, 2].into(),
        };
        let message = uplink(&subscriber, 0x0102);
        assert_eq!(message.len(), 10 + OCTETS);
        assert!(message.ends_with(&[0, 0, 0, 0, 0, 0, 1, 2]));
    }
}
