//! A snapshot in a file of its own: written beside, made durable, then named.
//!
//! The file begins with magic, version and CRC; then come the frames `Meta`, `Part`..., `End`. A file under its
//! final name is whole, so whatever is missing in it is damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use raft::eraftpb::ConfState;

use super::SnapshotMeta;
use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::frame::{self, Kind, NoFrame};
use crate::limits::{FILE_VERSION, RECORD_OCTETS_MAX};
use crate::log_records as records;
use crate::table::{RestoreError, TableImage};

const MAGIC: [u8; 8] = *b"HOLDFSNP";
const HEADER_OCTETS: usize = 16;
/// Written at once.
const BUFFER_OCTETS: usize = 1024 * 1024;

/// The file's final name.
pub(super) fn path(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("snapshot-{index:020}"))
}

/// Writes an image under its final name; returns the file's size. Runs in a thread of its own.
pub(super) fn write_image(
    disk: &dyn Disk,
    folder: &Path,
    meta: &SnapshotMeta,
    image: &TableImage,
) -> Result<u64, LogError> {
    let mut writer = Writer::create(disk, folder, meta)?;
    image.encode(|part| writer.record(Kind::Part, part))?;
    writer.finish()
}

struct Writer<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    path: PathBuf,
    temporary: PathBuf,
    file: Box<dyn DiskFile>,
    number: u64,
    buffer: Vec<u8>,
    written: u64,
    end: records::SnapshotEnd,
}

impl<'a> Writer<'a> {
    fn create(disk: &'a dyn Disk, folder: &'a Path, meta: &SnapshotMeta) -> Result<Self, LogError> {
        let path = path(folder, meta.index);
        let temporary = path.with_extension("tmp");
        match disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::io("remove", &temporary)(error));
            }
            _ => {}
        }
        let file = disk
            .create(&temporary, 0)
            .map_err(LogError::io("create", &temporary))?;
        let mut buffer = Vec::with_capacity(BUFFER_OCTETS * 2);
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&FILE_VERSION.to_le_bytes());
        let crc = crc32c::crc32c(&buffer);
        buffer.extend_from_slice(&crc.to_le_bytes());
        let number = meta.index;
        let end = records::SnapshotEnd::default();
        let mut writer = Self {
            disk,
            folder,
            path,
            temporary,
            file,
            number,
            buffer,
            written: 0,
            end,
        };
        let record = records::SnapshotMeta {
            index: meta.index,
            term: meta.term,
            members: meta.members.encode_to_vec(),
        };
        frame::write(&mut writer.buffer, number, Kind::Meta, 0, &record.encode_to_vec());
        Ok(writer)
    }

    fn record(&mut self, kind: Kind, record: &[u8]) -> Result<(), LogError> {
        if record.len() > RECORD_OCTETS_MAX {
            return Err(LogError::RecordTooLarge { octets: record.len() });
        }
        frame::write(&mut self.buffer, self.number, kind, 0, record);
        self.end.parts += 1;
        self.end.octets += record.len() as u64;
        if self.buffer.len() >= BUFFER_OCTETS {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let written = self.file.write_at(&self.buffer, self.written);
        written.map_err(LogError::io("write", &self.temporary))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<u64, LogError> {
        frame::write(
            &mut self.buffer,
            self.number,
            Kind::End,
            0,
            &self.end.encode_to_vec(),
        );
        self.flush()?;
        self.file.sync().map_err(LogError::io("sync", &self.temporary))?;
        let renamed = self.disk.rename(&self.temporary, &self.path);
        renamed.map_err(LogError::io("rename", &self.temporary))?;
        self.disk
            .sync_folder(self.folder)
            .map_err(LogError::io("sync", self.folder))?;
        Ok(self.written)
    }
}

/// A snapshot file that is there.
#[derive(Clone, Debug)]
pub(super) struct SnapshotFile {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) octets: u64,
}

impl SnapshotFile {
    /// Checks the whole file, hands out its parts and returns what it says of itself.
    pub(super) fn read(
        &self,
        disk: &Arc<dyn Disk>,
        part: &mut dyn FnMut(&[u8]) -> Result<(), RestoreError>,
    ) -> Result<SnapshotMeta, LogError> {
        let octets = self.load(disk)?;
        let mut position = HEADER_OCTETS;
        let mut found = records::SnapshotEnd::default();
        let mut meta = None;
        loop {
            let frame =
                frame::read(&octets, position, self.number).map_err(|stop| self.broken(position, stop))?;
            let record = &octets[frame.record.clone()];
            match (frame.kind, &meta) {
                (Kind::Meta, None) => meta = Some(self.meta(record)?),
                (Kind::Part, Some(_)) => {
                    found.parts += 1;
                    found.octets += record.len() as u64;
                    part(record).map_err(|error| LogError::from_restore(&self.path, error))?;
                }
                (Kind::End, Some(_)) => {
                    let end = records::SnapshotEnd::decode(record).map_err(|error| self.decode(error))?;
                    return match (end == found, meta) {
                        (true, Some(meta)) => Ok(meta),
                        _ => Err(LogError::damaged(
                            &self.path,
                            position as u64,
                            "parts are missing",
                        )),
                    };
                }
                _ => {
                    return Err(LogError::damaged(
                        &self.path,
                        position as u64,
                        "a record out of place",
                    ));
                }
            }
            position = frame.next;
        }
    }

    fn load(&self, disk: &Arc<dyn Disk>) -> Result<Vec<u8>, LogError> {
        let path = &self.path;
        let file = disk.open(path).map_err(LogError::io("open", path))?;
        let size = file.size().map_err(LogError::io("measure", path))?;
        let mut octets = vec![0; size as usize];
        file.read_at(&mut octets, 0).map_err(LogError::io("read", path))?;
        if octets.len() < HEADER_OCTETS || octets[..8] != MAGIC {
            return Err(LogError::damaged(path, 0, "this is no snapshot"));
        }
        let found = frame::u32_at(&octets, 8);
        if found > FILE_VERSION {
            return Err(LogError::NewerVersion {
                path: path.clone(),
                found,
                known: FILE_VERSION,
            });
        }
        if frame::u32_at(&octets, 12) != crc32c::crc32c(&octets[..12]) {
            return Err(LogError::damaged(path, 0, "the header is broken"));
        }
        Ok(octets)
    }

    fn meta(&self, record: &[u8]) -> Result<SnapshotMeta, LogError> {
        let meta = records::SnapshotMeta::decode(record).map_err(|error| self.decode(error))?;
        let members = ConfState::decode(meta.members.as_slice()).map_err(|error| self.decode(error))?;
        Ok(SnapshotMeta {
            index: meta.index,
            term: meta.term,
            members,
        })
    }

    fn broken(&self, position: usize, stop: NoFrame) -> LogError {
        match stop {
            NoFrame::Empty => LogError::damaged(&self.path, position as u64, "the file ends early"),
            NoFrame::Broken(what) => LogError::damaged(&self.path, position as u64, what),
            NoFrame::Newer(found) => LogError::NewerVersion {
                path: self.path.clone(),
                found: u32::from(found),
                known: u32::from(frame::FRAME_VERSION),
            },
        }
    }

    fn decode(&self, error: prost::DecodeError) -> LogError {
        LogError::damaged(&self.path, 0, error.to_string())
    }
}
