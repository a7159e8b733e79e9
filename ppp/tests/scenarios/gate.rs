//! The commit gate: entering and leaving open.

use holdfast_ppp::{Cause, Counter, Direction, Ncp, NcpConfig};

use crate::bench::*;

#[test]
fn the_row_names_all_that_was_agreed() {
    let (_, row) = Bench::open(open_door());
    assert_eq!(
        (row.peer_magic, row.peer_mru, row.local_mru),
        (PEER_MAGIC, 1492, 1456)
    );
    assert_ne!(row.local_magic, 0);
    assert_eq!((row.auth, &row.user[..]), (None, &b""[..]));
    assert_eq!(row.ncps.len(), 1);
    assert_eq!(
        (row.ncps[0].config, row.ncps[0].request_id),
        (NcpConfig::Ipcp(ipcp_config()), 7)
    );
}

#[test]
fn a_good_request_waits_for_our_ack_and_then_for_the_commit() {
    let (mut bench, id, options) = Bench::in_network(open_door());
    assert_eq!(bench.input(IPCP, REQUEST, 7, &GOOD_IPCP), []);
    let said = bench.input(IPCP, ACK, id, &options);
    let [Said::Open(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    // Neither a repeat nor a commit of another number lets it out.
    assert_eq!(bench.input(IPCP, REQUEST, 7, &GOOD_IPCP), []);
    assert_eq!(bench.accepted(serial + 1), []);
    let said = bench.accepted(serial);
    assert_eq!(said, [packet(IPCP, ACK, 7, &GOOD_IPCP), Said::Up(Ncp::Ipcp)]);
}

#[test]
fn a_withheld_request_is_dropped_in_the_end_and_never_answered_early() {
    let (mut bench, id, options) = Bench::in_network(open_door());
    bench.input(IPCP, REQUEST, 7, &GOOD_IPCP);
    let said = bench.run_until(seconds(3));
    assert!(
        said.iter()
            .all(|said| *said == packet(IPCP, REQUEST, id, &options)),
        "{said:?}"
    );
    assert_eq!(bench.counts, [Counter::WithheldDropped]);
    assert_eq!(bench.input(IPCP, ACK, id, &options), []);
}

#[test]
fn the_newest_request_counts() {
    let (mut bench, id, options) = Bench::in_network(open_door());
    bench.input(IPCP, REQUEST, 7, &GOOD_IPCP);
    bench.input(IPCP, REQUEST, 8, &GOOD_IPCP);
    let said = bench.input(IPCP, ACK, id, &options);
    let [Said::Open(serial, row)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(row.ncps[0].request_id, 8);
    // A newer one while the commit is on its way needs a commit of its own.
    assert_eq!(bench.input(IPCP, REQUEST, 9, &GOOD_IPCP), []);
    let said = bench.accepted(*serial);
    let [Said::Open(serial, row)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(row.ncps[0].request_id, 9);
    assert_eq!(
        bench.accepted(*serial),
        [packet(IPCP, ACK, 9, &GOOD_IPCP), Said::Up(Ncp::Ipcp)]
    );
}

#[test]
fn a_repeat_right_after_open_is_acknowledged_again_and_the_link_stays_up() {
    let (bench, row) = Bench::open(open_door());
    let resumed = Bench::resume(open_door(), &row, seconds(1), 5);
    for mut bench in [bench, resumed] {
        for _ in 0..3 {
            assert_eq!(
                bench.input(IPCP, REQUEST, 7, &GOOD_IPCP),
                [packet(IPCP, ACK, 7, &GOOD_IPCP)]
            );
        }
        assert_eq!(bench.link.row(), Some(&row));
    }
}

#[test]
fn the_same_request_after_data_is_a_new_negotiation() {
    let (mut bench, _) = Bench::open(open_door());
    bench.link.set_data_seen();
    let said = bench.input(IPCP, REQUEST, 7, &GOOD_IPCP);
    let said = bench.accepted(leave_in(&said));
    // Down, our own request, and the peer's is withheld again.
    assert!(
        matches!(said[..], [Said::Down(Ncp::Ipcp), Said::Packet(IPCP, REQUEST, ..)]),
        "{said:?}"
    );
    let (id, options) = request_in(&said, IPCP);
    let said = bench.input(IPCP, ACK, id, &options);
    let [Said::Open(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        bench.accepted(serial),
        [packet(IPCP, ACK, 7, &GOOD_IPCP), Said::Up(Ncp::Ipcp)]
    );
}

#[test]
fn another_ipcp_request_on_an_open_link_leaves_first() {
    let (mut bench, _) = Bench::open(open_door());
    let said = bench.input(IPCP, REQUEST, 8, &[3, 6, 0, 0, 0, 0]);
    let serial = leave_in(&said);
    // Held, the newest alone; echoes go on.
    assert_eq!(bench.input(IPCP, REQUEST, 9, &[3, 6, 0, 0, 0, 0]), []);
    assert!(matches!(
        bench.input(LCP, ECHO, 1, &[0; 4])[..],
        [Said::Packet(LCP, ECHO_REPLY, ..)]
    ));
    let said = bench.accepted(serial);
    let [Said::Down(Ncp::Ipcp), Said::Packet(IPCP, REQUEST, ..), nak] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(*nak, packet(IPCP, NAK, 9, &GOOD_IPCP));
}

/// What a peer asks for first: refused, so that the good request is its second.
const WISH: [u8; 6] = [3, 6, 0, 0, 0, 0];

/// An open link whose peer had its first request, number 6, naked.
fn open_at_the_second_attempt() -> Bench {
    let (mut bench, id, options) = Bench::in_network(open_door());
    assert_eq!(bench.input(IPCP, ACK, id, &options), []);
    let nak = packet(IPCP, NAK, 6, &GOOD_IPCP);
    assert_eq!(bench.input(IPCP, REQUEST, 6, &WISH), [nak]);
    let said = bench.input(IPCP, REQUEST, 7, &GOOD_IPCP);
    let [Said::Open(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    bench.accepted(serial);
    bench
}

#[test]
fn a_late_copy_of_a_refused_request_leaves_an_open_link_alone() {
    let mut bench = open_at_the_second_attempt();
    bench.link.set_data_seen();
    for _ in 0..2 {
        assert_eq!(bench.input(IPCP, REQUEST, 6, &WISH), []);
    }
    assert_eq!(bench.counts, [Counter::RequestRepeated; 2]);
    // Other contents, or the same under another number, are no copy.
    for (id, options) in [(8, WISH), (6, [3, 6, 1, 1, 1, 1])] {
        let mut bench = open_at_the_second_attempt();
        leave_in(&bench.input(IPCP, REQUEST, id, &options));
    }
}

#[test]
fn what_repeats_a_refused_request_later_is_a_new_negotiation() {
    let mut bench = open_at_the_second_attempt();
    // A peer that means it repeats it, and by then copies have died out.
    assert_eq!(bench.run_until(seconds(3)), []);
    assert_eq!(bench.input(IPCP, REQUEST, 6, &WISH).len(), 1);
}

#[test]
fn a_late_copy_of_a_refused_request_does_not_displace_the_one_that_waits() {
    let (mut bench, id, options) = Bench::in_network(open_door());
    let nak = packet(IPCP, NAK, 6, &GOOD_IPCP);
    // Our Nak may have been lost: a repeat gets it again.
    for _ in 0..2 {
        assert_eq!(bench.input(IPCP, REQUEST, 6, &WISH), std::slice::from_ref(&nak));
    }
    assert_eq!(bench.input(IPCP, REQUEST, 7, &GOOD_IPCP), []);
    assert_eq!(bench.input(IPCP, REQUEST, 6, &WISH), []);
    let said = bench.input(IPCP, ACK, id, &options);
    let [Said::Open(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(bench.input(IPCP, REQUEST, 6, &WISH), []);
    assert_eq!(
        bench.accepted(serial),
        [packet(IPCP, ACK, 7, &GOOD_IPCP), Said::Up(Ncp::Ipcp)]
    );
}

#[test]
fn ipcp_terminate_on_an_open_link_leaves_first_and_ends_the_link() {
    let (mut bench, _) = Bench::open(open_door());
    let said = bench.input(IPCP, TERMINATE, 8, &[]);
    let said = bench.accepted(leave_in(&said));
    assert_eq!(said, [Said::Down(Ncp::Ipcp), packet(IPCP, TERMINATE_ACK, 8, &[])]);
    let said = bench.run_until(seconds(20));
    assert!(matches!(said[0], Said::Packet(LCP, TERMINATE, ..)));
    assert_eq!(said.last(), Some(&Said::Finished(Cause::NoNcp(Some(Ncp::Ipcp)))));
}

#[test]
fn s_122_protocol_reject_of_open_ipcp_leaves_first() {
    let (mut bench, _) = Bench::open(open_door());
    let said = bench.input(LCP, PROTOCOL_REJECT, 1, &[0x80, 0x21, 1]);
    let said = bench.accepted(leave_in(&said));
    assert!(
        matches!(
            said[..],
            [Said::Down(Ncp::Ipcp), Said::Packet(IPCP, TERMINATE, ..)]
        ),
        "{said:?}"
    );
    let said = bench.run_until(seconds(20));
    assert_eq!(said.last(), Some(&Said::Finished(Cause::NoNcp(Some(Ncp::Ipcp)))));
}

#[test]
fn s_123_lcp_renegotiation_leaves_first_and_authenticates_again() {
    let (mut bench, row) = Bench::open(open_door());
    let fresh = [1, 4, 0x05, 0xdc, 5, 6, 0x55, 0x66, 0x77, 0x88];
    let said = bench.input(LCP, REQUEST, 1, &fresh);
    let serial = leave_in(&said);
    // Nothing of it happens before.
    assert_eq!(bench.input(LCP, REQUEST, 2, &fresh), []);
    assert_eq!(
        bench
            .run_until(seconds(4))
            .iter()
            .filter(|said| matches!(said, Said::Packet(LCP, 1..=6, ..)))
            .count(),
        0
    );
    let said = bench.accepted(serial);
    let [
        Said::Down(Ncp::Ipcp),
        Said::Packet(LCP, REQUEST, id, options),
        ack,
    ] = &said[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!(*ack, packet(LCP, ACK, 2, &fresh));
    assert!(
        !options.ends_with(&row.local_magic.to_be_bytes()),
        "a new negotiation has a new magic number"
    );
    let said = bench.input(LCP, ACK, *id, options);
    assert!(matches!(said[..], [Said::Authenticate(..)]));
}

#[test]
fn s_124_terminate_request_on_an_open_link_leaves_first() {
    let (mut bench, _) = Bench::open(open_door());
    let said = bench.input(LCP, TERMINATE, 9, &[]);
    let said = bench.accepted(leave_in(&said));
    assert_eq!(said, [Said::Down(Ncp::Ipcp), packet(LCP, TERMINATE_ACK, 9, &[])]);
    assert_eq!(
        bench.next_timer(),
        [Said::Finished(Cause::Terminated(Direction::Peer))]
    );
}

#[test]
fn a_local_close_leaves_first() {
    let (mut bench, _) = Bench::open(open_door());
    let said = bench.close(Cause::Administrative);
    let said = bench.accepted(leave_in(&said));
    let [Said::Down(Ncp::Ipcp), Said::Packet(LCP, TERMINATE, id, _)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        bench.input(LCP, TERMINATE_ACK, id, &[]),
        [Said::Finished(Cause::Administrative)]
    );
    assert_eq!(bench.close(Cause::Administrative), []);
    assert_eq!(
        (bench.link.is_finished(), bench.link.poll_timeout()),
        (true, None)
    );
}

#[test]
fn a_close_whose_commit_never_comes_ends_without_a_word() {
    let (mut bench, _) = Bench::open(open_door());
    leave_in(&bench.close(Cause::Administrative));
    let said = bench.run_until(seconds(10));
    let rest: Vec<_> = said
        .iter()
        .filter(|said| !matches!(said, Said::Packet(LCP, ECHO, ..)))
        .collect();
    assert_eq!(
        rest,
        [&Said::Down(Ncp::Ipcp), &Said::Finished(Cause::Administrative)]
    );
}

#[test]
fn leaving_while_the_open_is_on_its_way_waits_for_both_commits() {
    let (mut bench, id, options) = Bench::in_network(open_door());
    bench.input(IPCP, REQUEST, 7, &GOOD_IPCP);
    let said = bench.input(IPCP, ACK, id, &options);
    let [Said::Open(open, _)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(bench.input(LCP, TERMINATE, 9, &[]), []);
    let leave = leave_in(&bench.accepted(open));
    // IPCP never opened, so it does not go down.
    assert_eq!(bench.accepted(leave), [packet(LCP, TERMINATE_ACK, 9, &[])]);
}

#[test]
fn a_commit_that_never_comes_ends_by_the_setup_timeout_without_a_word() {
    let (mut bench, id, options) = Bench::in_network(open_door());
    bench.input(IPCP, REQUEST, 7, &GOOD_IPCP);
    bench.input(IPCP, ACK, id, &options);
    let mut finished = None;
    while finished.is_none() {
        for said in bench.next_timer() {
            match said {
                // The peer goes on acknowledging, so that no restart counter runs out.
                Said::Packet(IPCP, REQUEST, id, data) => assert_eq!(bench.input(IPCP, ACK, id, &data), []),
                Said::Finished(cause) => finished = Some(cause),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        (finished, bench.now),
        (Some(Cause::NcpTimeout(Ncp::Ipcp)), seconds(60))
    );
}

#[test]
fn an_open_link_is_small() {
    let size = size_of::<holdfast_ppp::Link>();
    let row = size_of::<holdfast_ppp::OpenLink>() + size_of::<holdfast_ppp::OpenNcp>() + 32;
    println!("an open link: {size} octets and {row} for its row with a name of 32 octets");
    assert!(size + row < 400, "{size} + {row}");
}

#[test]
fn an_open_link_at_rest_has_no_timer_but_the_echo() {
    let (bench, _) = Bench::open(holdfast_ppp::LinkConfig {
        echo_interval: seconds(0),
        ..open_door()
    });
    assert_eq!(bench.link.poll_timeout(), None);
}
