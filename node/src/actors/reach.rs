//! What the kernel routes to the TUN and what the routers are told, from the sessions that the table's thread goes through.

use std::net::{IpAddr, Ipv4Addr};

use holdfast_cluster::records::{PppRow, Prefix, SessionRow};
use ipnet::IpNet;

use super::directory::{Directory, SessionFacts, SessionIds};
use crate::anycast::{Networks, Outside, Slices};
use crate::dataplane::SessionRoute;
use crate::io::KernelRoutes;

/// Owned by the table's thread.
#[derive(Debug)]
pub struct Reach {
    outside: Outside,
    /// Addresses in use by slice, where the routers are told.
    slices: Option<Slices>,
    slices_changed: bool,
    /// Without a device nothing is routed to it.
    kernel: Option<KernelRoutes>,
}

impl Reach {
    /// For these pools, which the kernel has routes to. `announces`: routers are told.
    pub fn new(pools: Vec<IpNet>, kernel: Option<KernelRoutes>, announces: bool) -> Self {
        Self {
            slices: announces.then(|| Slices::new(pools.iter().copied())),
            outside: Outside::new(pools),
            slices_changed: false,
            kernel,
        }
    }

    /// Goes over to other pools, and through all sessions once more.
    pub(super) fn set_pools(&mut self, pools: Vec<IpNet>, directory: &Directory) {
        self.outside.set_pools(pools);
        self.slices = self.slices.take().map(|_| Slices::new(self.outside.wholes()));
        directory.for_each_session(|ids, SessionFacts { address, row, .. }| {
            self.move_address(ids, None, *address);
            self.put_networks(ids, row);
        });
        self.outside.forget_unused();
        self.slices_changed = true;
    }

    /// A session's row has changed, and with it perhaps its address.
    pub(super) fn put(
        &mut self,
        ids: SessionIds,
        before: Option<Ipv4Addr>,
        now: Option<Ipv4Addr>,
        row: &SessionRow,
    ) {
        if before != now {
            self.move_address(ids, before, now);
        }
        self.put_networks(ids, row);
    }

    /// A session is gone, and with it the address that it held.
    pub(super) fn remove(&mut self, ids: SessionIds, held: Option<Ipv4Addr>) {
        if held.is_some() {
            self.move_address(ids, held, None);
        }
        self.outside.remove(ids);
    }

    /// Tells the kernel what has changed, and gives what the owner of the groups for which `owned` holds is to announce, if
    /// that may have changed, or `anyway`.
    pub(super) fn tell(
        &mut self,
        directory: &Directory,
        anyway: bool,
        owned: impl Fn(u8) -> bool,
    ) -> Option<Networks> {
        let changed = self.outside.take_changed();
        if changed {
            directory.set_outside(self.outside.len());
            if let Some(kernel) = &self.kernel {
                let mut all = self.outside.wholes();
                all.extend(self.outside.networks());
                kernel.set(all);
            }
        }
        let moved = std::mem::take(&mut self.slices_changed);
        let slices = self.slices.as_ref().filter(|_| changed || anyway || moved)?;
        let mut ours = slices.announced(&owned);
        ours.extend(self.outside.owned(&owned));
        Some(Networks {
            wholes: self.outside.wholes(),
            slices: ours,
            outside: self.outside.networks(),
        })
    }

    fn move_address(&mut self, (tunnel, _): SessionIds, before: Option<Ipv4Addr>, now: Option<Ipv4Addr>) {
        for (address, comes) in [(before, false), (now, true)] {
            let Some(address) = address.map(IpAddr::V4) else {
                continue;
            };
            self.outside.count_address(address, comes);
            match &mut self.slices {
                Some(slices) if comes => slices.insert_used(address, tunnel.group()),
                Some(slices) => slices.remove_used(address, tunnel.group()),
                None => {}
            }
            self.slices_changed = true;
        }
    }

    fn put_networks(&mut self, ids: SessionIds, row: &SessionRow) {
        let Some(ppp) = row.ppp.as_ref().filter(|ppp| ppp.is_open()) else {
            return self.outside.remove(ids);
        };
        let own = ppp.addresses.iter().filter_map(net).map(|net| (net, 0));
        let routes = routes(ppp).map(|route| (route.net, route.metric));
        self.outside.put(ids, ppp.opened_ms, own.chain(routes));
    }
}

/// The networks behind a subscriber.
pub(super) fn routes(ppp: &PppRow) -> impl Iterator<Item = SessionRoute> + '_ {
    ppp.routes.iter().enumerate().filter_map(|(index, prefix)| {
        Some(SessionRoute {
            net: net(prefix)?,
            // A row of a program that knew no metrics has none.
            metric: ppp.route_metrics.get(index).copied().unwrap_or_default(),
            opened_ms: ppp.opened_ms,
        })
    })
}

fn net(prefix: &Prefix) -> Option<IpNet> {
    IpNet::new(prefix.ip()?, u8::try_from(prefix.length).ok()?).ok()
}
