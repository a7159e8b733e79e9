//! No session that is established is lost unless its LAC gave up, or its subscriber or LAC wanted that; and a LAC gives up only
//! while something is wrong.

use std::time::Duration;

use super::Invariant;
use crate::sim::{Fact, Loss, World};

/// How long a LAC sends a message again before it gives up: 1, 2, 4, 8, 8 and 8 s.
const CYCLE: Duration = Duration::from_secs(31);
/// A message is sent again every 8 s at least, and answered if all has been well for so long before and after it.
const CALM: Duration = Duration::from_secs(10);
/// The same where some are lost.
const CALM_LOSSY: Duration = Duration::from_secs(26);

#[derive(Debug, Default)]
pub(super) struct Kept;

impl Invariant for Kept {
    const NAME: &'static str = "kept";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::ClientDown { lac, serial, loss } => match loss {
                Loss::Wanted => Ok(()),
                Loss::GaveUp if may_give_up(world) => Ok(()),
                _ => Err(format!("call {serial} of LAC {lac} is lost: {loss:?}")),
            },
            Fact::TunnelLost {
                lac,
                loss: Loss::GaveUp,
                ..
            } if !may_give_up(world) => Err(format!(
                "LAC {lac} got no answer for {CYCLE:?}, although all was well"
            )),
            _ => Ok(()),
        }
    }
}

fn may_give_up(world: &World) -> bool {
    let enough = if world.is_lossy() { CALM_LOSSY } else { CALM };
    world.longest_calm(CYCLE) < enough
}
