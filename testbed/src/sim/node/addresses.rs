//! Which addresses the sessions of the table have and which those of this process are to get: the daemon's pools, used as its
//! session actors and its table's thread use them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use holdfast::aaa::{Claim, PickError, Pools, Seat};
use holdfast::actors::forwarding::address;
use holdfast::config::{AddressConflict, PoolConfig, PrefixPoolConfig};
use holdfast_cluster::liveness::isolation;
use holdfast_cluster::records::SessionRow;
use holdfast_cluster::{Effect, Table};
use holdfast_protocol::{SessionId, TunnelId};

use crate::sim::setup::Setup;

type Key = (TunnelId, SessionId);

/// Addresses of one session that the table may refuse before the session is cleared.
const REFUSED_MAX: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Addresses {
    pools: Pools,
    /// By sessions of this process whose rows do not say so yet.
    reserved: BTreeMap<Key, Ipv4Addr>,
    /// By the rows.
    held: BTreeMap<Key, Ipv4Addr>,
    /// How often in a row a session was refused.
    refused: BTreeMap<Key, u32>,
    /// The last log index that the table had applied when it was last followed.
    applied: u64,
}

impl Addresses {
    /// As a process begins that finds this table.
    pub(super) fn new(setup: &Setup, table: &Table, now: Duration) -> Self {
        let pool = PoolConfig {
            name: "pool".into(),
            prefixes: setup.pool.clone(),
            gateway: setup
                .pool
                .iter()
                .find_map(|prefix| prefix.hosts().next())
                .expect("a pool has a prefix"),
            drain: false,
            ipv6: PrefixPoolConfig::default(),
        };
        let mut this = Self {
            pools: Pools::new(&[pool], &[]),
            reserved: BTreeMap::new(),
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
            applied: 0,
        };
        this.pools
            .set_isolation_wait(isolation::wait(setup.isolation_limit));
        this.pools.seed(table, now);
        this.replace(now, table);
        this
    }

    /// An address for a session: that which is fixed for its user, or else the one that it has, or another one.
    pub(super) fn assign(
        &mut self,
        now: Duration,
        key: Key,
        user: &str,
        fixed: Option<Ipv4Addr>,
        seat: Seat<'_>,
    ) -> Result<Ipv4Addr, PickError> {
        let own = self.reserved.get(&key).or_else(|| self.held.get(&key)).copied();
        let own = own.filter(|address| self.pools.holder(*address) == Some(user));
        let address = match (fixed, own) {
            (Some(fixed), _) => {
                let claim = Claim {
                    user,
                    session: key,
                    conflict: AddressConflict::default(),
                };
                self.pools.reserve_fixed(now, fixed, claim)?;
                fixed
            }
            (None, Some(own)) => own,
            (None, None) => self.pools.reserve(now, None, user, seat)?,
        };
        if let Some(earlier) = self
            .reserved
            .insert(key, address)
            .filter(|earlier| *earlier != address)
        {
            self.pools.cancel(earlier);
        }
        Ok(address)
    }

    /// The table, which has applied `index`, has refused the address of a session.
    pub(super) fn on_refused(&mut self, now: Duration, index: u64, key: Key) {
        *self.refused.entry(key).or_default() += 1;
        if let Some(address) = self.reserved.remove(&key) {
            self.pools.refused(now, index, address);
        }
    }

    /// The table has accepted a row of a session.
    pub(super) fn on_accepted(&mut self, key: Key) {
        self.refused.remove(&key);
    }

    /// Whether the session is to be cleared, since no address does.
    pub(super) fn is_given_up(&self, key: Key) -> bool {
        self.refused.get(&key).is_some_and(|times| *times >= REFUSED_MAX)
    }

    /// The session is no longer this process's: what was reserved for it is free.
    pub(super) fn let_go(&mut self, key: Key) {
        self.refused.remove(&key);
        if let Some(address) = self.reserved.remove(&key) {
            self.pools.cancel(address);
        }
    }

    /// Follows one change of the table.
    pub(super) fn follow(&mut self, now: Duration, applied: u64, effect: &Effect) {
        self.applied = applied;
        match effect {
            Effect::SessionChanged {
                tunnel, session, row, ..
            } => self.put(now, (*tunnel, *session), row),
            Effect::SessionRemoved { tunnel, session, .. } => self.remove(now, (*tunnel, *session)),
            _ => {}
        }
    }

    /// Another table has taken the place of the one that was followed so far.
    pub(super) fn replace(&mut self, now: Duration, table: &Table) {
        self.applied = table.applied();
        let known: Vec<_> = self.held.keys().copied().collect();
        for (tunnel, session) in known {
            if table.session(tunnel, session).is_none() {
                self.remove(now, (tunnel, session));
            }
        }
        for (tunnel, found) in table.tunnels() {
            for (session, row) in found.sessions() {
                self.put(now, (tunnel, session), row);
            }
        }
    }

    fn put(&mut self, now: Duration, key: Key, row: &SessionRow) {
        let (before, after) = (self.held.get(&key).copied(), address(row));
        if after.is_some() && self.reserved.get(&key).copied() == after {
            self.reserved.remove(&key);
        }
        if before == after {
            return;
        }
        self.remove(now, key);
        if let Some(address) = after {
            let user = String::from_utf8_lossy(row.user().unwrap_or_default()).into_owned();
            self.pools.confirm(address, &user, key);
            self.held.insert(key, address);
        }
    }

    fn remove(&mut self, now: Duration, key: Key) {
        if let Some(address) = self.held.remove(&key) {
            self.pools.release(now, self.applied, address, key);
        }
    }
}
