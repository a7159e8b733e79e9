//! A node that was cut off for too long forwards no more (design invariant 7): what follows from that, and what the operator is told.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Members;
use crate::metrics::{Limit, Metrics};

/// Of the table's thread.
#[derive(Debug)]
pub(super) struct Isolation {
    members: Arc<Members>,
    metrics: Arc<Metrics>,
    /// It began, and that was said.
    said: bool,
}

impl Isolation {
    pub(super) fn new(members: Arc<Members>, metrics: Arc<Metrics>) -> Self {
        Self {
            members,
            metrics,
            said: false,
        }
    }

    /// Notes whether this node may forward now, given until when it may (`None`: for ever). Returns that time.
    pub(super) fn look(&mut self, now: Duration, until: Option<Duration>) -> Duration {
        let until = until.unwrap_or(Duration::MAX);
        let isolated = now >= until;
        self.members.isolated.store(isolated, Relaxed);
        // A process that has yet to follow the group for the first time was cut off from nothing.
        let cut_off = isolated && !until.is_zero();
        if cut_off != self.said {
            self.said = cut_off;
            self.say(cut_off);
        }
        until
    }

    fn say(&self, cut_off: bool) {
        let limit_s = self.members.isolation_limit.as_secs();
        if cut_off {
            self.metrics.hit(Limit::Isolation);
            tracing::error!(
                limit_s,
                "this node has not followed the cluster for its isolation limit and forwards no user data any more, for addresses \
                 that it knows may be other subscribers' by now: restore its connections to the other members, or a quorum of \
                 them (\"holdfast cluster status\"); it goes on by itself"
            );
        } else {
            tracing::info!("this node follows the cluster again and forwards user data");
        }
    }
}
