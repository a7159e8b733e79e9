//! What a node shows of a session's traffic never goes back, over all its processes and whoever owns the session.
//!
//! Two nodes may differ by what they have told each other of since; so each is looked at by itself.

use std::collections::BTreeMap;

use super::Invariant;
use crate::sim::{Fact, World};

#[derive(Debug, Default)]
pub(super) struct Counters {
    /// By node and accounting id, octets.
    shown: BTreeMap<(u64, String), u64>,
}

impl Invariant for Counters {
    const NAME: &'static str = "counters";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        let Fact::Counted { node, id, octets } = fact else {
            return Ok(());
        };
        let before = self.shown.insert((*node, id.clone()), *octets);
        match before.filter(|before| before > octets) {
            None => Ok(()),
            Some(before) => Err(format!(
                "node {node} shows {octets} octets of session {id}, and has shown {before}"
            )),
        }
    }
}
