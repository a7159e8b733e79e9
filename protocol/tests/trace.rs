//! A complete exchange, octet for octet, both ways: tunnel with mutual authentication, a call, HELLO, teardown.
//!
//! Secret `tunnel-secret`; LAC tunnel 0x1001, session 0x3003; LNS tunnel 0x2002, session 0x4004.

use holdfast_protocol::avp::{Context, DisconnectCause, ResultCode};
use holdfast_protocol::challenge;
use holdfast_protocol::header::{self, ControlHeader, DataHeader, Packet};
use holdfast_protocol::iana::MessageType;
use holdfast_protocol::message::*;
use holdfast_protocol::{Secret, SessionId, TunnelId};

const SCCRQ: &str = "c8020056000000000000000080080000000000018008000000020100800a0000000300000003800a000000076c6163\
     31800800000009100180080000000a000880160000000b000102030405060708090a0b0c0d0e0f";
const SCCRP: &str = "c802006c100100000000000180080000000000028008000000020100800a0000000300000003800a000000076c6e73\
     31800800000009200280080000000a001080160000000d6c0da2faf7a397aa3f88f55061ea91348016\
     0000000b101112131415161718191a1b1c1d1e1f";
const SCCCN: &str = "c802002a2002000000010001800800000000000380160000000de5b5666018eee2ccf74717b65625180c";
const ICRQ: &str = "c80200262002000000020001800800000000000a80080000000e3003800a0000000f00000001";
const ICRP: &str = "c802001c1001300300010003800800000000000b80080000000e4004";
const ICCN: &str = "c80200322002400400030002800800000000000c800a0000001805f5e100800a0000001300000001\
     000a0000002602625a00";
const HELLO: &str = "c802001410010000000200048008000000000006";
const CDN: &str =
    "c802002f1001300300030004800800000000000e800800000001000380080000000e4004000b0000002e0001000000";
const STOPCCN: &str = "c8020029100100000004000480080000000000048008000000092002800d0000000100060000627965";

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}

fn tunnel(id: u16) -> TunnelId {
    TunnelId::new(id).expect("not zero")
}

fn session(id: u16) -> SessionId {
    SessionId::new(id).expect("not zero")
}

fn both_ways(hex: &str, (to_tunnel, to_session): (u16, u16), (ns, nr): (u16, u16), message: Message) {
    let header = ControlHeader {
        tunnel: TunnelId::new(to_tunnel),
        session: SessionId::new(to_session),
        ns,
        nr,
    };
    assert_eq!(message.encode(header, None), octets(hex), "{message:?}");
    let datagram = octets(hex);
    let Ok(Packet::Control(packet)) = header::decode(&datagram) else {
        panic!("a control message")
    };
    assert_eq!(packet.header, header);
    assert_eq!(Message::decode(packet.body, &Context::default()), Ok(message));
}

#[test]
fn tunnel_setup() {
    let secret = Secret::new("tunnel-secret");
    let ours: Vec<u8> = (0x00..0x10).collect();
    let theirs: Vec<u8> = (0x10..0x20).collect();
    let sccrq = Sccrq {
        framing: 3,
        bearer: None,
        tie_breaker: None,
        firmware: None,
        host_name: b"lac1".to_vec(),
        vendor_name: None,
        assigned_tunnel_id: tunnel(0x1001),
        receive_window: 8,
        challenge: Some(ours.clone()),
    };
    assert_eq!(Sccrq::peek_host_name(&octets(SCCRQ)[12..]), Some(&b"lac1"[..]));
    both_ways(SCCRQ, (0, 0), (0, 0), Message::Sccrq(sccrq));
    let sccrp = Sccrp {
        framing: 3,
        bearer: None,
        firmware: None,
        host_name: b"lns1".to_vec(),
        vendor_name: None,
        assigned_tunnel_id: tunnel(0x2002),
        receive_window: 16,
        response: Some(challenge::response(MessageType::Sccrp, &secret, &ours)),
        challenge: Some(theirs.clone()),
    };
    both_ways(SCCRP, (0x1001, 0), (0, 1), Message::Sccrp(sccrp));
    let scccn = Scccn {
        response: Some(challenge::response(MessageType::Scccn, &secret, &theirs)),
    };
    both_ways(SCCCN, (0x2002, 0), (1, 1), Message::Scccn(scccn));
}

#[test]
fn call_setup() {
    let icrq = Icrq {
        assigned_session_id: session(0x3003),
        call_serial: 1,
        bearer_type: None,
        physical_channel: None,
        calling_number: None,
        called_number: None,
        sub_address: None,
        vendor_avps: Vec::new(),
    };
    both_ways(ICRQ, (0x2002, 0), (2, 1), Message::Icrq(icrq));
    let icrp = Icrp {
        assigned_session_id: session(0x4004),
    };
    both_ways(ICRP, (0x1001, 0x3003), (1, 3), Message::Icrp(icrp));
    let iccn = Iccn {
        tx_speed: 100_000_000,
        framing_type: 1,
        rx_speed: Some(40_000_000),
        ..Iccn::default()
    };
    both_ways(ICCN, (0x2002, 0x4004), (3, 2), Message::Iccn(Box::new(iccn)));
}

#[test]
fn acknowledgements_and_hello() {
    for (hex, ns, nr) in [
        ("c802000c1001000000010002", 1, 2),
        ("c802000c1001000000020004", 2, 4),
    ] {
        let header = ControlHeader {
            tunnel: TunnelId::new(0x1001),
            session: None,
            ns,
            nr,
        };
        assert_eq!(header.encode(0).to_vec(), octets(hex));
    }
    both_ways(HELLO, (0x1001, 0), (2, 4), Message::Hello);
}

#[test]
fn teardown() {
    let cdn = Cdn {
        result: ResultCode::new(3),
        assigned_session_id: Some(session(0x4004)),
        q931: None,
        disconnect: vec![DisconnectCause {
            code: 1,
            protocol: 0,
            direction: 0,
            text: Vec::new(),
        }],
    };
    both_ways(CDN, (0x1001, 0x3003), (3, 4), Message::Cdn(cdn));
    let stop = StopCcn {
        assigned_tunnel_id: Some(tunnel(0x2002)),
        result: ResultCode::with_error(6, 0, "bye"),
    };
    both_ways(STOPCCN, (0x1001, 0), (4, 4), Message::StopCcn(stop));
}

#[test]
fn data_messages() {
    let frame = octets("ff03c0210101000e010405d40506deadbeef");
    let bare = DataHeader::short(tunnel(0x2002), session(0x4004));
    let numbered = DataHeader {
        with_length: true,
        ns: Some(0),
        ..bare
    };
    let cases = [
        (bare, "000220024004ff03c0210101000e010405d40506deadbeef"),
        (
            numbered,
            "4802001e2002400400000000ff03c0210101000e010405d40506deadbeef",
        ),
    ];
    for (header, hex) in cases {
        let mut datagram = vec![0; header.len()];
        header.write(frame.len(), &mut datagram).expect("it fits");
        datagram.extend_from_slice(&frame);
        assert_eq!(datagram, octets(hex));
        let Ok(Packet::Data(packet)) = header::decode(&datagram) else {
            panic!("a data message")
        };
        assert_eq!(
            (packet.tunnel, packet.session),
            (Some(header.tunnel), Some(header.session))
        );
        assert_eq!((packet.ns, packet.payload), (header.ns, &frame[..]));
    }
}
