//! Authentication (RFC 1334, RFC 1994, RFC 2759).

use holdfast_ppp::auth::ms_chap;
use holdfast_ppp::{AuthMethod, Cause, Counter, Credential, LinkConfig, Secret, Verdict};
use md5::{Digest, Md5};

use crate::bench::*;

fn config(method: AuthMethod) -> LinkConfig {
    LinkConfig {
        auth: vec![method],
        local_name: b"lns".to_vec(),
        ..LinkConfig::default()
    }
}

/// A link in the authentication phase, and what it said on entering.
fn authenticating(method: AuthMethod) -> (Bench, Vec<Said>) {
    let (mut bench, said) = Bench::start(config(method));
    let said = bench.open_lcp(&said);
    (bench, said)
}

fn challenge_in(said: &[Said]) -> (u8, [u8; 16]) {
    match said {
        [Said::Packet(CHAP, 1, id, data)] => {
            assert_eq!((data[0], &data[17..]), (16, &b"lns"[..]));
            (*id, data[1..17].try_into().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

fn md5_response(id: u8, password: &[u8], challenge: &[u8; 16]) -> Vec<u8> {
    let value = Md5::new()
        .chain_update([id])
        .chain_update(password)
        .chain_update(challenge)
        .finalize();
    [&[16], &value[..], b"user"].concat()
}

fn ms_chap_response(challenge: &[u8; 16]) -> Vec<u8> {
    let peer_challenge = [0x21; 16];
    let hash = ms_chap::nt_password_hash(b"clientPass").unwrap();
    let challenge = ms_chap::challenge_hash(&peer_challenge, challenge, b"User");
    let mut value = [0; 49];
    value[..16].copy_from_slice(&peer_challenge);
    value[24..48].copy_from_slice(&ms_chap::nt_response(&challenge, &hash));
    [&[49], &value[..], b"User"].concat()
}

#[test]
fn pap_accepts_and_goes_on_to_ipcp() {
    let (mut bench, said) = authenticating(AuthMethod::Pap);
    assert_eq!(said, []);
    let said = bench.input(PAP, 1, 4, b"\x04user\x06secret");
    let [Said::Authenticate(serial, request)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(request.name, b"user");
    assert!(request.verify(&Secret::new(*b"secret")).is_some());
    let Verdict::Accept { ipcp, .. } = accept() else {
        unreachable!()
    };
    let verdict = Verdict::Accept {
        ipcp,
        ipv6cp: None,
        message: b"hi".to_vec(),
        ms_chap_success: None,
    };
    let said = bench.verdict(*serial, verdict);
    assert_eq!(said[0], packet(PAP, 2, 4, b"\x02hi"));
    assert_eq!(request_in(&said, IPCP).1, [3, 6, 10, 0, 0, 1]);
}

#[test]
fn s_127_a_pap_request_repeated_while_it_is_judged_is_not_judged_twice() {
    let (mut bench, _) = authenticating(AuthMethod::Pap);
    let said = bench.input(PAP, 1, 4, b"\x04user\x06secret");
    let [Said::Authenticate(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(bench.input(PAP, 1, 4, b"\x04user\x06secret"), []);
    // A repeat may come under a new number; the answer goes to the newest.
    assert_eq!(bench.input(PAP, 1, 5, b"\x04user\x06secret"), []);
    assert_eq!(bench.counts, [Counter::AuthRepeated; 2]);
    let said = bench.verdict(serial, accept());
    assert_eq!(said[0], packet(PAP, 2, 5, b"\0"));
    // In the network phase the code stays what it was.
    assert_eq!(
        bench.input(PAP, 1, 6, b"\x04user\x06secret"),
        [packet(PAP, 2, 6, b"\0")]
    );
}

#[test]
fn a_pap_nak_ends_the_link() {
    let (mut bench, _) = authenticating(AuthMethod::Pap);
    let said = bench.input(PAP, 1, 4, b"\x04user\x05wrong");
    let [Said::Authenticate(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    let said = bench.verdict(serial, reject(b"no"));
    assert_eq!(said[0], packet(PAP, 3, 4, b"\x02no"));
    let [_, Said::Packet(LCP, TERMINATE, id, _)] = said[..] else {
        panic!("{said:?}")
    };
    let cause = Cause::AuthFailed(Some(AuthMethod::Pap));
    assert_eq!(bench.input(LCP, TERMINATE_ACK, id, &[]), [Said::Finished(cause)]);
    assert_eq!((cause.code(), cause.protocol()), (16, PAP));
}

#[test]
fn chap_repeats_the_same_challenge_until_the_peer_has_had_its_time() {
    let (mut bench, said) = authenticating(AuthMethod::ChapMd5);
    let challenge = challenge_in(&said);
    for repeat in 1..10 {
        let said = bench.next_timer();
        assert_eq!((challenge_in(&said), bench.now), (challenge, seconds(3 * repeat)));
    }
    let said = bench.next_timer();
    assert!(matches!(said[..], [Said::Packet(LCP, TERMINATE, ..)]));
    let said = bench.run_until(seconds(40));
    assert_eq!(
        said.last(),
        Some(&Said::Finished(Cause::AuthTimeout(Some(AuthMethod::ChapMd5))))
    );
}

#[test]
fn s_128_a_response_to_another_challenge_is_dropped_and_a_repeat_gets_the_same_answer() {
    let (mut bench, said) = authenticating(AuthMethod::ChapMd5);
    let (id, challenge) = challenge_in(&said);
    let response = md5_response(id, b"secret", &challenge);
    assert_eq!(bench.input(CHAP, 2, id.wrapping_sub(1), &response), []);
    let said = bench.input(CHAP, 2, id, &response);
    let [Said::Authenticate(serial, request)] = &said[..] else {
        panic!("{said:?}")
    };
    assert!(matches!(&request.credential, Credential::ChapMd5 { id: with, .. } if *with == id));
    assert!(request.verify(&Secret::new(*b"secret")).is_some());
    assert_eq!(bench.input(CHAP, 2, id, &response), []);
    let said = bench.verdict(*serial, accept());
    assert_eq!(said[0], packet(CHAP, 3, id, b""));
    assert_eq!(bench.input(CHAP, 2, id, &response), [packet(CHAP, 3, id, b"")]);
    assert_eq!(bench.input(CHAP, 2, id.wrapping_add(1), &response), []);
}

/// A challenge answered well, with the answer lost: what the link said to the Response.
fn success_is_lost() -> (Bench, Vec<Said>) {
    let (mut bench, said) = authenticating(AuthMethod::ChapMd5);
    let (id, challenge) = challenge_in(&said);
    let said = bench.input(CHAP, 2, id, &md5_response(id, b"secret", &challenge));
    let [Said::Authenticate(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    let said = bench.verdict(serial, accept());
    (bench, said)
}

#[test]
fn the_answer_precedes_each_network_request_until_the_peer_is_in_the_network_phase() {
    let (mut bench, said) = success_is_lost();
    assert!(matches!(
        said[..],
        [Said::Packet(CHAP, 3, ..), Said::Packet(IPCP, REQUEST, ..)]
    ));
    for _ in 0..3 {
        assert_eq!(bench.next_timer(), said);
    }
    // Any frame of a network control protocol shows that the peer has heard it, even one that we do not speak.
    bench.input(0x80fd, REQUEST, 1, &[]);
    assert_eq!(bench.next_timer(), said[1..]);
}

#[test]
fn without_authentication_there_is_no_answer_to_repeat() {
    let (mut bench, id, options) = Bench::in_network(open_door());
    assert_eq!(bench.next_timer(), [packet(IPCP, REQUEST, id, &options)]);
}

/// Brings a link from the network phase to open.
fn open(bench: &mut Bench, said: &[Said]) {
    let (id, options) = request_in(said, IPCP);
    bench.input(IPCP, ACK, id, &options);
    let said = bench.input(IPCP, REQUEST, 7, &GOOD_IPCP);
    let [Said::Open(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    bench.accepted(serial);
}

#[test]
fn s_128_a_response_repeated_on_an_open_link_gets_the_same_answer() {
    let (mut bench, said) = success_is_lost();
    let [Said::Packet(CHAP, 3, id, _), ..] = said[..] else {
        panic!("{said:?}")
    };
    open(&mut bench, &said);
    for _ in 0..2 {
        assert_eq!(bench.input(CHAP, 2, id, &[16; 21]), [packet(CHAP, 3, id, b"")]);
        assert_eq!(bench.input(CHAP, 2, id.wrapping_sub(1), &[16; 21]), []);
    }
    // After a rebirth nobody knows the identifier any more.
    let row = bench.link.row().unwrap().clone();
    let mut reborn = Bench::resume(config(AuthMethod::ChapMd5), &row, seconds(1), 5);
    assert_eq!(reborn.input(CHAP, 2, id, &[16; 21]), []);
    assert_eq!(reborn.counts, [Counter::WrongPhase]);
    // A new negotiation has nothing to do with the old answer.
    let said = bench.input(LCP, REQUEST, 1, &PEER_OPTIONS);
    let said = bench.accepted(leave_in(&said));
    let (request, options) = request_in(&said, LCP);
    assert!(matches!(
        bench.input(LCP, ACK, request, &options)[..],
        [Said::Packet(CHAP, 1, ..)]
    ));
    assert_eq!(bench.input(CHAP, 2, id, &[16; 21]), []);
}

#[test]
fn s_128_ms_chap_v2_repeats_its_proof_on_an_open_link() {
    let (mut bench, said) = authenticating(AuthMethod::MsChapV2);
    let (id, challenge) = challenge_in(&said);
    let response = ms_chap_response(&challenge);
    let said = bench.input(CHAP, 2, id, &response);
    let [Said::Authenticate(serial, request)] = &said[..] else {
        panic!("{said:?}")
    };
    let accepted = request.verify(&Secret::new(*b"clientPass")).unwrap();
    let verdict = Verdict::Accept {
        ipcp: Some(ipcp_config()),
        ipv6cp: None,
        message: Vec::new(),
        ms_chap_success: accepted.ms_chap_success,
    };
    let said = bench.verdict(*serial, verdict);
    open(&mut bench, &said);
    assert_eq!(bench.input(CHAP, 2, id, &response), said[..1]);
}

#[test]
fn a_pap_request_repeated_on_an_open_link_is_acknowledged_after_a_rebirth_too() {
    let (mut bench, _) = authenticating(AuthMethod::Pap);
    let said = bench.input(PAP, 1, 4, b"\x04user\x06secret");
    let [Said::Authenticate(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    let said = bench.verdict(serial, accept());
    open(&mut bench, &said);
    let row = bench.link.row().unwrap().clone();
    let reborn = Bench::resume(config(AuthMethod::Pap), &row, seconds(1), 5);
    for mut bench in [bench, reborn] {
        let ack = packet(PAP, 2, 9, b"\0");
        assert_eq!(bench.input(PAP, 1, 9, b"\x04user\x06secret"), [ack]);
        assert_eq!(bench.link.row(), Some(&row));
    }
}

#[test]
fn our_own_challenge_come_back_is_dropped() {
    let (mut bench, said) = authenticating(AuthMethod::ChapMd5);
    let [Said::Packet(CHAP, 1, id, data)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(bench.input(CHAP, 1, *id, data), []);
    assert_eq!(bench.counts, [Counter::Discarded]);
}

#[test]
fn ms_chap_v2_proves_both_sides() {
    let (mut bench, said) = authenticating(AuthMethod::MsChapV2);
    let (id, challenge) = challenge_in(&said);
    let said = bench.input(CHAP, 2, id, &ms_chap_response(&challenge));
    let [Said::Authenticate(serial, request)] = &said[..] else {
        panic!("{said:?}")
    };
    assert!(request.verify(&Secret::new(*b"other")).is_none());
    let accepted = request.verify(&Secret::new(*b"clientPass")).unwrap();
    let proof = accepted.ms_chap_success.clone().unwrap();
    assert!(proof.starts_with(b"S=") && proof.len() == 42);
    let verdict = Verdict::Accept {
        ipcp: Some(ipcp_config()),
        ipv6cp: None,
        message: b"welcome".to_vec(),
        ms_chap_success: accepted.ms_chap_success,
    };
    let said = bench.verdict(*serial, verdict);
    assert_eq!(
        said[0],
        packet(CHAP, 3, id, &[&proof[..], b" M=welcome"].concat())
    );
}

#[test]
fn ms_chap_v2_fails_without_a_retry() {
    let (mut bench, said) = authenticating(AuthMethod::MsChapV2);
    let (id, challenge) = challenge_in(&said);
    let said = bench.input(CHAP, 2, id, &ms_chap_response(&challenge));
    let [Said::Authenticate(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    let said = bench.verdict(serial, reject(b"no"));
    let Said::Packet(CHAP, 4, _, message) = &said[0] else {
        panic!("{said:?}")
    };
    let text = String::from_utf8(message.clone()).unwrap();
    assert!(
        text.starts_with("E=691 R=0 C=") && text.ends_with(" V=3 M=no") && text.len() == 53,
        "{text}"
    );
    assert!(matches!(said[1], Said::Packet(LCP, TERMINATE, ..)));
}

#[test]
fn ms_chap_v2_accepted_without_our_proof_is_a_failure() {
    let (mut bench, said) = authenticating(AuthMethod::MsChapV2);
    let (id, challenge) = challenge_in(&said);
    let said = bench.input(CHAP, 2, id, &ms_chap_response(&challenge));
    let [Said::Authenticate(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    let said = bench.verdict(serial, accept());
    assert!(matches!(
        said[..],
        [Said::Packet(CHAP, 4, ..), Said::Packet(LCP, TERMINATE, ..)]
    ));
}

#[test]
fn s_129_a_name_is_handed_on_as_it_came() {
    let (mut bench, said) = authenticating(AuthMethod::ChapMd5);
    let (id, _) = challenge_in(&said);
    let name = [&[0, 0xff, 0xfe][..], &[b'n'; 252]].concat();
    let said = bench.input(CHAP, 2, id, &[&[16][..], &[0; 16], &name].concat());
    assert!(matches!(&said[..], [Said::Authenticate(_, request)] if request.name == name));
}

#[test]
fn a_verdict_on_an_authentication_that_was_abandoned_is_ignored() {
    let (mut bench, _) = authenticating(AuthMethod::Pap);
    let said = bench.input(PAP, 1, 4, b"\x04user\x06secret");
    let [Said::Authenticate(old, _)] = said[..] else {
        panic!("{said:?}")
    };
    // The peer starts LCP anew and presents another name.
    let said = bench.input(LCP, REQUEST, 2, &PEER_OPTIONS);
    let (id, options) = request_in(&said, LCP);
    bench.input(LCP, ACK, id, &options);
    let said = bench.input(PAP, 1, 4, b"\x05other\x05wrong");
    let [Said::Authenticate(new, _)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(bench.verdict(old, accept()), []);
    assert!(matches!(
        bench.verdict(new, reject(b""))[..],
        [Said::Packet(PAP, 3, ..), ..]
    ));
}

#[test]
fn protocols_that_were_not_agreed_on_are_not_heard() {
    let (mut bench, _) = authenticating(AuthMethod::Pap);
    assert_eq!(bench.input(CHAP, 2, 1, &[16; 20]), []);
    assert_eq!(bench.counts, [Counter::WrongPhase]);
}

#[test]
fn without_a_network_protocol_the_link_ends() {
    let (mut bench, said) = Bench::start(open_door());
    let said = bench.open_lcp(&said);
    let [Said::Authenticate(serial, ref request)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(request.credential, Credential::None);
    let nothing = Verdict::Accept {
        ipcp: None,
        ipv6cp: None,
        message: Vec::new(),
        ms_chap_success: None,
    };
    let said = bench.verdict(serial, nothing);
    let [Said::Packet(LCP, TERMINATE, id, _)] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        bench.input(LCP, TERMINATE_ACK, id, &[]),
        [Said::Finished(Cause::NoNcp(None))]
    );
}
