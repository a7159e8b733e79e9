//! The L2TP header, control and data (RFC 2661 §3.1).
//!
//! Decoding borrows from the datagram and allocates nothing, so that the packet path can use it too. It judges
//! the header alone: whether the ids are known, and whether the sender is the right one, is the caller's matter.

use thiserror::Error;

use crate::ids::{SessionId, TunnelId};

const FLAG_CONTROL: u16 = 0x8000;
const FLAG_LENGTH: u16 = 0x4000;
const FLAG_SEQUENCE: u16 = 0x0800;
const FLAG_OFFSET: u16 = 0x0200;
const FLAG_PRIORITY: u16 = 0x0100;
const VERSION_MASK: u16 = 0x000f;
const VERSION: u16 = 2;

/// Octets of a control header, and of a ZLB (a control message without a body).
pub const CONTROL_HEADER_LEN: usize = 12;
/// Octets of the longest data header that is ever written, without offset padding.
pub const MAX_DATA_HEADER_LEN: usize = 14;

/// Why a datagram is discarded on sight: no reply, no state (RFC 2661 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Fewer octets than the header's own fields need.
    #[error("{len} octets are too few for the header")]
    TooShort {
        /// Octets in the datagram.
        len: usize,
    },
    /// L2F (1), L2TPv3 (3) or unassigned.
    #[error("version {0} is not L2TPv2")]
    Version(u8),
    /// A control message with L or S clear, or with O set.
    #[error("flags {0:#06x} are not those of a control message")]
    ControlFlags(u16),
    /// The Length field is below the header's size or beyond the datagram's end.
    #[error("length {length} does not fit a datagram of {available} octets")]
    Length {
        /// The Length field.
        length: usize,
        /// Octets in the datagram.
        available: usize,
    },
    /// The offset padding runs beyond the end.
    #[error("offset of {offset} octets runs beyond the end")]
    Offset {
        /// The Offset Size field.
        offset: usize,
    },
}

/// A datagram with a valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// T = 1.
    Control(ControlPacket<'a>),
    /// T = 0.
    Data(DataPacket<'a>),
}

/// A control message: its header's fields and its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPacket<'a> {
    /// The header's fields.
    pub header: ControlHeader,
    /// The AVPs; empty in a ZLB.
    pub body: &'a [u8],
}

impl ControlPacket<'_> {
    /// Whether this is a ZLB, which acknowledges and is never acknowledged.
    pub fn is_zlb(&self) -> bool {
        self.body.is_empty()
    }
}

/// The fields of a control header. The ids are the *recipient's*; `None` is zero on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlHeader {
    /// The recipient's tunnel id, if known.
    pub tunnel: Option<TunnelId>,
    /// The recipient's session id; `None` in messages of the tunnel.
    pub session: Option<SessionId>,
    /// Sequence number of this message.
    pub ns: u16,
    /// Sequence number that the sender expects next.
    pub nr: u16,
}

impl ControlHeader {
    /// The header's octets for a body of `body_len` octets.
    ///
    /// # Panics
    /// If header and body exceed 65,535 octets, which no message of this crate does.
    pub fn encode(&self, body_len: usize) -> [u8; CONTROL_HEADER_LEN] {
        let length = u16::try_from(CONTROL_HEADER_LEN + body_len).expect("a control message fits a datagram");
        let flags = FLAG_CONTROL | FLAG_LENGTH | FLAG_SEQUENCE | VERSION;
        let words = [
            flags,
            length,
            self.tunnel.map_or(0, TunnelId::get),
            self.session.map_or(0, SessionId::get),
            self.ns,
            self.nr,
        ];
        let mut octets = [0; CONTROL_HEADER_LEN];
        for (pair, word) in octets.chunks_exact_mut(2).zip(words) {
            pair.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }

    /// Overwrites Nr in an encoded control message: it is refreshed on every transmission (RFC 2661 §5.8).
    pub fn patch_nr(message: &mut [u8], nr: u16) {
        message[10..12].copy_from_slice(&nr.to_be_bytes());
    }
}

/// A data message: its header's fields and the PPP frame. Nr is reserved in data messages and not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPacket<'a> {
    /// The recipient's tunnel id; `None` if the field is zero.
    pub tunnel: Option<TunnelId>,
    /// The recipient's session id; `None` if the field is zero.
    pub session: Option<SessionId>,
    /// The sequence number, if the sender numbers its messages.
    pub ns: Option<u16>,
    /// The P bit: to be handled before others.
    pub priority: bool,
    /// The PPP frame from its address field on.
    pub payload: &'a [u8],
}

/// What a data header to be sent holds. The ids are the *recipient's*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The recipient's tunnel id.
    pub tunnel: TunnelId,
    /// The recipient's session id.
    pub session: SessionId,
    /// Whether to write the Length field.
    pub with_length: bool,
    /// The sequence number, where messages are numbered.
    pub ns: Option<u16>,
    /// Octets of padding before the payload, with the Offset Size field; this side never asks for any.
    pub offset: Option<u16>,
    /// The P bit.
    pub priority: bool,
}

impl DataHeader {
    /// The shortest one, with nothing but the ids.
    pub fn short(tunnel: TunnelId, session: SessionId) -> Self {
        Self {
            tunnel,
            session,
            with_length: false,
            ns: None,
            offset: None,
            priority: false,
        }
    }

    /// Octets that the header takes, offset padding included.
    pub fn len(&self) -> usize {
        let offset = self.offset.map_or(0, |pad| 2 + usize::from(pad));
        6 + 2 * usize::from(self.with_length) + 4 * usize::from(self.ns.is_some()) + offset
    }

    /// A header is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the header for a payload of `payload_len` octets to the start of `out` and returns its length.
    /// `None` if `out` is too small or the message would exceed 65,535 octets.
    pub fn write(&self, payload_len: usize, out: &mut [u8]) -> Option<usize> {
        let len = self.len();
        let total = u16::try_from(len + payload_len).ok()?;
        let out = out.get_mut(..len)?;
        out.fill(0);
        let mut at = 0;
        let mut put = |value: u16| {
            out[at..at + 2].copy_from_slice(&value.to_be_bytes());
            at += 2;
        };
        put(self.flags());
        if self.with_length {
            put(total);
        }
        put(self.tunnel.get());
        put(self.session.get());
        if let Some(ns) = self.ns {
            put(ns);
            put(0);
        }
        if let Some(pad) = self.offset {
            put(pad);
        }
        Some(len)
    }

    /// The message with this payload. `None` if it would exceed 65,535 octets.
    pub fn message(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.len() + payload.len());
        out.resize(self.len(), 0);
        self.write(payload.len(), &mut out)?;
        out.extend_from_slice(payload);
        Some(out)
    }

    fn flags(&self) -> u16 {
        let mut flags = VERSION;
        for (set, flag) in [
            (self.with_length, FLAG_LENGTH),
            (self.ns.is_some(), FLAG_SEQUENCE),
            (self.offset.is_some(), FLAG_OFFSET),
            (self.priority, FLAG_PRIORITY),
        ] {
            if set {
                flags |= flag;
            }
        }
        flags
    }
}

/// Reads a datagram's header. Octets beyond the Length field are padding and left out; reserved bits are ignored.
pub fn decode(datagram: &[u8]) -> Result<Packet<'_>, HeaderError> {
    let available = datagram.len();
    let short = HeaderError::TooShort { len: available };
    let flags = word(datagram, 0).ok_or(short)?;
    if flags & VERSION_MASK != VERSION {
        // No version was ever sent in fewer than six octets; saying "too short" first helps nobody.
        return Err(HeaderError::Version((flags & VERSION_MASK) as u8));
    }
    let mut message = datagram;
    if flags & FLAG_LENGTH != 0 {
        let length = usize::from(word(datagram, 2).ok_or(short)?);
        message = datagram
            .get(..length)
            .ok_or(HeaderError::Length { length, available })?;
    }
    if flags & FLAG_CONTROL != 0 {
        return decode_control(flags, message, available).map(Packet::Control);
    }
    decode_data(flags, message, available).map(Packet::Data)
}

fn decode_control(flags: u16, message: &[u8], available: usize) -> Result<ControlPacket<'_>, HeaderError> {
    // P is tolerated: it changes nothing in a control message.
    let required = FLAG_LENGTH | FLAG_SEQUENCE;
    if flags & required != required || flags & FLAG_OFFSET != 0 {
        return Err(HeaderError::ControlFlags(flags));
    }
    let short = too_short(flags, message.len(), available);
    let body = message.get(CONTROL_HEADER_LEN..).ok_or(short)?;
    let field = |at| word(message, at).ok_or(short);
    let header = ControlHeader {
        tunnel: TunnelId::new(field(4)?),
        session: SessionId::new(field(6)?),
        ns: field(8)?,
        nr: field(10)?,
    };
    Ok(ControlPacket { header, body })
}

fn decode_data(flags: u16, message: &[u8], available: usize) -> Result<DataPacket<'_>, HeaderError> {
    let short = too_short(flags, message.len(), available);
    let field = |at| word(message, at).ok_or(short);
    let mut at = if flags & FLAG_LENGTH != 0 { 4 } else { 2 };
    let tunnel = TunnelId::new(field(at)?);
    let session = SessionId::new(field(at + 2)?);
    at += 4;
    let mut ns = None;
    if flags & FLAG_SEQUENCE != 0 {
        ns = Some(field(at)?);
        field(at + 2)?;
        at += 4;
    }
    if flags & FLAG_OFFSET != 0 {
        let offset = usize::from(field(at)?);
        at += 2 + offset;
        if at > message.len() {
            return Err(HeaderError::Offset { offset });
        }
    }
    let payload = message.get(at..).ok_or(short)?;
    Ok(DataPacket {
        tunnel,
        session,
        ns,
        priority: flags & FLAG_PRIORITY != 0,
        payload,
    })
}

fn too_short(flags: u16, length: usize, available: usize) -> HeaderError {
    if flags & FLAG_LENGTH != 0 && length < available {
        HeaderError::Length { length, available }
    } else {
        HeaderError::TooShort { len: available }
    }
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    let pair = octets.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZLB: [u8; 12] = [
        0xc8, 0x02, 0x00, 0x0c, 0x10, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x02,
    ];

    fn control(datagram: &[u8]) -> ControlPacket<'_> {
        match decode(datagram).expect("a valid header") {
            Packet::Control(packet) => packet,
            Packet::Data(packet) => panic!("control expected, data found: {packet:?}"),
        }
    }

    fn data(datagram: &[u8]) -> DataPacket<'_> {
        match decode(datagram).expect("a valid header") {
            Packet::Data(packet) => packet,
            Packet::Control(packet) => panic!("data expected, control found: {packet:?}"),
        }
    }

    #[test]
    fn zlb_octets_and_value_both_ways() {
        let header = ControlHeader {
            tunnel: TunnelId::new(0x1001),
            session: None,
            ns: 1,
            nr: 2,
        };
        assert_eq!(header.encode(0), ZLB);
        let packet = control(&ZLB);
        assert_eq!(packet.header, header);
        assert!(packet.is_zlb());
    }

    #[test]
    fn a_data_message_in_one_piece() {
        let tunnel = TunnelId::new(0x2002).expect("not 0");
        let session = SessionId::new(0x4004).expect("not 0");
        let header = DataHeader::short(tunnel, session);
        let octets = [0x00, 0x02, 0x20, 0x02, 0x40, 0x04, 0xff, 0x03];
        assert_eq!(header.message(&[0xff, 0x03]), Some(octets.to_vec()));
        let with_length = DataHeader {
            with_length: true,
            ..header
        };
        assert_eq!(
            with_length.message(&[0; 65_527]).map(|octets| octets.len()),
            Some(65_535)
        );
        assert_eq!(with_length.message(&[0; 65_528]), None);
    }

    #[test]
    fn s_1_short_datagrams_are_dropped() {
        for len in 0..6 {
            let datagram = &[0x00, 0x02, 0x20, 0x02, 0x40][..len.min(5)];
            assert!(decode(datagram).is_err(), "{len}");
        }
        for len in 0..12 {
            assert!(decode(&ZLB[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn s_2_other_versions_are_dropped() {
        for version in (0..16).filter(|version| *version != 2) {
            let mut datagram = ZLB;
            datagram[1] = version;
            assert_eq!(decode(&datagram), Err(HeaderError::Version(version)));
        }
    }

    #[test]
    fn s_3_control_needs_l_and_s_and_refuses_o() {
        for first in [0x88, 0xc0, 0x80, 0xca] {
            let mut datagram = ZLB;
            datagram[0] = first;
            assert!(decode(&datagram).is_err(), "{first:#x}");
        }
        let mut priority = ZLB;
        priority[0] = 0xc9;
        assert!(control(&priority).is_zlb());
    }

    #[test]
    fn s_4_length_field_rules() {
        let mut datagram = ZLB.to_vec();
        datagram[3] = 13;
        assert_eq!(
            decode(&datagram),
            Err(HeaderError::Length {
                length: 13,
                available: 12
            })
        );
        datagram[3] = 12;
        datagram.extend_from_slice(&[1, 2, 3]);
        assert!(control(&datagram).is_zlb());
        datagram[3] = 11;
        assert_eq!(
            decode(&datagram),
            Err(HeaderError::Length {
                length: 11,
                available: 15
            })
        );
        for length in 0..8 {
            let datagram = [0x40, 0x02, 0x00, length, 0x00, 0x01, 0x00, 0x02, 0xff];
            assert!(decode(&datagram).is_err(), "{length}");
        }
    }

    #[test]
    fn s_5_reserved_bits_are_ignored() {
        let mut datagram = ZLB;
        datagram[0] |= 0x34;
        datagram[1] |= 0xf0;
        assert_eq!(control(&datagram), control(&ZLB));
    }

    #[test]
    fn s_6_offset_rules() {
        let beyond = [0x02, 0x02, 0x00, 0x01, 0x00, 0x02, 0x00, 0x02, 0xaa];
        assert_eq!(decode(&beyond), Err(HeaderError::Offset { offset: 2 }));
        let zero = [0x02, 0x02, 0x00, 0x01, 0x00, 0x02, 0x00, 0x00, 0xaa];
        assert_eq!(data(&zero).payload, [0xaa]);
        let one = [0x02, 0x02, 0x00, 0x01, 0x00, 0x02, 0x00, 0x01, 0xaa, 0xbb];
        assert_eq!(data(&one).payload, [0xbb]);
    }

    #[test]
    fn unknown_ids_are_named_and_not_judged() {
        // The decoder knows no tunnels; it reports the id, and the caller drops what it does not know.
        assert_eq!(control(&ZLB).header.tunnel, TunnelId::new(0x1001));
    }

    #[test]
    fn s_98_nr_of_a_data_message_is_ignored() {
        let mut datagram = vec![
            0x08, 0x02, 0x20, 0x02, 0x40, 0x04, 0x00, 0x07, 0x00, 0x00, 0xff, 0x03,
        ];
        let zero = data(&datagram.clone()).ns;
        datagram[8..10].copy_from_slice(&[0xbe, 0xef]);
        assert_eq!(data(&datagram).ns, zero);
        assert_eq!(zero, Some(7));
    }

    #[test]
    fn data_headers_of_every_form_both_ways() {
        let tunnel = TunnelId::new(0x2002).expect("not zero");
        let session = SessionId::new(0x4004).expect("not zero");
        for form in 0..16u8 {
            let header = DataHeader {
                tunnel,
                session,
                with_length: form & 1 != 0,
                ns: (form & 2 != 0).then_some(0xfffe),
                offset: (form & 4 != 0).then_some(3),
                priority: form & 8 != 0,
            };
            let mut out = [0xee; 32];
            let len = header.write(2, &mut out).expect("it fits");
            assert_eq!(len, header.len());
            out[len..len + 2].copy_from_slice(&[0xff, 0x03]);
            let packet = data(&out[..len + 2]);
            assert_eq!((packet.tunnel, packet.session), (Some(tunnel), Some(session)));
            assert_eq!((packet.ns, packet.priority), (header.ns, header.priority));
            assert_eq!(packet.payload, [0xff, 0x03]);
            assert_eq!(header.write(2, &mut out[..len - 1]), None);
        }
    }
}
