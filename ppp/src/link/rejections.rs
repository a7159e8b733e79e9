//! A bound on what we say to garbage: Protocol-Reject and Code-Reject (RFC 1661 §5.6, §5.7) are answers to frames that
//! mean nothing here, one each, so a flood of such frames would be paid back in full. A token bucket for each link
//! caps them; the RFC leaves a lost reject to the peer's repeats, and so a reject held back is just one lost.

use std::time::Duration;

/// Rejects that a link sends at once; more than the protocols that a client tries on the way up.
const REJECTION_BURST: u32 = 8;

/// One more reject becomes possible after this time.
const REJECTION_INTERVAL: Duration = Duration::from_secs(1);

/// The bucket, as the time at which it is full again.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    full_at: Duration,
}

impl Rejections {
    /// Takes a token; false if there is none.
    pub(super) fn allow(&mut self, now: Duration) -> bool {
        let from = self.full_at.max(now);
        if from >= now + REJECTION_INTERVAL * REJECTION_BURST {
            return false;
        }
        self.full_at = from + REJECTION_INTERVAL;
        true
    }
}
