//! What everybody on this node has to know of groups that are about to go to another one, and the orders between nodes about them.
//!
//! When a group may go is decided in [`crate::lns::handover`], and carried out by the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use crate::lns::handover::Phase;

/// Of each group: how many of its tunnels have something under way, and its phase if it is about to go.
#[derive(Debug)]
pub struct Departures {
    under_way: [AtomicU32; 256],
    phases: [AtomicU8; 256],
}

const STAYS: u8 = 0;
const FINISHES: u8 = 1;
const HOLDS_CALLS: u8 = 2;
const LEAVES: u8 = 3;

impl Default for Departures {
    fn default() -> Self {
        Self {
            under_way: std::array::from_fn(|_| AtomicU32::new(0)),
            phases: std::array::from_fn(|_| AtomicU8::new(STAYS)),
        }
    }
}

impl Departures {
    /// The group is about to go. `false` if it was already: somebody else looks after it.
    pub fn claim(&self, group: u8) -> bool {
        let phase = &self.phases[usize::from(group)];
        phase.compare_exchange(STAYS, FINISHES, Relaxed, Relaxed).is_ok()
    }

    /// By whoever has claimed it.
    pub fn set_phase(&self, group: u8, phase: Phase) {
        let phase = match phase {
            Phase::Finishing { holds_calls: false } => FINISHES,
            Phase::Finishing { holds_calls: true } => HOLDS_CALLS,
            Phase::Leaving => LEAVES,
        };
        self.phases[usize::from(group)].store(phase, Relaxed);
    }

    /// It is gone, or stays.
    pub fn release(&self, group: u8) {
        self.phases[usize::from(group)].store(STAYS, Relaxed);
    }

    /// Whether the group is about to go: nothing new shall get a place in it.
    pub fn is_going(&self, group: u8) -> bool {
        self.phases[usize::from(group)].load(Relaxed) != STAYS
    }

    /// Whether new calls wait for their answer.
    pub fn holds_calls(&self, group: u8) -> bool {
        matches!(
            self.phases[usize::from(group)].load(Relaxed),
            HOLDS_CALLS | LEAVES
        )
    }

    /// Whether what arrives is for the next owner.
    pub fn is_leaving(&self, group: u8) -> bool {
        self.phases[usize::from(group)].load(Relaxed) == LEAVES
    }

    /// Whether a tunnel of the group has something under way.
    pub fn has_under_way(&self, group: u8) -> bool {
        self.under_way[usize::from(group)].load(Relaxed) > 0
    }
}

/// One tunnel's word on whether it has something under way; dropped, it has nothing.
#[derive(Debug)]
pub struct Word {
    departures: Arc<Departures>,
    group: u8,
    under_way: bool,
}

impl Word {
    /// Nothing is under way yet.
    pub fn new(departures: Arc<Departures>, group: u8) -> Self {
        Self {
            departures,
            group,
            under_way: false,
        }
    }

    /// How it is now.
    pub fn set(&mut self, under_way: bool) {
        let count = &self.departures.under_way[usize::from(self.group)];
        match (self.under_way, under_way) {
            (false, true) => count.fetch_add(1, Relaxed),
            (true, false) => count.fetch_sub(1, Relaxed),
            (true, true) | (false, false) => return,
        };
        self.under_way = under_way;
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Said from node to node by `Frame::Order`. Who does not know it passes it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hand these groups of yours over.
    HandOver(HandOver),
    /// I am being stopped: give me nothing.
    Stopping,
}

/// Groups that are to be handed over by their owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOver {
    /// Which, in ascending order.
    pub groups: Vec<u8>,
    /// To whom, if that node can take them when the time comes.
    pub to: u64,
    /// The owner is being drained: somebody else shall lead, too.
    pub lead: bool,
}

/// First octets of the orders; a digest of the configuration begins with its version, 1, and has another length.
const HAND_OVER: u8 = 0xd0;
const STOPPING: u8 = 0xd1;

/// Octets of a set of groups, one bit each, the lowest first.
const GROUP_OCTETS: usize = 32;

impl Order {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let order = match self {
            Self::Stopping => return vec![STOPPING],
            Self::HandOver(order) => order,
        };
        let mut groups = [0; GROUP_OCTETS];
        for group in &order.groups {
            groups[usize::from(group / 8)] |= 1 << (group % 8);
        }
        let mut octets = vec![HAND_OVER, u8::from(order.lead)];
        octets.extend_from_slice(&order.to.to_be_bytes());
        octets.extend_from_slice(&groups);
        octets
    }

    /// As it came; `None` if it is another order, or makes no sense.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        match octets {
            [STOPPING] => Some(Self::Stopping),
            [HAND_OVER, lead @ (0 | 1), rest @ ..] => {
                let (to, groups) = rest.split_first_chunk::<8>()?;
                let groups: &[u8; GROUP_OCTETS] = groups.try_into().ok()?;
                let is_in = |group: &u8| groups[usize::from(group / 8)] >> (group % 8) & 1 == 1;
                Some(Self::HandOver(HandOver {
                    groups: (0..=u8::MAX).filter(is_in).collect(),
                    to: u64::from_be_bytes(*to),
                    lead: *lead == 1,
                }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_read_as_they_were_written_and_nothing_else_does() {
        let order = HandOver {
            groups: vec![0, 9, 255],
            to: 3,
            lead: true,
        };
        let octets = Order::HandOver(order.clone()).encode();
        let mut expected = vec![0xd0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0x01, 0x02];
        expected.extend([0; 29]);
        expected.push(0x80);
        assert_eq!(octets, expected);
        assert_eq!(Order::decode(&octets), Some(Order::HandOver(order)));
        assert_eq!(Order::decode(&Order::Stopping.encode()), Some(Order::Stopping));
        assert_eq!(Order::decode(&octets[..41]), None);
        assert_eq!(Order::decode(&[octets.as_slice(), &[0]].concat()), None);
        assert_eq!(Order::decode(&[0xd0, 0, 0, 9]), None, "a disconnect");
        assert_eq!(Order::decode(&[]), None);
    }

    #[test]
    fn a_group_is_claimed_by_one_and_its_tunnels_words_go_with_them() {
        let departures = Arc::new(Departures::default());
        assert!(departures.claim(7) && !departures.claim(7));
        assert!(departures.is_going(7) && !departures.holds_calls(7));
        departures.set_phase(7, Phase::Leaving);
        assert!(departures.is_leaving(7) && departures.holds_calls(7));
        let mut words = [(); 2].map(|()| Word::new(departures.clone(), 7));
        words.iter_mut().for_each(|word| word.set(true));
        words[0].set(true);
        words[0].set(false);
        assert!(departures.has_under_way(7));
        drop(words);
        assert!(!departures.has_under_way(7) && !departures.has_under_way(8));
        departures.release(7);
        assert!(departures.claim(7));
    }
}
