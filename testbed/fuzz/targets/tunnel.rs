//! Control messages in sequence against a tunnel that answers: nothing panics, nothing leaves before it is accepted,
//! and a tunnel born again from its row is the same.
//!
//! The sequence and session numbers of each message are the input's; only the header's tunnel id is made to fit, as the
//! tunnel would not see the message otherwise.

#![no_main]

#[path = "chunks.rs"]
mod chunks;

use std::time::Duration;

use holdfast_protocol::avp::Context;
use holdfast_protocol::header::{Packet, decode};
use holdfast_protocol::message::Message;
use holdfast_protocol::{Connection, Event, Secret, SessionId, Settings, TunnelId};
use libfuzzer_sys::fuzz_target;

/// Between two messages; long enough for retransmissions and timeouts to come into play.
const STEP: Duration = Duration::from_millis(700);

fuzz_target!(|input: &[u8]| {
    let mut messages = chunks::chunks(input);
    let Some(mut connection) = messages.next().and_then(open) else {
        return;
    };
    let mut now = Duration::ZERO;
    let mut next_session = 0x4004;
    for message in messages {
        now += STEP;
        let _ = connection.handle_input(now, message);
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_event() {
            if let Event::CallRequested { peer, .. } = event {
                let local = SessionId::new(next_session).expect("not zero");
                next_session += 1;
                let _ = connection.accept_call(now, peer, local);
            }
        }
        let progress = connection.progress();
        connection.accept(now, progress);
        while connection.poll_transmit(now).is_some() {}
        let snapshot = connection.snapshot();
        let again = Connection::restore(settings(), now, &snapshot).snapshot();
        assert_eq!(again, snapshot);
    }
});

/// A tunnel for an SCCRQ.
fn open(datagram: &[u8]) -> Option<Connection> {
    let Ok(Packet::Control(packet)) = decode(datagram) else {
        return None;
    };
    let secret = Secret::new(*b"tunnel-secret");
    let context = Context {
        secret: Some(&secret),
        permissive: false,
    };
    let Ok(Message::Sccrq(sccrq)) = Message::decode(packet.body, &context) else {
        return None;
    };
    let local = TunnelId::new(0x2002).expect("not zero");
    Connection::respond(settings(), Duration::ZERO, local, &sccrq).ok()
}

fn settings() -> Settings {
    Settings {
        secret: Some(Secret::new(*b"tunnel-secret")),
        ..Settings::default()
    }
}
