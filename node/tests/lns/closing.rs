//! The end of a tunnel: tombstones, dead peers, tunnels that are abandoned (S-27, S-40).

use std::time::Duration;

use holdfast::lns::tunnel::terminate_cause;
use holdfast_cluster::records::TunnelState;
use holdfast_protocol::CloseReason;
use holdfast_protocol::avp::ResultCode;

use crate::gate::online;
use crate::seconds;
use crate::world::{Impairment, InFlight};

const DEAF: Impairment = Impairment {
    loss: 100,
    duplication: 0,
    reordering: 0,
};

#[test]
fn s_27_a_tombstone_acknowledges_for_31_seconds_also_after_a_restart() {
    let mut world = online();
    let tunnel = world.tunnel();
    // The LAC hears nothing, so it repeats its StopCCN.
    world.at_lac(0, |lac, now| lac.connection.close(now, ResultCode::new(6)));
    world.run_for(Duration::from_millis(6));
    world.impairment = DEAF;
    world.run_for(seconds(1));
    assert_eq!(world.state(tunnel), TunnelState::Closed);
    assert_eq!(world.table.session_count(), 0);
    // Nor does it hear what is repeated after the restart.
    world.restart(InFlight::Lost);
    world.impairment = Impairment::default();
    let said = world.control_said();
    world.run_for(seconds(5));
    assert!(
        world.control_said() > said,
        "the repeated StopCCN is acknowledged"
    );
    world.run_for(seconds(24));
    assert_eq!(world.table.tunnel_count(), 1, "31 s are not over");
    world.run_for(seconds(15));
    assert_eq!(world.table.tunnel_count(), 0);
    assert!(world.tunnels.is_empty());
}

#[test]
fn a_tombstone_asked_for_too_early_is_asked_for_again() {
    let mut world = online();
    let tunnel = world.tunnel();
    world.at_lac(0, |lac, now| lac.connection.close(now, ResultCode::new(6)));
    world.run_for(seconds(2));
    // Table time stands still, as with a leader that stalls.
    world.stop_table_time();
    world.run_for(seconds(60));
    assert!(world.table.tunnel(tunnel).is_some());
    assert!(world.tunnels.contains_key(&tunnel), "the core goes on asking");
    world.start_table_time();
    world.run_for(seconds(40));
    assert_eq!(world.table.tunnel_count(), 0);
}

#[test]
fn s_40_a_dead_lac_is_given_up_with_its_sessions() {
    let mut world = online();
    world.impairment = DEAF;
    // The silence is noticed within 60 s, the retransmissions take 31 s; echoes may end the session sooner.
    world.run_for(seconds(100));
    assert!(matches!(world.closed[..], [(_, CloseReason::NoAnswer)]));
    assert_eq!(world.table.session_count(), 0);
    assert!(world.sessions.is_empty());
    world.run_for(seconds(60));
    assert_eq!(world.table.tunnel_count(), 0);
    assert!(world.rebirths.is_empty());
}

#[test]
fn our_stopccn_is_repeated_over_a_restart_until_it_is_acknowledged() {
    let mut world = online();
    let tunnel = world.tunnel();
    world.impairment = DEAF;
    world.at_tunnel(tunnel, |core, now| {
        core.close(now, ResultCode::new(6), terminate_cause::NAS_REBOOT)
    });
    world.run_for(seconds(2));
    assert_eq!(world.state(tunnel), TunnelState::Closing);
    world.impairment = Impairment::default();
    world.restart(InFlight::Lost);
    world.run_for(seconds(2));
    assert!(matches!(world.lacs[0].closed, Some(CloseReason::Peer(_))));
    world.run_for(seconds(60));
    assert_eq!(world.table.tunnel_count(), 0);
}

#[test]
fn an_abandoned_tunnel_says_nothing_more_also_after_a_restart() {
    let mut world = online();
    let tunnel = world.tunnel();
    // A message of ours waits for its acknowledgement when the tunnel is abandoned.
    world.impairment = DEAF;
    let session = *world.sessions.keys().next().expect("a session");
    world.at_tunnel(tunnel, |core, now| {
        let result = holdfast_protocol::message::Cdn::new(ResultCode::new(3));
        core.disconnect(now, session.1, result, terminate_cause::ADMIN_RESET);
    });
    world.run_for(Duration::from_millis(100));
    let said = world.said.len();
    world.at_tunnel(tunnel, |core, now| core.abandon(now));
    world.run_until(seconds(1), |world| world.state(tunnel) == TunnelState::Closed);
    world.restart(InFlight::Lost);
    world.run_for(seconds(60));
    assert_eq!(world.said.len(), said, "not a word");
    assert_eq!((world.table.tunnel_count(), world.table.session_count()), (0, 0));
}
