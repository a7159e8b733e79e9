//! What a detector says and does where disks are full.

use std::collections::BTreeSet;

use super::*;

/// Nodes 1 to 3 own these; node 1 is the one that judges.
fn groups() -> [Group; 3] {
    [(1, 1), (2, 5), (3, 5)].map(|(owner, incarnation)| Group {
        owner,
        epoch: 1,
        incarnation,
    })
}

/// Rounds of 20 ms under our own lead; `full` says with each acknowledgement that its disk is full. Gives whose groups are
/// to go to whom.
fn rounds_with_full(liveness: &mut Liveness, from: u64, to: u64, full: u64) -> Vec<(u64, Vec<u64>)> {
    let mut due = Vec::new();
    for time in (from..to).step_by(20) {
        liveness.handle_timeout(at(time));
        let sequence = liveness.next_sequence - 1;
        for node in [2, 3] {
            let Body::Ack(mut answer) = ack(sequence, 1, 0) else {
                unreachable!("an acknowledgement");
            };
            answer.standing = Some(Standing {
                full: node == full,
                ..standing(1)
            });
            give(liveness, at(time), node, Body::Ack(answer));
        }
        drain(liveness);
        let reassigned = liveness.reassign(at(time), &groups(), &BTreeSet::new());
        due.extend(reassigned.into_iter().map(|due| (due.from, due.alive)));
    }
    due
}

#[test]
fn whose_disk_is_full_loses_its_groups_to_those_who_have_space() {
    let mut liveness = one_of_three(1);
    assert_eq!(rounds_with_full(&mut liveness, 0, 1_000, 0), []);
    assert_eq!(
        rounds_with_full(&mut liveness, 1_000, 1_500, 3),
        [(3, vec![1, 2])]
    );
    assert_eq!(liveness.full(), [3].into());
    let mut liveness = one_of_three(1);
    rounds_with_full(&mut liveness, 0, 1_000, 0);
    liveness.set_full(true);
    assert_eq!(
        rounds_with_full(&mut liveness, 1_000, 1_500, 3),
        [(1, vec![2]), (3, vec![2])]
    );
}

#[test]
fn a_leader_whose_disk_is_full_passes_the_lead_on_once_it_owns_nothing() {
    let mut liveness = one_of_three(1);
    rounds_with_full(&mut liveness, 0, 1_000, 2);
    let pass =
        |liveness: &mut Liveness, now: u64, groups: &[Group]| liveness.pass_lead_to(at(now), groups, &[2, 3]);
    assert_eq!(pass(&mut liveness, 1_000, &groups()), None, "its own has space");
    liveness.set_full(true);
    assert_eq!(pass(&mut liveness, 1_000, &groups()), None, "groups first");
    let moved = &groups()[1..];
    assert_eq!(
        pass(&mut liveness, 1_100, moved),
        Some(3),
        "node 2 is full as well"
    );
    assert_eq!(pass(&mut liveness, 1_120, moved), None, "under way");
    rounds_with_full(&mut liveness, 1_000, 3_000, 2);
    assert_eq!(
        pass(&mut liveness, 3_000, &groups()),
        Some(3),
        "nobody took the groups"
    );
}
