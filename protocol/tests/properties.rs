//! Properties that hold for any input: the codec is its own inverse, decoders never panic, the channel delivers
//! each message once and in order whatever the path does, and nothing leaves that was not accepted.

mod support;

use std::time::Duration;

use holdfast_protocol::avp::*;
use holdfast_protocol::header::{self, ControlHeader, Packet};
use holdfast_protocol::iana::attribute;
use holdfast_protocol::message::*;
use holdfast_protocol::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use support::scripted::plain;
use support::{Pair, Path, Side, dial, session};

fn octets() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

fn some_octets() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..200)
}

fn tunnel_id() -> impl Strategy<Value = TunnelId> {
    (1..=u16::MAX).prop_map(|id| TunnelId::new(id).expect("not zero"))
}

fn session_id() -> impl Strategy<Value = SessionId> {
    (1..=u16::MAX).prop_map(|id| SessionId::new(id).expect("not zero"))
}

fn result_code() -> impl Strategy<Value = ResultCode> {
    let short = any::<u16>().prop_map(ResultCode::new);
    let long = (any::<u16>(), any::<u16>(), octets())
        .prop_map(|(result, error, text)| ResultCode::with_error(result, error, text));
    prop_oneof![short, long]
}

prop_compose! {
    fn sccrq()(
        framing in any::<u32>(), bearer in of(any::<u32>()), tie_breaker in of(any::<u64>()), firmware in of(any::<u16>()),
        host_name in some_octets(), vendor_name in of(octets()), assigned_tunnel_id in tunnel_id(),
        receive_window in 1..=u16::MAX, challenge in of(some_octets()),
    ) -> Message {
        Message::Sccrq(Sccrq {
            framing, bearer, tie_breaker, firmware, host_name, vendor_name, assigned_tunnel_id, receive_window,
            challenge,
        })
    }
}

prop_compose! {
    fn sccrp()(
        framing in any::<u32>(), bearer in of(any::<u32>()), firmware in of(any::<u16>()), host_name in some_octets(),
        vendor_name in of(octets()), assigned_tunnel_id in tunnel_id(), receive_window in 1..=u16::MAX,
        response in of(any::<[u8; 16]>()), challenge in of(some_octets()),
    ) -> Message {
        Message::Sccrp(Sccrp {
            framing, bearer, firmware, host_name, vendor_name, assigned_tunnel_id, receive_window, response,
            challenge,
        })
    }
}

prop_compose! {
    fn ocrq()(
        assigned_session_id in session_id(), call_serial in any::<u32>(), minimum_bps in any::<u32>(), maximum_bps in any::<u32>(),
        bearer_type in any::<u32>(), framing_type in any::<u32>(), called_number in octets(), sub_address in of(octets()),
    ) -> Message {
        Message::Ocrq(Ocrq {
            assigned_session_id, call_serial, minimum_bps, maximum_bps, bearer_type, framing_type, called_number,
            sub_address,
        })
    }
}

prop_compose! {
    fn vendor_avp()(attribute in any::<u16>(), value in octets()) -> VendorAvp {
        VendorAvp { vendor: 3561, attribute, value }
    }
}

prop_compose! {
    fn icrq()(
        assigned_session_id in session_id(), call_serial in any::<u32>(), bearer_type in of(any::<u32>()),
        physical_channel in of(any::<u32>()), calling_number in of(octets()), called_number in of(octets()),
        sub_address in of(octets()), vendor_avps in vec(vendor_avp(), 0..5),
    ) -> Message {
        Message::Icrq(Icrq {
            assigned_session_id, call_serial, bearer_type, physical_channel, calling_number, called_number,
            sub_address, vendor_avps,
        })
    }
}

fn proxy() -> impl Strategy<Value = Proxy> {
    let lcp = (of(octets()), of(octets()), of(octets()));
    let authen = (
        of(any::<u16>()),
        of(octets()),
        of(some_octets()),
        of(any::<u16>()),
        of(octets()),
    );
    (lcp, authen).prop_map(
        |((initial, sent, received), (kind, name, challenge, id, response))| {
            let mut proxy = Proxy::default();
            proxy.initial_received_confreq = initial;
            proxy.last_sent_confreq = sent;
            proxy.last_received_confreq = received;
            proxy.authen_type = kind;
            proxy.authen_name = name;
            proxy.authen_challenge = challenge;
            proxy.authen_id = id;
            proxy.authen_response = response;
            proxy
        },
    )
}

prop_compose! {
    fn iccn()(
        tx_speed in any::<u32>(), framing_type in any::<u32>(), proxy in proxy(), private_group in of(octets()),
        rx_speed in of(any::<u32>()), sequencing_required in any::<bool>(),
    ) -> Message {
        Message::Iccn(Box::new(Iccn {
            tx_speed, framing_type, proxy, private_group, rx_speed, sequencing_required,
        }))
    }
}

prop_compose! {
    fn cause()(code in any::<u16>(), protocol in any::<u16>(), direction in any::<u8>(), text in octets()) -> DisconnectCause {
        DisconnectCause { code, protocol, direction, text }
    }
}

prop_compose! {
    fn q931()(cause in any::<u16>(), message in any::<u8>(), text in octets()) -> Q931Cause {
        Q931Cause { cause, message, text }
    }
}

prop_compose! {
    fn cdn()(
        result in result_code(), assigned_session_id in of(session_id()), q931 in of(q931()),
        disconnect in vec(cause(), 0..4),
    ) -> Message {
        Message::Cdn(Cdn { result, assigned_session_id, q931, disconnect })
    }
}

fn wen() -> impl Strategy<Value = Message> {
    any::<[u32; 6]>().prop_map(
        |[
            crc,
            framing,
            hardware_overruns,
            buffer_overruns,
            timeouts,
            alignment,
        ]| {
            let errors = CallErrors {
                crc,
                framing,
                hardware_overruns,
                buffer_overruns,
                timeouts,
                alignment,
            };
            Message::Wen(Wen { errors })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let stop = (of(tunnel_id()), result_code()).prop_map(|(assigned_tunnel_id, result)| {
        Message::StopCcn(StopCcn {
            assigned_tunnel_id,
            result,
        })
    });
    let ocrp = (session_id(), of(any::<u32>())).prop_map(|(assigned_session_id, physical_channel)| {
        Message::Ocrp(Ocrp {
            assigned_session_id,
            physical_channel,
        })
    });
    let occn = (any::<u32>(), any::<u32>(), of(any::<u32>()), any::<bool>()).prop_map(
        |(tx_speed, framing_type, rx_speed, sequencing_required)| {
            Message::Occn(Occn {
                tx_speed,
                framing_type,
                rx_speed,
                sequencing_required,
            })
        },
    );
    prop_oneof![
        sccrq(),
        sccrp(),
        of(any::<[u8; 16]>()).prop_map(|response| Message::Scccn(Scccn { response })),
        stop,
        Just(Message::Hello),
        ocrq(),
        ocrp,
        occn,
        icrq(),
        session_id().prop_map(|assigned_session_id| Message::Icrp(Icrp { assigned_session_id })),
        iccn(),
        cdn(),
        wen(),
        any::<(u32, u32)>().prop_map(|(send, receive)| Message::Sli(Sli {
            accm: Accm { send, receive }
        })),
    ]
}

fn hiding() -> impl Strategy<Value = Hiding> {
    let every = (0..=attribute::PPP_DISCONNECT_CAUSE).collect::<Vec<u16>>();
    (some_octets(), vec(any::<u8>(), 16..33), 0..40usize).prop_map(move |(secret, random_vector, padding)| {
        Hiding {
            secret: Secret::new(secret),
            random_vector,
            attributes: every.clone(),
            padding,
        }
    })
}

proptest! {
    #[test]
    fn decoding_inverts_encoding(
        message in message(), tunnel in of(tunnel_id()), session in of(session_id()), ns: u16, nr: u16,
        hiding in of(hiding()),
    ) {
        let expected = ControlHeader { tunnel, session, ns, nr };
        let datagram = message.encode(expected, hiding.as_ref());
        let Ok(Packet::Control(packet)) = header::decode(&datagram) else { panic!("a control message") };
        prop_assert_eq!(packet.header, expected);
        let context = Context { secret: hiding.as_ref().map(|hiding| &hiding.secret), permissive: false };
        prop_assert_eq!(Message::decode(packet.body, &context), Ok(message));
    }

    #[test]
    fn decoders_never_panic(octets in vec(any::<u8>(), 0..400), permissive: bool) {
        let secret = Secret::new("s");
        let context = Context { secret: Some(&secret), permissive };
        let _ = header::decode(&octets);
        let _ = Sccrq::peek_host_name(&octets);
        let _ = Message::decode(&octets, &context).map_err(|fault| fault.reaction());
    }

    /// Sound messages with a few octets changed reach deeper than noise does.
    #[test]
    fn damaged_messages_never_panic(
        message in message(), hiding in of(hiding()), damage in vec((any::<usize>(), any::<u8>()), 0..6),
        cut in any::<usize>(),
    ) {
        let header = ControlHeader { tunnel: None, session: None, ns: 0, nr: 0 };
        let mut datagram = message.encode(header, hiding.as_ref());
        for (at, octet) in damage {
            let len = datagram.len();
            datagram[at % len] = octet;
        }
        datagram.truncate(1 + cut % datagram.len().max(1));
        let secret = Secret::new("s");
        let context = Context { secret: Some(&secret), permissive: false };
        let _ = header::decode(&datagram);
        let _ = datagram.get(12..).map(|body| Message::decode(body, &context));
        let mut lns = support::scripted::Scripted::with_call(true);
        let _ = lns.connection.handle_input(lns.now, &datagram);
        lns.drain();
    }

    /// What a data header says is what was written, and no datagram makes the decoder panic.
    #[test]
    fn data_messages_survive(
        tunnel in tunnel_id(), session in session_id(), with_length: bool, ns in of(any::<u16>()),
        offset in of(0..50u16), priority: bool, payload in octets(),
    ) {
        let header = header::DataHeader { tunnel, session, with_length, ns, offset, priority };
        let mut datagram = vec![0; header.len()];
        header.write(payload.len(), &mut datagram).expect("it fits");
        datagram.extend_from_slice(&payload);
        let Ok(Packet::Data(packet)) = header::decode(&datagram) else { panic!("a data message") };
        prop_assert_eq!((packet.tunnel, packet.session), (Some(tunnel), Some(session)));
        prop_assert_eq!((packet.ns, packet.priority, packet.payload), (ns, priority, &payload[..]));
    }
}

/// Serial numbers of the calls that the LNS was offered, in order.
fn offered(pair: &Pair) -> Vec<u32> {
    let serials = pair
        .events
        .iter()
        .filter_map(|(_, side, event)| match (side, event) {
            (Side::Lns, Event::CallRequested { icrq, .. }) => Some(icrq.call_serial),
            _ => None,
        });
    serials.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_message_arrives_once_and_in_order(
        seed: u64, loss in 0..30u64, duplicates in 0..30u64, jitter in 1..400u64, windows in (1..20u16, 1..20u16),
    ) {
        let path = Path { loss, duplicates, delay_ms: (1, jitter) };
        // Here the path may be worse than any peer's patience, which is not what is tested.
        let patient = |receive_window| Settings {
            receive_window,
            max_retransmits: 60,
            setup_timeout: Duration::from_secs(3600),
            connect_timeout: Duration::from_secs(7200),
            ..plain()
        };
        let mut pair = Pair::new(patient(windows.0), patient(windows.1), path, seed);
        for call in 1..=40 {
            pair.lac.place_call(pair.now, session(call), dial(u32::from(call))).expect("free");
        }
        pair.run_for(Duration::from_secs(3000));
        prop_assert_eq!(offered(&pair), (1..=40).collect::<Vec<_>>());
        prop_assert_eq!(pair.count(|event| matches!(event, Event::CallConnected { .. })), 40);
    }

    /// Random inputs, with the gate opened at random: no Nr beyond the accepted one leaves, no Ns beyond the
    /// released one.
    #[test]
    fn nothing_leaves_that_was_not_accepted(steps in vec((0..6u8, any::<u16>()), 1..200)) {
        let mut lns = support::scripted::Scripted::open();
        let mut accepted = lns.connection.progress();
        for (step, value) in steps {
            let ahead = value % 5;
            let header = ControlHeader {
                tunnel: None,
                session: None,
                ns: accepted.received.wrapping_add(ahead).wrapping_sub(1),
                nr: lns.connection.progress().acknowledged.wrapping_add(value % 2),
            };
            match step {
                0 => drop(lns.connection.handle_input(lns.now, &Message::Hello.encode(header, None))),
                1 => {
                    let icrq = support::scripted::icrq(value % 50 + 1);
                    let _ = lns.connection.handle_input(lns.now, &icrq.encode(header, None));
                }
                2 => {
                    let peer = session(value % 50 + 1);
                    let _ = lns.connection.accept_call(lns.now, peer, session(value % 90 + 1));
                }
                3 => drop(lns.connection.handle_input(lns.now, &header.encode(0))),
                4 => {
                    lns.now += Duration::from_millis(u64::from(value) % 2000);
                    lns.connection.handle_timeout(lns.now);
                }
                _ => {
                    accepted = lns.connection.progress();
                    lns.connection.accept(lns.now, accepted);
                }
            }
            while let Some(octets) = lns.connection.poll_transmit(lns.now) {
                let Ok(Packet::Control(packet)) = header::decode(&octets) else { panic!() };
                prop_assert_eq!(packet.header.nr, accepted.received);
                let limit = accepted.queued.wrapping_sub(packet.header.ns);
                prop_assert!(limit < 0x8000 && (limit > 0 || packet.is_zlb()));
            }
            while lns.connection.poll_event().is_some() {}
        }
    }
}
