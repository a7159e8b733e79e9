//! Keeps routes to the TUN in the kernel's main table: for what subscribers have outside the pools, and for prefixes that a pool
//! was given after the start. Those of the start are the device's own ([`super::tun`]).
//!
//! A thread of its own, for a request waits for the kernel. A route that is not ours is never replaced, however much a RADIUS
//! server may want the network: it is said, and tried again. All of them vanish with the device.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;

use super::TunLink;
use super::netlink::{Netlink, Route};

/// A restored link is noticed after this long.
const LOOK: Duration = Duration::from_millis(50);
/// Looks between two attempts at what failed.
const RETRY_LOOKS: u32 = 100;
/// `RT_TABLE_MAIN`.
const MAIN: u32 = 254;
/// As in the table that BIRD reads.
const PROTOCOL: u8 = crate::anycast::announcer::ROUTE_PROTOCOL;

/// See the module. Dropped, it ends and leaves the routes, which go with the device.
#[derive(Debug)]
pub struct KernelRoutes {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Desk {
    wish: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wish {
    networks: BTreeSet<IpNet>,
    revision: u64,
    over: bool,
}

impl Desk {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KernelRoutes {
    /// Of the device, which has the routes `present` already. `restored` counts up whenever its link was set up again.
    ///
    /// # Errors
    /// No netlink socket, or no thread.
    pub fn start(link: &TunLink, present: BTreeSet<IpNet>, restored: Arc<AtomicU64>) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        desk.wish().networks.clone_from(&present);
        let mut keeper = Keeper {
            netlink: Netlink::open()?,
            interface: link.index(),
            device: present.clone(),
            present,
            failed: BTreeSet::new(),
        };
        let at_desk = desk.clone();
        let thread = std::thread::Builder::new()
            .name("routes".into())
            .spawn(move || serve(&at_desk, &mut keeper, &restored))?;
        Ok(Self {
            desk,
            thread: Some(thread),
        })
    }

    /// All that is to be routed to the device, the whole and not a change.
    pub fn set(&self, networks: BTreeSet<IpNet>) {
        let mut wish = self.desk.wish();
        if wish.networks != networks {
            wish.networks = networks;
            wish.revision += 1;
            self.desk.changed.notify_all();
        }
    }
}

impl Drop for KernelRoutes {
    fn drop(&mut self) {
        self.desk.wish().over = true;
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(desk: &Desk, keeper: &mut Keeper, restored: &AtomicU64) {
    let mut seen = restored.load(Ordering::Acquire);
    let (mut done, mut looks) = (0, 0);
    let mut wish = desk.wish();
    while !wish.over {
        let now_restored = restored.load(Ordering::Acquire);
        let again = now_restored != seen;
        let retry = !keeper.failed.is_empty() && looks >= RETRY_LOOKS;
        if wish.revision != done || again || retry {
            (seen, done, looks) = (now_restored, wish.revision, 0);
            let networks = wish.networks.clone();
            drop(wish);
            keeper.make(&networks, again);
            wish = desk.wish();
            continue;
        }
        looks += 1;
        wish = desk
            .changed
            .wait_timeout(wish, LOOK)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

struct Keeper {
    netlink: Netlink,
    interface: u32,
    /// What comes back with the device's link.
    device: BTreeSet<IpNet>,
    present: BTreeSet<IpNet>,
    /// Said to be missing.
    failed: BTreeSet<IpNet>,
}

impl Keeper {
    /// Makes it so. `again`: the link was down meanwhile and the kernel has dropped what it had.
    fn make(&mut self, wanted: &BTreeSet<IpNet>, again: bool) {
        if again {
            self.present.clone_from(&self.device);
        }
        for net in wanted.difference(&self.present).copied().collect::<Vec<_>>() {
            self.add(net);
        }
        let unwanted = |net: &IpNet| !wanted.contains(net);
        self.failed.retain(|net| wanted.contains(net));
        for net in self.present.iter().copied().filter(unwanted).collect::<Vec<_>>() {
            match self.netlink.remove_route(&self.route(net)) {
                Ok(()) => {
                    self.present.remove(&net);
                }
                Err(error) => tracing::warn!(%net, "a route to the TUN could not be removed: {error}"),
            }
        }
    }

    fn add(&mut self, net: IpNet) {
        match self.netlink.add_new_route(&self.route(net)) {
            Ok(()) => {
                self.present.insert(net);
                if self.failed.remove(&net) {
                    tracing::info!(%net, "routed to the TUN now");
                }
            }
            Err(error) => {
                if self.failed.insert(net) {
                    let hint = match error.raw_os_error() {
                        Some(libc::EEXIST) => "; the host has another one, which stays",
                        _ => "",
                    };
                    tracing::error!(%net, "a subscriber's network cannot be routed to the TUN: {error}{hint}");
                }
            }
        }
    }

    /// Metric 0 is before any other; a removal with it takes whichever there is to the device.
    fn route(&self, to: IpNet) -> Route {
        Route {
            to,
            interface: self.interface,
            table: MAIN,
            protocol: PROTOCOL,
            metric: 0,
        }
    }
}
