//! The tie breaker (RFC 2661 §4.4.3): who goes on when both sides send an SCCRQ at the same time.
//!
//! | ours | the peer's | outcome |
//! |---|---|---|
//! | present | present, other | the lower wins |
//! | present | present, equal | both discard |
//! | present | absent | we win |
//! | absent | present | the peer wins |
//! | absent | absent | two tunnels come up |

use std::cmp::Ordering;

/// What becomes of two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Ours goes on; the peer discards its own silently.
    Won,
    /// Ours is discarded; the peer's SCCRQ is handled as any other.
    Lost,
    /// Both are discarded.
    BothLost,
    /// Both go on.
    Independent,
}

/// Compares the tie breakers, big-endian numbers of 8 octets.
pub fn resolve(ours: Option<u64>, peers: Option<u64>) -> Tie {
    match (ours, peers) {
        (None, None) => Tie::Independent,
        (Some(_), None) => Tie::Won,
        (None, Some(_)) => Tie::Lost,
        (Some(ours), Some(peers)) => match ours.cmp(&peers) {
            Ordering::Less => Tie::Won,
            Ordering::Greater => Tie::Lost,
            Ordering::Equal => Tie::BothLost,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_22_tie_breakers() {
        assert_eq!(resolve(Some(1), Some(0x8000_0000_0000_0000)), Tie::Won);
        assert_eq!(resolve(Some(2), Some(1)), Tie::Lost);
        assert_eq!(resolve(Some(2), Some(2)), Tie::BothLost);
        assert_eq!(resolve(Some(2), None), Tie::Won);
        assert_eq!(resolve(None, Some(2)), Tie::Lost);
        assert_eq!(resolve(None, None), Tie::Independent);
    }
}
