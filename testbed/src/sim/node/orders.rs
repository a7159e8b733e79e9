//! What an operator orders of a node, as the daemon's `server/membership.rs` and `server/cluster_orders.rs` carry it out, a step at
//! a time.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_cluster::commands::Move;
use holdfast_cluster::limits::WITNESS_LEAD_TICKS;
use holdfast_cluster::liveness;
use holdfast_cluster::replica::{MemberChange, Members};
use holdfast_cluster::table::preferred_owner;

use super::process::Process;
use super::table::{Input, Reply};

/// As the failure detector knows them.
pub(super) fn voting(group: &Members) -> liveness::Members {
    let set = |ids: &[u64]| ids.iter().copied().collect();
    liveness::Members {
        voters: set(&group.voters),
        outgoing: set(&group.outgoing),
        learners: set(&group.learners),
    }
}

impl Process {
    /// The next step towards a new voter: a learner first, and a vote once it has the table. To be asked of the leader; `true` when
    /// it is done.
    pub fn add_member(&mut self, node: u64) -> bool {
        let group = self.replica.members();
        if group.voters.contains(&node) && !group.is_joint() {
            return true;
        }
        if !group.contains(node) {
            self.inbox.push_back(Input::Members(MemberChange::Learner(node)));
        } else if self.replica.has_caught_up(node) {
            self.inbox.push_back(Input::Members(MemberChange::Voter(node)));
        }
        self.drain();
        false
    }

    /// The next step towards a group without a member: its groups go, then the lead, then the member. As above.
    pub fn remove_member(&mut self, node: u64) -> bool {
        let group = self.replica.members();
        if !group.contains(node) {
            return true;
        }
        let mut rest = group.voters.clone();
        rest.retain(|voter| *voter != node);
        let alive = rest
            .iter()
            .filter(|voter| self.liveness.is_alive(**voter))
            .count();
        if alive * 2 <= rest.len() {
            return false;
        }
        if self.groups.iter().any(|group| group.owner == node) {
            self.move_groups(Some(node), None);
        } else if node == self.id {
            self.pass_lead();
        } else {
            self.inbox.push_back(Input::Members(MemberChange::Remove(node)));
            self.drain();
        }
        false
    }

    /// Drains one node, gives one its share back, or does so for all.
    pub fn move_groups(&mut self, from: Option<u64>, to: Option<u64>) {
        let group = self.replica.members();
        let can_own = |node: &u64| group.voters.contains(node) && !self.witnesses.contains(node);
        let mut owners: BTreeSet<u64> = self.liveness.alive().into_keys().filter(can_own).collect();
        owners.retain(|node| from != Some(*node));
        let mut moves: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (number, group) in self.groups.iter().enumerate() {
            let wanted = preferred_owner(number as u8, owners.iter().copied());
            let concerned =
                from.is_none_or(|from| group.owner == from) && to.is_none_or(|to| wanted == Some(to));
            if let Some(wanted) = wanted.filter(|wanted| concerned && group.owner != *wanted) {
                moves.entry(wanted).or_default().push(number as u32);
            }
        }
        for (to, groups) in moves {
            self.propose(Reply::Nobody, Move { groups, to });
        }
        self.drain();
    }

    /// Has another voter lead, if this node does.
    pub fn pass_lead(&mut self) {
        self.inbox.push_back(Input::PassLead { at_once: false });
        self.drain();
    }

    /// A witness leads only while nobody else can.
    pub(super) fn lead_as_witness(&mut self) {
        if !self.witnesses.contains(&self.id) || !self.replica.leadership().is_self {
            self.led_ticks = 0;
            return;
        }
        self.led_ticks += 1;
        if self.led_ticks >= WITNESS_LEAD_TICKS {
            self.led_ticks = 0;
            self.inbox.push_back(Input::PassLead { at_once: true });
        }
    }
}
