//! Networks of open sessions that no pool covers: addresses fixed for their users, and routes to what lies behind subscribers.
//!
//! The whole of a pool is routed to the TUN and announced at any time; each of these is by itself, and only while its session is
//! open. Every node routes all of them to its TUN, for any node forwards for any session. To the routers the owner of the
//! session announces it as it does its slices; every other node announces it too, but by a longer path, so that it is reached
//! there as soon as the owner is dead, without waiting for a takeover. (What lies in a pool needs no such thing: the whole
//! catches it.) Of several sessions with one network that of the lowest metric has it, of equals the one that opened last.
//!
//! A prefix that a reload has taken from its pool goes on as a whole until the last address in it is released.
//!
//! Pure, and kept current session by session.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use holdfast_protocol::{SessionId, TunnelId};
use ipnet::IpNet;

use super::cut::Group;

type Ids = (TunnelId, SessionId);

/// Which session a network goes to, the lowest first: metric, when it opened, our ids. Every node finds the same.
type Rank = (u32, Reverse<u64>, Ids);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    pools: Vec<IpNet>,
    /// Prefixes that were taken from their pools, with how many of their addresses are in use.
    former: BTreeMap<IpNet, u64>,
    networks: BTreeMap<IpNet, BTreeSet<Rank>>,
    /// What each session has of them; most have none.
    sessions: BTreeMap<Ids, Vec<(IpNet, Rank)>>,
    changed: bool,
}

impl Outside {
    /// For the prefixes that are routed as a whole.
    pub fn new(pools: Vec<IpNet>) -> Self {
        Self {
            pools,
            changed: true,
            ..Self::default()
        }
    }

    /// Goes over to other pools. What no session has any more of their former prefixes is dropped; then hand in all sessions
    /// and addresses again.
    pub fn set_pools(&mut self, pools: Vec<IpNet>) {
        let earlier = std::mem::take(&mut self.pools);
        let former = earlier.into_iter().chain(self.former.keys().copied());
        let gone = |net: &IpNet| !pools.iter().any(|pool| pool.contains(net));
        *self = Self {
            former: former.filter(gone).map(|net| (net, 0)).collect(),
            ..Self::new(pools)
        };
    }

    /// Ends [`Self::set_pools`]: all sessions have been handed in.
    pub fn forget_unused(&mut self) {
        self.former.retain(|_, users| *users > 0);
        self.changed = true;
    }

    /// A session has an address, or has it no longer. For those of prefixes that were removed.
    pub fn count_address(&mut self, address: IpAddr, more: bool) {
        let Some((net, users)) = self.former.iter_mut().find(|(net, _)| net.contains(&address)) else {
            return;
        };
        *users = if more { *users + 1 } else { users.saturating_sub(1) };
        if *users == 0 && !more {
            let net = *net;
            self.former.remove(&net);
            self.changed = true;
        }
    }

    /// A session has these networks, each with its metric, and no others.
    pub fn put(&mut self, ids: Ids, opened_ms: u64, networks: impl IntoIterator<Item = (IpNet, u32)>) {
        let mut ranked: Vec<(IpNet, Rank)> = networks
            .into_iter()
            .filter(|(net, _)| !self.covers(net))
            .map(|(net, metric)| (net.trunc(), (metric, Reverse(opened_ms), ids)))
            .collect();
        ranked.sort_unstable();
        if self.sessions.get(&ids).map_or(&[][..], Vec::as_slice) == ranked {
            return;
        }
        self.remove(ids);
        for (net, rank) in &ranked {
            self.networks.entry(*net).or_default().insert(*rank);
        }
        self.sessions.insert(ids, ranked);
        self.changed = true;
    }

    /// A session has none of them any more.
    pub fn remove(&mut self, ids: Ids) {
        for (net, rank) in self.sessions.remove(&ids).unwrap_or_default() {
            if let Some(ranks) = self.networks.get_mut(&net) {
                ranks.remove(&rank);
                if ranks.is_empty() {
                    self.networks.remove(&net);
                }
            }
            self.changed = true;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether anything has changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is routed and announced as a whole.
    pub fn wholes(&self) -> BTreeSet<IpNet> {
        self.pools.iter().chain(self.former.keys()).copied().collect()
    }

    /// All of them.
    pub fn networks(&self) -> BTreeSet<IpNet> {
        self.networks.keys().copied().collect()
    }

    /// Those of the groups for which `owned` holds.
    pub fn owned(&self, owned: impl Fn(Group) -> bool) -> BTreeSet<IpNet> {
        self.networks
            .iter()
            .filter(|(_, ranks)| {
                ranks
                    .first()
                    .is_some_and(|(_, _, (tunnel, _))| owned(tunnel.group()))
            })
            .map(|(net, _)| *net)
            .collect()
    }

    fn covers(&self, net: &IpNet) -> bool {
        self.pools
            .iter()
            .chain(self.former.keys())
            .any(|pool| pool.contains(net))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn nets<const N: usize>(texts: [&str; N]) -> BTreeSet<IpNet> {
        texts.map(net).into()
    }

    fn ids(tunnel: u16, session: u16) -> Ids {
        (
            TunnelId::new(tunnel).expect("not zero"),
            SessionId::new(session).expect("not zero"),
        )
    }

    fn outside() -> Outside {
        let mut outside = Outside::new(vec![net("100.64.0.0/16")]);
        assert!(outside.take_changed());
        outside
    }

    #[test]
    fn what_a_pool_covers_needs_no_route_of_its_own() {
        let mut outside = outside();
        outside.put(ids(0x0101, 1), 1, [(net("100.64.3.0/24"), 1)]);
        assert!(!outside.take_changed() && outside.is_empty());
        outside.put(ids(0x0101, 1), 1, [(net("203.0.113.7/32"), 1)]);
        assert!(outside.take_changed());
        outside.put(ids(0x0101, 1), 1, [(net("203.0.113.7/32"), 1)]);
        assert!(!outside.take_changed(), "nothing new");
        assert_eq!(outside.networks(), nets(["203.0.113.7/32"]));
        outside.remove(ids(0x0101, 1));
        assert!(outside.take_changed() && outside.is_empty());
    }

    #[test]
    fn the_owner_of_the_lower_metric_announces_and_the_other_takes_over() {
        let route = net("192.0.2.0/28");
        let mut outside = outside();
        outside.put(ids(0x0101, 1), 5, [(route, 10)]);
        outside.put(ids(0x0202, 1), 9, [(route, 20)]);
        let owner = |outside: &Outside| -> Vec<Group> {
            (0..=255)
                .filter(|group| !outside.owned(|of| of == *group).is_empty())
                .collect()
        };
        assert_eq!(owner(&outside), [1]);
        outside.remove(ids(0x0101, 1));
        assert_eq!((owner(&outside), outside.len()), (vec![2], 1));
        // Of equals the one that opened last: the other may be a line that nobody has noticed to be dead.
        outside.put(ids(0x0303, 1), 10, [(route, 20)]);
        assert_eq!(owner(&outside), [3]);
    }

    #[test]
    fn a_prefix_that_was_removed_stays_until_its_last_address_is_released() {
        let mut outside = Outside::new(vec![net("100.64.0.0/16"), net("10.0.0.0/24"), net("10.9.0.0/24")]);
        outside.set_pools(vec![net("100.64.0.0/16")]);
        outside.count_address([10, 0, 0, 7].into(), true);
        outside.forget_unused();
        assert_eq!(outside.wholes(), nets(["100.64.0.0/16", "10.0.0.0/24"]));
        outside.put(ids(0x0101, 1), 1, [(net("10.0.0.7/32"), 1)]);
        assert!(outside.is_empty(), "still covered");
        assert!(outside.take_changed());
        outside.count_address([10, 0, 0, 7].into(), false);
        assert!(outside.take_changed());
        assert_eq!(outside.wholes(), nets(["100.64.0.0/16"]));
    }
}
