//! What leaves rests on entries that a quorum's disks hold: no loss of power can undo it.

use super::Invariant;
use crate::sim::{Fact, World};

#[derive(Debug, Default)]
pub(super) struct Durable {
    /// The highest index that was found on a quorum's disks.
    checked: u64,
}

impl Invariant for Durable {
    const NAME: &'static str = "durable";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
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
        if !world.is_durable(index) {
            return Err(format!(
                "node {node} speaks from its table at index {index}, which is not on a quorum's disks"
            ));
        }
        self.checked = index;
        Ok(())
    }
}
