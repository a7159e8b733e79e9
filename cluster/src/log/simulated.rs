//! A log on a simulated disk: what was written and not synced can be lost, and a sync takes its time.
//!
//! The log itself is in memory twice: as its node sees it, and as the platters hold it. Between the two lies a queue of writes.
//! Death of the process loses nothing of it, loss of power all that follows the last completed sync, but for some part that
//! happened to be written, the last record of which may be torn.
//!
//! Time is the simulation's. A node's turn begins with [`SimulatedDisk::begin_turn`]; what its syncs take adds up to
//! [`SimulatedDisk::taken`], and the simulation lets nothing of the turn be seen earlier.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use raft::eraftpb::{ConfState, Entry, HardState};

use super::error::LogError;
use super::{LogSizes, LogStore, MemoryLog, Recovery, SnapshotMeta};
use crate::table::{RestoreError, TableImage};

#[derive(Clone, Debug)]
enum Write {
    Members(ConfState),
    HardState(HardState),
    Append(Vec<Entry>),
    Snapshot(SnapshotMeta, Box<TableImage>),
    Install(SnapshotMeta, Box<TableImage>),
    /// All before it is on the platters from this moment on.
    Synced(Duration),
}

#[derive(Debug, Default)]
struct Platters {
    durable: MemoryLog,
    writes: VecDeque<Write>,
    snapshot_entries: usize,
    turn: Duration,
    taken: Duration,
    sync_time: Duration,
    lies: bool,
}

/// A node's disk. It outlives the node's processes.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    platters: Arc<Mutex<Platters>>,
}

impl SimulatedDisk {
    /// An empty disk, whose log wants a snapshot after so many entries.
    pub fn new(snapshot_entries: usize) -> Self {
        let disk = Self::default();
        {
            let mut platters = disk.platters();
            platters.durable = MemoryLog::with_snapshots(snapshot_entries);
            platters.snapshot_entries = snapshot_entries;
        }
        disk
    }

    fn platters(&self) -> MutexGuard<'_, Platters> {
        self.platters.lock().expect("nothing panics with the disk locked")
    }

    /// The log as a process finds it that starts now.
    pub fn open(&self) -> SimulatedLog {
        let mut platters = self.platters();
        platters.write_all();
        let mut written = platters.durable.clone();
        drop(platters);
        written.reopened();
        SimulatedLog {
            written,
            disk: self.clone(),
        }
    }

    /// How long each sync takes from now on.
    pub fn set_sync_time(&self, sync_time: Duration) {
        self.platters().sync_time = sync_time;
    }

    /// Makes the disk say that it has synced and not do so: the bug that a simulation must find.
    pub fn lie(&self) {
        self.platters().lies = true;
    }

    /// A node's turn begins at `now`.
    pub fn begin_turn(&self, now: Duration) {
        let mut platters = self.platters();
        (platters.turn, platters.taken) = (now, Duration::ZERO);
        platters.settle(now);
    }

    /// What the syncs of this turn have taken so far.
    pub fn taken(&self) -> Duration {
        self.platters().taken
    }

    /// Whether the platters hold an entry at `now`, by itself or in a snapshot.
    pub fn holds(&self, now: Duration, index: u64) -> bool {
        let mut platters = self.platters();
        platters.settle(now);
        platters.durable.last_index() >= index
    }

    /// The power fails at `now`. What was not synced is lost, but for a part of it that `chance` names: it is given a
    /// number of writes and of entries, and says how many of them were still written.
    pub fn lose_power(&self, now: Duration, mut chance: impl FnMut(usize) -> usize) {
        let mut platters = self.platters();
        platters.settle(now);
        let kept = chance(platters.writes.len());
        for _ in 0..kept {
            platters.write_next();
        }
        if let Some(Write::Append(entries)) = platters.writes.pop_front() {
            let whole = chance(entries.len());
            // The store's contract: it fails for what is not there only.
            let _ = platters.durable.append(&entries[..whole]);
        }
        platters.writes.clear();
    }
}

impl Platters {
    /// Completes the syncs that are over at `now`.
    fn settle(&mut self, now: Duration) {
        let over = |write: &Write| matches!(write, Write::Synced(at) if *at <= now);
        let count = self.writes.iter().rposition(over).map_or(0, |last| last + 1);
        for _ in 0..count {
            self.write_next();
        }
    }

    fn write_all(&mut self) {
        while !self.writes.is_empty() {
            self.write_next();
        }
    }

    fn write_next(&mut self) {
        let written = match self.writes.pop_front() {
            Some(Write::Members(members)) => self.durable.bootstrap(0, &members),
            Some(Write::HardState(state)) => self.durable.set_hard_state(&state),
            Some(Write::Append(entries)) => self.durable.append(&entries),
            Some(Write::Snapshot(meta, image)) => self.durable.begin_snapshot(meta, *image),
            Some(Write::Install(meta, image)) => self.durable.install_snapshot(meta, *image),
            Some(Write::Synced(_)) | None => Ok(()),
        };
        written.expect("memory takes every write");
    }

    fn sync(&mut self) {
        if !self.lies {
            self.taken += self.sync_time;
            self.writes.push_back(Write::Synced(self.turn + self.taken));
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct SimulatedLog {
    written: MemoryLog,
    disk: SimulatedDisk,
}

impl SimulatedLog {
    fn write(&mut self, write: Write) {
        self.disk.platters().writes.push_back(write);
    }
}

impl LogStore for SimulatedLog {
    fn bootstrap(&mut self, node_id: u64, members: &ConfState) -> Result<(), LogError> {
        self.write(Write::Members(members.clone()));
        self.disk.platters().sync();
        self.written.bootstrap(node_id, members)
    }

    fn recovery(&self) -> &Recovery {
        self.written.recovery()
    }

    fn hard_state(&self) -> HardState {
        self.written.hard_state()
    }

    fn snapshot(&self) -> &SnapshotMeta {
        self.written.snapshot()
    }

    fn last_index(&self) -> u64 {
        self.written.last_index()
    }

    fn term(&self, index: u64) -> Option<u64> {
        self.written.term(index)
    }

    fn entries(&self, low: u64, high: u64, octets_max: u64) -> Result<Vec<Entry>, LogError> {
        self.written.entries(low, high, octets_max)
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        if !entries.is_empty() {
            self.write(Write::Append(entries.to_vec()));
        }
        self.written.append(entries)
    }

    fn set_hard_state(&mut self, hard_state: &HardState) -> Result<(), LogError> {
        self.write(Write::HardState(*hard_state));
        self.written.set_hard_state(hard_state)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.disk.platters().sync();
        Ok(())
    }

    fn read_snapshot(&self, part: &mut dyn FnMut(&[u8]) -> Result<(), RestoreError>) -> Result<(), LogError> {
        self.written.read_snapshot(part)
    }

    fn wants_snapshot(&self) -> bool {
        self.written.wants_snapshot()
    }

    fn begin_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError> {
        self.write(Write::Snapshot(meta.clone(), Box::new(image.clone())));
        self.written.begin_snapshot(meta, image)
    }

    fn finish_snapshot(&mut self) -> Result<Option<Result<u64, String>>, LogError> {
        self.written.finish_snapshot()
    }

    fn install_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError> {
        self.write(Write::Install(meta.clone(), Box::new(image.clone())));
        self.disk.platters().sync();
        self.written.install_snapshot(meta, image)
    }

    fn maintain(&mut self) -> Result<(), LogError> {
        self.written.maintain()
    }

    fn reserve_in_use(&self) -> bool {
        self.written.reserve_in_use()
    }

    fn sizes(&self) -> LogSizes {
        self.written.sizes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Entry {
        Entry {
            index,
            term: 1,
            ..Entry::default()
        }
    }

    const SYNC: Duration = Duration::from_millis(10);

    /// One entry synced, two more written.
    fn disk() -> SimulatedDisk {
        let disk = SimulatedDisk::new(1000);
        disk.set_sync_time(SYNC);
        let mut log = disk.open();
        disk.begin_turn(Duration::ZERO);
        log.append(&[entry(1)]).expect("room");
        log.sync().expect("syncs");
        log.append(&[entry(2), entry(3)]).expect("room");
        assert_eq!(disk.taken(), SYNC);
        disk
    }

    #[test]
    fn a_process_that_dies_loses_nothing_that_it_wrote() {
        assert_eq!(disk().open().last_index(), 3);
    }

    #[test]
    fn power_loss_leaves_what_was_synced_by_then() {
        let disk = disk();
        assert!(!disk.holds(SYNC / 2, 1), "the sync is under way");
        assert!(disk.holds(SYNC, 1) && !disk.holds(SYNC, 2));
        disk.lose_power(SYNC, |_| 0);
        assert_eq!(disk.open().last_index(), 1);
    }

    #[test]
    fn some_of_the_rest_may_have_been_written() {
        let disk = disk();
        disk.lose_power(SYNC, |most| most / 2);
        assert_eq!(disk.open().last_index(), 2);
    }

    #[test]
    fn a_disk_that_lies_loses_everything() {
        let disk = SimulatedDisk::new(1000);
        disk.lie();
        let mut log = disk.open();
        log.append(&[entry(1)]).expect("room");
        log.sync().expect("so it says");
        disk.lose_power(SYNC, |_| 0);
        assert_eq!(disk.open().last_index(), 0);
    }
}
