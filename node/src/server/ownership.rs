//! Design invariant 2: a process that starts takes its groups before it acts for them.

use std::time::Duration;

use holdfast_cluster::commands::Take;
use holdfast_cluster::{Refusal, Verdict};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::actors::table::{ReplyTo, TableHandle};

/// How long a node of one waits for itself to lead and take its groups. A member of a cluster waits for a quorum as long as it
/// takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A proposal that has not been judged by then is made again.
const ANSWER: Duration = Duration::from_millis(500);

/// How often a node that waits for a quorum says so.
const REMINDER: Duration = Duration::from_secs(10);

/// Takes the groups that this node had, or all of them where it is alone. Gives the incarnation of this process.
pub async fn take(table: &TableHandle, node: u64, in_cluster: bool) -> Result<u64, String> {
    let (started, mut said) = (Instant::now(), Instant::now());
    loop {
        if table.published().stopped() {
            return Err("the session table's thread has ended".into());
        }
        if !in_cluster && started.elapsed() > PATIENCE {
            return Err(format!("no answer within {} s", PATIENCE.as_secs()));
        }
        if said.elapsed() > REMINDER {
            said = Instant::now();
            tracing::warn!(
                waited_seconds = started.elapsed().as_secs(),
                "waiting for a quorum of the cluster: start the other members, or see why they cannot be reached"
            );
        }
        if table.published().caught_up()
            && let Some(incarnation) = take_once(table, node, in_cluster).await?
        {
            return Ok(incarnation);
        }
        sleep(LOOK).await;
    }
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
