//! The subscriber's line as RADIUS has it (RFC 4679): the attributes of RFC 5515 under the same numbers, some written otherwise.

use holdfast_cluster::records::LineAttribute;

use super::attributes::Builder;
use super::dictionary::vendor::ADSL_FORUM;

/// Access-Loop-Encapsulation, and that the session is interworked.
const ENCAPSULATION: u32 = 144;
const INTERWORKED: u32 = 254;

/// Appends them.
pub fn attributes(packet: &mut Builder, line: &[LineAttribute]) {
    for LineAttribute { number, value } in line {
        let Ok(kind) = u8::try_from(*number) else { continue };
        match (*number, &value[..]) {
            // bit/s in 64 bits there, in 32 here: a faster line is as fast as can be said.
            (129..=138, rate) => {
                let Some(rate) = rate.first_chunk().map(|octets| u64::from_be_bytes(*octets)) else {
                    continue;
                };
                let rate = u32::try_from(rate).unwrap_or(u32::MAX);
                packet.vendor(ADSL_FORUM, kind, &rate.to_be_bytes());
            }
            // AAL5 is 0 there and 1 here, Ethernet 1 and 2.
            (ENCAPSULATION, [data_link, rest @ ..]) => {
                let value = [&[data_link.saturating_add(1)], rest].concat();
                packet.vendor(ADSL_FORUM, kind, &value);
            }
            (INTERWORKED, [0, 0, 0, 0]) => {}
            (INTERWORKED, _) => _ = packet.vendor(ADSL_FORUM, kind, &[]),
            (_, value) => _ = packet.vendor(ADSL_FORUM, kind, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aaa::radius::{Code, Packet};

    #[test]
    fn each_as_rfc_4679_has_it() {
        let attribute = |number, value: &[u8]| LineAttribute {
            number,
            value: value.to_vec(),
        };
        let line = [
            attribute(1, b"dslam 1/1/3"),
            attribute(129, &40_000_000_u64.to_be_bytes()),
            attribute(130, &10_000_000_000_u64.to_be_bytes()),
            attribute(139, &8_u32.to_be_bytes()),
            attribute(144, &[1, 2, 0]),
            attribute(254, &[0, 0, 0, 1]),
        ];
        let mut builder = Builder::new(Code::ACCESS_REQUEST, 1);
        attributes(&mut builder, &line);
        attributes(&mut builder, &[attribute(254, &[0; 4])]);
        let octets = builder.finish_request(b"s").expect("it fits");
        let packet = Packet::parse(&octets).expect("well formed");
        let sent: Vec<(u8, Vec<u8>)> = packet
            .attributes()
            .flat_map(|attribute| attribute.of_vendor().collect::<Vec<_>>())
            .map(|inside| (inside.kind, inside.value.to_vec()))
            .collect();
        let expected: [(u8, &[u8]); 5] = [
            (1, b"dslam 1/1/3"),
            (129, &[0x02, 0x62, 0x5a, 0]),
            (130, &[0xff; 4]),
            (139, &[0, 0, 0, 8]),
            (144, &[2, 2, 0]),
        ];
        assert_eq!(sent, expected.map(|(kind, value)| (kind, value.to_vec())));
        // Without a value, which no other attribute is.
        let interworked = octets
            .windows(6)
            .filter(|octets| **octets == [0, 0, 0x0d, 0xe9, 254, 2]);
        assert_eq!(interworked.count(), 1);
    }
}
