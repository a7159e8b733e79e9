//! The calls of one tunnel, by our session id and by the peer's, and their deadlines.
//!
//! Bounded by the id space: 65,535 calls and 65,535 requests a tunnel; the caller sets lower limits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Call, CallSnapshot, CallState};
use crate::ids::SessionId;

/// All calls of a tunnel, and the requests that the caller has not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    by_local: BTreeMap<SessionId, Call>,
    by_peer: BTreeMap<SessionId, SessionId>,
    deadlines: BTreeSet<(Duration, SessionId)>,
    requests: BTreeSet<SessionId>,
}

impl Calls {
    pub(crate) fn insert(&mut self, local: SessionId, call: Call) {
        self.remove(local);
        if let Some(peer) = call.peer {
            self.by_peer.insert(peer, local);
        }
        if let Some(deadline) = call.deadline {
            self.deadlines.insert((deadline, local));
        }
        self.by_local.insert(local, call);
    }

    pub(crate) fn remove(&mut self, local: SessionId) -> Option<Call> {
        let call = self.by_local.remove(&local)?;
        if let Some(peer) = call.peer {
            self.by_peer.remove(&peer);
        }
        if let Some(deadline) = call.deadline {
            self.deadlines.remove(&(deadline, local));
        }
        Some(call)
    }

    pub(crate) fn get(&self, local: SessionId) -> Option<&Call> {
        self.by_local.get(&local)
    }

    pub(crate) fn by_peer(&self, peer: SessionId) -> Option<SessionId> {
        self.by_peer.get(&peer).copied()
    }

    /// LAC: the peer named the call. Only its first name counts.
    pub(crate) fn learn_peer(&mut self, local: SessionId, peer: SessionId) {
        if let Some(call) = self.by_local.get_mut(&local).filter(|call| call.peer.is_none()) {
            call.peer = Some(peer);
            self.by_peer.insert(peer, local);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_local.len()
    }

    /// An id that no call has, for a call that is refused before it got one. Mostly the one after the highest.
    pub(crate) fn free_id(&self) -> Option<SessionId> {
        let highest = self.by_local.last_key_value().map_or(0, |(local, _)| local.get());
        let next = highest.checked_add(1).and_then(SessionId::new);
        next.or_else(|| {
            (1..=u16::MAX)
                .filter_map(SessionId::new)
                .find(|id| !self.by_local.contains_key(id))
        })
    }

    pub(crate) fn in_state(&self, state: CallState) -> Vec<SessionId> {
        self.by_local
            .iter()
            .filter(|(_, call)| call.state == state)
            .map(|(local, _)| *local)
            .collect()
    }

    pub(crate) fn add_request(&mut self, peer: SessionId) {
        self.requests.insert(peer);
    }

    /// Whether the peer's request was still unanswered.
    pub(crate) fn take_request(&mut self, peer: SessionId) -> bool {
        self.requests.remove(&peer)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A call whose deadline has passed.
    pub(crate) fn expired(&self, now: Duration) -> Option<SessionId> {
        self.deadlines
            .first()
            .filter(|(deadline, _)| *deadline <= now)
            .map(|(_, local)| *local)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn snapshot(&self) -> impl Iterator<Item = CallSnapshot> {
        self.by_local.iter().map(|(local, call)| call.snapshot(*local))
    }

    pub(crate) fn restore(&mut self, snapshot: &CallSnapshot) {
        let call = Call {
            peer: snapshot.peer,
            role: snapshot.role,
            state: snapshot.state,
            deadline: snapshot.deadline,
            dial: snapshot.dial.clone(),
        };
        self.insert(snapshot.local, call);
    }
}
