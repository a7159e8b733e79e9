//! Who is alive, and who may act (design: "Who is alive, who takes over", invariant 3).
//!
//! Every node probes every other and acknowledges their probes. From the acknowledgements each forms an opinion of
//! each: alive is who acknowledged within [`SILENCE_MS`] *and* applies what is committed. So a new leader knows the
//! silence of the others already. Only the leader acts on its opinion, by [`Liveness::judgement`].
//!
//! # Why a stale owner cannot send after it was judged
//!
//! What needs no commit is sent only until [`Liveness::fresh_until`]. Let `q` be the time at which the leader sent
//! the newest probes that a quorum acknowledged as its followers.
//!
//! 1. The leader is fresh until `q + 200 ms` ([`LEASE_MS`]).
//! 2. A member that sent a probe at `s`, which the leader acknowledged at `r >= s`, is fresh until the earlier of
//!    `s + 200 ms` and the end of the leader's own freshness: the acknowledgement says what is left of it.
//! 3. *The same leader* judges: it vouches for a member no longer once that might be down within 100 ms
//!    ([`LEASE_DOUBT_MS`]), and takes it for down only when 220 ms have passed since it last vouched. As it
//!    vouched at `r`, the member's freshness ended at `r + 200 ms`.
//! 4. *Another leader* judges: its followers tell it how long ago they last supported any other leader. A quorum of
//!    them supports the new leader and so shares a member with the quorum of 1. That one supported the old leader at
//!    `q` or later and has left it since. So 220 ms after the latest of their times all freshness that
//!    came from older leaders is over, and nobody is judged before. After the death of a leader the election has
//!    lasted longer than that, and nothing is lost by it.
//!
//! So much for who is silent. Who *comes back* may not know yet that its groups were given away, so no leader vouches
//! for a member, or holds itself for fresh, that has not applied every such change that may be in a log: those of
//! earlier leaders (up to the index at which this one began to lead), and its own of that member (while one is under
//! way not at all, then from the index of its verdict on).
//!
//! Who is alive and has *lost its way to the LACs* says so, and loses its groups to those who have one. It knows of its loss
//! as soon as it has applied it, but its successor may have applied it sooner. So the leader vouches for such an owner
//! no longer as soon as it hears of it (and, if it is the owner itself, holds itself for stale), and proposes only when
//! the 220 ms of 3 have passed: what is said above of who is silent holds for this owner as well. Until it has applied
//! the change it is not vouched for again. Whose *disk is full* steps aside in the same way ([`aside`]).
//!
//! The 20 ms ([`LEASE_MARGIN_MS`]) are for clocks that differ in their rate; their readings are never compared, and
//! none of this depends on when raft's own view reaches this module. A connection that was closed and then refused
//! needs no wait: who refuses has no process that could send.
//!
//! There are no sockets or clocks here: `now` is the time since boot (CLOCK_BOOTTIME, which counts suspension), and
//! what arrives was authenticated by its carrier.

mod aside;
mod exchange;
pub mod isolation;
mod members;
mod peer;
mod support;
mod takeover;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use prost::Message;

pub use members::Members;
pub use takeover::{Judgement, Reassign};

use self::aside::Aside;
use self::isolation::Isolation;
use self::peer::{Peer, State};
use self::support::Support;
use self::takeover::Takeover;
use crate::limits::{
    LEASE_DOUBT_MS, LEASE_MARGIN_MS, LEASE_MS, LONELY_MS, PROBE_OCTETS_MAX, SILENCE_MS, START_GRACE_MS,
};
use crate::probes::{Datagram, datagram::Body};
use crate::table::Group;

const LEASE: Duration = Duration::from_millis(LEASE_MS);
const LEASE_MARGIN: Duration = Duration::from_millis(LEASE_MARGIN_MS);

// The text above rests on these.
const _: () = assert!(LEASE_MS + LEASE_MARGIN_MS <= SILENCE_MS);
const _: () = assert!(LEASE_DOUBT_MS < SILENCE_MS && SILENCE_MS < START_GRACE_MS && LONELY_MS > SILENCE_MS);

/// What this node's replica knows. A term lower than one given before is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The leader of the term; 0: none is known.
    pub leader: u64,
    /// Raft's term.
    pub term: u64,
    /// The last log index that was applied.
    pub applied: u64,
    /// The last index in the log, applied or not. Of a new leader it has to be that of its term's first entry, or later.
    pub last: u64,
    /// Of this process's accepted Take; 0: not yet.
    pub incarnation: u64,
}

/// What a node knows of its own way to the LACs; see [`crate::way`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayToLacs {
    /// It has none: its groups are to go to others.
    pub lost: bool,
    /// It may have none: it is nobody to whom groups can go. A router that dies takes the way of several nodes, and not all
    /// of them notice in the same moment.
    pub in_doubt: bool,
}

/// What has to be done or was found out, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A datagram, a probe or an acknowledgement, is to be sent to a member.
    Send {
        /// The member.
        to: u64,
        /// At most [`PROBE_OCTETS_MAX`] octets.
        octets: Vec<u8>,
    },
    /// A member went down, in this node's opinion.
    Down(u64),
    /// A member was heard for the first time, or came back.
    Back(u64),
    /// For [`LONELY_MS`] there has been no leader or no quorum (`true`), or there are both again.
    Lonely(bool),
}

/// Why a datagram was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Its sender is no member.
    #[error("node {0} is no member")]
    Stranger(u64),
    /// It is too long.
    #[error("a probe of {0} octets, {PROBE_OCTETS_MAX} are the most")]
    TooLong(usize),
    /// It cannot be decoded.
    #[error("a probe cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// It is neither a probe nor an acknowledgement, or lacks its sender's standing.
    #[error("a probe of an unknown kind")]
    UnknownKind,
}

/// The failure detector of one node.
#[derive(Debug)]
pub struct Liveness {
    me: u64,
    boot: u64,
    members: Members,
    peers: BTreeMap<u64, Peer>,
    /// Removed members, and when the last lease that we gave them is over.
    removed: BTreeMap<u64, Duration>,
    view: View,
    /// As leader: the last index in the log when this node began to lead. Below it are the ownership changes that
    /// earlier leaders proposed.
    inherited: u64,
    support: Support,
    takeover: Takeover,
    way: WayToLacs,
    /// This node's disk is full.
    full: bool,
    aside: Aside,
    isolation: Isolation,
    /// The probes of the last [`SILENCE_MS`] with their sending times. Who acknowledges an older one is not heard.
    rounds: VecDeque<(u64, Duration)>,
    next_sequence: u64,
    next_round: Duration,
    /// When there last were leader and quorum.
    connected: Duration,
    lonely: bool,
    outputs: VecDeque<Output>,
}

impl Liveness {
    /// A detector that probes at once. `boot` is a number that no earlier process of this node used.
    pub fn new(me: u64, boot: u64, members: Members, now: Duration) -> Self {
        let mut liveness = Self {
            me,
            boot,
            members: Members::default(),
            peers: BTreeMap::new(),
            removed: BTreeMap::new(),
            view: View::default(),
            inherited: 0,
            support: Support::new(now),
            takeover: Takeover::default(),
            way: WayToLacs::default(),
            full: false,
            aside: Aside::default(),
            isolation: Isolation::new(now),
            rounds: VecDeque::new(),
            next_sequence: 1,
            next_round: now,
            connected: now,
            lonely: false,
            outputs: VecDeque::new(),
        };
        liveness.set_members(now, members);
        liveness
    }

    /// The group's members changed. New ones get [`START_GRACE_MS`] to be heard.
    pub fn set_members(&mut self, now: Duration, members: Members) {
        self.wake(now);
        let mut all = members.all();
        all.remove(&self.me);
        self.removed
            .retain(|node, over| *over > now && !all.contains(node));
        for (node, peer) in self.peers.extract_if(.., |node, _| !all.contains(node)) {
            self.isolation.depart(now, node, peer.applied());
            self.removed.insert(node, peer.lease_over());
        }
        for node in all {
            self.peers.entry(node).or_insert_with(|| Peer::new(now));
        }
        self.isolation.return_of(&members.all());
        self.members = members;
    }

    /// The replica's view changed. To be called at each change of leader or term at once, and of the rest before
    /// the next round.
    pub fn set_view(&mut self, now: Duration, view: View) {
        self.wake(now);
        if view.term < self.view.term {
            return;
        }
        if (view.term, view.leader) != (self.view.term, self.view.leader) {
            self.support.change_view(now, self.view.leader == self.me);
            self.takeover = Takeover::default();
            self.aside = Aside::default();
            self.isolation.change_view(now);
            self.inherited = view.last;
            self.peers
                .values_mut()
                .for_each(|peer| peer.change_view(view.last));
        }
        self.view = view;
        self.isolation.advance(view.applied);
    }

    /// What this node knows of its way to the LACs: the others hear of it with what they are told anyway.
    pub fn set_way(&mut self, way: WayToLacs) {
        self.way = way;
    }

    /// A datagram of a member came.
    ///
    /// # Errors
    /// It is dropped; nothing changes.
    pub fn handle_message(&mut self, now: Duration, from: u64, octets: &[u8]) -> Result<(), ProbeError> {
        self.wake(now);
        if octets.len() > PROBE_OCTETS_MAX {
            return Err(ProbeError::TooLong(octets.len()));
        }
        if !self.peers.contains_key(&from) {
            return Err(ProbeError::Stranger(from));
        }
        match Datagram::decode(octets)?.body {
            Some(Body::Probe(probe)) => self.handle_probe(now, from, &probe),
            Some(Body::Ack(ack)) => self.handle_ack(now, from, &ack),
            None => Err(ProbeError::UnknownKind),
        }
    }

    /// A member's connection was closed, and a new one refused (ECONNREFUSED): its process is gone.
    pub fn handle_closed(&mut self, now: Duration, node: u64) {
        self.wake(now);
        let floor = self.next_sequence;
        if self.peers.get_mut(&node).is_some_and(|peer| peer.close(floor)) {
            self.outputs.push_back(Output::Down(node));
        }
    }

    /// Probes, and judges those whose time is over. Does nothing before [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Duration) {
        self.wake(now);
        if now < self.next_round {
            return;
        }
        self.follow_self(now);
        self.look_at_horizon(now);
        self.probe(now);
        for (node, peer) in &mut self.peers {
            if peer.check(now) {
                self.outputs.push_back(Output::Down(*node));
            }
        }
        self.check_connected(now);
    }

    /// When [`Self::handle_timeout`] has something to do. A later call extends all deadlines by its lateness.
    pub fn poll_timeout(&self) -> Duration {
        self.next_round
    }

    /// The next output; to be drained after each input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Until when this node may send what needs no commit (invariant 3): `None` for ever, in a group of one;
    /// otherwise a time of `now`'s clock, which lies in the past if it may not.
    pub fn fresh_until(&self) -> Option<Duration> {
        if self.members.is_alone(self.me) {
            return None;
        }
        if !self.leads() {
            return Some(self.support.lease_until);
        }
        match self.takeover.is_leaving(self.me) {
            true => Some(Duration::ZERO),
            false => Some(self.own_lease()),
        }
    }

    /// Whether a member is alive in this node's opinion; this node always is.
    pub fn is_alive(&self, node: u64) -> bool {
        node == self.me
            || self
                .peers
                .get(&node)
                .is_some_and(|peer| peer.state == State::Alive)
    }

    /// The members that are alive in this node's opinion with their incarnations (0: none known yet), in order.
    pub fn alive(&self) -> BTreeMap<u64, u64> {
        let peers = self.peers.iter().filter(|(_, peer)| peer.state == State::Alive);
        let mut alive: BTreeMap<u64, u64> = peers.map(|(node, peer)| (*node, peer.incarnation)).collect();
        alive.insert(self.me, self.view.incarnation);
        alive
    }

    /// The living members that say they have lost their way to the LACs.
    pub fn wayless(&self) -> BTreeSet<u64> {
        self.alive_with(|way| way.lost)
    }

    fn alive_with(&self, says: impl Fn(WayToLacs) -> bool) -> BTreeSet<u64> {
        let alive = self.peers.iter().filter(|(_, peer)| peer.state == State::Alive);
        let ways = alive.map(|(node, peer)| (*node, peer.way));
        let ways = ways.chain(std::iter::once((self.me, self.way)));
        ways.filter(|(_, way)| says(*way)).map(|(node, _)| node).collect()
    }

    /// The last log entry that each member which was ever heard has applied, as it last said, and this node's.
    pub fn applied(&self) -> BTreeMap<u64, u64> {
        let heard = self.peers.iter().filter(|(_, peer)| peer.state != State::Unheard);
        let mut applied: BTreeMap<u64, u64> = heard.map(|(node, peer)| (*node, peer.applied())).collect();
        applied.insert(self.me, self.view.applied);
        applied
    }

    /// What a leader may act on. `None` if this node does not lead, cannot be sure that it still does, or if
    /// leases of an earlier leader may still run.
    pub fn judgement(&self, now: Duration) -> Option<Judgement> {
        let fresh = self.members.is_alone(self.me) || now < self.own_lease();
        let past = |node| match node == self.me {
            true => Some(self.support.of_others),
            false => self.peers.get(&node)?.other_support,
        };
        let settled = self.members.behind(past)? + LEASE + LEASE_MARGIN;
        if !self.leads() || !fresh || now < settled {
            return None;
        }
        let unheard = self.peers.iter().filter(|(_, peer)| peer.state == State::Unheard);
        let leaving = self.removed.iter().filter(|(_, over)| now < **over);
        let down = self.peers.iter().filter(|(_, peer)| peer.state == State::Down);
        Some(Judgement {
            alive: self.alive(),
            stepping_aside: self.stepping_aside(),
            unfit: self.unfit(),
            down: down.map(|(node, peer)| (*node, peer.incarnation)).collect(),
            undecided: unheard
                .map(|(node, _)| *node)
                .chain(leaving.map(|(node, _)| *node))
                .collect(),
        })
    }

    /// What this node as leader has to propose now (`Assign`); it then counts as under way. To be asked at each
    /// `Down`, at each change of leader, and every [`REASSIGN_RETRY_MS`](crate::limits::REASSIGN_RETRY_MS).
    /// The command has to be proposed in the view's term or not at all, by this node's own log: forwarded to
    /// another leader it would escape the rules above.
    ///
    /// `groups`: the table's. `witnesses` own nothing.
    pub fn reassign(&mut self, now: Duration, groups: &[Group], witnesses: &BTreeSet<u64>) -> Vec<Reassign> {
        let Some(judgement) = self.judgement(now) else {
            return Vec::new();
        };
        let due = self.takeover.due(now, &judgement, groups, witnesses);
        for reassign in &due {
            if let Some(peer) = self.peers.get_mut(&reassign.from) {
                peer.replacing += 1;
            }
        }
        due
    }

    /// A verdict on a [`Reassign`] came, whatever it says, also that the proposal was lost. `applied`: our last applied
    /// index then. The next may be proposed, not sooner than
    /// [`REASSIGN_RETRY_MS`](crate::limits::REASSIGN_RETRY_MS) after the last.
    pub fn handle_verdict(&mut self, from: u64, applied: u64) {
        self.takeover.handle_verdict(from);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.settle(applied.max(self.view.last));
        }
    }

    fn leads(&self) -> bool {
        self.view.leader == self.me
    }
}
