//! Slow start and congestion avoidance of the control channel (RFC 2661 appendix A).

/// How many messages may be unacknowledged, as far as the path is known to bear them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Congestion {
    /// Messages, at least 1, never above `limit`.
    window: u16,
    /// Below it the window grows by one an acknowledgement, from it on by one a window.
    threshold: u16,
    /// The peer's receive window, messages.
    limit: u16,
    /// Acknowledgements since the window last grew, while above the threshold.
    credit: u16,
}

impl Congestion {
    /// Slow start towards the peer's window of `limit` messages.
    pub(super) fn new(limit: u16) -> Self {
        let limit = limit.max(1);
        Self {
            window: 1,
            threshold: limit,
            limit,
            credit: 0,
        }
    }

    /// The peer has told its window; what was learnt of the path stays.
    pub(super) fn set_limit(&mut self, limit: u16) {
        self.limit = limit.max(1);
        self.threshold = self.limit;
        self.window = self.window.min(self.limit);
    }

    /// Messages that may be unacknowledged.
    pub(super) fn window(&self) -> u16 {
        self.window
    }

    /// `count` messages were acknowledged.
    pub(super) fn acknowledged(&mut self, count: u16) {
        for _ in 0..count.min(self.limit) {
            if self.window >= self.limit {
                return;
            }
            if self.window < self.threshold {
                self.window += 1;
                continue;
            }
            self.credit += 1;
            if self.credit >= self.window {
                self.credit = 0;
                self.window += 1;
            }
        }
    }

    /// A message had to be sent again.
    pub(super) fn lost(&mut self) {
        self.threshold = (self.window / 2).max(1);
        self.window = 1;
        self.credit = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_start_then_avoidance_then_the_peers_window() {
        let mut congestion = Congestion::new(8);
        congestion.acknowledged(7);
        assert_eq!(congestion.window(), 8);
        congestion.acknowledged(100);
        assert_eq!(congestion.window(), 8);
        congestion.lost();
        assert_eq!((congestion.window(), congestion.threshold), (1, 4));
        congestion.acknowledged(3);
        assert_eq!(congestion.window(), 4);
        congestion.acknowledged(3);
        assert_eq!(congestion.window(), 4);
        congestion.acknowledged(1);
        assert_eq!(congestion.window(), 5);
    }

    #[test]
    fn a_loss_at_window_one_keeps_one() {
        let mut congestion = Congestion::new(1);
        congestion.lost();
        assert_eq!((congestion.window(), congestion.threshold), (1, 1));
    }
}
