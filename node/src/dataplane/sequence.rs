//! Sequence numbers of data messages (RFC 2661 §5.4).
//!
//! Sending: a session whose LAC required sequencing (AVP 39) numbers every data message. The numbers come in blocks of
//! [`BLOCK`] that the session table has committed, so that a node which takes over can begin behind all of them. When
//! half of the last block is used the next one is asked for; when none is left the packet is dropped, never numbered
//! twice.
//!
//! Receiving: the algorithm of RFC 3931 Appendix C without a reordering delay. An old number is dropped; a run of
//! [`RESYNC_RUN`] old numbers that follow each other means that the peer has begun anew, and we follow.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers in one committed block.
pub const BLOCK: u64 = 4096;

/// Consecutive old numbers after which the receiver follows the sender.
pub const RESYNC_RUN: u8 = 5;

/// The Ns of one direction of one session, drawn by all shards.
///
/// Counted without wrapping; the wire carries the low 16 bits.
#[derive(Debug, Default)]
pub struct SendSequence {
    next: AtomicU64,
    limit: AtomicU64,
    asked: AtomicU64,
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
    /// Numbers from `next` (0 for a new session, the committed end after a restart or a takeover) up to `limit`, not
    /// included, are committed.
    pub fn new(next: u64, limit: u64) -> Self {
        Self {
            next: AtomicU64::new(next),
            limit: AtomicU64::new(limit),
            asked: AtomicU64::new(0),
        }
    }

    /// All numbers below `limit` are committed. An older grant that arrives late changes nothing.
    pub fn grant(&self, limit: u64) {
        self.limit.fetch_max(limit, Relaxed);
    }

    /// The committed end.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Draws the next number.
    pub fn draw(&self) -> Drawn {
        let limit = self.limit.load(Relaxed);
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
            (sequence.limit(), drawn(&sequence)),
            (2 * BLOCK, (Some(2050), None))
        );
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
