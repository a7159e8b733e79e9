//! What a process that starts finds in the session table.

use std::time::Duration;

use holdfast_cluster::Table;
use holdfast_cluster::limits::TABLE_TIME_STEP_MS;
use holdfast_cluster::records::SessionRow;

use super::super::bins::Rest;
use super::{Pair, Prefixes, Released, Use};
use crate::lns::ipv6::net;

/// What a row says that its session has.
pub fn of_row(row: &SessionRow) -> Pair {
    let Some(ppp) = &row.ppp else {
        return Pair::default();
    };
    [net(ppp.link_prefix.as_ref()), net(ppp.delegated_prefix.as_ref())]
}

impl Prefixes {
    /// Notes which prefixes the table's sessions have, and which rest: the table would refuse them to another user.
    pub fn seed(&mut self, table: &Table, now: Duration) {
        for (prefix, rests_ms, user) in table.released_prefixes() {
            let Some(prefix) = net(Some(&prefix)) else {
                continue;
            };
            let rests = match rests_ms {
                0 => Duration::ZERO,
                // The table's clock runs in steps.
                rests_ms => Duration::from_millis(rests_ms + TABLE_TIME_STEP_MS),
            };
            let rest = Rest {
                free_at: now + rests,
                index: table.applied(),
            };
            let user = String::from_utf8_lossy(&user).into_owned();
            let fixed = self.fixed.contains_key(&prefix);
            let Some(shelf) = self.shelf_of(prefix).filter(|_| !fixed) else {
                continue;
            };
            shelf.stock.put(rest, prefix);
            let purpose: Use = shelf.purpose;
            self.last.insert((purpose, user.clone()), prefix);
            self.released.insert(prefix, Released { rest, user });
        }
        for (tunnel, entry) in table.tunnels() {
            for (session, row) in entry.sessions() {
                let user = String::from_utf8_lossy(row.user().unwrap_or_default()).into_owned();
                let ids = (tunnel, session);
                self.settle(now, 0, ids, &user, Pair::default(), of_row(row));
            }
        }
    }
}
