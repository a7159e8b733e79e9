//! Until when a node that hears nothing may go on forwarding, and what no node that still forwards can have missed (invariant 7).
//!
//! A node may hold a session in its forwarding table that the others have removed, and forward for it until it has passed its
//! *isolation limit*: so long after the last time at which it *followed* the group. It followed at `s` if it sent a probe at `s`
//! which the leader of its view acknowledged with a lease, and has since applied what the leader said then that it had applied; or,
//! as leader, if `s` is the sending time of the newest probes that a quorum acknowledged. A process that has not followed yet does
//! not forward.
//!
//! # Why nobody forwards for long what was released
//!
//! Let a release be applied anywhere at `t`. So it was committed by then, and whoever leads from then on has applied it
//! before it gives leases; the leader that committed it may speak of less for as long as one lease, while it does not run. So a node
//! that followed at `t + 200 ms` or later has applied the release, and one that has not stops at `t + 200 ms + limit` by its own
//! clock: whatever is known of it, [`wait`] after `t` is enough.
//!
//! Mostly it need not take that long. The *horizon* is an index that every member has applied which still forwards. Anybody may
//! take the least of what the members last said. A leader leaves out those to whom nobody can have given a lease for
//! [`wait`]: it has given none, and before it led its predecessors' leases ended within one. A horizon that was right once stays so,
//! for indexes only grow, and who begins anew at a lower one does not forward before it has followed; so the members tell each
//! other their horizons, and the highest is everybody's.
//!
//! A member that was removed may not know, and counts until it must have stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LEASE, LEASE_MARGIN, Liveness};
use crate::limits::ISOLATION_LIMIT_S;

/// How long after a release was applied here nobody forwards any more who has not applied it. A tenth is for clocks that differ in
/// their rate.
pub fn wait(limit: Duration) -> Duration {
    limit + limit / 10 + LEASE + LEASE_MARGIN
}

/// What one node knows of its own isolation and of the others'.
#[derive(Debug)]
pub(super) struct Isolation {
    limit: Duration,
    /// When this node last followed the group.
    followed: Option<Duration>,
    /// It has followed at this time once it has applied so much. The oldest one: the next comes soon enough.
    due: Option<(Duration, u64)>,
    /// When this node's view began.
    view_since: Duration,
    horizon: u64,
    /// Members that were removed: what they had applied, and when they were.
    departed: BTreeMap<u64, (u64, Duration)>,
}

impl Isolation {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            limit: Duration::from_secs(ISOLATION_LIMIT_S),
            followed: None,
            due: None,
            view_since: now,
            horizon: 0,
            departed: BTreeMap::new(),
        }
    }

    /// The leader acknowledged with a lease what was sent at `sent`, and has applied `applied`.
    pub(super) fn hear(&mut self, sent: Duration, applied: u64) {
        self.due.get_or_insert((sent, applied));
    }

    /// This node has applied `applied`.
    pub(super) fn advance(&mut self, applied: u64) {
        if let Some((sent, _)) = self.due.take_if(|(_, index)| *index <= applied) {
            self.follow(sent);
        }
    }

    pub(super) fn follow(&mut self, at: Duration) {
        self.followed = self.followed.max(Some(at));
    }

    /// Another leader, another term, or none. What the last leader said holds on.
    pub(super) fn change_view(&mut self, now: Duration) {
        self.view_since = now;
    }

    /// A member says that every node which still forwards has applied so much.
    pub(super) fn learn(&mut self, horizon: u64) {
        self.horizon = self.horizon.max(horizon);
    }

    pub(super) fn depart(&mut self, now: Duration, node: u64, applied: u64) {
        self.departed.insert(node, (applied, now));
    }

    /// Removed members that are members again speak for themselves.
    pub(super) fn return_of(&mut self, members: &BTreeSet<u64>) {
        self.departed.retain(|node, _| !members.contains(node));
    }

    pub(super) fn horizon(&self) -> u64 {
        self.horizon
    }
}

impl Liveness {
    /// How long this node may forward without following the group; the same in all members.
    pub fn set_isolation_limit(&mut self, limit: Duration) {
        self.isolation.limit = limit;
    }

    /// Until when this node may forward user data: `None` for ever, in a group of one; zero: not yet.
    pub fn forward_until(&self) -> Option<Duration> {
        if self.members.is_alone(self.me) {
            return None;
        }
        let until = |followed| followed + self.isolation.limit;
        Some(self.isolation.followed.map_or(Duration::ZERO, until))
    }

    /// The last log entry that every node has applied which still forwards: what it released, or any before it, anybody may have.
    /// In a group of one, anything.
    pub fn horizon(&self) -> u64 {
        match self.members.is_alone(self.me) && self.isolation.departed.is_empty() {
            true => u64::MAX,
            false => self.isolation.horizon(),
        }
    }

    /// As leader, this node follows itself while a quorum follows it.
    pub(super) fn follow_self(&mut self, now: Duration) {
        let lease = self.own_lease();
        if self.leads() && now < lease {
            self.isolation.follow(lease.saturating_sub(LEASE).min(now));
        }
    }

    /// Looks how far all are that still forward.
    pub(super) fn look_at_horizon(&mut self, now: Duration) {
        let wait = wait(self.isolation.limit);
        self.isolation
            .departed
            .retain(|_, (_, since)| now < *since + wait);
        let leads = self.leads() && now < self.own_lease();
        let since = self.isolation.view_since;
        let counts = |vouched: Duration| !leads || now < vouched.max(since) + wait;
        let peers = self.peers.values().filter(|peer| counts(peer.vouched()));
        let departed = self.isolation.departed.values().map(|(applied, _)| *applied);
        let applied = peers.map(|peer| peer.applied()).chain(departed);
        let horizon = applied.fold(self.view.applied, u64::min);
        self.isolation.learn(horizon);
    }
}
