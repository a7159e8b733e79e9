//! Whom this node supports as leader, and what its leader grants it.

use std::time::Duration;

/// As a follower. All times are this node's own.
#[derive(Debug)]
pub(super) struct Support {
    /// When it last acknowledged a probe of its view's leader as that leader's follower.
    of_leader: Option<Duration>,
    /// When it last can have supported any leader but its view's.
    pub(super) of_others: Duration,
    /// Until when its view's leader vouches for it; zero: it does not.
    pub(super) lease_until: Duration,
}

impl Support {
    /// What an earlier process of this node supported is unknown: it may have been a moment ago.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            of_leader: None,
            of_others: now,
            lease_until: Duration::ZERO,
        }
    }

    /// Acknowledges a probe of the leader.
    pub(super) fn give(&mut self, now: Duration) {
        self.of_leader = Some(now);
    }

    /// Another leader, another term, or none. A node that led supported itself until now.
    pub(super) fn change_view(&mut self, now: Duration, led: bool) {
        let own = Some(now).filter(|_| led);
        let given = self.of_leader.take().max(own);
        self.of_others = self.of_others.max(given.unwrap_or_default());
        self.lease_until = Duration::ZERO;
    }
}
