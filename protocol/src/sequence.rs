//! Sequence numbers: the arithmetic modulo 65536 (RFC 2661 §5.8), and the receive rule for numbered data
//! messages (RFC 2661 §5.4; the algorithm is RFC 3931 appendix C).
//!
//! Nothing is reordered or held: a data message is taken or dropped on arrival.

/// Half of the number space: what lies that far back, or further, is ahead.
const HALF: u16 = 0x8000;

/// How far `number` is ahead of `reference`, modulo 65536.
pub fn distance(number: u16, reference: u16) -> u16 {
    number.wrapping_sub(reference)
}

/// Whether `number` lies in the 32768 values before `reference`.
pub fn is_before(number: u16, reference: u16) -> bool {
    distance(number, reference) >= HALF
}

/// Old numbers in a row, each one above the one before it, after which they are taken for a peer that has begun
/// its count anew.
pub const RESYNC_AFTER: u8 = 5;

/// The receiver of one session's numbered data messages. Six octets, no allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receiver {
    expected: u16,
    next_old: u16,
    old_in_order: u8,
}

impl Receiver {
    /// A receiver that expects `expected` next; a session starts with 0.
    pub fn new(expected: u16) -> Self {
        Self {
            expected,
            next_old: 0,
            old_in_order: 0,
        }
    }

    /// Whether to take the message numbered `ns`, or to drop it as old.
    pub fn accept(&mut self, ns: u16) -> bool {
        if is_before(ns, self.expected) && !self.resynchronise(ns) {
            return false;
        }
        self.expected = ns.wrapping_add(1);
        self.old_in_order = 0;
        true
    }

    /// Counts old numbers that rise one by one.
    fn resynchronise(&mut self, ns: u16) -> bool {
        let in_order = self.old_in_order > 0 && ns == self.next_old;
        self.old_in_order = if in_order { self.old_in_order + 1 } else { 1 };
        self.next_old = ns.wrapping_add(1);
        self.old_in_order >= RESYNC_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_space_is_old() {
        assert!(!is_before(15, 15));
        assert!(is_before(14, 15));
        assert!(is_before(15u16.wrapping_sub(0x8000), 15));
        assert!(!is_before(15 + 0x7fff, 15));
        assert!(is_before(65535, 0));
    }

    #[test]
    fn s_95_old_numbers_are_dropped_and_a_gap_is_no_fault() {
        let mut receiver = Receiver::new(0);
        let verdicts = [0, 1, 1, 0, 5, 3, 6].map(|ns| receiver.accept(ns));
        assert_eq!(verdicts, [true, true, false, false, true, false, true]);
    }

    #[test]
    fn s_95_a_peer_that_counts_anew_is_followed_after_five() {
        let mut receiver = Receiver::new(1000);
        let verdicts = [0, 1, 2, 3, 4, 5].map(|ns| receiver.accept(ns));
        assert_eq!(verdicts, [false, false, false, false, true, true]);
    }

    #[test]
    fn s_95_scattered_old_numbers_never_resynchronise() {
        let mut receiver = Receiver::new(1000);
        for ns in (0..900).step_by(2) {
            assert!(!receiver.accept(ns), "{ns}");
        }
        assert!(receiver.accept(1000));
    }

    #[test]
    fn numbers_wrap() {
        let mut receiver = Receiver::new(65534);
        assert_eq!(
            [65534, 65535, 0, 65535, 1].map(|ns| receiver.accept(ns)),
            [true, true, true, false, true]
        );
    }
}
