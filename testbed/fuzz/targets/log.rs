//! The durable log after its files were damaged: opening it never panics, and an entry that was long durable is there
//! or the log refuses to open.
//!
//! The input is a list of edits, six octets each: the file, what to do, where (two octets), a value, a length. Edits may
//! repair the checksums of frames, so that damage behind them is reached too; then any outcome but a panic is right.

#![no_main]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use holdfast_cluster::Table;
use holdfast_cluster::log::{Disk, DiskFile, DiskLog, DiskLogOptions, LogStore, SnapshotMeta};
use libfuzzer_sys::fuzz_target;
use raft::eraftpb::{ConfState, Entry};

/// Octets; a few dozen entries fill one.
const SEGMENT: u64 = 8192;
/// Entries in the undamaged log; each was made durable before the next was written.
const ENTRIES: u64 = 60;
/// The snapshot holds the entries up to this one.
const SNAPSHOT: u64 = 20;
/// The end of the log may be a write that was cut short; what lies well before it may not.
const LONG_DURABLE: u64 = ENTRIES - 2;
const FRAME_HEADER: usize = 24;
const FRAME_MAGIC: [u8; 4] = *b"HfR\xa7";

type Files = BTreeMap<PathBuf, Vec<u8>>;

fuzz_target!(|edits: &[u8]| {
    static UNDAMAGED: OnceLock<Files> = OnceLock::new();
    let mut files = UNDAMAGED.get_or_init(undamaged).clone();
    let mut forged = false;
    for edit in edits.chunks_exact(6) {
        forged |= apply(&mut files, edit);
    }
    let Ok(log) = open(MemoryDisk::with(files)) else {
        return;
    };
    let entries = log.entries(log.snapshot().index + 1, log.last_index() + 1, u64::MAX);
    let _ = log.read_snapshot(&mut |_| Ok(()));
    if forged {
        return;
    }
    assert!(
        log.last_index() >= LONG_DURABLE,
        "durable entries are gone, the last is {}",
        log.last_index()
    );
    if let Ok(entries) = entries {
        for found in entries.iter().filter(|entry| entry.index <= LONG_DURABLE) {
            assert_eq!(*found, entry(found.index));
        }
    }
});

/// Does one edit; tells whether it made wrong octets look right, which no accident does.
fn apply(files: &mut Files, edit: &[u8]) -> bool {
    let [file, what, high, low, value, length] = *edit else {
        return false;
    };
    let index = usize::from(file) % files.len();
    let Some((path, octets)) = files.iter_mut().nth(index) else {
        return false;
    };
    let at = usize::from(u16::from_be_bytes([high, low])) % octets.len().max(1);
    let end = (at + usize::from(length)).min(octets.len());
    match what % 5 {
        0 => octets[at..]
            .first_mut()
            .into_iter()
            .for_each(|octet| *octet = value),
        1 => octets[at..]
            .first_mut()
            .into_iter()
            .for_each(|octet| *octet ^= value),
        2 => octets[at..end].fill(value),
        3 => octets.truncate(at),
        _ => return repair(&path.clone(), octets),
    }
    false
}

/// Writes the right checksum into every frame of a file.
fn repair(path: &Path, octets: &mut [u8]) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let number = name
        .rsplit('-')
        .next()
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or_default();
    let starts: Vec<_> = octets
        .windows(4)
        .enumerate()
        .filter(|(_, four)| **four == FRAME_MAGIC)
        .collect();
    let starts: Vec<_> = starts.into_iter().map(|(start, _)| start).collect();
    for start in starts {
        let length = octets
            .get(start + 8..start + 12)
            .and_then(|four| Some(u32::from_le_bytes(*four.first_chunk()?)));
        let end = length.and_then(|length| (start + FRAME_HEADER).checked_add(length as usize));
        let Some(covered) = end.and_then(|end| octets.get(start + 8..end)) else {
            continue;
        };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), covered);
        octets[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }
    true
}

/// The files of a log that was written as it should be.
fn undamaged() -> Files {
    let disk = MemoryDisk::default();
    let mut log = open(disk.clone()).expect("an empty log opens");
    log.bootstrap(1, &members()).expect("bootstraps");
    for index in 1..=ENTRIES {
        log.append(&[entry(index)]).expect("appends");
        log.sync().expect("syncs");
        if index == SNAPSHOT {
            let mut table = Table::new();
            table.skip_to(index);
            let meta = SnapshotMeta {
                index,
                term: 1,
                members: members(),
            };
            log.begin_snapshot(meta, table.image())
                .expect("begins a snapshot");
            while log.finish_snapshot().expect("goes on").is_none() {
                std::thread::yield_now();
            }
        }
    }
    drop(log);
    disk.files()
}

fn entry(index: u64) -> Entry {
    let data = format!("entry {index}").repeat(20).into_bytes();
    Entry {
        index,
        term: 1,
        data,
        ..Entry::default()
    }
}

fn members() -> ConfState {
    ConfState {
        voters: vec![1],
        ..ConfState::default()
    }
}

/// Opens the log on a disk in memory; its lock alone is a real file.
fn open(disk: MemoryDisk) -> Result<DiskLog, holdfast_cluster::log::LogError> {
    let options = DiskLogOptions {
        segment_octets: SEGMENT,
        spares: 1,
        snapshot_octets_min: 0,
        disk: Arc::new(disk),
    };
    DiskLog::open_with(&folder(), options)
}

fn folder() -> PathBuf {
    std::env::temp_dir().join("log")
}

/// Files in memory.
#[derive(Clone, Debug, Default)]
struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, MemoryFile>>>);

#[derive(Clone, Debug, Default)]
struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl MemoryDisk {
    fn with(files: Files) -> Self {
        let files = files
            .into_iter()
            .map(|(path, octets)| (path, MemoryFile(Arc::new(Mutex::new(octets)))));
        Self(Arc::new(Mutex::new(files.collect())))
    }

    fn files(&self) -> Files {
        let files = self.0.lock().expect("no panic while locked");
        files
            .iter()
            .map(|(path, file)| {
                (
                    path.clone(),
                    file.0.lock().expect("no panic while locked").clone(),
                )
            })
            .collect()
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path, octets: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = MemoryFile(Arc::new(Mutex::new(vec![0; octets as usize])));
        self.0
            .lock()
            .expect("no panic while locked")
            .insert(path.to_owned(), file.clone());
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let files = self.0.lock().expect("no panic while locked");
        files
            .get(path)
            .map(|file| Box::new(file.clone()) as Box<dyn DiskFile>)
            .ok_or(ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock().expect("no panic while locked");
        let file = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.0.lock().expect("no panic while locked").remove(path);
        removed.map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let files = self.0.lock().expect("no panic while locked");
        let inside = files.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.0.lock().expect("no panic while locked");
        let start = offset as usize;
        let found = content
            .get(start..start + octets.len())
            .ok_or(ErrorKind::UnexpectedEof)?;
        octets.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.lock().expect("no panic while locked");
        let end = offset as usize + octets.len();
        let length = content.len().max(end);
        content.resize(length, 0);
        content[offset as usize..end].copy_from_slice(octets);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no panic while locked").len() as u64)
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        let mut content = self.0.lock().expect("no panic while locked");
        let length = content.len().max(octets as usize);
        content.resize(length, 0);
        Ok(())
    }
}
