//! Every bound of the table and the log, with its unit and what happens at it.

/// Version of the commands' and rows' meaning that this program knows. An entry of a newer one stops the replica. A table uses
/// the version that all members know ([`crate::Table::version`]), and begins with version 1. Version 2 knows `Assign`, `Move` and
/// `Raise`.
pub const COMMAND_VERSION: u32 = 2;

/// Version of the snapshot's meaning. A newer one is refused when opened.
pub const SNAPSHOT_VERSION: u32 = 1;

/// Groups of tunnels, the unit of ownership.
pub const GROUPS: usize = 256;

/// The leader advances table time by proposing a tick every so many milliseconds. Events between two ticks bear
/// the time of the earlier one, so whatever must last a time is given one step more.
pub const TABLE_TIME_STEP_MS: u64 = 1_000;

/// Table time advances by no more than this in one tick, in milliseconds: a stalled leader does not make ids and
/// addresses look rested.
pub const TABLE_TIME_JUMP_MAX_MS: u64 = 5_000;

/// A tunnel or session id is not given out again for this long, in milliseconds.
pub const ID_REST_MS: u64 = 60_000;

/// An address is not given to another user for this long, in milliseconds.
pub const ADDRESS_REST_MS: u64 = 30_000;

/// A tombstone is kept for a full retransmission cycle of the peer, 31 s, in milliseconds of table time.
pub const TOMBSTONE_MS: u64 = 31_000 + TABLE_TIME_STEP_MS;

/// Sessions in the table. More are refused.
pub const SESSIONS_MAX: usize = 1_000_000;

/// Octets of an encoded tunnel row without its queued messages. A larger one is refused.
pub const TUNNEL_ROW_OCTETS_MAX: usize = 16 * 1024;

/// Octets of an encoded session row. A larger one is refused.
pub const SESSION_ROW_OCTETS_MAX: usize = 16 * 1024;

/// Unacknowledged messages of one tunnel: as many as a control channel queues, and the StopCCN for which there is always room.
/// A change that would exceed it is refused.
pub const UNACKNOWLEDGED_MAX: usize = 4_096 + 1;

/// Octets of all unacknowledged messages of one tunnel. A change that would exceed it is refused.
pub const UNACKNOWLEDGED_OCTETS_MAX: usize = 1024 * 1024;

/// Session changes in one change of a tunnel. More are refused.
pub const SESSION_CHANGES_MAX: usize = 256;

/// Addresses and prefixes of one session. More are refused.
pub const ADDRESSES_PER_SESSION_MAX: usize = 16;

/// Released addresses whose last use is remembered. Beyond it the longest released are forgotten; while none
/// of them has rested, new addresses are refused.
pub const RELEASES_MAX: usize = 1_048_576;

/// Accounting records owed. Beyond it the oldest is dropped and counted (`Table::accounting_dropped`).
pub const OUTBOX_MAX: usize = 262_144;

/// Version of the log's and the snapshot's files. Newer ones are refused when opened.
pub const FILE_VERSION: u32 = 1;

/// Octets of one segment of the log, preallocated.
pub const SEGMENT_OCTETS: u64 = 16 * 1024 * 1024;

/// Spare segments held in reserve. When the disk is full they keep the log going, for about 10 minutes at 20 000
/// tunnels; `DiskLog::reserve_in_use` tells.
pub const SPARE_SEGMENTS: usize = 4;

/// No snapshot is taken before the log has this many octets.
pub const SNAPSHOT_LOG_OCTETS_MIN: u64 = 16 * 1024 * 1024;

/// Octets of recent entries kept in memory; older ones are read from the disk.
pub const ENTRY_CACHE_OCTETS: usize = 8 * 1024 * 1024;

/// Octets of one record in a log or snapshot file. A longer one is taken for damage.
pub const RECORD_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// Commands of one log entry.
pub const BATCH_COMMANDS_MAX: usize = 1_024;

/// Octets of the commands of one log entry; a single larger command goes alone.
pub const BATCH_OCTETS_MAX: usize = 1024 * 1024;

/// Octets of one command. A larger one cannot be proposed.
pub const COMMAND_OCTETS_MAX: usize = 2 * 1024 * 1024;

/// Commands that wait to be proposed. More are not taken.
pub const QUEUE_COMMANDS_MAX: usize = 65_536;

/// Octets of the commands that wait to be proposed. More are not taken.
pub const QUEUE_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// Raft ticks (10 ms each) after which a batch that vanished on its way to the leader is given up. Its owners
/// resubmit.
pub const BATCH_PATIENCE_TICKS: u32 = 10;

/// Raft ticks between two rounds of a log's idle work.
pub const MAINTENANCE_TICKS: u32 = 100;

/// Members of a group, learners among them. More are refused.
pub const MEMBERS_MAX: usize = 9;

/// Raft ticks after which the verdict of a batch is no longer waited for, though the next one was proposed meanwhile.
pub const BATCH_MEMORY_TICKS: u32 = 200;

/// Batches proposed and not judged. Beyond it the oldest is forgotten.
pub const BATCHES_UNJUDGED_MAX: usize = 32;

/// Octets of the largest message that a replica hands to its transport. Appended entries are one mebioctet, or a
/// single larger entry; parts of a table are a quarter of one and one row.
pub const PEER_MESSAGE_OCTETS_MAX: usize = 8 * 1024 * 1024;
