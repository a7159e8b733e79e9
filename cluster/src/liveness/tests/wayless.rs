//! What a detector says and does of nodes that have lost their way to the LACs.

use std::collections::BTreeSet;

use super::*;
use crate::liveness::{Reassign, WayToLacs};

const LOST: WayToLacs = WayToLacs {
    lost: true,
    in_doubt: true,
};

/// What nodes 1 to 3 own.
fn groups() -> [Group; 3] {
    [(1, 1), (2, 5), (3, 5)].map(|(owner, incarnation)| Group {
        owner,
        epoch: 1,
        incarnation,
    })
}

/// Node 3 says that it has no way, or that it has one, with a probe; what it is granted.
fn say(liveness: &mut Liveness, now: u64, wayless: bool) -> u32 {
    let standing = Standing {
        wayless,
        way_in_doubt: wayless,
        ..standing(1)
    };
    let probe = Probe {
        sequence: 1,
        boot: 1,
        standing: Some(standing),
    };
    give(liveness, at(now), 3, Body::Probe(probe));
    let granted = bodies(&drain(liveness))
        .into_iter()
        .find_map(|(_, body)| match body {
            Body::Ack(ack) => Some(ack.lease_ms),
            Body::Probe(_) => None,
        });
    granted.expect("acknowledged")
}

/// A round in which node 3 says so, and what is due then.
fn round(liveness: &mut Liveness, now: u64, wayless: bool) -> Vec<Reassign> {
    hear(liveness, now, wayless);
    liveness.reassign(at(now), &groups(), &BTreeSet::new())
}

/// A round in which node 3 says so.
fn hear(liveness: &mut Liveness, now: u64, wayless: bool) {
    liveness.handle_timeout(at(now));
    let sequence = liveness.next_sequence - 1;
    give(liveness, at(now), 2, ack(sequence, 1, 0));
    let Body::Ack(of_3) = ack(sequence, 1, 0) else {
        unreachable!("an acknowledgement")
    };
    let said = Standing {
        wayless,
        way_in_doubt: wayless,
        ..standing(1)
    };
    give(
        liveness,
        at(now),
        3,
        Body::Ack(ProbeAck {
            standing: Some(said),
            ..of_3
        }),
    );
    drain(liveness);
}

#[test]
fn what_is_known_is_said_with_every_probe_and_acknowledgement() {
    let mut liveness = one_of_three(2);
    for (lost, in_doubt) in [(true, true), (false, true), (false, false)] {
        liveness.set_way(WayToLacs { lost, in_doubt });
        liveness.handle_timeout(liveness.poll_timeout());
        let probe = Probe {
            sequence: 9,
            boot: 4,
            standing: Some(standing(2)),
        };
        give(&mut liveness, at(0), 3, Body::Probe(probe));
        let said: Vec<(bool, bool)> = bodies(&drain(&mut liveness))
            .iter()
            .map(|(_, body)| match body {
                Body::Probe(probe) => probe.standing,
                Body::Ack(ack) => ack.standing,
            })
            .map(|standing| standing.expect("always"))
            .map(|standing| (standing.wayless, standing.way_in_doubt))
            .collect();
        assert_eq!(said, [(lost, in_doubt); 3]);
        assert_eq!(liveness.wayless().contains(&1), lost);
    }
}

#[test]
fn nobody_vouches_for_who_has_no_way_and_its_groups_go_when_the_last_lease_is_over() {
    let mut liveness = one_of_three(1);
    rounds(&mut liveness, 0, 1_000, &[2, 3], 1);
    assert_eq!(round(&mut liveness, 1_000, false), []);
    assert!(say(&mut liveness, 1_000, false) > 0);
    assert_eq!(round(&mut liveness, 1_020, true), []);
    assert_eq!(say(&mut liveness, 1_021, true), 0);
    for now in (1_040..1_240).step_by(20) {
        assert_eq!(round(&mut liveness, now, true), [], "{now}");
        assert_eq!(say(&mut liveness, now, true), 0, "{now}");
    }
    let due = round(&mut liveness, 1_240, true);
    let expected = Reassign {
        from: 3,
        incarnation: 5,
        alive: vec![1, 2],
        steps_aside: true,
    };
    assert_eq!(due, [expected]);
    assert!(liveness.is_alive(3), "it votes and forwards");
    assert_eq!(say(&mut liveness, 1_241, false), 0, "it may not know of its loss");
    liveness.handle_verdict(3, 10);
    assert_eq!(round(&mut liveness, 1_260, false), []);
    assert!(say(&mut liveness, 1_261, false) > 0);
}

#[test]
fn a_leader_without_a_way_holds_itself_for_stale_and_gives_its_own_groups_away() {
    let mut liveness = one_of_three(1);
    rounds(&mut liveness, 0, 1_000, &[2, 3], 1);
    assert_eq!(round(&mut liveness, 1_000, false), []);
    assert!(liveness.fresh_until() > Some(at(1_000)));
    liveness.set_way(LOST);
    for now in (1_020..1_240).step_by(20) {
        assert_eq!(round(&mut liveness, now, false), [], "{now}");
        assert_eq!(liveness.fresh_until(), Some(Duration::ZERO), "{now}");
    }
    assert!(
        say(&mut liveness, 1_239, false) > 0,
        "it leads, and vouches for others"
    );
    let expected = Reassign {
        from: 1,
        incarnation: 1,
        alive: vec![2, 3],
        steps_aside: true,
    };
    assert_eq!(round(&mut liveness, 1_240, false), [expected]);
    let given = groups().map(|group| Group { owner: 2, ..group });
    assert_eq!(liveness.reassign(at(1_241), &given, &BTreeSet::new()), []);
    assert!(
        liveness.fresh_until() > Some(at(1_240)),
        "it owns nothing any more"
    );
}

#[test]
fn where_nobody_has_a_way_everybody_is_vouched_for() {
    let mut liveness = one_of_three(1);
    liveness.set_way(LOST);
    rounds(&mut liveness, 0, 1_000, &[2, 3], 1);
    // Node 2 is a witness: it has no LACs to answer.
    for now in (1_000..3_000).step_by(20) {
        hear(&mut liveness, now, true);
        let due = liveness.reassign(at(now), &groups(), &[2].into());
        assert!(due.is_empty(), "{due:?}");
    }
    assert!(say(&mut liveness, 3_000, true) > 0);
}
