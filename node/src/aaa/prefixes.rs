//! Picks IPv6 prefixes for subscribers: one for the link (a /64) and one to delegate (RFC 8415 §6.3).
//!
//! As with addresses ([`super::pool`]) a pick is a guess that the session table confirms or refuses, it comes from the slices of the
//! session's group first, a released prefix rests before another user gets it, and the same user gets his own back. What is kept
//! here is keyed by session, so that whoever ends a session need not know what was reserved for it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ipnet::Ipv6Net;

use self::stock::Stock;
use super::bins::Rest;
use super::pool::{RESERVATION_LIFE, REST, Seat, SessionKey};
use super::profile::PrefixAssignment;
use crate::api::PrefixPoolStatus;
use crate::config::{LINK_LENGTH, PoolConfig, UserConfig};

mod seed;
mod stock;

pub use seed::of_row;

/// What a prefix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// The link itself.
    Link,
    /// The networks behind the subscriber.
    Delegated,
}

/// The prefixes of a session: for the link, delegated.
pub type Pair = [Option<Ipv6Net>; 2];

/// All prefixes of the node's pools, and who has which.
#[derive(Debug, Default)]
pub struct Prefixes {
    shelves: Vec<Shelf>,
    /// Kept for users who always have the same ones.
    fixed: HashMap<Ipv6Net, String>,
    held: HashMap<Ipv6Net, Holder>,
    of_session: HashMap<SessionKey, Pair>,
    /// Those of `held` that are only reserved, oldest first.
    reservations: BTreeSet<(Duration, Ipv6Net)>,
    released: HashMap<Ipv6Net, Released>,
    /// What each user released last.
    last: HashMap<(Use, String), Ipv6Net>,
    /// So long after it has rested anybody may have a prefix whoever has applied its release.
    wait: Duration,
}

/// The prefixes of one pool for one use.
#[derive(Debug)]
struct Shelf {
    pool: String,
    purpose: Use,
    prefixes: Vec<Ipv6Net>,
    /// Length of what is given out.
    length: u8,
    stock: Stock,
    /// Picks that found nothing.
    exhausted: u64,
}

#[derive(Debug)]
struct Holder {
    user: String,
    session: SessionKey,
    purpose: Use,
    /// Since when, and how it rests should nothing come of it; `None` once it is in use.
    reserved: Option<(Duration, Rest)>,
}

#[derive(Debug)]
struct Released {
    rest: Rest,
    user: String,
}

/// Why there is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Every one is taken or rests.
    #[error("the pool \"{pool}\" has no free prefix of length {length}: give it another and reload")]
    Exhausted {
        /// Name of the pool.
        pool: String,
        /// Of the prefixes that it gives out.
        length: u8,
    },
    /// The pool that was named has none for this use, or there is no such pool.
    #[error("there is no pool \"{0}\" with such prefixes")]
    NoPool(String),
    /// The fixed prefix, or a part of it, is somebody else's.
    #[error("the prefix {prefix} is in use by \"{user}\"")]
    Taken {
        /// The prefix.
        prefix: Ipv6Net,
        /// Who has it.
        user: String,
    },
}

impl Prefixes {
    /// Nobody has any. Then hand in the session table by [`Self::seed`].
    pub fn new(pools: &[PoolConfig], users: &[UserConfig]) -> Self {
        let mut this = Self::default();
        this.configure(pools, users);
        this
    }

    /// Goes over to another configuration. Nobody loses a prefix.
    pub fn configure(&mut self, pools: &[PoolConfig], users: &[UserConfig]) {
        let fixed = |user: &UserConfig| {
            let prefixes = [user.ipv6.link_prefix, user.ipv6.delegated_prefix];
            let name = user.name.clone();
            prefixes
                .into_iter()
                .flatten()
                .map(move |prefix| (prefix, name.clone()))
        };
        self.fixed = users.iter().flat_map(fixed).collect();
        let old = std::mem::take(&mut self.shelves);
        for pool in pools {
            for (purpose, prefixes, length) in [
                (Use::Link, &pool.ipv6.link, LINK_LENGTH),
                (Use::Delegated, &pool.ipv6.delegated, pool.ipv6.delegated_length),
            ] {
                if prefixes.is_empty() {
                    continue;
                }
                let before = old
                    .iter()
                    .find(|shelf| shelf.pool == pool.name && shelf.purpose == purpose);
                self.shelves.push(Shelf {
                    pool: pool.name.clone(),
                    purpose,
                    prefixes: prefixes.clone(),
                    length,
                    stock: self.stock(prefixes, length),
                    exhausted: before.map_or(0, |shelf| shelf.exhausted),
                });
            }
        }
    }

    /// What may be picked as things are.
    fn stock(&self, prefixes: &[Ipv6Net], length: u8) -> Stock {
        let mut stock = Stock::new(prefixes, length);
        let kept = self.fixed.keys().chain(self.held.keys());
        kept.chain(self.released.keys())
            .for_each(|prefix| stock.take(*prefix));
        for (prefix, released) in &self.released {
            if !self.fixed.contains_key(prefix) {
                stock.put(released.rest, *prefix);
            }
        }
        stock
    }

    /// How long after a release every node has applied it or forwards no more; in a cluster.
    pub fn set_isolation_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// A prefix for a session: the one that it has already, if it is still right, else another, which is kept apart until the table
    /// says that it is in use or [`Self::abandon`]. `None` where nothing is asked for by name and no pool has any.
    pub fn assign(
        &mut self,
        now: Duration,
        session: SessionKey,
        user: &str,
        purpose: Use,
        assignment: &PrefixAssignment,
        seat: Seat<'_>,
    ) -> Result<Option<Ipv6Net>, PrefixError> {
        self.expire_reservations(now);
        let pool = match assignment {
            PrefixAssignment::Fixed(prefix) => {
                return self.reserve_fixed(now, session, user, purpose, *prefix).map(Some);
            }
            PrefixAssignment::Pool(pool) => pool.as_deref(),
        };
        let fits = |shelf: &Shelf| shelf.purpose == purpose && pool.is_none_or(|name| shelf.pool == name);
        let Some(at) = self.shelves.iter().position(fits) else {
            return pool.map_or(Ok(None), |name| Err(PrefixError::NoPool(name.to_owned())));
        };
        if let Some(own) = self.own(session, user, purpose) {
            return Ok(Some(own));
        }
        let picked = self
            .pick_last(at, purpose, user)
            .or_else(|| self.shelves[at].stock.pick(now, self.wait, seat));
        let Some(prefix) = picked else {
            let shelf = &mut self.shelves[at];
            shelf.exhausted += 1;
            return Err(PrefixError::Exhausted {
                pool: shelf.pool.clone(),
                length: shelf.length,
            });
        };
        self.keep_apart(now, session, user, purpose, prefix);
        Ok(Some(prefix))
    }

    /// What the session has, unless it is fixed for somebody.
    fn own(&self, session: SessionKey, user: &str, purpose: Use) -> Option<Ipv6Net> {
        let prefix = self.of_session.get(&session)?[purpose as usize]?;
        let own = self.held.get(&prefix).is_some_and(|holder| holder.user == user);
        (own && !self.fixed.contains_key(&prefix)).then_some(prefix)
    }

    /// A user's own stale session is no obstacle: the redial replaces it.
    fn reserve_fixed(
        &mut self,
        now: Duration,
        session: SessionKey,
        user: &str,
        purpose: Use,
        prefix: Ipv6Net,
    ) -> Result<Ipv6Net, PrefixError> {
        match self.held.get(&prefix) {
            Some(holder) if holder.user != user => Err(PrefixError::Taken {
                prefix,
                user: holder.user.clone(),
            }),
            // In use stays in use: should the redial fail, the stale session still has it.
            Some(_) => Ok(prefix),
            None => {
                self.keep_apart(now, session, user, purpose, prefix);
                Ok(prefix)
            }
        }
    }

    /// The session that uses a prefix.
    pub fn user_of(&self, prefix: Ipv6Net) -> Option<SessionKey> {
        let holder = self.held.get(&prefix)?;
        holder.reserved.is_none().then_some(holder.session)
    }

    /// The table, which has applied `index`, says what a session has from now on instead of what it had.
    pub fn settle(
        &mut self,
        now: Duration,
        index: u64,
        session: SessionKey,
        user: &str,
        had: Pair,
        has: Pair,
    ) {
        let gone = had
            .into_iter()
            .flatten()
            .filter(|prefix| !has.contains(&Some(*prefix)));
        for prefix in gone.collect::<Vec<_>>() {
            let ours = |holder: &Holder| holder.session == session && holder.reserved.is_none();
            if self.held.get(&prefix).is_some_and(ours) {
                let free_at = now + REST;
                self.free(prefix, Rest { free_at, index });
            }
        }
        for (purpose, prefix) in [Use::Link, Use::Delegated].into_iter().zip(has) {
            if let Some(prefix) = prefix {
                let holder = Holder {
                    user: user.to_owned(),
                    session,
                    purpose,
                    reserved: None,
                };
                self.hold(prefix, holder);
            }
        }
    }

    /// Nothing came of the session: what was reserved for it is free at once.
    pub fn abandon(&mut self, session: SessionKey) {
        for (prefix, rest) in self.reserved_for(session) {
            self.free(prefix, rest);
        }
    }

    /// The table, which has applied `index`, refused what the session asked for: nobody gets it before it could have rested.
    pub fn refused(&mut self, now: Duration, index: u64, session: SessionKey) {
        for (prefix, _) in self.reserved_for(session) {
            let user = self.held.get(&prefix).map(|holder| holder.user.clone());
            let free_at = now + REST;
            self.free(prefix, Rest { free_at, index });
            self.forget_last(&user.unwrap_or_default(), prefix);
        }
    }

    fn reserved_for(&self, session: SessionKey) -> Vec<(Ipv6Net, Rest)> {
        let pair = self.of_session.get(&session).copied().unwrap_or_default();
        let reserved = |prefix: Ipv6Net| Some((prefix, self.held.get(&prefix)?.reserved?.1));
        pair.into_iter().flatten().filter_map(reserved).collect()
    }

    /// For `holdfast status`.
    pub fn status(&self, now: Duration) -> Vec<PrefixPoolStatus> {
        let status = |shelf: &Shelf| {
            let within = |prefix: &&Ipv6Net| shelf.gives_out(**prefix);
            let resting = |(_, released): &(&Ipv6Net, &Released)| released.rest.free_at > now;
            PrefixPoolStatus {
                pool: shelf.pool.clone(),
                delegated: shelf.purpose == Use::Delegated,
                prefixes: shelf.prefixes.iter().map(Ipv6Net::to_string).collect(),
                length: shelf.length,
                size: shelf.size(),
                in_use: self.held.keys().filter(within).count() as u64,
                resting: self
                    .released
                    .iter()
                    .filter(resting)
                    .filter(|(prefix, _)| within(prefix))
                    .count() as u64,
                exhausted: shelf.exhausted,
            }
        };
        self.shelves.iter().map(status).collect()
    }

    fn pick_last(&self, at: usize, purpose: Use, user: &str) -> Option<Ipv6Net> {
        let prefix = *self.last.get(&(purpose, user.to_owned()))?;
        let free = !self.held.contains_key(&prefix) && !self.fixed.contains_key(&prefix);
        (free && self.shelves[at].gives_out(prefix)).then_some(prefix)
    }

    fn keep_apart(&mut self, now: Duration, session: SessionKey, user: &str, purpose: Use, prefix: Ipv6Net) {
        let rest = self
            .released
            .get(&prefix)
            .map_or_else(Rest::default, |released| released.rest);
        let earlier = self
            .of_session
            .get(&session)
            .and_then(|pair| pair[purpose as usize]);
        if let Some(earlier) = earlier.filter(|earlier| *earlier != prefix)
            && let Some((_, rest)) = self.held.get(&earlier).and_then(|holder| holder.reserved)
        {
            self.free(earlier, rest);
        }
        let holder = Holder {
            user: user.to_owned(),
            session,
            purpose,
            reserved: Some((now, rest)),
        };
        self.hold(prefix, holder);
        self.reservations.insert((now, prefix));
    }

    /// Gives a prefix to a holder, whoever had it before.
    fn hold(&mut self, prefix: Ipv6Net, holder: Holder) {
        let released = self.released.remove(&prefix);
        if let Some(shelf) = self.shelf_of(prefix) {
            match &released {
                Some(released) => shelf.stock.take_back(released.rest, prefix),
                None => shelf.stock.take(prefix),
            }
        }
        if let Some(Released { user, .. }) = released {
            self.forget_last(&user, prefix);
        }
        let (session, purpose) = (holder.session, holder.purpose);
        self.of_session.entry(session).or_default()[purpose as usize] = Some(prefix);
        let Some(before) = self.held.insert(prefix, holder) else {
            return;
        };
        if let Some((since, _)) = before.reserved {
            self.reservations.remove(&(since, prefix));
        }
        if (before.session, before.purpose) != (session, purpose) {
            self.forget(&before, prefix);
        }
    }

    /// Takes a prefix from its holder.
    fn free(&mut self, prefix: Ipv6Net, rest: Rest) {
        let Some(holder) = self.held.remove(&prefix) else {
            return;
        };
        if let Some((since, _)) = holder.reserved {
            self.reservations.remove(&(since, prefix));
        }
        self.forget(&holder, prefix);
        let Holder { user, purpose, .. } = holder;
        let fixed = self.fixed.contains_key(&prefix);
        if let Some(shelf) = self.shelf_of(prefix).filter(|_| !fixed) {
            shelf.stock.put(rest, prefix);
            self.last.insert((purpose, user.clone()), prefix);
            self.released.insert(prefix, Released { rest, user });
        }
    }

    /// The session of this holder has the prefix no longer.
    fn forget(&mut self, holder: &Holder, prefix: Ipv6Net) {
        let Some(pair) = self.of_session.get_mut(&holder.session) else {
            return;
        };
        let has = &mut pair[holder.purpose as usize];
        if *has == Some(prefix) {
            *has = None;
        }
        if *pair == Pair::default() {
            self.of_session.remove(&holder.session);
        }
    }

    /// The user does not get this one back first.
    fn forget_last(&mut self, user: &str, prefix: Ipv6Net) {
        for purpose in [Use::Link, Use::Delegated] {
            let key = (purpose, user.to_owned());
            if self.last.get(&key) == Some(&prefix) {
                self.last.remove(&key);
            }
        }
    }

    fn shelf_of(&mut self, prefix: Ipv6Net) -> Option<&mut Shelf> {
        self.shelves.iter_mut().find(|shelf| shelf.gives_out(prefix))
    }

    fn expire_reservations(&mut self, now: Duration) {
        while let Some((since, prefix)) = self.reservations.first().copied() {
            if now.saturating_sub(since) < RESERVATION_LIFE {
                return;
            }
            self.reservations.pop_first();
            let rest = self.held.get(&prefix).and_then(|holder| holder.reserved);
            if let Some((_, rest)) = rest {
                self.free(prefix, rest);
            }
        }
    }
}

impl Shelf {
    fn gives_out(&self, prefix: Ipv6Net) -> bool {
        let within = |pool: &Ipv6Net| pool.contains(&prefix);
        prefix.prefix_len() == self.length && self.prefixes.iter().any(within)
    }

    fn size(&self) -> u64 {
        let of = |prefix: &Ipv6Net| 1_u64.checked_shl(u32::from(self.length - prefix.prefix_len()));
        let sizes = self.prefixes.iter().map(|prefix| of(prefix).unwrap_or(u64::MAX));
        sizes.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests;
