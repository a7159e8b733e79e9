//! How long a node that is cut off may forward, and what the others may count on.

use super::super::isolation::wait;
use super::*;

const LIMIT: Duration = Duration::from_secs(60);

fn isolated(leader: u64) -> Liveness {
    let mut liveness = one_of_three(leader);
    liveness.set_isolation_limit(LIMIT);
    liveness
}

fn ack_at(sequence: u64, leader: u64, lease_ms: u32, applied: u64, horizon: u64) -> Body {
    Body::Ack(ProbeAck {
        sequence,
        boot: BOOT,
        standing: Some(Standing {
            applied,
            horizon,
            ..standing(leader)
        }),
        lease_ms,
        other_support_ms: 10_000,
    })
}

fn applied(index: u64, leader: u64) -> View {
    View {
        applied: index,
        ..view(leader)
    }
}

#[test]
fn a_follower_forwards_for_the_limit_after_it_was_level_with_its_leader() {
    // Who acknowledges the probe of 0 ms, with how long a lease, having applied what; what is applied here in the end.
    for (from, lease_ms, leader_has, applied_here, forwards) in [
        (2, 200, 10, 10, true),
        (2, 200, 12, 12, true),
        (2, 200, 12, 11, false),
        (2, 0, 10, 10, false),
        (3, 200, 10, 10, false),
    ] {
        let mut liveness = isolated(2);
        assert_eq!(liveness.forward_until(), Some(Duration::ZERO), "not yet");
        liveness.handle_timeout(at(0));
        give(&mut liveness, at(30), from, ack_at(1, 2, lease_ms, leader_has, 0));
        liveness.set_view(at(40), applied(applied_here, 2));
        let expected = if forwards { at(0) + LIMIT } else { Duration::ZERO };
        let case = (from, lease_ms, leader_has, applied_here);
        assert_eq!(liveness.forward_until(), Some(expected), "{case:?}");
        // That it hears no leader any more takes nothing back.
        liveness.set_view(
            at(50),
            View {
                term: 4,
                ..applied(applied_here, 0)
            },
        );
        assert_eq!(liveness.forward_until(), Some(expected), "{case:?}");
    }
}

#[test]
fn who_is_never_level_at_one_moment_is_so_a_moment_later() {
    let mut liveness = isolated(2);
    for (round, time) in (0..5_u64).zip((0..).step_by(20)) {
        liveness.set_view(at(time), applied(10 + round, 2));
        liveness.handle_timeout(at(time));
        give(
            &mut liveness,
            at(time),
            2,
            ack_at(round + 1, 2, 200, 11 + round, 0),
        );
    }
    assert_eq!(liveness.forward_until(), Some(at(60) + LIMIT));
}

#[test]
fn a_leader_forwards_for_the_limit_after_a_quorum_followed_it() {
    let mut liveness = isolated(1);
    rounds(&mut liveness, 0, 100, &[2], 1);
    liveness.handle_timeout(at(100));
    assert_eq!(liveness.forward_until(), Some(at(80) + LIMIT));
    for time in (120..1_000).step_by(20) {
        liveness.handle_timeout(at(time));
    }
    assert_eq!(liveness.forward_until(), Some(at(80) + LIMIT), "alone");
}

#[test]
fn a_group_of_one_forwards_for_ever() {
    let liveness = Liveness::new(1, BOOT, Members::voting(1..=1), T0);
    assert_eq!((liveness.forward_until(), liveness.horizon()), (None, u64::MAX));
}

#[test]
fn the_horizon_is_what_all_have_applied() {
    let mut liveness = isolated(2);
    liveness.handle_timeout(at(0));
    give(&mut liveness, at(1), 2, ack_at(1, 2, 0, 9, 0));
    liveness.handle_timeout(at(20));
    assert_eq!(liveness.horizon(), 0, "the third was never heard");
    give(&mut liveness, at(21), 3, ack_at(2, 2, 0, 7, 0));
    liveness.handle_timeout(at(40));
    assert_eq!(liveness.horizon(), 7);
    give(&mut liveness, at(41), 3, ack_at(3, 2, 0, 4, 0));
    liveness.handle_timeout(at(60));
    assert_eq!(liveness.horizon(), 7, "it began anew, and what was so stays so");
    give(&mut liveness, at(61), 2, ack_at(4, 2, 0, 9, 8));
    assert_eq!(liveness.horizon(), 8, "another member knows better");
    let sent = |body: &Body| match body {
        Body::Probe(probe) => probe.standing.map(|standing| standing.horizon),
        Body::Ack(_) => None,
    };
    drain(&mut liveness);
    liveness.handle_timeout(at(80));
    let told: Vec<_> = bodies(&drain(&mut liveness))
        .iter()
        .map(|(_, body)| sent(body))
        .collect();
    assert_eq!(told, [Some(8), Some(8)]);
}

/// Rounds of 20 ms up to a second, in which node 2 acknowledges and has applied 10.
fn until(liveness: &mut Liveness, second: u64, leader: u64) {
    let end = T0 + Duration::from_secs(second);
    while liveness.poll_timeout() < end {
        let now = liveness.poll_timeout();
        liveness.handle_timeout(now);
        let sequence = liveness.next_sequence - 1;
        give(liveness, now, 2, ack_at(sequence, leader, 200, 10, 0));
        drain(liveness);
    }
}

#[test]
fn only_a_leader_leaves_out_who_was_silent_for_the_limit() {
    for (leader, horizon) in [(1, 10), (2, 5)] {
        let mut liveness = isolated(leader);
        liveness.handle_timeout(at(0));
        give(&mut liveness, at(0), 3, ack_at(1, leader, 0, 5, 0));
        until(&mut liveness, wait(LIMIT).as_secs(), leader);
        assert_eq!(liveness.horizon(), 5, "it may still forward");
        until(&mut liveness, wait(LIMIT).as_secs() + 3, leader);
        assert_eq!(liveness.horizon(), horizon, "led by {leader}");
    }
}

#[test]
fn a_removed_member_counts_until_it_must_have_stopped() {
    let mut liveness = isolated(2);
    liveness.handle_timeout(at(0));
    give(&mut liveness, at(0), 3, ack_at(1, 2, 0, 5, 0));
    liveness.set_members(at(10), Members::voting(1..=2));
    until(&mut liveness, wait(LIMIT).as_secs(), 2);
    assert_eq!(liveness.horizon(), 5);
    until(&mut liveness, wait(LIMIT).as_secs() + 3, 2);
    assert_eq!(liveness.horizon(), 10);
}
