//! What a LAC has seen acknowledged stays acknowledged: no row that an owner acts upon falls back behind it.

use std::collections::BTreeMap;

use holdfast_cluster::Effect;
use holdfast_protocol::TunnelId;

use super::Invariant;
use crate::sim::{Fact, World};

#[derive(Debug, Default)]
pub(super) struct ReceiveState {
    /// The highest Nr that a LAC saw of a tunnel, and by which of its attempts.
    seen: BTreeMap<TunnelId, (usize, u64, u16)>,
    /// The furthest that any table has come. One that is behind tells nothing.
    furthest: u64,
}

impl Invariant for ReceiveState {
    const NAME: &'static str = "receive-state";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::ControlAtLac {
                lac,
                attempt,
                tunnel,
                nr,
            } => {
                let seen = self.seen.entry(*tunnel).or_insert((*lac, *attempt, *nr));
                if (seen.0, seen.1) != (*lac, *attempt) {
                    *seen = (*lac, *attempt, *nr);
                } else if nr.wrapping_sub(seen.2) < 0x8000 {
                    seen.2 = *nr;
                }
                Ok(())
            }
            Fact::Effect {
                effect: Effect::TunnelRemoved { tunnel },
                ..
            } => {
                self.seen.remove(tunnel);
                Ok(())
            }
            Fact::Turn { node } => {
                let Some(replica) = world.process(*node).map(|process| process.replica()) else {
                    return Ok(());
                };
                if replica.table().applied() < self.furthest {
                    return Ok(());
                }
                self.furthest = replica.table().applied();
                self.compare(replica.table())
            }
            _ => Ok(()),
        }
    }
}

impl ReceiveState {
    fn compare(&self, table: &holdfast_cluster::Table) -> Result<(), String> {
        for (tunnel, (lac, _, nr)) in &self.seen {
            let Some(found) = table.tunnel(*tunnel) else {
                continue;
            };
            if (found.row().nr as u16).wrapping_sub(*nr) >= 0x8000 {
                return Err(format!(
                    "LAC {lac} saw up to {nr} acknowledged in tunnel {tunnel}, the row says {}",
                    found.row().nr
                ));
            }
        }
        Ok(())
    }
}
