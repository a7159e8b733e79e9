//! What a leader looks at before somebody gets a vote, or the lead.

use std::collections::BTreeSet;

use super::{Progress, Replica};
use crate::limits::MEMBER_LAG_MAX;

impl Replica {
    /// Whether a member has nearly all that is decided, as far as this leader knows. `false` if this node does not lead.
    pub fn has_caught_up(&self, member: u64) -> bool {
        let progress = self.progress();
        progress
            .iter()
            .any(|found| found.id == member && self.is_near(found))
    }

    /// Has another voter lead, the one that is furthest, but none of those to be avoided. `None` if there is nobody, or if this
    /// node does not lead; otherwise who was asked.
    pub fn pass_leadership_on(&mut self, avoid: &BTreeSet<u64>) -> Option<u64> {
        let voters = self.members().voters;
        let me = self.config.node_id;
        let may_lead =
            |member: &Progress| member.id != me && voters.contains(&member.id) && !avoid.contains(&member.id);
        let best = self
            .progress()
            .into_iter()
            .filter(may_lead)
            // Nobody counts as active right after raft has looked at that.
            .max_by_key(|member| (member.recently_active, member.matched))?;
        self.transfer_leadership(best.id).ok().map(|()| best.id)
    }

    /// As [`Self::pass_leadership_on`], but only to somebody who can take it at once: a witness may lead while nobody can.
    pub fn pass_leadership_at_once(&mut self, avoid: &BTreeSet<u64>) -> Option<u64> {
        let voters = self.members().voters;
        let progress = self.progress();
        let near: BTreeSet<u64> = progress
            .iter()
            .filter(|member| voters.contains(&member.id) && self.is_near(member))
            .map(|member| member.id)
            .collect();
        let others = progress.iter().map(|member| member.id);
        let avoid = others
            .filter(|id| avoid.contains(id) || !near.contains(id))
            .collect();
        self.pass_leadership_on(&avoid)
    }

    fn is_near(&self, member: &Progress) -> bool {
        let decided = self.commit_index();
        member.recently_active
            && !member.snapshotting
            && member.matched > 0
            && member.matched + MEMBER_LAG_MAX >= decided
    }
}
