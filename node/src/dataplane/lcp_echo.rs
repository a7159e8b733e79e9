//! LCP Echo-Requests on open links, answered from the forwarding entry (RFC 1661 §5.8).
//!
//! ```text
//!  | Code 9 or 10 | Identifier | Length                      | Magic-Number                      | data ... |
//! ```
//!
//! Any node answers one, whoever owns the session: an idle subscriber must not hang up because its owner has just died. The owner
//! does not hear of it, and asks for itself when it wants to know.
//!
//! Only a request with the very magic number that the row has for the peer is answered here. So a node that was cut off from
//! the others and answers for what it last knew does no harm: the peer of a session that was closed and opened anew elsewhere,
//! or negotiated anew, has another number, and this node stays silent. With a peer that negotiated no number there is
//! nothing to tell by, but neither does its data say so, which this node goes on forwarding as well. All other requests, the
//! looped ones among them, are the session's actor's, which counts them, as are those that do not fit back into the peer's MRU.
//!
//! A sequenced session's reply needs a number, which its owner alone gives.

/// PPP protocol number of LCP.
pub const PPP_LCP: u16 = 0xc021;

const ECHO_REQUEST: u8 = 9;
const ECHO_REPLY: u8 = 10;
/// Octets before the data.
const HEADER: usize = 8;
const MAGIC: std::ops::Range<usize> = 4..HEADER;

/// The magic numbers of an open link; 0: none was negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Magics {
    /// Ours.
    pub local: u32,
    /// The peer's.
    pub peer: u32,
}

/// The length of the Echo-Request in `packet`, which may be padded; `None` if it is none that may be answered with at most
/// `mtu` octets on a link with these magic numbers.
pub fn request(packet: &[u8], magics: Magics, mtu: u16) -> Option<usize> {
    let [code, _, high, low, magic @ ..] = *packet.first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let fits = (HEADER..=packet.len().min(mtu.into())).contains(&length);
    let magic = u32::from_be_bytes(magic);
    let looped = magic != 0 && magic == magics.local;
    (code == ECHO_REQUEST && fits && magic == magics.peer && !looped).then_some(length)
}

/// Makes the reply of a request that [`request`] has let pass.
pub fn answer(packet: &mut [u8], magics: Magics) {
    packet[0] = ECHO_REPLY;
    packet[MAGIC].copy_from_slice(&magics.local.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGICS: Magics = Magics { local: 7, peer: 9 };

    fn echo(code: u8, magic: u32, length: u8) -> Vec<u8> {
        [&[code, 3, 0, length][..], &magic.to_be_bytes(), b"data"].concat()
    }

    #[test]
    fn the_reply_has_our_magic_number_and_the_same_data() {
        let mut packet = echo(ECHO_REQUEST, 9, 12);
        assert_eq!(request(&packet, MAGICS, 1400), Some(12));
        answer(&mut packet, MAGICS);
        assert_eq!(packet, echo(ECHO_REPLY, 7, 12));
    }

    #[test]
    fn what_is_not_certain_is_left_to_the_actor() {
        let none = Magics::default();
        let cases = [
            ("padding", echo(ECHO_REQUEST, 9, 10), MAGICS, Some(10)),
            ("no magic numbers", echo(ECHO_REQUEST, 0, 12), none, Some(12)),
            ("a reply", echo(ECHO_REPLY, 9, 12), MAGICS, None),
            ("our own", echo(ECHO_REQUEST, 7, 12), MAGICS, None),
            (
                "our own, both alike",
                echo(ECHO_REQUEST, 7, 12),
                Magics { local: 7, peer: 7 },
                None,
            ),
            ("another negotiation's", echo(ECHO_REQUEST, 8, 12), MAGICS, None),
            ("none where there is one", echo(ECHO_REQUEST, 0, 12), MAGICS, None),
            ("one where there is none", echo(ECHO_REQUEST, 8, 12), none, None),
            ("longer than the frame", echo(ECHO_REQUEST, 9, 13), MAGICS, None),
            ("shorter than its header", echo(ECHO_REQUEST, 9, 7), MAGICS, None),
            ("cut off", echo(ECHO_REQUEST, 9, 12)[..7].to_vec(), MAGICS, None),
        ];
        for (what, packet, magics, length) in cases {
            assert_eq!(request(&packet, magics, 1400), length, "{what}");
        }
        let long = [&echo(ECHO_REQUEST, 9, 100)[..], &[0; 88]].concat();
        assert_eq!(
            (request(&long, MAGICS, 99), request(&long, MAGICS, 100)),
            (None, Some(100))
        );
    }
}
