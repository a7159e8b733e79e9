//! What the rest of the node holds: sending without waiting, and who is there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc::UnboundedSender;

use super::limits::QUEUE_OCTETS_MAX;
use super::{Frame, Hello, PeerEvents, PeerStatus, PeersConfig, StartError};
use crate::config::MemberConfig;
use crate::metrics::{Counter, Limit, Metrics};

/// The connections of this node. See [`Peers::start`].
#[derive(Debug)]
pub struct Peers;

/// For whoever sends. Clones are cheap.
#[derive(Clone, Debug)]
pub struct PeersHandle {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the handle and the peers thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) metrics: Arc<Metrics>,
}

/// Another member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) config: MemberConfig,
    /// The stream to it, while it is ready.
    pub(super) line: ArcSwapOption<Line>,
    pub(super) notes: Mutex<Notes>,
}

/// For people.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) hello: Option<Hello>,
    pub(super) heard: bool,
    pub(super) last_error: Option<String>,
}

/// A ready stream to a member, as its senders see it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) frames: UnboundedSender<Vec<u8>>,
    /// Octets in `frames`.
    pub(super) queued: AtomicUsize,
    pub(super) since: Instant,
}

impl Peers {
    /// Listens, and dials all members until [`PeersHandle::stop`].
    pub fn start(config: PeersConfig, _events: impl PeerEvents) -> Result<PeersHandle, StartError> {
        let members = config.members.iter().filter(|member| member.id != config.node);
        let members = members
            .map(|member| (member.id, Member::new(member.clone())))
            .collect();
        let metrics = config.metrics;
        metrics.set_limit(Limit::PeerQueue, QUEUE_OCTETS_MAX as u64);
        Ok(PeersHandle {
            shared: Arc::new(Shared { members, metrics }),
            thread: Arc::default(),
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
        let Ok(octets) = frame.encode() else {
            metrics.count(Counter::PeersFramesDropped);
            return false;
        };
        let length = octets.len();
        let queued = line.queued.fetch_add(length, Ordering::Relaxed);
        if queued + length > QUEUE_OCTETS_MAX {
            line.queued.fetch_sub(length, Ordering::Relaxed);
            metrics.hit(Limit::PeerQueue);
            metrics.count(Counter::PeersFramesDropped);
            return false;
        }
        if line.frames.send(octets).is_err() {
            metrics.count(Counter::PeersFramesUnreachable);
            return false;
        }
        metrics.count(Counter::PeersFramesSent);
        true
    }

    /// Seals and sends a datagram of 1,200 octets at most. `false`: not sent; counted.
    pub fn send_datagram(&self, _to: u64, _octets: Vec<u8>) -> bool {
        self.shared.metrics.count(Counter::PeersDatagramsDropped);
        false
    }

    /// The members to which frames can be sent now, in the order of their ids.
    pub fn connected(&self) -> Vec<u64> {
        let connected = |(id, member): (&u64, &Member)| member.line.load().is_some().then_some(*id);
        self.shared.members.iter().filter_map(connected).collect()
    }

    /// All other members, in the order of their ids.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.shared.members.values().map(Member::status).collect()
    }

    /// Ends all connections and waits for the thread. Not to be called by [`PeerEvents`].
    pub fn stop(&self) {
        let thread = self
            .thread
            .lock()
            .expect("never poisoned: held for a take")
            .take();
        if let Some(thread) = thread {
            // A panic there has been reported by the thread itself.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn line(&self, to: u64) -> Option<Arc<Line>> {
        self.members.get(&to)?.line.load_full()
    }
}

impl Member {
    fn new(config: MemberConfig) -> Self {
        Self {
            config,
            line: ArcSwapOption::empty(),
            notes: Mutex::default(),
        }
    }

    fn status(&self) -> PeerStatus {
        let line = self.line.load();
        let notes = self.notes.lock().expect("never poisoned: held for assignments");
        PeerStatus {
            member: self.config.clone(),
            hello: notes.hello.clone(),
            connected: line.as_ref().map(|line| line.since.elapsed()),
            heard: notes.heard,
            queued_octets: line
                .as_ref()
                .map_or(0, |line| line.queued.load(Ordering::Relaxed)),
            last_error: notes.last_error.clone(),
        }
    }
}
