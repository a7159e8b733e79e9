//! Malformed and unknown input: what each calls for (RFC 2661 §4.1), through a whole connection.

mod support;

use holdfast_protocol::avp::{Avp, Context, FaultKind, Hiding, hide};
use holdfast_protocol::header::ControlHeader;
use holdfast_protocol::iana::attribute;
use holdfast_protocol::message::*;
use holdfast_protocol::*;
use support::scripted::*;
use support::{session, tunnel};

const SESSION: (bool, u16, u16, &[u8]) = (true, 0, 14, &[0x30, 0x03]);
const SERIAL: (bool, u16, u16, &[u8]) = (true, 0, 15, &[0, 0, 0, 1]);
const SPEED: (bool, u16, u16, &[u8]) = (true, 0, 24, &[0, 0, 1, 0]);
const FRAMING: (bool, u16, u16, &[u8]) = (true, 0, 19, &[0, 0, 0, 1]);
const UNKNOWN: (bool, u16, u16, &[u8]) = (true, 0, 999, b"?");

fn decode(octets: &[u8]) -> Result<Message, FaultKind> {
    Message::decode(octets, &Context::default()).map_err(|fault| fault.kind)
}

fn with_tail(mut octets: Vec<u8>, tail: &[u8]) -> Vec<u8> {
    octets.extend_from_slice(tail);
    octets
}

#[test]
fn s_50_s_51_an_avp_of_impossible_length_ends_tunnel_or_session() {
    let short = [0x00, 0x05, 0, 0, 0, 99];
    let beyond = [0x00, 0x40, 0, 0, 0, 99, 1, 2, 3];
    for tail in [&short[..], &beyond[..], &[0; 6]] {
        let mut lns = Scripted::open();
        assert_eq!(
            stopped(&lns.send_body(None, &with_tail(body(6, &[]), tail))),
            (2, Some(2))
        );
        let mut lns = Scripted::with_call(false);
        let iccn = with_tail(body(12, &[SPEED, FRAMING]), tail);
        assert_eq!(
            disconnected(&lns.send_body(Some(0x4004), &iccn)),
            (0x3003, 2, Some(2))
        );
        assert_eq!(lns.connection.call_count(), 0);
        assert_eq!(lns.connection.state(), State::Established);
    }
}

#[test]
fn s_52_leftover_octets_are_tolerated_behind_all_that_is_required() {
    for count in 1..6 {
        let tail = vec![0xff; count];
        assert!(decode(&with_tail(body(12, &[SPEED, FRAMING]), &tail)).is_ok());
        assert_eq!(
            decode(&with_tail(body(12, &[SPEED]), &tail)),
            Err(FaultKind::Truncated)
        );
    }
}

#[test]
fn s_53_an_unknown_avp_without_m_is_ignored() {
    let mut lns = Scripted::with_call(false);
    let optional = (false, 0, 999, &b"?"[..]);
    lns.send_body(Some(0x4004), &body(12, &[optional, SPEED, FRAMING]));
    assert!(matches!(lns.events()[..], [Event::CallConnected { .. }]));
}

#[test]
fn s_54_an_unknown_mandatory_avp_clears_the_session_alone() {
    let mut lns = Scripted::with_call(false);
    let sent = lns.send_body(Some(0x4004), &body(12, &[UNKNOWN, SPEED, FRAMING]));
    assert_eq!(disconnected(&sent), (0x3003, 2, Some(8)));
    let Some(Message::Cdn(cdn)) = &sent[0].message else {
        panic!()
    };
    assert_eq!(cdn.result.text, b"AVP 0/999");
    assert_eq!(cdn.assigned_session_id, Some(session(0x4004)));

    // An ICRQ is answered though the id comes after the fault.
    let sent = lns.send_body(None, &body(10, &[UNKNOWN, SESSION, SERIAL]));
    assert_eq!(disconnected(&sent), (0x3003, 2, Some(8)));

    let mut lns = Scripted::with_call(true);
    let sent = lns.send_body(Some(0x4004), &body(15, &[UNKNOWN]));
    assert_eq!(disconnected(&sent), (0x3003, 2, Some(8)));

    // A CDN was clearing it anyway.
    let mut lns = Scripted::with_call(true);
    let ns = lns.ns;
    let sent = lns.send_body(Some(0x4004), &body(14, &[UNKNOWN, SESSION]));
    assert!(only_acknowledged(&sent, ns + 1));
    assert_eq!(lns.connection.call_count(), 0);
    assert!(lns.events().iter().any(|event| matches!(
        event,
        Event::CallClosed {
            reason: CallEnd::Peer(None),
            ..
        }
    )));
    assert_eq!(lns.connection.state(), State::Established);
}

#[test]
fn s_55_an_unknown_mandatory_avp_of_a_tunnel_message_clears_the_tunnel() {
    let mut lns = Scripted::with_call(true);
    assert_eq!(stopped(&lns.send_body(None, &body(6, &[UNKNOWN]))), (2, Some(8)));
    let mut lns = Scripted::lns(plain(), &sccrq()).expect("acceptable");
    lns.drain();
    assert_eq!(stopped(&lns.send_body(None, &body(3, &[UNKNOWN]))), (2, Some(8)));
    let mut lac = Scripted::lac(plain());
    lac.drain();
    let sccrp = body(2, &[UNKNOWN, (true, 0, 9, &[0x20, 0x02])]);
    let sent = lac.send_body(None, &sccrp);
    assert_eq!(stopped(&sent), (2, Some(8)));
    assert_eq!(
        sent[0].header.tunnel,
        Some(tunnel(0x2002)),
        "the faulty SCCRP said where to"
    );
}

#[test]
fn s_56_vendors_avps_count_as_unknown_unless_permitted() {
    let vendor = (true, 9, 1, &b"x"[..]);
    let octets = body(12, &[vendor, SPEED, FRAMING]);
    assert_eq!(
        decode(&octets),
        Err(FaultKind::UnknownMandatory {
            vendor: 9,
            attribute: 1
        })
    );
    let permissive = Context {
        permissive: true,
        ..Context::default()
    };
    assert!(Message::decode(&octets, &permissive).is_ok());
    let mut lns = Scripted::open_with(Settings {
        permissive: true,
        ..plain()
    });
    assert_eq!(lns.send_body(None, &body(6, &[vendor])).len(), 1);
    assert_eq!(lns.connection.state(), State::Established);
}

#[test]
fn s_57_reserved_bits_make_an_avp_unknown() {
    for (mandatory, expected) in [(true, false), (false, true)] {
        let mut octets = body(12, &[SPEED, FRAMING]);
        let value = &[0, 0, 0, 1];
        Avp {
            mandatory,
            hidden: false,
            reserved: true,
            vendor: 0,
            attribute: 38,
            value,
        }
        .encode(&mut octets);
        assert_eq!(decode(&octets).is_ok(), expected);
        if let Ok(Message::Iccn(iccn)) = decode(&octets) {
            assert_eq!(iccn.rx_speed, None);
        }
    }
}

#[test]
fn s_58_message_type_comes_first_and_once() {
    let mut lns = Scripted::open();
    let ns = lns.ns;
    let sent = lns.send_body(None, &[0x80, 8, 0, 0, 0, 9, 1, 1]);
    assert_eq!(stopped(&sent), (2, Some(3)));
    assert_eq!(sent[0].header.nr, ns + 1, "it is acknowledged all the same");
    let twice = body(6, &[(true, 0, 0, &[0, 4])]);
    assert_eq!(decode(&twice), Ok(Message::Hello));
}

#[test]
fn s_59_unknown_message_types() {
    let mut lns = Scripted::open();
    assert_eq!(stopped(&lns.send_body(None, &body(99, &[]))), (2, Some(8)));
    for wire in [21, 22, 28, 29] {
        let mut lns = Scripted::open();
        let mut octets = body(wire, &[]);
        octets[0] &= 0x7f;
        let ns = lns.ns;
        assert!(only_acknowledged(&lns.send_body(None, &octets), ns + 1));
        assert_eq!(lns.events(), []);
    }
}

#[test]
fn s_60_a_known_avp_of_wrong_length_goes_by_m() {
    let optional = (false, 0, 38, &[0, 1][..]);
    let Ok(Message::Iccn(iccn)) = decode(&body(12, &[SPEED, FRAMING, optional])) else {
        panic!()
    };
    assert_eq!(iccn.rx_speed, None);
    let mut lns = Scripted::with_call(false);
    let mandatory = (true, 0, 38, &[0, 1][..]);
    let sent = lns.send_body(Some(0x4004), &body(12, &[SPEED, FRAMING, mandatory]));
    assert_eq!(disconnected(&sent), (0x3003, 2, Some(2)));
}

#[test]
fn s_61_m_of_a_known_avp_does_not_matter() {
    let flipped = [
        (false, 0, 24, &[0, 0, 1, 0][..]),
        (false, 0, 19, &[0, 0, 0, 1]),
        (true, 0, 38, &[0, 0, 0, 9]),
    ];
    let Ok(Message::Iccn(iccn)) = decode(&body(12, &flipped)) else {
        panic!()
    };
    assert_eq!(iccn.rx_speed, Some(9));
}

/// An ICCN with the named attribute hidden.
fn hidden_iccn(mandatory: bool, attribute: u16, with_vector: bool) -> Vec<u8> {
    let vector = (true, 0, attribute::RANDOM_VECTOR, &[7; 16][..]);
    let mut octets = if with_vector {
        body(12, &[vector, SPEED, FRAMING])
    } else {
        body(12, &[SPEED, FRAMING])
    };
    let value = hide(attribute, &[0, 0, 0, 9], 0, &secret(), &[7; 16]);
    Avp {
        mandatory,
        hidden: true,
        reserved: false,
        vendor: 0,
        attribute,
        value: &value,
    }
    .encode(&mut octets);
    octets
}

fn rx_speed(octets: &[u8], secret: Option<&Secret>) -> Result<Option<u32>, FaultKind> {
    match Message::decode(
        octets,
        &Context {
            secret,
            permissive: false,
        },
    ) {
        Ok(Message::Iccn(iccn)) => Ok(iccn.rx_speed),
        Ok(other) => panic!("{other:?}"),
        Err(fault) => Err(fault.kind),
    }
}

#[test]
fn s_62_hidden_without_secret_or_random_vector_goes_by_m() {
    let secret = secret();
    assert_eq!(rx_speed(&hidden_iccn(true, 38, true), Some(&secret)), Ok(Some(9)));
    assert_eq!(rx_speed(&hidden_iccn(false, 38, true), None), Ok(None));
    assert_eq!(rx_speed(&hidden_iccn(false, 38, false), Some(&secret)), Ok(None));
    let no_secret = rx_speed(&hidden_iccn(true, 38, true), None).expect_err("M");
    assert_eq!(
        no_secret.to_string(),
        "hidden AVP 0/38: no shared secret is configured"
    );
    assert!(rx_speed(&hidden_iccn(true, 38, false), Some(&secret)).is_err());
}

#[test]
fn s_63_an_inner_length_beyond_the_data_goes_by_m() {
    let wrong = Secret::new("another");
    assert_eq!(rx_speed(&hidden_iccn(false, 38, true), Some(&wrong)), Ok(None));
    let fault = rx_speed(&hidden_iccn(true, 38, true), Some(&wrong)).expect_err("M");
    assert!(fault.to_string().contains("is the secret right?"));
}

#[test]
fn s_64_what_must_not_be_hidden_goes_by_m() {
    let secret = secret();
    assert_eq!(rx_speed(&hidden_iccn(false, 39, true), Some(&secret)), Ok(None));
    let fault = rx_speed(&hidden_iccn(true, 39, true), Some(&secret));
    assert_eq!(fault, Err(FaultKind::HiddenForbidden { attribute: 39 }));
    let mut octets = body(6, &[]);
    octets[0] |= 0x40;
    assert_eq!(decode(&octets), Err(FaultKind::NoMessageType));
}

#[test]
fn s_65_the_nearest_random_vector_counts() {
    let secret = secret();
    let mut octets = body(12, &[SPEED, FRAMING]);
    for (vector, attribute, value) in [([1; 16], 38, [0, 0, 0, 1]), ([2; 16], 25, [0, 0, 0, 2])] {
        let random = Avp {
            mandatory: true,
            hidden: false,
            reserved: false,
            vendor: 0,
            attribute: attribute::RANDOM_VECTOR,
            value: &vector,
        };
        random.encode(&mut octets);
        let hidden = hide(attribute, &value, 3, &secret, &vector);
        Avp {
            mandatory: true,
            hidden: true,
            attribute,
            value: &hidden,
            ..random
        }
        .encode(&mut octets);
    }
    assert_eq!(rx_speed(&octets, Some(&secret)), Ok(Some(1)));
}

#[test]
fn s_66_a_known_avp_out_of_place_is_ignored() {
    let mut lns = Scripted::open();
    let stray = (true, 0, 26, &[1, 4, 5, 0xd4][..]);
    lns.send_body(None, &body(10, &[stray, SESSION, SERIAL]));
    assert!(matches!(lns.events()[..], [Event::CallRequested { .. }]));
}

#[test]
fn s_67_the_first_of_two_counts() {
    let second = (true, 0, 24, &[0, 0, 2, 0][..]);
    let Ok(Message::Iccn(iccn)) = decode(&body(12, &[SPEED, FRAMING, second])) else {
        panic!()
    };
    assert_eq!(iccn.tx_speed, 0x100);
}

#[test]
fn s_68_any_result_code_is_taken() {
    let mut lns = Scripted::with_call(true);
    let odd = (true, 0, 1, &[0, 2, 0, 6, 0xff, 0xfe][..]);
    lns.send_body(Some(0x4004), &body(14, &[odd, SESSION]));
    let events = lns.events();
    let [
        Event::CallClosed {
            reason: CallEnd::Peer(Some(cdn)),
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(cdn.result.text, [0xff, 0xfe]);
    let mut lns = Scripted::open();
    lns.send_body(None, &body(4, &[(true, 0, 1, &[0, 1])]));
    assert_eq!(lns.connection.state(), State::Closed);
}

#[test]
fn s_43_a_message_beyond_use_is_acknowledged_before_the_tunnel_goes() {
    let mut lns = Scripted::open();
    let ns = lns.ns;
    let sent = lns.send_body(None, &[0xff; 3]);
    assert_eq!(stopped(&sent), (2, Some(2)));
    assert_eq!(sent[0].header.nr, ns + 1);
}

#[test]
fn hidden_avps_of_an_sccrq_are_read_in_two_passes() {
    let secret = secret();
    let sccrq = Sccrq {
        challenge: Some(vec![3; 16]),
        bearer: Some(1),
        ..sccrq()
    };
    let hiding = Hiding {
        secret: secret.clone(),
        random_vector: vec![9; 16],
        attributes: vec![
            attribute::ASSIGNED_TUNNEL_ID,
            attribute::CHALLENGE,
            attribute::HOST_NAME,
        ],
        padding: 5,
    };
    let header = ControlHeader {
        tunnel: None,
        session: None,
        ns: 0,
        nr: 0,
    };
    let datagram = Message::Sccrq(sccrq.clone()).encode(header, Some(&hiding));
    let octets = &datagram[12..];
    assert_eq!(Sccrq::peek_host_name(octets), Some(&b"lac1"[..]));
    let context = Context {
        secret: Some(&secret),
        permissive: false,
    };
    assert_eq!(Message::decode(octets, &context), Ok(Message::Sccrq(sccrq)));
    assert!(Message::decode(octets, &Context::default()).is_err());
}
