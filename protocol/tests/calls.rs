//! Calls, case by case.

mod support;

use std::time::Duration;

use holdfast_protocol::avp::{Accm, CallErrors, ResultCode};
use holdfast_protocol::message::*;
use holdfast_protocol::*;
use support::scripted::*;
use support::{CLEAN, Pair, answer_id, dial, session};

const SERIAL: (bool, u16, u16, &[u8]) = (true, 0, 15, &[0, 0, 0, 1]);

fn closed_locally(events: &[Event], local: u16) -> ResultCode {
    let found = events.iter().find_map(|event| match event {
        Event::CallClosed {
            local: Some(id),
            reason: CallEnd::Local(result),
            ..
        } if id.get() == local => Some(result.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no such end: {events:?}"))
}

#[test]
fn s_39_a_repeated_icrq_makes_one_session() {
    let mut lns = Scripted::open();
    let ns = lns.ns;
    assert_eq!(icrp_id(&lns.offer(0x3003, 0x4004)), Some((0x3003, 0x4004)));
    let again = body(10, &[(true, 0, 14, &[0x30, 0x03]), SERIAL]);
    assert!(only_acknowledged(&lns.send_numbered(ns, None, &again), ns + 1));
    assert_eq!(lns.events(), []);
    assert_eq!(lns.connection.call_count(), 1);
}

#[test]
fn s_70_an_icrq_before_the_tunnel_is_open() {
    let mut lns = Scripted::lns(plain(), &sccrq()).expect("acceptable");
    lns.drain();
    // Out of order, the SCCCN is merely late: the ICRQ waits.
    let early = body(10, &[(true, 0, 14, &[0x30, 0x03]), SERIAL]);
    assert_eq!(lns.send_numbered(2, None, &early), []);
    lns.send(None, &Message::Scccn(Scccn { response: None }));
    assert!(matches!(
        lns.events()[..],
        [Event::Established, Event::CallRequested { .. }]
    ));
    // In order, it is an error.
    let mut lns = Scripted::lns(plain(), &sccrq()).expect("acceptable");
    lns.drain();
    assert_eq!(stopped(&lns.send(None, &icrq(0x3003))), (7, Some(0)));
}

#[test]
fn s_71_an_icrq_that_names_no_session_is_acknowledged_and_ignored() {
    for avps in [&[SERIAL][..], &[(true, 0, 14, &[0, 0]), SERIAL]] {
        let mut lns = Scripted::open();
        let ns = lns.ns;
        assert!(only_acknowledged(&lns.send_body(None, &body(10, avps)), ns + 1));
        assert!(matches!(lns.events()[..], [Event::Fault(_)]));
    }
}

#[test]
fn s_72_an_id_given_to_a_new_call_ends_the_old_one() {
    let mut lns = Scripted::with_call(true);
    let sent = lns.send(None, &icrq(0x3003));
    // Header session 0: the peer must find the old call by our id, not the new one by its own.
    assert_eq!(disconnected(&sent), (0, 2, Some(5)));
    let Some(Message::Cdn(cdn)) = &sent[0].message else {
        panic!()
    };
    assert_eq!(cdn.assigned_session_id, Some(session(0x4004)));
    let events = lns.events();
    assert!(matches!(
        &events[..],
        [
            Event::CallClosed {
                reason: CallEnd::Replaced,
                ..
            },
            Event::CallRequested { .. }
        ]
    ));
    lns.connection
        .accept_call(lns.now, session(0x3003), session(0x4005))
        .expect("offered");
    assert_eq!(
        lns.connection.call_of_peer(session(0x3003)),
        Some(session(0x4005))
    );
}

#[test]
fn s_73_an_icrq_with_a_session_id_is_taken() {
    let mut lns = Scripted::open();
    lns.send(Some(99), &icrq(0x3003));
    assert!(matches!(lns.events()[..], [Event::CallRequested { .. }]));
}

#[test]
fn s_74_an_iccn_for_no_session_is_acknowledged_and_ignored() {
    let mut lns = Scripted::open();
    for session in [None, Some(0x4004)] {
        let ns = lns.ns;
        assert!(only_acknowledged(&lns.send(session, &iccn()), ns + 1));
    }
    assert_eq!(lns.events(), []);
}

#[test]
fn s_75_an_iccn_without_speed_or_framing_clears_the_call() {
    let speed = (true, 0, 24, &[0, 0, 1, 0][..]);
    let framing = (true, 0, 19, &[0, 0, 0, 1][..]);
    for (avps, missing) in [
        ([speed], "AVP 0/19 is missing"),
        ([framing], "AVP 0/24 is missing"),
    ] {
        let mut lns = Scripted::with_call(false);
        let sent = lns.send_body(Some(0x4004), &body(12, &avps));
        assert_eq!(disconnected(&sent), (0x3003, 2, Some(6)));
        assert_eq!(closed_locally(&lns.events(), 0x4004).text, missing.as_bytes());
    }
    let mut lns = Scripted::open_with(Settings {
        permissive: true,
        ..plain()
    });
    lns.offer(0x3003, 0x4004);
    lns.send_body(Some(0x4004), &body(12, &[]));
    assert!(matches!(lns.events()[..], [Event::CallConnected { .. }]));
}

#[test]
fn s_76_a_second_iccn_clears_the_call() {
    let mut lns = Scripted::with_call(true);
    assert_eq!(
        disconnected(&lns.send(Some(0x4004), &iccn())),
        (0x3003, 2, Some(0))
    );
    assert_eq!(closed_locally(&lns.events(), 0x4004).text, b"Iccn in Established");
    assert_eq!(lns.connection.call_count(), 0);
}

#[test]
fn s_77_without_iccn_the_call_is_given_up() {
    let mut lns = Scripted::with_call(false);
    let ns = lns.ns;
    lns.send(None, &Message::Hello);
    assert_eq!(lns.ns, ns + 1);
    assert_eq!(lns.wait(Duration::from_secs(59)), []);
    let sent = lns.wait(Duration::from_secs(1));
    let cdn: Vec<_> = sent
        .into_iter()
        .filter(|sent| matches!(sent.message, Some(Message::Cdn(_))))
        .collect();
    assert_eq!(disconnected(&cdn), (0x3003, 10, None));
    assert_eq!(closed_locally(&lns.events(), 0x4004), ResultCode::new(10));
}

#[test]
fn s_78_a_cdn_without_session_id_is_matched_by_the_peers() {
    for connected in [false, true] {
        let mut lns = Scripted::with_call(connected);
        let ns = lns.ns;
        assert!(only_acknowledged(&lns.send(None, &cdn(Some(0x3003))), ns + 1));
        assert!(matches!(
            lns.events()[..],
            [Event::CallClosed {
                local: Some(_),
                reason: CallEnd::Peer(Some(_)),
                ..
            }]
        ));
    }
}

#[test]
fn a_request_that_is_taken_back_before_it_is_answered() {
    let mut lns = Scripted::open();
    lns.send(None, &icrq(0x3003));
    lns.send(None, &cdn(Some(0x3003)));
    assert!(matches!(
        lns.events()[..],
        [Event::CallRequested { .. }, Event::CallClosed { local: None, .. }]
    ));
    let late = lns
        .connection
        .accept_call(lns.now, session(0x3003), session(0x4004));
    assert_eq!(late, Err(CallError::Unknown));
}

#[test]
fn s_79_a_cdn_for_no_session_is_acknowledged() {
    let mut lns = Scripted::with_call(true);
    for (header, assigned) in [(Some(0x4005), None), (None, Some(0x3004)), (None, None)] {
        let ns = lns.ns;
        assert!(only_acknowledged(&lns.send(header, &cdn(assigned)), ns + 1));
    }
    assert_eq!(lns.connection.call_count(), 1);
}

#[test]
fn s_80_the_header_is_trusted_over_the_avp() {
    let mut lns = Scripted::with_call(true);
    lns.offer(0x3004, 0x4005);
    lns.send(Some(0x4004), &cdn(Some(0x3004)));
    assert_eq!(lns.connection.call(session(0x4004)), None);
    assert_eq!(
        lns.connection.call(session(0x4005)),
        Some((CallState::WaitConnect, Some(session(0x3004))))
    );
}

#[test]
fn s_81_an_outgoing_call_is_refused() {
    let mut lns = Scripted::open();
    let ocrq = Ocrq {
        assigned_session_id: session(0x3003),
        call_serial: 1,
        minimum_bps: 0,
        maximum_bps: 1,
        bearer_type: 1,
        framing_type: 1,
        called_number: b"1".to_vec(),
        sub_address: None,
    };
    assert_eq!(
        disconnected(&lns.send(None, &Message::Ocrq(ocrq))),
        (0x3003, 2, Some(6))
    );
    assert_eq!(lns.events(), []);
}

#[test]
fn s_84_wen_is_told_and_sli_ignored_at_an_lns() {
    let mut lns = Scripted::with_call(true);
    let errors = CallErrors {
        crc: 7,
        ..CallErrors::default()
    };
    for _ in 0..3 {
        let ns = lns.ns;
        assert!(only_acknowledged(
            &lns.send(Some(0x4004), &Message::Wen(Wen { errors })),
            ns + 1
        ));
        assert_eq!(
            lns.events(),
            [Event::WanErrors {
                local: session(0x4004),
                errors
            }]
        );
    }
    let accm = Accm { send: 0, receive: 0 };
    lns.send(Some(0x4004), &Message::Sli(Sli { accm }));
    assert_eq!(lns.events(), []);
    assert_eq!(lns.connection.call_count(), 1);
}

#[test]
fn a_rejected_call_is_told_why() {
    let mut lns = Scripted::open();
    lns.send(None, &icrq(0x3003));
    let cdn = Cdn::new(ResultCode::with_error(2, 7, "draining"));
    lns.connection
        .reject_call(lns.now, session(0x3003), cdn)
        .expect("offered");
    let sent = lns.drain();
    assert_eq!(disconnected(&sent), (0x3003, 2, Some(7)));
    let Some(Message::Cdn(cdn)) = &sent[0].message else {
        panic!()
    };
    assert!(cdn.assigned_session_id.is_some());
}

#[test]
fn verbs_refuse_what_is_not_there() {
    let mut lns = Scripted::with_call(false);
    let (now, cdn) = (lns.now, Cdn::new(ResultCode::new(3)));
    lns.send(None, &icrq(0x3004));
    let connection = &mut lns.connection;
    assert_eq!(
        connection.accept_call(now, session(0x3004), session(0x4004)),
        Err(CallError::InUse)
    );
    assert_eq!(
        connection.accept_call(now, session(1), session(2)),
        Err(CallError::Unknown)
    );
    assert_eq!(
        connection.reject_call(now, session(1), cdn.clone()),
        Err(CallError::Unknown)
    );
    assert_eq!(
        connection.close_call(now, session(1), cdn),
        Err(CallError::Unknown)
    );
    assert_eq!(
        connection.send_errors(session(0x4004), CallErrors::default()),
        Err(CallError::Unknown)
    );
    connection.close(now, ResultCode::new(1));
    assert_eq!(
        connection.place_call(now, session(9), dial(1)),
        Err(CallError::NotOpen)
    );
}

#[test]
fn a_misplaced_icrp_or_outgoing_message_clears_the_call() {
    let icrp = Message::Icrp(Icrp {
        assigned_session_id: session(0x3003),
    });
    let occn = Message::Occn(Occn {
        tx_speed: 1,
        framing_type: 1,
        rx_speed: None,
        sequencing_required: false,
    });
    for message in [icrp, occn] {
        for connected in [false, true] {
            let mut lns = Scripted::with_call(connected);
            assert_eq!(
                disconnected(&lns.send(Some(0x4004), &message)),
                (0x3003, 2, Some(0))
            );
        }
    }
}

#[test]
fn the_lac_gives_up_when_no_reply_comes() {
    let mut lac = Scripted::open_lac();
    lac.connection
        .place_call(lac.now, session(0x3003), dial(7))
        .expect("free");
    let sent = lac.drain();
    assert!(
        matches!(&sent[..], [Sent { message: Some(Message::Icrq(icrq)), .. }]
        if icrq.assigned_session_id == session(0x3003))
    );
    lac.send(None, &Message::Hello);
    let sent = lac.wait(Duration::from_secs(60));
    let cdn: Vec<_> = sent
        .into_iter()
        .filter(|sent| matches!(sent.message, Some(Message::Cdn(_))))
        .collect();
    assert_eq!(disconnected(&cdn), (0, 10, None));
}

#[test]
fn link_info_reaches_the_lac() {
    let mut pair = Pair::new(plain(), plain(), CLEAN, 1);
    pair.lac.place_call(pair.now, session(5), dial(5)).expect("free");
    pair.run_for(Duration::from_secs(2));
    let accm = Accm { send: 1, receive: 2 };
    pair.lns()
        .send_link_info(answer_id(session(5)), accm)
        .expect("connected");
    pair.lac
        .send_errors(
            session(5),
            CallErrors {
                timeouts: 3,
                ..CallErrors::default()
            },
        )
        .expect("connected");
    pair.run_for(Duration::from_secs(1));
    assert_eq!(
        pair.count(|event| *event
            == Event::SetLinkInfo {
                local: session(5),
                accm
            }),
        1
    );
    assert_eq!(pair.count(|event| matches!(event, Event::WanErrors { .. })), 1);
}
