//! Preallocated segments held in reserve.
//!
//! A new segment is always a spare renamed. When the disk is full no spare can be made, but those that are there
//! keep the log going while the node refuses new calls.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::error::LogError;

/// The spare segments.
#[derive(Debug)]
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Size of each.
    octets: u64,
    target: usize,
    files: Vec<PathBuf>,
    next: u64,
    /// The last attempt to make one found the disk full.
    starved: bool,
}

impl Spares {
    /// Takes over the spares of an earlier process and makes what is missing. Half-made ones and those of another
    /// size go; a spare that is there is kept, since the disk may be full by now. Whatever of a header was written
    /// to one is written over when it becomes a segment.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        names: &[String],
        octets: u64,
        target: usize,
    ) -> Result<Self, LogError> {
        let mut spares = Self {
            disk,
            folder: folder.to_path_buf(),
            octets,
            target,
            files: Vec::new(),
            next: 0,
            starved: false,
        };
        for name in names {
            if let Some(number) = name.strip_prefix("spare-") {
                spares.next = spares.next.max(number.parse().unwrap_or(0));
                spares.adopt(folder.join(name))?;
            }
        }
        for _ in spares.files.len()..target {
            spares.refill()?;
        }
        Ok(spares)
    }

    fn adopt(&mut self, path: PathBuf) -> Result<(), LogError> {
        let size = self.disk.open(&path).and_then(|file| file.size());
        let size = size.map_err(LogError::io("measure", &path))?;
        if size == self.octets && self.files.len() < self.target {
            self.files.push(path);
            return Ok(());
        }
        self.disk.remove(&path).map_err(LogError::io("remove", &path))
    }

    /// Makes one spare, if one is missing and the disk has room.
    pub(super) fn refill(&mut self) -> Result<(), LogError> {
        if self.files.len() >= self.target {
            self.starved = false;
            return Ok(());
        }
        match self.make() {
            Ok(path) => {
                self.files.push(path);
                self.starved = false;
                Ok(())
            }
            Err(LogError::Full { .. }) => {
                self.starved = true;
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// A spare to be renamed.
    pub(super) fn take(&mut self) -> Result<PathBuf, LogError> {
        match self.files.pop() {
            Some(path) => Ok(path),
            None => self.make(),
        }
    }

    pub(super) fn in_use(&self) -> bool {
        self.starved && self.files.len() < self.target
    }

    fn make(&mut self) -> Result<PathBuf, LogError> {
        self.next += 1;
        let path = self.folder.join(format!("spare-{}", self.next));
        match self.disk.create(&path, self.octets) {
            Ok(_) => Ok(path),
            Err(error) => {
                self.discard(&path)?;
                Err(match LogError::io("preallocate", &path)(error) {
                    LogError::Full { .. } => LogError::Full {
                        path: self.folder.clone(),
                    },
                    other => other,
                })
            }
        }
    }

    /// Removes what a failed preallocation left.
    fn discard(&self, path: &Path) -> Result<(), LogError> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::io("remove", path)(error)),
            _ => Ok(()),
        }
    }
}
