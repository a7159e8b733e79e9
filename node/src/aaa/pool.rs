//! Picks addresses for subscribers.
//!
//! A pick is a guess that the session table confirms or refuses (its `apply` checks that addresses are unique in the
//! cluster); here we only see to it that guesses rarely fail. Order: the user's last address, then one from the slices
//! of the session's group ([`crate::anycast::cut`]), then one from elsewhere; of each, one that nobody had yet, then the
//! one released longest ago (in `stock` and [`super::bins`]). So members seldom pick the same, and what an owner announces is whole slices.
//! A released address rests 30 s before another user gets it, for packets to the old one may still be on their way; the
//! same user may have it back at once. In a cluster it rests on until every node that still forwards has applied the release
//! ([`Seat::horizon`]), or cannot forward any more whoever it is (design invariant 7).
//!
//! ```text
//!            reserve              confirm            release
//!    free ------------> reserved ---------> in use ----------> resting --30 s--> free
//!     ^                    |
//!     +---- cancel --------+   (or after RESERVATION_LIFE, should its owner have vanished)
//!                          +---- refused ---------------------> resting
//! ```

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use holdfast_cluster::limits::{ADDRESS_REST_MS, TABLE_TIME_STEP_MS};
use holdfast_protocol::{SessionId, TunnelId};
use ipnet::Ipv4Net;

use self::stock::Stock;
use super::bins::Rest;
use crate::anycast::cut::Group;
use crate::api::PoolStatus;
use crate::config::{AddressConflict, PoolConfig, UserConfig, host_count, is_host};

mod seed;
mod stock;

/// How long a released address waits before another user gets it: 30 s, and a little longer than the table asks for, whose
/// clock runs in steps.
pub const REST: Duration = Duration::from_millis(ADDRESS_REST_MS + 2 * TABLE_TIME_STEP_MS);
/// How long a reservation lasts that is neither confirmed nor cancelled: longer than any setup may take.
pub const RESERVATION_LIFE: Duration = Duration::from_secs(11 * 60);

/// Of addresses that have rested and that nobody gets yet.
const WAITING: &str = ", or longer, until every member has applied their release or must have passed its isolation limit: start or \
                       remove the member that is down (\"holdfast cluster status\")";

/// A session by our own ids.
pub type SessionKey = (TunnelId, SessionId);

/// All pools of the node and who has which address. Every `now` is a time since one arbitrary fixed origin.
#[derive(Debug, Default)]
pub struct Pools {
    pools: Vec<Pool>,
    /// Our own addresses.
    gateways: BTreeSet<Ipv4Addr>,
    /// Addresses kept for users who always have the same one.
    fixed: HashMap<Ipv4Addr, String>,
    held: HashMap<Ipv4Addr, Holder>,
    /// Those of `held` that are only reserved, oldest first.
    reservations: BTreeSet<(Duration, Ipv4Addr)>,
    released: HashMap<Ipv4Addr, Released>,
    /// The address that each user released last, while it is still in `released`.
    last: HashMap<String, Ipv4Addr>,
    /// So long after it has rested anybody may have an address whoever has applied its release.
    wait: Duration,
}

#[derive(Debug)]
struct Pool {
    config: PoolConfig,
    /// What may be picked: neither held nor fixed nor a gateway.
    stock: Stock,
    /// Picks that found nothing.
    exhausted: u64,
    /// Prefixes that a reload has taken from it.
    former: Vec<Ipv4Net>,
}

/// A session that is to have the address which is fixed for its user.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Who.
    pub user: &'a str,
    /// Which session; if it has the address already, it keeps it.
    pub session: SessionKey,
    /// What becomes of another session that has it.
    pub conflict: AddressConflict,
}

/// For which session an address is picked.
#[derive(Clone, Copy)]
pub struct Seat<'a> {
    /// The group of its tunnel.
    pub group: Group,
    /// Which groups are this node's. Of their slices nobody else picks, or seldom.
    pub is_own: &'a dyn Fn(Group) -> bool,
    /// The last log entry that every node has applied which may still forward for those who were released by it, or before. `u64::MAX`
    /// in a node alone.
    pub horizon: u64,
}

impl fmt::Debug for Seat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("group", &self.group)
            .field("horizon", &self.horizon)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Holder {
    user: String,
    hold: Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Not in use yet.
    Reserved {
        /// Since when.
        since: Duration,
        /// How it rests, should nothing come of it: its last user may have it back sooner than others.
        rest: Rest,
    },
    /// By which session, so that the end of a replaced one does not free what its successor has.
    InUse(SessionKey),
}

#[derive(Debug)]
struct Released {
    rest: Rest,
    user: String,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// Every address is taken or rests.
    #[error(
        "the pool \"{pool}\" has no free address: all of its {size} are in use or rest for 30 s after use{}; \
         give it another prefix and reload",
        if *waiting { WAITING } else { "" }
    )]
    Exhausted {
        /// Name of the pool.
        pool: String,
        /// Addresses that subscribers may have.
        size: u64,
        /// Some have rested, but a member may still forward for their last users.
        waiting: bool,
    },
    /// Nobody gets a new address from it.
    #[error("the pool \"{0}\" is being drained (drain = true)")]
    Draining(String),
    /// A reload has removed it.
    #[error("there is no pool \"{0}\"")]
    NoPool(String),
    /// The fixed address is in a session that the policy does not replace.
    #[error("the address {address} is in use by \"{user}\"")]
    Taken {
        /// The address.
        address: Ipv4Addr,
        /// Who has it.
        user: String,
    },
}

impl Pools {
    /// Empty pools. Then hand in the session table by [`Pools::seed`].
    pub fn new(pools: &[PoolConfig], users: &[UserConfig]) -> Self {
        let mut this = Self::default();
        this.configure(pools, users);
        this
    }

    /// Goes over to another configuration. Nobody loses an address, even one that lies in no pool any more.
    pub fn configure(&mut self, pools: &[PoolConfig], users: &[UserConfig]) {
        let pools: Vec<_> = pools.iter().filter(|pool| !pool.prefixes.is_empty()).collect();
        self.gateways = pools.iter().map(|pool| pool.gateway).collect();
        let fixed = |user: &UserConfig| user.address.map(|address| (address, user.name.clone()));
        self.fixed = users.iter().filter_map(fixed).collect();
        let old = std::mem::take(&mut self.pools);
        let earlier = |name: &str| old.iter().find(|pool| pool.config.name == name);
        let pool = |config: &&PoolConfig| Pool {
            config: (*config).clone(),
            stock: self.stock(config),
            exhausted: earlier(&config.name).map_or(0, |pool| pool.exhausted),
            former: earlier(&config.name).map_or_else(Vec::new, Pool::all_prefixes),
        };
        self.pools = pools.iter().map(pool).collect();
    }

    /// What may be picked from a pool as things are.
    fn stock(&self, config: &PoolConfig) -> Stock {
        let mut stock = Stock::new(&config.prefixes);
        let kept = self.gateways.iter().chain(self.fixed.keys());
        for address in kept.chain(self.held.keys()).chain(self.released.keys()) {
            stock.take(*address);
        }
        for (address, released) in &self.released {
            if self.is_for_anybody(*address) {
                stock.put(released.rest, *address);
            }
        }
        stock
    }

    /// How long after a release every node has applied it or forwards no more; in a cluster.
    pub fn set_isolation_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// An address that is in use by a row of the session table.
    pub fn restore(&mut self, address: Ipv4Addr, user: &str, session: SessionKey) {
        self.hold(
            address,
            Holder {
                user: user.to_owned(),
                hold: Hold::InUse(session),
            },
        );
    }

    /// An address that the session table remembers as released, at log index `index` at the latest: from `free_at` on anybody may have
    /// it, until then only `user`.
    pub fn restore_released(&mut self, address: Ipv4Addr, user: &str, free_at: Duration, index: u64) {
        if let Entry::Vacant(vacant) = self.held.entry(address) {
            let user = user.to_owned();
            let rest = Rest { free_at, index };
            let hold = Hold::Reserved {
                since: Duration::ZERO,
                rest,
            };
            vacant.insert(Holder { user, hold });
            self.free(address, rest);
        }
    }

    /// Picks an address from the pool of this name, or from the first, and keeps it apart until `confirm` or
    /// `cancel`.
    pub fn reserve(
        &mut self,
        now: Duration,
        pool: Option<&str>,
        user: &str,
        seat: Seat<'_>,
    ) -> Result<Ipv4Addr, PickError> {
        self.expire_reservations(now);
        let position = self.position(pool)?;
        let picked = self
            .pick_last(position, user)
            .or_else(|| self.pools[position].stock.pick(now, self.wait, seat));
        let Some(address) = picked else {
            self.pools[position].exhausted += 1;
            let waiting = self.pools[position].stock.has_rested(now);
            let config = &self.pools[position].config;
            return Err(PickError::Exhausted {
                pool: config.name.clone(),
                size: self.size(config),
                waiting,
            });
        };
        self.keep_apart(now, address, user);
        Ok(address)
    }

    /// The pool of this name, or the first that is not being drained.
    fn position(&self, name: Option<&str>) -> Result<usize, PickError> {
        let Some(name) = name else {
            let first = self.pools.iter().position(|pool| !pool.config.drain);
            let all = || {
                PickError::Draining(
                    self.pools
                        .first()
                        .map_or_else(String::new, |pool| pool.config.name.clone()),
                )
            };
            return first.ok_or_else(all);
        };
        match self.pools.iter().position(|pool| pool.config.name == name) {
            None => Err(PickError::NoPool(name.to_owned())),
            Some(position) if self.pools[position].config.drain => Err(PickError::Draining(name.to_owned())),
            Some(position) => Ok(position),
        }
    }

    /// Keeps a user's fixed address apart. A session that the policy replaces is no obstacle.
    pub fn reserve_fixed(
        &mut self,
        now: Duration,
        address: Ipv4Addr,
        claim: Claim<'_>,
    ) -> Result<(), PickError> {
        self.expire_reservations(now);
        match self.held.get(&address) {
            Some(holder) if !holder.gives_way_to(claim) => Err(PickError::Taken {
                address,
                user: holder.user.clone(),
            }),
            // In use stays in use: should the redial fail, the stale session still has it.
            Some(_) => Ok(()),
            None => {
                self.keep_apart(now, address, claim.user);
                Ok(())
            }
        }
    }

    /// The session table accepted the session with this address.
    pub fn confirm(&mut self, address: Ipv4Addr, user: &str, session: SessionKey) {
        self.restore(address, user, session);
    }

    /// The proposal came to nothing and the subscriber never had the address: it is free at once. In use, it stays.
    pub fn cancel(&mut self, address: Ipv4Addr) {
        if let Some(Holder {
            hold: Hold::Reserved { rest, .. },
            ..
        }) = self.held.get(&address)
        {
            self.free(address, *rest);
        }
    }

    /// The session table, which has applied `index`, knows better: it is in use, or rests. Nobody gets it before it could have rested.
    pub fn refused(&mut self, now: Duration, index: u64, address: Ipv4Addr) {
        if let Some(Holder {
            hold: Hold::Reserved { .. },
            user,
        }) = self.held.get(&address)
        {
            let user = user.clone();
            let free_at = now + REST;
            self.free(address, Rest { free_at, index });
            self.last.remove(&user);
        }
    }

    /// The session with this address is gone from the session table, which has applied `index`. Nothing happens if another has taken
    /// it over.
    pub fn release(&mut self, now: Duration, index: u64, address: Ipv4Addr, session: SessionKey) {
        if self
            .held
            .get(&address)
            .is_some_and(|holder| holder.hold == Hold::InUse(session))
        {
            let free_at = now + REST;
            self.free(address, Rest { free_at, index });
        }
    }

    /// Takes an address that is in use for free: a mistake, to show what the session table makes of it.
    pub fn forget(&mut self, address: Ipv4Addr) {
        self.free(address, Rest::default());
    }

    /// Who has an address, whether reserved or in use.
    pub fn holder(&self, address: Ipv4Addr) -> Option<&str> {
        self.held.get(&address).map(|holder| holder.user.as_str())
    }

    /// For `holdfast status`.
    pub fn status(&self, now: Duration) -> Vec<PoolStatus> {
        self.pools
            .iter()
            .map(|pool| self.pool_status(pool, now))
            .collect()
    }

    fn pick_last(&self, position: usize, user: &str) -> Option<Ipv4Addr> {
        let address = *self.last.get(user)?;
        let pool = &self.pools[position];
        let free = !self.held.contains_key(&address) && self.is_for_anybody(address);
        (contains(&pool.config, address) && free).then_some(address)
    }

    /// Whether the address is neither one of ours nor fixed.
    fn is_for_anybody(&self, address: Ipv4Addr) -> bool {
        !self.fixed.contains_key(&address) && !self.gateways.contains(&address)
    }

    fn keep_apart(&mut self, now: Duration, address: Ipv4Addr, user: &str) {
        let released = self.released.get(&address);
        let rest = released.map_or_else(Rest::default, |released| released.rest);
        self.hold(
            address,
            Holder {
                user: user.to_owned(),
                hold: Hold::Reserved { since: now, rest },
            },
        );
        self.reservations.insert((now, address));
    }

    /// Gives an address to a holder, whoever had it before.
    fn hold(&mut self, address: Ipv4Addr, holder: Holder) {
        let released = self.released.remove(&address);
        if let Some(pool) = self.pool_of(address) {
            match &released {
                Some(released) => pool.stock.take_back(released.rest, address),
                None => pool.stock.take(address),
            }
        }
        if let Some(Released { user, .. }) = released
            && self.last.get(&user) == Some(&address)
        {
            self.last.remove(&user);
        }
        if let Some(Holder {
            hold: Hold::Reserved { since, .. },
            ..
        }) = self.held.insert(address, holder)
        {
            self.reservations.remove(&(since, address));
        }
    }

    /// Takes an address from its holder.
    fn free(&mut self, address: Ipv4Addr, rest: Rest) {
        let Some(Holder { user, hold }) = self.held.remove(&address) else {
            return;
        };
        if let Hold::Reserved { since, .. } = hold {
            self.reservations.remove(&(since, address));
        }
        self.last.insert(user.clone(), address);
        self.released.insert(address, Released { rest, user });
        let anybody = self.is_for_anybody(address);
        if let Some(pool) = self.pool_of(address).filter(|_| anybody) {
            pool.stock.put(rest, address);
        }
    }

    fn pool_of(&mut self, address: Ipv4Addr) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| contains(&pool.config, address))
    }

    fn expire_reservations(&mut self, now: Duration) {
        while let Some((since, address)) = self.reservations.first().copied() {
            if now.saturating_sub(since) < RESERVATION_LIFE {
                return;
            }
            self.reservations.pop_first();
            self.cancel(address);
        }
    }

    fn size(&self, pool: &PoolConfig) -> u64 {
        let hosts: u64 = pool.prefixes.iter().map(|prefix| host_count(*prefix)).sum();
        hosts
            - self
                .gateways
                .iter()
                .filter(|gateway| contains(pool, **gateway))
                .count() as u64
    }

    /// Addresses in use that lie in no pool: fixed for their users, or of a prefix that was removed.
    pub fn outside(&self) -> u64 {
        self.held
            .keys()
            .filter(|address| self.is_outside(**address))
            .count() as u64
    }

    /// Those in use of prefixes that were taken from the pool.
    fn leaving(&self, pool: &Pool) -> u64 {
        if pool.former.is_empty() {
            return 0;
        }
        let former = |address: &Ipv4Addr| pool.former.iter().any(|prefix| is_host(*prefix, *address));
        let leaving = |address: &&Ipv4Addr| former(address) && self.is_outside(**address);
        self.held.keys().filter(leaving).count() as u64
    }

    fn is_outside(&self, address: Ipv4Addr) -> bool {
        !self.pools.iter().any(|pool| contains(&pool.config, address))
    }

    fn pool_status(&self, pool: &Pool, now: Duration) -> PoolStatus {
        let within = |address: &&Ipv4Addr| contains(&pool.config, **address);
        PoolStatus {
            name: pool.config.name.clone(),
            prefixes: pool.config.prefixes.iter().map(Ipv4Net::to_string).collect(),
            gateway: pool.config.gateway.to_string(),
            size: self.size(&pool.config),
            in_use: self.held.keys().filter(within).count() as u64,
            leaving: self.leaving(pool),
            draining: pool.config.drain,
            resting: self
                .released
                .iter()
                .filter(|(address, released)| released.rest.free_at > now && within(address))
                .count() as u64,
            fixed: self.fixed.keys().filter(within).count() as u64,
            exhausted: pool.exhausted,
        }
    }
}

impl Pool {
    /// What it hands out, and what it did earlier.
    fn all_prefixes(&self) -> Vec<Ipv4Net> {
        let mut all = self.former.clone();
        all.extend(&self.config.prefixes);
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Holder {
    fn gives_way_to(&self, claim: Claim<'_>) -> bool {
        let same_user = self.user == claim.user;
        match (claim.conflict, self.hold) {
            (AddressConflict::Replace, _) => true,
            (AddressConflict::Refuse, Hold::InUse(session)) => same_user && session == claim.session,
            // The session table decides between two that are being set up.
            (AddressConflict::ReplaceSameUser, _) | (AddressConflict::Refuse, Hold::Reserved { .. }) => {
                same_user
            }
        }
    }
}

/// Whether the address is one that the pool hands out.
fn contains(pool: &PoolConfig, address: Ipv4Addr) -> bool {
    pool.prefixes.iter().any(|prefix| is_host(*prefix, address))
}

#[cfg(test)]
mod tests;
