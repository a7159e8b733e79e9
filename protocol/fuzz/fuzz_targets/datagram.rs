//! Any octets: as a message's body, then as a datagram to a tunnel that takes it for the
//! message it waits for.
//!
//! `cd protocol && RUSTC_BOOTSTRAP=1 cargo fuzz run datagram`

#![no_main]

use std::time::Duration;

use holdfast_protocol::avp::Context;
use holdfast_protocol::header::{self, Packet};
use holdfast_protocol::message::{Message, Sccrq};
use holdfast_protocol::{Connection, Secret, Settings, TunnelId};
use libfuzzer_sys::fuzz_target;

const NOW: Duration = Duration::from_secs(1);

fuzz_target!(|datagram: &[u8]| {
    let secret = Secret::new("s");
    let context = Context {
        secret: Some(&secret),
        permissive: false,
    };
    let _ = Sccrq::peek_host_name(datagram);
    let _ = Message::decode(datagram, &context).map_err(|fault| fault.reaction());
    let Ok(Packet::Control(_)) = header::decode(datagram) else {
        return;
    };
    let local = TunnelId::new(1).expect("not zero");
    let mut connection = Connection::initiate(Settings::default(), NOW, local);
    connection.accept(NOW, connection.progress());
    while connection.poll_transmit(NOW).is_some() {}
    let mut expected = datagram.to_vec();
    expected[8..10].copy_from_slice(&connection.progress().received.to_be_bytes());
    let _ = connection.handle_input(NOW, &expected);
    connection.accept(NOW, connection.progress());
    while connection.poll_event().is_some() {}
    while connection.poll_transmit(NOW).is_some() {}
});
