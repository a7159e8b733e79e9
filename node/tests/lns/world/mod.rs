//! A whole LNS without its actors, and LACs with subscribers, on virtual time.
//!
//! ```text
//!  Client <-> Lac (Connection) <-- lossy network --> Tunnel + Session cores --proposals--> Table
//!                                                          ^------------- verdicts -----------'
//! ```
//!
//! The shells' work is done by hand here: carrying out commands, timers, the way of a proposal. Any of it can be held up or cut off.

mod invariants;
mod process;
mod shells;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holdfast::lns::Now;
use holdfast::lns::acceptor::{self, First, Profile};
use holdfast::lns::entropy::Entropy;
use holdfast::lns::repeats::{Known, PeerKey, Repeat};
use holdfast::lns::session::{self, Grant, Session};
use holdfast::lns::timers::TimerTable;
use holdfast::lns::tunnel::{self, Birth, Tunnel, terminate_cause};
use holdfast_cluster::commands::{Command, CommandBatch, CreateTunnel, Reclaim, RemoveTunnel, Take, Tick};
use holdfast_cluster::records::{SessionRow, TunnelState};
use holdfast_cluster::{Effect, Refusal, Table, Verdict};
use holdfast_ppp::{AuthMethod, LinkConfig};
use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::header::{self, ControlHeader, Packet};
use holdfast_protocol::message::{Cdn, Message};
use holdfast_protocol::{CloseReason, Connection, SessionId, Settings, TunnelId};

use crate::lac::Lac;

/// From a proposal to its verdict.
const COMMIT: Duration = Duration::from_millis(3);
/// One way over the network.
const TRIP: Duration = Duration::from_millis(5);

/// What the network does to datagrams, in percent, both ways.
#[derive(Clone, Copy, Default)]
pub struct Impairment {
    pub loss: u64,
    pub duplication: u64,
    pub reordering: u64,
}

/// What becomes of proposals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Judged, and the verdict comes back.
    Open,
    /// They wait.
    Held,
    /// They vanish.
    Cut,
}

/// What a crash of the LNS does to proposals on their way.
#[derive(Clone, Copy, Debug)]
pub enum InFlight {
    /// Never arrive.
    Lost,
    /// Are judged, but nobody hears of it.
    Judged,
    /// Arrive after the successor has taken over.
    Late,
}

/// When the LNS dies, and how.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// After so many inputs.
    pub after: usize,
    /// Whether what the last input gave still leaves.
    pub says_it: bool,
    pub in_flight: InFlight,
}

#[derive(Clone, Debug)]
enum Reply {
    Change(TunnelId, u64),
    Birth(TunnelId, Option<PeerKey>),
    Removal(TunnelId),
}

#[derive(Clone, Debug)]
struct Proposal {
    reply: Reply,
    command: Command,
    process: u64,
}

#[derive(Clone, Debug)]
enum Arrival {
    AtLns {
        lac: usize,
        datagram: Vec<u8>,
    },
    AtLac {
        lac: usize,
        datagram: Vec<u8>,
    },
    FrameAtLns {
        tunnel: TunnelId,
        session: SessionId,
        frame: Vec<u8>,
    },
    FrameAtLac {
        lac: usize,
        session: SessionId,
        frame: Vec<u8>,
    },
    AtTable(Box<Proposal>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Tick,
    Tunnel(TunnelId),
    Session(TunnelId, SessionId),
    Lac(usize),
    Client(usize, SessionId),
}

/// See the module.
pub struct World {
    pub now: Duration,
    pub table: Table,
    pub tunnels: BTreeMap<TunnelId, Tunnel>,
    pub sessions: BTreeMap<(TunnelId, SessionId), Session>,
    pub lacs: Vec<Lac>,
    pub way: Way,
    pub crash: Option<Crash>,
    pub impairment: Impairment,
    pub settings: Settings,
    pub link: Arc<LinkConfig>,
    pub max_sessions: usize,
    /// Whether LACs want data numbered.
    pub sequencing: bool,
    /// Inputs that the LNS has taken.
    pub steps: usize,
    /// Control messages and PPP frames that left the LNS.
    pub said: Vec<Vec<u8>>,
    /// Changes proposed, resubmissions included.
    pub proposed: usize,
    pub rebirths: Vec<String>,
    pub closed: Vec<(TunnelId, CloseReason)>,
    pub counted: Vec<tunnel::Occurrence>,
    pub authentications: usize,
    /// Whether the answer to an authentication is kept back.
    pub radius_silent: bool,
    held: Vec<Proposal>,
    arrivals: BTreeMap<u64, Arrival>,
    order: BinaryHeap<Reverse<(Duration, u64)>>,
    next_arrival: u64,
    timers: TimerTable<Timer>,
    peers: BTreeMap<PeerKey, Known>,
    entropy: Entropy,
    index: u64,
    process: u64,
    next_life: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let link = LinkConfig {
            auth: vec![AuthMethod::Pap],
            ..LinkConfig::default()
        };
        let mut world = Self {
            now: Duration::from_secs(1000),
            table: Table::new(),
            tunnels: BTreeMap::new(),
            sessions: BTreeMap::new(),
            lacs: Vec::new(),
            way: Way::Open,
            crash: None,
            impairment: Impairment::default(),
            settings: Settings::default(),
            link: Arc::new(link),
            max_sessions: 65_535,
            sequencing: false,
            steps: 0,
            said: Vec::new(),
            proposed: 0,
            rebirths: Vec::new(),
            closed: Vec::new(),
            counted: Vec::new(),
            authentications: 0,
            radius_silent: false,
            held: Vec::new(),
            arrivals: BTreeMap::new(),
            order: BinaryHeap::new(),
            next_arrival: 0,
            timers: TimerTable::default(),
            peers: BTreeMap::new(),
            entropy: Entropy::new(seed),
            index: 0,
            process: 0,
            next_life: 0,
        };
        world.start_process();
        world.timers.set(Timer::Tick, Some(world.now));
        world
    }

    pub fn clocks(&self) -> Now {
        Now {
            monotonic: self.now,
            table_ms: self.table.now_ms(),
        }
    }

    /// A LAC that opens a tunnel under `tunnel`, with `calls` calls to place once it is up.
    pub fn add_lac(&mut self, tunnel: u16, calls: u16) -> usize {
        self.add_lac_with(tunnel, calls, Settings::default())
    }

    pub fn add_lac_with(&mut self, tunnel: u16, calls: u16, settings: Settings) -> usize {
        let lac = self.lacs.len();
        let address = SocketAddr::from((Ipv4Addr::from(0xc633_6400 + u32::from(tunnel)), 1701));
        self.lacs
            .push(Lac::new(self.now, address, tunnel, calls, settings));
        self.lacs[lac].sequencing = self.sequencing;
        self.settle_lac(lac);
        lac
    }

    /// Another tunnel from the address and port of `lac`.
    pub fn add_lac_at(&mut self, lac: usize, tunnel: u16) -> usize {
        self.push_lac(self.lacs[lac].address, tunnel)
    }

    /// A LAC at another port.
    pub fn add_lac_elsewhere(&mut self, tunnel: u16) -> usize {
        self.push_lac(SocketAddr::from(([203, 0, 113, 9], 40_000)), tunnel)
    }

    fn push_lac(&mut self, address: SocketAddr, tunnel: u16) -> usize {
        self.lacs
            .push(Lac::new(self.now, address, tunnel, 0, Settings::default()));
        self.settle_lac(self.lacs.len() - 1);
        self.lacs.len() - 1
    }

    pub fn stop_table_time(&mut self) {
        self.timers.set(Timer::Tick, None);
    }

    pub fn start_table_time(&mut self) {
        self.timers.set(Timer::Tick, Some(self.now));
    }

    /// The LAC forgets everything and opens a tunnel anew, under the same id and from the same port.
    pub fn restart_lac(&mut self, lac: usize, calls: u16) {
        let tunnel = self.lacs[lac].connection.local().get();
        for session in self.lacs[lac].calls.keys() {
            self.timers.set(Timer::Client(lac, *session), None);
        }
        self.lacs[lac] = Lac::new(
            self.now,
            self.lacs[lac].address,
            tunnel,
            calls,
            Settings::default(),
        );
        self.settle_lac(lac);
    }

    /// Something the LAC does by itself.
    pub fn at_lac(&mut self, lac: usize, act: impl FnOnce(&mut Lac, Duration)) {
        act(&mut self.lacs[lac], self.now);
        self.settle_lac(lac);
    }

    /// Something a subscriber does.
    pub fn at_client(
        &mut self,
        lac: usize,
        session: u16,
        act: impl FnOnce(&mut crate::client::Client, Duration),
    ) {
        let session = SessionId::new(session).expect("not zero");
        act(&mut self.lacs[lac].call(session).client, self.now);
        self.settle_client(lac, session);
    }

    /// A datagram that the LAC's own connection knows nothing of.
    pub fn inject(&mut self, lac: usize, datagram: Vec<u8>) {
        self.schedule(TRIP, Arrival::AtLns { lac, datagram });
    }

    /// The LAC's SCCRQ once more, octet for octet.
    pub fn repeat_sccrq(&mut self, lac: usize) {
        let local = self.lacs[lac].connection.local();
        let mut again = Connection::initiate(Settings::default(), self.now, local);
        again.accept(self.now, again.progress());
        let datagram = again.poll_transmit(self.now).expect("an SCCRQ");
        self.inject(lac, datagram);
    }

    /// A message that the LAC's own connection knows nothing of, in order after its last one. Its own next one is out of order.
    pub fn inject_message(&mut self, lac: usize, session: Option<SessionId>, message: Message) {
        self.inject_ahead(lac, session, message, 0);
    }

    /// The same, leaving out `ahead` numbers.
    pub fn inject_ahead(&mut self, lac: usize, session: Option<SessionId>, message: Message, ahead: u16) {
        let connection = &self.lacs[lac].connection;
        let progress = connection.progress();
        let header = ControlHeader {
            tunnel: connection.peer().tunnel,
            session,
            ns: progress.queued.wrapping_add(ahead),
            nr: progress.received,
        };
        self.inject(lac, message.encode(header, None));
    }

    /// Control messages that left the LNS.
    pub fn control_said(&self) -> usize {
        let control = |octets: &&Vec<u8>| matches!(header::decode(octets), Ok(Packet::Control(_)));
        self.said.iter().filter(control).count()
    }

    /// Another actor takes the tunnel's row.
    pub fn usurp(&mut self, tunnel: TunnelId) {
        let row = self.table.tunnel(tunnel).expect("in the table").row();
        let reclaim = Reclaim {
            tunnel_id: row.tunnel_id,
            life: self.table.current_life(row) + 1,
        };
        self.next_life += 1;
        assert!(self.apply(reclaim).is_accepted());
    }

    /// Something the shell of a tunnel is told from outside.
    pub fn at_tunnel(&mut self, tunnel: TunnelId, act: impl FnOnce(&mut Tunnel, Now)) {
        let now = self.clocks();
        if let Some(core) = self.tunnels.get_mut(&tunnel) {
            act(core, now);
        }
        self.settle_tunnel(tunnel);
    }

    /// Something the shell of a session is told from outside.
    pub fn at_session(&mut self, tunnel: TunnelId, session: SessionId, act: impl FnOnce(&mut Session, Now)) {
        let now = self.clocks();
        if let Some(core) = self.sessions.get_mut(&(tunnel, session)) {
            act(core, now);
        }
        self.settle_session(tunnel, session);
    }

    /// The only tunnel of the LNS.
    pub fn tunnel(&self) -> TunnelId {
        let (id, _) = self.table.tunnels().next().expect("a tunnel in the table");
        id
    }

    pub fn state(&self, tunnel: TunnelId) -> TunnelState {
        self.table.tunnel(tunnel).expect("in the table").row().state()
    }

    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step_until(end) {}
        self.now = end;
    }

    /// Runs until `done`; panics if that takes longer than `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.step_until(end), "not done after {limit:?}");
        }
    }

    /// The next thing to happen, if it happens before `end`.
    fn step_until(&mut self, end: Duration) -> bool {
        let arrival = self.order.peek().map(|Reverse((at, _))| *at);
        let timer = self.timers.poll_timeout();
        let Some(next) = arrival.into_iter().chain(timer).min().filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let Some(Reverse((_, number))) = self.order.pop() else {
                return true;
            };
            if let Some(arrival) = self.arrivals.remove(&number) {
                self.on_arrival(arrival);
            }
        } else if let Some(timer) = self.timers.pop_due(self.now) {
            self.on_timer(timer);
        }
        true
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::AtTable(proposal) => self.judge(*proposal),
            Arrival::AtLns { lac, datagram } => self.on_datagram(lac, &datagram),
            Arrival::FrameAtLns {
                tunnel,
                session,
                frame,
            } => {
                if self.sessions.contains_key(&(tunnel, session)) {
                    self.at_session(tunnel, session, |core, now| core.handle_input(now, &frame));
                }
            }
            Arrival::AtLac { lac, datagram } => {
                self.at_lac(lac, |lac, now| lac.handle_input(now, &datagram));
            }
            Arrival::FrameAtLac { lac, session, frame } => {
                if let Some(call) = self.lacs[lac].calls.get_mut(&session).filter(|call| !call.over) {
                    call.client.handle_input(self.now, &frame);
                    self.settle_client(lac, session);
                }
            }
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Tick => {
                self.timers
                    .set(Timer::Tick, Some(self.now + Duration::from_secs(1)));
                let now_ms = self.table.now_ms() + 1000;
                let unix_s = now_ms / 1000;
                self.apply(Tick { now_ms, unix_s });
            }
            Timer::Tunnel(tunnel) => self.at_tunnel(tunnel, |core, now| core.handle_timeout(now)),
            Timer::Session(tunnel, session) => {
                self.at_session(tunnel, session, |core, now| core.handle_timeout(now));
            }
            Timer::Lac(lac) => self.at_lac(lac, |lac, now| lac.connection.handle_timeout(now)),
            Timer::Client(lac, session) => {
                self.at_client(lac, session.get(), |client, now| client.handle_timeout(now));
            }
        }
    }

    fn schedule(&mut self, after: Duration, arrival: Arrival) {
        self.next_arrival += 1;
        self.arrivals.insert(self.next_arrival, arrival);
        self.order.push(Reverse((self.now + after, self.next_arrival)));
    }

    fn send(&mut self, arrival: Arrival) {
        let Impairment {
            loss,
            duplication,
            reordering,
        } = self.impairment;
        let mut chance = |percent: u64| percent > 0 && self.entropy.next_u64() % 100 < percent;
        let (lost, twice, late) = (chance(loss), chance(duplication), chance(reordering));
        if lost {
            return;
        }
        if twice {
            self.schedule(TRIP * 3, arrival.clone());
        }
        self.schedule(if late { TRIP * 2 } else { TRIP }, arrival);
    }

    fn settle_lac(&mut self, lac: usize) {
        let now = self.now;
        let started = self.lacs[lac].settle(now);
        while let Some(datagram) = self.lacs[lac].connection.poll_transmit(now) {
            self.send(Arrival::AtLns { lac, datagram });
        }
        self.timers
            .set(Timer::Lac(lac), self.lacs[lac].connection.poll_timeout());
        for session in started {
            self.settle_client(lac, session);
        }
    }

    fn settle_client(&mut self, lac: usize, session: SessionId) {
        let tunnel = self.lacs[lac].connection.peer().tunnel;
        let call = self.lacs[lac].call(session);
        let frames = std::mem::take(&mut call.client.out);
        let (peer, over) = (call.peer, call.over);
        let deadline = call.client.poll_timeout().filter(|_| !over);
        self.timers.set(Timer::Client(lac, session), deadline);
        if let (Some(tunnel), Some(session), false) = (tunnel, peer, over) {
            for frame in frames {
                self.send(Arrival::FrameAtLns {
                    tunnel,
                    session,
                    frame,
                });
            }
        }
    }
}
