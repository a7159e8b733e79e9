//! Two connections on virtual time, joined by a network that loses, repeats and reorders by a seed.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod scripted;

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_protocol::header::{self, Packet};
use holdfast_protocol::message::{Iccn, Icrq, Message, Sccrq};
use holdfast_protocol::{Connection, Dial, Event, SessionId, Settings, TunnelId};

/// xorshift64*: small, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a path does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Percent lost.
    pub loss: u64,
    /// Percent delivered twice.
    pub duplicates: u64,
    /// Least and most delay; different delays reorder.
    pub delay_ms: (u64, u64),
}

pub const CLEAN: Path = Path {
    loss: 0,
    duplicates: 0,
    delay_ms: (5, 5),
};
pub const LOSSY: Path = Path {
    loss: 5,
    duplicates: 2,
    delay_ms: (1, 60),
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Lac,
    Lns,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Lac => Self::Lns,
            Self::Lns => Self::Lac,
        }
    }
}

/// A LAC and an LNS with one tunnel. Progress is accepted `commit_delay` after it was made.
pub struct Pair {
    pub now: Duration,
    pub lac: Connection,
    pub lns: Option<Connection>,
    pub lns_settings: Settings,
    pub events: Vec<(Duration, Side, Event)>,
    pub path: Path,
    pub random: Random,
    /// Set to stop a side's gate from opening.
    pub withheld: Option<Side>,
    in_flight: BTreeMap<(Duration, u64), (Side, Vec<u8>)>,
    sent: u64,
    /// Whether the LNS takes calls: it does, under the id of the peer's plus 1000.
    pub takes_calls: bool,
}

pub fn tunnel(id: u16) -> TunnelId {
    TunnelId::new(id).expect("not zero")
}

pub fn session(id: u16) -> SessionId {
    SessionId::new(id).expect("not zero")
}

pub fn dial(serial: u32) -> Dial {
    Dial {
        icrq: Icrq {
            assigned_session_id: session(1),
            call_serial: serial,
            bearer_type: None,
            physical_channel: None,
            calling_number: Some(b"4930123456".to_vec()),
            called_number: None,
            sub_address: None,
            vendor_avps: Vec::new(),
        },
        iccn: Iccn {
            tx_speed: 100_000_000,
            framing_type: 1,
            ..Iccn::default()
        },
    }
}

/// The id under which the LNS of a [`Pair`] takes the peer's call.
pub fn answer_id(peer: SessionId) -> SessionId {
    session(peer.get() + 1000)
}

impl Pair {
    pub fn new(lac: Settings, lns: Settings, path: Path, seed: u64) -> Self {
        let now = Duration::from_secs(100);
        Self {
            now,
            lac: Connection::initiate(lac, now, tunnel(0x1001)),
            lns: None,
            lns_settings: lns,
            events: Vec::new(),
            path,
            random: Random::new(seed),
            withheld: None,
            in_flight: BTreeMap::new(),
            sent: 0,
            takes_calls: true,
        }
    }

    pub fn lns(&mut self) -> &mut Connection {
        self.lns.as_mut().expect("the SCCRQ has arrived")
    }

    /// Runs until `end` or until nothing is left to happen.
    pub fn run_until(&mut self, end: Duration) {
        self.settle();
        while let Some(next) = self.next_time().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            let now = self.now;
            while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now) {
                let (to, octets) = entry.remove();
                self.arrive(to, &octets);
                self.settle();
            }
            self.lac.handle_timeout(now);
            if let Some(lns) = &mut self.lns {
                lns.handle_timeout(now);
            }
            self.settle();
        }
        self.now = self.now.max(end);
    }

    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    fn next_time(&self) -> Option<Duration> {
        let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
        let lns = self.lns.as_ref().and_then(Connection::poll_timeout);
        [arrival, self.lac.poll_timeout(), lns]
            .into_iter()
            .flatten()
            .min()
    }

    fn arrive(&mut self, to: Side, octets: &[u8]) {
        let now = self.now;
        match (to, &mut self.lns) {
            (Side::Lac, _) => drop(self.lac.handle_input(now, octets)),
            (Side::Lns, Some(lns)) => drop(lns.handle_input(now, octets)),
            (Side::Lns, None) => self.lns = respond(&self.lns_settings, now, octets),
        }
    }

    /// Drains events, commits, and puts what may leave onto the path.
    pub fn settle(&mut self) {
        self.settle_side(Side::Lac);
        self.settle_side(Side::Lns);
    }

    fn settle_side(&mut self, side: Side) {
        let now = self.now;
        let withheld = self.withheld == Some(side);
        let connection = match side {
            Side::Lac => Some(&mut self.lac),
            Side::Lns => self.lns.as_mut(),
        };
        let Some(connection) = connection else { return };
        while let Some(event) = connection.poll_event() {
            if let (Event::CallRequested { peer, .. }, true) = (&event, self.takes_calls) {
                connection
                    .accept_call(now, *peer, answer_id(*peer))
                    .expect("the call is new");
            }
            self.events.push((now, side, event));
        }
        if !withheld {
            connection.accept(now, connection.progress());
        }
        let mut out = Vec::new();
        while let Some(octets) = connection.poll_transmit(now) {
            out.push(octets);
        }
        for octets in out {
            self.transmit(side.other(), octets);
        }
    }

    fn transmit(&mut self, to: Side, octets: Vec<u8>) {
        if self.random.chance(self.path.loss) {
            return;
        }
        let copies = if self.random.chance(self.path.duplicates) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let (least, most) = self.path.delay_ms;
            let delay = Duration::from_millis(least + self.random.below(most - least + 1));
            self.sent += 1;
            self.in_flight
                .insert((self.now + delay, self.sent), (to, octets.clone()));
        }
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, _, event)| wanted(event)).count()
    }
}

/// An LNS's answer to a first datagram, if that is an SCCRQ.
pub fn respond(settings: &Settings, now: Duration, octets: &[u8]) -> Option<Connection> {
    let Ok(Packet::Control(packet)) = header::decode(octets) else {
        return None;
    };
    let sccrq = decode_sccrq(packet.body)?;
    Connection::respond(settings.clone(), now, tunnel(0x2002), &sccrq).ok()
}

pub fn decode_sccrq(body: &[u8]) -> Option<Sccrq> {
    match Message::decode(body, &Default::default()) {
        Ok(Message::Sccrq(sccrq)) => Some(sccrq),
        _ => None,
    }
}
