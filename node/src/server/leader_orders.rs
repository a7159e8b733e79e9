//! Orders that the leader carries out, given at any node: who does not lead asks the leader, and passes its answer on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::membership;
use crate::actors::context::Shared;
use crate::actors::members::Members;
use crate::actors::orders::{Answered, Asked, Message, Outcome, Waiting};
use crate::api::{ApiError, ClusterOrder, ErrorCode};
use crate::metrics::{Counter, Metrics};
use crate::peers::Frame;

/// How long an order may take, whoever leads in the end; the client waits for 30 s.
const PATIENCE: Duration = Duration::from_secs(26);

/// A leader that is to be removed hands over to another one.
const LEADERS_MAX: u32 = 2;

/// How long a leader is waited for that is just being elected.
const ELECTION: Duration = Duration::from_secs(2);

/// How often it is looked who leads.
const LOOK: Duration = Duration::from_millis(50);

/// Has the leader carry an order out, be it this node; gives how many groups move.
pub async fn carry_out(shared: &Shared, members: &Members, order: ClusterOrder) -> Result<u32, ApiError> {
    let until = Instant::now() + PATIENCE;
    let mut moved = 0;
    for _ in 0..LEADERS_MAX {
        let leader = leader(shared).await?;
        let outcome = if leader == shared.config.load().node.id {
            execute(shared, members, order, until).await?
        } else {
            ask(members, leader, order, until).await?
        };
        match outcome {
            Outcome::Done { groups_moved } => return Ok(moved + groups_moved),
            Outcome::HandedOver { groups_moved } => moved += groups_moved,
        }
    }
    Err(ApiError::new(
        ErrorCode::Unavailable,
        "nothing was changed but who leads: the lead moves to and fro; give the order again",
    ))
}

/// Carries out what other nodes ask of this one. To be spawned; ends with its task.
pub async fn serve(shared: Arc<Shared>) {
    let Some(members) = &shared.members else { return };
    let Some(mut inbox) = members.desk().inbox() else {
        return;
    };
    while let Some(Waiting { from, asked, until }) = inbox.recv().await {
        let Asked { token, order, .. } = asked;
        tracing::info!(
            node = from,
            ?order,
            "another node asks for an order to be carried out"
        );
        let answer = answer(&shared, members, order, Instant::from_std(until)).await;
        // Should the connection be gone, the asker says that it knows nothing.
        let _ = members.peers().send(
            from,
            Frame::Order(Message::Answered(Answered { token, answer }).encode()),
        );
    }
}

/// Carries out what another node's operator ordered, unless he waits no longer: he was told that it may not have been done, and may
/// have given another order since.
async fn answer(
    shared: &Shared,
    members: &Members,
    order: ClusterOrder,
    until: Instant,
) -> Result<Outcome, ApiError> {
    if !matches!(order, ClusterOrder::Add { .. } | ClusterOrder::Remove { .. }) {
        let text = "this order is not for the leader to carry out";
        return Err(ApiError::new(ErrorCode::BadRequest, text));
    }
    let leader = leader(shared).await?;
    if leader != shared.config.load().node.id {
        let text = format!("nothing was done: node {leader} has just taken the lead; give the order again");
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
    must_be_in_time(&shared.metrics, until)?;
    execute(shared, members, order, until).await
}

fn must_be_in_time(metrics: &Metrics, until: Instant) -> Result<(), ApiError> {
    if Instant::now() < until {
        return Ok(());
    }
    metrics.count(Counter::OrdersLate);
    let text = "nothing was done: when the leader came to the order, whoever gave it waited for the answer no longer; give it again";
    tracing::warn!("an order of another node's operator is dropped: {text}");
    Err(ApiError::new(ErrorCode::Unavailable, text))
}

async fn execute(
    shared: &Shared,
    members: &Members,
    order: ClusterOrder,
    until: Instant,
) -> Result<Outcome, ApiError> {
    match order {
        ClusterOrder::Add { node } => {
            membership::add(shared, members, node, until).await?;
            Ok(Outcome::Done { groups_moved: 0 })
        }
        ClusterOrder::Remove { node } => membership::remove(shared, members, node, until).await,
        _ => Ok(Outcome::Done { groups_moved: 0 }),
    }
}

async fn leader(shared: &Shared) -> Result<u64, ApiError> {
    let until = Instant::now() + ELECTION;
    loop {
        match shared.table.published().status().leader_id {
            0 if Instant::now() < until => sleep(LOOK).await,
            0 => {
                let text = "nothing was done: there is no leader, so the members cannot be changed; see \"holdfast cluster status\"";
                return Err(ApiError::new(ErrorCode::Unavailable, text));
            }
            leader => return Ok(leader),
        }
    }
}

async fn ask(
    members: &Members,
    leader: u64,
    order: ClusterOrder,
    until: Instant,
) -> Result<Outcome, ApiError> {
    let (token, answer) = members.desk().expect();
    let remaining = until.saturating_duration_since(Instant::now()).as_millis();
    let asked = Asked {
        token,
        order,
        remaining_ms: u64::try_from(remaining).ok(),
    };
    let question = Message::Ask(asked).encode();
    if !members.peers().send(leader, Frame::Order(question)) {
        let text = format!(
            "nothing was done: node {leader} leads and cannot be reached from here; give the order at another node"
        );
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
    match timeout_at(until, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(ApiError::new(
            ErrorCode::Unavailable,
            format!(
                "node {leader}, which led, was asked and has not answered: it is unknown whether the order was carried out; see \
                 \"holdfast cluster status\", and give it again if it was not"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_whose_asker_has_given_up_is_not_carried_out() {
        let metrics = Metrics::default();
        let now = Instant::now();
        assert!(must_be_in_time(&metrics, now + PATIENCE).is_ok());
        assert_eq!(metrics.get(Counter::OrdersLate), 0);
        let error = must_be_in_time(&metrics, now).expect_err("too late");
        assert!(error.message.contains("nothing was done"), "{error:?}");
        assert_eq!(metrics.get(Counter::OrdersLate), 1);
    }
}
