//! What the table's thread notes for accounting as it goes: when each session is due for an interim, and that a record is owed.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_cluster::records::SessionRow;
use holdfast_cluster::{Effect, Table};
use tokio::sync::Notify;

use crate::aaa::accounting::interim::{Interims, Session, SessionIds};

/// See the module.
#[derive(Debug, Default)]
pub struct Desk {
    interims: Mutex<Interims>,
    /// Seconds, of sessions that have no interval of their own; 0: none.
    interval_s: AtomicU32,
    closed_before: AtomicU64,
    news: Notify,
}

impl Desk {
    /// Follows a change of the table.
    pub(in crate::actors) fn follow(&self, table: &Table, effect: &Effect) {
        match effect {
            Effect::SessionChanged {
                tunnel,
                session,
                row,
                after_open: true,
                ..
            } => put(&mut self.interims(), table.now_ms(), (*tunnel, *session), row),
            Effect::SessionRemoved { tunnel, session, .. } => self.interims().remove((*tunnel, *session)),
            Effect::AccountingOwed { .. } => self.news.notify_one(),
            Effect::TableReplaced => self.rebuild(table),
            Effect::SessionChanged { .. }
            | Effect::SessionReplaced { .. }
            | Effect::TunnelChanged { .. }
            | Effect::TunnelRemoved { .. }
            | Effect::GroupTaken { .. } => {}
        }
    }

    /// Sessions without an interval of their own have this one from the next [`Self::rebuild`] on. Whether that is another one than before.
    pub fn set_interval(&self, interval_s: u32) -> bool {
        self.interval_s.swap(interval_s, Relaxed) != interval_s
    }

    /// Derives the schedule from the table.
    pub fn rebuild(&self, table: &Table) {
        let mut interims = self.interims();
        interims.clear();
        interims.set_default(self.interval_s.load(Relaxed));
        for (tunnel, found) in table.tunnels() {
            for (session, row) in found.sessions().filter(|(_, row)| row.is_open()) {
                put(&mut interims, table.now_ms(), (tunnel, session), row);
            }
        }
    }

    /// The sessions, of all nodes, that are due at this table time, `max` at most.
    pub fn take_due(&self, now_ms: u64, max: usize) -> Vec<SessionIds> {
        self.interims().take_due(now_ms, max)
    }

    /// A record has become owed since this was last asked.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Of the sessions whose Stops have lower numbers this node has said its last word, once it has said all that it counts now.
    pub fn closed_before(&self) -> u64 {
        self.closed_before.load(Relaxed)
    }

    pub(super) fn set_closed_before(&self, sequence: u64) {
        self.closed_before.store(sequence, Relaxed);
    }

    fn interims(&self) -> MutexGuard<'_, Interims> {
        // Each change of it is whole or leaves a session out of the schedule.
        self.interims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(interims: &mut Interims, now_ms: u64, ids: SessionIds, row: &SessionRow) {
    let Some(ppp) = &row.ppp else { return };
    let session = Session {
        name: &row.acct_session_id,
        opened_ms: ppp.opened_ms,
        interval_s: ppp.interim_interval,
        families: ppp.ncps.iter().filter(|ncp| ncp.open).count(),
    };
    interims.put(now_ms, ids, &session);
}
