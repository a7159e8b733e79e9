//! One detector at a time: what it sends, when it is fresh, whom it judges.

mod aside;
mod isolation;
mod wayless;

use std::time::Duration;

use proptest::prelude::*;
use prost::Message;

use super::{Liveness, Members, Output, ProbeError, View};
use crate::limits::{LONELY_MS, PROBE_OCTETS_MAX};
use crate::probes::{Datagram, Probe, ProbeAck, Standing, datagram::Body};
use crate::table::Group;

const T0: Duration = Duration::from_secs(1_000);
const BOOT: u64 = 77;

fn at(milliseconds: u64) -> Duration {
    T0 + Duration::from_millis(milliseconds)
}

fn view(leader: u64) -> View {
    View {
        leader,
        term: 3,
        applied: 10,
        last: 10,
        incarnation: 1,
    }
}

fn standing(leader: u64) -> Standing {
    Standing {
        term: 3,
        leader,
        applied: 10,
        incarnation: 5,
        wayless: false,
        way_in_doubt: false,
        full: false,
        horizon: 0,
    }
}

/// Node 1 of three, which began at `T0` under a leader.
fn one_of_three(leader: u64) -> Liveness {
    let mut liveness = Liveness::new(1, BOOT, Members::voting(1..=3), T0);
    liveness.set_view(T0, view(leader));
    liveness
}

fn drain(liveness: &mut Liveness) -> Vec<Output> {
    std::iter::from_fn(|| liveness.poll_output()).collect()
}

fn bodies(outputs: &[Output]) -> Vec<(u64, Body)> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Send { to, octets } => Some((*to, Datagram::decode(octets.as_slice()).ok()?.body?)),
        Output::Down(_) | Output::Back(_) | Output::Lonely(_) => None,
    });
    sent.collect()
}

fn give(liveness: &mut Liveness, now: Duration, from: u64, body: Body) {
    let octets = Datagram { body: Some(body) }.encode_to_vec();
    liveness.handle_message(now, from, &octets).expect("well formed");
}

fn ack(sequence: u64, leader: u64, lease_ms: u32) -> Body {
    Body::Ack(ProbeAck {
        sequence,
        boot: BOOT,
        standing: Some(standing(leader)),
        lease_ms,
        other_support_ms: 10_000,
    })
}

/// Rounds of 20 ms from `from` up to `to`; these nodes acknowledge each at once.
fn rounds(liveness: &mut Liveness, from: u64, to: u64, answering: &[u64], leader: u64) -> Vec<Output> {
    let mut outputs = Vec::new();
    for time in (from..to).step_by(20) {
        liveness.handle_timeout(at(time));
        let sequence = liveness.next_sequence - 1;
        for node in answering {
            give(liveness, at(time), *node, ack(sequence, leader, 200));
        }
        outputs.extend(
            drain(liveness)
                .into_iter()
                .filter(|output| !matches!(output, Output::Send { .. })),
        );
    }
    outputs
}

#[test]
fn everybody_is_probed_every_20_ms() {
    let mut liveness = one_of_three(2);
    assert_eq!(liveness.poll_timeout(), T0);
    liveness.handle_timeout(T0);
    let standing = Standing {
        incarnation: 1,
        ..standing(2)
    };
    let probe = Body::Probe(Probe {
        sequence: 1,
        boot: BOOT,
        standing: Some(standing),
    });
    assert_eq!(bodies(&drain(&mut liveness)), [(2, probe), (3, probe)]);
    assert_eq!(liveness.poll_timeout(), at(20));
    liveness.handle_timeout(at(19));
    assert_eq!(drain(&mut liveness), []);
}

#[test]
fn a_probe_is_acknowledged() {
    let mut liveness = one_of_three(2);
    let probe = Probe {
        sequence: 9,
        boot: 4,
        standing: Some(standing(2)),
    };
    give(&mut liveness, at(0), 3, Body::Probe(probe));
    let expected = ProbeAck {
        sequence: 9,
        boot: 4,
        standing: Some(Standing {
            incarnation: 1,
            ..standing(2)
        }),
        lease_ms: 0,
        other_support_ms: 0,
    };
    assert_eq!(bodies(&drain(&mut liveness)), [(3, Body::Ack(expected))]);
}

#[test]
fn a_follower_is_fresh_for_200_ms_from_the_sending() {
    let mut liveness = one_of_three(2);
    assert_eq!(liveness.fresh_until(), Some(Duration::ZERO));
    liveness.handle_timeout(at(0));
    give(&mut liveness, at(30), 3, ack(1, 2, 200));
    assert_eq!(liveness.fresh_until(), Some(Duration::ZERO), "not the leader's");
    give(&mut liveness, at(40), 2, ack(1, 2, u32::MAX));
    assert_eq!(liveness.fresh_until(), Some(at(200)));
    liveness.set_view(
        at(50),
        View {
            leader: 3,
            term: 4,
            ..view(2)
        },
    );
    assert_eq!(liveness.fresh_until(), Some(Duration::ZERO), "another leader");
}

#[test]
fn a_follower_is_not_fresher_than_its_leader() {
    let mut liveness = one_of_three(2);
    liveness.handle_timeout(at(0));
    give(&mut liveness, at(10), 2, ack(1, 2, 60));
    assert_eq!(liveness.fresh_until(), Some(at(60)));
}

#[test]
fn a_leader_is_fresh_by_a_quorum_and_vouches_for_what_is_left() {
    let mut liveness = one_of_three(1);
    liveness.handle_timeout(at(0));
    assert_eq!(liveness.fresh_until(), Some(Duration::ZERO));
    give(&mut liveness, at(5), 2, ack(1, 1, 0));
    assert_eq!(liveness.fresh_until(), Some(at(200)));
    drain(&mut liveness);
    let probe = Body::Probe(Probe {
        sequence: 1,
        boot: 1,
        standing: Some(standing(1)),
    });
    give(&mut liveness, at(8), 2, probe);
    give(&mut liveness, at(8), 3, probe);
    let leases: Vec<u32> = bodies(&drain(&mut liveness))
        .iter()
        .filter_map(|(_, body)| match body {
            Body::Ack(ack) => Some(ack.lease_ms),
            Body::Probe(_) => None,
        })
        .collect();
    assert_eq!(leases, [192, 0], "node 3 was never heard to acknowledge");
}

#[test]
fn a_leader_that_has_not_applied_its_log_is_not_fresh() {
    let mut liveness = one_of_three(2);
    liveness.set_view(
        at(0),
        View {
            leader: 1,
            term: 4,
            last: 12,
            ..view(1)
        },
    );
    liveness.handle_timeout(at(0));
    let standing = Standing {
        term: 4,
        ..standing(1)
    };
    let ack = ProbeAck {
        sequence: 1,
        boot: BOOT,
        standing: Some(standing),
        ..ProbeAck::default()
    };
    give(&mut liveness, at(1), 2, Body::Ack(ack));
    assert_eq!(liveness.fresh_until(), Some(Duration::ZERO));
    liveness.set_view(
        at(2),
        View {
            leader: 1,
            term: 4,
            applied: 12,
            last: 12,
            incarnation: 1,
        },
    );
    assert_eq!(liveness.fresh_until(), Some(at(200)));
}

#[test]
fn a_group_of_one_is_always_fresh_and_never_lonely() {
    let mut liveness = Liveness::new(1, BOOT, Members::voting([1]), T0);
    assert_eq!(liveness.fresh_until(), None);
    liveness.set_view(T0, view(1));
    assert_eq!(rounds(&mut liveness, 0, 5_000, &[], 1), []);
    assert!(liveness.judgement(at(5_000)).is_some());
}

#[test]
fn a_new_leader_waits_for_the_leases_of_the_old() {
    let mut liveness = one_of_three(2);
    rounds(&mut liveness, 0, 1_000, &[2, 3], 2);
    // It acknowledges the old leader until a moment before it leads.
    let probe = Body::Probe(Probe {
        sequence: 1,
        boot: 1,
        standing: Some(standing(2)),
    });
    give(&mut liveness, at(981), 2, probe);
    liveness.set_view(at(1_000), View { term: 3, ..view(1) });
    liveness.handle_closed(at(1_000), 2);
    rounds(&mut liveness, 1_000, 1_200, &[3], 1);
    assert_eq!(liveness.judgement(at(1_200)), None);
    rounds(&mut liveness, 1_200, 1_220, &[3], 1);
    let judgement = liveness.judgement(at(1_201)).expect("981 + 220");
    assert_eq!(judgement.down, [(2, 5)].into());
    assert_eq!(judgement.alive, [(1, 1), (3, 5)].into());
}

#[test]
fn a_dead_owner_is_replaced_and_vouched_for_again_when_it_knows() {
    let mut liveness = one_of_three(1);
    rounds(&mut liveness, 0, 1_000, &[2, 3], 1);
    let groups = [Group {
        owner: 2,
        epoch: 1,
        incarnation: 5,
    }];
    assert_eq!(liveness.reassign(at(1_000), &groups, &[].into()), []);
    let outputs = rounds(&mut liveness, 1_000, 1_400, &[3], 1);
    assert_eq!(outputs, [Output::Down(2)]);
    let due = liveness.reassign(at(1_390), &groups, &[].into());
    assert_eq!(
        (
            due.len(),
            due[0].from,
            due[0].incarnation,
            due[0].alive.as_slice()
        ),
        (1, 2, 5, [1, 3].as_slice())
    );

    assert_eq!(rounds(&mut liveness, 1_400, 1_500, &[2, 3], 1), [Output::Back(2)]);
    let lease = |liveness: &mut Liveness, applied| {
        let standing = Standing {
            applied,
            ..standing(1)
        };
        let probe = Probe {
            sequence: 1,
            boot: 1,
            standing: Some(standing),
        };
        give(liveness, at(1_490), 2, Body::Probe(probe));
        match bodies(&drain(liveness)).as_slice() {
            [(2, Body::Ack(ack))] => ack.lease_ms,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lease(&mut liveness, 50), 0, "a proposal is under way");
    liveness.handle_verdict(2, 12);
    assert_eq!(lease(&mut liveness, 11), 0);
    assert!(lease(&mut liveness, 12) > 0);
}

#[test]
fn a_closed_and_refused_member_is_down_now() {
    let mut liveness = one_of_three(1);
    rounds(&mut liveness, 0, 100, &[2, 3], 1);
    liveness.handle_closed(at(90), 3);
    assert_eq!(drain(&mut liveness), [Output::Down(3)]);
    give(&mut liveness, at(91), 3, ack(5, 1, 0));
    assert!(!liveness.is_alive(3), "an acknowledgement from before");
}

#[test]
fn without_leader_or_quorum_for_two_seconds_it_is_lonely() {
    let mut liveness = one_of_three(2);
    assert_eq!(
        rounds(&mut liveness, 0, 1_000, &[2, 3], 2),
        [Output::Back(2), Output::Back(3)]
    );
    liveness.set_view(at(1_000), View { leader: 0, ..view(0) });
    assert_eq!(rounds(&mut liveness, 1_000, 980 + LONELY_MS, &[2, 3], 2), []);
    assert_eq!(
        rounds(&mut liveness, 980 + LONELY_MS, 4_000, &[2, 3], 2),
        [Output::Lonely(true)]
    );
    liveness.set_view(at(4_000), view(2));
    assert_eq!(
        rounds(&mut liveness, 4_000, 4_100, &[2, 3], 2),
        [Output::Lonely(false)]
    );
}

#[test]
fn who_was_never_heard_has_two_seconds() {
    let mut liveness = one_of_three(1);
    assert_eq!(rounds(&mut liveness, 0, 2_000, &[2], 1), [Output::Back(2)]);
    let judgement = liveness.judgement(at(1_990)).expect("leads");
    assert_eq!(judgement.undecided, [3].into());
    assert_eq!(rounds(&mut liveness, 2_000, 2_020, &[2], 1), [Output::Down(3)]);
}

#[test]
fn a_removed_member_is_undecided_until_its_lease_is_over() {
    let mut liveness = one_of_three(1);
    rounds(&mut liveness, 0, 1_000, &[2, 3], 1);
    let probe = Body::Probe(Probe {
        sequence: 1,
        boot: 1,
        standing: Some(standing(1)),
    });
    give(&mut liveness, at(985), 3, probe);
    liveness.set_members(at(990), Members::voting(1..=2));
    rounds(&mut liveness, 1_000, 1_220, &[2], 1);
    assert_eq!(
        liveness.judgement(at(1_204)).expect("leads").undecided,
        [3].into()
    );
    assert_eq!(liveness.judgement(at(1_205)).expect("leads").undecided, [].into());
    assert_eq!(
        liveness.handle_message(at(1_206), 3, &[]),
        Err(ProbeError::Stranger(3))
    );
}

#[test]
fn acknowledgements_of_old_rounds_and_of_an_earlier_process_count_for_nothing() {
    let mut liveness = one_of_three(1);
    rounds(&mut liveness, 0, 400, &[], 1);
    give(&mut liveness, at(390), 2, ack(1, 1, 0));
    let Body::Ack(of_before) = ack(20, 1, 0) else {
        unreachable!("an acknowledgement")
    };
    give(
        &mut liveness,
        at(390),
        2,
        Body::Ack(ProbeAck {
            boot: BOOT - 1,
            ..of_before
        }),
    );
    assert!(!liveness.is_alive(2));
    give(&mut liveness, at(390), 2, ack(20, 1, 0));
    assert!(liveness.is_alive(2));
}

#[test]
fn what_is_no_probe_is_an_error() {
    let mut liveness = one_of_three(1);
    assert_eq!(liveness.handle_message(T0, 2, &[]), Err(ProbeError::UnknownKind));
    let long = vec![0; PROBE_OCTETS_MAX + 1];
    assert_eq!(
        liveness.handle_message(T0, 2, &long),
        Err(ProbeError::TooLong(long.len()))
    );
    assert!(matches!(
        liveness.handle_message(T0, 2, &[0xff]),
        Err(ProbeError::Malformed(_))
    ));
    assert_eq!(liveness.handle_message(T0, 9, &[]), Err(ProbeError::Stranger(9)));
}

proptest! {
    /// Any octets, any numbers in a well-formed message, at any time: no panic, and never fresh for longer than 200 ms.
    #[test]
    fn nothing_received_panics_or_makes_fresh_for_long(
        octets in proptest::collection::vec(any::<u8>(), 0..300),
        numbers in any::<[u64; 6]>(),
        lease_ms in any::<u32>(),
        wait in 0u64..100_000,
        leader in 1u64..4,
        [wayless, way_in_doubt, full] in any::<[bool; 3]>(),
    ) {
        let mut liveness = one_of_three(leader);
        liveness.handle_timeout(T0);
        let _ = liveness.handle_message(at(wait), 2, &octets);
        let [sequence, boot, term, applied, incarnation, other_support_ms] = numbers;
        let wild = Standing { term, leader, applied, incarnation, wayless, way_in_doubt, full, horizon: applied };
        for standing in [wild, standing(leader)] {
            let standing = Some(standing);
            give(&mut liveness, at(wait), 2, Body::Probe(Probe { sequence, boot, standing }));
            let ack = ProbeAck { sequence: 1, boot: BOOT, standing, lease_ms, other_support_ms };
            give(&mut liveness, at(wait), 2, Body::Ack(ack));
        }
        liveness.handle_timeout(at(wait));
        let fresh = liveness.fresh_until().expect("one of three");
        prop_assert!(fresh <= at(wait + 200));
        let _ = liveness.judgement(at(wait));
        for output in drain(&mut liveness) {
            if let Output::Send { octets, .. } = output {
                prop_assert!(octets.len() <= PROBE_OCTETS_MAX);
            }
        }
    }
}
