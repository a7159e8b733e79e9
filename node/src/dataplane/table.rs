//! The forwarding table of one shard: flat, owned by its thread, changed only by [`TableUpdate`]s.
//!
//! Tunnels are found by index in an array of all 65 536 ids. Sessions are found by a hash of both ids, as their ids are
//! random and sparse: an array of pages would cost up to 1 KiB a session. With four shards a session costs each of them
//! about 200 octets, its counters and its part of its tunnel included.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holdfast_protocol::{SessionId, TunnelId};
use ipnet::IpNet;

use super::counters::{SessionShared, TunnelShared};
use super::entry::{SessionEntry, TableUpdate, TunnelEntry};
use super::filter::FilterSet;
use super::lcp_echo::Magics;
use super::rate::Limit;
use super::routes::{AssignedMap, Routes};
use super::sequence::ReceiveSequence;
use super::slab::{NONE, Slab};

/// The least that a subscriber's link must carry, octets (RFC 791 §3.2). A smaller MTU is taken for this one.
pub const MIN_MTU: u16 = 68;

/// The number of a session's filters, if it has none.
pub const NO_FILTERS: u16 = 0;

const TUNNEL_IDS: usize = 1 << 16;

/// A tunnel as forwarding sees it.
#[derive(Debug)]
pub struct Tunnel {
    /// Our id.
    pub id: TunnelId,
    /// See [`TunnelEntry::peer`].
    pub peer: SocketAddr,
    /// See [`TunnelEntry::local`].
    pub local: Option<SocketAddr>,
    /// See [`TunnelEntry::peer_tunnel`].
    pub peer_tunnel: TunnelId,
    /// See [`TunnelEntry::shared`].
    pub shared: Arc<TunnelShared>,
    sessions: Vec<u32>,
}

/// A session as forwarding sees it.
#[derive(Debug)]
pub struct Session {
    /// Index of its tunnel.
    pub tunnel: u32,
    /// Our id.
    pub id: SessionId,
    /// See [`SessionEntry::peer_session`].
    pub peer_session: SessionId,
    /// See [`SessionEntry::mtu`].
    pub mtu: u16,
    /// See [`SessionEntry::open`].
    pub open: bool,
    /// See [`SessionEntry::ipv6`].
    pub ipv6: bool,
    /// See [`SessionEntry::mss_clamp`].
    pub mss_clamp: bool,
    /// See [`SessionEntry::sequencing`].
    pub sequencing: bool,
    /// See [`SessionEntry::filters`].
    pub filters: u16,
    /// Whether [`SessionEntry::limits`] hold the session to anything: they stand in `shared`.
    pub limited: bool,
    /// See [`SessionEntry::magics`].
    pub magics: Magics,
    /// Ns expected from the LAC.
    pub receive: ReceiveSequence,
    /// See [`SessionEntry::address`].
    pub address: Option<Ipv4Addr>,
    /// See [`SessionEntry::routes`].
    pub routes: Box<[IpNet]>,
    /// See [`SessionEntry::shared`].
    pub shared: Arc<SessionShared>,
    /// Where the session stands in its tunnel's list, which has one for each id at most.
    place: u16,
}

impl Session {
    /// The rate to the subscriber.
    pub fn down_limit(&self) -> Option<Limit> {
        self.limited.then(|| self.shared.buckets.down.limit()).flatten()
    }

    /// Whether the rate from the subscriber lets a packet of `octets` pass at `now`, since boot.
    pub fn admits(&self, now: Duration, octets: usize) -> bool {
        let up = &self.shared.buckets.up;
        let limit = self.limited.then(|| up.limit()).flatten();
        limit.is_none_or(|limit| up.take(&limit, now, octets))
    }

    /// Whether packets from `source` may come from this session (S-99).
    pub fn owns(&self, source: IpAddr) -> bool {
        self.address.is_some_and(|address| source == IpAddr::V4(address))
            || self.routes.iter().any(|route| route.contains(&source))
    }
}

/// The addresses and ports at which we are a tunnel endpoint, for the check against recursion (S-100).
#[derive(Debug, Default)]
struct Endpoints {
    /// With how many tunnels (or sockets) use each. A node has few addresses, so a scan is quick.
    addresses: Vec<(IpAddr, u32)>,
    ports: Vec<u16>,
}

impl Endpoints {
    fn add(&mut self, address: IpAddr) {
        match self.addresses.iter_mut().find(|(known, _)| *known == address) {
            Some((_, users)) => *users += 1,
            None => self.addresses.push((address, 1)),
        }
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some(at) = self.addresses.iter().position(|(known, _)| *known == address) {
            self.addresses[at].1 -= 1;
            if self.addresses[at].1 == 0 {
                self.addresses.swap_remove(at);
            }
        }
    }
}

/// All tunnels, sessions and routes, as one shard knows them.
#[derive(Debug)]
pub struct Table {
    tunnel_index: Box<[u32]>,
    tunnels: Slab<Tunnel>,
    sessions: Slab<Session>,
    session_index: AssignedMap<u32, u32>,
    routes: Routes,
    endpoints: Endpoints,
    filters: AssignedMap<u32, Arc<FilterSet>>,
    /// Key and index of the session that was last looked up for a datagram: a burst of one session costs one look-up.
    last: Option<(u32, u32)>,
}

impl Table {
    /// An empty table of a node that listens at `listen`.
    pub fn new(listen: &[SocketAddr]) -> Self {
        let mut endpoints = Endpoints::default();
        for address in listen {
            if !address.ip().is_unspecified() {
                endpoints.add(address.ip());
            }
            endpoints.ports.push(address.port());
        }
        Self {
            tunnel_index: vec![NONE; TUNNEL_IDS].into_boxed_slice(),
            tunnels: Slab::default(),
            sessions: Slab::default(),
            session_index: AssignedMap::default(),
            routes: Routes::default(),
            endpoints,
            filters: AssignedMap::default(),
            last: None,
        }
    }

    /// Applies one change.
    pub fn apply(&mut self, update: TableUpdate) {
        self.last = None;
        match update {
            TableUpdate::Filters(number, set) => {
                self.filters.insert(number.into(), set);
            }
            TableUpdate::Tunnel(entry) => self.put_tunnel(entry),
            TableUpdate::RemoveTunnel(tunnel) => self.remove_tunnel(tunnel),
            TableUpdate::Session(entry) => self.put_session(entry),
            TableUpdate::RemoveSession(tunnel, session) => self.remove_session(tunnel, session),
        }
    }

    /// The tunnel with our id `tunnel` as a header carries it.
    pub fn tunnel(&self, tunnel: u16) -> Option<&Tunnel> {
        self.tunnels.get(self.tunnel_index[usize::from(tunnel)])
    }

    /// The tunnel of a session.
    pub fn tunnel_of(&self, session: &Session) -> &Tunnel {
        self.tunnels
            .get(session.tunnel)
            .expect("a tunnel outlives its sessions")
    }

    /// The index of a session by both our ids as a header carries them.
    pub fn find_session(&self, tunnel: u16, session: u16) -> Option<u32> {
        self.session_index.get(&key(tunnel, session)).copied()
    }

    /// As [`Table::find_session`], at next to no cost if it is the same as before.
    pub fn find_session_again(&mut self, tunnel: u16, session: u16) -> Option<u32> {
        let key = key(tunnel, session);
        match self.last {
            Some((last, index)) if last == key => Some(index),
            _ => {
                let index = self.find_session(tunnel, session)?;
                self.last = Some((key, index));
                Some(index)
            }
        }
    }

    /// The session at an index that this table gave, with no update in between.
    pub fn session(&self, index: u32) -> &Session {
        self.sessions
            .get(index)
            .expect("indexes come from this table and no update lies between")
    }

    /// The filters of that session.
    pub fn filters(&self, index: u32) -> Option<&FilterSet> {
        match self.session(index).filters {
            NO_FILTERS => None,
            // A number that was never told lets nothing pass.
            number => Some(
                self.filters
                    .get(&number.into())
                    .map_or(&FilterSet::Closed, |set| set),
            ),
        }
    }

    /// Like [`Table::session`], to change.
    pub fn session_mut(&mut self, index: u32) -> &mut Session {
        self.sessions
            .get_mut(index)
            .expect("indexes come from this table and no update lies between")
    }

    /// The index of the session to which packets for `destination` go.
    pub fn route(&self, destination: IpAddr) -> Option<u32> {
        self.routes.find(destination)
    }

    /// Whether `address` is a tunnel endpoint of ours.
    pub fn is_endpoint(&self, address: IpAddr) -> bool {
        self.endpoints
            .addresses
            .iter()
            .any(|(known, _)| *known == address)
    }

    /// Whether we listen for L2TP at `port`.
    pub fn is_listening(&self, port: u16) -> bool {
        self.endpoints.ports.contains(&port)
    }

    /// How many tunnels and sessions there are.
    pub fn sizes(&self) -> (usize, usize) {
        (self.tunnels.len(), self.sessions.len())
    }

    fn put_tunnel(&mut self, entry: TunnelEntry) {
        if let Some(local) = entry.local {
            self.endpoints.add(local.ip());
        }
        let index = self.tunnel_index[usize::from(entry.tunnel.get())];
        let TunnelEntry {
            tunnel: id,
            peer,
            local,
            peer_tunnel,
            shared,
        } = entry;
        if let Some(known) = self.tunnels.get_mut(index) {
            let old = std::mem::replace(&mut known.local, local);
            (known.peer, known.peer_tunnel, known.shared) = (peer, peer_tunnel, shared);
            if let Some(old) = old {
                self.endpoints.remove(old.ip());
            }
            return;
        }
        let tunnel = Tunnel {
            id,
            peer,
            local,
            peer_tunnel,
            shared,
            sessions: Vec::new(),
        };
        self.tunnel_index[usize::from(id.get())] = self.tunnels.insert(tunnel);
    }

    fn remove_tunnel(&mut self, tunnel: TunnelId) {
        let index = std::mem::replace(&mut self.tunnel_index[usize::from(tunnel.get())], NONE);
        let Some(tunnel) = self.tunnels.remove(index) else {
            return;
        };
        for session in tunnel.sessions {
            self.drop_session(tunnel.id, session);
        }
        if let Some(local) = tunnel.local {
            self.endpoints.remove(local.ip());
        }
    }

    fn put_session(&mut self, entry: SessionEntry) {
        let tunnel_index = self.tunnel_index[usize::from(entry.tunnel.get())];
        let Some(tunnel) = self.tunnels.get_mut(tunnel_index) else {
            return;
        };
        let key = key(entry.tunnel.get(), entry.session.get());
        entry.shared.buckets.set(&entry.limits);
        let mut session = Session {
            tunnel: tunnel_index,
            id: entry.session,
            peer_session: entry.peer_session,
            mtu: entry.mtu.max(MIN_MTU),
            open: entry.open,
            ipv6: entry.ipv6,
            mss_clamp: entry.mss_clamp,
            sequencing: entry.sequencing,
            filters: entry.filters,
            limited: !entry.limits.is_unlimited(),
            magics: entry.magics,
            receive: ReceiveSequence::default(),
            address: entry.address,
            routes: entry.routes.iter().map(|route| route.net).collect(),
            shared: entry.shared,
            place: tunnel.sessions.len() as u16,
        };
        let index = match self.session_index.get(&key) {
            Some(index) => {
                let known = self
                    .sessions
                    .get_mut(*index)
                    .expect("the index names sessions that exist");
                session.place = known.place;
                if Arc::ptr_eq(&known.shared, &session.shared) {
                    session.receive = known.receive;
                }
                let old = std::mem::replace(known, session);
                unroute(&mut self.routes, &old, *index);
                *index
            }
            None => {
                let index = self.sessions.insert(session);
                tunnel.sessions.push(index);
                self.session_index.insert(key, index);
                index
            }
        };
        let session = self.sessions.get(index).expect("it was just stored");
        if let Some(address) = session.address {
            self.routes.insert_host(address, index);
        }
        for route in &entry.routes {
            let rank = (route.metric, Reverse(route.opened_ms), key);
            self.routes.insert_prefix(route.net, index, rank);
        }
    }

    fn remove_session(&mut self, tunnel: TunnelId, session: SessionId) {
        let Some(index) = self.find_session(tunnel.get(), session.get()) else {
            return;
        };
        let Some(removed) = self.drop_session(tunnel, index) else {
            return;
        };
        let tunnel = self
            .tunnels
            .get_mut(removed.tunnel)
            .expect("a tunnel outlives its sessions");
        tunnel.sessions.swap_remove(removed.place as usize);
        if let Some(moved) = tunnel.sessions.get(removed.place as usize) {
            self.sessions
                .get_mut(*moved)
                .expect("a tunnel lists sessions that exist")
                .place = removed.place;
        }
    }

    /// Forgets a session everywhere but in its tunnel's list.
    fn drop_session(&mut self, tunnel: TunnelId, index: u32) -> Option<Session> {
        let session = self.sessions.remove(index)?;
        self.session_index.remove(&key(tunnel.get(), session.id.get()));
        unroute(&mut self.routes, &session, index);
        Some(session)
    }
}

fn unroute(routes: &mut Routes, session: &Session, index: u32) {
    if let Some(address) = session.address {
        routes.remove_host(address, index);
    }
    for route in &session.routes {
        routes.remove_prefix(*route, index);
    }
}

fn key(tunnel: u16, session: u16) -> u32 {
    u32::from(tunnel) << 16 | u32::from(session)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dataplane::entry::SessionRoute;
    use crate::dataplane::rate::Limits;
    use crate::dataplane::sequence::SendSequence;

    /// Shards of the tables of tests.
    pub(crate) const SHARDS: usize = 4;

    pub(crate) fn tunnel_id(id: u16) -> TunnelId {
        TunnelId::new(id).expect("not zero")
    }

    pub(crate) fn session_id(id: u16) -> SessionId {
        SessionId::new(id).expect("not zero")
    }

    pub(crate) fn peer() -> SocketAddr {
        "192.0.2.1:1701".parse().expect("an address")
    }

    pub(crate) fn tunnel(id: u16) -> TunnelEntry {
        TunnelEntry {
            tunnel: tunnel_id(id),
            peer: peer(),
            local: Some("198.51.100.1:1701".parse().expect("an address")),
            peer_tunnel: tunnel_id(0x7000 | (id & 0xfff)),
            shared: Arc::default(),
        }
    }

    pub(crate) fn session(tunnel: u16, id: u16, address: [u8; 4]) -> SessionEntry {
        SessionEntry {
            tunnel: tunnel_id(tunnel),
            session: session_id(id),
            peer_session: session_id(0x7000 | (id & 0xfff)),
            open: true,
            ipv6: false,
            address: Some(address.into()),
            routes: Vec::new(),
            mtu: 1400,
            mss_clamp: true,
            sequencing: false,
            filters: NO_FILTERS,
            limits: Limits::default(),
            magics: Magics { local: 7, peer: 9 },
            shared: Arc::new(SessionShared::new(SHARDS, SendSequence::default())),
        }
    }

    fn table() -> Table {
        let mut table = Table::new(&["0.0.0.0:1701".parse().expect("an address")]);
        table.apply(TableUpdate::Tunnel(tunnel(1)));
        table.apply(TableUpdate::Tunnel(tunnel(2)));
        for (id, last) in [(10, 1), (11, 2), (12, 3)] {
            table.apply(TableUpdate::Session(session(1, id, [10, 0, 0, last])));
        }
        table.apply(TableUpdate::Session(session(2, 10, [10, 0, 0, 9])));
        table
    }

    fn route(table: &Table, last: u8) -> Option<(u16, u16)> {
        let session = table.session(table.route(IpAddr::from([10, 0, 0, last]))?);
        Some((table.tunnel_of(session).id.get(), session.id.get()))
    }

    #[test]
    fn the_same_session_id_in_two_tunnels() {
        let table = table();
        assert_eq!(
            (route(&table, 1), route(&table, 9)),
            (Some((1, 10)), Some((2, 10)))
        );
        assert_eq!(table.sizes(), (2, 4));
    }

    #[test]
    fn a_removed_session_takes_its_routes_and_nothing_else() {
        let mut table = table();
        table.apply(TableUpdate::RemoveSession(tunnel_id(1), session_id(10)));
        table.apply(TableUpdate::RemoveSession(tunnel_id(1), session_id(10)));
        assert_eq!((route(&table, 1), table.find_session(1, 10)), (None, None));
        table.apply(TableUpdate::RemoveSession(tunnel_id(1), session_id(12)));
        assert_eq!((route(&table, 2), route(&table, 3)), (Some((1, 11)), None));
        table.apply(TableUpdate::RemoveTunnel(tunnel_id(1)));
        assert_eq!((route(&table, 2), route(&table, 9)), (None, Some((2, 10))));
        assert_eq!(table.sizes(), (1, 1));
    }

    #[test]
    fn a_session_that_was_found_is_not_found_again_when_it_is_gone_or_another() {
        let mut table = table();
        let found = [10, 11, 10].map(|id| table.find_session_again(1, id));
        assert_eq!(found, [10, 11, 10].map(|id| table.find_session(1, id)));
        assert_ne!(table.find_session_again(2, 10), found[0]);
        table.find_session_again(1, 10);
        table.apply(TableUpdate::RemoveSession(tunnel_id(1), session_id(10)));
        assert_eq!(table.find_session_again(1, 10), None);
        assert_eq!(table.find_session_again(1, 99), None);
    }

    #[test]
    fn an_update_replaces_addresses_and_keeps_the_receive_sequence() {
        let mut table = table();
        let mut entry = session(1, 20, [10, 0, 0, 20]);
        table.apply(TableUpdate::Session(entry.clone()));
        let index = table.find_session(1, 20).expect("it exists");
        assert!(table.session_mut(index).receive.accept(500));
        entry.address = Some([10, 0, 0, 21].into());
        entry.routes = vec!["10.0.0.64/28".parse().expect("a prefix")];
        table.apply(TableUpdate::Session(entry.clone()));
        assert_eq!(
            (route(&table, 20), route(&table, 21), route(&table, 70)),
            (None, Some((1, 20)), Some((1, 20)))
        );
        assert!(!table.session_mut(index).receive.accept(499), "499 is old");
        entry.shared = Arc::new(SessionShared::new(SHARDS, SendSequence::default()));
        table.apply(TableUpdate::Session(entry));
        assert!(
            table.session_mut(index).receive.accept(499),
            "another session begins anew"
        );
    }

    #[test]
    fn an_address_given_on_is_not_taken_away_by_its_last_holder() {
        let mut table = table();
        table.apply(TableUpdate::Session(session(2, 30, [10, 0, 0, 1])));
        table.apply(TableUpdate::RemoveSession(tunnel_id(1), session_id(10)));
        assert_eq!(route(&table, 1), Some((2, 30)));
    }

    /// Session 10 with a route, then session 20 with the same one.
    fn shared_route(first: (u32, u64), second: (u32, u64)) -> Table {
        let mut table = table();
        for (id, octet, (metric, opened_ms)) in [(10, 1, first), (20, 2, second)] {
            let mut entry = session(1, id, [10, 0, 0, octet]);
            entry.routes = vec![SessionRoute {
                net: "192.0.2.0/28".parse().expect("a prefix"),
                metric,
                opened_ms,
            }];
            table.apply(TableUpdate::Session(entry));
        }
        table
    }

    #[test]
    fn of_two_sessions_with_one_route_the_lower_metric_has_it_and_the_other_takes_over() {
        let holder = |table: &Table| {
            let index = table.route([192, 0, 2, 5].into())?;
            Some(table.session(index).id.get())
        };
        for (first, second, has) in [
            ((1, 9), (2, 9), 10),
            ((2, 9), (1, 9), 20),
            ((1, 8), (1, 9), 20),
            ((1, 9), (1, 8), 10),
        ] {
            let mut table = shared_route(first, second);
            assert_eq!(holder(&table), Some(has), "{first:?} {second:?}");
            let other = if has == 10 { 20 } else { 10 };
            table.apply(TableUpdate::RemoveSession(tunnel_id(1), session_id(has)));
            assert_eq!(holder(&table), Some(other));
            table.apply(TableUpdate::RemoveSession(tunnel_id(1), session_id(other)));
            assert_eq!(holder(&table), None);
        }
        let mut table = shared_route((1, 1), (2, 1));
        table.apply(TableUpdate::RemoveSession(tunnel_id(1), session_id(20)));
        assert_eq!(holder(&table), Some(10), "the loser's end changes nothing");
        table.apply(TableUpdate::Session(session(1, 10, [10, 0, 0, 1])));
        assert_eq!(holder(&table), None, "a session may lose a route and stay");
    }

    #[test]
    fn sessions_of_unknown_tunnels_are_ignored() {
        let mut table = table();
        table.apply(TableUpdate::Session(session(3, 1, [10, 0, 0, 50])));
        table.apply(TableUpdate::RemoveTunnel(tunnel_id(3)));
        assert_eq!((table.sizes(), route(&table, 50)), ((2, 4), None));
    }

    #[test]
    fn endpoints_live_as_long_as_a_tunnel_uses_them() {
        let mut table = table();
        let endpoint = IpAddr::from([198, 51, 100, 1]);
        table.apply(TableUpdate::Tunnel(tunnel(2)));
        table.apply(TableUpdate::RemoveTunnel(tunnel_id(1)));
        assert!(table.is_endpoint(endpoint));
        table.apply(TableUpdate::RemoveTunnel(tunnel_id(2)));
        assert!(!table.is_endpoint(endpoint) && table.is_listening(1701));
    }

    #[test]
    fn a_session_stays_small() {
        assert!(
            std::mem::size_of::<Session>() <= 64,
            "{}",
            std::mem::size_of::<Session>()
        );
    }
}
