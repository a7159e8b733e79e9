//! Tunnels being set up: repeated SCCRQs, restarted LACs, LACs that change their mind (S-10 to S-13, S-26).

use std::time::Duration;

use holdfast_cluster::records::TunnelState;
use holdfast_protocol::avp::ResultCode;

use crate::seconds;
use crate::world::{Impairment, InFlight, Way, World};

const DEAF: Impairment = Impairment {
    loss: 100,
    duplication: 0,
    reordering: 0,
};

#[test]
fn s_10_an_sccrq_that_waits_for_the_table_and_is_repeated_makes_one_tunnel() {
    let mut world = World::new(1);
    world.way = Way::Held;
    world.add_lac(0x1001, 1);
    world.run_for(seconds(4));
    assert_eq!(world.held(), 1, "repeats propose nothing");
    world.way = Way::Open;
    world.release(1);
    world.run_for(seconds(20));
    assert_eq!((world.table.tunnel_count(), world.table.session_count()), (1, 1));
    assert!(world.lacs[0].first().client.is_up());
}

#[test]
fn s_10_an_sccrq_repeated_because_the_sccrp_was_lost_makes_one_tunnel() {
    let mut world = World::new(1);
    world.add_lac(0x1001, 1);
    // The SCCRQ is on its way; nothing that leaves from now on arrives.
    world.impairment = DEAF;
    world.run_for(Duration::from_millis(2500));
    assert_eq!(world.table.tunnel_count(), 1);
    world.impairment = Impairment::default();
    world.run_for(seconds(20));
    assert_eq!(world.table.tunnel_count(), 1);
    assert!(world.lacs[0].first().client.is_up());
}

#[test]
fn s_11_a_late_duplicate_of_the_sccrq_changes_nothing_and_a_second_one_nothing_of_the_old_tunnel() {
    let mut world = World::new(1);
    world.add_lac(0x1001, 1);
    world.run_for(seconds(20));
    let tunnel = world.tunnel();
    world.repeat_sccrq(0);
    world.run_for(seconds(1));
    assert_eq!(world.table.tunnel_count(), 1);
    world.repeat_sccrq(0);
    world.run_for(seconds(1));
    assert_eq!(world.table.tunnel_count(), 2, "taken for a restarted LAC");
    world.run_for(seconds(80));
    assert_eq!(world.table.tunnel_count(), 1, "which never came");
    assert_eq!(world.state(tunnel), TunnelState::Established);
    let client = &world.lacs[0].first().client;
    assert_eq!((client.ups, client.downs), (1, 0));
}

#[test]
fn s_11_a_restarted_lac_gets_a_new_tunnel_and_the_old_one_goes_without_a_word() {
    restarted_lac(false);
}

#[test]
fn s_11_a_restarted_lac_whose_new_tunnel_comes_up_while_the_lns_restarts() {
    restarted_lac(true);
}

/// The LAC comes back under the same key. If `crash`, the LNS restarts when the new tunnel is up in the table.
fn restarted_lac(crash: bool) {
    let mut world = World::new(1);
    world.add_lac(0x1001, 1);
    world.run_for(seconds(20));
    let old = world.tunnel();
    world.restart_lac(0, 1);
    let up = |world: &World| {
        let established = |(_, tunnel): (_, &holdfast_cluster::table::Tunnel)| {
            tunnel.row().state() == TunnelState::Established
        };
        world.table.tunnels().filter(|found| established(*found)).count() == 2
    };
    world.run_until(seconds(10), up);
    if crash {
        world.restart(InFlight::Lost);
    }
    let before = world.said.len();
    world.run_for(seconds(20));
    // What is addressed to the LAC's id carries the new tunnel's numbers: the LAC was never confused.
    assert!(world.lacs[0].closed.is_none());
    let client = &world.lacs[0].first().client;
    assert_eq!((client.ups, client.downs), (1, 0));
    assert!(world.said.len() > before);
    world.run_for(seconds(60));
    assert!(world.table.tunnel(old).is_none(), "the old tunnel is gone");
    assert_eq!((world.table.tunnel_count(), world.table.session_count()), (1, 1));
    assert!(world.rebirths.is_empty(), "{:?}", world.rebirths);
}

#[test]
fn s_11_an_old_tunnel_stays_until_the_new_one_is_established() {
    let mut world = World::new(1);
    world.add_lac(0x1001, 1);
    world.run_for(seconds(20));
    let old = world.tunnel();
    // Anyone can send an SCCRQ with the LAC's address; this one is never followed by an SCCCN.
    world.restart_lac(0, 0);
    world.impairment = DEAF;
    world.run_for(seconds(15));
    assert_eq!(world.state(old), TunnelState::Established);
    assert_eq!(world.table.session_count(), 1);
}

#[test]
fn s_12_s_13_a_lac_may_have_many_tunnels_and_two_lacs_the_same_id() {
    let mut world = World::new(1);
    let first = world.add_lac(0x1001, 1);
    let second = world.add_lac_at(first, 0x1002);
    let third = world.add_lac_elsewhere(0x1001);
    world.run_for(seconds(20));
    assert_eq!(world.table.tunnel_count(), 3);
    for lac in [first, second, third] {
        assert!(world.lacs[lac].established && world.lacs[lac].closed.is_none());
    }
}

#[test]
fn s_25_a_half_open_tunnel_lives_ten_seconds() {
    let mut world = World::new(1);
    world.add_lac(0x1001, 0);
    world.impairment = DEAF;
    world.run_for(seconds(5));
    let tunnel = world.tunnel();
    assert_eq!(world.state(tunnel), TunnelState::HalfOpen);
    world.run_for(seconds(6));
    assert_ne!(world.state(tunnel), TunnelState::HalfOpen);
    world.run_for(seconds(80));
    assert_eq!(world.table.tunnel_count(), 0);
}

#[test]
fn s_26_a_lac_that_gives_up_before_it_knows_our_id_ends_the_half_open_tunnel() {
    let mut world = World::new(1);
    let lac = world.add_lac(0x1001, 0);
    world.impairment = DEAF;
    world.run_for(Duration::from_millis(100));
    let tunnel = world.tunnel();
    world.impairment = Impairment::default();
    world.at_lac(lac, |lac, now| lac.connection.close(now, ResultCode::new(6)));
    world.run_for(seconds(1));
    assert_eq!(world.state(tunnel), TunnelState::Closed);
    world.run_for(seconds(60));
    assert_eq!(world.table.tunnel_count(), 0);
}
