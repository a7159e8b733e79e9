//! One process of a node: what the actors and threads of the daemon do with the pure cores, on one thread.
//!
//! ```text
//!  datagram ──> owner? ──yes──> work queue ──> Tunnel, Session cores ──proposals──> inbox of the table
//!                  └─no──> relay or hold                ^                                 │
//!                                                       └───── verdicts, effects <── Replica
//! ```
//!
//! The order of steps is the shells': what a core wants is carried out in order, one core's wish waits in the queue like a message
//! in a mailbox, and effects reach everybody before the verdicts that follow them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::lns::Now;
use holdfast::lns::repeats::{Known, PeerKey};
use holdfast::lns::session::Session;
use holdfast::lns::timers::TimerTable;
use holdfast::lns::tunnel::Tunnel;
use holdfast_cluster::commands::Command;
use holdfast_cluster::hold::HoldQueue;
use holdfast_cluster::liveness::{self, Liveness, View};
use holdfast_cluster::log::SimulatedDisk;
use holdfast_cluster::replica::Transport;
use holdfast_cluster::table::Group;
use holdfast_cluster::{Replica, ReplicaConfig};
use holdfast_ppp::{AuthMethod, LinkConfig};
use holdfast_protocol::{SessionId, Settings, TunnelId};

use super::accounting::Books;
use super::addresses::Addresses;
use super::counters::{Counters, Files};
use super::judges::Judges;
use super::orders::voting;
use super::shells::Work;
use super::table::{Input, Reply, Results};
use super::wire::{Relay, Wire};
use crate::sim::bugs::Bug;
use crate::sim::dice::Dice;
use crate::sim::facts::{About, Fact};
use crate::sim::setup::Setup;

/// What a process wants of the world.
#[derive(Debug)]
pub enum Out {
    /// A datagram for a LAC.
    Datagram {
        to: SocketAddr,
        octets: Vec<u8>,
        about: About,
    },
    /// A message for another node, after a while.
    Wire { to: u64, after: Duration, wire: Wire },
    /// What the table's turn brought is to be handed in after a while.
    Results { after: Duration, results: Results },
    /// For the invariants.
    Fact(Fact),
}

/// What a node tells the routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has nobody to decide with: packets are to come to it only if no other node takes them.
    LastResort,
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    Tunnel(TunnelId),
    Session(TunnelId, SessionId),
}

/// Raft messages of one turn, with the time within the turn at which they leave.
type Outbox = Arc<Mutex<Vec<(u64, Vec<u8>, Duration)>>>;

#[derive(Debug)]
struct Port {
    outbox: Outbox,
    disk: SimulatedDisk,
}

impl Transport for Port {
    fn send(&mut self, to: u64, message: Vec<u8>) {
        let at = self.disk.taken();
        self.outbox.lock().expect("one thread").push((to, message, at));
    }
}

/// See the module.
#[derive(Debug)]
pub struct Process {
    pub(super) id: u64,
    /// Members that own nothing.
    pub(super) witnesses: BTreeSet<u64>,
    /// Ticks for which this node, a witness, has led.
    pub(super) led_ticks: u32,
    /// There has been no leader or no quorum for a while.
    lonely: bool,
    pub(super) boot: u64,
    pub(super) bug: Option<Bug>,
    pub(super) replica: Replica,
    pub(super) disk: SimulatedDisk,
    pub(super) outbox: Outbox,
    pub(super) inbox: VecDeque<Input>,
    /// The table's thread waits for its disk.
    pub(super) busy: bool,
    pub(super) replies: HashMap<u64, Reply>,
    pub(super) next_token: u64,
    /// The incarnation under which this process acts, from its Take on.
    pub(super) incarnation: Option<u64>,
    /// When the table was asked for it, and whether it has accepted.
    pub(super) asked_at: Option<Duration>,
    pub(super) registered: bool,
    /// As the effects have told.
    pub(super) groups: Vec<Group>,
    pub(super) table_ms: u64,
    /// The last log entry whose effects were handed out. The table's thread says nothing between applying and handing out.
    pub(super) told: u64,
    pub(super) tunnels: BTreeMap<TunnelId, Tunnel>,
    /// The life of each tunnel's latest core, whether it lives or not.
    pub(super) lives: BTreeMap<TunnelId, u64>,
    pub(super) sessions: BTreeMap<(TunnelId, SessionId), Session>,
    /// Tunnels to be born, in order.
    pub(super) unborn: VecDeque<TunnelId>,
    /// Sessions that start PPP anew, a while after their tunnel was taken over.
    pub(super) delayed: VecDeque<(Duration, Work)>,
    pub(super) taken_over_at: BTreeMap<u8, Duration>,
    /// When refused or vanished births are asked for again.
    pub(super) reborn_at: BTreeMap<TunnelId, Duration>,
    pub(super) peers: BTreeMap<PeerKey, Known>,
    pub(super) addresses: Addresses,
    /// See [`Setup::crowded`].
    pub(super) crowded: bool,
    pub(super) counters: Counters,
    pub(super) books: Books,
    pub(super) judges: Judges,
    /// See [`Setup::radius`].
    pub(super) radius: bool,
    pub(super) timers: TimerTable<Timer>,
    pub(super) work: VecDeque<Work>,
    pub(super) liveness: Liveness,
    pub(super) hold: HoldQueue<Relay>,
    pub(super) settings: Settings,
    pub(super) link: Arc<LinkConfig>,
    pub(super) dice: Dice,
    /// This node's clock.
    pub(super) now: Duration,
    /// Its wall clock.
    pub(super) unix: Duration,
    /// The simulation's.
    pub(super) world: Duration,
    pub(super) ticks: u64,
    pub(super) proposed: BTreeSet<(TunnelId, u64, u64)>,
    pub(super) out: Vec<Out>,
}

impl Process {
    /// Starts on what the disk holds.
    pub(super) fn start(
        now: Duration,
        (id, boot): (u64, u64),
        setup: &Setup,
        disk: &SimulatedDisk,
        files: Files,
        dice: Dice,
    ) -> Self {
        let outbox = Outbox::default();
        let port = Port {
            outbox: outbox.clone(),
            disk: disk.clone(),
        };
        let config = ReplicaConfig {
            node_id: id,
            members: setup.first_members(id),
            boot,
        };
        let (mut replica, _) = Replica::open_with(config, disk.open(), port)
            .expect("what was synced is what raft was promised to find");
        if setup.bug == Some(Bug::BlockLeasedTwice) {
            replica.leave_addresses_unchecked();
        }
        let addresses = Addresses::new(setup, replica.table(), now);
        let echo_interval = if setup.echoes { 20 } else { 0 };
        let link = LinkConfig {
            auth: vec![AuthMethod::Pap],
            echo_interval: Duration::from_secs(echo_interval),
            ..LinkConfig::default()
        };
        let group = voting(&replica.members());
        let mut liveness = Liveness::new(id, boot, group, now);
        liveness.set_isolation_limit(setup.isolation_limit);
        let mut process = Self {
            witnesses: setup.witness.into_iter().collect(),
            led_ticks: 0,
            lonely: false,
            unix: Duration::ZERO,
            id,
            boot,
            bug: setup.bug,
            replica,
            disk: disk.clone(),
            outbox,
            inbox: VecDeque::new(),
            busy: false,
            replies: HashMap::new(),
            next_token: 0,
            incarnation: None,
            asked_at: None,
            registered: false,
            groups: Vec::new(),
            table_ms: 0,
            told: 0,
            tunnels: BTreeMap::new(),
            lives: BTreeMap::new(),
            sessions: BTreeMap::new(),
            unborn: VecDeque::new(),
            delayed: VecDeque::new(),
            taken_over_at: BTreeMap::new(),
            reborn_at: BTreeMap::new(),
            peers: BTreeMap::new(),
            addresses,
            crowded: setup.crowded,
            counters: Counters::read(files, setup.bug),
            judges: Judges::new(
                now,
                Dice::new(setup.seed, 1 << 60 | id << 32 | boot),
                setup.troubled,
            ),
            radius: setup.radius,
            books: Books::new(Dice::new(setup.seed, id << 32 | boot), setup.troubled),
            timers: TimerTable::default(),
            work: VecDeque::new(),
            liveness,
            hold: HoldQueue::default(),
            settings: Settings {
                // Zero: never.
                hello_interval: Duration::from_secs(if setup.bug == Some(Bug::NeverAsks) { 0 } else { 20 }),
                ..Settings::default()
            },
            link: Arc::new(link),
            dice,
            now,
            world: Duration::ZERO,
            ticks: 0,
            proposed: BTreeSet::new(),
            out: Vec::new(),
        };
        process.read_table();
        process
    }

    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Which process of its node this is.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    pub fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// What the routers are told: `None` until it has caught up.
    pub fn standing(&self) -> Option<Standing> {
        let ready = if self.lonely {
            Standing::LastResort
        } else {
            Standing::Ready
        };
        (self.registered && !self.witnesses.contains(&self.id)).then_some(ready)
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(super) fn clocks(&self) -> Now {
        Now {
            monotonic: self.now,
            table_ms: self.table_ms,
        }
    }

    /// Whether this process may act for a group: it has taken its place in the table, and its node owns the group. It may own it
    /// by an Assign that was judged before its Take and named its predecessor, who is dead.
    pub(super) fn owns(&self, group: u8) -> bool {
        self.registered && self.groups[usize::from(group)].owner == self.id
    }

    pub(super) fn fact(&mut self, fact: Fact) {
        self.out.push(Out::Fact(fact));
    }

    pub(super) fn propose(&mut self, reply: Reply, command: impl Into<Command>) {
        self.inbox
            .push_back(Input::Propose(reply, Box::new(command.into())));
    }

    /// What time it is, by the simulation's clock and by this node's two. To be told before every input.
    pub fn set_time(&mut self, world: Duration, now: Duration, unix: Duration) {
        (self.world, self.now, self.unix) = (world, now, unix);
    }

    /// Ten milliseconds have passed, or more.
    pub fn on_tick(&mut self) {
        let now = self.now;
        self.ticks += 1;
        self.inbox.push_back(Input::Tick);
        self.watch_others();
        while self.delayed.front().is_some_and(|(at, _)| *at <= now) {
            let (_, work) = self.delayed.pop_front().expect("there is a first one");
            self.work.push_back(work);
        }
        self.hold.expire(now);
        self.wait_for_judges();
        self.bear_some();
        while let Some(timer) = self.timers.pop_due(now) {
            self.work.push_back(match timer {
                Timer::Tunnel(tunnel) => Work::TunnelWake(tunnel),
                Timer::Session(tunnel, session) => Work::SessionWake(tunnel, session),
            });
        }
        self.drain();
    }

    /// A message of another node.
    pub fn on_wire(&mut self, from: u64, wire: Wire) {
        match wire {
            Wire::Raft(octets) => self.inbox.push_back(Input::Message(octets)),
            Wire::Probe(probe) => {
                // What makes no sense is dropped.
                let _ = self.liveness.handle_message(self.now, from, &probe);
                self.send_probes();
            }
            Wire::Relay(relay) => self.on_relay(relay),
            Wire::Counters(report) => self.counters.take_report(from, &report),
        }
        self.drain();
    }

    fn send_probes(&mut self) {
        while let Some(output) = self.liveness.poll_output() {
            match output {
                liveness::Output::Send { to, octets } => self.out.push(Out::Wire {
                    to,
                    after: Duration::ZERO,
                    wire: Wire::Probe(octets),
                }),
                liveness::Output::Lonely(lonely) => self.lonely = lonely,
                liveness::Output::Down(_) | liveness::Output::Back(_) => {}
            }
        }
    }

    fn watch_others(&mut self) {
        let leadership = self.replica.leadership();
        let view = View {
            leader: leadership.leader.unwrap_or(0),
            term: leadership.term,
            applied: self.told,
            last: self.replica.last_index(),
            incarnation: self.incarnation.filter(|_| self.registered).unwrap_or(0),
        };
        self.liveness.set_view(self.now, view);
        self.liveness.handle_timeout(self.now);
        self.send_probes();
        self.register();
        self.give_away_groups();
        self.lead_as_witness();
        self.account();
        self.carry_traffic();
    }

    /// Whether this node is sure enough of being the owner to say what needs no commit.
    pub(super) fn is_fresh(&self) -> bool {
        self.liveness.fresh_until().is_none_or(|until| self.now < until)
    }

    /// All that waits is done, and then the table has its turn.
    pub(super) fn drain(&mut self) {
        loop {
            while let Some(work) = self.work.pop_front() {
                self.carry_out(work);
            }
            if !self.turn() {
                return;
            }
        }
    }
}
