//! AVPs one by one, hidden ones too: nothing panics, and hiding is undone by unhiding.

#![no_main]

use holdfast_protocol::Secret;
use holdfast_protocol::avp::{Avps, hide, unhide};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let secret = Secret::new(*b"tunnel-secret");
    let random_vector = body.get(..16).unwrap_or(body);
    for avp in Avps::new(body).flatten() {
        let mut octets = Vec::new();
        avp.encode(&mut octets);
        if let Ok(value) = unhide(avp.attribute, avp.value, &secret, random_vector) {
            let hidden = hide(avp.attribute, &value, 0, &secret, random_vector);
            assert_eq!(unhide(avp.attribute, &hidden, &secret, random_vector), Ok(value));
        }
    }
});
