//! Tells the BGP speaker what this node announces right now.
//!
//! BIRD is told by a routing table of the kernel's that nobody forwards by: a route in it is a wish to announce, its
//! metric says how eagerly. BIRD learns the table's changes by netlink as they happen (`learn` in the configuration
//! that [`bird`](super::bird) prints).
//!
//! The other way would be a file that BIRD includes and `configure` on BIRD's control socket. Measured with BIRD 2.0.12
//! and 256 slices, one veth to a router's BIRD: by the table all are routes of the router 14 ms after the first request, by
//! the file after 2 ms. A single slice takes 3 to 5 ms, and 2 ms. Both are quick enough, so other things decide:
//!
//! * The routes go through our TUN device, so they vanish with it: when the process dies (4 to 18 ms from kill -9 to
//!   the router) or its parent sets the link down (200 to 300 ms from SIGSTOP) nobody has to withdraw anything. A file
//!   would go on announcing a dead node's slices.
//! * A change costs one request, not a reading of the whole configuration, and no right to write BIRD's files. A mistake
//!   that somebody has left in these does not keep a slice from being withdrawn.
//! * BIRD may be restarted at any time and finds the table as it is.
//!
//! A node that is not ready keeps its addresses on the device and has no route in the table: so it can withdraw first
//! and serve on until the traffic has gone elsewhere, without loss.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;

use crate::io::TunLink;
use crate::io::netlink::{Netlink, Route};

/// `rtm_protocol` of our routes, by which BIRD tells them from others'; unassigned in the kernel and in iproute2.
pub const ROUTE_PROTOCOL: u8 = 171;
/// Metric of what is announced as usual.
pub const METRIC_READY: u32 = 100;
/// Metric of what another node announces as usual, and this one by a path that is a little longer.
pub const METRIC_FALLBACK: u32 = 150;
/// Metric of what is announced with a longer AS path.
pub const METRIC_LAST_RESORT: u32 = 200;

/// How much the node has to say to the routers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: it has not caught up with the table, or is about to stop.
    #[default]
    Withdrawn,
    /// Address and pool, by a longer AS path: it has no quorum, or no way to the LACs that others reach, and forwards for
    /// those who have nobody else.
    LastResort,
    /// Address, pool and slices.
    Ready,
}

/// What is to be announced: the whole, not a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Whether, and how eagerly.
    pub standing: Standing,
    /// The pools.
    pub wholes: BTreeSet<IpNet>,
    /// The slices of our groups, and what sessions of our groups have outside the pools; of no effect unless ready.
    pub slices: BTreeSet<IpNet>,
    /// What any session has outside the pools.
    pub outside: BTreeSet<IpNet>,
}

/// Whoever passes announcements to the routers.
pub trait Announcer: Send {
    /// Makes it so; to be called again with the same when it failed, and every now and then in any case.
    ///
    /// # Errors
    /// What could not be announced or withdrawn; the rest has been.
    fn announce(&mut self, wanted: &Announcement) -> Result<Changed, AnnounceError>;
}

/// What an [`Announcer::announce`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Routes added.
    pub added: usize,
    /// Routes removed.
    pub removed: usize,
}

/// Why something is not announced as it should be.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// A route was refused.
    #[error("{failed} of the routes by which BIRD is told what to announce: {to} in table {table}: {source}")]
    Route {
        /// The first of them.
        to: IpNet,
        /// The table.
        table: u32,
        /// How many.
        failed: usize,
        /// What the kernel said of the first.
        source: io::Error,
    },
}

/// BIRD, by way of a kernel table.
#[derive(Debug)]
pub struct BirdTable {
    netlink: Netlink,
    link: TunLink,
    table: u32,
    /// The anycast addresses.
    always: Vec<IpNet>,
    /// What the kernel has, with its metric.
    present: BTreeSet<(IpNet, u32)>,
    /// How often the link was restored, and at which count all of `present` was made: the kernel drops the routes of a
    /// link that is set down.
    restored: Arc<AtomicU64>,
    seen: u64,
}

impl BirdTable {
    /// For routes through `link` in `table`. `always` is what a ready node announces whatever else: the anycast
    /// addresses. `restored` is counted up whenever the link is set up again.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn open(link: TunLink, table: u32, always: Vec<IpNet>, restored: Arc<AtomicU64>) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            link,
            table,
            always,
            present: BTreeSet::new(),
            seen: restored.load(Ordering::Acquire),
            restored,
        })
    }

    fn route(&self, (to, metric): (IpNet, u32)) -> Route {
        Route {
            to,
            interface: self.link.index(),
            table: self.table,
            protocol: ROUTE_PROTOCOL,
            metric,
        }
    }

    /// Adds a route or removes it, and notes that it is so.
    fn apply(&mut self, key: (IpNet, u32), add: bool) -> io::Result<()> {
        let route = self.route(key);
        if add {
            self.present.remove(&key);
            self.netlink.add_route(&route)?;
            self.present.insert(key);
        } else {
            self.netlink.remove_route(&route)?;
            self.present.remove(&key);
        }
        Ok(())
    }
}

impl Announcer for BirdTable {
    fn announce(&mut self, wanted: &Announcement) -> Result<Changed, AnnounceError> {
        let restored = self.restored.load(Ordering::Acquire);
        let wanted = routes(&self.always, wanted);
        let (mut added, removed) = difference(&self.present, &wanted);
        if restored != self.seen {
            // Nobody knows which of them the kernel still has: all are made again, and what is not wanted is removed
            // even so, for it may have been made just after the link came up.
            self.seen = restored;
            added = wanted.into_iter().collect();
        }
        let mut changed = Changed::default();
        let mut failure: Option<(IpNet, io::Error)> = None;
        let mut failed = 0;
        // Additions first: a change of metric is never a gap.
        for (key, add) in added
            .into_iter()
            .map(|key| (key, true))
            .chain(removed.into_iter().map(|key| (key, false)))
        {
            match self.apply(key, add) {
                Ok(()) if add => changed.added += 1,
                Ok(()) => changed.removed += 1,
                Err(error) => {
                    failed += 1;
                    failure.get_or_insert((key.0, error));
                }
            }
        }
        match failure {
            None => Ok(changed),
            Some((to, source)) => Err(AnnounceError::Route {
                to,
                table: self.table,
                failed,
                source,
            }),
        }
    }
}

/// The routes that say so.
fn routes(always: &[IpNet], wanted: &Announcement) -> BTreeSet<(IpNet, u32)> {
    let metric = match wanted.standing {
        Standing::Withdrawn => return BTreeSet::new(),
        Standing::LastResort => METRIC_LAST_RESORT,
        Standing::Ready => METRIC_READY,
    };
    let ready = wanted.standing == Standing::Ready;
    let slices = wanted.slices.iter().filter(|_| ready);
    let fallback = if ready {
        METRIC_FALLBACK
    } else {
        METRIC_LAST_RESORT
    };
    let others = wanted
        .outside
        .iter()
        .filter(|net| !(ready && wanted.slices.contains(net)));
    always
        .iter()
        .chain(&wanted.wholes)
        .chain(slices)
        .map(|net| (net.trunc(), metric))
        .chain(others.map(|net| (net.trunc(), fallback)))
        .collect()
}

/// What is to be added and what to be removed.
fn difference<T: Ord + Copy>(present: &BTreeSet<T>, wanted: &BTreeSet<T>) -> (Vec<T>, Vec<T>) {
    (
        wanted.difference(present).copied().collect(),
        present.difference(wanted).copied().collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn each_standing_has_its_routes() {
        let (address, pool) = (net("192.0.2.1/32"), net("100.64.0.0/16"));
        let (ours, theirs) = (net("203.0.113.7/32"), net("198.51.100.0/28"));
        let of = |standing| {
            routes(
                &[address],
                &Announcement {
                    standing,
                    wholes: [pool].into(),
                    slices: [net("100.64.1.0/24"), ours].into(),
                    outside: [ours, theirs].into(),
                },
            )
        };
        assert!(of(Standing::Withdrawn).is_empty());
        assert_eq!(
            of(Standing::Ready),
            [
                (address, METRIC_READY),
                (pool, METRIC_READY),
                (net("100.64.1.0/24"), METRIC_READY),
                (ours, METRIC_READY),
                (theirs, METRIC_FALLBACK),
            ]
            .into()
        );
        // No slices without a quorum: whoever has one may own them by now.
        assert_eq!(
            of(Standing::LastResort),
            [address, pool, ours, theirs]
                .map(|net| (net, METRIC_LAST_RESORT))
                .into()
        );
    }

    #[test]
    fn a_change_of_standing_is_a_change_of_metric() {
        let (ready, last) = ([(1, METRIC_READY)].into(), [(1, METRIC_LAST_RESORT)].into());
        let (added, removed) = difference(&ready, &last);
        assert_eq!(added, [(1, METRIC_LAST_RESORT)]);
        assert_eq!(removed, [(1, METRIC_READY)]);
    }
}
