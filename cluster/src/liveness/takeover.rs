//! Whose groups need a new owner, and when to propose it (again).
//!
//! The leader asks at each judgement. An owner that is down loses all its groups to those alive, in one command;
//! `apply` spreads them. Nothing is given back when it returns. At most one command for a node is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits::{REASSIGN_PATIENCE_MS, REASSIGN_RETRY_MS, REBORN_GRACE_MS, START_GRACE_MS};
use crate::table::Group;

/// What a leader may act on: see [`super::Liveness::judgement`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Who is alive, with the incarnation heard of it (0: not registered yet).
    pub alive: BTreeMap<u64, u64>,
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
}

/// The proposals of a leader in its term that are under way.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// When this leader first had a judgement.
    since: Option<Duration>,
    attempts: BTreeMap<u64, Attempt>,
    /// The newest incarnation in the table of each owner that was not alive, and since when it is known.
    registered: BTreeMap<u64, (u64, Duration)>,
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
        let orphaned = owners_not_alive(judgement, groups);
        self.attempts.retain(|from, _| orphaned.contains_key(from));
        self.registered.retain(|from, _| orphaned.contains_key(from));

        let heirs = judgement
            .alive
            .iter()
            .filter(|(node, _)| !witnesses.contains(node));
        let registered = heirs.clone().filter(|(_, incarnation)| **incarnation != 0);
        let complete = judgement.undecided.is_empty() && registered.clone().count() == heirs.count();
        let alive: Vec<u64> = registered.map(|(node, _)| *node).collect();
        if alive.is_empty() {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (from, in_table) in orphaned {
            // A cluster that starts waits for all: the first one up would get every group.
            if from == 0 && starting && !complete {
                continue;
            }
            let heard = judgement.down.get(&from).copied();
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
            });
        }
        due
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

/// The owners whose groups need a new one, 0 among them, each with its newest incarnation in the table.
fn owners_not_alive(judgement: &Judgement, groups: &[Group]) -> BTreeMap<u64, u64> {
    let mut owners = BTreeMap::new();
    for group in groups {
        let kept = judgement.alive.contains_key(&group.owner) || judgement.undecided.contains(&group.owner);
        if !kept {
            let incarnation = owners.entry(group.owner).or_insert(0);
            *incarnation = group.incarnation.max(*incarnation);
        }
    }
    // Nobody is no process.
    owners.entry(0).and_modify(|incarnation| *incarnation = 0);
    owners
}
