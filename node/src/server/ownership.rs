//! Design invariant 2: a process that starts takes its groups before it acts for them.

use std::time::Duration;

use holdfast_cluster::commands::Take;
use holdfast_cluster::{Refusal, Verdict};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::waiting::waits_for;
use crate::actors::members::Members;
use crate::actors::table::{ReplyTo, TableHandle};
use crate::config::Config;

/// How long a node of one waits for itself to lead and take its groups. A member of a cluster waits for a quorum as long as it
/// takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A proposal that has not been judged by then is made again.
const ANSWER: Duration = Duration::from_millis(500);

/// How often a node that waits for a quorum says so.
const REMINDER: Duration = Duration::from_secs(10);

/// Why no groups were taken.
#[derive(Debug)]
pub enum TakeError {
    /// The table does not answer, or refuses.
    NotReady(String),
    /// The configuration is not the cluster's.
    Disagrees(String),
}

/// Takes the groups that this node had, or all of them where it is alone. Gives the incarnation of this process.
pub async fn take(table: &TableHandle, config: &Config, members: Option<&Members>) -> Result<u64, TakeError> {
    let (node, in_cluster) = (config.node.id, members.is_some());
    let (started, mut said) = (Instant::now(), Instant::now());
    loop {
        if table.published().stopped() {
            let why = table.published().failure();
            return Err(TakeError::NotReady(why.unwrap_or("its thread has ended").into()));
        }
        if !in_cluster && started.elapsed() > PATIENCE {
            let text = format!("no answer within {} s", PATIENCE.as_secs());
            return Err(TakeError::NotReady(text));
        }
        if said.elapsed() > REMINDER {
            said = Instant::now();
            remind(node, started.elapsed(), members);
        }
        if table.published().caught_up() {
            let leader = table.published().status().leader_id;
            // The leader's Hello was heard before its answer that we are caught up.
            if let Some(why) = members.and_then(|members| members.agreements().refusal(leader)) {
                return Err(TakeError::Disagrees(why));
            }
            let taken = take_once(table, node, in_cluster).await;
            if let Some(incarnation) = taken.map_err(TakeError::NotReady)? {
                return Ok(incarnation);
            }
        }
        sleep(LOOK).await;
    }
}

fn remind(node: u64, waited: Duration, members: Option<&Members>) {
    tracing::warn!(waited_seconds = waited.as_secs(), "{}", waits_for(node, members));
}

/// `None`: ask again.
async fn take_once(table: &TableHandle, node: u64, in_cluster: bool) -> Result<Option<u64>, String> {
    let mine = table.ask(move |table| {
        let owned = (0..=u8::MAX).filter(|group| !in_cluster || table.group(*group).owner == node);
        let groups: Vec<u32> = owned.map(u32::from).collect();
        (groups, table.next_incarnation(node))
    });
    let Some((groups, incarnation)) = mine.await else {
        return Ok(None);
    };
    let (waiter, verdict) = oneshot::channel();
    let take = Take {
        groups,
        node,
        incarnation,
    };
    table.propose(ReplyTo::Waiter(waiter), take);
    match timeout(ANSWER, verdict).await {
        Ok(Ok(Verdict::Accepted { .. })) => Ok(Some(incarnation)),
        // The table that we read was behind.
        Ok(Ok(Verdict::Refused(Refusal::StaleIncarnation { .. }))) => Ok(None),
        Ok(Ok(Verdict::Refused(refusal))) => Err(refusal.to_string()),
        // Lost on its way, or with a leader.
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}
