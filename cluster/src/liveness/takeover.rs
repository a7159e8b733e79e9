//! Whose groups need a new owner, and when to propose it (again).
//!
//! The leader asks at each judgement. An owner that is down loses all its groups to those alive, in one command;
//! `apply` spreads them. Nothing is given back when it returns. At most one command for a node is under way.
//!
//! An owner that lives and has lost its way to the LACs, or whose disk is full, loses its groups alike, once nobody vouches for it
//! any more, if somebody else can serve. Where nobody can, all stay with whom they are.

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
        let somebody_can = heirs.iter().any(|node| !judgement.stepping_aside.contains(node));
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
    let (unable, able): (Vec<u64>, Vec<u64>) = registered
        .into_iter()
        .map(|(node, _)| *node)
        .partition(|node| judgement.stepping_aside.contains(node));
    (if able.is_empty() { unable } else { able }, complete)
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

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(100);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn owned(owner: u64, incarnation: u64) -> Group {
        Group {
            owner,
            epoch: 1,
            incarnation,
        }
    }

    /// Nodes 1 and 2 are alive, node 3 is down; all with incarnation 7.
    fn judgement() -> Judgement {
        Judgement {
            alive: [(1, 7), (2, 7)].into(),
            stepping_aside: BTreeSet::new(),
            down: [(3, 7)].into(),
            undecided: BTreeSet::new(),
        }
    }

    fn reassign(from: u64, incarnation: u64) -> Reassign {
        Reassign {
            from,
            incarnation,
            alive: vec![1, 2],
            steps_aside: false,
        }
    }

    fn due(takeover: &mut Takeover, now: Duration, judgement: &Judgement, groups: &[Group]) -> Vec<Reassign> {
        takeover.due(now, judgement, groups, &BTreeSet::new())
    }

    #[test]
    fn who_is_down_loses_its_groups_once() {
        let mut takeover = Takeover::default();
        let groups = [owned(1, 7), owned(3, 6), owned(3, 7)];
        assert_eq!(due(&mut takeover, T0, &judgement(), &groups), [reassign(3, 7)]);
        assert_eq!(
            due(&mut takeover, T0 + ms(999), &judgement(), &groups),
            [],
            "one under way"
        );
        assert_eq!(
            due(&mut takeover, T0 + ms(1_000), &judgement(), &groups),
            [reassign(3, 7)],
            "taken for lost"
        );
    }

    #[test]
    fn after_a_verdict_without_effect_it_is_repeated_every_100_ms() {
        let mut takeover = Takeover::default();
        let groups = [owned(3, 7)];
        assert_eq!(due(&mut takeover, T0, &judgement(), &groups).len(), 1);
        takeover.handle_verdict(3);
        assert_eq!(due(&mut takeover, T0 + ms(99), &judgement(), &groups), []);
        assert_eq!(due(&mut takeover, T0 + ms(100), &judgement(), &groups).len(), 1);
        assert_eq!(
            due(&mut takeover, T0 + ms(200), &judgement(), &groups),
            [],
            "again one under way"
        );
    }

    #[test]
    fn nothing_is_due_when_all_owners_live_or_nobody_can_inherit() {
        let mut takeover = Takeover::default();
        assert_eq!(
            due(&mut takeover, T0, &judgement(), &[owned(1, 7), owned(2, 7)]),
            []
        );
        let none = Judgement {
            alive: [(1, 0), (2, 7)].into(),
            ..judgement()
        };
        let witnesses = [2].into();
        assert_eq!(
            takeover.due(T0, &none, &[owned(3, 7)], &witnesses),
            [],
            "unregistered, and a witness"
        );
    }

    #[test]
    fn a_witness_inherits_nothing() {
        let mut takeover = Takeover::default();
        let due = takeover.due(T0, &judgement(), &[owned(3, 7)], &[1].into());
        assert_eq!(
            due,
            [Reassign {
                alive: vec![2],
                ..reassign(3, 7)
            }]
        );
    }

    #[test]
    fn groups_of_nobody_wait_for_those_who_start() {
        let mut takeover = Takeover::default();
        let groups = [owned(0, 0)];
        let starting = Judgement {
            undecided: [4].into(),
            ..judgement()
        };
        assert_eq!(due(&mut takeover, T0, &starting, &groups), []);
        let unregistered = Judgement {
            alive: [(1, 7), (2, 0)].into(),
            ..judgement()
        };
        assert_eq!(due(&mut takeover, T0 + ms(10), &unregistered, &groups), []);
        assert_eq!(
            due(&mut takeover, T0 + ms(20), &judgement(), &groups),
            [reassign(0, 0)]
        );

        let mut takeover = Takeover::default();
        assert_eq!(due(&mut takeover, T0, &starting, &groups), []);
        let patience = ms(START_GRACE_MS);
        assert_eq!(
            due(&mut takeover, T0 + patience, &starting, &groups),
            [reassign(0, 0)],
            "not for ever"
        );
    }

    #[test]
    fn a_process_born_again_has_a_second_to_be_heard() {
        let mut takeover = Takeover::default();
        let groups = [owned(3, 8)];
        assert_eq!(due(&mut takeover, T0, &judgement(), &groups), []);
        assert_eq!(due(&mut takeover, T0 + ms(999), &judgement(), &groups), []);
        assert_eq!(
            due(&mut takeover, T0 + ms(1_000), &judgement(), &groups),
            [reassign(3, 8)]
        );
    }

    #[test]
    fn an_owner_never_heard_or_no_member_loses_what_the_table_knows() {
        let mut takeover = Takeover::default();
        let never = Judgement {
            down: [(3, 0)].into(),
            ..judgement()
        };
        let groups = [owned(3, 5), owned(9, 4)];
        assert_eq!(
            due(&mut takeover, T0, &never, &groups),
            [reassign(3, 5), reassign(9, 4)]
        );
        let mut takeover = Takeover::default();
        let undecided = Judgement {
            down: BTreeMap::new(),
            undecided: [3, 9].into(),
            ..judgement()
        };
        assert_eq!(due(&mut takeover, T0, &undecided, &groups), []);
    }

    const NOBODY_VOUCHES: Duration = Duration::from_millis(LEASE_MS + LEASE_MARGIN_MS);

    /// Nodes 1 to 3 are alive; these have lost their way.
    fn without_way(wayless: &[u64]) -> Judgement {
        Judgement {
            alive: [(1, 7), (2, 7), (3, 7)].into(),
            stepping_aside: wayless.iter().copied().collect(),
            ..Judgement::default()
        }
    }

    fn leaves(from: u64, alive: &[u64]) -> Reassign {
        Reassign {
            alive: alive.to_vec(),
            steps_aside: true,
            ..reassign(from, 7)
        }
    }

    #[test]
    fn who_has_lost_its_way_loses_its_groups_when_nobody_vouches_for_it() {
        let mut takeover = Takeover::default();
        let (judgement, groups) = (without_way(&[3]), [owned(1, 7), owned(3, 7)]);
        assert_eq!(due(&mut takeover, T0, &judgement, &groups), []);
        assert!(takeover.is_leaving(3) && !takeover.is_leaving(1));
        let over = T0 + NOBODY_VOUCHES;
        assert_eq!(due(&mut takeover, over - ms(1), &judgement, &groups), []);
        assert_eq!(
            due(&mut takeover, over, &judgement, &groups),
            [leaves(3, &[1, 2])]
        );
        assert_eq!(
            due(&mut takeover, over + ms(999), &judgement, &groups),
            [],
            "one under way"
        );
        assert_eq!(due(&mut takeover, over + ms(999), &judgement, &[owned(1, 7)]), []);
        assert!(!takeover.is_leaving(3), "it owns nothing any more");
    }

    #[test]
    fn a_way_that_is_back_in_time_ends_it_and_the_next_loss_begins_anew() {
        let mut takeover = Takeover::default();
        let groups = [owned(3, 7)];
        assert_eq!(due(&mut takeover, T0, &without_way(&[3]), &groups), []);
        assert_eq!(due(&mut takeover, T0 + ms(200), &without_way(&[]), &groups), []);
        assert!(!takeover.is_leaving(3));
        assert_eq!(due(&mut takeover, T0 + ms(210), &without_way(&[3]), &groups), []);
        assert_eq!(due(&mut takeover, T0 + ms(429), &without_way(&[3]), &groups), []);
        assert_eq!(
            due(&mut takeover, T0 + ms(430), &without_way(&[3]), &groups).len(),
            1
        );
    }

    #[test]
    fn where_nobody_has_a_way_nothing_moves_and_the_dead_are_replaced_all_the_same() {
        let mut takeover = Takeover::default();
        let all = without_way(&[1, 2, 3]);
        let groups = [owned(1, 7), owned(2, 7), owned(3, 7)];
        for after in [ms(0), NOBODY_VOUCHES, ms(60_000)] {
            assert_eq!(due(&mut takeover, T0 + after, &all, &groups), []);
            assert!((1..=3).all(|node| !takeover.is_leaving(node)));
        }
        let dead = Judgement {
            stepping_aside: [1, 2].into(),
            ..judgement()
        };
        assert_eq!(
            due(&mut takeover, T0 + ms(60_000), &dead, &groups),
            [reassign(3, 7)]
        );
    }

    #[test]
    fn witnesses_and_the_unregistered_are_no_somebody_with_a_way() {
        let (groups, late) = ([owned(3, 7)], T0 + ms(60_000));
        let mut takeover = Takeover::default();
        let lost = without_way(&[2, 3]);
        for now in [T0, late] {
            assert_eq!(takeover.due(now, &lost, &groups, &[1].into()), []);
        }
        let unregistered = Judgement {
            alive: [(1, 0), (2, 7), (3, 7)].into(),
            ..without_way(&[2, 3])
        };
        for now in [T0, late] {
            assert_eq!(due(&mut takeover, now, &unregistered, &groups), []);
        }
    }

    #[test]
    fn who_has_no_way_inherits_nothing_where_another_has_one() {
        let mut takeover = Takeover::default();
        let judgement = Judgement {
            stepping_aside: [2].into(),
            ..judgement()
        };
        assert_eq!(
            due(&mut takeover, T0, &judgement, &[owned(3, 7)]),
            [Reassign {
                alive: vec![1],
                ..reassign(3, 7)
            }]
        );
    }

    #[test]
    fn several_without_a_way_lose_their_groups_at_once() {
        let mut takeover = Takeover::default();
        let (judgement, groups) = (without_way(&[2, 3]), [owned(2, 7), owned(3, 7)]);
        assert_eq!(due(&mut takeover, T0, &judgement, &groups), []);
        assert_eq!(
            due(&mut takeover, T0 + NOBODY_VOUCHES, &judgement, &groups),
            [leaves(2, &[1]), leaves(3, &[1])]
        );
    }
}
