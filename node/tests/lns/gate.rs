//! With the verdicts withheld nothing leaves that acknowledges or advances; `world::invariants` looks at each datagram and frame,
//! here it is said that the peers indeed wait.

use std::time::Duration;

use holdfast_cluster::records::TunnelState;
use holdfast_protocol::avp::ResultCode;

use crate::seconds;
use crate::world::{Way, World};

const MOMENT: Duration = Duration::from_millis(500);

/// A world with one subscriber online.
pub fn online() -> World {
    let mut world = World::new(1);
    world.add_lac(0x1001, 1);
    world.run_until(seconds(60), |world| {
        world.lacs[0].calls.values().any(|call| call.client.is_up())
    });
    world.run_for(seconds(1));
    world
}

#[test]
fn a_dial_in_stops_at_each_verdict_and_goes_on_with_it() {
    let mut world = World::new(1);
    world.way = Way::Held;
    world.add_lac(0x1001, 1);
    let (mut verdicts, mut rounds) = (0, 0);
    while !world.lacs[0].calls.values().any(|call| call.client.is_up()) {
        world.run_for(MOMENT);
        let (control, held) = (world.control_said(), world.held());
        world.run_for(Duration::from_millis(400));
        assert_eq!(
            world.control_said(),
            control,
            "control messages left without a verdict"
        );
        // Resubmissions wait as well; a whole round of them is judged. Without any, PPP waits for its own timers.
        world.release(held);
        verdicts += usize::from(held > 0);
        rounds += 1;
        assert!(rounds < 40);
    }
    assert!(world.rebirths.is_empty());
    // SCCRP, SCCCN with the ICRQ behind it, ICCN, open.
    assert!(verdicts >= 4, "{verdicts}");
    assert_eq!(world.lacs[0].first().client.ups, 1);
}

#[test]
fn the_configure_ack_of_ipcp_waits_for_the_row() {
    let mut world = World::new(1);
    world.add_lac(0x1001, 1);
    world.run_until(seconds(60), |world| world.authentications == 1);
    world.way = Way::Held;
    world.run_for(seconds(5));
    assert!(!world.lacs[0].first().client.is_up());
    assert!(world.held() > 0);
    let held = world.held();
    world.way = Way::Open;
    world.release(held);
    world.run_for(seconds(5));
    let client = &world.lacs[0].first().client;
    assert_eq!((client.ups, client.downs), (1, 0));
}

#[test]
fn what_leaves_open_is_answered_after_it_is_accepted() {
    let mut world = online();
    world.way = Way::Held;
    let said = world.said.len();
    world.at_client(0, 1, |client, now| client.hang_up(now));
    world.run_for(seconds(1));
    assert_eq!(world.said.len(), said, "Terminate-Ack before the row was closed");
    let held = world.held();
    world.way = Way::Open;
    world.release(held);
    world.run_for(seconds(10));
    assert!(world.lacs[0].first().over, "the call is cleared");
    assert_eq!(world.table.session_count(), 0);
}

#[test]
fn s_41_a_hello_is_acknowledged_after_acceptance() {
    let mut world = online();
    world.way = Way::Held;
    let said = world.control_said();
    world.inject_message(0, None, holdfast_protocol::message::Message::Hello);
    world.run_for(MOMENT);
    assert_eq!(world.control_said(), said);
    let held = world.held();
    world.release(held);
    world.run_for(MOMENT);
    assert_eq!(world.control_said(), said + 1);
}

#[test]
fn a_vanished_proposal_is_sent_again_after_100_ms_and_counts_once() {
    let mut world = online();
    let tunnel = world.tunnel();
    let revision = world.table.tunnel(tunnel).expect("a tunnel").row().revision;
    world.way = Way::Cut;
    world.inject_message(0, None, holdfast_protocol::message::Message::Hello);
    world.run_for(Duration::from_millis(50));
    let proposed = world.proposed;
    world.way = Way::Held;
    world.run_for(Duration::from_millis(49));
    assert_eq!(world.proposed, proposed, "not before 100 ms");
    world.run_for(Duration::from_millis(320));
    assert_eq!(world.proposed, proposed + 2, "after 100 ms, and 200 ms later");
    let held = world.held();
    world.release(held);
    world.run_for(MOMENT);
    let row = world.table.tunnel(tunnel).expect("a tunnel").row();
    assert_eq!(row.revision, revision + 1, "accepted once");
    assert!(world.rebirths.is_empty());
}

#[test]
fn a_refused_change_leads_to_a_rebirth_and_the_tunnel_goes_on() {
    let mut world = online();
    let tunnel = world.tunnel();
    // Somebody else has taken the tunnel over: the next change is refused.
    world.usurp(tunnel);
    world.inject_message(0, None, holdfast_protocol::message::Message::Hello);
    world.run_for(seconds(2));
    assert_eq!(world.rebirths.len(), 1);
    let client = &world.lacs[0].first().client;
    assert_eq!((client.ups, client.downs), (1, 0));
    world.at_lac(0, |lac, now| lac.connection.close(now, ResultCode::new(6)));
    world.run_for(seconds(2));
    assert_eq!(world.state(tunnel), TunnelState::Closed);
}
