//! The PPP frame as L2TP carries it (RFC 1661 §2, RFC 1662 §3.1, RFC 2661 §3.1).
//!
//! ```text
//!   [FF 03]  protocol (1 or 2 octets)  information
//! ```
//!
//! No flags, no FCS, no stuffing: the LAC took them off. A receiver is lenient: it takes address and control, or not,
//! and a compressed protocol field, or not, whatever was negotiated. A sender always writes the long form, which
//! every peer must understand.

use thiserror::Error;

/// Address and control fields of an uncompressed frame.
const ADDRESS_CONTROL: [u8; 2] = [0xff, 0x03];

/// A frame that carries no protocol and information.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// Nothing, or nothing after `FF 03`.
    #[error("frame of {octets} octets carries no protocol")]
    NoProtocol { octets: usize },
    /// A protocol field that is cut short, or with nothing behind it.
    #[error("frame of {octets} octets ends with its protocol field")]
    NoInformation { octets: usize },
}

/// A frame taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The protocol number, expanded to its two-octet form.
    pub protocol: u16,
    /// What follows the protocol field, padding included; never empty.
    pub information: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a frame apart.
    pub fn parse(octets: &'a [u8]) -> Result<Self, FrameError> {
        let body = octets.strip_prefix(&ADDRESS_CONTROL).unwrap_or(octets);
        let cut = FrameError::NoInformation { octets: octets.len() };
        let (protocol, information) = match body {
            [] => return Err(FrameError::NoProtocol { octets: octets.len() }),
            [low, rest @ ..] if low & 1 == 1 => (u16::from(*low), rest),
            [high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
            [_] => return Err(cut),
        };
        if information.is_empty() {
            return Err(cut);
        }
        Ok(Self {
            protocol,
            information,
        })
    }
}

/// Puts a frame together, in the long form.
pub fn encode(protocol: u16, information: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(4 + information.len());
    octets.extend_from_slice(&ADDRESS_CONTROL);
    octets.extend_from_slice(&protocol.to_be_bytes());
    octets.extend_from_slice(information);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_92_frame_without_information_is_refused() {
        for (octets, want) in [
            (&[][..], FrameError::NoProtocol { octets: 0 }),
            (&[0xff, 0x03], FrameError::NoProtocol { octets: 2 }),
            (&[0xc0], FrameError::NoInformation { octets: 1 }),
            (&[0x21], FrameError::NoInformation { octets: 1 }),
            (&[0xff, 0x03, 0xc0], FrameError::NoInformation { octets: 3 }),
            (&[0xff, 0x03, 0xc0, 0x21], FrameError::NoInformation { octets: 4 }),
        ] {
            assert_eq!(Frame::parse(octets), Err(want), "{octets:02x?}");
        }
    }

    #[test]
    fn s_93_every_form_of_header_is_accepted() {
        for (octets, protocol) in [
            (&[0xff, 0x03, 0xc0, 0x21, 9][..], 0xc021),
            (&[0xc0, 0x21, 9], 0xc021),
            (&[0x21, 9], 0x0021),
            (&[0xff, 0x03, 0x21, 9], 0x0021),
            (&[0x00, 0x21, 9], 0x0021),
        ] {
            let frame = Frame::parse(octets).unwrap();
            assert_eq!(
                (frame.protocol, frame.information),
                (protocol, &[9][..]),
                "{octets:02x?}"
            );
        }
    }

    /// A valid number has an odd low octet and an even high one (RFC 1661 §2); others are read all the same, and the
    /// link rejects them like any protocol that it does not speak.
    #[test]
    fn s_94_an_invalid_number_is_read_as_it_stands() {
        let frame = Frame::parse(&[0xff, 0x03, 0x00, 0x20, 1]).unwrap();
        assert_eq!((frame.protocol, frame.information), (0x0020, &[1][..]));
    }

    #[test]
    fn a_frame_is_written_in_the_long_form_and_read_back() {
        let octets = encode(0x8021, &[1, 2, 0, 4]);
        assert_eq!(octets, [0xff, 0x03, 0x80, 0x21, 1, 2, 0, 4]);
        assert_eq!(
            Frame::parse(&octets),
            Ok(Frame {
                protocol: 0x8021,
                information: &[1, 2, 0, 4]
            })
        );
    }
}
