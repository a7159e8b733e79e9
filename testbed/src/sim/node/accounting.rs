//! The leader has the accounting server receive what the table owes it, and takes off the table what it has received.

use holdfast_cluster::commands::Acknowledge;

use super::process::Process;
use super::table::Reply;
use crate::sim::bugs::Bug;
use crate::sim::facts::Fact;

/// Ticks between two attempts.
const ATTEMPT_TICKS: u64 = 200;
/// How many of a thousand records the server does not receive.
const LOST: u64 = 250;

impl Process {
    pub(super) fn settle_accounting(&mut self) {
        if !self.ticks.is_multiple_of(ATTEMPT_TICKS) || !self.replica.leadership().is_self {
            return;
        }
        let outbox: Vec<_> = self.replica.table().outbox().cloned().collect();
        let mut sequences = Vec::new();
        for owed in outbox {
            let received = !self.dice.happens(LOST);
            if received || self.has(Bug::AccountingSettledUnseen) {
                sequences.push(owed.sequence);
            }
            if received {
                self.fact(Fact::Accounted {
                    sequence: owed.sequence,
                    kind: owed.kind,
                    id: owed.session.acct_session_id.clone(),
                });
            }
        }
        if !sequences.is_empty() {
            self.propose(Reply::Nobody, Acknowledge { sequences });
        }
    }
}
