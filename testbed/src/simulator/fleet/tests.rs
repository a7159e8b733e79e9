//! A fleet against the tiny LNS, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::protocol::{Event, HangUp, SessionState};
use super::super::tiny_lns::{self, TinyLns};
use super::*;

const STEP: Duration = Duration::from_millis(5);

struct World {
    fleet: Fleet,
    lns: TinyLns,
    now: Duration,
}

impl World {
    fn new(plan: Plan) -> Self {
        Self {
            fleet: Fleet::new(plan),
            lns: TinyLns::default(),
            now: Duration::from_secs(1000),
        }
    }

    /// Lets everything happen for `time`; a datagram takes no time at all.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            self.fleet.handle_timeout(self.now);
            loop {
                while let Some(transmit) = self.fleet.poll_transmit() {
                    // One socket a LAC: the port tells which.
                    let from = SocketAddr::from(([127, 0, 0, 1], 10_000 + transmit.lac));
                    self.lns.handle_datagram(from, &transmit.octets);
                }
                if self.lns.outbox.is_empty() {
                    break;
                }
                for (to, octets) in std::mem::take(&mut self.lns.outbox) {
                    let target = self.fleet.plan().target;
                    self.fleet
                        .handle_datagram(self.now, to.port() - 10_000, target, &octets);
                }
            }
        }
    }

    fn dialled(plan: Plan) -> Self {
        let sessions = plan.sessions;
        let mut world = Self::new(plan);
        world.fleet.dial(world.now, sessions, None, None);
        world.run(Duration::from_secs(3));
        let report = world.fleet.report(world.now);
        assert_eq!(report.sessions_open, u64::from(sessions), "{report:?}");
        world
    }
}

fn plan() -> Plan {
    Plan {
        lacs: 3,
        tunnels: 7,
        sessions: 100,
        ping_interval_ms: 100,
        ..Plan::default()
    }
}

#[test]
fn subscribers_dial_and_ping() {
    let mut world = World::dialled(plan());
    world.run(Duration::from_secs(2));
    let report = world.fleet.report(world.now);
    assert_eq!(
        (
            report.tunnels_open,
            report.sessions_pending,
            report.setups_measured
        ),
        (7, 0, 100)
    );
    assert!(
        report.pings_answered > 1000 && report.pings_answered == report.pings_sent,
        "{report:?}"
    );
    assert!(report.longest_gap_ms <= 105, "{report:?}");
    assert_eq!((report.datagrams_undecodable, report.datagrams_stray), (0, 0));
    let addresses: std::collections::HashSet<_> = world
        .fleet
        .sessions(world.now)
        .into_iter()
        .map(|session| session.address)
        .collect();
    assert_eq!(addresses.len(), 100);
    assert_ne!(
        Some(tiny_lns::ADDRESS),
        world.fleet.sessions(world.now)[0].address
    );
}

#[test]
fn set_ups_are_paced() {
    let mut world = World::new(plan());
    world.fleet.dial(world.now, 100, Some(20.0), None);
    world.run(Duration::from_secs(2));
    let asked = world.fleet.report(world.now).sessions_asked;
    assert!((38..=42).contains(&asked), "{asked}");
}

#[test]
fn a_check_finds_everything_alive_and_then_everything_dead() {
    let mut world = World::dialled(plan());
    world.fleet.start_check(world.now, Duration::from_secs(3));
    world.run(Duration::from_secs(1));
    let Some(Event::Checked(checked)) = world.fleet.poll_event() else {
        panic!("no answer")
    };
    assert_eq!(
        (
            checked.tunnels_stuck(),
            checked.sessions_silent(),
            checked.sessions_asked
        ),
        (0, 0, 100)
    );
    world.lns.dead = true;
    world.fleet.start_check(world.now, Duration::from_secs(3));
    world.run(Duration::from_secs(4));
    let Some(Event::Checked(checked)) = world.fleet.poll_event() else {
        panic!("no answer")
    };
    assert_eq!((checked.tunnels_stuck(), checked.sessions_silent()), (7, 100));
    world.run(Duration::from_secs(31));
    let report = world.fleet.report(world.now);
    assert_eq!(
        (
            report.control_channels_stuck,
            report.sessions_lost,
            report.sessions_open
        ),
        (7, 100, 0)
    );
    assert!(report.longest_gap_ms > 30_000);
}

#[test]
fn a_configure_request_on_an_open_session_is_a_renegotiation() {
    let mut world = World::dialled(plan());
    // The very request that opened LCP, word for word: on a good network nobody repeats it by accident.
    world.lns.send_to_all(&[
        0xff, 3, 0xc0, 0x21, 1, 1, 0, 14, 3, 4, 0xc0, 0x23, 5, 6, 0xde, 0xad, 0xbe, 0xef,
    ]);
    world.run(Duration::from_secs(5));
    let report = world.fleet.report(world.now);
    assert_eq!(
        (
            report.sessions_renegotiated,
            report.sessions_lost,
            report.sessions_open
        ),
        (100, 0, 100)
    );
}

#[test]
fn a_terminate_request_loses_the_session() {
    let mut world = World::dialled(plan());
    world.lns.send_to_all(&[0xff, 3, 0xc0, 0x21, 5, 9, 0, 4]);
    world.run(Duration::from_secs(1));
    let report = world.fleet.report(world.now);
    assert_eq!(
        (report.sessions_lost, report.losses["LCP Terminate-Request"]),
        (100, 100)
    );
    assert!(
        world
            .fleet
            .sessions(world.now)
            .iter()
            .all(|session| session.state == SessionState::Lost)
    );
}

#[test]
fn hang_up_redial_close_and_vanish_lose_nothing() {
    let mut world = World::dialled(plan());
    world.fleet.hang_up(world.now, 10, Some(30), HangUp::Disconnect);
    world.fleet.hang_up(world.now, 10, Some(30), HangUp::Terminate);
    world.run(Duration::from_secs(10));
    assert_eq!(world.fleet.report(world.now).sessions_open, 40);
    world.fleet.dial(world.now, 60, None, Some(10));
    world.run(Duration::from_secs(5));
    assert_eq!(world.fleet.report(world.now).sessions_open, 100);
    world.fleet.vanish(world.now, Some(3));
    world.fleet.close(world.now);
    world.run(Duration::from_secs(1));
    world.fleet.dial(world.now, 100, None, None);
    world.run(Duration::from_secs(5));
    let report = world.fleet.report(world.now);
    assert_eq!(
        (report.sessions_open, report.tunnels_open),
        (100, 7),
        "{report:?}"
    );
    assert_eq!(
        (
            report.sessions_lost,
            report.sessions_failed,
            report.sessions_hung_up
        ),
        (0, 0, 160)
    );
}

#[test]
fn held_acknowledgements_keep_sessions_from_opening_until_released() {
    let mut world = World::new(plan());
    world.fleet.set_hold(world.now, true);
    world.fleet.dial(world.now, 100, None, None);
    world.run(Duration::from_secs(3));
    assert_eq!(world.fleet.moment(Moment::Held), 100);
    assert_eq!(world.fleet.report(world.now).sessions_pending, 100);
    world.fleet.set_hold(world.now, false);
    world.run(Duration::from_secs(1));
    assert_eq!(world.fleet.report(world.now).sessions_open, 100);
}

#[test]
fn a_dead_lns_fails_every_call() {
    let mut world = World::new(plan());
    world.lns.dead = true;
    world.fleet.dial(world.now, 100, None, None);
    world.run(Duration::from_secs(32));
    let report = world.fleet.report(world.now);
    assert_eq!(
        (
            report.sessions_failed,
            report.tunnels_failed,
            report.sessions_pending
        ),
        (100, 7, 0)
    );
}

#[test]
fn a_mark_measures_the_silence_of_control_and_data_from_there_on() {
    let mut world = World::dialled(plan());
    let fast = Fast {
        sessions: 7,
        interval: Duration::from_millis(5),
    };
    world.fleet.set_ping(world.now, 100, None, fast);
    let (interval, repeat) = (Duration::from_millis(10), Duration::from_millis(50));
    world.fleet.set_probe(world.now, Some(interval), Some(repeat));
    world.run(Duration::from_secs(1));
    world.fleet.mark(world.now);
    world.lns.dead = true;
    world.run(Duration::from_millis(500));
    let silent = world.fleet.report(world.now).since_mark.unwrap();
    assert_eq!(
        (silent.sessions_before, &silent.control_gaps_ms[..]),
        (100, &[None; 7][..])
    );
    world.lns.dead = false;
    world.run(Duration::from_secs(1));
    let report = world.fleet.report(world.now);
    let since = report.since_mark.clone().unwrap();
    let answered = |gap: &Option<f64>| gap.is_some_and(|gap| (500.0..600.0).contains(&gap));
    assert!(
        since.control_gaps_ms.len() == 7 && since.control_gaps_ms.iter().all(answered),
        "{since:?}"
    );
    assert!(
        since.fast_gaps_ms.len() == 7 && since.fast_gaps_ms.iter().all(|gap| (500.0..520.0).contains(gap)),
        "{since:?}"
    );
    assert!(
        since.slow_gaps_ms.len() == 93 && since.slow_gaps_ms.iter().all(|gap| (500.0..720.0).contains(gap)),
        "{since:?}"
    );
    assert_eq!(
        (report.marked_lost, report.control_channels_stuck),
        (0, 0),
        "{report:?}"
    );
}

#[test]
fn new_calls_are_timed_from_the_mark_and_their_loss_does_not_count() {
    let mut world = World::new(plan());
    world.fleet.dial(world.now, 50, None, None);
    world.run(Duration::from_secs(3));
    world.fleet.mark(world.now);
    world.run(Duration::from_secs(1));
    world.fleet.dial(world.now, 7, None, None);
    world.run(Duration::from_secs(3));
    let report = world.fleet.report(world.now);
    let since = report.since_mark.unwrap();
    assert!(
        since.new_calls_ms.len() == 7
            && since
                .new_calls_ms
                .iter()
                .all(|time| time.is_some_and(|time| time >= 1000.0)),
        "{:?}",
        since.new_calls_ms
    );
    world.lns.send_to_all(&[0xff, 3, 0xc0, 0x21, 5, 9, 0, 4]);
    world.run(Duration::from_secs(1));
    let report = world.fleet.report(world.now);
    assert_eq!((report.sessions_lost, report.marked_lost), (57, 50));
}

#[test]
fn moments_count_on_watched_tunnels_alone() {
    let mut world = World::dialled(plan());
    let watched = world
        .fleet
        .tunnels
        .iter()
        .take(2)
        .map(|tunnel| (tunnel.lac, tunnel.local.get()))
        .collect::<Vec<_>>();
    world.fleet.watch(Some(&watched));
    let before = world.fleet.moment(Moment::HelloAcknowledged);
    world.fleet.hello(world.now);
    world.run(Duration::from_millis(100));
    assert_eq!(world.fleet.moment(Moment::HelloAcknowledged), before + 2);
    world.fleet.watch(None);
    world.fleet.hello(world.now);
    world.run(Duration::from_millis(100));
    assert_eq!(world.fleet.moment(Moment::HelloAcknowledged), before + 9);
}
