//! Opening a data folder: the lock, the newest snapshot, the segments in order.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use raft::eraftpb::{ConfState, Entry, HardState};

use super::disk_log::{DiskLogOptions, Sealed};
use super::error::LogError;
use super::frame::{Frame, Kind};
use super::places::{Place, Places};
use super::segment::{self, Scan, Segment};
use super::snapshot_file::{self, SnapshotFile};
use super::spares::Spares;
use super::{Cut, Recovery, SnapshotMeta};
use crate::log_records::SegmentStart;

/// What is in the folder.
pub(super) struct Found {
    pub(super) node_id: u64,
    pub(super) first_members: ConfState,
    pub(super) hard_state: HardState,
    pub(super) snapshot: SnapshotMeta,
    pub(super) snapshot_file: Option<SnapshotFile>,
    pub(super) places: Places,
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) active: Option<Segment>,
    pub(super) active_last_index: u64,
    pub(super) spares: Spares,
    /// Octets of the entries behind the snapshot.
    pub(super) octets: u64,
    pub(super) recovery: Recovery,
}

pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("segment-{number:020}"))
}

/// Makes the folder if need be and takes it for this process alone.
pub(super) fn lock(folder: &Path) -> Result<File, LogError> {
    let not_writable = |source| LogError::NotWritable {
        path: folder.to_path_buf(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(not_writable)?;
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = opened.map_err(not_writable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid).is_ok();
            let known = read && !pid.trim().is_empty();
            let pid = if known {
                pid.trim().to_owned()
            } else {
                "?".to_owned()
            };
            return Err(LogError::Locked {
                path: folder.to_path_buf(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(LogError::io("lock", &path)(error)),
    }
    let noted = file
        .set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()));
    noted.map_err(not_writable)?;
    Ok(file)
}

/// Reads the folder. Only a torn write behind everything that was durable is cut off.
pub(super) fn recover(folder: &Path, options: &DiskLogOptions) -> Result<Found, LogError> {
    let disk = &options.disk;
    let names = disk.list(folder).map_err(LogError::io("list", folder))?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        let path = folder.join(name);
        disk.remove(&path).map_err(LogError::io("remove", &path))?;
    }
    let (snapshot_file, snapshot) = newest_snapshot(folder, options, &names)?;
    let (octets, count) = (options.segment_octets, options.spares);
    let spares = Spares::open(Arc::clone(disk), folder, &names, octets, count)?;
    let numbers = numbers_of(&names, "segment-");
    check_numbers(folder, &numbers, snapshot.index)?;

    let mut replay = Replay::new(snapshot);
    let segments = read_segments(folder, options, &numbers, &mut replay)?;
    let mut found = replay.finish(folder, spares)?;
    found.sealed = segments.sealed;
    found.active = segments.active;
    found.active_last_index = segments.active_last_index;
    found.recovery.cut = segments.cut;
    found.snapshot_file = snapshot_file;
    Ok(found)
}

#[derive(Default)]
struct Segments {
    sealed: VecDeque<Sealed>,
    active: Option<Segment>,
    active_last_index: u64,
    cut: Option<Cut>,
}

fn read_segments(
    folder: &Path,
    options: &DiskLogOptions,
    numbers: &[u64],
    replay: &mut Replay,
) -> Result<Segments, LogError> {
    let mut segments = Segments::default();
    for (&number, sealed_end) in numbers.iter().zip(sealed_ends(folder, options, numbers)?) {
        let path = segment_path(folder, number);
        let file = options.disk.open(&path).map_err(LogError::io("open", &path))?;
        let scan = segment::scan(&*file, &path, number, sealed_end)?;
        let last_index = replay.segment(&path, number, &scan)?;
        if sealed_end.is_some() {
            let file = Arc::from(file);
            segments.sealed.push_back(Sealed {
                number,
                path,
                file,
                last_index,
            });
            continue;
        }
        if scan.torn > 0 {
            let (offset, octets) = (scan.end, scan.torn);
            segments.cut = Some(Cut {
                path: path.clone(),
                offset,
                octets,
            });
        }
        let resumed = Segment::resume(file, path, number, &scan, options.segment_octets)?;
        segments.active = Some(resumed);
        segments.active_last_index = last_index;
    }
    Ok(segments)
}

/// Where each segment ends, as the one after it says; `None` for the last one.
fn sealed_ends(
    folder: &Path,
    options: &DiskLogOptions,
    numbers: &[u64],
) -> Result<Vec<Option<u64>>, LogError> {
    let mut ends = Vec::new();
    for &number in numbers.iter().skip(1) {
        let path = segment_path(folder, number);
        let file = options.disk.open(&path).map_err(LogError::io("open", &path))?;
        ends.push(Some(segment::previous_end(&*file, &path, number)?));
    }
    ends.push(None);
    Ok(ends)
}

/// Older snapshots were about to be removed.
fn newest_snapshot(
    folder: &Path,
    options: &DiskLogOptions,
    names: &[String],
) -> Result<(Option<SnapshotFile>, SnapshotMeta), LogError> {
    let mut numbers = numbers_of(names, "snapshot-");
    let Some(number) = numbers.pop() else {
        return Ok((None, SnapshotMeta::default()));
    };
    for old in numbers {
        let path = snapshot_file::path(folder, old);
        options
            .disk
            .remove(&path)
            .map_err(LogError::io("remove", &path))?;
    }
    let path = snapshot_file::path(folder, number);
    let size = options.disk.open(&path).and_then(|file| file.size());
    let octets = size.map_err(LogError::io("measure", &path))?;
    let file = SnapshotFile { path, number, octets };
    let meta = file.read(&options.disk, &mut |_| Ok(()))?;
    Ok((Some(file), meta))
}

fn numbers_of(names: &[String], prefix: &str) -> Vec<u64> {
    let numbers = names
        .iter()
        .filter_map(|name| name.strip_prefix(prefix)?.parse().ok());
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

fn check_numbers(folder: &Path, numbers: &[u64], snapshot: u64) -> Result<(), LogError> {
    if numbers.is_empty() && snapshot > 0 {
        return Err(LogError::damaged(
            folder,
            0,
            "there is a snapshot but no segment of the log",
        ));
    }
    match numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        Some(pair) => Err(LogError::damaged(
            &segment_path(folder, pair[0] + 1),
            0,
            "the file is missing",
        )),
        None => Ok(()),
    }
}

/// Replays the records of the segments.
struct Replay {
    node_id: u64,
    first_members: ConfState,
    hard_state: HardState,
    snapshot: SnapshotMeta,
    places: Places,
    octets: u64,
    /// Entries from here on wait for others in front of them, which a later overwrite may bring.
    gap: Option<u64>,
    /// The log went another way than the snapshot that was put in its place.
    superseded: bool,
}

impl Replay {
    fn new(snapshot: SnapshotMeta) -> Self {
        Self {
            node_id: 0,
            first_members: ConfState::default(),
            hard_state: HardState::default(),
            places: Places::after(&snapshot),
            snapshot,
            octets: 0,
            gap: None,
            superseded: false,
        }
    }

    /// Returns the highest index in the segment.
    fn segment(&mut self, path: &Path, number: u64, scan: &Scan) -> Result<u64, LogError> {
        let mut last_index = 0;
        for frame in &scan.frames {
            let broken = |error: prost::DecodeError| {
                LogError::damaged(path, frame.record.start as u64, error.to_string())
            };
            let (kind, record) = segment::record(scan, frame);
            match kind {
                Kind::Start => self.start(record).map_err(broken)?,
                Kind::HardState => self.hard_state = HardState::decode(record).map_err(broken)?,
                Kind::Entry => {
                    let entry = Entry::decode(record).map_err(broken)?;
                    last_index = last_index.max(entry.index);
                    self.entry(&entry, number, frame);
                }
                Kind::Meta | Kind::Part | Kind::End => {
                    let offset = frame.record.start as u64;
                    return Err(LogError::damaged(path, offset, "a record out of place"));
                }
            }
        }
        Ok(last_index)
    }

    fn start(&mut self, record: &[u8]) -> Result<(), prost::DecodeError> {
        let start = SegmentStart::decode(record)?;
        self.node_id = start.node_id;
        self.first_members = ConfState::decode(start.members.as_slice())?;
        self.hard_state = HardState::decode(start.hard_state.as_slice())?;
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, segment: u64, frame: &Frame) {
        let SnapshotMeta {
            index: base, term, ..
        } = self.snapshot;
        if entry.index <= base {
            self.superseded = entry.index == base && entry.term != term;
            self.places.truncate(base + 1);
            self.gap = None;
            return;
        }
        if entry.index > self.places.last_index() + 1 {
            self.gap.get_or_insert(entry.index);
            return;
        }
        self.gap = None;
        self.places.truncate(entry.index);
        let octets = frame.record.len() as u32;
        self.octets += u64::from(octets);
        let place = Place {
            term: entry.term,
            segment,
            offset: frame.record.start as u64,
            octets,
        };
        self.places.push(place, None);
    }

    fn finish(mut self, folder: &Path, spares: Spares) -> Result<Found, LogError> {
        if self.superseded {
            self.places.truncate(self.snapshot.index + 1);
        } else if let Some(index) = self.gap {
            let what = format!("the entries before index {index} are missing");
            return Err(LogError::damaged(folder, 0, what));
        }
        if self.snapshot.index == 0 {
            self.snapshot.members = self.first_members.clone();
        }
        let commit = self.hard_state.commit;
        if commit > self.places.last_index() && !self.superseded {
            let what = format!("entries up to index {commit} were committed and are missing");
            return Err(LogError::damaged(folder, 0, what));
        }
        self.hard_state.commit = commit.max(self.snapshot.index);
        let recovery = Recovery {
            snapshot: self.snapshot.index,
            entries: self.places.len(),
            cut: None,
        };
        Ok(Found {
            node_id: self.node_id,
            first_members: self.first_members,
            hard_state: self.hard_state,
            snapshot: self.snapshot,
            snapshot_file: None,
            places: self.places,
            sealed: VecDeque::new(),
            active: None,
            active_last_index: 0,
            spares,
            octets: self.octets,
            recovery,
        })
    }
}
