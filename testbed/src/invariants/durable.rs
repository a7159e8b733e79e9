//! What leaves rests on entries that a quorum's disks hold: no loss of power can undo it.

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_cluster::replica::Members;

use super::Invariant;
use crate::sim::{Fact, World};

/// How long what was decided by earlier members may take to be told of.
const CHANGING: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Durable {
    /// The highest index that was found on a quorum's disks.
    checked: u64,
    /// The members, and since when they were known to be so. An entry may have been decided by those before.
    members: VecDeque<(Duration, Members)>,
    /// The furthest table that told of members.
    told: u64,
}

impl Invariant for Durable {
    const NAME: &'static str = "durable";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        if let Fact::Members { applied, members } = fact {
            self.note(world.now(), *applied, members);
        }
        let (Fact::Control { node, .. } | Fact::Frame { node, .. }) = fact else {
            return Ok(());
        };
        let Some(replica) = world.process(*node).map(|process| process.replica()) else {
            return Ok(());
        };
        let index = replica.table().applied();
        if index <= self.checked {
            return Ok(());
        }
        if self.members.is_empty() {
            self.members.push_back((Duration::ZERO, replica.members()));
        }
        while self
            .members
            .get(1)
            .is_some_and(|(since, _)| world.now() > *since + CHANGING)
        {
            self.members.pop_front();
        }
        let durable = |(_, members): &(Duration, Members)| world.is_durable(index, members);
        // Of a change of members it may not have told yet.
        let now_so = (world.now(), replica.members());
        if !durable(&now_so) && !self.members.iter().any(durable) {
            return Err(format!(
                "node {node} speaks from its table at index {index}, which is not on a quorum's disks, but on those of {:?}",
                world.holders(index)
            ));
        }
        self.checked = index;
        Ok(())
    }
}

impl Durable {
    /// A node that is behind tells of members that are so no more.
    fn note(&mut self, now: Duration, applied: u64, members: &Members) {
        let is_new = self.members.back().is_none_or(|(_, known)| known != members);
        if applied >= self.told && is_new {
            self.members.push_back((now, members.clone()));
        }
        self.told = self.told.max(applied);
    }
}
