//! The LNS dies after any of its inputs, in any way: the dial-in completes, and what is open stays open untouched.

use crate::seconds;
use crate::world::{Crash, InFlight, World};

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
