//! Nodes that take groups from each other, a server that loses most of what it gets and is dead for a while, and proposals that vanish.
//! In the end the server has heard of each session: a Start before its Stop, interims between them, octets that never fall.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::tests::{interim, ms, owed, traffic, tunnel};
use super::*;

const NODES: usize = 3;
const SESSIONS: u16 = 12;

#[derive(Clone, Copy, Debug)]
enum Step {
    Open(u16),
    Close(u16),
    Interim(u16),
    /// The next request under way somewhere arrives (or not), and its answer does (or not).
    Deliver {
        which: usize,
        arrives: bool,
        returns: bool,
    },
    /// The group of a session goes to another node, whose predecessor may have died.
    Move {
        group: u8,
        to: usize,
        dies: bool,
    },
    Acknowledge {
        accepted: bool,
    },
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = || 0..SESSIONS;
    let step = prop_oneof![
        4 => session().prop_map(Step::Open),
        3 => session().prop_map(Step::Close),
        4 => session().prop_map(Step::Interim),
        12 => (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(which, arrives, returns)| Step::Deliver { which, arrives, returns }),
        1 => (0u8..4, 0..NODES, any::<bool>()).prop_map(|(group, to, dies)| Step::Move { group, to, dies }),
        4 => any::<bool>().prop_map(|accepted| Step::Acknowledge { accepted }),
        4 => (0u64..3_000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..300)
}

/// A session, its name and how far it is.
#[derive(Clone, Debug, Default)]
struct Call {
    life: u32,
    is_open: bool,
    octets: u64,
}

struct Flight {
    node: usize,
    key: Key,
    request: Request,
}

#[derive(Default)]
struct World {
    now: Duration,
    nodes: Vec<Sender>,
    owners: [usize; 4],
    table: BTreeMap<u64, Arc<Owed>>,
    next: u64,
    calls: Vec<Call>,
    flights: Vec<Flight>,
    asked: VecDeque<(usize, Vec<u64>)>,
    /// What the server heard: by session, kind and octets in order.
    heard: BTreeMap<String, Vec<(char, u64, u64)>>,
    moved: bool,
}

impl World {
    fn new() -> Self {
        Self {
            nodes: (0..NODES).map(|_| Sender::default()).collect(),
            calls: vec![Call::default(); usize::from(SESSIONS)],
            ..Self::default()
        }
    }

    fn tunnel_of(session: u16) -> u16 {
        (session % 4) << 8 | 1
    }

    fn owner_of(&self, session: u16) -> usize {
        self.owners[usize::from(session % 4)]
    }

    fn name(&self, session: u16) -> String {
        format!("{session}.{}", self.calls[usize::from(session)].life)
    }

    fn owe(&mut self, session: u16, kind: AccountingKind) {
        let record = owed(self.next, kind, &self.name(session), Self::tunnel_of(session));
        self.table.insert(self.next, record.clone());
        let owner = self.owner_of(session);
        self.nodes[owner].owe(self.now, &record, Some("isp"));
        if kind == AccountingKind::Stop {
            // As the table keeps it, the first word counts.
            let told = traffic(self.calls[usize::from(session)].octets);
            let mut record = Owed::clone(&record);
            record.traffic = Some(told);
            self.table.insert(self.next, Arc::new(record));
            self.nodes[owner].finalize(self.next, told);
        }
        self.next += 1;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open(session) => {
                let call = &mut self.calls[usize::from(session)];
                if !call.is_open {
                    (call.is_open, call.octets) = (true, 0);
                    call.life += 1;
                    self.owe(session, AccountingKind::Start);
                }
            }
            Step::Close(session) => {
                let call = &mut self.calls[usize::from(session)];
                if std::mem::take(&mut call.is_open) {
                    call.octets += 1;
                    self.owe(session, AccountingKind::Stop);
                }
            }
            Step::Interim(session) => {
                let call = &mut self.calls[usize::from(session)];
                call.octets += 1;
                let octets = call.octets;
                if call.is_open {
                    let (owner, name) = (self.owner_of(session), self.name(session));
                    self.nodes[owner].interim("isp", interim(&name, octets));
                }
            }
            Step::Deliver {
                which,
                arrives,
                returns,
            } if !self.flights.is_empty() => {
                let flight = self.flights.swap_remove(which % self.flights.len());
                self.land(&flight, arrives, returns);
            }
            Step::Deliver { .. } => {}
            Step::Move { group, to, dies } => self.move_group(group, to, dies),
            Step::Acknowledge { accepted } => {
                if let Some((node, sequences)) = self.asked.pop_front() {
                    if accepted {
                        sequences
                            .iter()
                            .for_each(|sequence| drop(self.table.remove(sequence)));
                    }
                    self.nodes[node].acknowledged(self.now, &sequences, accepted);
                }
            }
            Step::Pass(time) => self.now += ms(time),
        }
        self.poll();
    }

    fn move_group(&mut self, group: u8, to: usize, dies: bool) {
        let from = std::mem::replace(&mut self.owners[usize::from(group)], to);
        if from == to {
            return;
        }
        self.moved = true;
        if dies {
            self.nodes[from] = Sender::default();
            self.flights.retain(|flight| flight.node != from);
            self.asked.retain(|(node, _)| *node != from);
            for owner in &mut self.owners {
                if *owner == from {
                    *owner = to;
                }
            }
        }
        let owners = self.owners;
        let is_own = |node: usize| move |tunnel: TunnelId| owners[usize::from(tunnel.group())] == node;
        self.nodes[from].retain(is_own(from));
        for record in self.table.values().filter(|record| is_own(to)(record.tunnel)) {
            self.nodes[to].owe(self.now, record, Some("isp"));
        }
    }

    fn land(&mut self, flight: &Flight, arrives: bool, returns: bool) {
        if arrives {
            let (name, what) = match &flight.request {
                Request::Owed(owed, None) => (&owed.session, ('+', owed.sequence, 0)),
                Request::Owed(owed, Some(traffic)) => {
                    (&owed.session, ('-', owed.sequence, traffic.input_octets))
                }
                Request::Interim(interim) => (&interim.session, ('=', 0, interim.traffic.input_octets)),
                Request::On { .. } | Request::Off { .. } => unreachable!("nobody announces here"),
            };
            self.heard
                .entry(name.acct_session_id.clone())
                .or_default()
                .push(what);
        }
        let node = &mut self.nodes[flight.node];
        match arrives && returns {
            true => node.answered(self.now, flight.key),
            false => node.unanswered(self.now, flight.key),
        }
    }

    fn poll(&mut self) {
        for (node, sender) in self.nodes.iter_mut().enumerate() {
            while let Some(command) = sender.poll_output(self.now) {
                match command {
                    Command::Send { key, request, .. } => self.flights.push(Flight { node, key, request }),
                    Command::Acknowledge(sequences) => self.asked.push_back((node, sequences)),
                }
            }
            assert!(sender.under_way.len() <= WINDOW);
        }
    }

    /// The server is well and everything arrives.
    fn settle(&mut self) {
        for session in 0..SESSIONS {
            self.step(Step::Close(session));
        }
        for _ in 0..2_000 {
            while let Some(flight) = self.flights.pop() {
                self.land(&flight, true, true);
            }
            self.step(Step::Acknowledge { accepted: true });
            self.step(Step::Pass(40_000));
        }
        assert!(self.table.is_empty(), "not delivered: {:?}", self.table.keys());
        for sender in &self.nodes {
            assert_eq!((sender.waiting(), sender.poll_timeout()), (0, None));
            assert!(sender.lines.is_empty() && sender.under_way.is_empty() && sender.interims.is_empty());
        }
    }

    fn check(&self) {
        for (name, heard) in &self.heard {
            let of = |kind| heard.iter().filter(move |(heard, ..)| *heard == kind);
            let starts: BTreeSet<_> = of('+').collect();
            let stops: BTreeSet<_> = of('-').collect();
            assert_eq!(
                (starts.len(), stops.len()),
                (1, 1),
                "{name}: one of each, or the same again: {heard:?}"
            );
            let first = |kind| heard.iter().position(|(heard, ..)| *heard == kind);
            assert!(first('+') < first('-'), "{name}: {heard:?}");
            if !self.moved {
                let octets: Vec<_> = heard.iter().map(|(.., octets)| *octets).collect();
                assert!(octets.is_sorted(), "{name}: octets fall: {heard:?}");
                assert!(
                    heard.iter().rposition(|(kind, ..)| *kind == '=') < first('-'),
                    "{name}: {heard:?}"
                );
            }
        }
        let lives: u32 = self.calls.iter().map(|call| call.life).sum();
        assert_eq!(
            self.heard.len(),
            lives as usize,
            "sessions that the server never heard of"
        );
    }
}

proptest! {
    #[test]
    fn the_server_hears_of_each_session_what_happened(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check();
    }
}

#[test]
fn the_groups_of_the_simulation_are_those_of_its_tunnels() {
    assert!((0..SESSIONS).all(|session| {
        usize::from(tunnel(World::tunnel_of(session)).group()) == usize::from(session % 4)
    }));
}
