//! The log as `raft` wants to read it.

use std::cell::Cell;

use raft::eraftpb::{Entry, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::log::{LogError, LogStore, SnapshotMeta};

/// A log store that `raft` reads. It is written past `raft`, by `RaftGroup`.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) log: Box<dyn LogStore>,
    /// What an image at hand contains, for a member that needs the whole table. The image itself goes its own way.
    pub(super) offer: Option<SnapshotMeta>,
    /// `raft` asked for an image, and none was at hand.
    pub(super) wants_image: Cell<bool>,
}

impl Store {
    pub(super) fn new(log: Box<dyn LogStore>) -> Self {
        Self {
            log,
            offer: None,
            wants_image: Cell::new(false),
        }
    }
}

fn other(error: LogError) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf_state = self.log.snapshot().members.clone();
        Ok(RaftState {
            hard_state: self.log.hard_state(),
            conf_state,
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.log.snapshot().index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.log.last_index() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        self.log
            .entries(low, high, max_size.into().unwrap_or(u64::MAX))
            .map_err(other)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = match index < self.log.snapshot().index {
            true => StorageError::Compacted,
            false => StorageError::Unavailable,
        };
        self.log.term(index).ok_or(raft::Error::Store(missing))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.snapshot().index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last_index())
    }

    /// Without the table, which `transfer` sends.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let least = request_index.max(self.log.snapshot().index);
        let Some(meta) = self.offer.as_ref().filter(|meta| meta.index >= least) else {
            self.wants_image.set(true);
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let metadata = SnapshotMetadata {
            conf_state: Some(meta.members.clone()),
            index: meta.index,
            term: meta.term,
        };
        Ok(Snapshot {
            data: Vec::new(),
            metadata: Some(metadata),
        })
    }
}
