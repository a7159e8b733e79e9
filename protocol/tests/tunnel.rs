//! Setup and end of a tunnel, case by case.

mod support;

use std::time::Duration;

use holdfast_protocol::avp::{Context, Fault, Reaction, ResultCode};
use holdfast_protocol::iana::MessageType;
use holdfast_protocol::message::*;
use holdfast_protocol::*;
use support::scripted::*;
use support::{CLEAN, Pair, Side, dial, session, tunnel};

const VERSION: (bool, u16, u16, &[u8]) = (true, 0, 2, &[1, 0]);
const FRAMING: (bool, u16, u16, &[u8]) = (true, 0, 3, &[0, 0, 0, 3]);
const HOST: (bool, u16, u16, &[u8]) = (true, 0, 7, b"lac1");
const TUNNEL: (bool, u16, u16, &[u8]) = (true, 0, 9, &[0x10, 0x01]);

fn sccrq_fault(avps: &[(bool, u16, u16, &[u8])]) -> Fault {
    Message::decode(&body(1, avps), &Context::default()).expect_err("a fault")
}

fn stop_of(fault: &Fault) -> (u16, Option<u16>) {
    match fault.reaction() {
        Reaction::StopTunnel(result) => (result.result, result.error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn s_14_assigned_tunnel_id_zero_is_dropped() {
    let fault = sccrq_fault(&[VERSION, FRAMING, HOST, (true, 0, 9, &[0, 0])]);
    assert_eq!(fault.reaction(), Reaction::Drop);
    assert_eq!(Refusal::of_fault(tunnel(5), &fault), None);
}

#[test]
fn s_15_missing_avps_are_named() {
    assert_eq!(sccrq_fault(&[VERSION, FRAMING, HOST]).reaction(), Reaction::Drop);
    let cases: [(&[_], &str); 3] = [
        (&[FRAMING, HOST, TUNNEL], "AVP 0/2 is missing"),
        (&[VERSION, HOST, TUNNEL], "AVP 0/3 is missing"),
        (&[VERSION, FRAMING, TUNNEL], "AVP 0/7 is missing"),
    ];
    for (avps, text) in cases {
        let fault = sccrq_fault(avps);
        let refusal = Refusal::of_fault(tunnel(5), &fault).expect("addressable");
        assert_eq!(refused(&refusal), (tunnel(0x1001), 2, Some(6)));
        assert_eq!(refusal.result.text, text.as_bytes());
    }
    let permissive = Context {
        permissive: true,
        ..Context::default()
    };
    assert!(Message::decode(&body(1, &[VERSION, HOST, TUNNEL]), &permissive).is_ok());
}

#[test]
fn s_16_other_protocol_versions_are_refused_later_revisions_taken() {
    let fault = sccrq_fault(&[(true, 0, 2, &[2, 0]), FRAMING, HOST, TUNNEL]);
    assert_eq!(stop_of(&fault), (5, Some(1)));
    let later = body(1, &[(true, 0, 2, &[1, 9]), FRAMING, HOST, TUNNEL]);
    assert!(Message::decode(&later, &Context::default()).is_ok());
}

#[test]
fn s_17_host_names_are_octets_but_not_empty() {
    let fault = sccrq_fault(&[VERSION, FRAMING, (true, 0, 7, b""), TUNNEL]);
    assert_eq!(stop_of(&fault), (2, Some(2)));
    let long = [0xff; 1000];
    for name in [&long[..], b"\0\x1b\xfe"] {
        let octets = body(1, &[VERSION, FRAMING, (true, 0, 7, name), TUNNEL]);
        assert_eq!(Sccrq::peek_host_name(&octets), Some(name));
        let Ok(Message::Sccrq(sccrq)) = Message::decode(&octets, &Context::default()) else {
            panic!()
        };
        assert_eq!(sccrq.host_name, name);
    }
    let unknown = Refusal::new(tunnel(5), tunnel(0x1001), ResultCode::new(4));
    assert_eq!(refused(&unknown), (tunnel(0x1001), 4, None));
}

#[test]
fn s_18_a_window_of_zero_is_refused() {
    let fault = sccrq_fault(&[VERSION, FRAMING, HOST, TUNNEL, (true, 0, 10, &[0, 0])]);
    assert_eq!(stop_of(&fault), (2, Some(3)));
}

#[test]
fn s_19_a_challenge_without_a_secret_is_refused() {
    let sccrq = Sccrq {
        challenge: Some(vec![1; 16]),
        ..sccrq()
    };
    let refusal = Scripted::lns(plain(), &sccrq).err().expect("refused");
    assert_eq!(refused(&refusal), (tunnel(0x1001), 4, Some(0)));
    let mut lac = Scripted::lac(plain());
    lac.drain();
    let sccrp = Sccrp {
        challenge: Some(vec![1; 16]),
        ..sccrp()
    };
    assert_eq!(stopped(&lac.send(None, &Message::Sccrp(sccrp))), (4, Some(0)));
}

#[test]
fn s_20_a_challenge_must_be_answered_rightly() {
    for response in [None, Some([0; 16])] {
        let mut lns = Scripted::lns(challenging(), &sccrq()).expect("acceptable");
        lns.drain();
        assert_eq!(
            stopped(&lns.send(None, &Message::Scccn(Scccn { response }))),
            (4, Some(0))
        );
        assert!(matches!(lns.events()[..], [Event::Closed(CloseReason::Local(_))]));
    }
    let mut lns = Scripted::lns(challenging(), &sccrq()).expect("acceptable");
    lns.drain();
    assert_eq!(
        stopped(&lns.send_body(None, &body(3, &[(true, 0, 13, &[0; 15])]))),
        (2, Some(2))
    );
    let mut lns = Scripted::lns(challenging(), &sccrq()).expect("acceptable");
    let scccn = response_to(&lns.drain(), &secret());
    lns.send(None, &Message::Scccn(scccn));
    assert_eq!(lns.events(), [Event::Established]);
}

#[test]
fn s_20_an_lns_that_cannot_prove_itself_is_refused() {
    let mut lac = Scripted::lac(challenging());
    lac.drain();
    let sccrp = Sccrp {
        response: Some([0; 16]),
        ..sccrp()
    };
    assert_eq!(stopped(&lac.send(None, &Message::Sccrp(sccrp))), (4, Some(0)));
}

#[test]
fn s_21_a_mirrored_challenge_and_a_response_for_another_message_fail() {
    // The peer sends us our own challenge and hands our response back.
    let mirrored = Sccrq {
        challenge: Some(vec![0x5a; 16]),
        ..sccrq()
    };
    let mut lns = Scripted::lns(challenging(), &mirrored).expect("acceptable");
    let sent = lns.drain();
    let [
        Sent {
            message: Some(Message::Sccrp(sccrp)),
            ..
        },
    ] = &sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_eq!(
        sccrp.response,
        Some(challenge::response(MessageType::Sccrp, &secret(), &[0x5a; 16]))
    );
    let scccn = Scccn {
        response: sccrp.response,
    };
    assert_eq!(stopped(&lns.send(None, &Message::Scccn(scccn))), (4, Some(0)));
}

#[test]
fn s_22_the_higher_tie_breaker_gives_way() {
    let with = |tie_breaker| Settings {
        tie_breaker,
        ..plain()
    };
    let peer = |tie_breaker| Sccrq {
        tie_breaker,
        ..sccrq()
    };
    let cases = [
        (Some(9), Some(3), Tie::Lost, true),
        (Some(3), Some(9), Tie::Won, false),
        (Some(3), Some(3), Tie::BothLost, true),
        (None, None, Tie::Independent, false),
        (None, Some(1), Tie::Lost, true),
        (Some(1), None, Tie::Won, false),
    ];
    for (ours, theirs, tie, gone) in cases {
        let mut lac = Scripted::lac(with(ours));
        assert_eq!(lac.connection.resolve_tie(lac.now, &peer(theirs)), tie);
        assert_eq!(lac.connection.is_finished(), gone, "{ours:?} {theirs:?}");
        let events = lac.events();
        assert_eq!(events.contains(&Event::Closed(CloseReason::TieLost)), gone);
        assert_eq!(events.contains(&Event::Finished), gone);
    }
}

#[test]
fn s_23_sccrp_to_the_answering_side_is_a_state_error() {
    let mut lns = Scripted::lns(plain(), &sccrq()).expect("acceptable");
    lns.drain();
    assert_eq!(stopped(&lns.send(None, &Message::Sccrp(sccrp()))), (7, Some(0)));
}

#[test]
fn s_24_a_second_scccn_is_an_error_and_a_repeated_one_is_not() {
    let mut lns = Scripted::open();
    let scccn = body(3, &[]);
    assert!(only_acknowledged(&lns.send_numbered(1, None, &scccn), 2));
    assert_eq!(lns.connection.state(), State::Established);
    assert_eq!(stopped(&lns.send_body(None, &scccn)), (7, Some(0)));
}

#[test]
fn s_25_without_scccn_the_tunnel_is_given_up() {
    let mut lns = Scripted::lns(plain(), &sccrq()).expect("acceptable");
    lns.drain();
    // The SCCRP is acknowledged, but the SCCCN never comes.
    let zlb = header::ControlHeader {
        tunnel: None,
        session: None,
        ns: 1,
        nr: 1,
    }
    .encode(0);
    lns.connection.handle_input(lns.now, &zlb).expect("valid");
    assert_eq!(lns.wait(Duration::from_secs(59)), []);
    assert_eq!(stopped(&lns.wait(Duration::from_secs(1))), (1, Some(0)));
    assert!(matches!(lns.events()[..], [Event::Closed(CloseReason::Local(_))]));
}

#[test]
fn s_26_stopccn_with_tunnel_id_zero_ends_a_half_open_tunnel() {
    let mut lns = Scripted::lns(plain(), &sccrq()).expect("acceptable");
    lns.drain();
    let stop = StopCcn {
        assigned_tunnel_id: Some(tunnel(0x1001)),
        result: ResultCode::new(6),
    };
    let header = header::ControlHeader {
        tunnel: None,
        session: None,
        ns: 1,
        nr: 0,
    };
    let datagram = Message::StopCcn(stop).encode(header, None);
    lns.connection.handle_input(lns.now, &datagram).expect("valid");
    assert_eq!(
        lns.events(),
        [Event::Closed(CloseReason::Peer(Some(ResultCode::new(6))))]
    );
    assert!(only_acknowledged(&lns.drain(), 2));
}

#[test]
fn s_27_a_closed_tunnel_acknowledges_for_31_seconds() {
    let mut lns = Scripted::open();
    let stop = body(4, &[(true, 0, 9, &[0x10, 0x01]), (true, 0, 1, &[0, 1])]);
    let ns = lns.ns;
    assert!(only_acknowledged(&lns.send_body(None, &stop), ns + 1));
    assert_eq!(lns.connection.state(), State::Closed);
    lns.wait(Duration::from_secs(30));
    assert!(only_acknowledged(&lns.send_numbered(ns, None, &stop), ns + 1));
    lns.events();
    lns.wait(Duration::from_secs(1));
    assert_eq!(lns.events(), [Event::Finished]);
    assert!(lns.connection.is_finished());
    let zlb = header::ControlHeader {
        tunnel: None,
        session: None,
        ns: 1,
        nr: 1,
    }
    .encode(0);
    assert_eq!(lns.connection.handle_input(lns.now, &zlb), Err(DropReason::Gone));
}

#[test]
fn s_28_a_stopccn_with_another_tunnel_id_is_obeyed() {
    let mut lns = Scripted::open();
    let stop = StopCcn {
        assigned_tunnel_id: Some(tunnel(0x7777)),
        result: ResultCode::new(1),
    };
    lns.send(None, &Message::StopCcn(stop));
    assert_eq!(
        lns.events(),
        [Event::Closed(CloseReason::Peer(Some(ResultCode::new(1))))]
    );
}

#[test]
fn a_local_close_is_retransmitted_and_then_forgotten() {
    let mut lns = Scripted::open();
    lns.connection.close(lns.now, ResultCode::new(6));
    assert_eq!(stopped(&lns.drain()), (6, None));
    assert_eq!(lns.connection.state(), State::Closing);
    let again = lns.wait(Duration::from_secs(31));
    assert_eq!(again.len(), 5);
    let events = lns.events();
    assert_eq!(
        events,
        [
            Event::Closed(CloseReason::Local(ResultCode::new(6))),
            Event::Finished
        ]
    );
}

#[test]
fn hello_after_a_minute_of_silence_and_death_of_a_silent_peer() {
    let mut lns = Scripted::open();
    assert_eq!(lns.wait(Duration::from_secs(59)), []);
    lns.connection.note_received(lns.now);
    assert_eq!(lns.wait(Duration::from_secs(59)), []);
    let hello = lns.wait(Duration::from_secs(1));
    assert!(matches!(
        hello[..],
        [Sent {
            message: Some(Message::Hello),
            ..
        }]
    ));
    assert_eq!(lns.wait(Duration::from_secs(30)).len(), 5);
    assert_eq!(lns.events(), []);
    lns.wait(Duration::from_secs(1));
    assert_eq!(
        lns.events(),
        [Event::Closed(CloseReason::NoAnswer), Event::Finished]
    );
}

#[test]
fn s_40_a_peer_that_vanishes_is_given_up_after_31_seconds() {
    let mut pair = Pair::new(plain(), plain(), CLEAN, 1);
    pair.lac.place_call(pair.now, session(1), dial(1)).expect("free");
    pair.run_for(Duration::from_secs(5));
    pair.path.loss = 100;
    let at = pair.now;
    pair.lns()
        .close_call(at, support::answer_id(session(1)), Cdn::new(ResultCode::new(3)))
        .expect("up");
    pair.run_for(Duration::from_secs(32));
    let closed = pair
        .events
        .iter()
        .find(|(_, side, event)| *side == Side::Lns && *event == Event::Closed(CloseReason::NoAnswer));
    assert_eq!(closed.map(|(when, _, _)| (*when - at).as_secs()), Some(31));
}

#[test]
fn s_41_s_42_every_hello_is_acknowledged_even_with_a_session_id() {
    let mut lns = Scripted::open();
    for session in [None, None, Some(77)] {
        let ns = lns.ns;
        assert!(only_acknowledged(&lns.send(session, &Message::Hello), ns + 1));
        lns.now += Duration::from_secs(1);
    }
    assert_eq!(lns.events(), []);
}

#[test]
fn s_36_s_37_a_zlb_changes_nothing_and_is_never_acknowledged() {
    let mut lns = Scripted::open();
    lns.connection.close(lns.now, ResultCode::new(1));
    lns.drain();
    let before = lns.connection.progress();
    for ns in [lns.ns + 5, 0, lns.ns] {
        let zlb = header::ControlHeader {
            tunnel: None,
            session: None,
            ns,
            nr: 0,
        }
        .encode(0);
        lns.connection.handle_input(lns.now, &zlb).expect("valid");
        assert_eq!(lns.drain(), []);
        assert_eq!(lns.connection.progress(), before);
    }
}

#[test]
fn both_sides_prove_themselves() {
    let lac = Settings {
        challenge: Some([1; 16]),
        ..challenging()
    };
    let mut pair = Pair::new(lac, challenging(), CLEAN, 1);
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.count(|event| *event == Event::Established), 2);
    assert_eq!(pair.lac.peer().host_name, b"holdfast");
    assert_eq!(pair.lns().peer().receive_window, 16);
}

#[test]
fn a_repeated_sccrq_is_a_duplicate_of_this_tunnel() {
    let mut lns = Scripted::lns(plain(), &sccrq()).expect("acceptable");
    lns.drain();
    let header = header::ControlHeader {
        tunnel: None,
        session: None,
        ns: 0,
        nr: 0,
    };
    let repeated = Message::Sccrq(sccrq()).encode(header, None);
    lns.connection.handle_input(lns.now, &repeated).expect("valid");
    assert!(only_acknowledged(&lns.drain(), 1));
    assert_eq!(lns.events(), []);
}

#[test]
fn s_20_a_secret_taken_away_during_setup_lets_nobody_in() {
    let lns = Scripted::lns(challenging(), &sccrq()).expect("acceptable");
    let connection = Connection::restore(plain(), lns.now, &lns.connection.snapshot());
    let mut lns = Scripted { connection, ..lns };
    let scccn = response_to(&lns.drain(), &secret());
    assert_eq!(stopped(&lns.send(None, &Message::Scccn(scccn))), (4, Some(0)));
}

#[test]
fn s_27_unanswered_messages_do_not_shorten_the_retention() {
    let mut lns = Scripted::with_call(true);
    lns.connection
        .close_call(lns.now, session(0x4004), Cdn::new(ResultCode::new(3)))
        .expect("up");
    lns.drain();
    lns.wait(Duration::from_secs(20));
    let stop = StopCcn {
        assigned_tunnel_id: None,
        result: ResultCode::new(1),
    };
    let header = header::ControlHeader {
        tunnel: None,
        session: None,
        ns: lns.ns,
        nr: lns.nr.wrapping_sub(1),
    };
    let datagram = Message::StopCcn(stop).encode(header, None);
    lns.connection.handle_input(lns.now, &datagram).expect("valid");
    lns.wait(Duration::from_secs(30));
    assert_eq!(lns.connection.state(), State::Closed);
    lns.wait(Duration::from_secs(1));
    assert!(lns.connection.is_finished());
}

#[test]
fn a_tunnel_is_small_and_shows_no_secret() {
    assert!(
        size_of::<Connection>() <= 1024,
        "{} octets",
        size_of::<Connection>()
    );
    let lns = Scripted::lns(challenging(), &sccrq()).expect("acceptable");
    assert!(!format!("{:?} {:?}", lns.connection, challenging()).contains("tunnel-secret"));
}
