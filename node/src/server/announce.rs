//! Tells the routers how the node stands, again and again: what is not confirmed does not count after a stall.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::actors::context::Shared;
use crate::anycast::{Presence, Standing};

/// Between two confirmations.
const INTERVAL: Duration = Duration::from_millis(100);

/// To be spawned; ends with its task.
pub async fn keep(shared: Arc<Shared>, presence: Arc<Presence>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        presence.set_standing(standing(&shared));
    }
}

/// A node that has taken its groups has applied all that was committed before.
fn standing(shared: &Shared) -> Standing {
    if shared.closing.load(Relaxed) || shared.table.published().stopped() {
        Standing::Withdrawn
    } else if shared
        .members
        .as_ref()
        .is_some_and(|members| members.is_isolated())
    {
        // What comes here would be dropped.
        Standing::Withdrawn
    } else if is_removed(shared) {
        // What comes here would only be passed on, and by a table that is not kept up.
        Standing::Withdrawn
    } else if shared
        .members
        .as_ref()
        .is_some_and(|members| members.is_lonely() || members.leaves_lacs_to_others())
    {
        Standing::LastResort
    } else {
        Standing::Ready
    }
}

fn is_removed(shared: &Shared) -> bool {
    let node = shared.config.load().node.id;
    shared
        .members
        .as_ref()
        .is_some_and(|members| members.is_removed(node))
}
