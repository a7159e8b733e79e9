//! Who lives and hands over to those who can serve: a node that has lost its way to the LACs, and one whose disk is full.
//!
//! With a full disk a node keeps up with the log on a reserve and takes no new call. Its groups go as those of a node without a way
//! do (see `takeover`); and it does not lead: a leader whose reserve ends would take the cluster's control along.
//! Nothing is given back by itself when there is space again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Liveness;
use super::peer::{Peer, State};
use crate::limits::{ASIDE_PATIENCE_MS, ASIDE_RETRY_MS};
use crate::table::Group;

/// A leader on its way out.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Since when its disk is full.
    since: Option<Duration>,
    /// When it last tried to pass the lead on.
    tried: Option<Duration>,
}

impl Liveness {
    /// Whether this node's disk is full: the others hear of it with what they are told anyway.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// The living members whose disks are full.
    pub fn full(&self) -> BTreeSet<u64> {
        let says = |(node, peer): (&u64, &Peer)| (peer.state == State::Alive && peer.full).then_some(*node);
        let own = Some(self.me).filter(|_| self.full);
        self.peers.iter().filter_map(says).chain(own).collect()
    }

    /// Those, and who may have lost its way to the LACs: nobody to whom groups can go.
    pub fn unfit(&self) -> BTreeSet<u64> {
        let in_doubt = self.alive_with(|way| way.lost || way.in_doubt);
        in_doubt.union(&self.full()).copied().collect()
    }

    /// Who lives and can serve nobody.
    pub(super) fn stepping_aside(&self) -> BTreeSet<u64> {
        self.wayless().union(&self.full()).copied().collect()
    }

    /// Who of `voters`, best first, is to lead in place of this node, whose disk is full: once it owns no groups any more, or nobody
    /// has taken them for [`ASIDE_PATIENCE_MS`].
    pub fn pass_lead_to(&mut self, now: Duration, groups: &[Group], voters: &[u64]) -> Option<u64> {
        if !self.full || !self.leads() {
            self.aside = Aside::default();
            return None;
        }
        let since = *self.aside.since.get_or_insert(now);
        let owns = groups.iter().any(|group| group.owner == self.me);
        let is_early = owns && now < since + Duration::from_millis(ASIDE_PATIENCE_MS);
        let is_under_way = |tried: Duration| now < tried + Duration::from_millis(ASIDE_RETRY_MS);
        if is_early || self.aside.tried.is_some_and(is_under_way) {
            return None;
        }
        let full = self.full();
        let can_lead = |node: &&u64| **node != self.me && self.is_alive(**node) && !full.contains(node);
        let next = voters.iter().find(can_lead).copied();
        if next.is_some() {
            self.aside.tried = Some(now);
        }
        next
    }
}
