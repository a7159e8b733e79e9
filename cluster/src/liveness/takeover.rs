//! Whose groups need a new owner, and when to propose it (again).
//!
//! The leader asks at each judgement. An owner that is down loses all its groups to those alive, in one command;
//! `apply` spreads them. Nothing is given back when it returns. At most one command for a node is under way.
//!
//! An owner that lives and has lost its way to the LACs, or whose disk is full, loses its groups alike, once nobody vouches for it
//! any more, if somebody else can serve. Where nobody can, all stay with whom they are.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits::{
    LEASE_MARGIN_MS, LEASE_MS, REASSIGN_PATIENCE_MS, REASSIGN_RETRY_MS, REBORN_GRACE_MS, START_GRACE_MS,
};
use crate::table::Group;

/// What a leader may act on: see [`super::Liveness::judgement`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Who is alive, with the incarnation heard of it (0: not registered yet).
    pub alive: BTreeMap<u64, u64>,
    /// Who of these can serve nobody and is to hand over to those who can.
    pub stepping_aside: BTreeSet<u64>,
    /// These, and who may have lost its way to the LACs: nobody to whom groups can go.
    pub unfit: BTreeSet<u64>,
    /// Who is down, with the incarnation last heard (0: never).
    pub down: BTreeMap<u64, u64>,
    /// Of whom nothing can be said yet. Who is in none of the three is no member, and cannot act any more.
    pub undecided: BTreeSet<u64>,
}

/// The command that is due (`Assign` in commands.proto).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassign {
    /// The owner that loses its groups; 0: the groups that nobody owns.
    pub from: u64,
    /// Its incarnation as it was judged. `apply` refuses if the table knows a newer one.
    pub incarnation: u64,
    /// Who may get them, in order; not empty.
    pub alive: Vec<u64>,
    /// The owner lives and steps aside.
    pub steps_aside: bool,
}

/// The proposals of a leader in its term that are under way.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// When this leader first had a judgement.
    since: Option<Duration>,
    attempts: BTreeMap<u64, Attempt>,
    /// The newest incarnation in the table of each owner that was not alive, and since when it is known.
    registered: BTreeMap<u64, (u64, Duration)>,
    /// The owners that step aside, each with the time since when nobody vouches for it.
    leaving: BTreeMap<u64, Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    proposed: Duration,
    answered: bool,
}

impl Attempt {
    fn next(self) -> Duration {
        let wait = if self.answered {
            REASSIGN_RETRY_MS
        } else {
            REASSIGN_PATIENCE_MS
        };
        self.proposed + Duration::from_millis(wait)
    }
}

impl Takeover {
    /// What is to be proposed now; it then counts as under way.
    pub(super) fn due(
        &mut self,
        now: Duration,
        judgement: &Judgement,
        groups: &[Group],
        witnesses: &BTreeSet<u64>,
    ) -> Vec<Reassign> {
        let since = *self.since.get_or_insert(now);
        let starting = now < since + Duration::from_millis(START_GRACE_MS);
        let (alive, complete) = heirs(judgement, witnesses);
        let mut orphaned = owners_not_alive(judgement, groups);
        orphaned.append(&mut self.left(now, judgement, groups, &alive));
        self.attempts.retain(|from, _| orphaned.contains_key(from));
        self.registered.retain(|from, _| orphaned.contains_key(from));
        if alive.is_empty() {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (from, in_table) in orphaned {
            // A cluster that starts waits for all: the first one up would get every group.
            if from == 0 && starting && !complete {
                continue;
            }
            let heard = judgement.down.get(&from).or(judgement.alive.get(&from)).copied();
            let Some(incarnation) = self.judged_incarnation(now, from, heard, in_table) else {
                continue;
            };
            if self
                .attempts
                .get(&from)
                .is_some_and(|attempt| now < attempt.next())
            {
                continue;
            }
            self.attempts.insert(
                from,
                Attempt {
                    proposed: now,
                    answered: false,
                },
            );
            due.push(Reassign {
                from,
                incarnation,
                alive: alive.clone(),
                steps_aside: judgement.alive.contains_key(&from),
            });
        }
        due
    }

    /// Whether an owner steps aside and is about to lose its groups: the leader does not vouch for it.
    pub(super) fn is_leaving(&self, node: u64) -> bool {
        self.leaving.contains_key(&node)
    }

    /// The owners that step aside and whom nobody vouches for any more, each with its newest incarnation in the table.
    fn left(
        &mut self,
        now: Duration,
        judgement: &Judgement,
        groups: &[Group],
        heirs: &[u64],
    ) -> BTreeMap<u64, u64> {
        let somebody_can = heirs.iter().any(|node| !judgement.unfit.contains(node));
        let leave = |owner: &u64| somebody_can && judgement.stepping_aside.contains(owner);
        let owners = incarnations(groups.iter().filter(|group| leave(&group.owner)));
        self.leaving.retain(|owner, _| owners.contains_key(owner));
        for owner in owners.keys() {
            self.leaving.entry(*owner).or_insert(now);
        }
        let over =
            |owner: &u64| now >= self.leaving[owner] + Duration::from_millis(LEASE_MS + LEASE_MARGIN_MS);
        owners.into_iter().filter(|(owner, _)| over(owner)).collect()
    }

    /// The attempt is over.
    pub(super) fn handle_verdict(&mut self, from: u64) {
        if let Some(attempt) = self.attempts.get_mut(&from) {
            attempt.answered = true;
        }
    }

    /// Which process of the owner is to lose its groups. `None`: a new one has registered itself since it was last
    /// heard; it gets [`REBORN_GRACE_MS`] to be heard.
    fn judged_incarnation(
        &mut self,
        now: Duration,
        from: u64,
        heard: Option<u64>,
        in_table: u64,
    ) -> Option<u64> {
        let known = self.registered.entry(from).or_insert((in_table, now));
        if known.0 != in_table {
            *known = (in_table, now);
        }
        match heard {
            Some(heard) if heard >= in_table => Some(heard),
            Some(0) | None => Some(in_table),
            Some(_) => (now >= known.1 + Duration::from_millis(REBORN_GRACE_MS)).then_some(in_table),
        }
    }
}

/// Who may get groups, and whether that is all who ever will: nobody undecided, nobody yet to register. Who steps
/// aside gets some only where everybody does.
fn heirs(judgement: &Judgement, witnesses: &BTreeSet<u64>) -> (Vec<u64>, bool) {
    let heirs = judgement
        .alive
        .iter()
        .filter(|(node, _)| !witnesses.contains(node));
    let (registered, unregistered): (Vec<_>, Vec<_>) = heirs.partition(|(_, incarnation)| **incarnation != 0);
    let complete = judgement.undecided.is_empty() && unregistered.is_empty();
    let (unfit, fit): (Vec<u64>, Vec<u64>) = registered
        .into_iter()
        .map(|(node, _)| *node)
        .partition(|node| judgement.unfit.contains(node));
    (if fit.is_empty() { unfit } else { fit }, complete)
}

/// The owners whose groups need a new one, 0 among them, each with its newest incarnation in the table.
fn owners_not_alive(judgement: &Judgement, groups: &[Group]) -> BTreeMap<u64, u64> {
    let kept = |owner| judgement.alive.contains_key(owner) || judgement.undecided.contains(owner);
    let mut owners = incarnations(groups.iter().filter(|group| !kept(&group.owner)));
    // Nobody is no process.
    owners.entry(0).and_modify(|incarnation| *incarnation = 0);
    owners
}

/// The owners of these groups with their newest incarnations in the table.
fn incarnations<'a>(groups: impl Iterator<Item = &'a Group>) -> BTreeMap<u64, u64> {
    let mut owners = BTreeMap::new();
    for group in groups {
        let incarnation = owners.entry(group.owner).or_insert(0);
        *incarnation = group.incarnation.max(*incarnation);
    }
    owners
}
