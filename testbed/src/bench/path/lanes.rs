//! What the generator sends: lanes of prepared messages for some subscribers, or for the kernel's own forwarding.
//!
//! *Plain* load is single datagrams on the wire. Where all of a lane have one size and one destination the sender hands them
//! to its kernel in trains, which cuts them before the veth: so they come to the server's interface as from a network card
//! that interrupts once for some packets, not once for each. A veth without that polls for every single packet, and
//! receive offload, which works within one poll, would never find two. *GSO* load crosses the veth uncut.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};

use super::bed::{Bed, SERVER, SINK};
use super::cell::{Direction, Sending, Size};
use super::load::{Lane, Load, Message};
use super::packet::{ENCAPSULATION, HEADERS, data_message, udp};
use super::sessions::{Sessions, Subscriber};
use super::steering::LacSockets;
use super::udp::Path;
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::namespace::Namespace;
use crate::simulator::CallIds;

/// The port that subscribers have.
pub const SUBSCRIBER_PORT: u16 = 4000;
/// Where the core's load comes from.
pub const CORE_PORT: u16 = 4000;
/// Datagrams of one burst at most; the kernel's older limit.
const BURST: usize = 64;
/// Octets of one burst at most.
const BURST_OCTETS: usize = 65_000;
/// Datagrams of a lane at least, so that batches are full.
const ROUND: usize = 64;

/// What load looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub direction: Direction,
    pub sending: Sending,
    pub size: Size,
    /// Datagrams of a train of plain load.
    pub train: usize,
}

impl Shape {
    /// How many datagrams, of so many subscribers, leave in one message.
    fn datagrams(self, subscribers: usize, octets: usize) -> usize {
        let one_destination = self.direction == Direction::Up || subscribers == 1;
        match (self.sending, self.size) {
            (Sending::Gso, _) => burst(octets),
            (Sending::Plain, Size::Octets(_)) if one_destination => self.train.clamp(1, burst(octets)),
            (Sending::Plain, _) => 1,
        }
    }

    /// Octets of a datagram when it is sent.
    fn octets(self) -> usize {
        let inner = self.size.sequence()[0];
        match self.direction {
            Direction::Up => ENCAPSULATION + inner,
            Direction::Down => inner - HEADERS,
        }
    }
}

fn load(lanes: Vec<Lane>, octets: usize, datagrams: usize) -> Load {
    Load {
        lanes,
        segment: (datagrams > 1).then(|| u16::try_from(octets).expect("a datagram of the load is short")),
        datagrams: datagrams as u32,
    }
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
    bed.set_sender_segmentation(shape.sending == Sending::Gso)?;
    // A LAC's lane has some of the subscribers, the core's all of them.
    let datagrams = shape.datagrams(subscribers.len(), shape.octets());
    let load = load(lanes, shape.octets(), datagrams);
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
    bed.set_sender_segmentation(shape.sending == Sending::Gso)?;
    let datagrams = shape.datagrams(1, octets);
    let message = Message {
        octets: datagram.repeat(datagrams),
        to,
    };
    let lane = Lane {
        socket: sender(namespace, None)?,
        messages: vec![message; ROUND],
    };
    Ok(Path {
        load: load(vec![lane], octets, datagrams),
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
                to: SERVER,
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

/// One datagram after the other, of one subscriber after the other, in the sizes of the shape; as many of them in a message
/// as the shape has it. A burst is of one subscriber.
fn messages(
    subscribers: &[&Subscriber],
    shape: Shape,
    datagram: impl Fn(&Subscriber, usize) -> Message,
) -> Vec<Message> {
    let sizes = shape.size.sequence();
    let together = shape.datagrams(subscribers.len(), shape.octets());
    let single = |number: usize| {
        let round = number / subscribers.len();
        // Every subscriber gets every size.
        let size = sizes[(number + round) % sizes.len()];
        datagram(subscribers[number % subscribers.len()], size)
    };
    let cycle = subscribers.len() * sizes.len();
    if shape.sending == Sending::Gso {
        let burst = |number| {
            let Message { octets, to } = single(number);
            Message {
                octets: octets.repeat(together),
                to,
            }
        };
        return (0..cycle * (ROUND / together).max(1)).map(burst).collect();
    }
    // Whole cycles and whole trains.
    let cycles = (1..).find(|cycles| cycle * cycles >= ROUND && (cycle * cycles).is_multiple_of(together));
    let count = cycle * cycles.expect("a train's length of cycles is a whole number of trains");
    let train = |first: usize| {
        let parts = (first..first + together).map(single);
        parts.reduce(|mut train, part| {
            train.octets.extend(part.octets);
            train
        })
    };
    (0..count).step_by(together).filter_map(train).collect()
}

/// A socket to send from in the core or as a LAC that nobody knows.
fn sender(namespace: &Namespace, port: Option<u16>) -> Result<UdpSocket> {
    let bound = namespace.enter(|| UdpSocket::bind(("0.0.0.0", port.unwrap_or(0))))?;
    bound.map_err(|source| LabError::io("a socket in the core", source))
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

    fn shape(direction: Direction, sending: Sending, size: Size) -> Shape {
        Shape {
            direction,
            sending,
            size,
            train: 16,
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
        let messages = messages(
            &all,
            shape(Direction::Down, Sending::Plain, Size::Octets(64)),
            message,
        );
        assert!(messages.len() >= ROUND && messages.len().is_multiple_of(3));
        let firsts: Vec<u8> = messages.iter().take(4).map(|message| message.octets[0]).collect();
        assert_eq!(firsts, [1, 2, 3, 1]);
        assert!(messages.iter().all(|message| message.octets.len() == 64));
    }

    #[test]
    fn a_burst_is_of_one_session_and_fits_a_datagram() {
        let all = [subscriber(0, 1)];
        let all: Vec<&Subscriber> = all.iter().collect();
        for (octets, datagrams) in [(64, 64), (1400, 47)] {
            let shape = shape(Direction::Down, Sending::Gso, Size::Octets(octets));
            let payload = usize::from(octets) - HEADERS;
            let messages = messages(&all, shape, |subscriber, octets| {
                message(subscriber, octets - HEADERS)
            });
            assert_eq!(messages[0].octets.len(), payload * datagrams);
            assert!(payload * datagrams <= BURST_OCTETS);
        }
    }

    #[test]
    fn plain_load_of_one_destination_leaves_in_trains() {
        let all = [subscriber(0, 1), subscriber(0, 2), subscriber(0, 3)];
        let all: Vec<&Subscriber> = all.iter().collect();
        let up = shape(Direction::Up, Sending::Plain, Size::Octets(64));
        let trains = messages(&all, up, message);
        assert!(trains.len() >= ROUND / 16);
        assert!(trains.iter().all(|train| train.octets.len() == 16 * 64));
        let sessions: Vec<u8> = trains
            .iter()
            .flat_map(|train| train.octets.chunks(64))
            .map(|one| one[0])
            .collect();
        assert!(
            sessions
                .iter()
                .zip([1, 2, 3].iter().cycle())
                .all(|(got, expected)| got == expected)
        );
        assert!(sessions.len().is_multiple_of(3));
        let single = Shape { train: 1, ..up };
        assert!(
            messages(&all, single, message)
                .iter()
                .all(|message| message.octets.len() == 64)
        );
    }

    #[test]
    fn every_subscriber_gets_the_whole_mix() {
        let all: Vec<Subscriber> = (1..=24).map(|session| subscriber(0, session)).collect();
        let all: Vec<&Subscriber> = all.iter().collect();
        let messages = messages(&all, shape(Direction::Down, Sending::Plain, Size::Mix), message);
        let of_first = messages.iter().filter(|message| message.octets[0] == 1);
        let sizes: Vec<usize> = of_first.map(|message| message.octets.len()).collect();
        let count = |octets| sizes.iter().filter(|size| **size == octets).count();
        assert_eq!([count(64), count(576), count(1400)], [7, 4, 1]);
    }
}
