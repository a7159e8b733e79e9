//! What accounting reads of the session table.

use std::sync::Arc;

use holdfast_cluster::records::{SessionRow, TunnelRow};
use holdfast_cluster::table::Owed;

use crate::aaa::accounting::interim::SessionIds;
use crate::actors::table::TableHandle;

/// Records that are looked at in one turn of the table's thread, which has others to serve.
const PAGE: usize = 4_096;

/// Some records of the outbox.
#[derive(Debug)]
pub(super) struct Page {
    /// Oldest first.
    pub records: Vec<Arc<Owed>>,
    /// The number to go on with.
    pub next: u64,
    /// Nothing follows for now.
    pub is_last: bool,
    /// The number of the oldest record that is owed, or will be.
    pub first: u64,
    /// The number that the next record gets.
    pub next_owed: u64,
    /// How many records there are.
    pub length: usize,
    /// How many were dropped, at the bound, since the table began.
    pub dropped: u64,
}

/// The records from the number `from` on.
pub(super) async fn page(table: &TableHandle, from: u64) -> Option<Page> {
    let read = move |table: &holdfast_cluster::Table| {
        let records: Vec<_> = table.outbox_from(from).take(PAGE).cloned().collect();
        let next_owed = table.next_owed();
        let is_last = records.len() < PAGE;
        let next = match records.last().filter(|_| !is_last) {
            Some(last) => last.sequence + 1,
            None => next_owed,
        };
        Page {
            first: table.outbox().next().map_or(next_owed, |owed| owed.sequence),
            length: table.outbox_len(),
            dropped: table.accounting_dropped(),
            records,
            next,
            is_last,
            next_owed,
        }
    };
    table.ask(read).await
}

/// A session that is due.
#[derive(Debug)]
pub(super) struct Due {
    pub tunnel: Arc<TunnelRow>,
    pub session: Arc<SessionRow>,
    /// Table time in milliseconds.
    pub now_ms: u64,
}

/// The rows of these sessions, of those that are open.
pub(super) async fn sessions(table: &TableHandle, these: Vec<SessionIds>) -> Vec<Due> {
    let read = move |table: &holdfast_cluster::Table| {
        let found = these.iter().filter_map(|(tunnel, session)| {
            let tunnel = table.tunnel(*tunnel)?;
            let session = tunnel.session(*session).filter(|row| row.is_open())?;
            Some(Due {
                tunnel: tunnel.row().clone(),
                session: session.clone(),
                now_ms: table.now_ms(),
            })
        });
        found.collect()
    };
    table.ask(read).await.unwrap_or_default()
}
