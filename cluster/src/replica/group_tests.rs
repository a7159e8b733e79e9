//! Three members in one process: the same path that a single node goes, with a transport that can be cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Output, Replica, ReplicaConfig, Transport};
use crate::log::MemoryLog;
use crate::testing::{create, take};

/// From, to and the message.
type Sent = (u64, u64, Vec<u8>);

#[derive(Clone, Debug, Default)]
struct Wire {
    messages: Arc<Mutex<VecDeque<Sent>>>,
}

#[derive(Debug)]
struct Port {
    from: u64,
    wire: Wire,
}

impl Transport for Port {
    fn send(&mut self, to: u64, message: Vec<u8>) {
        self.wire
            .messages
            .lock()
            .expect("one thread")
            .push_back((self.from, to, message));
    }
}

struct Group {
    nodes: BTreeMap<u64, Replica>,
    dead: BTreeSet<u64>,
    wire: Wire,
    now: Duration,
}

impl Group {
    fn new() -> Self {
        let wire = Wire::default();
        let open = |node_id| {
            let config = ReplicaConfig {
                node_id,
                members: vec![1, 2, 3],
                boot: node_id,
            };
            let port = Port {
                from: node_id,
                wire: wire.clone(),
            };
            let log = MemoryLog::with_snapshots(20);
            (node_id, Replica::open_with(config, log, port).expect("opens").0)
        };
        let nodes = (1..=3).map(open).collect();
        Self {
            nodes,
            dead: BTreeSet::new(),
            wire,
            now: Duration::ZERO,
        }
    }

    /// One tick of 10 ms, and then messages to and fro until all is quiet.
    fn tick(&mut self) {
        self.now += Duration::from_millis(10);
        for (_, node) in self.nodes.iter_mut().filter(|(id, _)| !self.dead.contains(id)) {
            node.tick(self.now, Duration::ZERO).expect("ticks");
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            for (_, node) in self.nodes.iter_mut().filter(|(id, _)| !self.dead.contains(id)) {
                node.advance().expect("advances");
            }
            let Some((from, to, message)) = self.wire.messages.lock().expect("one thread").pop_front() else {
                return;
            };
            if !self.dead.contains(&from) && !self.dead.contains(&to) {
                self.nodes
                    .get_mut(&to)
                    .expect("a member")
                    .receive(&message)
                    .expect("decodes");
            }
        }
    }

    fn leader(&self) -> Option<u64> {
        let living = self.nodes.iter().filter(|(id, _)| !self.dead.contains(id));
        living
            .filter(|(_, node)| node.leadership().is_self)
            .map(|(id, _)| *id)
            .next()
    }

    /// Ticks until there is a leader that all living follow; how many it took.
    fn elect(&mut self) -> u32 {
        for ticks in 0..200 {
            if let Some(leader) = self.leader() {
                let living = self.nodes.iter().filter(|(id, _)| !self.dead.contains(id));
                if living
                    .into_iter()
                    .all(|(_, node)| node.leadership().leader == Some(leader))
                {
                    return ticks;
                }
            }
            self.tick();
        }
        panic!("no leader after 2 s");
    }

    fn accepted(&mut self, node: u64) -> Vec<u64> {
        let node = self.nodes.get_mut(&node).expect("a member");
        let outputs = std::iter::from_fn(|| node.poll_output());
        let accepted = outputs.filter_map(|output| match output {
            Output::Verdict { token, verdict } if verdict.is_accepted() => Some(token),
            _ => None,
        });
        accepted.collect()
    }
}

#[test]
fn the_lowest_rank_is_elected_and_a_followers_proposal_comes_back_to_it() {
    let mut group = Group::new();
    let ticks = group.elect();
    assert_eq!(group.leader(), Some(1));
    assert!((25..=30).contains(&ticks), "{ticks} ticks of 10 ms");
    let follower = group.nodes.get_mut(&3).expect("a member");
    follower.propose(5, take(0..256, 3, 1).into()).expect("room");
    group.settle();
    assert_eq!(group.accepted(3), [5]);
    assert_eq!(group.accepted(1), [], "a token is its proposer's own");
    for _ in 0..10 {
        group.tick();
    }
    let digests: BTreeSet<u64> = group.nodes.values().map(|node| node.table().digest()).collect();
    assert_eq!(digests.len(), 1);
}

#[test]
fn the_group_outlives_its_leader_and_the_late_one_gets_a_snapshot() {
    let mut group = Group::new();
    group.elect();
    group.dead.insert(1);
    // The others notice after an election time of silence.
    for _ in 0..40 {
        group.tick();
    }
    group.elect();
    let leader = group.leader().expect("elected");
    assert_ne!(leader, 1);
    let node = group.nodes.get_mut(&leader).expect("a member");
    node.propose(0, take(0..256, leader, 1).into()).expect("room");
    group.settle();
    for id in 0x0301..0x0321 {
        let node = group.nodes.get_mut(&leader).expect("a member");
        node.propose(u64::from(id), create(id).into()).expect("room");
        group.settle();
    }
    assert_eq!(group.accepted(leader).len(), 33);

    group.dead.remove(&1);
    for _ in 0..100 {
        group.tick();
    }
    group.elect();
    for _ in 0..20 {
        group.tick();
    }
    let replaced = Output::Effect(crate::Effect::TableReplaced);
    let late = group.nodes.get_mut(&1).expect("a member");
    assert!(std::iter::from_fn(|| late.poll_output()).any(|output| output == replaced));
    let digests: BTreeSet<u64> = group.nodes.values().map(|node| node.table().digest()).collect();
    assert_eq!(digests.len(), 1);
    assert_eq!(group.nodes[&1].table().tunnel_count(), 32);
}

#[test]
fn a_proposal_whose_leader_is_gone_is_given_up() {
    let mut group = Group::new();
    group.elect();
    group.dead.insert(1);
    let node = group.nodes.get_mut(&2).expect("a member");
    node.propose(5, take(0..256, 2, 1).into()).expect("room");
    group.settle();
    for _ in 0..60 {
        group.tick();
    }
    group.elect();
    assert_eq!(group.accepted(2), [], "it vanished on its way to the dead leader");
    let node = group.nodes.get_mut(&2).expect("a member");
    node.propose(6, take(0..256, 2, 1).into()).expect("room");
    for _ in 0..20 {
        group.tick();
    }
    assert_eq!(group.accepted(2), [6], "and the next one goes through");
}
