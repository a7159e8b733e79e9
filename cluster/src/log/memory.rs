//! A log that forgets: for simulation and tests.

use std::convert::Infallible;

use raft::eraftpb::{ConfState, Entry, HardState};

use super::error::LogError;
use super::places::Collect;
use super::{LogSizes, LogStore, Recovery, SnapshotMeta};
use crate::table::{RestoreError, TableImage};

/// A log in memory. A clone of it is what a restarted node would find.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    hard_state: HardState,
    snapshot: SnapshotMeta,
    parts: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    entries_max: Option<usize>,
    finished: Option<u64>,
    recovery: Recovery,
}

impl MemoryLog {
    /// An empty log that never wants a snapshot.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty log that wants a snapshot after so many entries.
    pub fn with_snapshots(entries_max: usize) -> Self {
        Self {
            entries_max: Some(entries_max),
            ..Self::default()
        }
    }

    /// What a new process knows of it.
    pub(super) fn reopened(&mut self) {
        self.finished = None;
        self.recovery = Recovery {
            snapshot: self.snapshot.index,
            entries: self.entries.len() as u64,
            cut: None,
        };
    }

    /// Where the entry `index` is or would be.
    fn position(&self, index: u64) -> usize {
        let first = self.entries.first().map_or(index, |entry| entry.index);
        (index.saturating_sub(first) as usize).min(self.entries.len())
    }

    fn keep(&mut self, image: &TableImage) {
        self.parts.clear();
        let encoded: Result<(), Infallible> = image.encode(|part| {
            self.parts.push(part.to_vec());
            Ok(())
        });
        match encoded {
            Ok(()) => {}
        }
    }
}

impl LogStore for MemoryLog {
    fn bootstrap(&mut self, _node_id: u64, members: &ConfState) -> Result<(), LogError> {
        if self.snapshot.members == ConfState::default() {
            self.snapshot.members = members.clone();
        }
        Ok(())
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
        self.entries
            .last()
            .map_or(self.snapshot.index, |entry| entry.index)
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        let position = index.checked_sub(self.snapshot.index + 1)?;
        self.entries.get(position as usize).map(|entry| entry.term)
    }

    fn entries(&self, low: u64, high: u64, octets_max: u64) -> Result<Vec<Entry>, LogError> {
        let mut collect = Collect::new(octets_max);
        let range = self.position(low)..self.position(high);
        for entry in &self.entries[range] {
            if !collect.add(entry.clone()) {
                break;
            }
        }
        Ok(collect.entries)
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        if let Some(first) = entries.first() {
            self.entries.truncate(self.position(first.index));
            self.entries.extend_from_slice(entries);
        }
        Ok(())
    }

    fn set_hard_state(&mut self, hard_state: &HardState) -> Result<(), LogError> {
        self.hard_state = *hard_state;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn read_snapshot(&self, part: &mut dyn FnMut(&[u8]) -> Result<(), RestoreError>) -> Result<(), LogError> {
        let read = self.parts.iter().try_for_each(|octets| part(octets));
        read.map_err(|error| LogError::from_restore("memory".as_ref(), error))
    }

    fn wants_snapshot(&self) -> bool {
        self.entries_max.is_some_and(|max| self.entries.len() > max)
    }

    fn begin_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError> {
        self.keep(&image);
        self.entries.drain(..self.position(meta.index + 1));
        self.finished = Some(meta.index);
        self.snapshot = meta;
        Ok(())
    }

    fn finish_snapshot(&mut self) -> Result<Option<Result<u64, String>>, LogError> {
        Ok(self.finished.take().map(Ok))
    }

    fn install_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError> {
        self.keep(&image);
        self.entries.clear();
        self.hard_state.commit = self.hard_state.commit.max(meta.index);
        self.snapshot = meta;
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn reserve_in_use(&self) -> bool {
        false
    }

    fn sizes(&self) -> LogSizes {
        let entries = self
            .entries
            .iter()
            .map(|entry| prost::Message::encoded_len(entry) as u64);
        LogSizes {
            log: entries.sum(),
            snapshot: self.parts.iter().map(|part| part.len() as u64).sum(),
        }
    }
}
