//! What carries datagrams: loss, duplication, reordering, delay, and ways that are cut, also in one direction.

use std::collections::BTreeMap;
use std::time::Duration;

use super::dice::Dice;
use super::setup::Weather;

/// After so long a silence a connection between nodes is given up.
const SILENCE: Duration = Duration::from_secs(2);
/// The kernel sends again what was lost on a connection.
const RETRANSMITTED: Duration = Duration::from_millis(200);

/// An end of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Node(u64),
    Lac(usize),
}

/// See the module.
#[derive(Debug)]
pub struct Network {
    inside: Weather,
    outside: Weather,
    /// Ways that carry nothing until a time, by their direction.
    cut: BTreeMap<(Place, Place), Duration>,
    /// The router's hash function has changed so often.
    shuffles: u64,
    dice: Dice,
    /// Over everything that was sent, in order: two runs of one seed have the same.
    digest: u64,
}

impl Network {
    pub fn new(inside: Weather, outside: Weather, dice: Dice) -> Self {
        Self {
            inside,
            outside,
            cut: BTreeMap::new(),
            shuffles: 0,
            dice,
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Nothing goes this way until a time.
    pub fn cut(&mut self, from: Place, to: Place, until: Duration) {
        let end = self.cut.entry((from, to)).or_default();
        *end = until.max(*end);
    }

    /// All ways are whole again and nothing gets lost any more.
    pub fn heal(&mut self) {
        self.cut.clear();
        for weather in [&mut self.inside, &mut self.outside] {
            (weather.loss, weather.duplication, weather.reordering) = (0, 0, 0);
        }
    }

    /// The router finds other ways for half of the flows.
    pub fn shuffle(&mut self) {
        self.shuffles += 1;
    }

    /// Which of the announcing nodes a LAC's flow goes to.
    pub fn route(&self, lac: usize, announcing: &[u64]) -> Option<u64> {
        let mut best = None;
        for node in announcing {
            let weight = fnv(
                &[lac as u64, *node, self.shuffles].map(u64::to_be_bytes).concat(),
                7,
            );
            best = best.max(Some((
                weight.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                *node,
            )));
        }
        best.map(|(_, node)| node)
    }

    /// Sends a datagram: how long each copy of it takes that arrives. Between nodes, streams are used for all but probes;
    /// those lose nothing, they are only late.
    pub fn send(
        &mut self,
        now: Duration,
        from: Place,
        to: Place,
        octets: &[u8],
        stream: bool,
    ) -> Vec<Duration> {
        self.note(now, from, to, octets);
        if let Some(left) = self.cut.get(&(from, to)).and_then(|until| until.checked_sub(now)) {
            // A connection outlives a short silence, and then brings what was said during it.
            let late = left + self.dice.between(Duration::ZERO, RETRANSMITTED);
            return if stream && left < SILENCE {
                vec![late]
            } else {
                Vec::new()
            };
        }
        let inside = matches!((from, to), (Place::Node(_), Place::Node(_)));
        let weather = if inside { self.inside } else { self.outside };
        let trip = self.dice.between(weather.least, weather.most);
        let lost = self.dice.happens(weather.loss);
        let twice = self.dice.happens(weather.duplication);
        let late = self.dice.happens(weather.reordering);
        match (stream, lost) {
            (true, true) => vec![trip + RETRANSMITTED],
            (false, true) => Vec::new(),
            (true, false) => vec![trip],
            (false, false) => {
                let mut copies = vec![if late { trip + weather.most } else { trip }];
                if twice {
                    copies.push(trip + weather.most * 2);
                }
                copies
            }
        }
    }

    fn note(&mut self, now: Duration, from: Place, to: Place, octets: &[u8]) {
        let place = |place| match place {
            Place::Node(node) => node << 1,
            Place::Lac(lac) => (lac as u64) << 1 | 1,
        };
        let head = [now.as_nanos() as u64, place(from), place(to)].map(u64::to_be_bytes);
        self.digest = fnv(octets, fnv(&head.concat(), self.digest));
    }
}

fn fnv(octets: &[u8], start: u64) -> u64 {
    octets.iter().fold(start, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
