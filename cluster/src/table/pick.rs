//! Choosing ids and addresses that `apply` will accept.
//!
//! The node chooses and proposes, `apply` checks: a choice is a guess that is nearly always right. What is
//! proposed but not judged yet the caller keeps apart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use holdfast_protocol::{SessionId, TunnelId};

use super::Table;
use super::apply::id_rested;
use super::spans::Span;

impl Table {
    /// A free and rested tunnel id of a group, drawn by `random`. `taken` tells what is proposed already.
    pub fn pick_tunnel_id(
        &self,
        group: u8,
        random: u64,
        taken: impl Fn(TunnelId) -> bool,
    ) -> Option<TunnelId> {
        const INDEXES: u64 = 256;
        (0..INDEXES).find_map(|step| {
            let index = (random % INDEXES + step) % INDEXES;
            let id = TunnelId::new(u16::from(group) << 8 | index as u16)?;
            let rests = self
                .resting
                .get(&id)
                .is_some_and(|since| !id_rested(*since, self.now_ms));
            let free = !self.tunnels.contains_key(&id) && !rests && !taken(id);
            free.then_some(id)
        })
    }

    /// A free and rested session id of a tunnel, drawn by `random`. `taken` tells what is proposed already.
    pub fn pick_session_id(
        &self,
        tunnel: TunnelId,
        random: u64,
        taken: impl Fn(SessionId) -> bool,
    ) -> Option<SessionId> {
        const IDS: u64 = 0x1_0000;
        let tunnel = self.tunnel(tunnel)?;
        (0..IDS).find_map(|step| {
            let id = SessionId::new(((random % IDS + step) % IDS) as u16)?;
            let rests = tunnel
                .resting
                .get(&id)
                .is_some_and(|since| !id_rested(*since, self.now_ms));
            let free = !tunnel.sessions.contains_key(&id) && !rests && !taken(id);
            free.then_some(id)
        })
    }
}

/// The addresses of a pool, both ends within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The first address that may be assigned.
    pub first: Ipv4Addr,
    /// The last one.
    pub last: Ipv4Addr,
}

/// Chooses addresses from a pool: what the user had last, then what nobody had yet, then the longest released.
#[derive(Clone, Debug)]
pub struct AddressPicker {
    range: AddressRange,
    /// Everything in the range below this was in use at some time.
    fresh: u64,
    /// Below `fresh` and chosen once, but never assigned.
    unused: BTreeSet<Ipv4Addr>,
    pending: BTreeSet<Ipv4Addr>,
}

impl AddressPicker {
    /// A picker for one pool.
    pub fn new(range: AddressRange) -> Self {
        Self {
            range,
            fresh: u64::from(u32::from(range.first)),
            unused: BTreeSet::new(),
            pending: BTreeSet::new(),
        }
    }

    /// An address that is free in the table, kept apart until `settle`. `None` when the pool is exhausted.
    /// `last` is the address that the user had before, if the caller knows one.
    pub fn pick(&mut self, table: &Table, user: &[u8], last: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let address = last
            .filter(|last| self.may_return(table, user, *last))
            .or_else(|| self.pick_fresh(table))
            .or_else(|| self.pick_rested(table))?;
        self.pending.insert(address);
        Some(address)
    }

    /// The proposal with the address was judged, or given up: the table alone tells from here on.
    pub fn settle(&mut self, table: &Table, address: Ipv4Addr) {
        if self.pending.remove(&address) && is_fresh(table, address) {
            self.unused.insert(address);
        }
    }

    fn may_return(&self, table: &Table, user: &[u8], address: Ipv4Addr) -> bool {
        let span = Span::of_address(IpAddr::V4(address));
        self.contains(address)
            && !user.is_empty()
            && !self.pending.contains(&address)
            && table.spans.was_last_of(span, user)
    }

    fn pick_fresh(&mut self, table: &Table) -> Option<Ipv4Addr> {
        while let Some(address) = self.unused.pop_first() {
            if is_fresh(table, address) {
                return Some(address);
            }
        }
        while self.fresh <= u64::from(u32::from(self.range.last)) {
            let address = Ipv4Addr::from(u32::try_from(self.fresh).ok()?);
            self.fresh += 1;
            if is_fresh(table, address) && !self.pending.contains(&address) {
                return Some(address);
            }
        }
        None
    }

    fn pick_rested(&self, table: &Table) -> Option<Ipv4Addr> {
        table.spans.rested(table.now_ms).find_map(|span| {
            let IpAddr::V4(address) = span.to_prefix().ip()? else {
                return None;
            };
            let single = span.first == span.last;
            (single && self.contains(address) && !self.pending.contains(&address)).then_some(address)
        })
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        (self.range.first..=self.range.last).contains(&address)
    }
}

fn is_fresh(table: &Table, address: Ipv4Addr) -> bool {
    table.spans.is_fresh(Span::of_address(IpAddr::V4(address)))
}
