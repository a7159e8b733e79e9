//! A simple failure detector: who was heard lately is alive.

use std::collections::BTreeMap;
use std::time::Duration;

const ROUND: Duration = Duration::from_millis(40);
const SILENCE: Duration = Duration::from_millis(300);
const LEASE: Duration = Duration::from_millis(200);

/// What nodes say to each other of themselves.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub answer: bool,
    /// The prober's clock, which the answer repeats.
    pub sent: Duration,
    pub leader: u64,
    pub incarnation: u64,
}

#[derive(Debug)]
struct Peer {
    heard: Duration,
    incarnation: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Watch {
    me: u64,
    leader: u64,
    incarnation: u64,
    peers: BTreeMap<u64, Peer>,
    next_round: Duration,
    /// When the probe left that the leader acknowledged last.
    led: Duration,
    pub out: Vec<(u64, Probe)>,
}

impl Watch {
    pub fn new(me: u64, nodes: u64, now: Duration) -> Self {
        let peer = || Peer {
            heard: now,
            incarnation: 0,
        };
        Self {
            me,
            leader: 0,
            incarnation: 0,
            peers: (1..=nodes).filter(|node| *node != me).map(|node| (node, peer())).collect(),
            next_round: now,
            led: Duration::ZERO,
            out: Vec::new(),
        }
    }

    pub fn set_view(&mut self, leader: u64, incarnation: u64) {
        if leader != self.leader {
            self.led = Duration::ZERO;
        }
        (self.leader, self.incarnation) = (leader, incarnation);
    }

    pub fn handle_probe(&mut self, now: Duration, from: u64, probe: Probe) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.incarnation = probe.incarnation;
        if !probe.answer {
            let answer = Probe {
                answer: true,
                leader: self.leader,
                incarnation: self.incarnation,
                ..probe
            };
            return self.out.push((from, answer));
        }
        peer.heard = peer.heard.max(probe.sent);
        if now.saturating_sub(probe.sent) < LEASE && probe.leader == from && self.leader == from {
            self.led = self.led.max(probe.sent);
        }
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if now < self.next_round {
            return;
        }
        // A judge who was asleep has heard nobody, and that says nothing about them.
        let late = now.saturating_sub(self.next_round).saturating_sub(ROUND);
        self.next_round = now + ROUND;
        for (node, peer) in &mut self.peers {
            peer.heard += late;
            let probe = Probe {
                answer: false,
                sent: now,
                leader: self.leader,
                incarnation: self.incarnation,
            };
            self.out.push((*node, probe));
        }
        if self.leader == self.me {
            let mut heard: Vec<Duration> = self.peers.values().map(|peer| peer.heard).chain([now]).collect();
            heard.sort_unstable();
            self.led = heard[heard.len() / 2 - usize::from(heard.len() % 2 == 0)];
        }
    }

    /// Until when what needs no commit may be sent.
    pub fn fresh_until(&self) -> Duration {
        self.led + LEASE
    }

    pub fn is_alive(&self, now: Duration, node: u64) -> bool {
        node == self.me || self.peers.get(&node).is_some_and(|peer| now < peer.heard + SILENCE)
    }

    /// The incarnation that a node told of itself.
    pub fn incarnation(&self, node: u64) -> u64 {
        self.peers.get(&node).map_or(self.incarnation, |peer| peer.incarnation)
    }
}
