//! Detectors in a world of virtual time: loss, delay, stalls, partitions in one direction, clocks of different
//! rates, and elections at any moment. The safety of leases is checked after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Liveness, Members, Output, View, WayToLacs};
use crate::table::Group;

/// Splitmix64: a seed is a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A node, its clock, and whether its process runs.
struct Node {
    liveness: Liveness,
    view: View,
    /// Its clock's reading at the world's zero, and its rate in thousandths.
    offset: Duration,
    rate: u64,
    /// The process does nothing before then; `MAX`: it is dead.
    asleep_until: Duration,
}

impl Node {
    fn clock(&self, now: Duration) -> Duration {
        self.offset + Duration::from_micros(micros(now) * self.rate / 1_000)
    }
}

struct World {
    now: Duration,
    random: Random,
    nodes: BTreeMap<u64, Node>,
    /// By time of arrival and order of sending: from, to, octets.
    network: BTreeMap<(Duration, u64), (u64, u64, Vec<u8>)>,
    sent: u64,
    loss_percent: u64,
    delay_max_ms: u64,
    /// Directions in which nothing passes.
    cut: BTreeSet<(u64, u64)>,
    /// When, who, of whom.
    downs: Vec<(Duration, u64, u64)>,
    applied: u64,
    judged: u64,
    /// How often a leader gave away what a node without a way to the LACs owned. Only in worlds in which ways are lost.
    given_away: u64,
    ways_are_lost: bool,
}

const STEP: Duration = Duration::from_millis(5);

impl World {
    fn new(seed: u64, size: u64) -> Self {
        let mut random = Random(seed);
        let nodes = (1..=size).map(|id| (id, node(id, size, &mut random))).collect();
        let mut world = Self {
            now: Duration::ZERO,
            random,
            nodes,
            network: BTreeMap::new(),
            sent: 0,
            loss_percent: 5,
            delay_max_ms: 50,
            cut: BTreeSet::new(),
            downs: Vec::new(),
            applied: 0,
            judged: 0,
            given_away: 0,
            ways_are_lost: false,
        };
        (1..=size).for_each(|id| world.show(id, 1, 1));
        world
    }

    fn show(&mut self, id: u64, leader: u64, term: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if term >= node.view.term {
            node.view = View {
                leader,
                term,
                applied: self.applied,
                last: self.applied,
                incarnation: id,
            };
            node.liveness.set_view(node.clock(self.now), node.view);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// The timers first or the messages first: a process that wakes finds both.
    fn step(&mut self) {
        self.now += STEP;
        let timers_first = self.random.below(2) == 0;
        if timers_first {
            self.timers();
        }
        self.deliver();
        if !timers_first {
            self.timers();
        }
        self.check_leases();
        if self.ways_are_lost {
            self.give_away();
        }
    }

    /// Each node owns a group, always: whoever leads gives away what belongs to those without a way, again and again. None of
    /// these is fresh then, the leader itself included.
    fn give_away(&mut self) {
        let owned = |id: &u64| Group {
            owner: *id,
            epoch: 1,
            incarnation: *id,
        };
        let groups: Vec<Group> = self.nodes.keys().map(owned).collect();
        for judge in self.nodes.keys().copied().collect::<Vec<_>>() {
            let node = self.nodes.get_mut(&judge).expect("a node");
            if node.asleep_until > self.now {
                continue;
            }
            let (clock, term) = (node.clock(self.now), node.view.term);
            let due = node.liveness.reassign(clock, &groups, &BTreeSet::new());
            for from in due.iter().filter(|due| due.steps_aside).map(|due| due.from) {
                let judged = &self.nodes[&from];
                let fresh = judged.liveness.fresh_until().expect("not a group of one");
                self.given_away += 1;
                assert!(
                    judged.view.term > term || fresh <= judged.clock(self.now),
                    "{:?}: node {judge} gives away what node {from} owns, which is fresh until {fresh:?} of its clock, now {:?}",
                    self.now,
                    judged.clock(self.now),
                );
            }
        }
    }

    fn timers(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let node = self.nodes.get_mut(&id).expect("a node");
            if node.asleep_until > self.now {
                continue;
            }
            let clock = node.clock(self.now);
            node.liveness.handle_timeout(clock);
            self.drain(id);
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.network.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let (_, (from, to, octets)) = entry.remove_entry();
            let node = self.nodes.get_mut(&to).expect("a node");
            if node.asleep_until == Duration::MAX {
                continue;
            }
            if node.asleep_until > self.now {
                // It waits in the socket.
                self.sent += 1;
                self.network
                    .insert((node.asleep_until, self.sent), (from, to, octets));
                continue;
            }
            let clock = node.clock(self.now);
            node.liveness
                .handle_message(clock, from, &octets)
                .expect("a member's message");
            self.drain(to);
        }
    }

    fn drain(&mut self, id: u64) {
        while let Some(output) = self.nodes.get_mut(&id).expect("a node").liveness.poll_output() {
            match output {
                Output::Send { to, octets } => self.send(id, to, octets),
                Output::Down(node) => self.downs.push((self.now, id, node)),
                Output::Back(_) | Output::Lonely(_) => {}
            }
        }
    }

    fn send(&mut self, from: u64, to: u64, octets: Vec<u8>) {
        if self.cut.contains(&(from, to)) || self.random.below(100) < self.loss_percent {
            return;
        }
        self.sent += 1;
        let delay = Duration::from_micros(self.random.below(self.delay_max_ms * 1_000 + 1));
        self.network
            .insert((self.now + delay, self.sent), (from, to, octets));
    }

    /// Whom a leader may replace is not fresh by that leader's term or an older one. (What a newer leader
    /// grants, it grants behind whatever the old one committed.)
    fn check_leases(&mut self) {
        for (judge, node) in &self.nodes {
            let Some(judgement) = node.liveness.judgement(node.clock(self.now)) else {
                continue;
            };
            for down in judgement.down.keys() {
                let judged = &self.nodes[down];
                let fresh = judged.liveness.fresh_until().expect("not a group of one");
                let harmless = judged.asleep_until == Duration::MAX || judged.view.term > node.view.term;
                self.judged += 1;
                assert!(
                    harmless || fresh <= judged.clock(self.now),
                    "{:?}: node {judge} replaces node {down}, which is fresh until {fresh:?} of its clock, now {:?}",
                    self.now,
                    judged.clock(self.now),
                );
            }
        }
    }

    /// Entries are committed; all but the cut off apply them.
    fn commit(&mut self, except: &[u64]) {
        self.applied += 1;
        let applied = self.applied;
        for (id, node) in &mut self.nodes {
            if !except.contains(id) && node.asleep_until <= self.now {
                node.view.applied = applied;
                node.view.last = applied;
                node.liveness.set_view(node.clock(self.now), node.view);
            }
        }
    }
}

/// Clocks begin anywhere and differ by up to 2 % in their rates.
fn node(id: u64, size: u64, random: &mut Random) -> Node {
    let offset = Duration::from_millis(random.below(1_000_000));
    Node {
        liveness: Liveness::new(id, id, Members::voting(1..=size), offset),
        view: View::default(),
        offset,
        rate: 980 + random.below(41),
        asleep_until: Duration::ZERO,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a short run")
}

fn lose_a_twentieth(seconds: u64) {
    for (seed, size) in [(1, 3), (2, 5)] {
        let mut world = World::new(seed, size);
        for _ in 0..seconds {
            world.run(Duration::from_secs(1));
            world.commit(&[]);
        }
        assert_eq!(world.downs, [], "seed {seed}");
    }
}

#[test]
fn loss_of_a_twentieth_takes_nobody_for_dead() {
    lose_a_twentieth(120);
}

#[test]
#[ignore = "minutes, in release"]
fn loss_of_a_twentieth_takes_nobody_for_dead_for_hours() {
    lose_a_twentieth(4 * 3_600);
}

#[test]
fn a_death_is_seen_by_all_within_450_ms() {
    for seed in 0..200 {
        let size = 3 + 2 * (seed % 2);
        let mut world = World::new(seed, size);
        world.run(Duration::from_millis(1_000 + seed % 97));
        let victim = 1 + seed % size;
        world.nodes.get_mut(&victim).expect("a node").asleep_until = Duration::MAX;
        let death = world.now;
        world.run(Duration::from_millis(450));
        let seen: BTreeSet<u64> = world.downs.iter().map(|(_, judge, _)| *judge).collect();
        assert_eq!(
            seen.len() as u64,
            size - 1,
            "seed {seed}: {:?} after {death:?}",
            world.downs
        );
        assert!(
            world.downs.iter().all(|(_, _, of)| *of == victim),
            "seed {seed}: {:?}",
            world.downs
        );
    }
}

#[test]
fn a_stalled_judge_takes_nobody_for_dead() {
    for seed in 0..50 {
        let mut world = World::new(seed, 3);
        world.run(Duration::from_secs(3));
        let judge = 1 + seed % 3;
        world.nodes.get_mut(&judge).expect("a node").asleep_until = world.now + Duration::from_secs(30);
        world.run(Duration::from_secs(40));
        assert!(
            world.downs.iter().all(|(_, by, of)| *by != judge && *of == judge),
            "seed {seed}: {:?}",
            world.downs
        );
        assert!(
            world
                .nodes
                .values()
                .all(|node| (1..=3).all(|id| node.liveness.is_alive(id))),
            "seed {seed}"
        );
    }
}

#[test]
fn who_hears_no_commits_is_not_alive() {
    let mut world = World::new(4, 3);
    for _ in 0..20 {
        world.run(Duration::from_millis(100));
        world.commit(&[3]);
    }
    assert!(!world.nodes[&1].liveness.is_alive(3) && world.nodes[&1].liveness.is_alive(2));
    world.commit(&[]);
    world.run(Duration::from_millis(300));
    assert!(world.nodes[&1].liveness.is_alive(3));
}

#[test]
fn who_hears_nothing_is_down_and_not_fresh() {
    for seed in 0..50 {
        let mut world = World::new(seed, 3);
        world.run(Duration::from_secs(3));
        world.cut = [(1, 3), (2, 3)].into();
        world.run(Duration::from_millis(1_000));
        assert!(!world.nodes[&1].liveness.is_alive(3), "seed {seed}");
        let judgement = world.nodes[&1]
            .liveness
            .judgement(world.nodes[&1].clock(world.now));
        assert!(
            judgement.is_some_and(|judgement| judgement.down.contains_key(&3)),
            "seed {seed}"
        );
        world.cut.clear();
        world.run(Duration::from_millis(500));
        assert!(world.nodes[&1].liveness.is_alive(3), "seed {seed}");
    }
}

/// Whatever happens, nobody is replaced while it is fresh. Elections ignore raft's own timers, which is harder.
#[test]
fn nobody_is_replaced_while_it_is_fresh() {
    let mut judged = 0;
    for seed in 0..50 {
        let size = 3 + 2 * (seed % 2);
        let mut world = World::new(seed, size);
        world.delay_max_ms = 1 + seed % 30;
        let mut term = 1;
        for _ in 0..60 {
            disturb(&mut world, size, &mut term);
            let time = 10 + world.random.below(600);
            world.run(Duration::from_millis(time));
        }
        judged += world.judged;
    }
    assert!(judged > 500, "the runs judged nobody: {judged}");
}

/// The same of those who live and have lost their way to the LACs.
#[test]
fn nobody_without_a_way_loses_its_groups_while_it_is_fresh() {
    let mut given_away = 0;
    for seed in 0..50 {
        let size = 3 + 2 * (seed % 2);
        let mut world = World::new(seed, size);
        world.ways_are_lost = true;
        world.delay_max_ms = 1 + seed % 30;
        let mut term = 1;
        for _ in 0..60 {
            let one = 1 + world.random.below(size);
            let lost = world.random.below(2) == 0;
            world
                .nodes
                .get_mut(&one)
                .expect("a node")
                .liveness
                .set_way(WayToLacs { lost, in_doubt: lost });
            if world.random.below(3) == 0 {
                disturb(&mut world, size, &mut term);
            }
            let time = 10 + world.random.below(600);
            world.run(Duration::from_millis(time));
        }
        given_away += world.given_away;
    }
    assert!(given_away > 500, "the runs gave nothing away: {given_away}");
}

fn disturb(world: &mut World, size: u64, term: &mut u64) {
    let one = 1 + world.random.below(size);
    let other = 1 + world.random.below(size);
    match world.random.below(8) {
        0 => world.cut.clear(),
        1 => {
            world.cut.insert((one, other));
        }
        2 => world.cut.extend((1..=size).flat_map(|id| [(id, one), (one, id)])),
        3 => {
            let stall = Duration::from_millis(world.random.below(2_000));
            world.nodes.get_mut(&one).expect("a node").asleep_until = world.now + stall;
        }
        4 => world.commit(&[one]),
        5 => world.commit(&[]),
        _ => elect(world, size, one, term),
    }
}

/// A bare majority learns of the new leader, one after another; the rest keep the old one.
fn elect(world: &mut World, size: u64, leader: u64, term: &mut u64) {
    *term += 1;
    world.show(leader, leader, *term);
    let mut voters = 1;
    let first = world.random.below(size);
    for voter in (0..size)
        .map(|rank| 1 + (first + rank) % size)
        .filter(|voter| *voter != leader)
    {
        if voters <= size / 2 {
            let wait = world.random.below(40);
            world.run(Duration::from_millis(wait));
            world.show(voter, leader, *term);
            voters += 1;
        }
    }
}
