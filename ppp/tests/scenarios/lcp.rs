//! LCP: negotiation, loops, rejects, the end (RFC 1661).

use holdfast_ppp::{AuthMethod, Cause, Counter, Direction, LinkConfig, Ncp};

use crate::bench::*;

/// The magic number in a list of LCP options.
fn magic_of(options: &[u8]) -> Vec<u8> {
    let at = options
        .windows(2)
        .position(|pair| pair == [5, 6])
        .expect("a magic number");
    options[at + 2..at + 6].to_vec()
}

#[test]
fn s_92_s_110_s_111_malformed_input_is_dropped_without_an_answer() {
    let (mut bench, _) = Bench::start(open_door());
    for octets in [
        &[][..],
        &[0xff, 0x03],
        &[0xff, 0x03, 0xc0, 0x21],
        &[0xff, 0x03, 0xc0, 0x21, 1, 1, 0, 3],
        &[0xff, 0x03, 0xc0, 0x21, 1, 1, 0, 9, 5, 6, 1, 2],
        &[0xff, 0x03, 0xc0, 0x21, 1, 1, 0, 10, 5, 0, 1, 2, 3, 4],
        &[0xff, 0x03, 0xc0, 0x21, 1, 1, 0, 10, 5, 9, 1, 2, 3, 4],
    ] {
        assert_eq!(bench.raw(octets), [], "{octets:02x?}");
    }
    use Counter::{Discarded, MalformedFrame, MalformedPacket};
    let counted = [
        MalformedFrame,
        MalformedFrame,
        MalformedFrame,
        MalformedPacket,
        MalformedPacket,
    ];
    assert_eq!(bench.counts, [&counted[..], &[Discarded, Discarded]].concat());
}

#[test]
fn s_93_every_form_of_frame_is_understood() {
    let request = [1, 1, 0, 14, 1, 4, 0x05, 0xd4, 5, 6, 0x11, 0x22, 0x33, 0x44];
    for head in [&[0xff, 0x03, 0xc0, 0x21][..], &[0xc0, 0x21]] {
        let (mut bench, _) = Bench::start(open_door());
        let said = bench.raw(&[head, &request].concat());
        assert_eq!(said, [packet(LCP, ACK, 1, &PEER_OPTIONS)], "{head:02x?}");
    }
}

#[test]
fn s_94_invalid_protocol_number_is_rejected_when_lcp_is_open() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    let said = bench.raw(&[0xff, 0x03, 0x00, 0x20, 0xaa]);
    assert!(
        matches!(&said[..], [Said::Packet(LCP, PROTOCOL_REJECT, _, data)] if *data == [0x00, 0x20, 0xaa])
    );
}

#[test]
fn s_112_our_own_request_come_back_is_a_loop() {
    let (mut bench, said) = Bench::start(open_door());
    let (mut id, mut options) = request_in(&said, LCP);
    for round in 0..4 {
        // The line returns our request: we suggest another number and do not ask anew because of it.
        let said = bench.input(LCP, REQUEST, id, &options);
        let [Said::Packet(LCP, NAK, nak_id, wanted)] = &said[..] else {
            panic!("round {round}: {said:?}")
        };
        assert_eq!(*nak_id, id);
        assert_ne!(magic_of(wanted), magic_of(&options));
        // The line returns our Nak too: we choose a new number.
        let said = bench.input(LCP, NAK, id, wanted);
        let next = request_in(&said, LCP);
        assert_ne!(magic_of(&next.1), magic_of(&options));
        assert_ne!(magic_of(&next.1), magic_of(wanted));
        (id, options) = next;
    }
    let said = bench.input(LCP, REQUEST, id, &options);
    let [Said::Packet(LCP, TERMINATE, id, _)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        bench.input(LCP, TERMINATE_ACK, *id, &[]),
        [Said::Finished(Cause::Loop)]
    );
}

#[test]
fn equal_magic_by_chance_is_settled_by_the_nak() {
    let (mut bench, said) = Bench::start(open_door());
    let (_, options) = request_in(&said, LCP);
    let said = bench.input(LCP, REQUEST, 9, &options);
    assert!(matches!(&said[..], [Said::Packet(LCP, NAK, 9, _)]));
    assert_eq!(
        bench.input(LCP, REQUEST, 10, &PEER_OPTIONS),
        [packet(LCP, ACK, 10, &PEER_OPTIONS)]
    );
}

#[test]
fn s_113_ack_with_wrong_id_or_changed_options_is_dropped() {
    let (mut bench, said) = Bench::start(open_door());
    let (id, options) = request_in(&said, LCP);
    let mut changed = options.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(bench.input(LCP, ACK, id.wrapping_add(1), &options), []);
    assert_eq!(bench.input(LCP, ACK, id, &changed), []);
    assert_eq!(bench.input(LCP, ACK, id, &options[..4]), []);
    assert_eq!(bench.counts, [Counter::Discarded; 3]);
    // Still waiting: the request goes out again, the same one.
    assert_eq!(bench.next_timer(), [packet(LCP, REQUEST, id, &options)]);
}

#[test]
fn a_second_ack_of_the_same_request_is_a_duplicate() {
    let (mut bench, said) = Bench::start(open_door());
    let (id, options) = request_in(&said, LCP);
    bench.open_lcp(&said);
    assert_eq!(bench.input(LCP, ACK, id, &options), []);
    assert_eq!(bench.counts, [Counter::Discarded]);
}

#[test]
fn s_114_reject_of_what_we_did_not_send_or_out_of_order_is_dropped() {
    let (mut bench, said) = Bench::start(open_door());
    let (id, options) = request_in(&said, LCP);
    let (mru, magic) = options.split_at(4);
    let reordered = [magic, mru].concat();
    let changed = [1, 4, 0xff, 0xff];
    for refused in [&[7, 2][..], &reordered, &changed, &[]] {
        assert_eq!(bench.input(LCP, REJECT, id, refused), [], "{refused:02x?}");
    }
    assert_eq!(bench.counts, [Counter::Discarded; 4]);
}

#[test]
fn s_115_reject_of_authentication_ends_the_link() {
    let config = LinkConfig {
        auth: vec![AuthMethod::ChapMd5],
        ..LinkConfig::default()
    };
    let (mut bench, said) = Bench::start(config);
    let (id, options) = request_in(&said, LCP);
    assert_eq!(options[4..9], [3, 5, 0xc2, 0x23, 5]);
    let said = bench.input(LCP, REJECT, id, &options[4..9]);
    assert!(matches!(said[..], [Said::Packet(LCP, TERMINATE, ..)]));
    let said = bench.run_until(seconds(10));
    let cause = Cause::AuthUnacceptable(AuthMethod::ChapMd5);
    assert_eq!(said.last(), Some(&Said::Finished(cause)));
    assert_eq!(
        (cause.code(), cause.protocol(), cause.direction()),
        (15, CHAP, Direction::Peer)
    );
    assert_eq!(cause.cdn_result(), 3);
}

#[test]
fn s_115_reject_of_mru_or_magic_drops_the_option() {
    let (mut bench, said) = Bench::start(open_door());
    let (id, options) = request_in(&said, LCP);
    let said = bench.input(LCP, REJECT, id, &options[..4]);
    let (id, left) = request_in(&said, LCP);
    assert_eq!(left, options[4..]);
    let said = bench.input(LCP, REJECT, id, &left);
    let (id, left) = request_in(&said, LCP);
    assert_eq!(left, []);
    assert_eq!(bench.input(LCP, ACK, id, &[]), []);
    let said = bench.input(LCP, REQUEST, 1, &PEER_OPTIONS);
    assert!(matches!(
        said[..],
        [Said::Packet(LCP, ACK, 1, _), Said::Authenticate(..)]
    ));
}

#[test]
fn s_116_nak_of_authentication_walks_down_the_list() {
    let config = LinkConfig {
        auth: vec![AuthMethod::MsChapV2, AuthMethod::ChapMd5, AuthMethod::Pap],
        ..LinkConfig::default()
    };
    let (mut bench, said) = Bench::start(config);
    let (id, options) = request_in(&said, LCP);
    assert_eq!(options[4..9], [3, 5, 0xc2, 0x23, 0x81]);
    // What the peer names, where policy allows it, comes before our order.
    let said = bench.input(LCP, NAK, id, &[3, 4, 0xc0, 0x23]);
    let (id, options) = request_in(&said, LCP);
    assert_eq!(options[4..8], [3, 4, 0xc0, 0x23]);
    // EAP is not ours: the next that policy allows.
    let said = bench.input(LCP, NAK, id, &[3, 4, 0xc2, 0x27]);
    let (id, options) = request_in(&said, LCP);
    assert_eq!(options[4..9], [3, 5, 0xc2, 0x23, 5]);
    // The list is exhausted.
    let said = bench.input(LCP, NAK, id, &[3, 4, 0xc2, 0x27]);
    let [Said::Packet(LCP, TERMINATE, id, _)] = &said[..] else {
        panic!("{said:?}")
    };
    let said = bench.input(LCP, TERMINATE_ACK, *id, &[]);
    assert_eq!(
        said,
        [Said::Finished(Cause::AuthUnacceptable(AuthMethod::ChapMd5))]
    );
}

/// RFC 1661 §5.3: a Nak may list an option several times, and one of the values is to be chosen.
#[test]
fn s_116_of_several_proposals_in_one_nak_the_first_that_policy_allows_is_taken() {
    for (proposals, want) in [
        (&[3, 4, 0xc0, 0x23, 3, 4, 0xc2, 0x27][..], [3, 4, 0xc0, 0x23]),
        (&[3, 4, 0xc2, 0x27, 3, 4, 0xc0, 0x23], [3, 4, 0xc0, 0x23]),
    ] {
        let config = LinkConfig {
            auth: vec![AuthMethod::MsChapV2, AuthMethod::ChapMd5, AuthMethod::Pap],
            ..LinkConfig::default()
        };
        let (mut bench, said) = Bench::start(config);
        let (id, _) = request_in(&said, LCP);
        let said = bench.input(LCP, NAK, id, proposals);
        assert_eq!(request_in(&said, LCP).1[4..8], want);
    }
}

#[test]
fn s_116_pap_is_not_offered_when_only_chap_is_allowed() {
    let config = LinkConfig {
        auth: vec![AuthMethod::ChapMd5],
        ..LinkConfig::default()
    };
    let (mut bench, said) = Bench::start(config);
    let (id, _) = request_in(&said, LCP);
    let said = bench.input(LCP, NAK, id, &[3, 4, 0xc0, 0x23]);
    assert!(matches!(said[..], [Said::Packet(LCP, TERMINATE, ..)]));
}

#[test]
fn s_117_naks_become_rejects() {
    let (mut bench, _) = Bench::start(open_door());
    let tiny = [1, 4, 0, 64];
    for id in 0..5 {
        assert_eq!(
            bench.input(LCP, REQUEST, id, &tiny),
            [packet(LCP, NAK, id, &[1, 4, 0, 128])]
        );
    }
    assert_eq!(
        bench.input(LCP, REQUEST, 5, &tiny),
        [packet(LCP, REJECT, 5, &tiny)]
    );
    assert_eq!(
        bench.input(LCP, REQUEST, 6, &PEER_OPTIONS),
        [packet(LCP, ACK, 6, &PEER_OPTIONS)]
    );
}

#[test]
fn s_117_a_peer_that_naks_for_ever_is_left_without_the_option() {
    let (mut bench, mut said) = Bench::start(open_door());
    for _ in 0..6 {
        let (id, options) = request_in(&said, LCP);
        assert_eq!(options[..2], [1, 4]);
        said = bench.input(LCP, NAK, id, &[1, 4, 0xff, 0xff]);
    }
    assert_eq!(request_in(&said, LCP).1[..2], [5, 6]);
}

#[test]
fn s_118_ten_requests_without_an_answer_end_the_link() {
    let (mut bench, first) = Bench::start(open_door());
    let mut requests = first.len();
    let mut at = Vec::new();
    let end = loop {
        match &bench.next_timer()[..] {
            [Said::Packet(LCP, REQUEST, ..)] => {
                requests += 1;
                at.push(bench.now.as_secs());
            }
            [Said::Finished(cause)] => break *cause,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(requests, 10);
    assert_eq!(at, [1, 3, 6, 9, 12, 15, 18, 21, 24]);
    assert_eq!((bench.now, end, end.code()), (seconds(27), Cause::NoLcp, 6));
}

#[test]
fn s_118_a_peer_that_speaks_lcp_but_never_agrees_is_a_timeout() {
    let (mut bench, _) = Bench::start(open_door());
    bench.input(LCP, REQUEST, 1, &PEER_OPTIONS);
    let said = bench.run_until(seconds(60));
    assert_eq!(said.last(), Some(&Said::Finished(Cause::LcpTimeout)));
    assert_eq!(Cause::LcpTimeout.code(), 5);
}

#[test]
fn s_119_ipcp_before_authentication_is_dropped() {
    let config = LinkConfig {
        auth: vec![AuthMethod::Pap],
        ..LinkConfig::default()
    };
    let (mut bench, said) = Bench::start(config);
    assert_eq!(bench.input(IPCP, REQUEST, 1, &GOOD_IPCP), []);
    bench.open_lcp(&said);
    assert_eq!(bench.input(IPCP, REQUEST, 1, &GOOD_IPCP), []);
    assert_eq!(bench.counts, [Counter::WrongPhase; 2]);
}

#[test]
fn s_119_s_120_an_unknown_protocol_is_rejected_in_the_network_phase_alone() {
    let (mut bench, said) = Bench::start(open_door());
    // RFC 1661 §3.4 and §3.5: silently discarded before.
    assert_eq!(bench.input(0x8281, REQUEST, 1, &[1, 2]), []);
    let said = bench.open_lcp(&said);
    assert_eq!(bench.input(0x8281, REQUEST, 1, &[1, 2]), []);
    assert_eq!(bench.counts, [Counter::WrongPhase; 2]);
    let [Said::Authenticate(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    bench.verdict(serial, accept());
    let first = bench.input(0x8281, REQUEST, 1, &[1, 2]);
    let second = bench.input(0x8281, REQUEST, 1, &[1, 2]);
    let rejected = [0x82, 0x81, 1, 1, 0, 6, 1, 2];
    let ids = [first, second].map(|said| match &said[..] {
        [Said::Packet(LCP, PROTOCOL_REJECT, id, data)] if *data == rejected => *id,
        other => panic!("{other:?}"),
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn s_120_a_protocol_reject_keeps_within_the_peers_mru() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    let said = bench.input(0x8281, REQUEST, 1, &[0; 1600]);
    // 1492 (0x05d4) is what the peer takes, code to length included.
    assert!(matches!(&said[..], [Said::Packet(LCP, PROTOCOL_REJECT, _, data)] if data.len() == 1488));
}

#[test]
fn s_122_protocol_reject_of_lcp_is_fatal() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    let said = bench.input(LCP, PROTOCOL_REJECT, 1, &[0xc0, 0x21, 1, 1, 0, 4]);
    assert!(matches!(said[..], [Said::Packet(LCP, TERMINATE, ..)]));
    let said = bench.run_until(seconds(10));
    assert!(matches!(said.last(), Some(Said::Finished(_))));
}

#[test]
fn s_122_protocol_reject_of_ipcp_ends_ipcp_and_the_link_that_has_nothing_else() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    let said = bench.input(LCP, PROTOCOL_REJECT, 1, &[0x80, 0x21, 1, 1, 0, 4]);
    let [Said::Packet(LCP, TERMINATE, id, _)] = &said[..] else {
        panic!("{said:?}")
    };
    let said = bench.input(LCP, TERMINATE_ACK, *id, &[]);
    assert_eq!(said, [Said::Finished(Cause::NoNcp(Some(Ncp::Ipcp)))]);
}

#[test]
fn protocol_reject_of_something_we_never_sent_changes_nothing() {
    let (mut bench, _) = Bench::open(open_door());
    assert_eq!(
        bench.input(LCP, PROTOCOL_REJECT, 1, &[0x80, 0x57, 1, 1, 0, 4]),
        []
    );
    assert_eq!(bench.counts, [Counter::ProtocolRejected]);
}

#[test]
fn s_124_terminate_request_is_acknowledged_and_the_link_ends_after_one_restart_time() {
    let (mut bench, said) = Bench::start(open_door());
    bench.open_lcp(&said);
    assert_eq!(
        bench.input(LCP, TERMINATE, 9, b"bye"),
        [packet(LCP, TERMINATE_ACK, 9, &[])]
    );
    assert_eq!(
        bench.input(LCP, TERMINATE, 10, b"bye"),
        [packet(LCP, TERMINATE_ACK, 10, &[])]
    );
    let cause = Cause::Terminated(Direction::Peer);
    let said = bench.run_until(seconds(3));
    assert_eq!(said, [Said::Finished(cause)]);
    assert_eq!(
        (cause.code(), cause.direction(), cause.cdn_result()),
        (3, Direction::Peer, 3)
    );
    assert_eq!(bench.input(LCP, REQUEST, 1, &PEER_OPTIONS), []);
}

#[test]
fn a_terminate_request_before_lcp_is_open_tells_why_it_never_opened() {
    let (mut bench, _) = Bench::start(open_door());
    assert_eq!(
        bench.input(LCP, TERMINATE, 9, &[]),
        [packet(LCP, TERMINATE_ACK, 9, &[])]
    );
    let said = bench.run_until(seconds(60));
    assert_eq!(
        said.last(),
        Some(&Said::Finished(Cause::Terminated(Direction::Peer)))
    );
}

#[test]
fn s_135_multilink_options_are_rejected() {
    let (mut bench, _) = Bench::start(open_door());
    let multilink = [17, 4, 0x05, 0xdc, 18, 2, 19, 3, 0];
    let request = [&PEER_OPTIONS[..], &multilink].concat();
    assert_eq!(
        bench.input(LCP, REQUEST, 1, &request),
        [packet(LCP, REJECT, 1, &multilink)]
    );
}

#[test]
fn what_an_lns_has_no_use_for_is_rejected_and_what_does_no_harm_acknowledged() {
    let (mut bench, _) = Bench::start(open_door());
    let harmless = [2, 6, 0, 0x0a, 0, 0, 5, 6, 1, 2, 3, 4, 7, 2, 8, 2];
    assert_eq!(
        bench.input(LCP, REQUEST, 1, &harmless),
        [packet(LCP, ACK, 1, &harmless)]
    );
    for option in [
        &[3, 4, 0xc0, 0x23][..],
        &[4, 8, 0xc0, 0x25, 0, 0, 0, 1],
        &[9, 3, 1],
        &[13, 3, 6],
        &[15, 2],
    ] {
        assert_eq!(
            bench.input(LCP, REQUEST, 2, option),
            [packet(LCP, REJECT, 2, option)]
        );
    }
    // Values that cannot be, and lengths.
    for (option, wanted) in [
        (&[2, 4, 0, 0][..], &[2, 6, 0, 0, 0, 0][..]),
        (&[1, 3, 9], &[1, 4, 0x05, 0xdc]),
    ] {
        assert_eq!(
            bench.input(LCP, REQUEST, 3, option),
            [packet(LCP, NAK, 3, wanted)]
        );
    }
    let said = bench.input(LCP, REQUEST, 4, &[5, 6, 0, 0, 0, 0]);
    assert!(matches!(&said[..], [Said::Packet(LCP, NAK, 4, wanted)] if magic_of(wanted) != [0; 4]));
}

#[test]
fn an_unknown_code_is_rejected_and_information_counted() {
    let (mut bench, said) = Bench::start(open_door());
    let said_by_us = bench.input(LCP, 99, 5, &[1, 2]);
    assert!(
        matches!(&said_by_us[..], [Said::Packet(LCP, CODE_REJECT, _, data)] if *data == [99, 5, 0, 6, 1, 2])
    );
    assert_eq!(bench.input(LCP, 12, 1, b"\0\0\0\0MSRASV5.20"), []);
    bench.open_lcp(&said);
    assert_eq!(bench.input(LCP, 12, 1, b"\0\0\0\0MSRASV5.20"), []);
    assert_eq!(bench.input(LCP, 13, 1, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), []);
    assert_eq!(bench.counts, [Counter::Information; 3]);
}

#[test]
fn an_mru_that_the_peer_prefers_is_taken_if_we_can_receive_it() {
    let (mut bench, said) = Bench::start(open_door());
    let (id, _) = request_in(&said, LCP);
    let said = bench.input(LCP, NAK, id, &[1, 4, 0x05, 0x78]);
    let (id, options) = request_in(&said, LCP);
    assert_eq!(options[..4], [1, 4, 0x05, 0x78]);
    let said = bench.input(LCP, NAK, id, &[1, 4, 0x23, 0x28]);
    assert_eq!(request_in(&said, LCP).1[..4], [1, 4, 0x05, 0x78]);
}

#[test]
fn the_setup_timeout_ends_a_link_that_goes_round_in_circles() {
    let (mut bench, said) = Bench::start(open_door());
    bench.open_lcp(&said);
    let said = bench.run_until(seconds(60));
    assert!(matches!(said[..], [Said::Packet(LCP, TERMINATE, ..)]));
    let said = bench.run_until(seconds(70));
    assert_eq!(said.last(), Some(&Said::Finished(Cause::AuthTimeout(None))));
}
