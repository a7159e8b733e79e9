//! Every session that opens owes one Start and, once it is gone, one Stop, under one Acct-Session-Id for all its life; the server
//! receives each at least once, the Start first, and every copy of a Stop with the same traffic; and nothing is taken off the table that it
//! has not received.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_cluster::Effect;
use holdfast_cluster::records::{AccountingKind, SessionRow};
use holdfast_protocol::{SessionId, TunnelId};

use super::{Invariant, Violation};
use crate::sim::{Fact, World};

/// A session among all that ever were: ids are used again.
type Identity = (TunnelId, SessionId, u64, u32);

#[derive(Debug, Default)]
pub(super) struct Accounting {
    /// Sessions that have been open, and under which id.
    opened: BTreeMap<Identity, String>,
    /// Which records there are, once for each of what they say.
    owed: BTreeMap<(bool, String), u64>,
    received: BTreeSet<u64>,
    /// By accounting id, the octets that its Stop has brought.
    stopped: BTreeMap<String, Option<u64>>,
    /// Records that a process has in its table: node, which process of it, record.
    outstanding: BTreeSet<(u64, u64, u64)>,
}

impl Invariant for Accounting {
    const NAME: &'static str = "accounting";

    fn check(&mut self, world: &World, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Effect {
                effect:
                    Effect::SessionChanged {
                        tunnel,
                        session,
                        row,
                        after_open: true,
                        ..
                    },
                ..
            } => self.opens(identity(*tunnel, *session, row), row),
            Fact::Effect {
                node,
                effect: Effect::AccountingOwed { sequence },
            } => self.is_owed(world, *node, *sequence),
            Fact::Accounted {
                sequence,
                kind,
                id,
                octets,
            } => {
                self.received.insert(*sequence);
                match kind {
                    AccountingKind::Start => Ok(()),
                    AccountingKind::Stop => self.stops(id, *octets),
                }
            }
            Fact::Turn { node } => self.nothing_is_gone_unseen(world, *node),
            _ => Ok(()),
        }
    }
}

impl Accounting {
    fn opens(&mut self, session: Identity, row: &SessionRow) -> Result<(), String> {
        let id = self
            .opened
            .entry(session)
            .or_insert_with(|| row.acct_session_id.clone());
        match *id == row.acct_session_id {
            true => Ok(()),
            false => Err(format!(
                "session {}/{} was accounted as {id} and is now {}",
                session.0, session.1, row.acct_session_id
            )),
        }
    }

    fn stops(&mut self, id: &str, octets: Option<u64>) -> Result<(), String> {
        let start = self.owed.get(&(true, id.to_owned()));
        if !start.is_some_and(|start| self.received.contains(start)) {
            return Err(format!(
                "the server hears of the end of {id}, and not of its beginning"
            ));
        }
        match self.stopped.insert(id.to_owned(), octets) {
            Some(before) if before != octets => Err(format!(
                "the server hears that {id} has sent {octets:?} octets, and has heard {before:?}"
            )),
            _ => Ok(()),
        }
    }

    fn is_owed(&mut self, world: &World, node: u64, sequence: u64) -> Result<(), String> {
        let Some(process) = world.process(node) else {
            return Ok(());
        };
        // Taken off again within the same turn: another node, or this one, has had it before.
        let Some(owed) = process.replica().table().owed(sequence) else {
            return Ok(());
        };
        self.outstanding.insert((node, process.boot(), sequence));
        let what = (
            owed.kind == AccountingKind::Start,
            owed.session.acct_session_id.clone(),
        );
        match self.owed.insert(what.clone(), sequence) {
            Some(other) if other != sequence => Err(format!(
                "{:?} of {} is owed twice, as records {other} and {sequence}",
                owed.kind, what.1
            )),
            _ => Ok(()),
        }
    }

    fn nothing_is_gone_unseen(&mut self, world: &World, node: u64) -> Result<(), String> {
        let process = world.process(node);
        let of_node = self.outstanding.range((node, 0, 0)..(node + 1, 0, 0));
        let gone: Vec<_> = of_node
            .filter(|(_, boot, sequence)| {
                process.is_none_or(|process| {
                    process.boot() != *boot || process.replica().table().owed(*sequence).is_none()
                })
            })
            .copied()
            .collect();
        for record in gone {
            self.outstanding.remove(&record);
            let (_, boot, sequence) = record;
            let by_itself = process.is_some_and(|process| process.boot() == boot);
            if by_itself && !self.received.contains(&sequence) {
                return Err(format!(
                    "record {sequence} is off the table, and the server has not received it"
                ));
            }
        }
        Ok(())
    }

    /// All is quiet: whatever was owed has been received.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn finish(&self, world: &World) -> Result<(), Violation> {
        let online: BTreeSet<Identity> = world
            .machines()
            .filter_map(|machine| machine.process())
            .flat_map(|process| process.replica().table().tunnels())
            .flat_map(|(tunnel, found)| {
                found
                    .sessions()
                    .map(move |(session, row)| identity(tunnel, session, row))
            })
            .collect();
        let received = |start: bool, id: &str| {
            let record = self.owed.get(&(start, id.to_owned()));
            record.is_some_and(|sequence| self.received.contains(sequence))
        };
        for (session, id) in &self.opened {
            let (start, stop) = (received(true, id), received(false, id));
            if !start || stop == online.contains(session) {
                return Err(Violation {
                    invariant: Self::NAME,
                    what: format!(
                        "session {}/{} ({id}) is {}there; Start received: {start}, Stop received: {stop}",
                        session.0,
                        session.1,
                        if online.contains(session) { "" } else { "not " }
                    ),
                });
            }
        }
        Ok(())
    }
}

fn identity(tunnel: TunnelId, session: SessionId, row: &SessionRow) -> Identity {
    (tunnel, session, row.created_ms, row.call_serial)
}
