//! The frame around every record of a log or snapshot file.
//!
//! ```text
//!  0       4       8        12  13  14    16           24
//! +-------+-------+--------+---+---+-----+------------+---------+---------+
//! | magic | CRC   | length |ver|typ| 0   | synced end | record  | padding |
//! +-------+-------+--------+---+---+-----+------------+---------+---------+
//! ```
//!
//! Numbers are little-endian. The CRC-32C covers the file's own number, then everything after itself but the
//! padding: a frame that was left over from another file does not count. The length is that of the record; the
//! padding makes the frame a multiple of eight octets. `synced end` is the offset in this file below which all was
//! durable when the frame was written.

use std::ops::Range;

use crate::limits::RECORD_OCTETS_MAX;

pub(super) const FRAME_HEADER_OCTETS: usize = 24;
pub(super) const ALIGNMENT: usize = 8;
/// The only version so far.
pub(super) const FRAME_VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"HfR\xa7";

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// `SegmentStart`, first in each segment.
    Start = 1,
    /// raft's `HardState`.
    HardState = 2,
    /// raft's `Entry`.
    Entry = 3,
    /// `SnapshotMeta`, first in a snapshot.
    Meta = 4,
    /// A part of a `TableSnapshot`.
    Part = 5,
    /// `SnapshotEnd`, last in a snapshot.
    End = 6,
}

impl Kind {
    fn from_octet(octet: u8) -> Option<Self> {
        const ALL: [Kind; 6] = [
            Kind::Start,
            Kind::HardState,
            Kind::Entry,
            Kind::Meta,
            Kind::Part,
            Kind::End,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == octet)
    }
}

/// A frame found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Where the record lies in the file.
    pub(super) record: Range<usize>,
    /// Where the next frame begins.
    pub(super) next: usize,
    /// Below this offset all was durable when the frame was written.
    pub(super) synced: u64,
}

/// Why there is no frame at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// Only zeros, or the end of the file.
    Empty,
    /// Something else than a frame.
    Broken(&'static str),
    /// A whole frame, written by a newer program.
    Newer(u8),
}

/// Octets that a record takes with its frame.
pub(super) fn framed_octets(record: usize) -> usize {
    (FRAME_HEADER_OCTETS + record).next_multiple_of(ALIGNMENT)
}

/// Appends a framed record to `buffer`. `file` is the number of the file.
pub(super) fn write(buffer: &mut Vec<u8>, file: u64, kind: Kind, synced: u64, record: &[u8]) {
    let start = buffer.len();
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&(record.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&[FRAME_VERSION, kind as u8, 0, 0]);
    buffer.extend_from_slice(&synced.to_le_bytes());
    buffer.extend_from_slice(record);
    let crc = checksum(file, &buffer[start + 8..]);
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    buffer.resize(start + framed_octets(record.len()), 0);
}

/// The frame at an offset of a file's octets.
pub(super) fn read(octets: &[u8], offset: usize, file: u64) -> Result<Frame, NoFrame> {
    let Some(rest) = octets.get(offset..).filter(|rest| !rest.is_empty()) else {
        return Err(NoFrame::Empty);
    };
    if rest.iter().take(FRAME_HEADER_OCTETS).all(|octet| *octet == 0) {
        return Err(NoFrame::Empty);
    }
    if rest.len() < FRAME_HEADER_OCTETS {
        return Err(NoFrame::Broken("the frame ends early"));
    }
    if rest[..4] != MAGIC {
        return Err(NoFrame::Broken("no frame begins here"));
    }
    let length = u32_at(rest, 8) as usize;
    if length > RECORD_OCTETS_MAX || rest.len() < FRAME_HEADER_OCTETS + length {
        return Err(NoFrame::Broken("the frame ends early"));
    }
    let covered = &rest[8..FRAME_HEADER_OCTETS + length];
    if u32_at(rest, 4) != checksum(file, covered) {
        return Err(NoFrame::Broken("the checksum is wrong"));
    }
    let padding = rest
        .iter()
        .take(framed_octets(length))
        .skip(FRAME_HEADER_OCTETS + length);
    if padding.into_iter().any(|octet| *octet != 0) {
        return Err(NoFrame::Broken("the padding is not zero"));
    }
    if rest[12] > FRAME_VERSION {
        return Err(NoFrame::Newer(rest[12]));
    }
    let kind = Kind::from_octet(rest[13]).ok_or(NoFrame::Broken("unknown type of record"))?;
    let record = offset + FRAME_HEADER_OCTETS;
    Ok(Frame {
        kind,
        record: record..record + length,
        next: offset + framed_octets(length),
        synced: u64::from_le_bytes(rest[16..24].try_into().expect("eight octets")),
    })
}

pub(super) fn u32_at(octets: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(octets[offset..offset + 4].try_into().expect("four octets"))
}

fn checksum(file: u64, covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&file.to_le_bytes()), covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        let mut file = Vec::new();
        write(&mut file, 7, Kind::Entry, 4096, b"abc");
        assert_eq!(file.len(), 32);
        let expected = Frame {
            kind: Kind::Entry,
            record: 24..27,
            next: 32,
            synced: 4096,
        };
        assert_eq!(read(&file, 0, 7), Ok(expected));
        assert_eq!(read(&file, 32, 7), Err(NoFrame::Empty));
    }

    #[test]
    fn a_frame_of_another_file_does_not_count() {
        let mut file = Vec::new();
        write(&mut file, 7, Kind::Entry, 0, b"abc");
        assert_eq!(read(&file, 0, 8), Err(NoFrame::Broken("the checksum is wrong")));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut file = Vec::new();
        write(&mut file, 7, Kind::Entry, 0, b"abc");
        file[12] = FRAME_VERSION + 1;
        let crc = checksum(7, &file[8..27]);
        file[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read(&file, 0, 7), Err(NoFrame::Newer(FRAME_VERSION + 1)));
    }
}
