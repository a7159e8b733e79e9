//! Relays that wait for the next owner of their group.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holdfast_protocol::TunnelId;

use super::wire::Relay;

const HELD_PER_TUNNEL_MAX: usize = 8;
const HELD: Duration = Duration::from_secs(1);

/// At most so many a tunnel, and each for a second.
#[derive(Debug, Default)]
pub struct Hold {
    held: BTreeMap<TunnelId, VecDeque<(Duration, Relay)>>,
}

impl Hold {
    pub fn hold(&mut self, now: Duration, relay: Relay) {
        let queue = self.held.entry(relay.tunnel).or_default();
        if queue.len() < HELD_PER_TUNNEL_MAX {
            queue.push_back((now + HELD, relay));
        }
    }

    /// What waited for this group, in order.
    pub fn release(&mut self, group: u8) -> Vec<Relay> {
        let of_group = |tunnel: &TunnelId, _: &mut VecDeque<_>| tunnel.group() == group;
        let released = self.held.extract_if(.., of_group);
        released.flat_map(|(_, queue)| queue).map(|(_, relay)| relay).collect()
    }

    /// What has waited for too long.
    pub fn expire(&mut self, now: Duration) -> Vec<Relay> {
        let mut expired = Vec::new();
        for queue in self.held.values_mut() {
            while queue.front().is_some_and(|(until, _)| *until <= now) {
                expired.extend(queue.pop_front().map(|(_, relay)| relay));
            }
        }
        self.held.retain(|_, queue| !queue.is_empty());
        expired
    }
}
