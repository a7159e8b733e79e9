//! What a LAC has negotiated and heard for us, AVPs 26 to 33: each value behind its length in two octets.

#![no_main]

#[path = "chunks.rs"]
mod chunks;

use std::sync::Arc;
use std::time::Duration;

use holdfast_ppp::{Link, LinkConfig, Output, Proxy, Secret, Verdict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut values = chunks::chunks(input).map(<[u8]>::to_vec);
    let proxy = Proxy {
        last_sent: values.next(),
        last_received: values.next(),
        authen_type: values
            .next()
            .and_then(|value| Some(u16::from_be_bytes(*value.first_chunk()?))),
        authen_name: values.next(),
        authen_challenge: values.next(),
        authen_id: values.next().and_then(|value| value.first().copied()),
        authen_response: values.next().map(Secret::new),
        initial_received: values.next(),
    };
    let now = Duration::ZERO;
    let mut link = Link::start(now, Arc::new(LinkConfig::default()), Some(&proxy), 1);
    while let Some(output) = link.poll_output() {
        if let Output::Authenticate { serial, request } = output {
            let _ = request.verify(&Secret::new(*b"password"));
            link.verdict(
                now,
                serial,
                Verdict::Reject {
                    message: Vec::new(),
                    ms_chap_error: None,
                },
            );
        }
    }
});
