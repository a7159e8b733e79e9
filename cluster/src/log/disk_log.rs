//! The durable log: segments, spares and snapshots in one folder. Opening it is in `recovery`.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::JoinHandle;

use prost::Message;
use raft::eraftpb::{ConfState, Entry, HardState};

use super::disk::{Disk, DiskFile, SystemDisk};
use super::error::LogError;
use super::frame::{self, FRAME_HEADER_OCTETS, Kind};
use super::places::{Collect, Place, Places};
use super::recovery::{self, Found};
use super::segment::{HEADER_OCTETS, Segment};
use super::snapshot_file::{self, SnapshotFile};
use super::spares::Spares;
use super::{LogSizes, LogStore, Recovery, SnapshotMeta};
use crate::limits::{RECORD_OCTETS_MAX, SEGMENT_OCTETS, SNAPSHOT_LOG_OCTETS_MIN, SPARE_SEGMENTS};
use crate::log_records::SegmentStart;
use crate::table::{RestoreError, TableImage};

/// Sizes of a log, and the file system beneath it.
#[derive(Clone, Debug)]
pub struct DiskLogOptions {
    /// Octets of a segment.
    pub segment_octets: u64,
    /// Spare segments held in reserve.
    pub spares: usize,
    /// No snapshot is taken before the log has this many octets.
    pub snapshot_octets_min: u64,
    /// The file system.
    pub disk: Arc<dyn Disk>,
}

impl Default for DiskLogOptions {
    fn default() -> Self {
        Self {
            segment_octets: SEGMENT_OCTETS,
            spares: SPARE_SEGMENTS,
            snapshot_octets_min: SNAPSHOT_LOG_OCTETS_MIN,
            disk: Arc::new(SystemDisk),
        }
    }
}

/// A segment that is full.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// The highest index in it.
    pub(super) last_index: u64,
}

/// A snapshot being written.
#[derive(Debug)]
struct Job {
    meta: SnapshotMeta,
    result: Receiver<Result<u64, LogError>>,
    thread: JoinHandle<()>,
}

/// The durable log in a data folder.
#[derive(Debug)]
pub struct DiskLog {
    folder: PathBuf,
    options: DiskLogOptions,
    /// 0: the log is empty and nobody's.
    node_id: u64,
    first_members: ConfState,
    hard_state: HardState,
    /// The hard state as the log has it; the commit index in it may be older.
    written_hard_state: HardState,
    snapshot: SnapshotMeta,
    snapshot_file: Option<SnapshotFile>,
    places: Places,
    sealed: VecDeque<Sealed>,
    /// `None` until `bootstrap`.
    active: Option<Segment>,
    /// The highest index in the active segment.
    active_last_index: u64,
    /// Frames not written yet.
    buffer: Vec<u8>,
    spares: Spares,
    octets_since_snapshot: u64,
    job: Option<Job>,
    recovery: Recovery,
    /// Held as long as the log is.
    _lock: File,
}

impl DiskLog {
    /// Opens the log in a folder, which is made where there is none.
    pub fn open(folder: &Path) -> Result<Self, LogError> {
        Self::open_with(folder, DiskLogOptions::default())
    }

    /// Opens the log with sizes and a disk of the caller's choice.
    pub fn open_with(folder: &Path, options: DiskLogOptions) -> Result<Self, LogError> {
        let lock = recovery::lock(folder)?;
        let found = recovery::recover(folder, &options)?;
        let Found {
            node_id,
            first_members,
            hard_state,
            snapshot,
            snapshot_file,
            places,
            ..
        } = found;
        Ok(Self {
            folder: folder.to_path_buf(),
            options,
            node_id,
            first_members,
            written_hard_state: hard_state,
            hard_state,
            snapshot,
            snapshot_file,
            places,
            sealed: found.sealed,
            active: found.active,
            active_last_index: found.active_last_index,
            buffer: Vec::new(),
            spares: found.spares,
            octets_since_snapshot: found.octets,
            job: None,
            recovery: found.recovery,
            _lock: lock,
        })
    }

    fn active(&mut self) -> &mut Segment {
        self.active.as_mut().expect("raft writes after bootstrap only")
    }

    /// Frames a record into the buffer; where the segment is full, a new one is begun first. Returns the offset of
    /// the record and the number of its segment.
    fn write(&mut self, kind: Kind, record: &[u8]) -> Result<(u64, u64), LogError> {
        let octets = frame::framed_octets(record.len()) as u64;
        let smallest = self.options.segment_octets - HEADER_OCTETS;
        if record.len() > RECORD_OCTETS_MAX || octets > smallest / 2 {
            return Err(LogError::RecordTooLarge { octets: record.len() });
        }
        let buffered = self.buffer.len() as u64;
        if self.active().room() < buffered + octets {
            self.roll()?;
        }
        let Segment { number, end, .. } = *self.active();
        let offset = end + self.buffer.len() as u64 + FRAME_HEADER_OCTETS as u64;
        frame::write(&mut self.buffer, number, kind, end, record);
        self.octets_since_snapshot += octets;
        Ok((offset, number))
    }

    /// Seals the active segment and begins the next one.
    fn roll(&mut self) -> Result<(), LogError> {
        self.flush()?;
        let full = self.active.take().expect("raft writes after bootstrap only");
        let Segment {
            number,
            path,
            file,
            end,
            ..
        } = full;
        self.sealed.push_back(Sealed {
            number,
            path,
            file,
            last_index: self.active_last_index,
        });
        self.begin(number + 1, end)
    }

    fn begin(&mut self, number: u64, previous_end: u64) -> Result<(), LogError> {
        let spare = self.spares.take()?;
        let path = recovery::segment_path(&self.folder, number);
        let disk = &*self.options.disk;
        self.active = Some(Segment::begin(disk, &spare, path, number, previous_end)?);
        disk.sync_folder(&self.folder)
            .map_err(LogError::io("sync", &self.folder))?;
        self.active_last_index = 0;
        self.write_start()
    }

    /// Says again what must not go with the segments in front of this one.
    fn write_start(&mut self) -> Result<(), LogError> {
        let start = SegmentStart {
            hard_state: self.hard_state.encode_to_vec(),
            members: self.first_members.encode_to_vec(),
            node_id: self.node_id,
        };
        self.written_hard_state = self.hard_state;
        self.write(Kind::Start, &start.encode_to_vec())?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.active().append(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn read_place(&self, index: u64, place: &Place) -> Result<Entry, LogError> {
        let sealed = self.sealed.iter().find(|sealed| sealed.number == place.segment);
        let active = self
            .active
            .as_ref()
            .filter(|active| active.number == place.segment);
        let (file, path) = match (sealed, active) {
            (Some(sealed), _) => (&sealed.file, &sealed.path),
            (None, Some(active)) => (&active.file, &active.path),
            (None, None) => {
                let path = recovery::segment_path(&self.folder, place.segment);
                return Err(LogError::damaged(&path, place.offset, "the segment is gone"));
            }
        };
        let mut octets = vec![0; place.octets as usize];
        file.read_at(&mut octets, place.offset)
            .map_err(LogError::io("read", path))?;
        let entry = Entry::decode(octets.as_slice());
        match entry {
            Ok(entry) if entry.index == index && entry.term == place.term => Ok(entry),
            _ => Err(LogError::damaged(path, place.offset, "another entry lies here")),
        }
    }

    /// Lets go of the log in front of the snapshot, and of older snapshots.
    fn adopt(&mut self, meta: SnapshotMeta, octets: u64) -> Result<(), LogError> {
        self.flush()?;
        let path = snapshot_file::path(&self.folder, meta.index);
        self.places.compact(meta.index);
        while self
            .sealed
            .front()
            .is_some_and(|sealed| sealed.last_index <= meta.index)
        {
            if let Some(sealed) = self.sealed.pop_front() {
                self.remove(&sealed.path)?;
            }
        }
        let file = SnapshotFile {
            path,
            number: meta.index,
            octets,
        };
        if let Some(old) = self.snapshot_file.replace(file)
            && old.number != meta.index
        {
            self.remove(&old.path)?;
        }
        self.snapshot = meta;
        self.options
            .disk
            .sync_folder(&self.folder)
            .map_err(LogError::io("sync", &self.folder))
    }

    fn remove(&self, path: &Path) -> Result<(), LogError> {
        self.options
            .disk
            .remove(path)
            .map_err(LogError::io("remove", path))
    }
}

impl LogStore for DiskLog {
    fn bootstrap(&mut self, node_id: u64, members: &ConfState) -> Result<(), LogError> {
        if self.node_id == node_id {
            return Ok(());
        }
        if self.node_id != 0 {
            let path = self.folder.clone();
            return Err(LogError::OtherNode {
                path,
                found: self.node_id,
                expected: node_id,
            });
        }
        self.node_id = node_id;
        self.first_members = members.clone();
        self.snapshot.members = members.clone();
        match self.active {
            // A process ended before the first record was written.
            Some(_) => self.write_start()?,
            None => self.begin(1, 0)?,
        }
        self.sync()
    }

    fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    fn hard_state(&self) -> HardState {
        self.hard_state
    }

    fn snapshot(&self) -> &SnapshotMeta {
        &self.snapshot
    }

    fn last_index(&self) -> u64 {
        self.places.last_index()
    }

    fn term(&self, index: u64) -> Option<u64> {
        match index == self.snapshot.index {
            true => Some(self.snapshot.term),
            false => self.places.get(index).map(|place| place.term),
        }
    }

    fn entries(&self, low: u64, high: u64, octets_max: u64) -> Result<Vec<Entry>, LogError> {
        let mut collect = Collect::new(octets_max);
        for index in low..high {
            let entry = match (self.places.cached(index), self.places.get(index)) {
                (Some(entry), _) => entry.clone(),
                (None, Some(place)) => self.read_place(index, place)?,
                (None, None) => break,
            };
            if !collect.add(entry) {
                break;
            }
        }
        Ok(collect.entries)
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        if self.written_hard_state != self.hard_state {
            self.write(Kind::HardState, &self.hard_state.encode_to_vec())?;
            self.written_hard_state = self.hard_state;
        }
        for entry in entries {
            let record = entry.encode_to_vec();
            let (offset, segment) = self.write(Kind::Entry, &record)?;
            let place = Place {
                term: entry.term,
                segment,
                offset,
                octets: record.len() as u32,
            };
            self.places.truncate(entry.index);
            self.places.push(place, Some(entry.clone()));
            self.active_last_index = self.active_last_index.max(entry.index);
        }
        Ok(())
    }

    fn set_hard_state(&mut self, hard_state: &HardState) -> Result<(), LogError> {
        self.hard_state = *hard_state;
        let written = &self.written_hard_state;
        if (written.term, written.vote) == (hard_state.term, hard_state.vote) {
            return Ok(());
        }
        self.append(&[])
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.flush()
    }

    fn read_snapshot(&self, part: &mut dyn FnMut(&[u8]) -> Result<(), RestoreError>) -> Result<(), LogError> {
        match &self.snapshot_file {
            Some(file) => file.read(&self.options.disk, part).map(|_| ()),
            None => Ok(()),
        }
    }

    fn wants_snapshot(&self) -> bool {
        let LogSizes { log, snapshot } = self.sizes();
        self.job.is_none() && log > self.options.snapshot_octets_min.max(2 * snapshot)
    }

    fn begin_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError> {
        let (sender, result) = channel();
        let (disk, folder, about) = (Arc::clone(&self.options.disk), self.folder.clone(), meta.clone());
        let write = move || {
            // The log may be gone by now; then nobody asks for the result.
            let _ = sender.send(snapshot_file::write_image(&*disk, &folder, &about, &image));
        };
        let thread = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(write);
        let thread = thread.map_err(LogError::io("start a thread for", &self.folder))?;
        self.octets_since_snapshot = 0;
        self.job = Some(Job { meta, result, thread });
        Ok(())
    }

    fn finish_snapshot(&mut self) -> Result<Option<Result<u64, String>>, LogError> {
        let Some(job) = &self.job else {
            return Ok(None);
        };
        let result = match job.result.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => return Ok(Some(Err(self.abandon_job()))),
        };
        let meta = job.meta.clone();
        self.abandon_job();
        match result {
            // An installed one has overtaken it.
            Ok(_) if meta.index <= self.snapshot.index => Ok(None),
            Ok(octets) => {
                let index = meta.index;
                self.adopt(meta, octets)?;
                Ok(Some(Ok(index)))
            }
            Err(error) => Ok(Some(Err(error.to_string()))),
        }
    }

    fn install_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError> {
        let octets = snapshot_file::write_image(&*self.options.disk, &self.folder, &meta, &image)?;
        self.hard_state.commit = self.hard_state.commit.max(meta.index);
        self.places = Places::after(&meta);
        self.octets_since_snapshot = 0;
        self.roll()?;
        self.sync()?;
        for sealed in &mut self.sealed {
            sealed.last_index = 0;
        }
        self.adopt(meta, octets)
    }

    fn maintain(&mut self) -> Result<(), LogError> {
        if let Some(active) = &mut self.active {
            active.settle()?;
        }
        self.spares.refill()
    }

    fn reserve_in_use(&self) -> bool {
        self.spares.in_use()
    }

    fn sizes(&self) -> LogSizes {
        LogSizes {
            log: self.octets_since_snapshot,
            snapshot: self.snapshot_file.as_ref().map_or(0, |file| file.octets),
        }
    }
}

impl DiskLog {
    fn abandon_job(&mut self) -> String {
        match self.job.take().map(|job| job.thread.join()) {
            Some(Err(_)) => "the thread that wrote the snapshot panicked".to_owned(),
            _ => String::new(),
        }
    }
}

impl Drop for DiskLog {
    /// The folder is unlocked only when nothing writes to it any more.
    fn drop(&mut self) {
        self.abandon_job();
    }
}
