//! No session is half dead for more than a minute: one side thinks that it is up, and the other has lost it.
//!
//! Each side finds out by asking: the LNS with its HELLOs, the LAC with its own, and 31 s without an answer. So time counts only
//! while both can: nothing is wrong, and whoever owns the tunnel has done so since. A next owner begins to ask anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_protocol::{SessionId, TunnelId};

use super::Invariant;
use crate::sim::{Fact, World};

/// What a session may be half dead for.
const LONGEST: Duration = Duration::from_secs(60);
/// How often the two sides are compared.
const LOOK: Duration = Duration::from_secs(1);

type Key = (TunnelId, SessionId);

#[derive(Debug, Default)]
pub(super) struct HalfDead {
    looked: Duration,
    /// Whom one side alone has, under which life of the tunnel, and for how long.
    halves: BTreeMap<Key, (u64, Duration)>,
}

impl Invariant for HalfDead {
    const NAME: &'static str = "half-dead";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        let passed = world.now().saturating_sub(self.looked);
        if !matches!(fact, Fact::Turn { .. }) || passed < LOOK {
            return Ok(());
        }
        self.looked = world.now();
        let Some(table) = world.furthest_table() else {
            return Ok(());
        };
        let rows = table
            .tunnels()
            .flat_map(|(id, tunnel)| tunnel.sessions().map(move |(session, row)| ((id, session), row)));
        let open: BTreeSet<Key> = rows
            .filter(|(_, row)| row.is_open())
            .map(|(key, _)| key)
            .collect();
        let online: BTreeSet<Key> = world
            .lacs()
            .iter()
            .flat_map(|lac| lac.online().map(|(tunnel, session, _)| (tunnel, session)))
            .collect();
        let passed = if world.is_calm() { passed } else { Duration::ZERO };
        let halves = open.symmetric_difference(&online).map(|key| {
            let life = table
                .tunnel(key.0)
                .map_or(0, |found| table.current_life(found.row()));
            let known = self.halves.get(key).filter(|(known, _)| *known == life);
            (
                *key,
                (life, known.map_or(Duration::ZERO, |(_, time)| *time) + passed),
            )
        });
        self.halves = halves.collect();
        match self.halves.iter().find(|(_, (_, time))| *time > LONGEST) {
            None => Ok(()),
            Some(((tunnel, session), _)) => {
                let side = match open.contains(&(*tunnel, *session)) {
                    true => "its row is open and nobody is online",
                    false => "its subscriber is online and has no open row",
                };
                Err(format!(
                    "session {tunnel}/{session} is half dead for {LONGEST:?}: {side}"
                ))
            }
        }
    }
}
