//! The simulator against the crates `protocol` and `ppp`, in virtual time: two implementations written apart must
//! understand each other, over a good network and a bad one, and across the death of the server's process.

mod lns;
mod world;

use std::time::Duration;

use holdfast_testbed::simulator::{Authentication, HangUp, Impairment, Plan};
use world::World;

const BAD: Impairment = Impairment {
    loss: 5.0,
    duplication: 2.0,
    reordering: 10.0,
    delay_ms: 20,
};

fn plan(sessions: u32, tunnels: u32) -> Plan {
    Plan {
        lacs: 4,
        sessions,
        tunnels,
        ping_interval_ms: 1000,
        ..Plan::default()
    }
}

#[test]
fn every_way_to_authenticate_and_to_be_connected() {
    for authentication in [
        Authentication::Any,
        Authentication::Pap,
        Authentication::Chap,
        Authentication::MsChapV2,
    ] {
        for (proxy, eager, sequencing) in [
            (false, false, false),
            (false, true, true),
            (true, false, false),
            (true, true, true),
        ] {
            let plan = Plan {
                authentication,
                proxy,
                eager,
                sequencing,
                mru: Some(1400),
                ..plan(8, 2)
            };
            let mut world = World::new(plan.clone());
            world.dial();
            world.run(Duration::from_secs(10));
            let report = world.report();
            assert_eq!(
                (report.sessions_open, report.sessions_renegotiated),
                (8, 0),
                "{plan:?}: {report:?}"
            );
            assert_eq!(report.pings_answered, report.pings_sent);
            let wrong = (report.data_numbers_repeated, report.data_numbers_missing);
            assert_eq!(wrong, (0, 0), "{plan:?}");
        }
    }
}

#[test]
fn a_secret_is_wanted_on_both_sides() {
    for (ours, theirs, up) in [
        (Some("right"), Some("right"), 4),
        (Some("wrong"), Some("right"), 0),
        (None, Some("right"), 0),
    ] {
        let mut world = World::new(Plan {
            secret: ours.map(str::to_owned),
            ..plan(4, 2)
        });
        world.lns.set_secret(theirs);
        world.dial();
        world.run(Duration::from_secs(10));
        let report = world.report();
        assert_eq!(report.sessions_open, up, "{ours:?} {theirs:?}: {report:?}");
        assert_eq!(report.sessions_failed, 4 - up);
    }
}

#[test]
fn a_bad_network_costs_time_and_no_sessions() {
    for seed in 1..=3 {
        let mut world = World::new(Plan {
            impairment: BAD,
            seed,
            ..plan(500, 20)
        });
        world.dial();
        world.run(Duration::from_secs(90));
        let report = world.report();
        assert_eq!(
            (report.sessions_open, report.sessions_failed),
            (500, 0),
            "seed {seed}: {report:?}"
        );
        assert_eq!(report.sessions_lost, 0, "seed {seed}: {report:?}");
        // A client's first request, answered by a Nak and delivered again after IPCP has opened, starts IPCP anew
        // (RFC 1661 §4.1, RCR- in Opened). It takes a repeat and a delay at once.
        assert!(report.sessions_renegotiated <= 5, "seed {seed}: {report:?}");
        assert_eq!(
            (report.control_channels_stuck, report.addresses_duplicated),
            (0, 0)
        );
        world.fleet.hang_up(world.now, 0, None, HangUp::Disconnect);
        world.run(Duration::from_secs(40));
        assert_eq!(world.report().sessions_open, 0);
        assert_eq!(
            world.lns.sessions(),
            0,
            "seed {seed}: the server has forgotten them too"
        );
    }
}

#[test]
fn the_death_of_the_server_is_silence_and_nothing_else() {
    let mut world = World::new(plan(200, 10));
    world.dial();
    world.run(Duration::from_secs(5));
    assert_eq!(world.report().sessions_open, 200);
    for down in [0, 1, 5, 10] {
        world.lns.kill();
        world.run(Duration::from_secs(down));
        world.lns.start(world.now);
        world.run(Duration::from_secs(20));
    }
    let checked = world.check();
    assert_eq!(
        (
            checked.tunnels_stuck(),
            checked.sessions_silent(),
            checked.sessions_asked
        ),
        (0, 0, 200)
    );
    let report = world.report();
    assert_eq!(
        (report.sessions_lost, report.sessions_renegotiated),
        (0, 0),
        "{report:?}"
    );
    assert!((10_000..12_100).contains(&report.longest_gap_ms), "{report:?}");
}

#[test]
fn sessions_that_the_server_forgets_do_not_escape() {
    let mut world = World::new(plan(50, 5));
    world.dial();
    world.run(Duration::from_secs(5));
    world.lns.forget();
    let checked = world.check();
    assert_eq!((checked.tunnels_stuck(), checked.sessions_silent()), (5, 50));
}
