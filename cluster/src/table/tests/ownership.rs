//! Who may change what: groups, epochs, incarnations, lives.

use super::*;

use crate::commands::{Assign, Move, Reclaim};
use crate::ids::first_life;
use crate::table::{Effect, Refusal};
use crate::testing::{Bench, take};

#[test]
fn take_counts_the_epoch_and_a_repeat_does_not() {
    let mut bench = Bench::new();
    assert!(bench.run(take([3], 1, 1)).is_accepted());
    assert_eq!(
        bench.table.group(3).epoch,
        1,
        "the same incarnation has it already"
    );
    assert!(bench.run(take([3], 1, 2)).is_accepted());
    assert_eq!((bench.table.group(3).epoch, bench.table.group(4).epoch), (2, 1));
    assert_eq!(
        bench.effects,
        [Effect::GroupTaken {
            group: 3,
            owner: 1,
            epoch: 2
        }]
    );
    assert_eq!(bench.table.next_incarnation(1), 3);
}

#[test]
fn take_by_an_incarnation_that_is_over_is_refused() {
    let mut bench = Bench::new();
    assert!(bench.run(take([3], 1, 2)).is_accepted());
    let expected = Refusal::StaleIncarnation {
        node: 1,
        incarnation: 1,
        current: 2,
    };
    assert_eq!(refusal(bench.run(take([3], 1, 1))), expected);
    assert!(
        bench.run(take([3], 2, 1)).is_accepted(),
        "another node counts for itself"
    );
}

#[test]
fn a_change_of_a_deposed_owner_is_refused() {
    let mut bench = Bench::with_tunnel(0x0301);
    let late = bench.next(0x0301);
    assert!(bench.run(take([3], 2, 1)).is_accepted());
    let expected = Refusal::Deposed {
        life: first_life(1),
        current: first_life(2),
    };
    assert_eq!(refusal(bench.run(late)), expected);
    let next = bench.next(0x0301);
    assert!(
        bench.run(next).is_accepted(),
        "the new owner goes on with the revision"
    );
}

#[test]
fn a_reclaimed_tunnel_refuses_its_earlier_life() {
    let mut bench = Bench::with_tunnel(0x0301);
    let late = bench.next(0x0301);
    let reclaim = Reclaim {
        tunnel_id: 0x0301,
        life: first_life(1) + 1,
    };
    assert!(bench.run(reclaim).is_accepted());
    assert!(bench.run(reclaim).is_accepted(), "a repeat");
    assert!(matches!(refusal(bench.run(late)), Refusal::Deposed { .. }));
    assert_eq!(bench.next(0x0301).revision, 3, "the revision goes on");
    let next = bench.next(0x0301);
    assert!(bench.run(next).is_accepted());
    let earlier = Reclaim {
        tunnel_id: 0x0301,
        life: first_life(1),
    };
    assert!(matches!(refusal(bench.run(earlier)), Refusal::Deposed { .. }));
    let foreign = Reclaim {
        tunnel_id: 0x0301,
        life: first_life(9),
    };
    assert!(
        matches!(refusal(bench.run(foreign)), Refusal::Deposed { .. }),
        "an epoch that never was"
    );
}

/// Nodes 2 and 3 have registered, node 1 owns everything.
fn three_nodes() -> Bench {
    let mut bench = Bench::with_tunnel(0x0301);
    for node in [2, 3] {
        assert!(bench.run(take([], node, node * 10)).is_accepted());
    }
    bench
}

fn assign(from: u64, incarnation: u64, alive: &[u64]) -> Assign {
    Assign {
        term: 0,
        from,
        incarnation,
        alive: alive.to_vec(),
    }
}

fn to(groups: impl IntoIterator<Item = u32>, to: u64) -> Move {
    Move {
        groups: groups.into_iter().collect(),
        to,
    }
}

#[test]
fn a_dead_nodes_groups_are_spread_over_the_living() {
    let mut bench = three_nodes();
    let late = bench.next(0x0301);
    assert!(bench.run(assign(1, 1, &[1, 2, 3])).is_accepted());
    assert_eq!(bench.effects.len(), 256, "each group is told of");
    let shares = [1, 2, 3].map(|node| bench.table.groups_of(node).count());
    assert_eq!(shares[0], 0, "the dead one keeps nothing, though it is named");
    assert!(shares[1] > 100 && shares[2] > 100, "{shares:?}");
    for group in 0..=255 {
        let group = bench.table.group(group);
        assert_eq!((group.epoch, group.incarnation), (2, group.owner * 10));
    }
    assert!(matches!(refusal(bench.run(late)), Refusal::Deposed { .. }));
}

#[test]
fn an_assignment_come_twice_changes_nothing() {
    let mut bench = three_nodes();
    assert!(bench.run(assign(1, 1, &[2, 3])).is_accepted());
    let digest = bench.table.clone();
    assert!(bench.run(assign(1, 1, &[2, 3])).is_accepted());
    assert_eq!(bench.effects, []);
    assert_eq!(bench.table.group(7), digest.group(7));
}

#[test]
fn groups_that_nobody_owns_are_assigned_and_no_others() {
    let mut bench = three_nodes();
    assert!(bench.run(assign(0, 0, &[2, 3])).is_accepted());
    assert_eq!(bench.effects, [], "all have an owner");
    let mut fresh = Bench {
        table: crate::table::Table::new(),
        effects: Vec::new(),
        index: 0,
    };
    assert!(fresh.run(take([5], 1, 1)).is_accepted());
    assert!(fresh.run(assign(0, 0, &[1])).is_accepted());
    assert_eq!(fresh.table.groups_of(1).count(), 256);
    assert_eq!(
        (fresh.table.group(5).epoch, fresh.table.group(6).epoch),
        (1, 1),
        "what it had keeps its epoch"
    );
}

#[test]
fn a_node_that_has_started_again_loses_nothing_by_an_old_judgement() {
    let mut bench = three_nodes();
    assert!(bench.run(take([3], 1, 2)).is_accepted());
    let expected = Refusal::StaleIncarnation {
        node: 1,
        incarnation: 1,
        current: 2,
    };
    assert_eq!(refusal(bench.run(assign(1, 1, &[2, 3]))), expected);
    assert_eq!(bench.table.groups_of(1).count(), 256);
}

#[test]
fn groups_go_to_nobody_who_cannot_have_them() {
    let mut bench = three_nodes();
    for alive in [&[][..], &[1], &[9], &[0]] {
        assert_eq!(refusal(bench.run(assign(1, 1, alive))), Refusal::NobodyLives);
    }
    // A witness never registers.
    assert!(bench.run(assign(1, 1, &[2, 9])).is_accepted());
    assert_eq!(bench.table.groups_of(2).count(), 256);
}

#[test]
fn groups_move_on_purpose() {
    let mut bench = three_nodes();
    assert!(bench.run(to([3, 4], 2)).is_accepted());
    let taken = |group, epoch| Effect::GroupTaken {
        group,
        owner: 2,
        epoch,
    };
    assert_eq!(bench.effects, [taken(3, 2), taken(4, 2)]);
    assert_eq!(bench.table.group(3).incarnation, 20);
    assert!(bench.run(to([3, 4, 5], 2)).is_accepted());
    assert_eq!(
        bench.effects,
        [taken(5, 2)],
        "what is there already stays as it is"
    );
    let next = bench.next(0x0301);
    assert!(
        bench.run(next).is_accepted(),
        "the tunnel goes on under its new owner"
    );
    assert!(bench.run(to([], 3)).is_accepted());
}

#[test]
fn a_moved_group_gets_a_new_epoch_when_its_owner_has_started_again() {
    let mut bench = three_nodes();
    assert!(bench.run(to([3], 2)).is_accepted());
    assert!(bench.run(take([], 2, 21)).is_accepted());
    assert_eq!(bench.table.group(3).epoch, 2, "the new process took nothing yet");
    assert!(bench.run(to([3], 2)).is_accepted());
    let group = bench.table.group(3);
    assert_eq!((group.epoch, group.incarnation), (3, 21));
}

#[test]
fn groups_move_to_registered_nodes_only() {
    let mut bench = three_nodes();
    assert_eq!(refusal(bench.run(to([3], 9))), Refusal::NotRegistered(9));
    assert_eq!(refusal(bench.run(to([3], 0))), Refusal::NotRegistered(0));
    assert!(matches!(
        refusal(bench.run(to([3, 256], 2))),
        Refusal::Malformed(_)
    ));
    let many = (0..300).map(|_| 1);
    assert!(matches!(refusal(bench.run(to(many, 2))), Refusal::Malformed(_)));
    assert_eq!(bench.table.groups_of(1).count(), 256, "nothing of it was done");
}

#[test]
fn an_owner_without_groups_registers_its_incarnation() {
    let mut bench = Bench::new();
    assert_eq!(bench.table.incarnation(2), None);
    assert!(bench.run(take([], 2, 4)).is_accepted());
    assert_eq!(bench.table.incarnation(2), Some(4));
    assert!(matches!(
        refusal(bench.run(take([], 2, 3))),
        Refusal::StaleIncarnation { .. }
    ));
    assert!(matches!(
        refusal(bench.run(take([], 0, 1))),
        Refusal::Malformed(_)
    ));
}
