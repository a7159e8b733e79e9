//! The last that accounting servers hear when sessions are ended on purpose (`shutdown --disconnect`): the Stops, and the Accounting-Off where
//! nothing of the cluster goes on.
//!
//! A node waits until its own records are confirmed. When all other nodes are being stopped as well, it waits for theirs too, for without a
//! quorum nobody could end a session or confirm a record; then the leader says Off. What is not confirmed in time stays in the table, for
//! the next start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::DISCONNECT_PATIENCE;
use crate::aaa::accounting::Request;
use crate::actors::accounting::{Courier, Outcome, Servers};
use crate::actors::context::Shared;
use crate::io::clock;

/// How long a node waits for its last records to be confirmed.
const STOPS_PATIENCE: Duration = Duration::from_secs(20);

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// What is left in the table.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Of all nodes.
    sessions: usize,
    /// Of all nodes.
    records: usize,
    /// Of this node.
    own_records: usize,
}

/// Waits for the Stops of sessions that were ended, and says Off if those were the last.
pub(super) async fn tell_servers(shared: &Arc<Shared>) {
    let begun = Instant::now();
    let (own_end, whole_end) = (
        begun + STOPS_PATIENCE,
        begun + STOPS_PATIENCE + DISCONNECT_PATIENCE,
    );
    loop {
        let Some(left) = left(shared).await else { return };
        let now = Instant::now();
        if left.sessions == 0 && left.records == 0 {
            break;
        }
        let others_end = is_whole(shared) && is_with_others(shared) && now < whole_end;
        if others_end || left.own_records > 0 && now < own_end {
            sleep(LOOK).await;
            continue;
        }
        if left.own_records > 0 {
            let records = left.own_records;
            tracing::warn!(
                records,
                "accounting records are not confirmed by any server; they are kept for the next start"
            );
        }
        return;
    }
    let speaks = shared.members.is_none() || shared.table.published().leads();
    if speaks && is_whole(shared) {
        say_off(shared).await;
    }
}

/// Whether nobody goes on with the cluster.
fn is_whole(shared: &Shared) -> bool {
    let members = shared.members.as_ref();
    members.is_none_or(|members| !members.could_take_over())
}

fn is_with_others(shared: &Shared) -> bool {
    let members = shared.members.as_ref();
    members.is_some_and(|members| !members.peers().connected().is_empty())
}

async fn left(shared: &Arc<Shared>) -> Option<Left> {
    let own = shared.clone();
    let look = move |table: &holdfast_cluster::Table| Left {
        sessions: table.session_count(),
        records: table.outbox_len(),
        own_records: {
            let published = own.table.published();
            table.outbox().filter(|owed| published.owns(owed.tunnel)).count()
        },
    };
    shared.table.ask(look).await
}

async fn say_off(shared: &Arc<Shared>) {
    let servers = Servers::for_goodbye(shared.clone());
    let unix_s = clock::unix().as_secs();
    for group in servers.groups() {
        let outcome = servers.deliver(&group, Request::Off { unix_s }).await;
        match outcome {
            Outcome::Confirmed => tracing::info!(group, "the accounting servers know that nothing goes on"),
            other => tracing::warn!(group, ?other, "no server has confirmed the Accounting-Off"),
        }
    }
}
