//! Orders that the leader carries out, given at any node: who does not lead asks the leader, and passes its answer on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::membership;
use crate::actors::context::Shared;
use crate::actors::members::Members;
use crate::actors::orders::{Answered, Asked, Message, Outcome};
use crate::api::{ApiError, ClusterOrder, ErrorCode};
use crate::peers::Frame;

/// How long the leader may take; the client waits for 30 s, and the leader gives up after 20 s.
const PATIENCE: Duration = Duration::from_secs(26);

/// A leader that is to be removed hands over to another one.
const LEADERS_MAX: u32 = 2;

/// How long a leader is waited for that is just being elected.
const ELECTION: Duration = Duration::from_secs(2);

/// How often it is looked who leads.
const LOOK: Duration = Duration::from_millis(50);

/// Has the leader carry an order out, be it this node; gives how many groups move.
pub async fn carry_out(shared: &Shared, members: &Members, order: ClusterOrder) -> Result<u32, ApiError> {
    let mut moved = 0;
    for _ in 0..LEADERS_MAX {
        let leader = leader(shared).await?;
        let outcome = if leader == shared.config.load().node.id {
            execute(shared, members, order).await?
        } else {
            ask(members, leader, order).await?
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
    while let Some((from, Asked { token, order })) = inbox.recv().await {
        tracing::info!(
            node = from,
            ?order,
            "another node asks for an order to be carried out"
        );
        let answer = match (order, leader(&shared).await) {
            (ClusterOrder::Add { .. } | ClusterOrder::Remove { .. }, Ok(leader))
                if leader == shared.config.load().node.id =>
            {
                execute(&shared, members, order).await
            }
            (ClusterOrder::Add { .. } | ClusterOrder::Remove { .. }, Ok(leader)) => Err(ApiError::new(
                ErrorCode::Unavailable,
                format!("nothing was done: node {leader} has just taken the lead; give the order again"),
            )),
            (_, Err(error)) => Err(error),
            (_, Ok(_)) => Err(ApiError::new(
                ErrorCode::BadRequest,
                "this order is not for the leader to carry out",
            )),
        };
        // Should the connection be gone, the asker says that it knows nothing.
        let _ = members.peers().send(
            from,
            Frame::Order(Message::Answered(Answered { token, answer }).encode()),
        );
    }
}

async fn execute(shared: &Shared, members: &Members, order: ClusterOrder) -> Result<Outcome, ApiError> {
    match order {
        ClusterOrder::Add { node } => {
            membership::add(shared, members, node).await?;
            Ok(Outcome::Done { groups_moved: 0 })
        }
        ClusterOrder::Remove { node } => membership::remove(shared, members, node).await,
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

async fn ask(members: &Members, leader: u64, order: ClusterOrder) -> Result<Outcome, ApiError> {
    let (token, answer) = members.desk().expect();
    let question = Message::Ask(Asked { token, order }).encode();
    if !members.peers().send(leader, Frame::Order(question)) {
        let text = format!(
            "nothing was done: node {leader} leads and cannot be reached from here; give the order at another node"
        );
        return Err(ApiError::new(ErrorCode::Unavailable, text));
    }
    match timeout(PATIENCE, answer).await {
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
