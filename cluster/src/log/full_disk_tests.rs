//! A disk that has no room left.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::disk::{Disk, DiskFile, SystemDisk};
use super::tests::{SEGMENT, append, entry, finish_snapshot, indexes, members, options, segment, table_at};
use super::{DiskLog, DiskLogOptions, LogError, LogStore, SnapshotMeta};

/// A disk with a budget of octets that new files may take.
#[derive(Debug)]
struct SmallDisk {
    free: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SmallFile {
    file: Box<dyn DiskFile>,
    /// Space that the file has been given.
    allocated: AtomicU64,
    free: Arc<AtomicU64>,
}

impl SmallFile {
    fn grow(&self, end: u64) -> io::Result<()> {
        let more = end.saturating_sub(self.allocated.load(Ordering::Relaxed));
        let left = self
            .free
            .load(Ordering::Relaxed)
            .checked_sub(more)
            .ok_or(io::ErrorKind::StorageFull)?;
        self.free.store(left, Ordering::Relaxed);
        self.allocated.fetch_max(end, Ordering::Relaxed);
        Ok(())
    }
}

impl Disk for SmallDisk {
    fn create(&self, path: &Path, octets: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = SystemDisk.create(path, 0)?;
        let file = SmallFile {
            file,
            allocated: AtomicU64::new(0),
            free: Arc::clone(&self.free),
        };
        file.allocate(octets)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = SystemDisk.open(path)?;
        let allocated = AtomicU64::new(file.size()?);
        Ok(Box::new(SmallFile {
            file,
            allocated,
            free: Arc::clone(&self.free),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let size = fs::metadata(path)?.len();
        SystemDisk.remove(path)?;
        self.free.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        SystemDisk.sync_folder(folder)
    }
}

impl DiskFile for SmallFile {
    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.grow(offset + octets.len() as u64)?;
        self.file.write_at(octets, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        if octets > 0 {
            self.grow(octets)?;
            self.file.allocate(octets)?;
        }
        Ok(())
    }
}

#[test]
fn on_a_full_disk_the_reserve_keeps_the_log_going_and_is_told() {
    let folder = TempDir::new().expect("a folder");
    let free = Arc::new(AtomicU64::new(4 * SEGMENT));
    let disk = Arc::new(SmallDisk {
        free: Arc::clone(&free),
    });
    let mut log = DiskLog::open_with(folder.path(), DiskLogOptions { disk, ..options() }).expect("opens");
    log.bootstrap(1, &members()).expect("bootstraps");
    log.maintain().expect("refills");
    assert!(!log.reserve_in_use());
    free.store(0, Ordering::Relaxed);

    let mut index = 0;
    let error = loop {
        index += 1;
        let appended = log.append(&[entry(index, 1)]).and_then(|()| log.sync());
        if let Err(error) = appended {
            break error;
        }
        log.maintain().expect("goes on");
        let rolled = segment(folder.path(), 2).exists();
        assert_eq!(log.reserve_in_use(), rolled, "entry {index}");
    };
    assert!(matches!(error, LogError::Full { .. }), "{error}");
    assert!(segment(folder.path(), 3).exists(), "the whole reserve was used");
    drop(log);

    // There is room again: everything that was synced is there.
    free.store(8 * SEGMENT, Ordering::Relaxed);
    let disk = Arc::new(SmallDisk { free });
    let log = DiskLog::open_with(folder.path(), DiskLogOptions { disk, ..options() }).expect("opens");
    assert_eq!(indexes(&log), (1..index).collect::<Vec<_>>());
    assert!(!log.reserve_in_use());
}

#[test]
fn a_snapshot_that_finds_no_room_leaves_the_log_as_it_was() {
    let folder = TempDir::new().expect("a folder");
    let free = Arc::new(AtomicU64::new(4 * SEGMENT));
    let disk = Arc::new(SmallDisk {
        free: Arc::clone(&free),
    });
    let mut log = DiskLog::open_with(folder.path(), DiskLogOptions { disk, ..options() }).expect("opens");
    log.bootstrap(1, &members()).expect("bootstraps");
    append(&mut log, 1..=10);
    free.store(0, Ordering::Relaxed);
    let meta = SnapshotMeta {
        index: 9,
        term: 1,
        members: members(),
    };
    log.begin_snapshot(meta, table_at(9).image()).expect("begins");
    assert!(finish_snapshot(&mut log).is_err());
    assert_eq!(indexes(&log), (1..=10).collect::<Vec<_>>());
    append(&mut log, 11..=11);
}

#[test]
fn a_restart_on_a_full_disk_keeps_the_reserve() {
    let folder = TempDir::new().expect("a folder");
    let free = Arc::new(AtomicU64::new(4 * SEGMENT));
    for _ in 0..3 {
        let disk = Arc::new(SmallDisk {
            free: Arc::clone(&free),
        });
        let log = DiskLog::open_with(folder.path(), DiskLogOptions { disk, ..options() });
        let mut log = log.expect("opens");
        log.bootstrap(1, &members()).expect("bootstraps");
        log.maintain().expect("refills");
        assert!(!log.reserve_in_use());
        free.store(0, Ordering::Relaxed);
    }
}
