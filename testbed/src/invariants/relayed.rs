//! A datagram goes from node to node once.

use super::Invariant;
use crate::sim::{Fact, World};

#[derive(Debug, Default)]
pub(super) struct Relayed;

impl Invariant for Relayed {
    const NAME: &'static str = "relayed";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Relayed { node, before: 1.. } => Err(format!("node {node} relays what was relayed to it")),
            _ => Ok(()),
        }
    }
}
