//! After the trouble everybody who keeps trying has service, and the table holds nothing else.

use std::collections::BTreeSet;

use super::Violation;
use crate::sim::World;

/// A LAC that began to dial when the trouble ended has all its calls up.
///
/// # Errors
/// How far it is instead.
pub fn new_calls(world: &World, lac: usize) -> Result<(), Violation> {
    let lac = &world.lacs()[lac];
    match lac.all_up() {
        true => Ok(()),
        false => Err(Violation {
            invariant: "service",
            what: format!("30 s after the trouble new calls do not work; {}", lac.describe()),
        }),
    }
}

/// Every subscriber of every LAC is online.
///
/// # Errors
/// Who is not.
pub fn everybody(world: &World) -> Result<(), Violation> {
    match world.lacs().iter().find(|lac| !lac.all_up()) {
        None => Ok(()),
        Some(lac) => Err(Violation {
            invariant: "service",
            what: format!(
                "not everybody is online two minutes after the trouble; {}",
                lac.describe()
            ),
        }),
    }
}

/// The open rows are those of the subscribers who are online, on every node.
///
/// # Errors
/// What differs.
pub fn rows_are_clients(world: &World) -> Result<(), Violation> {
    let online: BTreeSet<_> = world
        .lacs()
        .iter()
        .flat_map(|lac| lac.online().map(|(tunnel, session, _)| (tunnel, session)))
        .collect();
    let members = world.members();
    let in_group = world.machines().filter(|machine| members.contains(machine.id()));
    for process in in_group.filter_map(|machine| machine.process()) {
        let table = process.replica().table();
        let open: BTreeSet<_> = table
            .tunnels()
            .flat_map(|(id, tunnel)| tunnel.sessions().map(move |(session, row)| ((id, session), row)))
            .filter(|(_, row)| row.is_open())
            .map(|(key, _)| key)
            .collect();
        if open != online {
            return Err(Violation {
                invariant: "half-dead",
                what: format!(
                    "two minutes after the trouble rows {:?} have nobody, and {:?} have no row",
                    open.difference(&online).collect::<Vec<_>>(),
                    online.difference(&open).collect::<Vec<_>>(),
                ),
            });
        }
    }
    Ok(())
}
