//! Echoes on an open link (RFC 1661 §5.8).

use holdfast_ppp::{Cause, Counter, Ncp};

use crate::bench::*;

fn our_magic(bench: &Bench) -> [u8; 4] {
    bench.link.row().expect("open").local_magic.to_be_bytes()
}

/// Lets time pass until the link says something; an echo is put off while the peer has just been heard.
fn next_echo(bench: &mut Bench) -> Vec<Said> {
    let said = bench.next_timer();
    if said.is_empty() { bench.next_timer() } else { said }
}

#[test]
fn an_open_link_answers_echoes_from_its_row() {
    let (bench, row) = Bench::open(open_door());
    let mut resumed = Bench::resume(open_door(), &row, seconds(5), 99);
    for mut bench in [bench, Bench::resume(open_door(), &row, seconds(5), 1)] {
        let request = [&PEER_MAGIC.to_be_bytes()[..], b"hello"].concat();
        let reply = [&our_magic(&bench)[..], b"hello"].concat();
        assert_eq!(
            bench.input(LCP, ECHO, 3, &request),
            [packet(LCP, ECHO_REPLY, 3, &reply)]
        );
    }
    assert_eq!(resumed.input(LCP, 11, 3, &PEER_MAGIC.to_be_bytes()), []);
}

#[test]
fn echoes_before_lcp_is_open_are_dropped() {
    let (mut bench, _) = Bench::start(open_door());
    assert_eq!(bench.input(LCP, ECHO, 3, &PEER_MAGIC.to_be_bytes()), []);
    assert_eq!(bench.counts, [Counter::WrongPhase]);
}

#[test]
fn s_121_code_reject_of_our_echo_stops_echoes() {
    let (mut bench, _) = Bench::open(open_door());
    let said = next_echo(&mut bench);
    let [Said::Packet(LCP, ECHO, id, magic)] = &said[..] else {
        panic!("{said:?}")
    };
    let rejected = [&[ECHO, *id, 0, 8], &magic[..]].concat();
    assert_eq!(bench.input(LCP, CODE_REJECT, 1, &rejected), []);
    assert_eq!(bench.link.poll_timeout(), None);
    assert!(bench.link.row().is_some());
}

#[test]
fn s_125_echo_with_our_magic_or_a_foreign_one_is_not_answered() {
    let (mut bench, _) = Bench::open(open_door());
    let own = our_magic(&bench);
    assert_eq!(bench.input(LCP, ECHO, 3, &own), []);
    assert_eq!(bench.input(LCP, ECHO, 3, &[9, 9, 9, 9]), []);
    assert_eq!(bench.counts, [Counter::LoopedEcho, Counter::ForeignMagic]);
    assert_eq!(
        bench.input(LCP, ECHO, 3, &[0; 4]),
        [packet(LCP, ECHO_REPLY, 3, &own)]
    );
}

#[test]
fn s_126_an_echo_of_1400_octets_is_returned_whole_and_a_longer_one_within_the_mru() {
    let (mut bench, _) = Bench::open(open_door());
    let own = our_magic(&bench);
    let request = [&PEER_MAGIC.to_be_bytes()[..], &[0x5a; 1400]].concat();
    let reply = [&own[..], &[0x5a; 1400]].concat();
    assert_eq!(
        bench.input(LCP, ECHO, 3, &request),
        [packet(LCP, ECHO_REPLY, 3, &reply)]
    );
    let request = [&PEER_MAGIC.to_be_bytes()[..], &[0x5a; 3000]].concat();
    let said = bench.input(LCP, ECHO, 4, &request);
    assert!(matches!(&said[..], [Said::Packet(LCP, ECHO_REPLY, 4, data)] if data.len() == 1488));
}

#[test]
fn a_silent_peer_is_dead_and_nothing_is_said_to_it() {
    let (mut bench, _) = Bench::open(open_door());
    for _ in 0..3 {
        assert!(matches!(next_echo(&mut bench)[..], [Said::Packet(LCP, ECHO, ..)]));
    }
    assert_eq!(
        bench.next_timer(),
        [Said::Down(Ncp::Ipcp), Said::Finished(Cause::EchoTimeout)]
    );
    assert_eq!(bench.link.poll_timeout(), None);
}

#[test]
fn replies_and_data_keep_a_link_alive() {
    let (mut bench, _) = Bench::open(open_door());
    for _ in 0..20 {
        let said = next_echo(&mut bench);
        assert!(matches!(said[..], [Said::Packet(LCP, ECHO, ..)]), "{said:?}");
        // Any identifier will do.
        assert_eq!(bench.input(LCP, ECHO_REPLY, 200, &PEER_MAGIC.to_be_bytes()), []);
    }
    for _ in 0..20 {
        bench.now += seconds(10);
        bench.link.note_received(bench.now);
        assert_eq!(bench.run_until(bench.now), []);
    }
}

#[test]
fn three_replies_with_a_wrong_magic_restart_lcp_after_the_commit() {
    let (mut bench, _) = Bench::open(open_door());
    assert_eq!(bench.input(LCP, ECHO_REPLY, 1, &[9, 9, 9, 9]), []);
    assert_eq!(bench.input(LCP, ECHO_REPLY, 2, &[9, 9, 9, 9]), []);
    let said = bench.input(LCP, ECHO_REPLY, 3, &[9, 9, 9, 9]);
    let said = bench.accepted(leave_in(&said));
    assert!(
        matches!(said[..], [Said::Down(Ncp::Ipcp), Said::Packet(LCP, REQUEST, ..)]),
        "{said:?}"
    );
    assert!(bench.link.row().is_none());
}
