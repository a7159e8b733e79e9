//! From the session table to the forwarding tables: what `apply` changed becomes what the packet threads do.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_cluster::records::{PppRow, SessionRow, SessionState, TunnelRow, TunnelState};
use holdfast_cluster::{Effect, Table};
use holdfast_ppp::Ncp;
use holdfast_protocol::{SessionId, TunnelId};

use super::directory::{Directory, SessionFacts, SessionIds};
use super::filtering::{Combination, Combinations};
use super::reach::{self, PoolNetworks, Reach};
use crate::aaa::prefixes::{Pair, of_row};
use crate::aaa::{Filters, Pools, Prefixes};
use crate::anycast::Networks;
use crate::dataplane::rate::Limits;
use crate::dataplane::sequence::SendSequence;
use crate::dataplane::table::NO_FILTERS;
use crate::dataplane::{Magics, SessionEntry, SessionShared, TableUpdate, TunnelEntry};
use crate::io::{Dataplane, clock};
use crate::lns::admission::Admission;
use crate::lns::repeats::PeerKey;
use crate::lns::rows;

/// The rates of a session; most have none.
fn limits(ppp: &PppRow) -> Limits {
    ppp.service.as_ref().map_or_else(Limits::default, |service| {
        let up = (service.rate_up, service.burst_up);
        Limits::new(up, (service.rate_down, service.burst_down))
    })
}

/// What a session may send and receive, from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// The largest inner packet, octets.
    pub mtu: u16,
    /// Whether the MSS of TCP connections is held to that.
    pub mss_clamp: bool,
}

/// What addresses and prefixes are picked from.
#[derive(Clone, Debug)]
pub struct Stocks {
    /// IPv4.
    pub pools: Arc<Mutex<Pools>>,
    /// IPv6.
    pub prefixes: Arc<Mutex<Prefixes>>,
}

/// Owned by the table's thread.
#[derive(Debug)]
pub struct Forwarding {
    dataplane: Arc<Dataplane>,
    directory: Arc<Directory>,
    admission: Arc<Mutex<Admission>>,
    stocks: Stocks,
    limits: LinkLimits,
    shards: usize,
    /// What the routers and the kernel are told of.
    reach: Reach,
    combinations: Combinations,
    /// The last log index that the table had applied when it was last followed.
    applied: u64,
    /// Tunnels that have just been established.
    established: Vec<TunnelId>,
    /// The groups whose sequenced sessions this node numbers.
    numbered: [bool; 256],
    /// The sequenced sessions of all groups.
    sequenced: BTreeMap<SessionIds, Arc<SessionShared>>,
}

impl Forwarding {
    /// Knows nothing of the table yet; see [`Self::rebuild`].
    pub fn new(
        dataplane: Arc<Dataplane>,
        directory: Arc<Directory>,
        admission: Arc<Mutex<Admission>>,
        stocks: Stocks,
        limits: LinkLimits,
        reach: Reach,
        combinations: Combinations,
    ) -> Self {
        let shards = dataplane.shards();
        Self {
            dataplane,
            directory,
            admission,
            stocks,
            limits,
            shards,
            reach,
            combinations,
            applied: 0,
            established: Vec::new(),
            numbered: [false; 256],
            sequenced: BTreeMap::new(),
        }
    }

    /// The tunnels that were established since this was last asked.
    pub fn take_established(&mut self) -> Vec<TunnelId> {
        std::mem::take(&mut self.established)
    }

    /// From this point of the log on this node gives the Ns of the sequenced sessions of `group`, or does not.
    pub fn set_numbered(&mut self, group: u8, here: bool) {
        self.numbered[usize::from(group)] = here;
        for (_, shared) in self.sequenced.range(sessions_of(group)) {
            if here {
                shared.sequence.begin_here();
            } else {
                shared.sequence.end_here();
            }
        }
    }

    /// Routes to the TUN what is to be routed there, and gives what the owner of the groups for which `owned` holds is to
    /// announce, if anything has changed since, or `anyway`.
    pub fn tell_kernel(&mut self, anyway: bool, owned: impl Fn(u8) -> bool) -> Option<Networks> {
        self.reach.tell(&self.directory, anyway, owned)
    }

    /// Goes over to other pools.
    pub fn set_pools(&mut self, pools: PoolNetworks) {
        self.reach.set_pools(pools, &self.directory);
    }

    /// Goes over to other filters, for the sessions that are there too.
    pub fn set_filters(&mut self, filters: Arc<Filters>) {
        for update in self.combinations.replace(filters) {
            self.update(update);
        }
    }

    /// How long user data may be forwarded, since boot.
    pub fn set_forward_until(&self, until: Duration) {
        self.dataplane.set_forward_until(until);
    }

    /// The indexes that are kept up to date here.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Derives everything from the table: data flows before any actor is born.
    pub fn rebuild(&mut self, table: &Table) {
        for (id, tunnel) in table.tunnels() {
            self.put_tunnel(id, tunnel.row());
            for (session, row) in tunnel.sessions() {
                self.put_session(id, session, row);
            }
        }
    }

    /// Another table has taken the place of the one that was followed so far.
    pub fn replace(&mut self, table: &Table) {
        self.applied = table.applied();
        for (tunnel, session) in self.directory.all_sessions() {
            if table.session(tunnel, session).is_none() {
                self.remove_session(tunnel, session);
            }
        }
        for tunnel in self.directory.all_tunnels() {
            if table.tunnel(tunnel).is_none() {
                self.remove_tunnel(tunnel);
            }
        }
        self.rebuild(table);
    }

    /// Follows one change of the table, which has applied the log up to `applied`.
    pub fn apply(&mut self, effect: &Effect, applied: u64) {
        self.applied = applied;
        match effect {
            Effect::TunnelChanged { tunnel, row } => self.put_tunnel(*tunnel, row),
            Effect::TunnelRemoved { tunnel } => self.remove_tunnel(*tunnel),
            Effect::SessionChanged {
                tunnel, session, row, ..
            } => self.put_session(*tunnel, *session, row),
            Effect::SessionRemoved { tunnel, session, .. } => self.remove_session(*tunnel, *session),
            Effect::GroupTaken { .. }
            | Effect::SessionReplaced { .. }
            | Effect::AccountingOwed { .. }
            | Effect::TableReplaced => {}
        }
    }

    fn remove_tunnel(&mut self, tunnel: TunnelId) {
        self.directory.remove_tunnel(tunnel);
        self.update(TableUpdate::RemoveTunnel(tunnel));
    }

    fn remove_session(&mut self, tunnel: TunnelId, session: SessionId) {
        let ids = (tunnel, session);
        self.sequenced.remove(&ids);
        let facts = self.directory.remove_session(ids);
        if let Some(facts) = &facts {
            self.directory.depart(facts, self.applied);
        }
        let had = facts.as_ref().map(|facts| of_row(&facts.row)).unwrap_or_default();
        self.settle_prefixes(ids, had, Pair::default(), b"");
        self.settle_filters(facts.as_ref().map(|facts| &*facts.row), None);
        let held = facts.and_then(|facts| facts.address);
        if let Some(address) = held {
            let mut pools = self
                .stocks
                .pools
                .lock()
                .expect("nothing panics with the pools locked");
            pools.release(clock::since_boot(), self.applied, address, ids);
        }
        self.reach.remove(ids, held);
        self.update(TableUpdate::RemoveSession(tunnel, session));
    }

    fn put_tunnel(&mut self, tunnel: TunnelId, row: &TunnelRow) {
        let before = self.directory.put_tunnel(tunnel, row);
        let Some(facts) = self.directory.tunnel(tunnel) else {
            return;
        };
        self.count_half_open(before, row.state(), facts.peer.ip());
        if before == Some(TunnelState::HalfOpen) && row.state() == TunnelState::Established {
            self.established.push(tunnel);
        }
        if before.is_none() {
            self.update(TableUpdate::Tunnel(TunnelEntry {
                tunnel,
                peer: facts.peer,
                local: facts.local,
                peer_tunnel: facts.peer_tunnel,
                shared: facts.shared,
            }));
        }
    }

    /// What was admitted as a new tunnel is one, and counts as such, or comes to nothing.
    pub fn claim_judged(&self, key: &PeerKey, tunnel: TunnelId, accepted: bool) {
        self.directory.claim_judged(key, tunnel, accepted);
        self.admission
            .lock()
            .expect("nothing panics with the admission locked")
            .half_open_ended(key.0.ip());
    }

    fn count_half_open(&self, before: Option<TunnelState>, now: TunnelState, source: IpAddr) {
        let was = before == Some(TunnelState::HalfOpen);
        let is = now == TunnelState::HalfOpen;
        if was != is {
            let mut admission = self
                .admission
                .lock()
                .expect("nothing panics with the admission locked");
            if is {
                admission.half_open_began(clock::since_boot(), source);
            } else {
                admission.half_open_ended(source);
            }
        }
    }

    fn put_session(&mut self, tunnel: TunnelId, session: SessionId, row: &Arc<SessionRow>) {
        let Some(peer_session) = u16::try_from(row.peer_session_id).ok().and_then(SessionId::new) else {
            return;
        };
        let ids = (tunnel, session);
        let known = self.directory.session(tunnel, session);
        let shared = known.map_or_else(|| self.new_shared(row), |facts| facts.shared);
        let newly_sequenced = row.sequencing_required && self.sequenced.insert(ids, shared.clone()).is_none();
        if newly_sequenced && self.numbered[usize::from(tunnel.group())] {
            shared.sequence.begin_here();
        }
        shared.sequence.grant(row.sequence_reserved);
        let facts = SessionFacts {
            peer_session,
            shared: shared.clone(),
            address: address(row),
            row: row.clone(),
        };
        let now_held = facts.address;
        let before = self.directory.put_session(ids, facts);
        let had = before
            .as_ref()
            .map(|before| of_row(&before.row))
            .unwrap_or_default();
        self.settle_prefixes(ids, had, of_row(row), row.user().unwrap_or_default());
        let filters = self.settle_filters(before.as_ref().map(|before| &*before.row), Some(row));
        let before = before.and_then(|before| before.address);
        self.reach.put(ids, before, now_held, row);
        self.settle_addresses(ids, before, now_held, row);
        if row.state() == SessionState::Connected {
            let entry = self.entry(tunnel, session, peer_session, row, shared);
            self.update(TableUpdate::Session(SessionEntry { filters, ..entry }));
        }
    }

    /// Tells the pools which address the session has from now on, and which no longer.
    fn settle_addresses(
        &self,
        ids: SessionIds,
        before: Option<Ipv4Addr>,
        now: Option<Ipv4Addr>,
        row: &SessionRow,
    ) {
        if before == now {
            return;
        }
        let mut pools = self
            .stocks
            .pools
            .lock()
            .expect("nothing panics with the pools locked");
        if let Some(address) = before {
            self.directory.forget_address(ids, before);
            pools.release(clock::since_boot(), self.applied, address, ids);
        }
        if let Some(address) = now {
            pools.confirm(
                address,
                &String::from_utf8_lossy(row.user().unwrap_or_default()),
                ids,
            );
        }
    }

    /// As [`Self::settle_addresses`], for prefixes; also counts them for the routers.
    fn settle_prefixes(&mut self, ids: SessionIds, before: Pair, now: Pair, user: &[u8]) {
        if before == now {
            return;
        }
        let mut prefixes = self
            .stocks
            .prefixes
            .lock()
            .expect("nothing panics with the prefixes locked");
        let user = String::from_utf8_lossy(user);
        prefixes.settle(clock::since_boot(), self.applied, ids, &user, before, now);
        drop(prefixes);
        self.reach.move_prefixes(ids, before, now);
    }

    /// The packet threads end only with the node.
    fn update(&self, update: TableUpdate) {
        if self.dataplane.update(update).is_err() {
            tracing::debug!("the packet threads have ended");
        }
    }

    /// A session that this process sees for the first time. What is reserved may be used up, by another process or node, so ours
    /// would start behind it, in a block that is reserved by the row's next change.
    fn new_shared(&self, row: &SessionRow) -> Arc<SessionShared> {
        let reserved = row.sequence_reserved;
        Arc::new(SessionShared::new(self.shards, SendSequence::elsewhere(reserved)))
    }

    /// The number of what the session is held to now; the packet threads are told what it means.
    fn settle_filters(&mut self, before: Option<&SessionRow>, now: Option<&SessionRow>) -> u16 {
        let [before, now] = [before, now].map(|row| row.and_then(Combination::of));
        let (number, update) = self.combinations.settle(before.as_ref(), now.as_ref());
        if let Some(update) = update {
            self.update(update);
        }
        number
    }

    fn entry(
        &self,
        tunnel: TunnelId,
        session: SessionId,
        peer_session: SessionId,
        row: &SessionRow,
        shared: Arc<SessionShared>,
    ) -> SessionEntry {
        let ppp = row.ppp.as_ref();
        let peer_mru = ppp.map_or(self.limits.mtu, |ppp| {
            u16::try_from(ppp.peer_mru).unwrap_or(u16::MAX)
        });
        let service_mtu = ppp
            .and_then(|ppp| ppp.service.as_ref())
            .map_or(0, |service| service.mtu);
        let service_mtu = u16::try_from(service_mtu)
            .ok()
            .filter(|mtu| *mtu > 0)
            .unwrap_or(u16::MAX);
        SessionEntry {
            tunnel,
            session,
            peer_session,
            open: row.is_open(),
            ipv6: rows::has_open(row, Ncp::Ipv6cp),
            address: rows::has_open(row, Ncp::Ipcp).then(|| address(row)).flatten(),
            routes: reach::routes(row),
            mtu: self
                .limits
                .mtu
                .min(peer_mru)
                .min(service_mtu)
                .max(crate::dataplane::table::MIN_MTU),
            mss_clamp: self.limits.mss_clamp,
            sequencing: row.sequencing_required,
            filters: NO_FILTERS,
            limits: ppp.map_or_else(Limits::default, limits),
            magics: ppp.map_or_else(Magics::default, |ppp| Magics {
                local: ppp.local_magic,
                peer: ppp.peer_magic,
            }),
            shared,
        }
    }
}

/// All session ids of a group.
fn sessions_of(group: u8) -> std::ops::RangeInclusive<SessionIds> {
    let first = (u16::from(group) << 8).max(1);
    let ids = |tunnel, session| {
        let ids = TunnelId::new(tunnel).zip(SessionId::new(session));
        ids.expect("neither is zero")
    };
    ids(first, 1)..=ids(first | 0xff, u16::MAX)
}

/// The subscriber's own IPv4 address.
pub fn address(row: &SessionRow) -> Option<Ipv4Addr> {
    let prefixes = &row.ppp.as_ref()?.addresses;
    prefixes.iter().find_map(|prefix| match prefix.ip()? {
        IpAddr::V4(address) if prefix.length == 32 => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_of_a_group_and_no_others() {
        let ids = |tunnel, session| {
            (
                TunnelId::new(tunnel).expect("not zero"),
                SessionId::new(session).expect("not zero"),
            )
        };
        for group in [0, 1, 127, 255_u16] {
            let range = sessions_of(group as u8);
            for tunnel in [1, 0xff, 0x100, 0x1ff, 0x7f00, 0x7fff, 0xff00, 0xffff] {
                for session in [1, u16::MAX] {
                    assert_eq!(
                        range.contains(&ids(tunnel, session)),
                        tunnel >> 8 == group,
                        "{tunnel} in {group}"
                    );
                }
            }
        }
    }
}
