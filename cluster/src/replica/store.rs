//! The log as `raft` wants to read it.

use raft::eraftpb::{Entry, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::log::{LogError, LogStore};

/// A log store that `raft` reads. It is written past `raft`, by `RaftGroup`.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) log: Box<dyn LogStore>,
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

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let meta = self.log.snapshot();
        if meta.index == 0 || meta.index < request_index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut data = Vec::new();
        let read = self.log.read_snapshot(&mut |part| {
            data.extend_from_slice(part);
            Ok(())
        });
        read.map_err(other)?;
        let conf_state = Some(meta.members.clone());
        let metadata = SnapshotMetadata {
            conf_state,
            index: meta.index,
            term: meta.term,
        };
        Ok(Snapshot {
            data,
            metadata: Some(metadata),
        })
    }
}
