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
    /// Drops spares of an earlier process, which may be of another size or half made, and makes new ones.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        names: &[String],
        octets: u64,
        target: usize,
    ) -> Result<Self, LogError> {
        for name in names.iter().filter(|name| name.starts_with("spare-")) {
            let path = folder.join(name);
            disk.remove(&path).map_err(LogError::io("remove", &path))?;
        }
        let folder = folder.to_path_buf();
        let mut spares = Self {
            disk,
            folder,
            octets,
            target,
            files: Vec::new(),
            next: 0,
            starved: false,
        };
        for _ in 0..target {
            spares.refill()?;
        }
        Ok(spares)
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
