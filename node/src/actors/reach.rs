//! What the kernel routes to the TUN and what the routers are told, from the sessions that the table's thread goes through.

use std::net::{IpAddr, Ipv4Addr};

use holdfast_cluster::records::{Prefix, SessionRow};
use holdfast_ppp::Ncp;
use ipnet::{IpNet, Ipv6Net};

use super::directory::{Directory, SessionFacts, SessionIds};
use super::forwarding::address;
use crate::aaa::prefixes::{Pair, of_row};
use crate::anycast::{Networks, Outside, Slices};
use crate::config::Config;
use crate::dataplane::SessionRoute;
use crate::io::KernelRoutes;
use crate::lns::rows;

/// What the pools hand out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolNetworks {
    all: Vec<IpNet>,
    /// Those of IPv6, with the length of the prefixes that subscribers get.
    units: Vec<(Ipv6Net, u8)>,
}

impl PoolNetworks {
    /// By the configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            all: config.networks(),
            units: config.prefix_units().collect(),
        }
    }
}

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
    pub fn new(pools: PoolNetworks, kernel: Option<KernelRoutes>, announces: bool) -> Self {
        let slices = || Slices::new(pools.all.iter().copied()).with_prefixes(pools.units.iter().copied());
        Self {
            slices: announces.then(slices),
            outside: Outside::new(pools.all),
            slices_changed: false,
            kernel,
        }
    }

    /// Goes over to other pools, and through all sessions once more.
    pub(super) fn set_pools(&mut self, pools: PoolNetworks, directory: &Directory) {
        self.outside.set_pools(pools.all);
        let slices = || Slices::new(self.outside.wholes()).with_prefixes(pools.units);
        self.slices = self.slices.take().map(|_| slices());
        directory.for_each_session(|ids, SessionFacts { address, row, .. }| {
            self.move_address(ids, None, *address);
            self.move_prefixes(ids, Pair::default(), of_row(row));
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
        let opened_ms = row.ppp.as_ref().map_or(0, |ppp| ppp.opened_ms);
        let address = address(row).filter(|_| rows::has_open(row, Ncp::Ipcp));
        let address = address.map(|address| (IpNet::from(IpAddr::V4(address)), 0));
        let routes = routes(row).into_iter().map(|route| (route.net, route.metric));
        self.outside
            .put(ids, opened_ms, address.into_iter().chain(routes));
    }

    /// A session has other IPv6 prefixes now.
    pub(super) fn move_prefixes(&mut self, (tunnel, _): SessionIds, before: Pair, now: Pair) {
        for (prefix, comes) in [(before, false), (now, true)]
            .into_iter()
            .flat_map(|(pair, comes)| pair.into_iter().flatten().map(move |prefix| (prefix, comes)))
        {
            self.outside.count_address(prefix.network().into(), comes);
            match &mut self.slices {
                Some(slices) if comes => slices.insert_prefix(prefix, tunnel.group()),
                Some(slices) => slices.remove_prefix(prefix, tunnel.group()),
                None => {}
            }
            self.slices_changed = true;
        }
    }
}

/// Networks of the subscriber but for the address: of each family while its protocol is open.
pub(super) fn routes(row: &SessionRow) -> Vec<SessionRoute> {
    let Some(ppp) = &row.ppp else {
        return Vec::new();
    };
    let (ipv4, ipv6) = (rows::has_open(row, Ncp::Ipcp), rows::has_open(row, Ncp::Ipv6cp));
    let framed = ppp.routes.iter().enumerate().filter_map(|(index, prefix)| {
        // A row of a program that knew no metrics has none.
        Some((
            net(prefix)?,
            ppp.route_metrics.get(index).copied().unwrap_or_default(),
        ))
    });
    let prefixes = of_row(row)
        .into_iter()
        .flatten()
        .map(|prefix| (IpNet::V6(prefix), 0));
    framed
        .chain(prefixes)
        .filter(|(net, _)| if net.addr().is_ipv4() { ipv4 } else { ipv6 })
        .map(|(net, metric)| SessionRoute {
            net,
            metric,
            opened_ms: ppp.opened_ms,
        })
        .collect()
}

fn net(prefix: &Prefix) -> Option<IpNet> {
    IpNet::new(prefix.ip()?, u8::try_from(prefix.length).ok()?).ok()
}
