//! Which cluster a node belongs to: one that was recovered without the majority of its members is another one than before.
//!
//! Nothing can stop a lost majority that comes back from electing a leader of its own. But whoever of it meets a member of
//! the later generation learns that it is superseded, and ends; and nobody takes a message of another generation.

use prost::Message;

use crate::log::{LogError, LogStore};
use crate::snapshot::TableSnapshot;

/// What a node says of the cluster that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// As in [`crate::Table::generation`]. The higher one counts.
    pub generation: u64,
    /// The log is empty, and is to be filled by the cluster that adds the node: it goes with any.
    pub fresh: bool,
}

impl Lineage {
    /// Of a log, before a replica is opened over it. `joins`: an empty one does not begin a cluster.
    pub fn of(log: &dyn LogStore, joins: bool) -> Result<Self, LogError> {
        let mut generation = 0;
        // The first part of a table is the head, which alone says it.
        log.read_snapshot(&mut |part| {
            generation = generation.max(TableSnapshot::decode(part)?.generation);
            Ok(())
        })?;
        Ok(Self {
            generation,
            fresh: joins && is_fresh(log),
        })
    }

    /// Whether two nodes belong to one cluster, as far as either can tell.
    pub fn goes_with(self, other: Self) -> bool {
        self.fresh || other.fresh || self.generation == other.generation
    }

    /// Whether this node's cluster was recovered, without it, into that of the other.
    pub fn is_superseded_by(self, other: Self) -> bool {
        !self.goes_with(other) && self.generation < other.generation
    }
}

/// Whether a log holds nothing, not even who the first members are.
pub(super) fn is_fresh(log: &dyn LogStore) -> bool {
    log.last_index() == 0 && log.snapshot().members.voters.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_generation_supersedes_the_earlier_and_nobody_else() {
        let of = |generation, fresh| Lineage { generation, fresh };
        assert!(of(0, false).is_superseded_by(of(7, false)));
        assert!(!of(7, false).is_superseded_by(of(0, false)));
        assert!(!of(7, false).goes_with(of(0, false)));
        assert!(of(7, false).goes_with(of(7, false)));
        for other in [0, 7] {
            assert!(of(0, true).goes_with(of(other, false)) && of(other, false).goes_with(of(0, true)));
            assert!(!of(0, true).is_superseded_by(of(other, false)));
        }
    }
}
