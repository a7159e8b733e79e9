//! Where each entry lies, and the newest entries themselves.

use std::collections::VecDeque;

use prost::Message;
use raft::eraftpb::Entry;

use super::SnapshotMeta;
use crate::limits::ENTRY_CACHE_OCTETS;

/// Where an entry lies on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) term: u64,
    /// Number of the segment.
    pub(super) segment: u64,
    /// Offset of the record in the segment.
    pub(super) offset: u64,
    /// Octets of the record.
    pub(super) octets: u32,
}

/// The entries behind the snapshot, without gaps.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Index in front of the first place.
    before: u64,
    places: VecDeque<Place>,
    /// The last entries.
    cache: VecDeque<Entry>,
    cache_octets: usize,
}

impl Places {
    pub(super) fn after(snapshot: &SnapshotMeta) -> Self {
        Self {
            before: snapshot.index,
            ..Self::default()
        }
    }

    pub(super) fn last_index(&self) -> u64 {
        self.before + self.places.len() as u64
    }

    pub(super) fn len(&self) -> u64 {
        self.places.len() as u64
    }

    pub(super) fn get(&self, index: u64) -> Option<&Place> {
        let position = index.checked_sub(self.before + 1)?;
        self.places.get(usize::try_from(position).ok()?)
    }

    pub(super) fn cached(&self, index: u64) -> Option<&Entry> {
        let position = index.checked_sub(self.cache.front()?.index)?;
        self.cache.get(usize::try_from(position).ok()?)
    }

    /// Drops the entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        let keep = index.saturating_sub(self.before + 1);
        self.places.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        while self.cache.back().is_some_and(|entry| entry.index >= index) {
            self.cache_octets -= self.cache.pop_back().map_or(0, |entry| entry.encoded_len());
        }
    }

    /// Drops the entries up to `index`.
    pub(super) fn compact(&mut self, index: u64) {
        let dropped = index.saturating_sub(self.before).min(self.len());
        self.places.drain(..dropped as usize);
        self.before = self.before.max(index);
        while self.cache.front().is_some_and(|entry| entry.index <= index) {
            self.pop_cached();
        }
    }

    /// Adds the entry after the last one.
    pub(super) fn push(&mut self, place: Place, entry: Option<Entry>) {
        self.places.push_back(place);
        let Some(entry) = entry else {
            return;
        };
        self.cache_octets += entry.encoded_len();
        self.cache.push_back(entry);
        while self.cache_octets > ENTRY_CACHE_OCTETS && self.cache.len() > 1 {
            self.pop_cached();
        }
    }

    fn pop_cached(&mut self) {
        self.cache_octets -= self.cache.pop_front().map_or(0, |entry| entry.encoded_len());
    }
}

/// Collects entries until they are enough.
#[derive(Debug)]
pub(super) struct Collect {
    pub(super) entries: Vec<Entry>,
    octets: u64,
    octets_max: u64,
}

impl Collect {
    pub(super) fn new(octets_max: u64) -> Self {
        Self {
            entries: Vec::new(),
            octets: 0,
            octets_max,
        }
    }

    /// Adds an entry; `false` if there was no room for it. The first one always fits.
    pub(super) fn add(&mut self, entry: Entry) -> bool {
        self.octets = self.octets.saturating_add(entry.encoded_len() as u64);
        if !self.entries.is_empty() && self.octets > self.octets_max {
            return false;
        }
        self.entries.push(entry);
        true
    }
}
