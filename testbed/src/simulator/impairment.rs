//! A bad network on demand: loss, duplication and reordering, from a seed.
//!
//! Pure: what passes is handed on at once, what is delayed waits in a heap until its time. A delayed datagram is
//! overtaken by those behind it, which is what reordering means here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// Delayed datagrams a direction at most; more are passed on at once.
const MAX_DELAYED: usize = 65_536;

/// What the network does to datagrams, each direction on its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Impairment {
    /// Datagrams lost, percent.
    #[arg(long, default_value_t = 0.0)]
    pub loss: f64,
    /// Datagrams delivered twice, percent.
    #[arg(long, default_value_t = 0.0)]
    pub duplication: f64,
    /// Datagrams delayed and thereby overtaken, percent.
    #[arg(long, default_value_t = 0.0)]
    pub reordering: f64,
    /// The longest such delay, milliseconds.
    #[arg(long, default_value_t = 20)]
    pub delay_ms: u64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            delay_ms: 20,
        }
    }
}

impl Impairment {
    /// Whether datagrams may arrive twice or out of order.
    pub fn repeats(&self) -> bool {
        self.duplication > 0.0 || self.reordering > 0.0
    }
}

/// One direction of the impaired network, carrying items of type `T`.
#[derive(Debug)]
pub struct Link<T> {
    impairment: Impairment,
    rng: StdRng,
    delayed: BinaryHeap<Reverse<Delayed<T>>>,
    offered: u64,
    /// Datagrams dropped on purpose.
    pub dropped: u64,
}

impl<T: Clone> Link<T> {
    /// A direction with the given faults, drawn from `seed`.
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            impairment,
            rng,
            delayed: BinaryHeap::new(),
            offered: 0,
            dropped: 0,
        }
    }

    /// Changes the faults; what is under way keeps its time.
    pub fn set(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    /// Sends `item` through: `pass` gets what arrives at once (nothing, one, or two copies).
    pub fn offer(&mut self, now: Duration, item: T, mut pass: impl FnMut(T)) {
        if self.impairment == Impairment::default() {
            return pass(item);
        }
        self.offered += 1;
        if self.chance(self.impairment.loss) {
            self.dropped += 1;
            return;
        }
        if self.chance(self.impairment.duplication) {
            self.route(now, item.clone(), &mut pass);
        }
        self.route(now, item, &mut pass);
    }

    /// The next delayed item whose time has come.
    pub fn take_due(&mut self, now: Duration) -> Option<T> {
        let due = self.delayed.peek().is_some_and(|Reverse(next)| next.due <= now);
        due.then(|| self.delayed.pop().expect("just seen").0.item)
    }

    /// When the next delayed item is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.delayed.peek().map(|Reverse(next)| next.due)
    }

    fn route(&mut self, now: Duration, item: T, pass: &mut impl FnMut(T)) {
        if self.delayed.len() < MAX_DELAYED && self.chance(self.impairment.reordering) {
            let micros = self.rng.random_range(0..=self.impairment.delay_ms * 1000);
            let due = now + Duration::from_micros(micros);
            self.delayed.push(Reverse(Delayed {
                due,
                order: self.offered,
                item,
            }));
        } else {
            pass(item);
        }
    }

    fn chance(&mut self, percent: f64) -> bool {
        percent > 0.0 && self.rng.random_range(0.0..100.0) < percent
    }
}

/// Ordered by time, then by the order of sending, so that a seed gives one outcome.
#[derive(Debug)]
struct Delayed<T> {
    due: Duration,
    order: u64,
    item: T,
}

impl<T> PartialEq for Delayed<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl<T> Eq for Delayed<T> {}

impl<T> PartialOrd for Delayed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Delayed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(impairment: Impairment, seed: u64) -> Vec<u32> {
        let mut link = Link::new(impairment, seed);
        let mut arrived = Vec::new();
        for n in 0..10_000_u32 {
            let now = Duration::from_millis(u64::from(n));
            while let Some(late) = link.take_due(now) {
                arrived.push(late);
            }
            link.offer(now, n, |item| arrived.push(item));
        }
        while let Some(late) = link.take_due(Duration::MAX) {
            arrived.push(late);
        }
        arrived
    }

    #[test]
    fn a_good_network_passes_everything_in_order() {
        assert_eq!(run(Impairment::default(), 1), (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn loss_and_duplication_come_in_the_asked_share_and_repeat_with_the_seed() {
        let bad = Impairment {
            loss: 5.0,
            duplication: 2.0,
            reordering: 10.0,
            delay_ms: 20,
        };
        let arrived = run(bad, 7);
        assert!((9_500..9_900).contains(&arrived.len()), "{}", arrived.len());
        assert!(
            arrived.windows(2).any(|pair| pair[0] > pair[1]),
            "something is reordered"
        );
        assert_eq!(arrived, run(bad, 7));
        assert_ne!(arrived, run(bad, 8));
    }
}
