//! What a tunnel does while its group is about to go to another owner: calls wait, what is under way is known.

use std::time::Duration;

use holdfast::lns::tunnel::Occurrence;
use holdfast_protocol::SessionId;

use crate::client::Client;
use crate::gate::online;
use crate::seconds;
use crate::world::{InFlight, World};

const MOMENT: Duration = Duration::from_millis(100);

fn under_way(world: &World) -> bool {
    world.tunnels[&world.tunnel()].has_under_way()
}

fn hold(world: &mut World, holds: bool) {
    let tunnel = world.tunnel();
    world.at_tunnel(tunnel, |core, _| core.hold_calls(holds));
}

fn client(world: &World, call: u16) -> &Client {
    &world.lacs[0].calls[&SessionId::new(call).expect("not zero")].client
}

fn is_answered(world: &World, call: u16) -> bool {
    world.lacs[0].calls[&SessionId::new(call).expect("not zero")]
        .peer
        .is_some()
}

#[test]
fn a_call_that_is_kept_waiting_is_answered_after_a_second_at_most() {
    let mut world = online();
    hold(&mut world, true);
    world.at_lac(0, |lac, now| lac.place_call(now, 2));
    world.run_for(Duration::from_millis(900));
    assert!(!is_answered(&world, 2));
    assert!(!under_way(&world), "nothing has begun: the group may go");
    assert_eq!(world.table.session_count(), 2, "the call is in the table");
    world.run_for(Duration::from_millis(200));
    assert!(is_answered(&world, 2) && under_way(&world));
    world.run_for(seconds(5));
    assert!(client(&world, 2).is_up() && !under_way(&world));
    let held = world
        .counted
        .iter()
        .filter(|count| **count == Occurrence::CallHeld);
    assert_eq!(held.count(), 1);
}

#[test]
fn a_call_that_is_kept_waiting_is_answered_by_the_next_owner_at_once() {
    let mut world = online();
    hold(&mut world, true);
    world.at_lac(0, |lac, now| lac.place_call(now, 2));
    world.run_for(MOMENT);
    assert!(!is_answered(&world, 2));
    world.restart(InFlight::Lost);
    world.run_for(MOMENT);
    assert!(is_answered(&world, 2));
    world.run_for(seconds(5));
    assert!(client(&world, 2).is_up());
    assert_eq!((client(&world, 1).ups, client(&world, 1).downs), (1, 0));
    assert!(world.rebirths.is_empty(), "{:?}", world.rebirths);
}

#[test]
fn what_comes_behind_a_call_that_is_kept_waiting_does_not_wait() {
    let mut world = online();
    hold(&mut world, true);
    world.at_lac(0, |lac, now| lac.place_call(now, 2));
    world.run_for(MOMENT);
    let first = SessionId::new(1).expect("not zero");
    world.at_lac(0, |lac, now| lac.hang_up(now, first));
    world.run_for(MOMENT);
    assert_eq!(world.table.session_count(), 1, "the one that waits");
}

#[test]
fn ppp_is_under_way_from_the_answer_of_its_call_until_it_is_open() {
    let mut world = World::new(1);
    world.radius_silent = true;
    world.add_lac(0x1001, 0);
    world.run_for(seconds(1));
    assert!(!under_way(&world));
    world.at_lac(0, |lac, now| lac.place_call(now, 1));
    world.run_until(seconds(1), |world| is_answered(world, 1));
    assert!(under_way(&world));
    // Holding calls back now does not touch it.
    hold(&mut world, true);
    world.run_until(seconds(10), |world| world.authentications == 1);
    world.run_for(MOMENT);
    assert!(under_way(&world), "the subscriber's server takes its time");
    world.radius_silent = false;
    world.at_client(0, 1, |client, now| client.dial(now));
    world.run_for(seconds(10));
    assert!(client(&world, 1).is_up() && !under_way(&world));
}

#[test]
fn a_link_that_is_negotiated_anew_is_under_way() {
    let mut world = online();
    assert!(!under_way(&world));
    world.radius_silent = true;
    world.at_client(0, 1, |client, now| client.dial(now));
    world.run_for(seconds(2));
    assert!(under_way(&world));
    let first = SessionId::new(1).expect("not zero");
    world.at_lac(0, |lac, now| lac.hang_up(now, first));
    world.run_for(MOMENT);
    assert!(!under_way(&world), "a call that is cleared is not");
}
