//! Two nodes whose tables have reached the same index have the same table, and no term has two leaders.

use std::collections::BTreeMap;

use super::Invariant;
use crate::sim::{Fact, World};

/// Digests are compared at indexes that are multiples of this: a digest reads the whole table.
const EVERY: u64 = 16;
/// Indexes that are remembered.
const REMEMBERED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Raft {
    leaders: BTreeMap<u64, u64>,
    digests: BTreeMap<u64, (u64, u64)>,
}

impl Invariant for Raft {
    const NAME: &'static str = "raft";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        let Fact::Turn { node } = fact else { return Ok(()) };
        let Some(process) = world.process(*node) else {
            return Ok(());
        };
        let leadership = process.replica().leadership();
        if leadership.is_self {
            let leader = *self.leaders.entry(leadership.term).or_insert(*node);
            if leader != *node {
                return Err(format!(
                    "nodes {leader} and {node} both lead in term {}",
                    leadership.term
                ));
            }
        }
        let table = process.replica().table();
        let applied = table.applied();
        if !applied.is_multiple_of(EVERY) {
            return Ok(());
        }
        let digest = table.digest();
        let (other, expected) = *self.digests.entry(applied).or_insert((*node, digest));
        if self.digests.len() > REMEMBERED {
            self.digests.pop_first();
        }
        match digest == expected {
            true => Ok(()),
            false => Err(format!(
                "the tables of nodes {other} and {node} differ at index {applied}"
            )),
        }
    }
}
