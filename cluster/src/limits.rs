//! Every bound of the table and the log, with its unit and what happens at it.

/// Version of the commands' and rows' meaning that this program knows. An entry of a newer one stops the replica. A table uses
/// the version that all members know ([`crate::Table::version`]), and begins with version 1. Version 2 knows `Assign`, `Move` and
/// `Raise`; from version 3 on it matters who proposes; version 4 knows `Finalize`, and may replace another user's session; version 5
/// knows a session's orders.
///
/// A build with `--cfg holdfast_next` stands for a later release: one version more, and rows with one field more, which is
/// written from that version on (`replica::next`). It exists to test upgrades, and no release is built so.
pub const COMMAND_VERSION: u32 = if cfg!(holdfast_next) { 6 } else { 5 };

/// From this version on a tunnel is changed by its owner's node alone: an older program would accept what this one refuses.
pub const PROPOSER_CHECKED_FROM: u32 = 3;

/// From this version on a Stop that is owed carries the session's traffic, and both records our address in the tunnel.
pub const TRAFFIC_FINAL_FROM: u32 = 4;

/// From this version on a session may take the address of another user's, where it says so.
pub const REPLACE_ANY_FROM: u32 = 4;

/// From this version on a session's row has the orders of RADIUS servers that it has followed.
pub const ORDERS_FROM: u32 = 5;

/// The oldest version that this program still applies. Nodes without a version in common do not work together.
pub const OLDEST_COMMAND_VERSION: u32 = 1;

/// Version of the snapshot's meaning. A newer one is refused when opened. Version 2 is that of a cluster which was recovered: it
/// has a generation, which a program that knows version 1 alone would drop.
pub const SNAPSHOT_VERSION: u32 = 2;

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

/// Decided entries that a member may lack to be given a vote, or the lead by a witness: what comes in while it is asked.
pub const MEMBER_LAG_MAX: u64 = 256;

/// Raft ticks between two attempts of a witness that leads to pass the lead on. The first comes as late: whoever has just been
/// elected has takeovers to decide.
pub const WITNESS_LEAD_TICKS: u32 = 100;

/// Raft ticks after which the verdict of a batch is no longer waited for, though the next one was proposed meanwhile.
pub const BATCH_MEMORY_TICKS: u32 = 200;

/// Batches proposed and not judged. Beyond it the oldest is forgotten.
pub const BATCHES_UNJUDGED_MAX: usize = 32;
/// Milliseconds between two probes of a member. Dead after [`SILENCE_MS`] and answers up to 100 ms old on their
/// way, ten of them have to be lost in a row before a live member is taken for dead.
pub const PROBE_INTERVAL_MS: u64 = 20;

/// A member that acknowledged no probe for this long, in milliseconds, is down.
pub const SILENCE_MS: u64 = 300;

/// A member that answers but applies nothing for this long, in milliseconds, while we do, is down. Longer than
/// the silence: a slow disk is no death.
pub const STALL_MS: u64 = 500;

/// A node may send what needs no commit for this long, in milliseconds, after it sent what was acknowledged.
pub const LEASE_MS: u64 = 200;

/// Added to [`LEASE_MS`] by whoever waits for its end, in milliseconds: clocks that differ by a tenth in their
/// rate do no harm.
pub const LEASE_MARGIN_MS: u64 = 20;

/// A leader vouches for a member no longer when it would be down in so many milliseconds.
pub const LEASE_DOUBT_MS: u64 = 100;

/// A member that was never heard is taken for down after this long, in milliseconds: members are rarely started
/// in one instant.
pub const START_GRACE_MS: u64 = 2_000;

/// Without a quorum or a leader for this long, in milliseconds, a node announces as a last resort.
pub const LONELY_MS: u64 = 2_000;

/// A node that has not followed the group for so many seconds stops forwarding, unless the configuration says otherwise.
pub const ISOLATION_LIMIT_S: u64 = 600;

/// Octets of a probe or its acknowledgement. A longer one is refused undecoded.
pub const PROBE_OCTETS_MAX: usize = 256;

/// Milliseconds from one attempt to give a node's groups away to the next.
pub const REASSIGN_RETRY_MS: u64 = 100;

/// An attempt without a verdict for this long, in milliseconds, is taken for lost.
pub const REASSIGN_PATIENCE_MS: u64 = 1_000;

/// A leader whose disk is full waits so many milliseconds for its groups to move before it passes the lead on.
pub const ASIDE_PATIENCE_MS: u64 = 2_000;

/// And so many from one attempt to the next.
pub const ASIDE_RETRY_MS: u64 = 1_000;

/// A process that registered itself in the table has this long, in milliseconds, to be heard before it is judged.
pub const REBORN_GRACE_MS: u64 = 1_000;

/// LACs whose routes a node asks the kernel for, to know whether it has a way to them.
pub const WAY_LACS_MAX: usize = 16;

/// Milliseconds between two looks at the routes to the LACs.
pub const WAY_LOOK_INTERVAL_MS: u64 = 200;

/// Looks in a row, 0.6 s apart at least, that find no way to any LAC before the way counts as lost: routers that change
/// their mind do it more quickly.
pub const WAY_LOST_LOOKS: u32 = 4;

/// Looks in a row, two seconds, that find a way before it counts as back.
pub const WAY_BACK_LOOKS: u32 = 10;

/// Looks, 15 seconds, in which a process that has just begun and finds no way does not count as having lost it: BGP
/// begins with the machine.
pub const WAY_GRACE_LOOKS: u32 = 75;

/// Looks in a row, five seconds or more, to which the kernel gave no answer before this is said, and before a doubt that nobody can settle
/// is dropped.
pub const WAY_FAILED_LOOKS: u32 = 25;

/// Relays held of one tunnel. The next one is dropped.
pub const HELD_PER_TUNNEL_MAX: usize = 8;

/// Relays held in all. The next one is dropped.
pub const HELD_MAX: usize = 65_536;

/// A relay is held for this long, in milliseconds: later its sender has repeated it.
pub const HELD_MS: u64 = 1_000;

/// Octets of the largest message that a replica hands to its transport. Appended entries are one mebioctet, or a
/// single larger entry; parts of a table are a quarter of one and one row.
pub const PEER_MESSAGE_OCTETS_MAX: usize = 8 * 1024 * 1024;
