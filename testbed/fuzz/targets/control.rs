//! L2TP header and control messages: nothing panics, and what was understood is written so that it is understood alike.

#![no_main]

use holdfast_protocol::avp::Context;
use holdfast_protocol::header::{Packet, decode};
use holdfast_protocol::message::Message;
use holdfast_protocol::{Secret, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let Ok(Packet::Control(packet)) = decode(datagram) else {
        return;
    };
    let secret = Secret::new(*b"tunnel-secret");
    let open = Context {
        secret: None,
        permissive: false,
    };
    let contexts = [
        open,
        Context {
            secret: Some(&secret),
            ..open
        },
        Context {
            permissive: true,
            ..open
        },
    ];
    for context in contexts {
        match Message::decode(packet.body, &context) {
            Ok(message) if message.message_type().is_some() => same_again(&message, packet.header),
            Ok(_) => {}
            Err(fault) => drop((fault.reaction(), fault.to_string())),
        }
    }
});

/// Writes a message and reads it back.
fn same_again(message: &Message, header: header::ControlHeader) {
    let octets = message.encode(header, None);
    let Ok(Packet::Control(packet)) = decode(&octets) else {
        panic!("not a control message: {octets:02x?}")
    };
    assert_eq!(packet.header, header);
    let permissive = Context {
        secret: None,
        permissive: true,
    };
    assert_eq!(Message::decode(packet.body, &permissive).as_ref(), Ok(message));
}
