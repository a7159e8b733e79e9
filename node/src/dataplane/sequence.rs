//! Sequence numbers of data messages (RFC 2661 §5.4).
//!
//! Sending: a session whose LAC required sequencing (AVP 39) numbers every data message. The numbers come in blocks of
//! [`BLOCK`] that the session table has committed, so that a node which takes over can begin behind all of them. When
//! half of the last block is used the next one is asked for; when none is left the packet is dropped, never numbered
//! twice. In a cluster the owner of the session's group alone gives numbers: every node knows what is committed, and two
//! that drew from one block would draw the same.
//!
//! Receiving: the algorithm of RFC 3931 Appendix C without a reordering delay. An old number is dropped; a run of
//! [`RESYNC_RUN`] old numbers that follow each other means that the peer has begun anew, and we follow. Each node judges
//! what reaches it by itself: the LAC's router keeps a tunnel's datagrams together, and one that comes by another node, late,
//! is at worst user data out of order.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Numbers in one committed block.
pub const BLOCK: u64 = 4096;

/// Consecutive old numbers after which the receiver follows the sender.
pub const RESYNC_RUN: u8 = 5;

/// The Ns of one direction of one session, drawn by the shard of its tunnel.
///
/// Counted without wrapping; the wire carries the low 16 bits. One thread, which follows the session table, says what is
/// committed and whether the numbers are given here; another draws.
#[derive(Debug, Default)]
pub struct SendSequence {
    next: AtomicU64,
    /// The end of what may be drawn here; 0 while another node gives the numbers.
    limit: AtomicU64,
    /// The end of what is committed, for whomever.
    committed: AtomicU64,
    asked: AtomicU64,
    here: AtomicBool,
}

/// A number drawn, and what to do besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// `None` if no committed number is left: the packet must not leave.
    pub ns: Option<u16>,
    /// The control side is to be asked once to commit the block that begins here.
    pub ask: Option<u64>,
}

impl SendSequence {
    /// Given here, and those from `next` up to `limit`, not included, are committed and unused.
    pub fn new(next: u64, limit: u64) -> Self {
        Self {
            next: AtomicU64::new(next),
            limit: AtomicU64::new(limit),
            committed: AtomicU64::new(limit),
            asked: AtomicU64::new(0),
            here: AtomicBool::new(true),
        }
    }

    /// Another node gives the numbers, or nobody yet; those below `committed` are committed, and may be used up.
    pub fn elsewhere(committed: u64) -> Self {
        Self {
            next: AtomicU64::new(committed),
            limit: AtomicU64::new(0),
            committed: AtomicU64::new(committed),
            asked: AtomicU64::new(0),
            here: AtomicBool::new(false),
        }
    }

    /// All numbers below `committed` are committed, for the use of whoever gives them at this point of the log. An older
    /// grant that arrives late changes nothing.
    pub fn grant(&self, committed: u64) {
        self.committed.fetch_max(committed, Relaxed);
        if self.here.load(Relaxed) {
            self.limit.fetch_max(committed, Release);
        }
    }

    /// From now on the numbers are given here, behind all that are committed: whoever gave them before may have used those.
    pub fn begin_here(&self) {
        let committed = self.committed.load(Relaxed);
        self.next.fetch_max(committed, Relaxed);
        self.asked.store(0, Relaxed);
        // Whoever finds this limit finds the number to begin with, too.
        self.limit.store(committed, Release);
        self.here.store(true, Relaxed);
    }

    /// From now on another node gives the numbers. Who is drawing one at this moment gets it from what was granted before.
    pub fn end_here(&self) {
        self.here.store(false, Relaxed);
        self.limit.store(0, Release);
    }

    /// Whether this node gives the numbers.
    pub fn is_here(&self) -> bool {
        self.here.load(Relaxed)
    }

    /// Whether the numbers are given here, and none is left.
    pub fn is_used_up(&self) -> bool {
        self.is_here() && self.next.load(Relaxed) >= self.limit.load(Relaxed)
    }

    /// The committed end.
    pub fn committed(&self) -> u64 {
        self.committed.load(Relaxed)
    }

    /// Draws the next number. There is none, and nothing to ask for, where another node gives them.
    pub fn draw(&self) -> Drawn {
        let limit = self.limit.load(Acquire);
        if !self.is_here() {
            return Drawn { ns: None, ask: None };
        }
        let drawn = self
            .next
            .fetch_update(Relaxed, Relaxed, |next| (next < limit).then_some(next + 1));
        let left = drawn.map_or(0, |next| limit - next - 1);
        let ask = (left <= BLOCK / 2 && self.asked.swap(limit + 1, Relaxed) != limit + 1).then_some(limit);
        Drawn {
            ns: drawn.ok().map(|next| next as u16),
            ask,
        }
    }

    /// The question could not be delivered: the next draw asks again.
    pub fn ask_again(&self) {
        self.asked.store(0, Relaxed);
    }
}

/// Judges the Ns of received data messages. Lives in the forwarding table of the tunnel's shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveSequence {
    /// `None` until the first number is seen: after a takeover any number may come first.
    expected: Option<u16>,
    old_next: u16,
    old_run: u8,
}

impl ReceiveSequence {
    /// Whether the data message numbered `ns` passes.
    pub fn accept(&mut self, ns: u16) -> bool {
        let ahead = self
            .expected
            .is_none_or(|expected| ns.wrapping_sub(expected) < 0x8000);
        if !ahead && !self.follows_old(ns) {
            return false;
        }
        self.expected = Some(ns.wrapping_add(1));
        self.old_run = 0;
        true
    }

    /// Counts the run of old numbers; true when it is long enough to believe the sender.
    fn follows_old(&mut self, ns: u16) -> bool {
        let continues = self.old_run > 0 && ns == self.old_next;
        self.old_run = if continues { self.old_run + 1 } else { 1 };
        self.old_next = ns.wrapping_add(1);
        self.old_run >= RESYNC_RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(sequence: &SendSequence) -> (Option<u16>, Option<u64>) {
        let Drawn { ns, ask } = sequence.draw();
        (ns, ask)
    }

    #[test]
    fn the_next_block_is_asked_for_once_at_half() {
        let sequence = SendSequence::new(0, BLOCK);
        for n in 0..BLOCK / 2 - 1 {
            assert_eq!(drawn(&sequence), (Some(n as u16), None));
        }
        assert_eq!(drawn(&sequence), (Some(2047), Some(BLOCK)));
        assert_eq!(drawn(&sequence), (Some(2048), None));
        sequence.ask_again();
        assert_eq!(drawn(&sequence), (Some(2049), Some(BLOCK)));
        sequence.grant(2 * BLOCK);
        sequence.grant(BLOCK);
        assert_eq!(
            (sequence.committed(), drawn(&sequence)),
            (2 * BLOCK, (Some(2050), None))
        );
    }

    /// The numbers of one session at three nodes that follow the same log: owned by the first, the second, the first again.
    #[test]
    fn no_number_is_given_by_two_nodes_or_twice_by_one() {
        let nodes = [0; 3].map(SendSequence::elsewhere);
        let grant = |committed| nodes.iter().for_each(|node| node.grant(committed));
        let mut given = std::collections::BTreeSet::new();
        let mut draw = |owner: usize| {
            for (index, node) in nodes.iter().enumerate() {
                let ns = drawn(node).0;
                assert_eq!(ns.is_some(), index == owner, "node {index}");
                assert!(ns.is_none_or(|ns| given.insert(ns)), "given before");
            }
            given.last().copied()
        };
        nodes[0].begin_here();
        grant(BLOCK);
        assert_eq!((draw(0), draw(0)), (Some(0), Some(1)));
        nodes[0].end_here();
        nodes[1].begin_here();
        assert!(nodes[1].is_used_up() && !nodes[0].is_used_up());
        assert_eq!(drawn(&nodes[1]), (None, Some(BLOCK)));
        grant(2 * BLOCK);
        assert_eq!(draw(1), Some(BLOCK as u16));
        nodes[1].end_here();
        nodes[0].begin_here();
        grant(3 * BLOCK);
        assert_eq!(draw(0), Some(2 * BLOCK as u16));
    }

    #[test]
    fn to_begin_again_costs_numbers_and_gives_none_twice() {
        let sequence = SendSequence::new(0, BLOCK);
        assert_eq!(drawn(&sequence).0, Some(0));
        sequence.begin_here();
        assert_eq!(drawn(&sequence), (None, Some(BLOCK)));
        sequence.grant(2 * BLOCK);
        assert_eq!(drawn(&sequence).0, Some(BLOCK as u16));
    }

    #[test]
    fn no_number_beyond_the_committed_end() {
        let sequence = SendSequence::new(65_535, 65_537);
        assert_eq!(drawn(&sequence), (Some(65_535), Some(65_537)));
        assert_eq!(drawn(&sequence), (Some(0), None));
        assert_eq!(drawn(&sequence), (None, None));
        sequence.grant(65_537 + BLOCK);
        assert_eq!(drawn(&sequence), (Some(1), None));
    }

    #[test]
    fn s_95_old_numbers_are_dropped_until_a_run_of_them_shows_a_restart() {
        let mut receive = ReceiveSequence::default();
        let passes: Vec<bool> = [100, 101, 103, 102, 103, 104]
            .map(|ns| receive.accept(ns))
            .to_vec();
        assert_eq!(passes, [true, true, true, false, false, true]);
        let restarted: Vec<bool> = (0..7).map(|ns| receive.accept(ns)).collect();
        assert_eq!(restarted, [false, false, false, false, true, true, true]);
    }

    #[test]
    fn s_95_scattered_old_numbers_never_resynchronise() {
        let mut receive = ReceiveSequence::default();
        assert!(receive.accept(50_000));
        assert!((0..1000).all(|n| !receive.accept(20_000 + 2 * n)));
        assert!(receive.accept(50_001));
    }

    #[test]
    fn numbers_wrap() {
        let mut receive = ReceiveSequence::default();
        assert!(receive.accept(65_535) && receive.accept(0) && !receive.accept(65_535));
    }
}
