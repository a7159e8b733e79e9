//! Who loses its groups to whom, and when.

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
        unfit: BTreeSet::new(),
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
        unfit: wayless.iter().copied().collect(),
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
        unfit: [1, 2].into(),
        ..judgement()
    };
    assert_eq!(
        due(&mut takeover, T0 + ms(60_000), &dead, &groups),
        [reassign(3, 7)]
    );
}

#[test]
fn whom_doubt_has_reached_is_nobody_to_count_on() {
    let mut takeover = Takeover::default();
    let groups = [owned(1, 7), owned(2, 7), owned(3, 7)];
    let doubts = |wayless: &[u64], in_doubt: &[u64]| Judgement {
        unfit: in_doubt.iter().copied().collect(),
        ..without_way(wayless)
    };
    // Their router is dead: node 3 has found out, node 2 is about to, node 1 begins to doubt just in time.
    assert_eq!(due(&mut takeover, T0, &doubts(&[3], &[2, 3]), &groups), []);
    let nobody = doubts(&[3], &[1, 2, 3]);
    assert_eq!(due(&mut takeover, T0 + ms(200), &nobody, &groups), []);
    assert_eq!(due(&mut takeover, T0 + ms(60_000), &nobody, &groups), []);
    assert!(!takeover.is_leaving(3), "it serves as well as anybody");
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
fn who_may_have_no_way_inherits_nothing_where_another_has_one() {
    let mut takeover = Takeover::default();
    let judgement = Judgement {
        unfit: [2].into(),
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
