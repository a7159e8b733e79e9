//! A second opinion on the codec: the `rl2tp` crate reads what we write and we read what it writes.
//!
//! It counts the bits of flag octets from the other end than RFC 2661 §3.1 and §4.1 do, so those octets are
//! translated here; types, lengths and values are compared as they are. It puts the length of the whole AVP into
//! a hidden value where §4.3 has that of the value alone, so hiding is left to the vectors in `avp/hiding.rs`.

use holdfast_protocol::avp::*;
use holdfast_protocol::header::ControlHeader;
use holdfast_protocol::message::*;
use holdfast_protocol::{SessionId, TunnelId};
use rl2tp::common::{SliceReader, VecWriter};

const HEADER: ControlHeader = ControlHeader {
    tunnel: TunnelId::new(7),
    session: None,
    ns: 3,
    nr: 4,
};

fn tunnel() -> TunnelId {
    TunnelId::new(0x1001).expect("not zero")
}

fn session() -> SessionId {
    SessionId::new(0x3003).expect("not zero")
}

/// Turns the flag octets of a control message around; the second time back.
fn translate(message: &mut [u8], to_rfc: bool) {
    let flags = if to_rfc { [0xc8, 0x02] } else { [0x13, 0x20] };
    message[..2].copy_from_slice(&flags);
    let mut at = 12;
    while at < message.len() {
        let octet = message[at];
        // M, H, and the two high bits of the length change ends; the reserved bits are clear.
        message[at] = octet.reverse_bits() & 0xc3;
        let high = if to_rfc { octet >> 6 } else { octet & 3 };
        message[at] &= if to_rfc { 0xc0 } else { 0x03 };
        message[at] |= if to_rfc { high } else { high << 6 };
        at += usize::from(high) << 8 | usize::from(message[at + 1]);
    }
}

/// What `rl2tp` makes of our message, and we of what it makes of that.
fn there_and_back(message: &Message) -> (rl2tp::ControlMessage, Message) {
    let mut octets = message.encode(HEADER, None);
    translate(&mut octets, false);
    let read = rl2tp::Message::<&[u8]>::try_read(&mut SliceReader::from(&octets));
    let Ok(rl2tp::Message::Control(theirs)) = read else {
        panic!("{message:?}: {read:?}")
    };
    let mut writer = VecWriter::new();
    rl2tp::Message::<Vec<u8>>::Control(theirs.clone()).write(&mut writer);
    let mut octets = writer.data;
    translate(&mut octets, true);
    let body = &octets[12..];
    (
        theirs,
        Message::decode(body, &Context::default()).expect("theirs is sound"),
    )
}

fn samples() -> Vec<Message> {
    let sccrq = Sccrq {
        framing: 3,
        bearer: Some(2),
        tie_breaker: Some(0x0102_0304_0506_0708),
        firmware: Some(0x0110),
        host_name: b"lac1".to_vec(),
        vendor_name: Some(b"vendor".to_vec()),
        assigned_tunnel_id: tunnel(),
        receive_window: 8,
        challenge: Some((0..16).collect()),
    };
    let sccrp = Sccrp {
        framing: 1,
        bearer: Some(1),
        firmware: None,
        host_name: vec![b'x'; 600],
        vendor_name: None,
        assigned_tunnel_id: tunnel(),
        receive_window: 16,
        response: Some([9; 16]),
        challenge: Some(vec![1]),
    };
    let icrq = Icrq {
        assigned_session_id: session(),
        call_serial: 0xdead_beef,
        bearer_type: Some(1),
        physical_channel: Some(77),
        calling_number: Some(b"4930123".to_vec()),
        called_number: Some(b"4930456".to_vec()),
        sub_address: Some(b"7".to_vec()),
        vendor_avps: Vec::new(),
    };
    let stop = StopCcn {
        assigned_tunnel_id: Some(tunnel()),
        result: ResultCode::with_error(2, 8, "AVP 0/999"),
    };
    let errors = CallErrors {
        crc: 1,
        framing: 2,
        hardware_overruns: 3,
        buffer_overruns: 4,
        timeouts: 5,
        alignment: 6,
    };
    let mut messages = vec![
        Message::Sccrq(sccrq),
        Message::Sccrp(sccrp),
        Message::Scccn(Scccn {
            response: Some([7; 16]),
        }),
        Message::StopCcn(stop),
        Message::Hello,
        Message::Icrq(icrq),
        Message::Icrp(Icrp {
            assigned_session_id: session(),
        }),
        Message::Iccn(Box::new(iccn())),
        Message::Wen(Wen { errors }),
        Message::Sli(Sli {
            accm: Accm {
                send: 0x000a_0000,
                receive: u32::MAX,
            },
        }),
    ];
    messages.extend(outgoing());
    messages.push(Message::Cdn(Cdn {
        result: ResultCode::new(3),
        assigned_session_id: Some(session()),
        q931: Some(Q931Cause {
            cause: 16,
            message: 69,
            text: b"bye".to_vec(),
        }),
        disconnect: Vec::new(),
    }));
    messages
}

fn iccn() -> Iccn {
    let mut iccn = Iccn {
        tx_speed: 100_000_000,
        framing_type: 1,
        private_group: Some(b"red".to_vec()),
        rx_speed: Some(40_000_000),
        sequencing_required: true,
        ..Iccn::default()
    };
    iccn.proxy.initial_received_confreq = Some(vec![1, 4, 5, 0xd4]);
    iccn.proxy.last_sent_confreq = Some(vec![3, 5, 0xc2, 0x23, 5]);
    iccn.proxy.last_received_confreq = Some(vec![5, 6, 1, 2, 3, 4]);
    iccn.proxy.authen_type = Some(2);
    iccn.proxy.authen_name = Some(b"user@example.net".to_vec());
    iccn.proxy.authen_challenge = Some(vec![4; 16]);
    iccn.proxy.authen_id = Some(9);
    iccn.proxy.authen_response = Some(vec![5; 16]);
    iccn
}

fn outgoing() -> [Message; 3] {
    let ocrq = Ocrq {
        assigned_session_id: session(),
        call_serial: 5,
        minimum_bps: 9600,
        maximum_bps: 64_000,
        bearer_type: 2,
        framing_type: 2,
        called_number: b"110".to_vec(),
        sub_address: None,
    };
    [
        Message::Ocrq(ocrq),
        Message::Ocrp(Ocrp {
            assigned_session_id: session(),
            physical_channel: Some(1),
        }),
        Message::Occn(Occn {
            tx_speed: 1,
            framing_type: 2,
            rx_speed: Some(2),
            sequencing_required: true,
        }),
    ]
}

#[test]
fn both_codecs_read_each_other() {
    for message in samples() {
        let (theirs, back) = there_and_back(&message);
        assert_eq!(
            (theirs.tunnel_id, theirs.session_id, theirs.ns, theirs.nr),
            (7, 0, 3, 4)
        );
        assert_eq!(back, message);
    }
}

#[test]
fn they_see_the_values_that_we_wrote() {
    let (theirs, _) = there_and_back(&samples()[0]);
    use rl2tp::avp::AVP;
    for avp in &theirs.avps {
        match avp {
            AVP::HostName(name) => assert_eq!(name.value, b"lac1"),
            AVP::AssignedTunnelId(id) => assert_eq!(id.value, 0x1001),
            AVP::ReceiveWindowSize(window) => assert_eq!(window.value, 8),
            AVP::Challenge(challenge) => assert_eq!(challenge.value, (0..16).collect::<Vec<u8>>()),
            AVP::FirmwareRevision(revision) => assert_eq!(revision.value, 0x0110),
            _ => {}
        }
    }
    assert_eq!(theirs.avps.len(), 11);
}
