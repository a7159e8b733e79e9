//! No process ends by itself.

use super::Invariant;
use crate::sim::{Fact, World};

#[derive(Debug, Default)]
pub(super) struct Alive;

impl Invariant for Alive {
    const NAME: &'static str = "alive";

    fn check(&mut self, _: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Died { node, why } => Err(format!("the process of node {node} ended: {why}")),
            _ => Ok(()),
        }
    }
}
