//! Proxy LCP and proxy authentication (RFC 2661 §4.4.5).

use holdfast_ppp::{AuthMethod, Counter, Credential, LinkConfig, Proxy, Secret};

use crate::bench::*;

/// MRU 1456, CHAP with MD5, magic number.
const SENT_CHAP: [u8; 15] = [
    1, 4, 0x05, 0xb0, 3, 5, 0xc2, 0x23, 5, 5, 6, 0xaa, 0xbb, 0xcc, 0xdd,
];
const SENT_PAP: [u8; 14] = [1, 4, 0x05, 0xb0, 3, 4, 0xc0, 0x23, 5, 6, 0xaa, 0xbb, 0xcc, 0xdd];

fn config() -> LinkConfig {
    LinkConfig {
        auth: vec![AuthMethod::ChapMd5, AuthMethod::Pap],
        ..LinkConfig::default()
    }
}

/// What a LAC hands over of a CHAP user: id 7, password "secret".
fn chap() -> Proxy {
    Proxy {
        initial_received: Some(PEER_OPTIONS.to_vec()),
        last_sent: Some(SENT_CHAP.to_vec()),
        last_received: Some(PEER_OPTIONS.to_vec()),
        authen_type: Some(2),
        authen_name: Some(b"user".to_vec()),
        authen_challenge: Some(0x00112233445566778899aabbccddeeff_u128.to_be_bytes().to_vec()),
        authen_id: Some(7),
        authen_response: Some(Secret::new(0x15c1682eb7ac3daca85d727884af20a0_u128.to_be_bytes())),
    }
}

fn pap() -> Proxy {
    Proxy {
        last_sent: Some(SENT_PAP.to_vec()),
        authen_type: Some(3),
        authen_challenge: None,
        authen_id: Some(3),
        authen_response: Some(Secret::new(*b"secret")),
        ..chap()
    }
}

fn is_lcp_request(said: &[Said]) -> bool {
    matches!(said, [Said::Packet(LCP, REQUEST, ..)])
}

#[test]
fn what_the_lac_has_done_stands_and_the_answer_has_the_identifier_of_the_lac() {
    for (proxy, method, answer) in [
        (chap(), AuthMethod::ChapMd5, packet(CHAP, 3, 7, b"")),
        (pap(), AuthMethod::Pap, packet(PAP, 2, 3, b"\0")),
    ] {
        let (mut bench, said) = Bench::start_with(config(), Some(&proxy));
        let [Said::Authenticate(serial, request)] = &said[..] else {
            panic!("{said:?}")
        };
        assert_eq!(
            (&request.name[..], request.credential.method()),
            (&b"user"[..], Some(method))
        );
        assert!(request.verify(&Secret::new(*b"secret")).is_some());
        let said = bench.verdict(*serial, accept());
        assert_eq!(said[0], answer);
        let (id, options) = request_in(&said, IPCP);
        bench.input(IPCP, ACK, id, &options);
        let said = bench.input(IPCP, REQUEST, 1, &GOOD_IPCP);
        let [Said::Open(_, row)] = &said[..] else {
            panic!("{said:?}")
        };
        assert_eq!((row.local_magic, row.peer_magic), (0xaabb_ccdd, PEER_MAGIC));
        assert_eq!(
            (row.local_mru, row.peer_mru, row.auth),
            (1456, 1492, Some(method))
        );
    }
}

#[test]
fn echoes_carry_the_magic_that_the_lac_agreed_on() {
    let (mut bench, _) = Bench::start_with(config(), Some(&chap()));
    let said = bench.input(LCP, ECHO, 1, &PEER_MAGIC.to_be_bytes());
    assert_eq!(said, [packet(LCP, ECHO_REPLY, 1, &[0xaa, 0xbb, 0xcc, 0xdd])]);
}

#[test]
fn s_132_proxy_lcp_that_does_not_parse_or_fit_is_renegotiated() {
    let with = |sent: &[u8], received: &[u8]| Proxy {
        last_sent: Some(sent.to_vec()),
        last_received: Some(received.to_vec()),
        ..chap()
    };
    let multilink = [&SENT_CHAP[..], &[17, 4, 5, 0xdc]].concat();
    for (why, proxy) in [
        (
            "only 27",
            Proxy {
                last_received: None,
                ..chap()
            },
        ),
        (
            "only 28",
            Proxy {
                last_sent: None,
                ..chap()
            },
        ),
        ("27 does not parse", with(&[1, 9, 5], &PEER_OPTIONS)),
        ("28 does not parse", with(&SENT_CHAP, &[5, 0])),
        (
            "an option that we would not send",
            with(&multilink, &PEER_OPTIONS),
        ),
        (
            "an option that we would reject",
            with(&SENT_CHAP, &[17, 4, 5, 0xdc]),
        ),
        ("a value that we would nak", with(&SENT_CHAP, &[1, 4, 0, 1])),
        ("both magic numbers equal", with(&SENT_CHAP, &SENT_CHAP[9..])),
        (
            "no authentication where policy wants it",
            with(&SENT_CHAP[9..], &PEER_OPTIONS),
        ),
        (
            "MS-CHAPv2 where policy does not want it",
            with(&[3, 5, 0xc2, 0x23, 0x81], &PEER_OPTIONS),
        ),
        (
            "an MRU beyond our means",
            with(&[&[1, 4, 0x23, 0x28], &SENT_CHAP[4..]].concat(), &PEER_OPTIONS),
        ),
    ] {
        let (bench, said) = Bench::start_with(config(), Some(&proxy));
        assert!(is_lcp_request(&said), "{why}: {said:?}");
        assert_eq!(bench.counts, [Counter::ProxyLcpRefused], "{why}");
    }
}

#[test]
fn s_133_proxy_authentication_that_is_not_complete_is_done_again() {
    for (why, proxy) in [
        (
            "no challenge",
            Proxy {
                authen_challenge: None,
                ..chap()
            },
        ),
        (
            "an empty challenge",
            Proxy {
                authen_challenge: Some(Vec::new()),
                ..chap()
            },
        ),
        (
            "no identifier",
            Proxy {
                authen_id: None,
                ..chap()
            },
        ),
        (
            "no name",
            Proxy {
                authen_name: None,
                ..chap()
            },
        ),
        (
            "a name beyond measure",
            Proxy {
                authen_name: Some(vec![b'n'; 256]),
                ..chap()
            },
        ),
        (
            "a response of the wrong length",
            Proxy {
                authen_response: Some(Secret::new([0; 15])),
                ..chap()
            },
        ),
        (
            "type 6",
            Proxy {
                authen_type: Some(6),
                ..chap()
            },
        ),
        (
            "type 65535",
            Proxy {
                authen_type: Some(65535),
                ..chap()
            },
        ),
        (
            "PAP where LCP says CHAP",
            Proxy {
                authen_type: Some(3),
                ..chap()
            },
        ),
    ] {
        let (bench, said) = Bench::start_with(config(), Some(&proxy));
        assert!(matches!(said[..], [Said::Packet(CHAP, 1, ..)]), "{why}: {said:?}");
        assert_eq!(bench.counts, [Counter::ProxyAuthRefused], "{why}");
    }
}

#[test]
fn s_134_proxy_authentication_of_type_none_authenticates_nobody() {
    let none = Proxy {
        authen_type: Some(4),
        ..chap()
    };
    let (_, said) = Bench::start_with(config(), Some(&none));
    assert!(matches!(said[..], [Said::Packet(CHAP, 1, ..)]), "{said:?}");

    // Where policy wants no name there is none, whatever the LAC says.
    let open = Proxy {
        last_sent: Some(SENT_CHAP[9..].to_vec()),
        ..none
    };
    let (_, said) = Bench::start_with(open_door(), Some(&open));
    let [Said::Authenticate(_, request)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (&request.name[..], &request.credential),
        (&b""[..], &Credential::None)
    );
}

#[test]
fn without_the_word_of_policy_nothing_stands() {
    let (_, said) = Bench::start_with(
        LinkConfig {
            accept_proxy: false,
            ..config()
        },
        Some(&chap()),
    );
    assert!(is_lcp_request(&said));
}

#[test]
fn a_client_that_starts_anew_is_negotiated_with_from_scratch() {
    let (mut bench, said) = Bench::start_with(config(), Some(&chap()));
    let [Said::Authenticate(serial, _)] = said[..] else {
        panic!("{said:?}")
    };
    let said = bench.input(LCP, REQUEST, 9, &PEER_OPTIONS);
    let (id, options) = request_in(&said, LCP);
    let said = bench.input(LCP, ACK, id, &options);
    assert!(matches!(said[..], [Said::Packet(CHAP, 1, ..)]), "{said:?}");
    assert_eq!(bench.verdict(serial, accept()), []);
}
