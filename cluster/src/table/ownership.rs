//! Judging who owns the groups.
//!
//! | command  | who proposes it                     | refused when |
//! |----------|-------------------------------------|--------------|
//! | `Take`   | a process that starts, for its node | a later process of the node has acted |
//! | `Assign` | the leader, for a node that is down | the node has started again, nobody named can own groups |
//! | `Move`   | an operator's drain or rebalance    | the target has no process in the table |
//!
//! A group that changes hands has its epoch counted up, so all lives of its tunnels are over. What is so already is
//! left as it is: each command may come twice. Refused means that no group was changed.

use super::verdict::{Effect, Refusal};
use super::{Group, Table, rendezvous};
use crate::commands::{Assign, Move, Take};
use crate::limits::GROUPS;

/// A node and the process that acts for it.
type Owner = (u64, u64);

impl Table {
    pub(super) fn take(&mut self, take: &Take, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Take {
            node, incarnation, ..
        } = *take;
        let groups = groups(&take.groups)?;
        if node == 0 {
            return Err(Refusal::Malformed("no such node"));
        }
        let current = self.incarnation(node).unwrap_or(0);
        if incarnation < current || incarnation == 0 {
            return Err(Refusal::StaleIncarnation {
                node,
                incarnation,
                current,
            });
        }
        let given: Vec<_> = groups
            .into_iter()
            .map(|group| (group, (node, incarnation)))
            .collect();
        self.check_epochs(&given)?;
        self.incarnations.insert(node, incarnation);
        self.give(&given, effects);
        Ok(())
    }

    /// Where `from` owns nothing there is nothing to do: it was done by the same command.
    pub(super) fn assign(&mut self, assign: &Assign, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Assign {
            from, incarnation, ..
        } = *assign;
        let current = self.incarnation(from).unwrap_or(0);
        if incarnation < current {
            return Err(Refusal::StaleIncarnation {
                node: from,
                incarnation,
                current,
            });
        }
        let alive = assign.alive.iter().copied().filter(|node| *node != from);
        let alive: Vec<u64> = alive
            .filter(|node| self.incarnations.contains_key(node))
            .collect();
        let mut given = Vec::new();
        for group in self.groups_of(from) {
            let node = rendezvous::winner(group, alive.iter().copied()).ok_or(Refusal::NobodyLives)?;
            given.push((group, (node, self.incarnations[&node])));
        }
        self.check_epochs(&given)?;
        self.give(&given, effects);
        Ok(())
    }

    pub(super) fn move_groups(&mut self, command: &Move, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let groups = groups(&command.groups)?;
        let node = command.to;
        let incarnation = self.incarnation(node).ok_or(Refusal::NotRegistered(node))?;
        let given: Vec<_> = groups
            .into_iter()
            .map(|group| (group, (node, incarnation)))
            .collect();
        self.check_epochs(&given)?;
        self.give(&given, effects);
        Ok(())
    }

    fn check_epochs(&self, given: &[(u8, Owner)]) -> Result<(), Refusal> {
        match given
            .iter()
            .any(|(group, _)| self.group(*group).epoch == u32::MAX)
        {
            true => Err(Refusal::Full("epochs of a group")),
            false => Ok(()),
        }
    }

    /// A group that has this owner already keeps its epoch.
    fn give(&mut self, given: &[(u8, Owner)], effects: &mut Vec<Effect>) {
        for &(number, (owner, incarnation)) in given {
            let group = &mut self.groups[usize::from(number)];
            if (group.owner, group.incarnation) == (owner, incarnation) {
                continue;
            }
            let epoch = group.epoch + 1;
            *group = Group {
                owner,
                epoch,
                incarnation,
            };
            effects.push(Effect::GroupTaken {
                group: number,
                owner,
                epoch,
            });
        }
    }
}

fn groups(numbers: &[u32]) -> Result<Vec<u8>, Refusal> {
    if numbers.len() > GROUPS {
        return Err(Refusal::Malformed("more groups than there are"));
    }
    let groups = numbers
        .iter()
        .map(|number| u8::try_from(*number).ok())
        .collect::<Option<Vec<u8>>>();
    groups.ok_or(Refusal::Malformed("no such group"))
}
