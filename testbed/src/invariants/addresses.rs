//! No two sessions of a table have the same address, and a freed address goes to another user only after every member that
//! announces has applied its release: none of them sends what is meant for the one to the other.
//!
//! No trouble lasts as long as a member's isolation limit, after which it would not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use holdfast::actors::forwarding::address;
use holdfast_cluster::records::SessionRow;
use holdfast_cluster::{Effect, Table};
use holdfast_protocol::{SessionId, TunnelId};

use super::Invariant;
use crate::sim::{Fact, World};

type Key = (TunnelId, SessionId);

/// Who has an address, or had it last.
#[derive(Debug)]
struct Holder {
    key: Key,
    /// When the session began, in table time: ids are used again.
    created_ms: u64,
    user: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Addresses {
    holders: BTreeMap<Ipv4Addr, Holder>,
    /// What has been given to which session, by the table time of its beginning.
    seen: BTreeSet<(Ipv4Addr, Key, u64)>,
}

impl Invariant for Addresses {
    const NAME: &'static str = "addresses";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        let Fact::Effect {
            node,
            effect: Effect::SessionChanged {
                tunnel, session, row, ..
            },
        } = fact
        else {
            return Ok(());
        };
        let (Some(address), Some(process)) = (address(row), world.process(*node)) else {
            return Ok(());
        };
        let key = (*tunnel, *session);
        if let Some(other) = other_holder(process.replica().table(), key, address) {
            return Err(format!(
                "sessions {}/{} and {tunnel}/{session} both have {address}",
                other.0, other.1
            ));
        }
        // A node that lags, or starts on an old disk, tells nothing new.
        match self.seen.insert((address, key, row.created_ms)) {
            true => self.given(world, key, row, address),
            false => Ok(()),
        }
    }
}

impl Addresses {
    fn given(&mut self, world: &World, key: Key, row: &SessionRow, address: Ipv4Addr) -> Result<(), String> {
        let holder = Holder {
            key,
            created_ms: row.created_ms,
            user: row.user().unwrap_or_default().to_vec(),
        };
        let Some(before) = self.holders.insert(address, holder) else {
            return Ok(());
        };
        if before.user == row.user().unwrap_or_default() {
            return Ok(());
        }
        for process in world.machines().filter_map(|machine| machine.process()) {
            let theirs = process.replica().table().session(before.key.0, before.key.1);
            let has = theirs.is_some_and(|theirs| {
                theirs.created_ms == before.created_ms && self::address(theirs) == Some(address)
            });
            if has && process.standing().is_some() {
                return Err(format!(
                    "{address} goes to session {}/{}, while a member still has it at {}/{} of another user",
                    key.0, key.1, before.key.0, before.key.1
                ));
            }
        }
        Ok(())
    }
}

fn other_holder(table: &Table, key: Key, wanted: Ipv4Addr) -> Option<Key> {
    // Only if the session still has it: another may have got it within the same turn.
    if table.session(key.0, key.1).and_then(|row| address(row)) != Some(wanted) {
        return None;
    }
    let sessions = table.tunnels().flat_map(|(tunnel, found)| {
        found
            .sessions()
            .map(move |(session, row)| ((tunnel, session), row))
    });
    let mut others = sessions.filter(|(other, row)| *other != key && address(row) == Some(wanted));
    others.next().map(|(other, _)| other)
}
