//! Packets a second of UDP in sessions, at a tolerable loss.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use super::bed::{Bed, CORE, SINK};
use super::cell::{Direction, Sending, Size};
use super::counter::{Arrived, Counter};
use super::cpu::Used;
use super::load::{Lane, Load, Message};
use super::packet::{ENCAPSULATION, HEADERS, data_message, udp};
use super::search::{Found, Search, Step};
use super::sessions::{Sessions, Subscriber};
use super::steering::LacSockets;
use crate::lab::error::{LabError, Result, expect_that};
use crate::simulator::CallIds;

/// The port that subscribers have.
const SUBSCRIBER_PORT: u16 = 4000;
/// Where the core's load comes from.
const CORE_PORT: u16 = 4000;
/// Datagrams of one burst at most; the kernel's older limit.
const BURST: usize = 64;
/// Octets of one burst at most.
const BURST_OCTETS: usize = 65_000;
/// Messages of a lane at least, so that batches are full.
const ROUND: usize = 64;
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
    pub fn step(&self, rate: f64, time: Duration) -> Result<(super::load::Sent, Step)> {
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

/// What load looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub direction: Direction,
    pub sending: Sending,
    pub size: Size,
}

/// Load for these subscribers. `overhead`: octets that the server puts before an inner packet.
pub fn path<'a>(
    bed: &'a Bed,
    sessions: &Sessions,
    subscribers: &[Subscriber],
    shape: Shape,
    overhead: usize,
    places: &'a [usize],
) -> Result<Path<'a>> {
    expect_that(!subscribers.is_empty(), || "no sessions for the load".into())?;
    let lanes = match shape.direction {
        Direction::Up => up_lanes(&sessions.sockets, subscribers, shape)?,
        Direction::Down => vec![down_lane(bed, subscribers, shape)?],
    };
    let (arrivals, growth) = match shape.direction {
        Direction::Up => (&bed.at_core, -((ENCAPSULATION + HEADERS) as i64)),
        Direction::Down => (&bed.at_lac, (HEADERS + overhead) as i64),
    };
    let first = shape.size.sequence()[0];
    let datagram = match shape.direction {
        Direction::Up => ENCAPSULATION + first,
        Direction::Down => first - HEADERS,
    };
    let load = match shape.sending {
        Sending::Plain => Load {
            lanes,
            segment: None,
            datagrams: 1,
        },
        Sending::Gso => Load {
            lanes,
            segment: Some(u16::try_from(datagram).expect("a datagram of the load is short")),
            datagrams: burst(datagram) as u32,
        },
    };
    Ok(Path {
        load,
        arrivals,
        growth,
        places,
    })
}

/// Load straight through the kernel's own forwarding, no server: what generator, veths and counter can do.
pub fn bare_path<'a>(
    bed: &'a Bed,
    lacs: &[LacSockets],
    shape: Shape,
    places: &'a [usize],
) -> Result<Path<'a>> {
    // What a LAC sends and gets, or its sockets would not know it for load.
    let ids = CallIds {
        lac: 0,
        tunnel: 1,
        session: 1,
        peer_tunnel: 1,
        peer_session: 1,
    };
    let datagram = data_message(&ids, &udp(SINK, SINK, 0, shape.size.sequence()[0], &[]));
    let octets = datagram.len();
    let (namespace, to, arrivals) = match shape.direction {
        Direction::Up => (&bed.lac, SINK, &bed.at_core),
        Direction::Down => {
            let address = lacs[0]
                .load
                .local_addr()
                .map_err(|error| LabError::io("a LAC", error))?;
            let SocketAddr::V4(to) = address else {
                return Err(LabError::unmet("the LACs have IPv4 addresses"));
            };
            (&bed.core, to, &bed.at_lac)
        }
    };
    let datagrams = match shape.sending {
        Sending::Plain => 1,
        Sending::Gso => burst(octets),
    };
    let message = Message {
        octets: datagram.repeat(datagrams),
        to,
    };
    let lane = Lane {
        socket: sender(namespace, None)?,
        messages: vec![message; ROUND],
    };
    Ok(Path {
        load: Load {
            lanes: vec![lane],
            segment: (shape.sending == Sending::Gso).then_some(octets as u16),
            datagrams: datagrams as u32,
        },
        arrivals,
        growth: 0,
        places,
    })
}

/// Datagrams of a burst.
fn burst(octets: usize) -> usize {
    (BURST_OCTETS / octets).clamp(1, BURST)
}

/// A lane for each LAC that has one of these subscribers.
fn up_lanes(lacs: &[LacSockets], subscribers: &[Subscriber], shape: Shape) -> Result<Vec<Lane>> {
    let mut lanes = Vec::new();
    for (number, lac) in lacs.iter().enumerate() {
        let own = subscribers
            .iter()
            .filter(|subscriber| usize::from(subscriber.ids.lac) == number);
        let own: Vec<&Subscriber> = own.collect();
        if own.is_empty() {
            continue;
        }
        let datagram = |subscriber: &Subscriber, octets| {
            let source = SocketAddrV4::new(subscriber.address, SUBSCRIBER_PORT);
            data_message(&subscriber.ids, &udp(source, SINK, 0, octets, &[]))
        };
        let socket = lac
            .load
            .try_clone()
            .map_err(|source| LabError::io("a LAC's socket", source))?;
        lanes.push(Lane {
            socket,
            messages: messages(&own, shape, |subscriber, octets| Message {
                octets: datagram(subscriber, octets),
                to: super::bed::SERVER,
            }),
        });
    }
    Ok(lanes)
}

fn down_lane(bed: &Bed, subscribers: &[Subscriber], shape: Shape) -> Result<Lane> {
    let all: Vec<&Subscriber> = subscribers.iter().collect();
    Ok(Lane {
        socket: sender(&bed.core, Some(CORE_PORT))?,
        messages: messages(&all, shape, |subscriber, octets| Message {
            octets: vec![0; octets - HEADERS],
            to: SocketAddrV4::new(subscriber.address, SUBSCRIBER_PORT),
        }),
    })
}

/// One message after the other, of one subscriber after the other, in the sizes of the shape.
fn messages(
    subscribers: &[&Subscriber],
    shape: Shape,
    datagram: impl Fn(&Subscriber, usize) -> Message,
) -> Vec<Message> {
    let sizes = shape.size.sequence();
    let whole_rounds = ROUND.div_ceil(subscribers.len() * sizes.len()).max(1);
    let count = subscribers.len() * sizes.len() * whole_rounds;
    let single = |number: usize| {
        let round = number / subscribers.len();
        // Every subscriber gets every size.
        let size = sizes[(number + round) % sizes.len()];
        datagram(subscribers[number % subscribers.len()], size)
    };
    let message = |number: usize| {
        let mut message = single(number);
        if shape.sending == Sending::Gso {
            message.octets = message.octets.repeat(burst(message.octets.len()));
        }
        message
    };
    (0..count).map(message).collect()
}

/// A socket to send from in the core or as a LAC that nobody knows.
fn sender(namespace: &crate::lab::namespace::Namespace, port: Option<u16>) -> Result<UdpSocket> {
    let bound = namespace.enter(|| UdpSocket::bind(("0.0.0.0", port.unwrap_or(0))))?;
    bound.map_err(|source| LabError::io("a socket in the core", source))
}

/// Sends one packet each way and sees that it arrives unharmed; the octets that the server puts before a packet on its way
/// down.
pub fn overhead(bed: &Bed, sessions: &Sessions) -> Result<usize> {
    const PAYLOAD: &[u8] = b"one packet that is looked at in full";
    let io = |source| LabError::io("the packet that is looked at", source);
    let subscriber = sessions
        .subscribers
        .first()
        .ok_or_else(|| LabError::unmet("no session is up"))?;
    let lac = &sessions.sockets[usize::from(subscriber.ids.lac)];
    let core = bed
        .core
        .enter(|| UdpSocket::bind((CORE, CORE_PORT)))?
        .map_err(io)?;
    core.set_read_timeout(Some(Duration::from_secs(2))).map_err(io)?;
    let (inside, outside) = (
        SocketAddrV4::new(subscriber.address, SUBSCRIBER_PORT),
        SocketAddrV4::new(CORE, CORE_PORT),
    );
    let packet = udp(inside, outside, 0, 0, PAYLOAD);
    lac.load
        .send_to(&data_message(&subscriber.ids, &packet), super::bed::SERVER)
        .map_err(io)?;
    let mut buffer = [0; 2048];
    let (length, from) = core.recv_from(&mut buffer).map_err(io)?;
    expect_that(
        &buffer[..length] == PAYLOAD && from == SocketAddr::V4(inside),
        || format!("the core got {:02x?} from {from}", &buffer[..length]),
    )?;

    lac.receive_load().map_err(io)?;
    core.send_to(PAYLOAD, inside).map_err(io)?;
    let deadline = Instant::now() + Duration::from_secs(2);
    let length = loop {
        match lac.load.recv(&mut buffer) {
            Ok(length) => break length,
            Err(error) if Instant::now() > deadline => return Err(io(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    lac.drop_load().map_err(io)?;
    expect_that(buffer[..length].ends_with(PAYLOAD), || {
        format!("the LAC got {:02x?}", &buffer[..length])
    })?;
    length
        .checked_sub(HEADERS + PAYLOAD.len())
        .ok_or_else(|| LabError::unmet("the LAC got a packet without headers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(lac: u16, session: u16) -> Subscriber {
        Subscriber {
            ids: CallIds {
                lac,
                tunnel: 1,
                session,
                peer_tunnel: 2,
                peer_session: session,
            },
            address: [100, 64, 0, session as u8].into(),
        }
    }

    fn shape(sending: Sending, size: Size) -> Shape {
        Shape {
            direction: Direction::Down,
            sending,
            size,
        }
    }

    fn message(subscriber: &Subscriber, octets: usize) -> Message {
        Message {
            octets: vec![subscriber.ids.session as u8; octets],
            to: SINK,
        }
    }

    #[test]
    fn plain_load_goes_round_the_sessions() {
        let all = [subscriber(0, 1), subscriber(0, 2), subscriber(0, 3)];
        let all: Vec<&Subscriber> = all.iter().collect();
        let messages = messages(&all, shape(Sending::Plain, Size::Octets(64)), message);
        assert!(messages.len() >= ROUND && messages.len().is_multiple_of(3));
        let firsts: Vec<u8> = messages.iter().take(4).map(|message| message.octets[0]).collect();
        assert_eq!(firsts, [1, 2, 3, 1]);
        assert!(messages.iter().all(|message| message.octets.len() == 64));
    }

    #[test]
    fn a_burst_is_of_one_session_and_fits_a_datagram() {
        let all = [subscriber(0, 1)];
        let all: Vec<&Subscriber> = all.iter().collect();
        for (octets, datagrams) in [(64, 64), (1400, 46)] {
            let messages = messages(&all, shape(Sending::Gso, Size::Octets(octets)), message);
            assert_eq!(messages[0].octets.len(), usize::from(octets) * datagrams);
        }
    }

    #[test]
    fn every_subscriber_gets_the_whole_mix() {
        let all: Vec<Subscriber> = (1..=24).map(|session| subscriber(0, session)).collect();
        let all: Vec<&Subscriber> = all.iter().collect();
        let messages = messages(&all, shape(Sending::Plain, Size::Mix), message);
        let of_first = messages.iter().filter(|message| message.octets[0] == 1);
        let sizes: Vec<usize> = of_first.map(|message| message.octets.len()).collect();
        let count = |octets| sizes.iter().filter(|size| **size == octets).count();
        assert_eq!([count(64), count(576), count(1400)], [7, 4, 1]);
    }
}
