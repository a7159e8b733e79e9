//! IPV6CP (RFC 5072).

use holdfast_ppp::{Cause, Counter, Direction, Ipv6cpConfig, LinkConfig, Ncp, NcpConfig};

use crate::bench::*;

const ZERO: [u8; 8] = [0; 8];

/// The option that carries an identifier.
fn option(id: [u8; 8]) -> Vec<u8> {
    [&[1, 10], &id[..]].concat()
}

/// A link with IPV6CP alone, and our request.
fn granted(config: Ipv6cpConfig) -> (Bench, u8, Vec<u8>) {
    let (bench, said) = Bench::granted(open_door(), accept_with(None, Some(config)));
    let (id, options) = request_in(&said, IPV6CP);
    (bench, id, options)
}

fn answer(config: Ipv6cpConfig, options: &[u8]) -> (u8, Vec<u8>) {
    let (mut bench, _, _) = granted(config);
    match &bench.input(IPV6CP, REQUEST, 1, options)[..] {
        [Said::Packet(IPV6CP, code, 1, data)] => (*code, data.clone()),
        other => panic!("{other:?}"),
    }
}

fn agreed(row: &holdfast_ppp::OpenLink) -> Ipv6cpConfig {
    match row.ncps[..] {
        [ncp] => match ncp.config {
            NcpConfig::Ipv6cp(config) => config,
            NcpConfig::Ipcp(_) => panic!("{row:?}"),
        },
        _ => panic!("{row:?}"),
    }
}

#[test]
fn our_request_has_our_identifier() {
    let (_, _, options) = granted(ipv6cp_config());
    assert_eq!(options, option(LOCAL_ID));
}

#[test]
fn the_peers_own_identifier_stands_and_is_in_the_row() {
    let (mut bench, id, options) = granted(ipv6cp_config());
    assert_eq!(bench.input(IPV6CP, REQUEST, 7, &GOOD_IPV6CP), []);
    let said = bench.input(IPV6CP, ACK, id, &options);
    let [Said::Open(serial, row)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(agreed(row).peer, GOOD_IPV6CP[2..]);
    assert_eq!((agreed(row).local, &row.granted[..]), (LOCAL_ID, &[][..]));
    let said = bench.accepted(*serial);
    assert_eq!(
        said,
        [packet(IPV6CP, ACK, 7, &GOOD_IPV6CP), Said::Up(Ncp::Ipv6cp)]
    );
}

#[test]
fn s_131_zero_and_our_own_are_naked_and_zero_on_both_sides_is_rejected() {
    let kept = (NAK, option(PEER_ID));
    assert_eq!(answer(ipv6cp_config(), &option(ZERO)), kept);
    assert_eq!(answer(ipv6cp_config(), &option(LOCAL_ID)), kept);
    let none = Ipv6cpConfig {
        local: ZERO,
        peer: ZERO,
        fixed: false,
    };
    assert_eq!(answer(none, &option(ZERO)), (REJECT, option(ZERO)));
}

#[test]
fn s_131_what_is_offered_is_neither_zero_nor_ours_and_is_said_to_be_made_up() {
    for peer in [ZERO, LOCAL_ID] {
        let config = Ipv6cpConfig {
            peer,
            ..ipv6cp_config()
        };
        let (code, options) = answer(config, &option(ZERO));
        let id: [u8; 8] = options[2..].try_into().expect("eight octets");
        assert_eq!(code, NAK);
        assert!(id != ZERO && id != LOCAL_ID && id[0] & 2 == 0, "{id:02x?}");
    }
}

#[test]
fn an_identifier_that_is_set_for_the_peer_must_be_taken() {
    let config = Ipv6cpConfig {
        fixed: true,
        ..ipv6cp_config()
    };
    assert_eq!(answer(config, &GOOD_IPV6CP), (NAK, option(PEER_ID)));
    let (mut bench, id, options) = granted(config);
    bench.input(IPV6CP, ACK, id, &options);
    let said = bench.input(IPV6CP, REQUEST, 2, &option(PEER_ID));
    assert!(
        matches!(&said[..], [Said::Open(_, row)] if agreed(row) == config),
        "{said:?}"
    );
}

#[test]
fn compression_a_second_identifier_and_unknown_options_are_rejected() {
    for bad in [&[2, 4, 0, 0x4f][..], &option(PEER_ID), &[77, 2]] {
        let request = [&GOOD_IPV6CP[..], bad].concat();
        assert_eq!(answer(ipv6cp_config(), &request), (REJECT, bad.to_vec()));
    }
    assert_eq!(
        answer(ipv6cp_config(), &[1, 6, 1, 2, 3, 4]),
        (NAK, option(PEER_ID)),
        "an identifier of another length"
    );
}

#[test]
fn a_missing_identifier_is_hinted_at_twice_and_then_the_protocol_ends() {
    let (mut bench, _, _) = granted(ipv6cp_config());
    for id in 1..3 {
        assert_eq!(
            bench.input(IPV6CP, REQUEST, id, &[]),
            [packet(IPV6CP, NAK, id, &option(PEER_ID))]
        );
    }
    bench.input(IPV6CP, REQUEST, 3, &[]);
    let cause = Cause::NoAgreement(Ncp::Ipv6cp, Direction::Local);
    assert_eq!(bench.run_until(seconds(10)).last(), Some(&Said::Finished(cause)));
}

#[test]
fn s_117_s_131_a_peer_that_insists_on_zero_is_refused() {
    let (mut bench, _, _) = granted(ipv6cp_config());
    for id in 0..5 {
        assert_eq!(
            bench.input(IPV6CP, REQUEST, id, &option(ZERO)),
            [packet(IPV6CP, NAK, id, &option(PEER_ID))]
        );
    }
    assert_eq!(
        bench.input(IPV6CP, REQUEST, 5, &option(ZERO)),
        [packet(IPV6CP, REJECT, 5, &option(ZERO))]
    );
    bench.input(IPV6CP, REQUEST, 6, &option(ZERO));
    let said = bench.run_until(seconds(20));
    assert_eq!(
        said.last(),
        Some(&Said::Finished(Cause::AddressRefused(Ncp::Ipv6cp)))
    );
}

#[test]
fn the_identifier_that_the_peer_wants_for_us_is_taken_unless_it_is_none_or_its_own() {
    let wanted = [0x40, 0, 0, 0, 0, 0, 0, 4];
    let (mut bench, id, _) = granted(ipv6cp_config());
    let said = bench.input(IPV6CP, NAK, id, &option(wanted));
    assert_eq!(request_in(&said, IPV6CP).1, option(wanted));
    for bad in [ZERO, PEER_ID] {
        let (mut bench, id, options) = granted(ipv6cp_config());
        let said = bench.input(IPV6CP, NAK, id, &option(bad));
        let (_, next) = request_in(&said, IPV6CP);
        assert!(next != option(bad) && next != options, "{next:02x?}");
    }
}

#[test]
fn the_row_has_the_identifier_that_we_ended_with() {
    let wanted = [0x40, 0, 0, 0, 0, 0, 0, 4];
    let (mut bench, id, _) = granted(ipv6cp_config());
    // The peer's half is agreed on first, and waits.
    assert_eq!(bench.input(IPV6CP, REQUEST, 7, &GOOD_IPV6CP), []);
    let said = bench.input(IPV6CP, NAK, id, &option(wanted));
    let (id, options) = request_in(&said, IPV6CP);
    let said = bench.input(IPV6CP, ACK, id, &options);
    let [Said::Open(serial, row)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(agreed(row).local, wanted);
    assert_eq!(
        bench.accepted(*serial),
        [packet(IPV6CP, ACK, 7, &GOOD_IPV6CP), Said::Up(Ncp::Ipv6cp)]
    );
}

#[test]
fn a_peer_that_does_not_want_our_identifier_goes_without() {
    let (mut bench, id, options) = granted(ipv6cp_config());
    let said = bench.input(IPV6CP, REJECT, id, &options);
    let (id, options) = request_in(&said, IPV6CP);
    assert_eq!(options, []);
    assert_eq!(bench.input(IPV6CP, ACK, id, &[]), []);
    assert!(matches!(
        bench.input(IPV6CP, REQUEST, 1, &GOOD_IPV6CP)[..],
        [Said::Open(..)]
    ));
}

#[test]
fn a_peer_that_naks_our_identifier_for_ever_ends_the_protocol() {
    let (mut bench, mut id, _) = granted(ipv6cp_config());
    for last in 0..5 {
        let said = bench.input(IPV6CP, NAK, id, &option([0x40, 0, 0, 0, 0, 0, 0, last]));
        id = request_in(&said, IPV6CP).0;
    }
    bench.input(IPV6CP, NAK, id, &option(ZERO));
    let cause = Cause::NoAgreement(Ncp::Ipv6cp, Direction::Peer);
    assert_eq!(bench.run_until(seconds(10)).last(), Some(&Said::Finished(cause)));
}

#[test]
fn a_protocol_that_is_not_granted_is_protocol_rejected_and_the_link_stays() {
    let (mut bench, row) = Bench::open(open_door());
    let said = bench.input(IPV6CP, REQUEST, 1, &GOOD_IPV6CP);
    let rejected = [&[0x80, 0x57, 1, 1, 0, 14][..], &GOOD_IPV6CP].concat();
    assert!(matches!(&said[..], [Said::Packet(LCP, PROTOCOL_REJECT, _, data)] if *data == rejected));
    assert_eq!(
        (bench.link.row(), &bench.counts[..]),
        (Some(&row), &[Counter::UnknownProtocol][..])
    );
    // And the other way, on a link with IPv6 alone.
    let (mut bench, _, _) = granted(ipv6cp_config());
    let said = bench.input(IPCP, REQUEST, 1, &GOOD_IPCP);
    assert!(
        matches!(said[..], [Said::Packet(LCP, PROTOCOL_REJECT, ..)]),
        "{said:?}"
    );
}

#[test]
fn a_link_with_ipv6_alone_is_born_again_from_its_row() {
    let (mut bench, id, options) = granted(ipv6cp_config());
    bench.input(IPV6CP, ACK, id, &options);
    let said = bench.input(IPV6CP, REQUEST, 7, &GOOD_IPV6CP);
    let [Said::Open(_, row)] = &said[..] else {
        panic!("{said:?}")
    };
    let mut again = Bench::resume(LinkConfig::default(), row, seconds(1), 5);
    assert_eq!(again.link.row(), Some(row));
    // The repeat after a lost Configure-Ack.
    assert_eq!(
        again.input(IPV6CP, REQUEST, 7, &GOOD_IPV6CP),
        [packet(IPV6CP, ACK, 7, &GOOD_IPV6CP)]
    );
}
