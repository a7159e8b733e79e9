//! IPCP (RFC 1332, RFC 1877).

use holdfast_ppp::{Cause, Counter, Direction, Ncp};

use crate::bench::*;

const VJ: [u8; 6] = [2, 6, 0, 0x2d, 15, 1];

#[test]
fn s_130_zero_or_a_foreign_address_is_naked_with_the_assigned_one() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    for address in [[0, 0, 0, 0], [192, 168, 1, 1]] {
        let request = [&[3, 6], &address[..]].concat();
        assert_eq!(
            bench.input(IPCP, REQUEST, 1, &request),
            [packet(IPCP, NAK, 1, &GOOD_IPCP)]
        );
    }
}

#[test]
fn s_130_a_missing_address_is_hinted_at_twice_and_then_the_link_ends() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    for id in 1..3 {
        assert_eq!(
            bench.input(IPCP, REQUEST, id, &[]),
            [packet(IPCP, NAK, id, &GOOD_IPCP)]
        );
    }
    let said = bench.input(IPCP, REQUEST, 3, &[]);
    assert!(
        matches!(
            said[..],
            [
                Said::Packet(IPCP, TERMINATE, ..),
                Said::Packet(LCP, TERMINATE, ..)
            ]
        ),
        "{said:?}"
    );
    let cause = Cause::NoAgreement(Ncp::Ipcp, Direction::Local);
    assert_eq!(bench.run_until(seconds(10)).last(), Some(&Said::Finished(cause)));
    assert_eq!((cause.code(), cause.protocol()), (19, IPCP));
}

#[test]
fn s_117_s_130_a_peer_that_insists_on_its_address_is_refused() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    let foreign = [3, 6, 192, 168, 1, 1];
    for id in 0..5 {
        assert_eq!(
            bench.input(IPCP, REQUEST, id, &foreign),
            [packet(IPCP, NAK, id, &GOOD_IPCP)]
        );
    }
    assert_eq!(
        bench.input(IPCP, REQUEST, 5, &foreign),
        [packet(IPCP, REJECT, 5, &foreign)]
    );
    bench.input(IPCP, REQUEST, 6, &foreign);
    let said = bench.run_until(seconds(20));
    assert_eq!(
        said.last(),
        Some(&Said::Finished(Cause::AddressRefused(Ncp::Ipcp)))
    );
}

#[test]
fn dns_is_handed_out_where_there_is_one_and_rejected_where_not() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    let primary = [&GOOD_IPCP[..], &[129, 6, 0, 0, 0, 0]].concat();
    assert_eq!(
        bench.input(IPCP, REQUEST, 1, &primary),
        [packet(IPCP, NAK, 1, &[129, 6, 9, 9, 9, 9])]
    );
    let both = [&primary[..], &[131, 6, 0, 0, 0, 0]].concat();
    assert_eq!(
        bench.input(IPCP, REQUEST, 2, &both),
        [packet(IPCP, REJECT, 2, &[131, 6, 0, 0, 0, 0])]
    );
}

#[test]
fn compression_nbns_and_the_old_option_are_rejected() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    for option in [
        &VJ[..],
        &[130, 6, 0, 0, 0, 0],
        &[132, 6, 0, 0, 0, 0],
        &[1, 10, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let request = [&GOOD_IPCP[..], option].concat();
        assert_eq!(
            bench.input(IPCP, REQUEST, 1, &request),
            [packet(IPCP, REJECT, 1, option)]
        );
    }
}

#[test]
fn a_peer_that_does_not_want_our_address_goes_without() {
    let (mut bench, id, options) = Bench::in_network(open_door());
    let said = bench.input(IPCP, REJECT, id, &options);
    let (id, options) = request_in(&said, IPCP);
    assert_eq!(options, []);
    assert_eq!(bench.input(IPCP, ACK, id, &[]), []);
    assert!(matches!(
        bench.input(IPCP, REQUEST, 1, &GOOD_IPCP)[..],
        [Said::Open(..)]
    ));
}

#[test]
fn a_peer_that_naks_our_address_for_ever_ends_the_link() {
    let (mut bench, mut id, options) = Bench::in_network(open_door());
    for _ in 0..5 {
        let said = bench.input(IPCP, NAK, id, &[3, 6, 1, 2, 3, 4]);
        let (next, same) = request_in(&said, IPCP);
        assert_eq!(same, options);
        id = next;
    }
    bench.input(IPCP, NAK, id, &[3, 6, 1, 2, 3, 4]);
    let said = bench.run_until(seconds(10));
    let cause = Cause::NoAgreement(Ncp::Ipcp, Direction::Peer);
    assert_eq!(said.last(), Some(&Said::Finished(cause)));
}

#[test]
fn ipcp_without_an_answer_ends_the_link() {
    let (mut bench, _, _) = Bench::in_network(open_door());
    let said = bench.run_until(seconds(27));
    let requests = said
        .iter()
        .filter(|said| matches!(said, Said::Packet(IPCP, REQUEST, ..)))
        .count();
    assert_eq!(requests, 9);
    assert!(matches!(said.last(), Some(Said::Packet(LCP, TERMINATE, ..))));
    let said = bench.run_until(seconds(40));
    assert_eq!(said.last(), Some(&Said::Finished(Cause::NcpTimeout(Ncp::Ipcp))));
}

#[test]
fn s_137_ccp_is_protocol_rejected_and_the_link_stays() {
    let (mut bench, row) = Bench::open(open_door());
    let said = bench.input(0x80fd, REQUEST, 1, &[18, 6, 1, 0, 0, 0x40]);
    let rejected = [0x80, 0xfd, 1, 1, 0, 10, 18, 6, 1, 0, 0, 0x40];
    assert!(matches!(&said[..], [Said::Packet(LCP, PROTOCOL_REJECT, _, data)] if *data == rejected));
    assert_eq!(bench.link.row(), Some(&row));
    assert_eq!(bench.counts, [Counter::UnknownProtocol]);
}
