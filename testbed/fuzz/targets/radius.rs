//! RADIUS packets: nothing panics, whoever they claim to be from, and what was understood is written so that it is understood alike.

#![no_main]

use holdfast::aaa::radius::{Builder, Code, Packet, verify_reply, verify_request};
use libfuzzer_sys::fuzz_target;

const SECRET: &[u8] = b"secret";

fuzz_target!(|received: &[u8]| {
    let _ = verify_request(received, SECRET);
    let _ = verify_reply(received, SECRET, &[0; 16], true);
    let Ok(packet) = Packet::parse(received) else {
        return;
    };
    let mut builder = Builder::new(Code(packet.code().0), packet.id());
    for attribute in packet.attributes() {
        let _ = (
            attribute.u32(),
            attribute.text(),
            attribute.prefix(),
            attribute.ipv6(),
        );
        let _ = (attribute.tagged_u24(), attribute.tagged_octets());
        attribute
            .of_vendor()
            .for_each(|inside| drop((inside.text(), inside.ipv4())));
        builder.octets(attribute.kind, attribute.value);
    }
    let octets = builder.finish_request(SECRET).expect("it fitted before");
    let again = Packet::parse(&octets).expect("it is well-formed");
    assert!(again.attributes().eq(packet.attributes()));
});
