//! All LACs, tunnels and subscribers of one simulator, without a socket or a clock.
//!
//! ```text
//!  datagram ──> tunnel (channel, calls) ──> happenings ──> subscriber ──> PPP client ──> frames
//!                                                                                          │
//!  outbox <── flush of the tunnel's channel  <──────────────────────────── data header <───┘
//! ```
//!
//! Tunnels and subscribers name each other by index; each is found in one step from a datagram's ids.

mod calls;
mod check;
mod dial;
mod mark;
mod probe;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::header::{self, ControlPacket, DataHeader, DataPacket, Packet};
use holdfast_protocol::{Secret, TunnelId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::channel::Tag;
use super::impairment::Impairment;
use super::plan::Plan;
use super::protocol::{Event, Moment};
use super::subscriber::Subscriber;
use super::timers::{Owner, Timers};
use super::tunnel::{Happening, Traits, Tunnel};
use check::Check;
pub use check::Fast;
use dial::Dialler;
use mark::Mark;
use probe::Prober;
use report::Counts;

/// A datagram to send from a LAC's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    pub lac: u16,
    pub to: SocketAddr,
    pub octets: Vec<u8>,
}

/// The cast of one simulator.
#[derive(Debug)]
pub struct Fleet {
    plan: Plan,
    rng: StdRng,
    /// One a LAC.
    traits: Vec<Traits>,
    /// One a LAC: our tunnel ids, and which tunnel has them.
    ids: Vec<HashMap<TunnelId, u32>>,
    tunnels: Vec<Tunnel>,
    subscribers: Vec<Subscriber>,
    timers: Timers,
    dialler: Dialler,
    check: Option<Check>,
    /// Who pings faster than the others.
    fast: Fast,
    prober: Option<Prober>,
    /// Between two copies of a control message, where it is not RFC 2661's.
    repeat: Option<Duration>,
    mark: Option<Mark>,
    hold: bool,
    /// Who has which address.
    addresses: HashMap<Ipv4Addr, u32>,
    outbox: VecDeque<Transmit>,
    events: VecDeque<Event>,
    moments: [u64; Moment::ALL.len()],
    /// Moments count on these tunnels alone; absent: on all.
    watched: Option<HashSet<u32>>,
    counts: Counts,
    serial: u32,
    /// Frames of the client at work; kept to spare allocations.
    frames: Vec<Vec<u8>>,
}

impl Fleet {
    /// The cast that `plan` describes; nobody dials yet.
    pub fn new(plan: Plan) -> Self {
        let secret = plan.secret.as_deref().map(Secret::new);
        let traits = (0..plan.lacs)
            .map(|lac| Traits {
                host_name: plan.host_name(lac),
                secret: secret.clone(),
                trusting: plan.trusting,
                receive_window: plan.receive_window,
                hello_interval: Duration::from_secs(plan.hello_interval),
            })
            .collect();
        let lac_of = |tunnel: u32| (tunnel % u32::from(plan.lacs.max(1))) as u16;
        let tunnels = (0..plan.tunnels)
            .map(|index| Tunnel::new(lac_of(index), plan.target))
            .collect();
        let subscribers = subscribers(&plan);
        Self {
            rng: StdRng::seed_from_u64(plan.seed),
            traits,
            ids: vec![HashMap::new(); usize::from(plan.lacs)],
            tunnels,
            subscribers,
            timers: Timers::default(),
            dialler: Dialler::default(),
            check: None,
            fast: Fast::default(),
            prober: None,
            repeat: None,
            mark: None,
            hold: false,
            addresses: HashMap::new(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            moments: [0; Moment::ALL.len()],
            watched: None,
            counts: Counts::default(),
            serial: 0,
            frames: Vec::new(),
            plan,
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Tells the fleet what the network does, on which the judgement of repeats depends.
    pub fn set_impairment(&mut self, impairment: Impairment) {
        self.plan.impairment = impairment;
    }

    /// How often a moment has come.
    pub fn moment(&self, moment: Moment) -> u64 {
        self.moments[moment as usize]
    }

    /// From here on moments count on these tunnels alone, each named by its LAC and the LAC's own id of it; absent: on all.
    pub fn watch(&mut self, tunnels: Option<&[(u16, u16)]>) {
        let index = |(lac, id): &(u16, u16)| {
            let ids = self.ids.get(usize::from(*lac))?;
            ids.get(&TunnelId::new(*id)?).copied()
        };
        self.watched = tunnels.map(|tunnels| tunnels.iter().filter_map(index).collect());
    }

    fn note_moment(&mut self, tunnel: u32, moment: Moment) {
        let counts = self
            .watched
            .as_ref()
            .is_none_or(|watched| watched.contains(&tunnel));
        self.moments[moment as usize] += u64::from(counts);
    }

    /// A datagram has arrived at a LAC's socket.
    pub fn handle_datagram(&mut self, now: Duration, lac: u16, from: SocketAddr, octets: &[u8]) {
        self.counts.received += 1;
        match header::decode(octets) {
            Ok(Packet::Control(packet)) => self.handle_control(now, lac, from, &packet),
            Ok(Packet::Data(packet)) => self.handle_data(now, lac, &packet),
            Err(_) => self.counts.undecodable += 1,
        }
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let check = self.check.as_ref().map(Check::poll_timeout);
        let dialler = self.dialler.poll_timeout(self.counts.pending);
        let prober = self.prober.as_ref().map(Prober::poll_timeout);
        [self.timers.poll_timeout(), dialler, check, prober]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some((due, owner)) = self.timers.take_due(now) {
            match owner {
                Owner::Tunnel(index) => {
                    if self.tunnels[index as usize].reminder.take(due) {
                        self.handle_tunnel_timeout(now, index);
                    }
                }
                Owner::Subscriber(index) => {
                    if self.subscribers[index as usize].reminder.take(due) {
                        self.handle_subscriber_timeout(now, index);
                    }
                }
            }
        }
        self.continue_dialling(now);
        self.continue_check(now);
        self.continue_probing(now);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.outbox.pop_front()?;
        self.counts.sent += 1;
        Some(transmit)
    }

    /// The next event to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn handle_control(&mut self, now: Duration, lac: u16, from: SocketAddr, packet: &ControlPacket<'_>) {
        let Some(index) = self.tunnel_of(lac, packet.header.tunnel) else {
            self.counts.stray += 1;
            return;
        };
        let tunnel = &mut self.tunnels[index as usize];
        if tunnel.peer().is_none() {
            // RFC 2661 §8.1: the LNS may answer from another port, which then counts.
            tunnel.remote = from;
        } else if tunnel.remote != from {
            self.counts.stray += 1;
            return;
        }
        let mut happenings = Vec::new();
        tunnel.handle_control(now, &self.traits[usize::from(lac)], packet, &mut happenings);
        self.settle_tunnel(now, index, happenings);
    }

    fn handle_data(&mut self, now: Duration, lac: u16, packet: &DataPacket<'_>) {
        let found = self.tunnel_of(lac, packet.tunnel).and_then(|index| {
            let tunnel = &mut self.tunnels[index as usize];
            tunnel.note_received(now);
            tunnel.subscriber(packet.session?)
        });
        let Some(subscriber) = found else {
            self.counts.stray += 1;
            return;
        };
        self.check_number(subscriber, packet.ns);
        self.handle_ppp(now, subscriber, packet.ns.is_some(), packet.payload);
    }

    /// Where numbers are required each data message has one, and another one.
    fn check_number(&mut self, subscriber: u32, ns: Option<u16>) {
        let call = self.subscribers[subscriber as usize].call.as_mut();
        let Some(numbers) = call.and_then(|call| call.numbers.as_mut()) else {
            return;
        };
        match ns {
            Some(ns) => self.counts.numbers_repeated += u64::from(!numbers.note(ns)),
            None => self.counts.numbers_missing += 1,
        }
    }

    fn tunnel_of(&self, lac: u16, id: Option<TunnelId>) -> Option<u32> {
        self.ids[usize::from(lac)].get(&id?).copied()
    }

    fn handle_tunnel_timeout(&mut self, now: Duration, index: u32) {
        let mut happenings = Vec::new();
        self.tunnels[index as usize].handle_timeout(now, &mut happenings);
        self.settle_tunnel(now, index, happenings);
    }

    fn handle_subscriber_timeout(&mut self, now: Duration, index: u32) {
        self.drive_client(now, index, |client, ctx| client.handle_timeout(ctx));
        self.send_due_ping(now, index);
        self.remind_subscriber(index);
    }

    /// Acts on what befell a tunnel, then sends what it has to send.
    fn settle_tunnel(&mut self, now: Duration, index: u32, happenings: Vec<Happening>) {
        for happening in happenings {
            self.handle_happening(now, index, happening);
        }
        self.flush_tunnel(now, index);
    }

    fn flush_tunnel(&mut self, now: Duration, index: u32) {
        while let Some(departure) = self.tunnels[index as usize].poll_transmit(now) {
            if let Some(mark) = self.mark.as_mut().filter(|_| departure.hello) {
                mark.note_hello_sent(index, now);
            }
            if let Some(tag) = departure.first {
                self.note_moment(index, Moment::ControlSent);
                note_departure(&mut self.subscribers, &mut self.counts, tag, now);
            }
            let tunnel = &self.tunnels[index as usize];
            self.outbox.push_back(Transmit {
                lac: tunnel.lac,
                to: tunnel.remote,
                octets: departure.octets,
            });
        }
        let tunnel = &mut self.tunnels[index as usize];
        let due = tunnel.poll_timeout();
        self.timers
            .remind(Owner::Tunnel(index), &mut tunnel.reminder, due);
    }

    fn remind_subscriber(&mut self, index: u32) {
        let subscriber = &mut self.subscribers[index as usize];
        let due = subscriber.poll_timeout();
        self.timers
            .remind(Owner::Subscriber(index), &mut subscriber.reminder, due);
    }

    /// Puts a PPP frame of a subscriber on its way.
    fn send_frame(&mut self, index: u32, frame: &[u8]) {
        let subscriber = &mut self.subscribers[index as usize];
        let tunnel = &self.tunnels[subscriber.tunnel as usize];
        let Some(call) = &mut subscriber.call else { return };
        let (Some(peer_tunnel), Some(session)) = (tunnel.peer(), call.peer) else {
            return;
        };
        let ns = call.numbered.then_some(call.data_ns);
        call.data_ns = call.data_ns.wrapping_add(u16::from(call.numbered));
        let header = DataHeader {
            ns,
            ..DataHeader::short(peer_tunnel, session)
        };
        let octets = header.message(frame).expect("a frame is not that long");
        self.outbox.push_back(Transmit {
            lac: tunnel.lac,
            to: tunnel.remote,
            octets,
        });
    }

    /// A tunnel id that this LAC does not use now.
    fn unused_tunnel_id(&mut self, lac: u16) -> TunnelId {
        let used = &self.ids[usize::from(lac)];
        loop {
            let id = TunnelId::new(self.rng.random_range(1..=u16::MAX)).expect("not zero");
            if !used.contains_key(&id) {
                return id;
            }
        }
    }
}

fn subscribers(plan: &Plan) -> Vec<Subscriber> {
    let shared = Arc::new(plan.login(0));
    let same = !plan.user.contains('%') && !plan.password.contains('%');
    let login = |number| {
        if same {
            shared.clone()
        } else {
            Arc::new(plan.login(number))
        }
    };
    (0..plan.sessions)
        .map(|number| Subscriber::new(number % plan.tunnels.max(1), login(number)))
        .collect()
}

/// An ICRQ leaves: from here on the set-up is timed.
fn note_departure(subscribers: &mut [Subscriber], counts: &mut Counts, tag: Tag, now: Duration) {
    let Tag::Call(index) = tag else { return };
    if let Some(call) = &mut subscribers[index as usize].call {
        call.asked_at = Some(now);
        counts.first_asked.get_or_insert(now);
    }
}
