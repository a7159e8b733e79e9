//! Who may change what: groups, epochs, incarnations, lives.

use super::*;

use crate::commands::Reclaim;
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
