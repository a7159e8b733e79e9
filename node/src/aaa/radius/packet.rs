//! A RADIUS packet over borrowed octets (RFC 2865 §3).
//!
//! ```text
//!  0                   1                   2                   3
//! |     Code      |  Identifier   |            Length             |
//! |                     Authenticator (16)                        |
//! |  Attributes: type (1), length (1, both included), value ...
//! ```

use super::attributes::Attribute;
use super::dictionary::Code;
use super::error::Malformed;

/// Octets before the attributes; also the shortest packet.
pub const HEADER: usize = 20;
/// The longest packet.
pub const LONGEST: usize = 4096;
/// Type and length of an attribute.
pub const ATTRIBUTE_HEADER: usize = 2;

/// A packet whose attributes all lie within it; nothing is said of who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    octets: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks all lengths. Octets behind the packet's own Length are padding.
    pub fn parse(received: &'a [u8]) -> Result<Self, Malformed> {
        let header = received
            .first_chunk::<HEADER>()
            .ok_or(Malformed::Short(received.len()))?;
        let length = u16::from_be_bytes([header[2], header[3]]);
        let wrong = Malformed::Length {
            length,
            received: received.len(),
        };
        let octets = match usize::from(length) {
            length @ HEADER..=LONGEST => received.get(..length).ok_or(wrong)?,
            _ => return Err(wrong),
        };
        let mut rest = &octets[HEADER..];
        while let [kind, more @ ..] = rest {
            let length = more.first().copied().unwrap_or(0);
            let next = match usize::from(length) {
                0 | 1 => None,
                length => rest.get(length..),
            };
            rest = next.ok_or(Malformed::Attribute {
                kind: *kind,
                offset: octets.len() - rest.len(),
                length,
            })?;
        }
        Ok(Self { octets })
    }

    /// What it is.
    pub fn code(&self) -> Code {
        Code(self.octets[0])
    }

    /// By which a reply finds its request.
    pub fn id(&self) -> u8 {
        self.octets[1]
    }

    /// As it came.
    pub fn authenticator(&self) -> [u8; 16] {
        *self.octets[4..]
            .first_chunk()
            .expect("a packet is not shorter than its header")
    }

    /// The packet without padding.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// In the packet's order. Attributes without a value, which some send, are left out.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        self.with_offsets().map(|(_, attribute)| attribute)
    }

    /// Each with the offset of its value in the packet.
    pub fn with_offsets(&self) -> impl Iterator<Item = (usize, Attribute<'a>)> + use<'a> {
        let octets = self.octets;
        let mut at = HEADER;
        let next = move || {
            let [kind, length, ..] = octets.get(at..)? else {
                return None;
            };
            let end = at + usize::from(*length);
            let value = octets.get(at + ATTRIBUTE_HEADER..end)?;
            let offset = std::mem::replace(&mut at, end) + ATTRIBUTE_HEADER;
            Some((offset, Attribute::new(*kind, value)))
        };
        std::iter::from_fn(next).filter(|(_, attribute)| !attribute.value.is_empty())
    }

    /// The first of this type.
    pub fn first(&self, kind: u8) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.kind == kind)
    }

    /// All of this type.
    pub fn all(&self, kind: u8) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        self.attributes().filter(move |attribute| attribute.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(attributes: &[u8]) -> Vec<u8> {
        let mut octets = vec![2, 9];
        octets.extend(
            u16::try_from(HEADER + attributes.len())
                .expect("short")
                .to_be_bytes(),
        );
        octets.extend([7; 16]);
        octets.extend(attributes);
        octets
    }

    #[test]
    fn header_and_attributes() {
        let mut octets = packet(&[1, 5, b'b', b'o', b'b', 6, 2, 1, 3, b'x']);
        octets.extend([1, 2, 3]);
        let packet = Packet::parse(&octets).expect("padding is ignored");
        assert_eq!((packet.code(), packet.id()), (Code(2), 9));
        assert_eq!(packet.authenticator(), [7; 16]);
        let all: Vec<_> = packet
            .with_offsets()
            .map(|(at, a)| (at, a.kind, a.value))
            .collect();
        assert_eq!(all, [(22, 1, &b"bob"[..]), (29, 1, &b"x"[..])]);
        assert_eq!(packet.first(1).map(|a| a.value), Some(&b"bob"[..]));
        assert_eq!(packet.all(1).count(), 2);
        assert_eq!(packet.octets().len(), 30);
    }

    /// An attribute of length 0 or 1, or beyond the packet: the packet is dropped.
    #[test]
    fn s_155_lengths_that_cannot_be() {
        for (attributes, at, length) in [
            (&[6, 0][..], 20, 0),
            (&[6, 1, 1, 3, b'x'], 20, 1),
            (&[1, 3, b'x', 6, 6, 0, 0, 0], 23, 6),
            (&[1, 3, b'x', 6], 23, 0),
        ] {
            let kind = 6;
            let octets = packet(attributes);
            let expected = Malformed::Attribute {
                kind,
                offset: at,
                length,
            };
            assert_eq!(Packet::parse(&octets), Err(expected), "{attributes:?}");
        }
        assert_eq!(Packet::parse(&[2; 19]), Err(Malformed::Short(19)));
        for (length, received) in [(19_u16, 20_usize), (21, 20), (4097, 5000), (0, 20)] {
            let mut octets = vec![0; received];
            octets[2..4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(
                Packet::parse(&octets),
                Err(Malformed::Length { length, received })
            );
        }
        let mut longest = vec![1; 0];
        for _ in 0..(LONGEST - HEADER) / 4 {
            longest.extend([1, 4, 0, 0]);
        }
        assert!(Packet::parse(&packet(&longest)).is_ok());
    }
}
