//! IPCP and IPV6CP on one link: each opens, fails and closes by itself.

use holdfast_ppp::{Cause, Counter, Ncp, NcpConfig, OpenLink};

use crate::bench::*;

const BOTH: [(Ncp, u16, &[u8]); 2] = [(Ncp::Ipcp, IPCP, &GOOD_IPCP), (Ncp::Ipv6cp, IPV6CP, &GOOD_IPV6CP)];

/// A link that may open both, and our two requests.
fn granted() -> (Bench, [(u8, Vec<u8>); 2]) {
    let (bench, said) = Bench::granted(open_door(), accept_both());
    let requests = BOTH.map(|(_, protocol, _)| request_in(&said, protocol));
    (bench, requests)
}

/// The peer's half and ours, up to the proposal that this brings.
fn agree(bench: &mut Bench, which: usize, (id, options): &(u8, Vec<u8>)) -> (u32, OpenLink) {
    let (_, protocol, good) = BOTH[which];
    assert_eq!(bench.input(protocol, ACK, *id, options), []);
    let said = bench.input(protocol, REQUEST, 7, good);
    proposal(&said)
}

fn proposal(said: &[Said]) -> (u32, OpenLink) {
    match said {
        [.., Said::Open(serial, row)] => (*serial, row.clone()),
        other => panic!("{other:?}"),
    }
}

fn opened(which: usize) -> [Said; 2] {
    let (ncp, protocol, good) = BOTH[which];
    [packet(protocol, ACK, 7, good), Said::Up(ncp)]
}

fn names(row: &OpenLink) -> (Vec<Ncp>, Vec<Ncp>) {
    let open = row.ncps.iter().map(|open| open.ncp()).collect();
    (open, row.granted.iter().map(NcpConfig::ncp).collect())
}

/// A link on which both are open, and its row.
fn open() -> (Bench, OpenLink) {
    let (mut bench, requests) = granted();
    let (serial, _) = agree(&mut bench, 0, &requests[0]);
    assert_eq!(bench.accepted(serial), opened(0));
    let (serial, row) = agree(&mut bench, 1, &requests[1]);
    assert_eq!(bench.accepted(serial), opened(1));
    (bench, row)
}

#[test]
fn each_opens_by_a_row_of_its_own_in_either_order() {
    for (first, second) in [(0, 1), (1, 0)] {
        let (mut bench, requests) = granted();
        let (serial, row) = agree(&mut bench, first, &requests[first]);
        assert_eq!(names(&row), (vec![BOTH[first].0], vec![BOTH[second].0]));
        assert_eq!(bench.accepted(serial), opened(first));
        let (serial, row) = agree(&mut bench, second, &requests[second]);
        assert_eq!(names(&row), (vec![Ncp::Ipcp, Ncp::Ipv6cp], vec![]));
        assert_eq!(bench.accepted(serial), opened(second));
        assert_eq!(bench.link.row(), Some(&row));
    }
}

#[test]
fn the_second_does_not_hold_up_the_first() {
    let (mut bench, requests) = granted();
    let (serial, _) = agree(&mut bench, 0, &requests[0]);
    // While that is on its way, the other agrees too: it waits for a commit of its own, the first does not.
    assert_eq!(bench.input(IPV6CP, ACK, requests[1].0, &requests[1].1), []);
    assert_eq!(bench.input(IPV6CP, REQUEST, 7, &GOOD_IPV6CP), []);
    let said = bench.accepted(serial);
    assert_eq!(said[..2], opened(0));
    let (serial, row) = proposal(&said);
    assert_eq!(row.ncps.len(), 2);
    assert_eq!(bench.accepted(serial), opened(1));
}

#[test]
fn one_that_finds_no_answer_leaves_the_other_alone() {
    for open in [0, 1] {
        let (mut bench, requests) = granted();
        let (serial, row) = agree(&mut bench, open, &requests[open]);
        bench.accepted(serial);
        let silent = BOTH[1 - open].1;
        // The peer answers echoes, and nothing of the other protocol.
        let mut requests = 0;
        while bench.now < seconds(300) {
            for said in bench.next_timer() {
                match said {
                    Said::Packet(LCP, ECHO, id, _) => {
                        bench.input(LCP, ECHO_REPLY, id, &PEER_MAGIC.to_be_bytes());
                    }
                    Said::Packet(protocol, REQUEST, ..) if protocol == silent => requests += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!((requests, bench.link.row()), (9, Some(&row)));
    }
}

#[test]
fn one_that_is_protocol_rejected_leaves_the_other_alone() {
    for (at, (_, protocol, _)) in BOTH.into_iter().enumerate() {
        // Before either is open.
        let (mut bench, requests) = granted();
        let [high, low] = protocol.to_be_bytes();
        assert_eq!(bench.input(LCP, PROTOCOL_REJECT, 1, &[high, low, 1]), []);
        let (serial, _) = agree(&mut bench, 1 - at, &requests[1 - at]);
        assert_eq!(bench.accepted(serial), opened(1 - at));
        // And when both are.
        let (mut bench, _) = open();
        let said = bench.input(LCP, PROTOCOL_REJECT, 1, &[high, low, 1]);
        let (serial, row) = proposal(&said);
        assert_eq!(names(&row), (vec![BOTH[1 - at].0], vec![BOTH[at].0]));
        let said = bench.accepted(serial);
        assert_eq!(said[0], Said::Down(BOTH[at].0));
        assert_eq!(bench.link.row(), Some(&row));
    }
}

#[test]
fn one_without_agreement_leaves_the_other_alone() {
    let (mut bench, row) = Bench::open_with(open_door(), accept_both());
    for id in 1..3 {
        bench.input(IPV6CP, REQUEST, id, &[]);
    }
    let said = bench.input(IPV6CP, REQUEST, 3, &[]);
    assert!(
        matches!(said[..], [Said::Packet(IPV6CP, TERMINATE, ..)]),
        "{said:?}"
    );
    assert_eq!(bench.link.row(), Some(&row));
}

#[test]
fn the_peer_may_close_one_and_open_it_again() {
    let (mut bench, _) = open();
    let said = bench.input(IPV6CP, TERMINATE, 9, &[]);
    let (serial, row) = proposal(&said);
    assert_eq!(names(&row), (vec![Ncp::Ipcp], vec![Ncp::Ipv6cp]));
    // Nothing of it is seen before.
    assert!(said.len() == 1);
    assert_eq!(
        bench.accepted(serial),
        [Said::Down(Ncp::Ipv6cp), packet(IPV6CP, TERMINATE_ACK, 9, &[])]
    );
    bench.run_until(bench.now + seconds(4));
    let said = bench.input(IPV6CP, REQUEST, 7, &GOOD_IPV6CP);
    let (id, options) = request_in(&said, IPV6CP);
    let said = bench.input(IPV6CP, ACK, id, &options);
    let (serial, _) = proposal(&said);
    assert_eq!(bench.accepted(serial), opened(1));
}

#[test]
fn the_last_to_close_ends_the_link() {
    let (mut bench, _) = open();
    for (at, (_, protocol, _)) in BOTH.into_iter().enumerate() {
        let said = bench.input(protocol, TERMINATE, 9, &[]);
        let serial = match said[..] {
            [Said::Open(serial, _)] if at == 0 => serial,
            [Said::Leave(serial)] if at == 1 => serial,
            _ => panic!("{said:?}"),
        };
        bench.accepted(serial);
    }
    let said = bench.run_until(seconds(20));
    assert!(
        matches!(said.last(), Some(Said::Finished(Cause::NoNcp(Some(_))))),
        "{said:?}"
    );
}

#[test]
fn renegotiation_of_one_leaves_the_other_open() {
    let (mut bench, _) = open();
    bench.link.set_data_seen();
    let said = bench.input(IPV6CP, REQUEST, 8, &GOOD_IPV6CP);
    let (serial, row) = proposal(&said);
    assert_eq!(names(&row), (vec![Ncp::Ipcp], vec![Ncp::Ipv6cp]));
    let said = bench.accepted(serial);
    assert_eq!(said[0], Said::Down(Ncp::Ipv6cp));
    let (id, options) = request_in(&said, IPV6CP);
    let said = bench.input(IPV6CP, ACK, id, &options);
    let (serial, row) = proposal(&said);
    assert_eq!(row.ncps.len(), 2);
    assert_eq!(
        bench.accepted(serial),
        [packet(IPV6CP, ACK, 8, &GOOD_IPV6CP), Said::Up(Ncp::Ipv6cp)]
    );
}

#[test]
fn both_are_born_again_from_the_row_and_one_may_be_opened_only_then() {
    let (_, row) = open();
    let again = Bench::resume(open_door(), &row, seconds(1), 5);
    assert_eq!(again.link.row(), Some(&row));
    // A takeover between the two.
    let (mut bench, requests) = granted();
    let (_, row) = agree(&mut bench, 0, &requests[0]);
    let mut again = Bench::resume(open_door(), &row, seconds(1), 5);
    let said = again.input(IPV6CP, REQUEST, 7, &GOOD_IPV6CP);
    let (id, options) = request_in(&said, IPV6CP);
    assert_eq!(options[2..], LOCAL_ID);
    let said = again.input(IPV6CP, ACK, id, &options);
    let (serial, row) = proposal(&said);
    assert_eq!(names(&row), (vec![Ncp::Ipcp, Ncp::Ipv6cp], vec![]));
    assert_eq!(again.accepted(serial), opened(1));
}

#[test]
fn an_identical_repeat_of_either_is_acknowledged_again() {
    let (mut bench, row) = open();
    for (_, protocol, good) in BOTH {
        assert_eq!(
            bench.input(protocol, REQUEST, 7, good),
            [packet(protocol, ACK, 7, good)]
        );
    }
    assert_eq!((bench.link.row(), bench.counts.len()), (Some(&row), 2));
    assert_eq!(bench.counts[0], Counter::RequestRepeated);
}

#[test]
fn both_go_down_with_the_link() {
    let (mut bench, _) = open();
    let said = bench.input(LCP, TERMINATE, 9, &[]);
    let said = bench.accepted(leave_in(&said));
    assert_eq!(
        said,
        [
            Said::Down(Ncp::Ipcp),
            Said::Down(Ncp::Ipv6cp),
            packet(LCP, TERMINATE_ACK, 9, &[])
        ]
    );
}
