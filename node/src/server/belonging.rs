//! Who is no member of the Raft group any more: the others tell it once a second, and it says so to its operator.
//!
//! The leader stops sending to whom it removed, often before that one has heard of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::actors::context::Shared;
use crate::actors::members::Members;
use crate::actors::orders::Message;
use crate::peers::Frame;

/// How often who does not belong is told.
const INTERVAL: Duration = Duration::from_secs(1);

/// To be spawned; ends with its task.
pub async fn keep(shared: Arc<Shared>) {
    let Some(members) = &shared.members else { return };
    let node = shared.config.load().node.id;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_removed = false;
    loop {
        ticks.tick().await;
        let removed = members.is_removed(node);
        if removed && !was_removed {
            tracing::error!("{}", removed_text(node));
        }
        was_removed = removed;
        // Who hears no leader may know of old members only.
        if !removed && !members.is_lonely() && shared.table.published().status().leader_id != 0 {
            tell_strangers(members);
        }
    }
}

fn tell_strangers(members: &Members) {
    let group = members.group();
    for node in members.peers().connected() {
        if !group.voters.is_empty() && !group.contains(node) {
            // Said again in a second.
            let _ = members
                .peers()
                .send(node, Frame::Order(Message::NoMember.encode()));
        }
    }
}

/// What has happened to a node that was removed, and what to do.
pub fn removed_text(node: u64) -> String {
    format!(
        "this node was removed from the cluster: it owns nothing, announces nothing and decides nothing. Stop it and take it out \
         of the configuration of all members; or \"holdfast cluster add {node}\" at another node makes it a member again"
    )
}
