//! What lies behind code, identifier and length in PAP (RFC 1334 §2.2) and CHAP (RFC 1994 §4).

use crate::secret::Secret;

/// Most octets of text sent to the user.
const MAX_MESSAGE: usize = 255;

/// Longest name of a user, in octets; it goes into the row of an open link.
pub(crate) const MAX_NAME: usize = 255;

/// PAP Authenticate-Request: `peer-id length, peer-id, password length, password`.
pub(super) fn parse_pap_request(data: &[u8]) -> Option<(&[u8], Secret)> {
    let (name, rest) = counted(data)?;
    let (password, _) = counted(rest)?;
    Some((name, Secret::new(password)))
}

/// PAP Authenticate-Ack or -Nak: `message length, message`.
pub(super) fn pap_message(message: &[u8]) -> Vec<u8> {
    let message = chap_message(message);
    let length = u8::try_from(message.len()).expect("a message has at most 255 octets");
    [&[length], message].concat()
}

/// CHAP Success or Failure: the message fills the packet.
pub(super) fn chap_message(message: &[u8]) -> &[u8] {
    &message[..message.len().min(MAX_MESSAGE)]
}

/// CHAP Challenge or Response: `value size, value`, and the name fills the packet, as far as PAP could carry it too.
pub(super) fn parse_chap_value(data: &[u8]) -> Option<(&[u8], &[u8])> {
    counted(data).filter(|(value, name)| !value.is_empty() && name.len() <= MAX_NAME)
}

/// A CHAP Challenge.
pub(super) fn chap_value(value: &[u8; 16], name: &[u8]) -> Vec<u8> {
    [&[16], &value[..], name].concat()
}

/// A field led by its length, and what follows.
fn counted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pap_request_is_read() {
        let (name, password) = parse_pap_request(b"\x04user\x06secret").unwrap();
        assert_eq!((name, password.expose()), (&b"user"[..], &b"secret"[..]));
    }

    #[test]
    fn s_129_a_name_is_opaque() {
        let mut octets = vec![255];
        octets.extend([0x00; 100]);
        octets.extend([0xff; 155]);
        octets.push(0);
        let (name, password) = parse_pap_request(&octets).unwrap();
        assert_eq!((name, password.expose()), (&octets[1..256], &[][..]));

        let (value, name) = parse_chap_value(b"\x02ab\x00\xff\xfe").unwrap();
        assert_eq!((value, name), (&b"ab"[..], &b"\x00\xff\xfe"[..]));
    }

    #[test]
    fn fields_beyond_the_packet_are_refused() {
        for octets in [&b""[..], b"\x05user", b"\x04user", b"\x04user\x07secret"] {
            assert!(parse_pap_request(octets).is_none(), "{octets:?}");
        }
        for octets in [&b""[..], b"\x00name", b"\x10short"] {
            assert!(parse_chap_value(octets).is_none(), "{octets:?}");
        }
        assert!(parse_chap_value(&[&[1, 0][..], &[b'n'; 256]].concat()).is_none());
    }

    #[test]
    fn a_message_is_cut_at_255_octets() {
        assert_eq!(pap_message(b"hi"), b"\x02hi");
        assert_eq!(pap_message(&[b'x'; 300]).len(), 256);
    }

    proptest! {
        #[test]
        fn arbitrary_octets_never_panic(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse_pap_request(&octets);
            let _ = parse_chap_value(&octets);
        }
    }
}
