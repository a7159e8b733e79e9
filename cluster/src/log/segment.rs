//! One file of the log: a header page, then frames, then preallocated zeros.
//!
//! ```text
//! 0      magic, version, number, end of the segment before, CRC
//! 512    marker A   how far the segment is durable: offset, count, CRC
//! 1024   marker B   (written in turn, so that one is always whole)
//! 4096   frames
//! ```
//!
//! A marker is written after each fdatasync and made durable by the next one. What lies below the marker, or below
//! the `synced end` in any frame, was durable; damage there is a lost disk. What lies above and is no whole frame
//! is a write that the power cut short, which nobody was told of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::frame::{self, ALIGNMENT, Frame, Kind, NoFrame};
use crate::limits::FILE_VERSION;

pub(super) const HEADER_OCTETS: u64 = 4096;
const MAGIC: [u8; 8] = *b"HOLDFLOG";
const MARKERS: [u64; 2] = [512, 1024];

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// All below is durable.
    pub(super) end: u64,
    pub(super) capacity: u64,
    marker_count: u64,
    /// A marker was written and not made durable yet.
    marker_pending: bool,
}

/// What a scan found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) octets: Vec<u8>,
    pub(super) frames: Vec<Frame>,
    /// Where the frames end.
    pub(super) end: u64,
    /// Octets of a torn write behind the end.
    pub(super) torn: u64,
    marker_count: u64,
}

impl Segment {
    /// Writes the header of a spare file, makes it durable and gives the file its name.
    pub(super) fn begin(
        disk: &dyn Disk,
        spare: &Path,
        path: PathBuf,
        number: u64,
        previous_end: u64,
    ) -> Result<Self, LogError> {
        let file = disk.open(spare).map_err(LogError::io("open", spare))?;
        let capacity = file.size().map_err(LogError::io("measure", spare))?;
        file.write_at(&header(number, previous_end), 0)
            .map_err(LogError::io("write", spare))?;
        file.write_at(&marker(HEADER_OCTETS, 0), MARKERS[0])
            .map_err(LogError::io("write", spare))?;
        file.sync().map_err(LogError::io("sync", spare))?;
        disk.rename(spare, &path).map_err(LogError::io("rename", spare))?;
        let file = Arc::from(file);
        Ok(Self {
            number,
            path,
            file,
            end: HEADER_OCTETS,
            capacity,
            marker_count: 0,
            marker_pending: false,
        })
    }

    /// Opens the last segment after a scan: a torn write is wiped, so that nothing of it can come back later.
    pub(super) fn resume(
        file: Box<dyn DiskFile>,
        path: PathBuf,
        number: u64,
        scan: &Scan,
        capacity: u64,
    ) -> Result<Self, LogError> {
        let size = file.size().map_err(LogError::io("measure", &path))?;
        let capacity = capacity.max(size);
        file.allocate(capacity)
            .map_err(LogError::io("preallocate", &path))?;
        if scan.torn > 0 {
            let zeros = vec![0; scan.torn as usize];
            file.write_at(&zeros, scan.end)
                .map_err(LogError::io("write", &path))?;
        }
        let file = Arc::from(file);
        let marker_count = scan.marker_count;
        let mut segment = Self {
            number,
            path,
            file,
            end: scan.end,
            capacity,
            marker_count,
            marker_pending: false,
        };
        segment.append(&[])?;
        segment.settle()?;
        Ok(segment)
    }

    pub(super) fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.end)
    }

    /// Writes frames at the end and makes them durable, with all that came before.
    pub(super) fn append(&mut self, frames: &[u8]) -> Result<(), LogError> {
        if !frames.is_empty() {
            self.file
                .write_at(frames, self.end)
                .map_err(LogError::io("write", &self.path))?;
        }
        self.file.sync().map_err(LogError::io("sync", &self.path))?;
        self.end += frames.len() as u64;
        self.marker_count += 1;
        let slot = MARKERS[(self.marker_count % 2) as usize];
        let written = self.file.write_at(&marker(self.end, self.marker_count), slot);
        written.map_err(LogError::io("write", &self.path))?;
        self.marker_pending = true;
        Ok(())
    }

    /// Makes the marker durable too; for when there is nothing else to write.
    pub(super) fn settle(&mut self) -> Result<(), LogError> {
        if self.marker_pending {
            self.file.sync().map_err(LogError::io("sync", &self.path))?;
            self.marker_pending = false;
        }
        Ok(())
    }
}

/// Reads a segment. `sealed_end` is where it ends, for all but the last one.
pub(super) fn scan(
    file: &dyn DiskFile,
    path: &Path,
    number: u64,
    sealed_end: Option<u64>,
) -> Result<Scan, LogError> {
    let size = file.size().map_err(LogError::io("measure", path))?;
    let mut octets = vec![0; size as usize];
    file.read_at(&mut octets, 0).map_err(LogError::io("read", path))?;
    let header = read_header(&octets, path, number)?;
    let Header {
        marker_end,
        marker_count,
        ..
    } = header;
    if let Some(end) = sealed_end {
        octets.truncate(end as usize);
    }

    let (frames, stop) = frames(&octets, number);
    let position = frames.last().map_or(HEADER_OCTETS as usize, |frame| frame.next);
    let end = position as u64;
    let synced = frames.iter().map(|frame| frame.synced).max().unwrap_or(0);
    let later = later_synced(&octets, position, number);
    let durable = sealed_end.unwrap_or(marker_end).max(synced).max(later);
    let what = match stop {
        NoFrame::Newer(found) => {
            let (path, found) = (path.to_path_buf(), u32::from(found));
            let known = u32::from(frame::FRAME_VERSION);
            return Err(LogError::NewerVersion { path, found, known });
        }
        NoFrame::Broken(what) => what,
        NoFrame::Empty => "the data ends early",
    };
    if end < durable {
        return Err(LogError::damaged(path, end, what));
    }
    let mut rest = octets.iter().skip(position);
    let torn = rest
        .rposition(|octet| *octet != 0)
        .map_or(0, |last| last as u64 + 1);
    Ok(Scan {
        octets,
        frames,
        end,
        torn,
        marker_count,
    })
}

/// All frames, and why there is no further one.
fn frames(octets: &[u8], number: u64) -> (Vec<Frame>, NoFrame) {
    let mut frames = Vec::new();
    let mut position = HEADER_OCTETS as usize;
    loop {
        match frame::read(octets, position, number) {
            Ok(frame) => {
                position = frame.next;
                frames.push(frame);
            }
            Err(stop) => return (frames, stop),
        }
    }
}

/// The highest synced end that whole frames behind a broken one speak of: it tells a torn write, whose frames
/// were all written together, from damage in the midst of what was durable.
fn later_synced(octets: &[u8], position: usize, number: u64) -> u64 {
    (position.next_multiple_of(ALIGNMENT)..octets.len())
        .step_by(ALIGNMENT)
        .filter_map(|offset| frame::read(octets, offset, number).ok())
        .map(|frame| frame.synced)
        .max()
        .unwrap_or(0)
}

fn header(number: u64, previous_end: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(36);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&FILE_VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&number.to_le_bytes());
    header.extend_from_slice(&previous_end.to_le_bytes());
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header
}

fn marker(end: u64, count: u64) -> Vec<u8> {
    let mut marker = Vec::with_capacity(20);
    marker.extend_from_slice(&end.to_le_bytes());
    marker.extend_from_slice(&count.to_le_bytes());
    let crc = crc32c::crc32c(&marker);
    marker.extend_from_slice(&crc.to_le_bytes());
    marker
}

/// What a segment says of where the one before it ends.
pub(super) fn previous_end(file: &dyn DiskFile, path: &Path, number: u64) -> Result<u64, LogError> {
    let size = file.size().map_err(LogError::io("measure", path))?;
    let mut octets = vec![0; size.min(HEADER_OCTETS) as usize];
    file.read_at(&mut octets, 0).map_err(LogError::io("read", path))?;
    Ok(read_header(&octets, path, number)?.previous_end)
}

struct Header {
    previous_end: u64,
    marker_end: u64,
    marker_count: u64,
}

fn read_header(octets: &[u8], path: &Path, number: u64) -> Result<Header, LogError> {
    if (octets.len() as u64) < HEADER_OCTETS {
        return Err(LogError::damaged(
            path,
            octets.len() as u64,
            "the file ends within its header",
        ));
    }
    if octets[..8] != MAGIC {
        return Err(LogError::damaged(path, 0, "this is no segment of a log"));
    }
    let found = frame::u32_at(octets, 8);
    if found > FILE_VERSION {
        return Err(LogError::NewerVersion {
            path: path.to_path_buf(),
            found,
            known: FILE_VERSION,
        });
    }
    if frame::u32_at(octets, 32) != crc32c::crc32c(&octets[..32]) || u64_at(octets, 16) != number {
        return Err(LogError::damaged(path, 0, "the header is broken"));
    }
    let whole = MARKERS
        .iter()
        .map(|&slot| &octets[slot as usize..slot as usize + 20])
        .filter(|marker| frame::u32_at(marker, 16) == crc32c::crc32c(&marker[..16]));
    let newest = whole.map(|marker| (u64_at(marker, 8), u64_at(marker, 0))).max();
    let (marker_count, marker_end) =
        newest.ok_or_else(|| LogError::damaged(path, MARKERS[0], "both markers are broken"))?;
    Ok(Header {
        previous_end: u64_at(octets, 24),
        marker_end,
        marker_count,
    })
}

fn u64_at(octets: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(octets[offset..offset + 8].try_into().expect("eight octets"))
}

/// What a frame of a scan holds.
pub(super) fn record<'a>(scan: &'a Scan, frame: &Frame) -> (Kind, &'a [u8]) {
    (frame.kind, &scan.octets[frame.record.clone()])
}
