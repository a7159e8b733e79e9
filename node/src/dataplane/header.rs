//! The L2TP header of a received datagram (RFC 2661 §3.1), read in place.
//!
//! The control side decodes control messages in full with `holdfast_protocol`; here only what decides where a datagram
//! goes is read. Unlike that codec this one accepts data messages in their many forms and allocates nothing.

use std::ops::Range;

use super::counters::DropReason;

const TYPE: u16 = 0x8000;
const LENGTH: u16 = 0x4000;
const SEQUENCE: u16 = 0x0800;
const OFFSET: u16 = 0x0200;
const VERSION: u16 = 0x000f;
const VERSION_2: u16 = 2;

/// Octets of the header of a control message, all fields present.
const CONTROL_HEADER: usize = 12;

/// Octets in front of a PPP frame in the data messages that we send, without and with Ns and Nr.
pub const DATA_HEADER: usize = 6;
/// See [`DATA_HEADER`].
pub const SEQUENCED_DATA_HEADER: usize = 10;

/// What a datagram says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// A control message: tunnel id (0 = not known yet) and where it ends (octets behind are padding).
    Control {
        /// The recipient's tunnel id.
        tunnel: u16,
        /// Octets of the message, header included.
        end: usize,
    },
    /// A data message.
    Data {
        /// The recipient's tunnel id.
        tunnel: u16,
        /// The recipient's session id.
        session: u16,
        /// Ns, if present. Nr is reserved in data messages and not looked at (S-98).
        ns: Option<u16>,
        /// Where the PPP frame lies in the datagram.
        frame: Range<usize>,
    },
}

impl Header {
    /// The recipient's tunnel id.
    pub fn tunnel(&self) -> u16 {
        match self {
            Header::Control { tunnel, .. } | Header::Data { tunnel, .. } => *tunnel,
        }
    }
}

/// Reads the header. Reserved bits are ignored (S-5).
///
/// # Errors
/// The reason to drop the datagram (S-1 to S-4, S-6).
pub fn parse(datagram: &[u8]) -> Result<Header, DropReason> {
    let flags = word(datagram, 0).ok_or(DropReason::Runt)?;
    if datagram.len() < DATA_HEADER {
        return Err(DropReason::Runt);
    }
    if flags & VERSION != VERSION_2 {
        return Err(DropReason::Version);
    }
    if flags & TYPE != 0 {
        parse_control(flags, datagram)
    } else {
        parse_data(flags, datagram)
    }
}

/// P alone is tolerated in a control message (S-3).
fn parse_control(flags: u16, datagram: &[u8]) -> Result<Header, DropReason> {
    if flags & (LENGTH | SEQUENCE | OFFSET) != LENGTH | SEQUENCE {
        return Err(DropReason::Flags);
    }
    if datagram.len() < CONTROL_HEADER {
        return Err(DropReason::Runt);
    }
    let end = field(datagram, 2)? as usize;
    if end < CONTROL_HEADER || end > datagram.len() {
        return Err(DropReason::Length);
    }
    Ok(Header::Control {
        tunnel: field(datagram, 4)?,
        end,
    })
}

fn parse_data(flags: u16, datagram: &[u8]) -> Result<Header, DropReason> {
    let mut at = 2;
    let mut end = datagram.len();
    if flags & LENGTH != 0 {
        end = field(datagram, at)? as usize;
        at += 2;
    }
    if end > datagram.len() {
        return Err(DropReason::Length);
    }
    let tunnel = field(datagram, at)?;
    let session = field(datagram, at + 2)?;
    at += 4;
    let mut ns = None;
    if flags & SEQUENCE != 0 {
        ns = Some(field(datagram, at)?);
        at += 4;
    }
    if flags & OFFSET != 0 {
        at += 2 + field(datagram, at)? as usize;
        if at > end {
            return Err(DropReason::Offset);
        }
    }
    if at > end {
        return Err(DropReason::Length);
    }
    Ok(Header::Data {
        tunnel,
        session,
        ns,
        frame: at..end,
    })
}

/// Writes the header of a data message right before `frame_at` and returns where it begins.
///
/// Without Length, as the Linux kernel sends it; Nr is 0 (RFC 2661 §5.4). `buffer` must have
/// [`SEQUENCED_DATA_HEADER`] octets before `frame_at`, or [`DATA_HEADER`] without Ns.
pub fn write_data(buffer: &mut [u8], frame_at: usize, tunnel: u16, session: u16, ns: Option<u16>) -> usize {
    let ids = |out: &mut [u8]| {
        out[2..4].copy_from_slice(&tunnel.to_be_bytes());
        out[4..6].copy_from_slice(&session.to_be_bytes());
    };
    let Some(ns) = ns else {
        let out = &mut buffer[frame_at - DATA_HEADER..frame_at];
        out[..2].copy_from_slice(&VERSION_2.to_be_bytes());
        ids(out);
        return frame_at - DATA_HEADER;
    };
    let out = &mut buffer[frame_at - SEQUENCED_DATA_HEADER..frame_at];
    out[..2].copy_from_slice(&(VERSION_2 | SEQUENCE).to_be_bytes());
    ids(out);
    out[6..8].copy_from_slice(&ns.to_be_bytes());
    out[8..10].copy_from_slice(&[0, 0]);
    frame_at - SEQUENCED_DATA_HEADER
}

fn word(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn field(data: &[u8], at: usize) -> Result<u16, DropReason> {
    word(data, at).ok_or(DropReason::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(tunnel: u16, session: u16, ns: Option<u16>, frame: Range<usize>) -> Result<Header, DropReason> {
        Ok(Header::Data {
            tunnel,
            session,
            ns,
            frame,
        })
    }

    #[test]
    fn every_form_of_a_data_header() {
        let cases: [(&[u8], Result<Header, DropReason>); 5] = [
            (&[0x00, 0x02, 1, 2, 3, 4, 0xff], data(0x0102, 0x0304, None, 6..7)),
            (
                &[0x40, 0x02, 0, 9, 1, 2, 3, 4, 0xff],
                data(0x0102, 0x0304, None, 8..9),
            ),
            (
                &[0x08, 0x02, 1, 2, 3, 4, 0, 7, 0, 0, 0xff],
                data(0x0102, 0x0304, Some(7), 10..11),
            ),
            (
                &[0x48, 0x02, 0, 13, 1, 2, 3, 4, 0, 7, 0, 0, 0xff],
                data(0x0102, 0x0304, Some(7), 12..13),
            ),
            (
                &[0x02, 0x02, 1, 2, 3, 4, 0, 2, 9, 9, 0xff],
                data(0x0102, 0x0304, None, 10..11),
            ),
        ];
        for (octets, expected) in cases {
            assert_eq!(parse(octets), expected, "{octets:02x?}");
        }
    }

    #[test]
    fn s_1_short_datagrams_are_runts() {
        for length in 0..6 {
            assert_eq!(parse(&[0, 2, 0, 1, 0, 1][..length]), Err(DropReason::Runt));
        }
        assert_eq!(
            parse(&[0xc8, 2, 0, 11, 0, 1, 0, 0, 0, 0, 0]),
            Err(DropReason::Runt)
        );
    }

    #[test]
    fn s_2_only_version_2_is_read() {
        for version in (0..16).filter(|version| *version != 2) {
            for flags in [0xc8, 0x00] {
                let datagram = [flags, version, 0, 12, 0, 1, 0, 0, 0, 0, 0, 0];
                assert_eq!(parse(&datagram), Err(DropReason::Version));
            }
        }
    }

    #[test]
    fn s_3_control_needs_length_and_sequence_and_no_offset() {
        let with = |flags: u8| parse(&[flags, 2, 0, 12, 0, 1, 0, 0, 0, 0, 0, 0]);
        for flags in [0x80, 0xc0, 0x88, 0xca] {
            assert_eq!(with(flags), Err(DropReason::Flags), "{flags:02x}");
        }
        assert!(with(0xc8).is_ok() && with(0xc9).is_ok(), "P alone is tolerated");
    }

    #[test]
    fn s_4_length_beyond_the_end_or_inside_the_header_drops_and_a_tail_is_ignored() {
        let control = |length: u8| parse(&[0xc8, 2, 0, length, 0, 1, 0, 0, 0, 0, 0, 0, 0xaa]);
        assert_eq!(control(14), Err(DropReason::Length));
        assert_eq!(control(11), Err(DropReason::Length));
        assert_eq!(control(12), Ok(Header::Control { tunnel: 1, end: 12 }));
        let message = |length: u8| parse(&[0x40, 2, 0, length, 0, 1, 0, 2, 0xaa, 0xbb]);
        assert_eq!(message(11), Err(DropReason::Length));
        assert_eq!(message(7), Err(DropReason::Length));
        assert_eq!(message(9), data(1, 2, None, 8..9));
        assert_eq!(
            parse(&[0x48, 2, 0, 12, 0, 1, 0, 2, 0, 0]),
            Err(DropReason::Length)
        );
    }

    #[test]
    fn s_5_reserved_bits_are_ignored() {
        assert_eq!(parse(&[0x34, 0xf2, 0, 1, 0, 2, 0xaa]), data(1, 2, None, 6..7));
        let control = [0xfc, 0xf2, 0, 12, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse(&control), Ok(Header::Control { tunnel: 1, end: 12 }));
    }

    #[test]
    fn s_6_an_offset_beyond_the_end_drops_and_zero_is_legal() {
        let offset = |size: u8| parse(&[0x02, 2, 0, 1, 0, 2, 0, size, 0xaa]);
        assert_eq!(offset(2), Err(DropReason::Offset));
        assert_eq!(offset(1), data(1, 2, None, 9..9));
        assert_eq!(offset(0), data(1, 2, None, 8..9));
    }

    #[test]
    fn s_98_nr_of_data_is_not_looked_at() {
        assert_eq!(
            parse(&[0x08, 2, 0, 1, 0, 2, 0, 7, 0xde, 0xad, 1]),
            data(1, 2, Some(7), 10..11)
        );
    }

    #[test]
    fn what_we_write_reads_back() {
        for ns in [None, Some(0xfffe)] {
            let mut buffer = [0xee; 20];
            let at = write_data(&mut buffer, 16, 0x0102, 0x0304, ns);
            assert_eq!(parse(&buffer[at..]), data(0x0102, 0x0304, ns, 16 - at..20 - at));
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_stays_inside(datagram in prop::collection::vec(any::<u8>(), 0..64)) {
            match parse(&datagram) {
                Ok(Header::Control { end, .. }) => prop_assert!((12..=datagram.len()).contains(&end)),
                Ok(Header::Data { frame, .. }) => {
                    prop_assert!(frame.start <= frame.end && frame.end <= datagram.len());
                }
                Err(_) => {}
            }
        }
    }
}
