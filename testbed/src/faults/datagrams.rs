//! Datagrams that a good LAC never sends.

use holdfast_protocol::TunnelId;
use holdfast_protocol::header::ControlHeader;
use holdfast_protocol::iana::framing;
use holdfast_protocol::message::{Message, Sccrq};

/// The first message of a tunnel that is never brought up.
pub fn sccrq(assigned: TunnelId) -> Vec<u8> {
    let sccrq = Sccrq {
        framing: framing::SYNCHRONOUS,
        bearer: None,
        tie_breaker: None,
        firmware: None,
        host_name: b"flood".to_vec(),
        vendor_name: None,
        assigned_tunnel_id: assigned,
        receive_window: 4,
        challenge: None,
    };
    let header = ControlHeader {
        tunnel: None,
        session: None,
        ns: 0,
        nr: 0,
    };
    Message::Sccrq(sccrq).encode(header, None)
}

/// Datagrams for a living tunnel and session that mean nothing, or nothing that may disturb anyone.
pub fn hostile(tunnel: u16, session: u16) -> Vec<Vec<u8>> {
    let [t0, t1] = tunnel.to_be_bytes();
    let [s0, s1] = session.to_be_bytes();
    let data = |rest: &[u8]| [&[0x00, 0x02, t0, t1, s0, s1], rest].concat();
    let control = |length: u8, ns: [u8; 2], nr: [u8; 2], body: &[u8]| {
        let header = [0xc8, 0x02, 0, length, t0, t1, 0, 0, ns[0], ns[1], nr[0], nr[1]];
        [&header[..], body].concat()
    };
    vec![
        // Nothing behind the header; half a protocol field.
        data(&[]),
        data(&[0xff]),
        // A length, and an offset, beyond the end.
        vec![0x40, 0x02, 0xff, 0xff, t0, t1, s0, s1, 0xff, 0x03],
        vec![0x02, 0x02, t0, t1, s0, s1, 0xff, 0xff, 0x00, 0x21],
        // A protocol that nobody speaks.
        data(&[0xff, 0x03, 0x7a, 0xbd, 1, 2, 3]),
        // LCP and IPCP that end early, have a length beyond the end, or an option of no length.
        data(&[0xff, 0x03, 0xc0, 0x21, 1]),
        data(&[0xff, 0x03, 0xc0, 0x21, 1, 1, 0xff, 0xff]),
        data(&[0xff, 0x03, 0x80, 0x21, 1, 1, 0, 8, 3, 0, 0, 0]),
        // LCP of an unknown code, an acknowledgement of nothing, an Echo-Reply nobody asked for.
        data(&[0xff, 0x03, 0xc0, 0x21, 0xee, 1, 0, 4]),
        data(&[0xff, 0x03, 0xc0, 0x21, 2, 0xee, 0, 4]),
        data(&[0xff, 0x03, 0xc0, 0x21, 10, 0xee, 0, 8, 0, 0, 0, 0]),
        // IP of no version, too short, and from somebody else's address.
        data(&[0xff, 0x03, 0x00, 0x21]),
        data(&[0xff, 0x03, 0x00, 0x21, 0x45, 0, 0, 20]),
        data(&[
            0xff, 0x03, 0x00, 0x21, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
        ]),
        // Control: a length beyond the end, a header that ends early, a version of nobody.
        control(0xff, [0, 0], [0, 0], &[]),
        control(12, [0, 0], [0, 0], &[])[..10].to_vec(),
        [&[0xc8, 0x07], &control(12, [0, 0], [0, 0], &[])[2..]].concat(),
        // Control far out of the window, and acknowledgements of what was never sent.
        control(20, [0x40, 0], [0, 0], &[0x80, 8, 0, 0, 0, 0, 0, 4]),
        control(12, [0, 0], [0x40, 0], &[]),
    ]
}

/// As `Command::Inject` wants it.
pub fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
