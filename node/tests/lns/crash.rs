//! The LNS dies after any of its inputs, in any way: the dial-in completes, and what is open stays open untouched.

use std::time::Duration;

use holdfast::lns::entropy::Entropy;
use holdfast_protocol::avp::ResultCode;

use crate::seconds;
use crate::world::{Crash, Impairment, InFlight, World};

fn dial_in(crash: Option<Crash>) -> World {
    let mut world = World::new(1);
    world.crash = crash;
    let lac = world.add_lac(0x1001, 1);
    world.run_until(seconds(60), |world| {
        world.lacs[lac].calls.values().any(|call| call.client.is_up())
    });
    world
}

#[test]
fn a_subscriber_comes_online() {
    let mut world = dial_in(None);
    world.run_for(seconds(200));
    assert!(world.rebirths.is_empty());
    let client = &world.lacs[0].first().client;
    assert!(client.is_up() && client.downs == 0);
    assert_eq!(client.address(), [10, 16, 1, 1]);
    assert_eq!((world.table.session_count(), world.authentications), (1, 1));
}

#[test]
fn a_crash_after_any_input_loses_no_session() {
    let inputs = {
        let mut world = dial_in(None);
        world.run_for(seconds(100));
        world.steps
    };
    assert!(inputs > 30, "{inputs}");
    for after in 0..inputs {
        for in_flight in [InFlight::Lost, InFlight::Judged, InFlight::Late] {
            for says_it in [false, true] {
                let crash = Crash {
                    after,
                    says_it,
                    in_flight,
                };
                survives(crash);
            }
        }
    }
}

/// Whatever the moment, the subscriber comes online once and stays so, and the LNS's rows say so.
fn survives(crash: Crash) {
    let mut world = dial_in(Some(crash));
    let (asked, up_at) = (world.lacs[0].first().client.lcp_requests, world.now);
    world.run_for(seconds(150));
    let call = world.lacs[0].first();
    let client = &call.client;
    assert!(world.crash.is_none(), "{crash:?} happened");
    assert!(
        world.lacs[0].closed.is_none() && !call.over,
        "{crash:?}: the call is lost"
    );
    assert_eq!(
        (client.ups, client.downs),
        (1, 0),
        "{crash:?}: the interface flapped"
    );
    assert_eq!(
        client.lcp_requests, asked,
        "{crash:?}: renegotiated after {up_at:?}"
    );
    assert_eq!(world.table.session_count(), 1, "{crash:?}");
    let tunnel = world.table.tunnel(world.tunnel()).expect("a tunnel");
    assert!(
        tunnel.sessions().all(|(_, row)| row.is_open()),
        "{crash:?}: the row is not open"
    );
    assert!(world.rebirths.is_empty(), "{crash:?}: {:?}", world.rebirths);
}

#[test]
fn a_crash_after_any_input_of_a_hang_up_leaves_nothing_behind() {
    for after in 0..20 {
        for in_flight in [InFlight::Lost, InFlight::Judged, InFlight::Late] {
            for says_it in [false, true] {
                let mut world = dial_in(None);
                world.run_for(seconds(2));
                world.crash = Some(Crash {
                    after: world.steps + after,
                    says_it,
                    in_flight,
                });
                world.at_client(0, 1, |client, now| client.hang_up(now));
                world.run_for(seconds(60));
                let crash = (after, in_flight, says_it);
                assert_eq!(world.table.session_count(), 0, "{crash:?}: the session stays");
                assert!(world.sessions.is_empty(), "{crash:?}");
                assert!(world.lacs[0].first().over, "{crash:?}: the LAC keeps the call");
                assert!(world.lacs[0].closed.is_none(), "{crash:?}: the tunnel is lost");
            }
        }
    }
}

#[test]
fn a_crash_after_any_input_of_a_tunnels_end_leaves_nothing_behind() {
    for after in 0..12 {
        for in_flight in [InFlight::Lost, InFlight::Judged, InFlight::Late] {
            let mut world = dial_in(None);
            world.run_for(seconds(2));
            world.crash = Some(Crash {
                after: world.steps + after,
                says_it: after % 2 == 0,
                in_flight,
            });
            let result = ResultCode::new(6);
            world.at_lac(0, |lac, now| lac.connection.close(now, result));
            world.run_for(seconds(120));
            let rows = (world.table.tunnel_count(), world.table.session_count());
            assert_eq!(rows, (0, 0), "{after} {in_flight:?}");
            assert!(world.tunnels.is_empty() && world.sessions.is_empty());
        }
    }
}

/// Crash upon crash, over a rough network, while a hundred subscribers dial in.
#[test]
fn a_server_that_keeps_crashing_loses_no_session_that_is_up() {
    for seed in 1..=10 {
        let mut world = World::new(seed);
        world.impairment = Impairment {
            loss: 5,
            duplication: 0,
            reordering: 5,
        };
        world.send_no_echoes();
        for tunnel in 1..=10 {
            world.add_lac(0x1000 + tunnel, 10);
        }
        let mut dice = Entropy::new(seed);
        for _ in 0..40 {
            let in_flight = [InFlight::Lost, InFlight::Judged, InFlight::Late][dice.next_u64() as usize % 3];
            world.crash = Some(Crash {
                after: world.steps + dice.next_u64() as usize % 200,
                says_it: dice.next_u64().is_multiple_of(2),
                in_flight,
            });
            world.run_for(Duration::from_millis(dice.next_u64() % 1000));
        }
        world.crash = None;
        world.run_for(seconds(120));
        let (mut up, mut closed) = (0, 0);
        for lac in &world.lacs {
            closed += usize::from(lac.closed.is_some());
            for call in lac.calls.values().filter(|_| lac.closed.is_none()) {
                up += usize::from(call.client.is_up());
                assert!(
                    call.client.is_up() && call.client.downs == 0,
                    "seed {seed}: {call:?}"
                );
            }
        }
        assert!(closed <= 1, "seed {seed}: {closed} tunnels given up");
        assert_eq!(up, (10 - closed) * 10, "seed {seed}");
        assert_eq!(world.table.session_count(), up, "seed {seed}");
        assert!(world.rebirths.is_empty(), "seed {seed}: {:?}", world.rebirths);
    }
}
