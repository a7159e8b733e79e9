//! What the LNS decides about calls: limits, ids, unfinished calls (S-72, S-77, S-82 to S-84, S-127).

use holdfast::lns::tunnel::{CallRefusal, Occurrence, RECEIVE_WINDOW_MAX};
use holdfast_protocol::iana::error_code;
use holdfast_protocol::message::{Cdn, Icrq, Message};
use holdfast_protocol::{CallEnd, SessionId};

use crate::gate::online;
use crate::seconds;
use crate::world::{InFlight, Way, World};

fn session(id: u16) -> SessionId {
    SessionId::new(id).expect("not zero")
}

fn icrq(id: u16) -> Message {
    Message::Icrq(Icrq {
        assigned_session_id: session(id),
        call_serial: 1,
        bearer_type: None,
        physical_channel: None,
        calling_number: None,
        called_number: None,
        sub_address: None,
        vendor_avps: Vec::new(),
    })
}

/// What the LAC was told when its call was refused or cleared: result and error.
fn told(world: &World, lac: usize, id: u16) -> Option<(u16, Option<u16>)> {
    match &world.lacs[lac].calls[&session(id)].end {
        Some(CallEnd::Peer(Some(cdn))) => {
            let Cdn { result, .. } = &**cdn;
            Some((result.result, result.error))
        }
        _ => None,
    }
}

#[test]
fn s_72_an_id_given_to_a_new_call_ends_the_old_one_and_its_session() {
    let mut world = online();
    let old: Vec<_> = world.sessions.keys().copied().collect();
    world.inject_message(0, None, icrq(1));
    world.run_for(seconds(1));
    let tunnel = world.table.tunnel(world.tunnel()).expect("a tunnel");
    let rows: Vec<_> = tunnel.sessions().collect();
    assert_eq!(rows.len(), 1, "the new call alone");
    assert!(!old.contains(&(world.tunnel(), rows[0].0)));
    assert!(world.sessions.is_empty(), "no actor before the ICCN");
    assert!(world.rebirths.is_empty());
}

#[test]
fn a_whole_window_of_calls_behind_a_gap_is_one_change() {
    let mut world = World::new(1);
    world.settings.receive_window = RECEIVE_WINDOW_MAX;
    world.add_lac(0x1001, 0);
    world.run_for(seconds(5));
    for ahead in 1..RECEIVE_WINDOW_MAX {
        world.inject_ahead(0, None, icrq(100 + ahead), ahead);
    }
    world.run_for(seconds(1));
    assert_eq!(world.table.session_count(), 0, "one is missing");
    let proposed = world.proposed;
    world.inject_message(0, None, icrq(100));
    world.run_for(std::time::Duration::from_millis(50));
    assert_eq!(world.table.session_count(), usize::from(RECEIVE_WINDOW_MAX));
    assert_eq!(world.proposed, proposed + 1);
    assert!(world.rebirths.is_empty(), "{:?}", world.rebirths);
}

#[test]
fn s_77_a_call_without_iccn_is_given_up_after_a_minute() {
    let mut world = online();
    world.inject_message(0, None, icrq(9));
    world.run_for(seconds(2));
    assert_eq!(world.table.session_count(), 2);
    world.run_for(seconds(56));
    assert_eq!(world.table.session_count(), 2);
    world.run_for(seconds(5));
    assert_eq!(world.table.session_count(), 1);
    assert!(world.counted.contains(&Occurrence::CallAbandoned));
}

#[test]
fn s_77_the_minute_goes_on_over_a_restart() {
    let mut world = online();
    world.inject_message(0, None, icrq(9));
    world.run_for(seconds(40));
    world.restart(InFlight::Lost);
    world.run_for(seconds(18));
    assert_eq!(world.table.session_count(), 2);
    world.run_for(seconds(5));
    assert_eq!(world.table.session_count(), 1);
}

#[test]
fn s_82_calls_beyond_the_tunnels_limit_are_refused_for_now() {
    let mut world = World::new(1);
    world.max_sessions = 2;
    world.add_lac(0x1001, 3);
    world.run_for(seconds(20));
    assert_eq!(told(&world, 0, 3), Some((2, Some(error_code::NO_RESOURCES))));
    assert_eq!(world.table.session_count(), 2);
    let refused = Occurrence::CallRefused(CallRefusal::TunnelSessions);
    assert_eq!(
        world
            .counted
            .iter()
            .filter(|counted| **counted == refused)
            .count(),
        1
    );
    world.at_lac(0, |lac, now| lac.hang_up(now, session(1)));
    world.run_for(seconds(1));
    world.at_lac(0, |lac, now| lac.place_call(now, 4));
    world.run_for(seconds(20));
    assert!(
        world.lacs[0].calls[&session(4)].client.is_up(),
        "there is room again"
    );
}

#[test]
fn s_83_a_draining_node_sends_calls_elsewhere_and_keeps_those_it_has() {
    let mut world = online();
    let tunnel = world.tunnel();
    world.at_tunnel(tunnel, |core, _| {
        core.refuse_calls(Some(CallRefusal::ShuttingDown))
    });
    world.at_lac(0, |lac, now| lac.place_call(now, 2));
    world.run_for(seconds(5));
    assert_eq!(told(&world, 0, 2), Some((2, Some(error_code::TRY_ANOTHER))));
    assert!(world.lacs[0].first().client.is_up());
    assert_eq!(world.table.session_count(), 1);
}

#[test]
fn s_127_a_pap_request_repeated_while_the_answer_is_out_asks_once() {
    let mut world = World::new(1);
    world.radius_silent = true;
    world.add_lac(0x1001, 1);
    world.run_for(seconds(20));
    assert_eq!(world.authentications, 1);
}

#[test]
fn a_call_cleared_while_its_row_is_being_opened_leaves_nothing_behind() {
    let mut world = World::new(1);
    world.add_lac(0x1001, 1);
    world.run_until(seconds(60), |world| world.authentications == 1);
    world.way = Way::Held;
    world.run_until(seconds(5), |world| world.held() > 0);
    world.at_lac(0, |lac, now| lac.hang_up(now, session(1)));
    world.run_for(std::time::Duration::from_millis(50));
    let held = world.held();
    world.way = Way::Open;
    world.release(held);
    world.run_for(seconds(5));
    assert_eq!(world.table.session_count(), 0);
    assert!(world.sessions.is_empty());
    assert!(world.rebirths.is_empty(), "{:?}", world.rebirths);
    assert_eq!(world.lacs[0].first().client.ups, 0);
}

#[test]
fn a_freed_session_id_rests() {
    let mut world = World::new(1);
    world.add_lac(0x1001, 0);
    world.run_for(seconds(1));
    let mut seen = std::collections::BTreeSet::new();
    for call in 1..=200 {
        world.at_lac(0, |lac, now| lac.place_call(now, call));
        world.run_for(std::time::Duration::from_millis(100));
        let call = &world.lacs[0].calls[&session(call)];
        assert!(
            seen.insert(call.peer.expect("answered")),
            "an id came again within a minute"
        );
        let id = session(call_id(&world));
        world.at_lac(0, |lac, now| lac.hang_up(now, id));
        world.run_for(std::time::Duration::from_millis(50));
    }
    assert!(world.rebirths.is_empty());
}

/// The LAC's id of the call placed last.
fn call_id(world: &World) -> u16 {
    world.lacs[0].calls.keys().last().expect("a call").get()
}

#[test]
fn a_sequenced_session_reserves_numbers_at_its_iccn_and_once_for_each_time_it_is_asked() {
    let mut world = World::new(1);
    world.sequencing = true;
    world.add_lac(0x1001, 1);
    world.run_for(seconds(10));
    let reserved = |world: &World| {
        let tunnel = world.table.tunnel(world.tunnel()).expect("a tunnel");
        let (_, row) = tunnel.sessions().next().expect("a session");
        row.sequence_reserved
    };
    assert_eq!(reserved(&world), 4096, "a block with the ICCN");
    // A successor starts behind the block and asks for one of its own, with both packet threads at once.
    world.restart(InFlight::Lost);
    let (tunnel, id) = *world.sessions.keys().next().expect("born again");
    world.at_session(tunnel, id, |core, now| core.reserve_sequence(now));
    world.at_session(tunnel, id, |core, now| core.reserve_sequence(now));
    world.run_for(seconds(1));
    assert_eq!(reserved(&world), 8192);
    let client = &world.lacs[0].first().client;
    assert_eq!((client.ups, client.downs), (1, 0));
}
