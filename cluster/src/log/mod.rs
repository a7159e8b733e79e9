//! The log beneath consensus, and the snapshots that shorten it.
//!
//! [`DiskLog`] keeps both in one folder; [`MemoryLog`] and [`SimulatedLog`] are for simulation. What a store returned from `sync` is
//! durable: it survives the loss of power, or the store says so and refuses to open.
//!
//! An error of a store is final. After a failed write or fdatasync nobody knows what the disk holds, so the process
//! has to end and start again from what it then finds.

mod disk;
mod disk_log;
mod error;
mod frame;
mod memory;
mod places;
mod recovery;
mod segment;
mod simulated;
mod snapshot_file;
mod spares;

#[cfg(test)]
mod full_disk_tests;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use raft::eraftpb::{ConfState, Entry, HardState};

pub use disk::{Disk, DiskFile, SystemDisk};
pub use disk_log::{DiskLog, DiskLogOptions};
pub use error::LogError;
pub use memory::MemoryLog;
pub use simulated::{SimulatedDisk, SimulatedLog};

use crate::table::TableImage;

/// What a snapshot contains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotMeta {
    /// The last log index in it; 0: there is no snapshot.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The members of the group at that index.
    pub members: ConfState,
}

/// What was found when a store was opened, to be said in the node's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Index of the snapshot; 0: none.
    pub snapshot: u64,
    /// The entries behind it.
    pub entries: u64,
    /// A torn write that was cut off. It had not been synced, so nobody was told of it.
    pub cut: Option<Cut>,
}

/// A torn write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where it began.
    pub offset: u64,
    /// How long it was.
    pub octets: u64,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "snapshot at index {}, {} entries behind it",
            self.snapshot, self.entries
        )?;
        if let Some(Cut { path, offset, octets }) = &self.cut {
            let path = path.display();
            write!(
                f,
                "; cut off {octets} octets of a torn, never synced write in {path} at offset {offset}"
            )?;
        }
        Ok(())
    }
}

/// What the log takes, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSizes {
    /// The entries behind the snapshot.
    pub log: u64,
    /// The newest snapshot.
    pub snapshot: u64,
}

/// Where the log and its snapshots are kept.
///
/// Indexes are raft's: the first entry has index 1, the entries up to the snapshot's index may be gone.
pub trait LogStore: fmt::Debug + Send {
    /// Prepares an empty store for a node and its first group, or checks that the store is this node's.
    fn bootstrap(&mut self, node_id: u64, members: &ConfState) -> Result<(), LogError>;

    /// What was found at opening.
    fn recovery(&self) -> &Recovery;

    /// What raft must not forget.
    fn hard_state(&self) -> HardState;

    /// The newest snapshot; with index 0 and the first members where there is none.
    fn snapshot(&self) -> &SnapshotMeta;

    /// Index of the last entry, or of the snapshot where there is none.
    fn last_index(&self) -> u64;

    /// The term of an entry or of the snapshot. `None` for what is not there.
    fn term(&self, index: u64) -> Option<u64>;

    /// The entries in `low..high`, which are there; no more than `octets_max`, but at least one.
    fn entries(&self, low: u64, high: u64, octets_max: u64) -> Result<Vec<Entry>, LogError>;

    /// Appends entries. The first one's index is at most one more than the last; what it overlaps is dropped.
    fn append(&mut self, entries: &[Entry]) -> Result<(), LogError>;

    /// Notes the hard state. A change of the commit index alone need not be made durable.
    fn set_hard_state(&mut self, hard_state: &HardState) -> Result<(), LogError>;

    /// Makes all of it durable.
    fn sync(&mut self) -> Result<(), LogError>;

    /// Hands out the parts of the newest snapshot.
    fn read_snapshot(
        &self,
        part: &mut dyn FnMut(&[u8]) -> Result<(), crate::table::RestoreError>,
    ) -> Result<(), LogError>;

    /// Whether the log has outgrown twice the snapshot and none is being written.
    fn wants_snapshot(&self) -> bool;

    /// Begins to write a snapshot beside everything else.
    fn begin_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError>;

    /// Takes note of a snapshot that is written: the log in front of it goes. Its index, or the reason why there is
    /// none; the log then goes on without.
    fn finish_snapshot(&mut self) -> Result<Option<Result<u64, String>>, LogError>;

    /// Puts a snapshot that came from the leader in place of everything.
    fn install_snapshot(&mut self, meta: SnapshotMeta, image: TableImage) -> Result<(), LogError>;

    /// Work for idle moments, once a second.
    fn maintain(&mut self) -> Result<(), LogError>;

    /// Whether the disk is full and the log lives on its reserve: new calls are to be refused.
    fn reserve_in_use(&self) -> bool;

    /// How large it is.
    fn sizes(&self) -> LogSizes;
}
