//! What the rest of the node holds: sending without waiting, and who is there.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use holdfast_cluster::replica::Lineage;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};

use super::accept::Inbound;
use super::datagram::{Openers, Sealer};
use super::frame::Encoded;
use super::limits::{DOUBLED_MEMORY, HANDSHAKES_MAX, LONG_OCTETS_MAX, PASSED_OCTETS_MAX, QUEUE_OCTETS_MAX};
use super::refusal::{Refusal, Refusals};
use super::stream::reachable_from;
use super::thread::{self, Sockets};
use super::tls::{Credentials, Expected};
use super::{Frame, Hello, Identity, Past, PeerEvents, PeerStatus, PeersConfig, StartError, credentials};
use crate::config::{ClusterConfig, MemberConfig};
use crate::metrics::{Counter, Limit, Metrics};

/// The connections of this node. See [`Peers::start`].
#[derive(Debug)]
pub struct Peers;

/// For whoever sends. Clones are cheap.
#[derive(Clone, Debug)]
pub struct PeersHandle {
    shared: Arc<Shared>,
    /// Dropped with the last handle, which ends the thread too.
    running: Arc<Mutex<Option<Running>>>,
}

/// The thread, and what ends it when dropped.
#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What the handle and the peers thread share.
#[derive(Debug)]
pub(super) struct Shared {
    /// All but this node. A reload swaps it.
    pub(super) members: ArcSwap<BTreeMap<u64, Arc<Member>>>,
    /// Those who are to be dialled from now on. Locked while the members change.
    newcomers: Mutex<UnboundedSender<Arc<Member>>>,
    /// Who we are.
    pub(super) own: Identity,
    /// Our certificate and what we trust. A reload swaps it, for connections made from then on.
    pub(super) credentials: ArcSwap<Credentials>,
    /// What we say first. The configuration in it may change.
    pub(super) hello: ArcSwap<Hello>,
    /// Where we listen, and from where we dial.
    pub(super) listen: SocketAddr,
    udp: UdpSocket,
    pub(super) openers: Openers,
    pub(super) refusals: Refusals,
    pub(super) metrics: Arc<Metrics>,
}

/// Another member.
#[derive(Debug)]
pub(super) struct Member {
    /// Its address may change: for streams that are dialled from then on.
    pub(super) config: ArcSwap<MemberConfig>,
    /// The stream to it, while it is ready.
    pub(super) line: ArcSwapOption<Line>,
    /// The stream from it, while it is ready.
    pub(super) inbound: Mutex<Option<Inbound>>,
    /// It has reached us, and so can be reached.
    pub(super) heard_of: Notify,
    /// It is no member any more: its dialler ends.
    pub(super) hang_up: Notify,
    notes: Mutex<Notes>,
}

/// For people.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) hello: Option<Hello>,
    pub(super) heard: bool,
    pub(super) last_error: Option<String>,
    /// When another process of it, beside the one that is connected, was refused last, and in what words.
    pub(super) doubled: Option<(Instant, String)>,
}

/// A ready stream to a member, as its senders see it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) frames: Lane,
    /// Raft messages that go in parts.
    pub(super) long: Lane,
    /// Where it leads, and its datagrams go, even if the member is to be dialled elsewhere by now.
    address: SocketAddr,
    sealer: Sealer,
    since: Instant,
}

/// A queue of a line.
#[derive(Debug)]
pub(super) struct Lane {
    /// Bounded by `queued`.
    octets: UnboundedSender<Vec<u8>>,
    /// Octets that wait or are being written.
    pub(super) queued: AtomicUsize,
}

impl Peers {
    /// Listens, and dials all members until [`PeersHandle::stop`].
    pub fn start(config: PeersConfig, events: impl PeerEvents) -> Result<PeersHandle, StartError> {
        let credentials = load(&config.cluster, config.node).map_err(StartError::Credentials)?;
        let listen = config.cluster.listen;
        let sockets = Sockets::open(listen).map_err(|source| StartError::Listen {
            address: listen,
            source,
        })?;
        let udp = sockets.udp.try_clone().map_err(StartError::Thread)?;
        let metrics = config.metrics.clone();
        metrics.set_limit(Limit::PeerQueue, QUEUE_OCTETS_MAX as u64);
        metrics.set_limit(Limit::PeerPassed, PASSED_OCTETS_MAX as u64);
        metrics.set_limit(Limit::PeerHandshakes, HANDSHAKES_MAX as u64);
        let (newcomers, to_dial) = unbounded_channel();
        let shared = Arc::new(Shared {
            members: ArcSwap::default(),
            newcomers: Mutex::new(newcomers),
            own: Identity {
                cluster_id: config.cluster.id.clone(),
                node: config.node,
            },
            credentials: ArcSwap::from_pointee(credentials),
            hello: ArcSwap::from_pointee(config.hello.clone()),
            listen,
            udp,
            openers: Openers::default(),
            refusals: Refusals::default(),
            metrics,
        });
        shared.set_members(&config.members);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::start(shared.clone(), sockets, Arc::new(events), to_dial, stopped)?;
        Ok(PeersHandle {
            shared,
            running: Arc::new(Mutex::new(Some(Running { stop, thread }))),
        })
    }
}

impl PeersHandle {
    /// Hands a frame to the stream of a member. `false`: it is not connected, its queue is full or the frame is too long;
    /// counted. Never waits; `true` does not mean that it will arrive.
    pub fn send(&self, to: u64, frame: Frame) -> bool {
        let metrics = &self.shared.metrics;
        let Some(line) = self.shared.line(to) else {
            metrics.count(Counter::PeersFramesUnreachable);
            return false;
        };
        let (limit, named) = match frame {
            Frame::Passed(_) => (PASSED_OCTETS_MAX, Limit::PeerPassed),
            _ => (QUEUE_OCTETS_MAX, Limit::PeerQueue),
        };
        let (octets, lane, limit) = match frame.encode() {
            Ok(Encoded::Frame(octets)) => (octets, &line.frames, limit),
            Ok(Encoded::Long(octets)) => (octets, &line.long, LONG_OCTETS_MAX),
            Err(_) => {
                metrics.count(Counter::PeersFramesDropped);
                return false;
            }
        };
        let length = octets.len();
        let queued = lane.queued.fetch_add(length, Ordering::Relaxed);
        if queued > 0 && queued + length > limit {
            lane.queued.fetch_sub(length, Ordering::Relaxed);
            metrics.hit(named);
            metrics.count(Counter::PeersFramesDropped);
            return false;
        }
        if lane.octets.send(octets).is_err() {
            metrics.count(Counter::PeersFramesUnreachable);
            return false;
        }
        metrics.count(Counter::PeersFramesSent);
        true
    }

    /// Seals and sends a datagram of 1,200 octets at most. `false`: not sent; counted.
    pub fn send_datagram(&self, to: u64, octets: Vec<u8>) -> bool {
        let shared = &self.shared;
        let sent = shared.line(to).is_some_and(|line| {
            let target = reachable_from(shared.listen, line.address);
            // An error may be ICMP's word on an earlier one; a datagram that is lost comes again.
            let sealed = line.sealer.seal(&octets);
            sealed.is_some_and(|sealed| shared.udp.send_to(&sealed, target).is_ok())
        });
        let counter = if sent {
            Counter::PeersDatagramsSent
        } else {
            Counter::PeersDatagramsDropped
        };
        shared.metrics.count(counter);
        sent
    }

    /// The members to which frames can be sent now, in the order of their ids.
    pub fn connected(&self) -> Vec<u64> {
        let connected = |(id, member): (&u64, &Arc<Member>)| member.line.load().is_some().then_some(*id);
        self.shared.members.load().iter().filter_map(connected).collect()
    }

    /// All other members, in the order of their ids.
    pub fn status(&self) -> Vec<PeerStatus> {
        let members = self.shared.members.load();
        members.values().map(|member| member.status()).collect()
    }

    /// Who the members are from now on, this node perhaps among them: who is new is dialled, who is gone is hung up on. Streams that
    /// stand stay, also where a member's address is another one now: that is for the next one.
    pub fn set_members(&self, members: &[MemberConfig]) {
        self.shared.set_members(members);
    }

    /// From now on we say that this is the digest of our configuration.
    pub fn set_configuration(&self, configuration: Vec<u8>) {
        self.amend_hello(|hello| hello.configuration.clone_from(&configuration));
    }

    /// From now on we say that this is what we remember of the cluster.
    pub fn set_past(&self, past: Past) {
        self.amend_hello(|hello| hello.past.clone_from(&past));
    }

    fn amend_hello(&self, amend: impl Fn(&mut Hello)) {
        self.shared.hello.rcu(|hello| {
            let mut hello = Hello::clone(hello);
            amend(&mut hello);
            hello
        });
    }

    /// Reads certificate, key and CA anew, for connections made from now on; those that stand stay. `false`: they are as before.
    ///
    /// # Errors
    /// What is wrong with the files; the earlier ones stay in use.
    pub fn renew(&self, cluster: &ClusterConfig) -> Result<bool, String> {
        let shared = &self.shared;
        let credentials = load(cluster, shared.own.node)?;
        if credentials.is_same(&shared.credentials.load()) {
            return Ok(false);
        }
        shared.credentials.store(Arc::new(credentials));
        Ok(true)
    }

    /// From now on we say that this is the cluster that our log belongs to.
    pub fn set_lineage(&self, lineage: Lineage) {
        self.amend_hello(|hello| hello.lineage = lineage);
    }

    /// Ends all connections and waits for the thread. Not to be called by [`PeerEvents`].
    pub fn stop(&self) {
        let running = self
            .running
            .lock()
            .expect("never poisoned: held for a take")
            .take();
        if let Some(Running { stop, thread }) = running {
            drop(stop);
            // A panic there has been reported by the thread itself.
            drop(thread.join());
        }
    }
}

fn load(cluster: &ClusterConfig, node: u64) -> Result<Credentials, String> {
    credentials::load(cluster, node).map_err(|findings| {
        let texts: Vec<_> = findings.into_iter().map(|finding| finding.text).collect();
        texts.join("; ")
    })
}

impl Shared {
    /// Who may be at the other end of a stream.
    pub(super) fn expected(&self, dialled: Option<u64>) -> Expected {
        Expected {
            own: self.own.clone(),
            members: self.members.load().keys().copied().collect(),
            dialled,
        }
    }

    /// A member, unless it is this node or none.
    pub(super) fn member(&self, node: u64) -> Option<Arc<Member>> {
        self.members.load().get(&node).cloned()
    }

    fn line(&self, to: u64) -> Option<Arc<Line>> {
        self.members.load().get(&to)?.line.load_full()
    }

    fn set_members(&self, configured: &[MemberConfig]) {
        let newcomers = self.newcomers.lock().expect("nothing panics with it locked");
        let earlier = self.members.load_full();
        let others = configured.iter().filter(|member| member.id != self.own.node);
        let members: BTreeMap<u64, Arc<Member>> = others
            .map(|config| {
                let member = earlier.get(&config.id).cloned();
                let member = member.unwrap_or_else(|| Arc::new(Member::new(config.clone())));
                member.configure(config);
                (config.id, member)
            })
            .collect();
        // Before anyone is hung up on, so that nobody of those is let in again.
        self.members.store(Arc::new(members.clone()));
        for (_, gone) in earlier.iter().filter(|(node, _)| !members.contains_key(node)) {
            gone.hang_up();
        }
        for (_, member) in members
            .into_iter()
            .filter(|(node, _)| !earlier.contains_key(node))
        {
            // Without the thread, which is being stopped, nobody is dialled.
            let _ = newcomers.send(member);
        }
    }

    /// Whether a member belongs to the cluster that we belong to. Who has been left behind hears of it by `events`.
    pub(super) fn same_generation(&self, theirs: &Hello, events: &dyn PeerEvents) -> Result<(), Refusal> {
        let ours = self.hello.load().lineage;
        if ours.goes_with(theirs.lineage) {
            return Ok(());
        }
        if ours.is_superseded_by(theirs.lineage) {
            events.on_superseded(theirs.node);
        }
        Err(Refusal::Generation {
            node: theirs.node,
            earlier: theirs.lineage.is_superseded_by(ours),
        })
    }
}

impl Member {
    fn new(config: MemberConfig) -> Self {
        Self {
            config: ArcSwap::from_pointee(config),
            line: ArcSwapOption::empty(),
            inbound: Mutex::default(),
            heard_of: Notify::new(),
            hang_up: Notify::new(),
            notes: Mutex::default(),
        }
    }

    /// Where it is to be dialled.
    pub(super) fn address(&self) -> SocketAddr {
        self.config.load().address
    }

    fn configure(&self, config: &MemberConfig) {
        if **self.config.load() != *config {
            self.config.store(Arc::new(config.clone()));
            // Who could not be reached is tried there at once.
            self.heard_of.notify_one();
        }
    }

    /// Ends the streams both ways.
    fn hang_up(&self) {
        self.hang_up.notify_one();
        let inbound = self.inbound.lock().expect("never poisoned: held for a swap");
        if let Some(inbound) = inbound.as_ref() {
            inbound.end();
        }
    }

    /// Reads or changes the notes.
    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Notes) -> T) -> T {
        change(&mut self.notes.lock().expect("never poisoned: held for assignments"))
    }

    fn status(&self) -> PeerStatus {
        let line = self.line.load();
        let notes = self.notes.lock().expect("never poisoned: held for assignments");
        PeerStatus {
            member: MemberConfig::clone(&self.config.load()),
            hello: notes.hello.clone(),
            connected: line.as_ref().map(|line| line.since.elapsed()),
            heard: notes.heard,
            queued_octets: line
                .as_ref()
                .map_or(0, |line| line.frames.queued() + line.long.queued()),
            last_error: notes.last_error.clone(),
            doubled: notes
                .doubled
                .as_ref()
                .filter(|(at, _)| at.elapsed() < DOUBLED_MEMORY)
                .map(|(_, text)| text.clone()),
        }
    }
}

impl Line {
    /// With nothing queued.
    pub(super) fn new(
        frames: UnboundedSender<Vec<u8>>,
        long: UnboundedSender<Vec<u8>>,
        address: SocketAddr,
        sealer: Sealer,
    ) -> Self {
        let lane = |octets| Lane {
            octets,
            queued: AtomicUsize::new(0),
        };
        Self {
            frames: lane(frames),
            long: lane(long),
            address,
            sealer,
            since: Instant::now(),
        }
    }
}

impl Lane {
    fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}
