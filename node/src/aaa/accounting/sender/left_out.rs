//! Records that a server leaves unanswered while it answers others: one that it drops each time, for whatever reason of its own.
//!
//! Such a record says nothing of the server, so others go on; it is tried again by itself, ever more seldom, holds up its own session's later
//! records meanwhile, and is given up after [`LEFT_OUT_MAX`]. The time in which no server answers anything does not count.

use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::table::Owed;

/// How long a record is tried at servers that answer others and not it.
pub const LEFT_OUT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// From one attempt to the next: the first, doubled up to the last.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Attempts in vain of which the operator is told: by then it is no accident.
const ATTEMPTS_TOLD: u32 = 5;

/// How often in a row a record was left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftOut {
    attempts: u32,
    wait: Duration,
    /// When its next attempt is due.
    pub(super) until: Duration,
    /// In all, attempts that a dead server did not answer not counted.
    lasted: Duration,
}

/// What has to be said of a record.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Which.
    pub owed: Arc<Owed>,
    /// Whose servers.
    pub group: Arc<str>,
    /// For how long it was tried in vain.
    pub lasted: Duration,
    /// Whether it will not be tried again.
    pub given_up: bool,
}

impl LeftOut {
    /// After one more attempt that began at `sent_at`.
    pub(super) fn after(before: Option<Self>, sent_at: Duration, now: Duration) -> Self {
        let (attempts, wait, lasted) = match before {
            None => (0, WAIT_MIN, Duration::ZERO),
            Some(before) => (
                before.attempts,
                (before.wait * 2).min(WAIT_MAX),
                before.lasted + before.wait,
            ),
        };
        Self {
            attempts: attempts.saturating_add(1),
            wait,
            until: now + wait,
            lasted: lasted + now.saturating_sub(sent_at),
        }
    }

    /// Whether somebody is to be told, and of what.
    pub(super) fn notice(&self, owed: &Arc<Owed>, group: &Arc<str>) -> Option<Notice> {
        let given_up = self.lasted >= LEFT_OUT_MAX;
        (given_up || self.attempts == ATTEMPTS_TOLD).then(|| Notice {
            owed: owed.clone(),
            group: group.clone(),
            lasted: self.lasted,
            given_up,
        })
    }
}
