//! Ten thousand sessions over a hundred tunnels, through a network that loses 5 %, doubles 2 % and reorders, both ways.
//!
//! With the retransmissions of RFC 2661 §5.8 (a message is given up after 31 s, six tries) and of PPP (ten tries) nearly all succeed.
//! What fails must have failed by exhausted retransmissions alone.

use std::sync::Arc;
use std::time::Duration;

use holdfast_ppp::LinkConfig;
use holdfast_protocol::CloseReason;

use crate::seconds;
use crate::world::{Impairment, World};

const TUNNELS: u16 = 100;
const CALLS: u16 = 100;

const ROUGH: Impairment = Impairment {
    loss: 5,
    duplication: 2,
    reordering: 5,
};

fn all_calls(world: &World) -> impl Iterator<Item = (usize, &crate::lac::Call)> {
    let of_lac = |(number, lac)| {
        let lac: &crate::lac::Lac = lac;
        lac.calls.values().map(move |call| (number, call))
    };
    world.lacs.iter().enumerate().flat_map(of_lac)
}

/// A tunnel whose control channel gave up on either side, or that did not come up within its ten seconds.
fn exhausted(world: &World, lac: usize) -> bool {
    let by_us = |reason: &CloseReason| matches!(reason, CloseReason::NoAnswer | CloseReason::Local(_));
    world.lacs[lac].closed.as_ref().is_some_and(|reason| {
        by_us(reason)
            || matches!(reason, CloseReason::Peer(Some(result)) if result.text == b"not established in time")
    })
}

fn ten_thousand_sessions(seed: u64) {
    let mut world = World::new(seed);
    world.impairment = ROUGH;
    // An echo is not retransmitted: of three in a row, each lost with one chance in ten, some idle session misses all.
    world.link = Arc::new(LinkConfig {
        echo_interval: Duration::ZERO,
        ..LinkConfig::clone(&world.link)
    });
    for tunnel in 1..=TUNNELS {
        world.add_lac(0x1000 + tunnel, CALLS);
    }
    world.run_for(seconds(180));

    let mut up = 0;
    for (lac, call) in all_calls(&world) {
        up += usize::from(call.client.is_up());
        let explained = call.client.is_up() || call.client.gave_up || exhausted(&world, lac);
        assert!(explained, "call of LAC {lac}: {call:?}");
        assert_eq!(call.client.downs, 0, "no session that was up went down");
    }
    for (lac, call) in all_calls(&world) {
        assert!(
            !call.over || exhausted(&world, lac),
            "call of LAC {lac} was cleared: {call:?}"
        );
    }
    assert!(up >= 9_900, "{up} of 10000 came up");
    assert_eq!(world.table.session_count(), up);
    let distinct: std::collections::BTreeSet<_> =
        all_calls(&world).map(|(_, call)| call.client.address()).collect();
    assert!(distinct.len() >= up, "each has an address of its own");

    hang_up_all(&mut world);
    world.run_for(seconds(120));
    assert_eq!(world.table.session_count(), 0);
    assert!(world.rebirths.is_empty(), "{:?}", world.rebirths);

    for lac in 0..usize::from(TUNNELS) {
        world.at_lac(lac, |lac, now| {
            let result = holdfast_protocol::avp::ResultCode::new(6);
            lac.connection.close(now, result);
        });
    }
    world.run_for(seconds(120));
    assert_eq!(world.table.tunnel_count(), 0, "no tombstone is left");
    assert!(world.tunnels.is_empty() && world.sessions.is_empty());
}

/// Half of the subscribers hang up; the lines of the others are cut at the LAC.
fn hang_up_all(world: &mut World) {
    for lac in 0..usize::from(TUNNELS) {
        let sessions: Vec<_> = world.lacs[lac].calls.keys().copied().collect();
        for session in sessions {
            if session.get() % 2 == 0 {
                world.at_client(lac, session.get(), |client, now| client.hang_up(now));
            } else {
                world.at_lac(lac, |lac, now| lac.hang_up(now, session));
            }
        }
    }
}

#[test]
fn ten_thousand_sessions_come_and_go_over_a_rough_network() {
    ten_thousand_sessions(1);
}

#[test]
fn ten_thousand_sessions_come_and_go_with_another_seed() {
    ten_thousand_sessions(2);
}
