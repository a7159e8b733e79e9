//! Every bound and interval of the peers' connections, with its unit and what happens at it.

use std::time::Duration;

/// Octets of a frame that carries a Raft message. A longer one goes in parts; a longer frame ends the stream on which
/// it arrives.
pub const RAFT_FRAME_OCTETS_MAX: usize = 2 * 1024 * 1024;

/// Octets of a Raft message, a snapshot of the largest table. A longer one is not sent, and ends the stream on which it
/// arrives.
pub const RAFT_OCTETS_MAX: usize = 512 * 1024 * 1024;

/// Octets of a part of a long Raft message: what a heartbeat may have to wait for, 2 ms at 1 Gbit/s.
pub const PART_OCTETS: usize = 256 * 1024;

/// Octets beyond which a Raft message is long and goes in parts.
pub const LONG_OCTETS_MIN: usize = 4 * PART_OCTETS;

/// Octets of long Raft messages that wait for one member. More are dropped, but one is always taken.
pub const LONG_OCTETS_MAX: usize = RAFT_FRAME_OCTETS_MAX;

/// Octets of any other frame: a datagram of 64 KiB with what a relay adds.
pub const FRAME_OCTETS_MAX: usize = 70_000;

/// Octets of frames, long Raft messages apart, that wait for one member. More are dropped: what matters is sent again by its owner.
pub const QUEUE_OCTETS_MAX: usize = 64 * 1024 * 1024;

/// Octets that wait for one member beyond which no packets of subscribers are added: what a heartbeat may have to wait for
/// behind them. More are dropped, as by any full queue on a packet's way.
pub const PASSED_OCTETS_MAX: usize = PART_OCTETS;

/// Octets of a datagram as handed in: it must pass any path unfragmented once it is sealed.
pub const DATAGRAM_OCTETS_MAX: usize = 1_200;

/// From the SYN until both have said Hello. Longer attempts are given up.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Wait between two attempts to reach a member: doubles from the first to the second.
pub const REDIAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A stream with nothing to say carries an empty frame at this interval.
pub const BEAT: Duration = Duration::from_millis(200);

/// A stream from which nothing came for so long has ended: seven beats were lost.
pub const SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// Octets sent and not acknowledged for so long end the stream (TCP_USER_TIMEOUT).
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_millis(1_200);

/// Connections being set up at once: from members' addresses, and as many from all others.
pub const HANDSHAKES_MAX: usize = 32;

/// Two processes that run as one node are shown for so long after the second was last refused.
pub const DOUBLED_MEMORY: Duration = Duration::from_secs(60);

/// A refusal of one kind is logged once in this time, with how many there were.
pub const LOG_INTERVAL: Duration = Duration::from_secs(30);
