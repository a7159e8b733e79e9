//! PPP frames, control packets and options (RFC 1661 §5, §6) as a client sees them.

pub const PROTOCOL_IPV4: u16 = 0x0021;
pub const PROTOCOL_IPCP: u16 = 0x8021;
pub const PROTOCOL_LCP: u16 = 0xc021;
pub const PROTOCOL_PAP: u16 = 0xc023;
pub const PROTOCOL_CHAP: u16 = 0xc223;

pub const CONFIGURE_REQUEST: u8 = 1;
pub const CONFIGURE_ACK: u8 = 2;
pub const CONFIGURE_NAK: u8 = 3;
pub const CONFIGURE_REJECT: u8 = 4;
pub const TERMINATE_REQUEST: u8 = 5;
pub const TERMINATE_ACK: u8 = 6;
pub const PROTOCOL_REJECT: u8 = 8;
pub const ECHO_REQUEST: u8 = 9;
pub const ECHO_REPLY: u8 = 10;

/// A PPP frame taken apart: protocol number and information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub protocol: u16,
    pub information: &'a [u8],
}

/// Splits a frame as L2TP carries it, with or without address and control, with a protocol of one or two octets.
pub fn split(frame: &[u8]) -> Option<Frame<'_>> {
    let frame = frame.strip_prefix(&[0xff, 0x03]).unwrap_or(frame);
    match *frame {
        [low, ref information @ ..] if low & 1 == 1 => Some(Frame {
            protocol: u16::from(low),
            information,
        }),
        [high, low, ref information @ ..] => Some(Frame {
            protocol: u16::from_be_bytes([high, low]),
            information,
        }),
        _ => None,
    }
}

/// A frame with address, control and a protocol of two octets around `information`.
pub fn frame(protocol: u16, information: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(4 + information.len());
    octets.extend_from_slice(&[0xff, 0x03]);
    octets.extend_from_slice(&protocol.to_be_bytes());
    octets.extend_from_slice(information);
    octets
}

/// A control packet: `code(1) id(1) length(2) data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub code: u8,
    pub id: u8,
    pub data: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` where the length is impossible. Octets beyond the length are padding.
    pub fn parse(information: &'a [u8]) -> Option<Self> {
        let &[code, id, high, low, ..] = information else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let data = information.get(4..length)?;
        Some(Self { code, id, data })
    }

    /// The whole frame that carries this packet.
    pub fn to_frame(self, protocol: u16) -> Vec<u8> {
        let length = u16::try_from(4 + self.data.len()).expect("a client's packets are short");
        let mut octets = Vec::with_capacity(8 + self.data.len());
        octets.extend_from_slice(&[0xff, 0x03]);
        octets.extend_from_slice(&protocol.to_be_bytes());
        octets.extend_from_slice(&[self.code, self.id]);
        octets.extend_from_slice(&length.to_be_bytes());
        octets.extend_from_slice(self.data);
        octets
    }
}

/// Walks `type(1) length(1) value`; `None` when a length is impossible, which spoils the whole packet.
pub fn options(mut data: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while let [kind, length, ..] = *data {
        let value = data.get(2..usize::from(length))?;
        found.push((kind, value));
        data = &data[usize::from(length)..];
    }
    data.is_empty().then_some(found)
}

/// Appends an option.
pub fn push_option(data: &mut Vec<u8>, kind: u8, value: &[u8]) {
    data.push(kind);
    data.push(u8::try_from(2 + value.len()).expect("a client's options are short"));
    data.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_with_and_without_compression() {
        let ipv4 = |information| {
            Some(Frame {
                protocol: PROTOCOL_IPV4,
                information,
            })
        };
        assert_eq!(split(&[0xff, 0x03, 0x00, 0x21, 0x45]), ipv4(&[0x45][..]));
        assert_eq!(split(&[0x00, 0x21, 0x45]), ipv4(&[0x45][..]));
        assert_eq!(split(&[0x21, 0x45]), ipv4(&[0x45][..]));
        assert_eq!(split(&[0xff, 0x03]), None);
        assert_eq!(split(&[0xc0]), None);
    }

    #[test]
    fn a_packet_survives_the_round_trip() {
        let octets = Packet {
            code: 9,
            id: 7,
            data: &[1, 2, 3, 4],
        }
        .to_frame(PROTOCOL_LCP);
        assert_eq!(octets, [0xff, 0x03, 0xc0, 0x21, 9, 7, 0, 8, 1, 2, 3, 4]);
        let frame = split(&octets).unwrap();
        assert_eq!(
            Packet::parse(frame.information),
            Some(Packet {
                code: 9,
                id: 7,
                data: &[1, 2, 3, 4]
            })
        );
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert_eq!(Packet::parse(&[1, 1, 0, 3]), None);
        assert_eq!(Packet::parse(&[1, 1, 0, 9, 0]), None);
        assert_eq!(options(&[1, 0]), None);
        assert_eq!(options(&[1, 1]), None);
        assert_eq!(options(&[1, 4, 5]), None);
        assert_eq!(options(&[1, 4, 5, 220, 7]), None);
    }
}
