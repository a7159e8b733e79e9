//! What the LAC's access node says of a subscriber's line (RFC 5515): which one it is, and how fast.

use std::ops::RangeInclusive;

use holdfast_cluster::records::LineAttribute;
use holdfast_protocol::iana::VENDOR_ADSL_FORUM;
use holdfast_protocol::message::Icrq;

/// Octets of the value of each attribute that is kept (RFC 5515 §5).
fn octets(attribute: u16) -> Option<RangeInclusive<usize>> {
    Some(match attribute {
        // Agent Circuit Id, Agent Remote Id.
        1 | 2 => 1..=63,
        // Data rates, bit/s.
        129..=138 => 8..=8,
        // Interleaving delays, ms.
        139..=142 => 4..=4,
        // Access loop encapsulation.
        144 => 3..=3,
        // Interworked function.
        254 => 4..=4,
        _ => return None,
    })
}

/// What an ICRQ says, each attribute once; what has a length of its own is left out.
pub fn of_icrq(icrq: &Icrq) -> Vec<LineAttribute> {
    let mut line: Vec<LineAttribute> = Vec::new();
    let of_lines = icrq
        .vendor_avps
        .iter()
        .filter(|avp| avp.vendor == VENDOR_ADSL_FORUM);
    for avp in of_lines {
        let fits = octets(avp.attribute).is_some_and(|octets| octets.contains(&avp.value.len()));
        let number = u32::from(avp.attribute);
        if fits && !line.iter().any(|known| known.number == number) {
            line.push(LineAttribute {
                number,
                value: avp.value.clone(),
            });
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use holdfast_protocol::SessionId;
    use holdfast_protocol::avp::VendorAvp;

    use super::*;

    #[test]
    fn what_is_known_of_a_line_is_kept_and_nothing_else() {
        let avp = |vendor, attribute, value: &[u8]| VendorAvp {
            vendor,
            attribute,
            value: value.to_vec(),
        };
        let vendor_avps = vec![
            avp(3561, 1, b"dslam 1/1/3"),
            avp(3561, 1, b"another"),
            avp(9, 2, b"of Cisco"),
            avp(3561, 2, &[b'x'; 64]),
            avp(3561, 130, &[0, 0, 0, 0, 5, 0xf5, 0xe1, 0]),
            avp(3561, 129, &[1, 2, 3, 4]),
            avp(3561, 145, &[5, 0, 0, 0]),
            avp(3561, 144, &[1, 2, 0]),
        ];
        let icrq = Icrq {
            assigned_session_id: SessionId::new(1).expect("not zero"),
            call_serial: 7,
            bearer_type: None,
            physical_channel: None,
            calling_number: None,
            called_number: None,
            sub_address: None,
            vendor_avps,
        };
        let kept: Vec<(u32, usize)> = of_icrq(&icrq)
            .iter()
            .map(|attribute| (attribute.number, attribute.value.len()))
            .collect();
        assert_eq!(kept, [(1, 11), (130, 8), (144, 3)]);
    }
}
