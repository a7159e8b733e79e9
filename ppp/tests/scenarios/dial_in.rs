//! Whole dial-ins in virtual time.

use std::time::Duration;

use holdfast_ppp::{AuthMethod, Cause, Direction, LinkConfig, frame};

use crate::bench::{CHAP, LCP, PEER, encode, seconds};
use crate::client::{Client, is_lcp_request};
use crate::world::World;

const METHODS: [AuthMethod; 3] = [AuthMethod::Pap, AuthMethod::ChapMd5, AuthMethod::MsChapV2];

fn config(method: AuthMethod) -> LinkConfig {
    LinkConfig {
        auth: vec![method],
        ..LinkConfig::default()
    }
}

/// Up on both sides, once, and up to stay.
fn assert_up_to_stay(world: &mut World) {
    let ups = world.client.ups.len();
    world.run_for(seconds(300));
    assert!(world.client.is_up() && world.up && world.finished.is_none());
    assert_eq!(world.client.ups.len(), ups);
    assert_eq!(world.client.address(), Some(&PEER.octets()[..]));
}

#[test]
fn every_method_dials_in() {
    for method in METHODS {
        let mut world = World::new(config(method));
        world.dial_in();
        assert!(world.now <= seconds(1), "{method:?}");
        let row = world.row.clone().unwrap();
        assert_eq!(
            (row.auth, &row.user[..], world.authentications),
            (Some(method), &b"User"[..], 1)
        );
        assert_up_to_stay(&mut world);
    }
}

#[test]
fn the_loss_of_the_first_request_costs_a_second() {
    for method in METHODS {
        let mut world = World::new(config(method));
        let mut lost = false;
        world.lose = Box::new(move |octets| is_lcp_request(octets) && !std::mem::replace(&mut lost, true));
        world.dial_in();
        assert!(world.now <= seconds(2), "{method:?}");
        assert_up_to_stay(&mut world);
    }
}

#[test]
fn every_single_loss_is_survived() {
    for method in METHODS {
        for nth in 0..16 {
            let mut world = World::new(config(method));
            let mut seen = 0;
            world.lose = Box::new(move |_| {
                seen += 1;
                seen == nth + 1
            });
            world.dial_in();
            assert_up_to_stay(&mut world);
        }
    }
}

/// The client does not repeat its Response, and drops our IPCP requests until it has the answer.
#[test]
fn a_lost_chap_success_costs_a_second() {
    for method in [AuthMethod::ChapMd5, AuthMethod::MsChapV2] {
        let mut world = World::new(config(method));
        let mut lost = false;
        world.lose = Box::new(move |octets| {
            octets.starts_with(&frame::encode(CHAP, &[3])) && !std::mem::replace(&mut lost, true)
        });
        world.dial_in();
        assert!(world.now <= seconds(2), "{method:?}");
        assert_eq!(world.authentications, 1);
        assert_up_to_stay(&mut world);
    }
}

#[test]
fn a_lossy_line_is_survived() {
    for seed in 1..40_u64 {
        let mut world = World::new(config(AuthMethod::ChapMd5));
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        world.lose = Box::new(move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % 4 == 0
        });
        world.client.dial(world.now);
        world.run_for(seconds(40));
        assert!(
            world.client.is_up() || world.finished.is_some() || world.row.is_none(),
            "seed {seed}"
        );
        world.lose = Box::new(|_| false);
        world.run_for(seconds(30));
        if world.finished.is_none() {
            assert!(world.client.is_up() && world.up, "seed {seed}");
        }
    }
}

#[test]
fn a_slow_commit_delays_the_client_and_nothing_else() {
    for (delay, limit) in [(0, 1), (500, 2), (2000, 4), (10_000, 15)] {
        let mut world = World::new(config(AuthMethod::ChapMd5));
        world.commit_delay = Some(Duration::from_millis(delay));
        world.dial_in();
        assert!(world.now <= seconds(limit), "{delay} ms: {:?}", world.now);
        assert_up_to_stay(&mut world);
    }
}

#[test]
fn a_commit_that_never_comes_brings_no_client_up() {
    let mut world = World::new(config(AuthMethod::ChapMd5));
    world.commit_delay = None;
    world.client.dial(world.now);
    world.run_for(seconds(70));
    assert!(world.client.ups.is_empty());
    assert!(
        matches!(world.finished, Some(Cause::NcpTimeout(_))),
        "{:?}",
        world.finished
    );
}

#[test]
fn s_123_a_client_that_renegotiates_authenticates_again_and_comes_up_again() {
    for method in METHODS {
        let mut world = World::new(config(method));
        world.dial_in();
        world.run_for(seconds(10));
        world.client.magic = 0xc11e_0002;
        world.dial_in();
        assert_eq!(
            (world.authentications, world.client.ups.len()),
            (2, 2),
            "{method:?}"
        );
        assert_eq!(world.row.as_ref().unwrap().peer_magic, 0xc11e_0002);
        assert_up_to_stay(&mut world);
    }
}

#[test]
fn a_client_that_renegotiates_ipcp_alone_is_not_authenticated_again() {
    let mut world = World::new(config(AuthMethod::Pap));
    world.dial_in();
    world.link.set_data_seen();
    world.client.redo_ipcp(world.now);
    world.run_for(seconds(5));
    assert_eq!((world.authentications, world.client.ups.len()), (1, 2));
    assert_up_to_stay(&mut world);
}

#[test]
fn a_link_reborn_from_its_row_goes_on_as_if_nothing_had_been() {
    let mut world = World::new(config(AuthMethod::MsChapV2));
    world.dial_in();
    for _ in 0..5 {
        world.run_for(seconds(37));
        world.reborn();
    }
    assert_up_to_stay(&mut world);
    assert_eq!((world.authentications, world.client.ups.len()), (1, 1));
}

#[test]
fn a_link_reborn_at_any_moment_of_a_dial_in_comes_up() {
    for millis in (0..400).step_by(5) {
        let mut world = World::new(config(AuthMethod::ChapMd5));
        world.client.dial(world.now);
        world.run_for(Duration::from_millis(millis));
        world.reborn();
        world.run_for(seconds(30));
        assert!(
            world.client.is_up() && world.up && world.finished.is_none(),
            "reborn at {millis} ms"
        );
        assert_up_to_stay(&mut world);
    }
}

/// A world whose client asks for both protocols, and may have them.
fn dual() -> World {
    let mut world = World::new(config(AuthMethod::ChapMd5));
    world.grants_ipv6 = true;
    world.client = Client::with_ipv6(0xc11e_0001);
    world
}

fn assert_dual_to_stay(world: &mut World) {
    assert_up_to_stay(world);
    assert!(world.client.has_ipv6() && world.up6);
    assert_eq!(world.row.as_ref().unwrap().ncps.len(), 2);
}

#[test]
fn both_protocols_come_up_and_a_slow_commit_delays_them() {
    for delay in [0, 500, 2000, 5000] {
        let mut world = dual();
        world.commit_delay = Some(Duration::from_millis(delay));
        world.dial_in();
        world.run_for(seconds(30));
        assert_dual_to_stay(&mut world);
        assert_eq!(world.client.downs.len(), 0, "{delay} ms");
    }
}

#[test]
fn both_come_up_whatever_single_frame_is_lost() {
    for nth in 0..24 {
        let mut world = dual();
        let mut seen = 0;
        world.lose = Box::new(move |_| {
            seen += 1;
            seen == nth + 1
        });
        world.dial_in();
        world.run_for(seconds(10));
        assert_dual_to_stay(&mut world);
    }
}

#[test]
fn a_link_reborn_at_any_moment_brings_both_up() {
    for millis in (0..400).step_by(5) {
        let mut world = dual();
        world.client.dial(world.now);
        world.run_for(Duration::from_millis(millis));
        world.reborn();
        world.run_for(seconds(30));
        assert_dual_to_stay(&mut world);
    }
}

#[test]
fn who_asks_for_ipv6_without_having_it_and_who_does_not_want_it_are_up_with_ipv4() {
    let mut world = dual();
    world.grants_ipv6 = false;
    world.dial_in();
    assert_up_to_stay(&mut world);
    assert!(!world.client.has_ipv6());
    let mut world = World::new(config(AuthMethod::Pap));
    world.grants_ipv6 = true;
    world.dial_in();
    assert_up_to_stay(&mut world);
    assert!(!world.up6);
}

#[test]
fn s_124_a_client_that_hangs_up_is_let_go() {
    let mut world = World::new(config(AuthMethod::Pap));
    world.commit_delay = Some(Duration::from_millis(500));
    world.dial_in();
    world.client.hang_up(world.now);
    world.run_for(seconds(5));
    assert_eq!(
        (world.finished, world.row.is_some()),
        (Some(Cause::Terminated(Direction::Peer)), false)
    );
}

#[test]
fn a_closed_link_tells_its_client() {
    let mut world = World::new(config(AuthMethod::Pap));
    world.dial_in();
    world.link.close(world.now, Cause::Administrative);
    world.run_for(seconds(1));
    assert!(world.client.terminated && !world.client.is_up());
    assert_eq!(world.finished, Some(Cause::Administrative));
}

#[test]
fn a_client_that_has_moved_on_is_noticed_by_its_magic_number() {
    let mut world = World::new(config(AuthMethod::Pap));
    world.dial_in();
    // It answers with another number: it is in a negotiation that we know nothing of.
    world.client.magic = 0xbad;
    world.run_for(seconds(120));
    assert_eq!((world.authentications, world.client.ups.len()), (2, 2));
    assert_eq!(world.row.as_ref().unwrap().peer_magic, 0xbad);
}

#[test]
fn a_repeat_that_crosses_our_acknowledgement_does_not_take_the_client_down() {
    let mut world = World::new(config(AuthMethod::Pap));
    world.commit_delay = Some(Duration::from_millis(2995));
    world.dial_in();
    assert_up_to_stay(&mut world);
    assert_eq!(world.client.ups.len(), 1);
}

#[test]
fn stray_frames_on_an_open_link_change_nothing() {
    let mut world = World::new(config(AuthMethod::Pap));
    world.dial_in();
    for frame in [
        encode(LCP, 2, 9, &[]),
        encode(LCP, 3, 9, &[]),
        encode(LCP, 4, 9, &[]),
        encode(0x8057, 1, 1, &[]),
    ] {
        world.link.handle_input(world.now, &frame);
    }
    assert_up_to_stay(&mut world);
    assert_eq!(world.client.ups.len(), 1);
}
