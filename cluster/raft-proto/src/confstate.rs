//! Comparing memberships.

use crate::eraftpb::ConfState;

/// Whether two configurations have the same members; order means nothing.
#[must_use]
pub fn conf_state_eq(left: &ConfState, right: &ConfState) -> bool {
    let same = |left: &[u64], right: &[u64]| {
        left.iter().all(|id| right.contains(id)) && right.iter().all(|id| left.contains(id))
    };
    left.auto_leave == right.auto_leave
        && same(&left.voters, &right.voters)
        && same(&left.learners, &right.learners)
        && same(&left.voters_outgoing, &right.voters_outgoing)
        && same(&left.learners_next, &right.learners_next)
}
