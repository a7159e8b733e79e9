//! Nodes, LACs with subscribers and the router between them, on virtual time.
//!
//! ```text
//!  Lac (Connection, Clients) <──> router (ECMP) <──> Machine (Process over SimulatedDisk) <──> other machines
//! ```
//!
//! Everything that happens is an entry of the agenda; a step handles one of them. What the parts tell of it are facts, on which
//! the invariants are checked after each step.

mod operator;
mod trouble;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holdfast_cluster::Table;
use holdfast_cluster::replica::Members;

use crate::sim::agenda::Agenda;
use crate::sim::dice::Dice;
use crate::sim::facts::{About, Fact};
use crate::sim::faults::Fault;
use crate::sim::lac::Lac;
use crate::sim::network::{Network, Place};
use crate::sim::node::{Arrival, Death, Machine, Out, Process, Wire};
use crate::sim::setup::Setup;
pub use operator::{Order, Request};

const TICK: Duration = Duration::from_millis(10);
/// How long the router goes on sending to a process that is dead (BFD).
const WITHDRAWN_DEAD: Duration = Duration::from_millis(40);
/// The same for one that is stopped, whose parent has to notice first.
const WITHDRAWN_STOPPED: Duration = Duration::from_millis(350);
/// The cluster is given so long to come up for the first time.
const FIRST_LACS: Duration = Duration::from_secs(3);

#[derive(Debug)]
enum Happening {
    Tick {
        node: u64,
        boot: u64,
    },
    AtNode {
        node: u64,
        arrival: Arrival,
    },
    Departure {
        node: u64,
        boot: u64,
        to: u64,
        wire: Wire,
    },
    AtLac {
        lac: usize,
        octets: Vec<u8>,
        about: About,
    },
    LacTimer(usize),
    /// The operator looks how far an order is.
    Operator,
    /// A node that was removed is switched off.
    Retire(u64),
    /// A process is killed and soon back.
    Kill(u64),
    Start(u64),
    Resume(u64),
    DiskRecovers(u64),
    /// Everybody does something of their own will.
    Bustle,
    /// The LACs begin to dial.
    Lacs,
    Trouble,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    setup: Setup,
    now: Duration,
    agenda: Agenda<Happening>,
    machines: BTreeMap<u64, Machine>,
    /// Since when the router may notice that a machine is dead or stopped.
    gone: BTreeMap<u64, Duration>,
    lacs: Vec<Lac>,
    /// The earliest timer of each LAC that is on the agenda.
    lac_timers: Vec<Option<Duration>>,
    network: Network,
    /// When the last message of each connection between nodes arrives: from whom, which process of it, to whom.
    streams: BTreeMap<(u64, u64, u64), Duration>,
    dice: Dice,
    troubled: bool,
    /// What the operator wants, the first of it under way.
    orders: VecDeque<Order>,
    orders_done: u64,
    /// Times in which something was wrong, in order and without overlap.
    disturbances: Vec<(Duration, Duration)>,
    facts: Vec<Fact>,
    steps: u64,
    /// What went wrong on purpose, for a report.
    pub trail: Vec<(Duration, String)>,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let seed = setup.seed;
        let mut world = Self {
            now: Duration::ZERO,
            agenda: Agenda::default(),
            machines: (1..=setup.nodes)
                .map(|id| (id, Machine::new(id, &setup)))
                .collect(),
            gone: BTreeMap::new(),
            lacs: Vec::new(),
            lac_timers: Vec::new(),
            network: Network::new(setup.inside, setup.outside, Dice::new(seed, 2)),
            streams: BTreeMap::new(),
            dice: Dice::new(seed, 3),
            troubled: true,
            orders: VecDeque::new(),
            orders_done: 0,
            disturbances: vec![(Duration::ZERO, Duration::from_secs(5))],
            facts: Vec::new(),
            steps: 0,
            trail: Vec::new(),
            setup,
        };
        for node in 1..=world.setup.nodes {
            let at = world.dice.millis(0, 300);
            world.agenda.at(at, Happening::Start(node));
        }
        world.agenda.at(FIRST_LACS, Happening::Lacs);
        let first = world.dice.between(
            Duration::from_secs(5),
            world.setup.fault_every * 2 + Duration::from_secs(5),
        );
        world.agenda.at(first, Happening::Trouble);
        world
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Members that were added or removed.
    pub fn orders_done(&self) -> u64 {
        self.orders_done
    }

    pub fn digest(&self) -> u64 {
        self.network.digest()
    }

    pub fn lacs(&self) -> &[Lac] {
        &self.lacs
    }

    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values()
    }

    /// The process of a node, whether it runs or is stopped.
    pub fn process(&self, node: u64) -> Option<&Process> {
        self.machines.get(&node)?.process()
    }

    /// Whether a quorum's disks hold a log entry, so that no loss of power can undo it.
    pub fn is_durable(&self, index: u64, members: &Members) -> bool {
        let holds = |id: &&u64| {
            let machine = self.machines.get(*id);
            machine.is_some_and(|machine| machine.disk().holds(self.now, index))
        };
        let of = |voters: &[u64]| voters.iter().filter(holds).count() > voters.len() / 2;
        of(&members.voters) && (!members.is_joint() || of(&members.outgoing))
    }

    /// The nodes whose disks hold a log entry.
    pub fn holders(&self, index: u64) -> Vec<u64> {
        let holds = |machine: &&Machine| machine.disk().holds(self.now, index);
        self.machines.values().filter(holds).map(Machine::id).collect()
    }

    /// The table that is furthest, of processes that run or are stopped.
    pub fn furthest_table(&self) -> Option<&Table> {
        let processes = self.machines.values().filter_map(Machine::process);
        let tables = processes.map(|process| process.replica().table());
        tables.max_by_key(|table| table.applied())
    }

    /// Whether nothing is wrong, nor has been a moment ago.
    pub fn is_calm(&self) -> bool {
        self.disturbances.last().is_none_or(|(_, end)| *end <= self.now)
    }

    /// The longest time without a fault within a time that ends now.
    pub fn longest_calm(&self, during: Duration) -> Duration {
        let begin = self.now.saturating_sub(during);
        let recent = self.disturbances.iter().rev().take_while(|(_, end)| *end > begin);
        let (mut calm_until, mut longest) = (self.now, Duration::ZERO);
        for (from, to) in recent {
            longest = longest.max(calm_until.saturating_sub(*to));
            calm_until = *from;
        }
        longest.max(calm_until.saturating_sub(begin))
    }

    /// Whether RADIUS servers judge some of the subscribers.
    pub fn has_radius(&self) -> bool {
        self.setup.radius
    }

    /// Whether the network between LACs and nodes loses datagrams of itself.
    pub fn is_lossy(&self) -> bool {
        self.setup.outside.loss > 0
    }

    /// A LAC with subscribers that dials from now on.
    pub fn add_lac(&mut self) -> usize {
        let number = self.lacs.len();
        let dice = Dice::new(self.setup.seed, 0x2000 + number as u64);
        let mut lac = Lac::new(self.now, number, self.setup.subscribers, dice);
        if !self.troubled {
            lac.calm_down();
        }
        self.lacs.push(lac);
        self.lac_timers.push(None);
        self.settle_lac(number);
        number
    }

    /// The trouble is over: everybody runs, every way is whole, nobody hangs up.
    pub fn calm_down(&mut self) {
        self.troubled = false;
        self.network.heal();
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        for id in ids {
            self.agenda.at(self.now, Happening::Resume(id));
            self.agenda.at(self.now, Happening::Start(id));
            self.agenda.at(self.now, Happening::DiskRecovers(id));
        }
        for lac in &mut self.lacs {
            lac.calm_down();
        }
        self.disturb(Duration::ZERO);
        self.note("calm");
    }

    /// The next thing that happens before `end`; the facts of it. `None`: nothing does.
    pub fn step(&mut self, end: Duration) -> Option<Vec<Fact>> {
        let Some((at, happening)) = self.agenda.pop_until(end) else {
            self.now = end;
            return None;
        };
        self.now = at;
        self.steps += 1;
        self.handle(happening);
        Some(std::mem::take(&mut self.facts))
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { node, boot } => {
                if self.process(node).is_some_and(|process| process.boot() == boot) {
                    self.agenda.at(self.now + TICK, Happening::Tick { node, boot });
                    self.at_node(node, Arrival::Tick { boot });
                }
            }
            Happening::AtNode { node, arrival } => self.at_node(node, arrival),
            Happening::Departure { node, boot, to, wire } => {
                let machine = &self.machines[&node];
                if machine.process().is_some_and(|process| process.boot() == boot) {
                    // A process that is stopped meanwhile had handed it to the kernel, as far as anyone can tell.
                    self.send_wire(node, to, wire);
                }
            }
            Happening::AtLac { lac, octets, about } => {
                self.lacs[lac].handle_input(self.now, &octets, about);
                self.settle_lac(lac);
            }
            Happening::LacTimer(lac) => {
                self.lac_timers[lac] = None;
                if self.lacs[lac].poll_timeout().is_some_and(|at| at <= self.now) {
                    self.lacs[lac].handle_timeout(self.now);
                }
                self.settle_lac(lac);
            }
            Happening::Lacs => {
                for _ in 0..self.setup.lacs {
                    self.add_lac();
                }
            }
            Happening::Bustle => {
                for lac in 0..self.lacs.len() {
                    self.lacs[lac].bustle(self.now);
                    self.settle_lac(lac);
                }
            }
            Happening::Operator => self.look_after_orders(),
            Happening::Retire(node) => self.retire(node),
            Happening::Kill(node) => {
                let back = self.dice.millis(20, 200);
                self.die(node, Death::Killed, back);
            }
            Happening::Start(node) => self.start(node),
            Happening::Resume(node) => self.resume(node),
            Happening::DiskRecovers(node) => {
                let time = self
                    .dice
                    .between(Duration::from_micros(50), Duration::from_micros(1500));
                self.machines[&node].disk().set_sync_time(time);
            }
            Happening::Trouble if self.troubled => {
                let mut dice = self.dice.clone();
                let fault = Fault::draw(&mut dice, self);
                self.dice = dice;
                self.inflict(fault);
                let every = self.setup.fault_every;
                // Misfortunes seldom come singly.
                let next = match self.dice.happens(300) {
                    true => self.now + self.dice.millis(0, 200),
                    false => self.now + self.dice.between(every / 10, every * 2),
                };
                self.agenda.at(next, Happening::Trouble);
            }
            Happening::Trouble => {}
        }
    }

    fn at_node(&mut self, node: u64, arrival: Arrival) {
        let now = self.now;
        let machine = self.machines.get_mut(&node).expect("a node that there is");
        let out = machine.handle(now, arrival);
        self.send_all(node, out);
    }

    fn send_all(&mut self, node: u64, out: Vec<Out>) {
        let Some(boot) = self.process(node).map(Process::boot) else {
            return;
        };
        for out in out {
            match out {
                Out::Datagram { to, octets, about } => {
                    let Some(lac) = self.lacs.iter().position(|lac| lac.address == to) else {
                        continue;
                    };
                    let copies =
                        self.network
                            .send(self.now, Place::Node(node), Place::Lac(lac), &octets, false);
                    // A PPP client takes a copy of a request for a renegotiation: here that would be the network's doing.
                    let copies_max = if matches!(about, About::Call(_)) {
                        1
                    } else {
                        copies.len()
                    };
                    for after in copies.into_iter().take(copies_max) {
                        let octets = octets.clone();
                        let arrival = Happening::AtLac { lac, octets, about };
                        self.agenda.at(self.now + after, arrival);
                    }
                }
                Out::Wire { to, after, wire } if after == Duration::ZERO => self.send_wire(node, to, wire),
                Out::Wire { to, after, wire } => {
                    let departure = Happening::Departure { node, boot, to, wire };
                    self.agenda.at(self.now + after, departure);
                }
                Out::Results { after, results } => {
                    let arrival = Arrival::Results { boot, results };
                    self.agenda
                        .at(self.now + after, Happening::AtNode { node, arrival });
                }
                Out::Fact(fact) => self.facts.push(fact),
            }
        }
    }

    fn send_wire(&mut self, from: u64, to: u64, wire: Wire) {
        let stream = wire.is_stream();
        let boot = self.process(from).map_or(0, Process::boot);
        let copies = self.network.send(
            self.now,
            Place::Node(from),
            Place::Node(to),
            wire.octets(),
            stream,
        );
        for after in copies {
            let mut at = self.now + after;
            if stream {
                // One connection keeps the order.
                let last = self.streams.entry((from, boot, to)).or_default();
                at = at.max(*last);
                *last = at;
            }
            let arrival = Arrival::Wire {
                from,
                wire: wire.clone(),
            };
            if self.machines.get(&to).is_some_and(|machine| !machine.is_dead()) {
                self.agenda.at(at, Happening::AtNode { node: to, arrival });
            }
        }
    }

    fn settle_lac(&mut self, lac: usize) {
        for octets in self.lacs[lac].take_out() {
            self.send_from_lac(lac, octets);
        }
        self.facts.extend(self.lacs[lac].take_facts());
        let due = self.lacs[lac].poll_timeout();
        let scheduled = self.lac_timers[lac];
        if let Some(due) = due.filter(|due| scheduled.is_none_or(|at| *due < at)) {
            let at = due.max(self.now);
            self.lac_timers[lac] = Some(at);
            self.agenda.at(at, Happening::LacTimer(lac));
        }
    }

    fn send_from_lac(&mut self, lac: usize, octets: Vec<u8>) {
        let announcing = self.announcing();
        let Some(node) = self.network.route(lac, &announcing) else {
            return;
        };
        let from = self.lacs[lac].address;
        let control = octets[0] & 0x80 != 0;
        let copies = self
            .network
            .send(self.now, Place::Lac(lac), Place::Node(node), &octets, false);
        // A copy of a client's request after the link is open is a renegotiation for the LNS too.
        let copies_max = if control { copies.len() } else { 1 };
        for after in copies.into_iter().take(copies_max) {
            let octets = octets.clone();
            let arrival = Arrival::Datagram { from, octets };
            self.agenda
                .at(self.now + after, Happening::AtNode { node, arrival });
        }
    }

    /// The nodes to which the router sends, some of which are not there any more.
    fn announcing(&self) -> Vec<u64> {
        let standing = |machine: &Machine| machine.process().and_then(Process::standing);
        // A last resort is one while nobody is ready.
        let best = self.machines.values().filter_map(standing).max();
        let announces = |(id, machine): (&u64, &Machine)| {
            let gone = self.gone.get(id).map(|since| self.now.saturating_sub(*since));
            let seen = match (machine.is_dead(), machine.is_stopped()) {
                (true, _) => gone.is_some_and(|gone| gone < WITHDRAWN_DEAD),
                (false, true) => gone.is_some_and(|gone| gone < WITHDRAWN_STOPPED),
                (false, false) => standing(machine).is_some_and(|standing| Some(standing) == best),
            };
            seen.then_some(*id)
        };
        self.machines.iter().filter_map(announces).collect()
    }

    fn note(&mut self, what: &str) {
        self.trail.push((self.now, what.to_owned()));
    }

    /// The node that leads; of several that think so, the one of the latest term.
    pub fn leader(&self) -> Option<u64> {
        let leading = self.machines.values().filter_map(|machine| {
            let leadership = machine.running()?.replica().leadership();
            leadership.is_self.then_some((leadership.term, machine.id()))
        });
        leading.max().map(|(_, node)| node)
    }
}
