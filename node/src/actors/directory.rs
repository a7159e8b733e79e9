//! Who is where: indexes over the session table for the control side, kept by the table's thread, read by all.
//!
//! Derived data: everything here can be rebuilt from the table, and is when the process starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use dashmap::{DashMap, DashSet};
use holdfast_cluster::records::{SessionRow, TunnelRow, TunnelState};
use holdfast_protocol::{SessionId, TunnelId};

use crate::dataplane::{SessionShared, SessionTotals, TunnelShared};
use crate::lns::repeats::{Known, PeerKey, Repeat};

/// What the actors and the operator need to know of a tunnel without asking the table.
#[derive(Clone, Debug)]
pub struct TunnelFacts {
    /// The LAC's address and port.
    pub peer: SocketAddr,
    /// Where the LAC sends to.
    pub local: Option<SocketAddr>,
    /// The LAC's id.
    pub peer_tunnel: TunnelId,
    /// Name of the LAC profile.
    pub profile: Arc<str>,
    /// As the LAC calls itself.
    pub host_name: Arc<[u8]>,
    /// As last applied.
    pub state: TunnelState,
    /// Whether the LAC has acknowledged our StopCCN.
    pub heard: bool,
    /// Shared with the packet threads.
    pub shared: Arc<TunnelShared>,
}

impl TunnelFacts {
    fn is_of(&self, (peer, peer_tunnel): PeerKey, local: Option<SocketAddr>, state: TunnelState) -> bool {
        (self.peer, self.peer_tunnel, self.local, self.state) == (peer, peer_tunnel, local, state)
    }
}

/// What the actors and the operator need to know of a session without asking the table.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    /// The LAC's id.
    pub peer_session: SessionId,
    /// Shared with the packet threads.
    pub shared: Arc<SessionShared>,
    /// The address that its row holds.
    pub address: Option<Ipv4Addr>,
    /// Its row as the table has it; the session's actor shares it.
    pub row: Arc<SessionRow>,
}

impl SessionFacts {
    /// Who is online with it; empty while it is not open.
    fn user(&self) -> &[u8] {
        if self.row.is_open() {
            self.row.user().unwrap_or_default()
        } else {
            &[]
        }
    }
}

/// Our ids of a session.
pub type SessionIds = (TunnelId, SessionId);

/// See the module.
#[derive(Debug)]
pub struct Directory {
    peers: DashMap<PeerKey, Known>,
    tunnels: DashMap<TunnelId, TunnelFacts>,
    /// Ids drawn for tunnels that the table has not judged yet.
    drawn: DashSet<TunnelId>,
    sessions: DashMap<SessionIds, SessionFacts>,
    addresses: DashMap<Ipv4Addr, SessionIds>,
    reserved: DashMap<SessionIds, Ipv4Addr>,
    users: DashMap<Box<[u8]>, u32>,
    profiles: DashMap<Arc<str>, ProfileUse>,
    /// Tunnels of each shard, with those whose first message is being judged. One lock, taken for a few instructions once a
    /// tunnel: two shards that placed theirs at the same moment would else pick the same one.
    load_of_shard: Mutex<Vec<usize>>,
    session_count: AtomicUsize,
    tunnel_count: AtomicUsize,
    outside: AtomicUsize,
    /// By accounting id: sessions that are gone and whose traffic is yet to be told.
    departed: DashMap<String, Departed>,
}

/// A session that is gone.
#[derive(Clone, Debug)]
struct Departed {
    shared: Arc<SessionShared>,
    /// The log entry that removed it.
    index: u64,
}

/// Tunnels and sessions of one LAC profile.
#[derive(Clone, Copy, Debug, Default)]
struct ProfileUse {
    tunnels: usize,
    sessions: usize,
}

/// A new tunnel's place on a shard; dropped, it is free again.
#[derive(Debug)]
pub struct Place<'a> {
    directory: &'a Directory,
    shard: usize,
    drawn: Option<TunnelId>,
    kept: bool,
}

impl Place<'_> {
    /// Which shard.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Takes an id for the tunnel; `false` if the table or another proposal has it. Were that left to the table, of LACs that come
    /// by the thousand at once some would be refused and come again a second later.
    pub fn draw(&mut self, id: TunnelId) -> bool {
        let directory = self.directory;
        let free = !directory.tunnels.contains_key(&id) && directory.drawn.insert(id);
        if free {
            self.drawn = Some(id);
        }
        free
    }

    /// The tunnel has claimed its key: from now on its row, or its refusal, keeps the count.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.directory.loads()[self.shard] -= 1;
            if let Some(id) = self.drawn {
                self.directory.drawn.remove(&id);
            }
        }
    }
}

impl Directory {
    /// Nobody is anywhere.
    pub fn new(shards: usize) -> Self {
        Self {
            peers: DashMap::new(),
            tunnels: DashMap::new(),
            drawn: DashSet::new(),
            sessions: DashMap::new(),
            addresses: DashMap::new(),
            reserved: DashMap::new(),
            users: DashMap::new(),
            profiles: DashMap::new(),
            load_of_shard: Mutex::new(vec![0; shards]),
            session_count: AtomicUsize::new(0),
            tunnel_count: AtomicUsize::new(0),
            outside: AtomicUsize::new(0),
            departed: DashMap::new(),
        }
    }

    /// Networks of open sessions that lie in no pool.
    pub fn outside(&self) -> usize {
        self.outside.load(Relaxed)
    }

    pub(super) fn set_outside(&self, networks: usize) {
        self.outside.store(networks, Relaxed);
    }

    /// Sessions in the table.
    pub fn sessions(&self) -> usize {
        self.session_count.load(Relaxed)
    }

    /// Tunnels in the table that are not tombstones.
    pub fn tunnels(&self) -> usize {
        self.tunnel_count.load(Relaxed)
    }

    /// Sessions of one LAC profile.
    pub fn sessions_of_profile(&self, profile: &str) -> usize {
        self.profiles.get(profile).map_or(0, |used| used.sessions)
    }

    /// Tunnels of one LAC profile.
    pub fn tunnels_of_profile(&self, profile: &str) -> usize {
        self.profiles.get(profile).map_or(0, |used| used.tunnels)
    }

    /// A place for a new tunnel on the shard with the fewest.
    pub fn place(&self) -> Place<'_> {
        let mut load = self.loads();
        let shard = (0..load.len()).min_by_key(|shard| load[*shard]).unwrap_or(0);
        load[shard] += 1;
        Place {
            directory: self,
            shard,
            drawn: None,
            kept: false,
        }
    }

    fn loads(&self) -> MutexGuard<'_, Vec<usize>> {
        self.load_of_shard
            .lock()
            .expect("nothing panics with the loads locked")
    }

    fn unload(&self, tunnel: TunnelId) {
        let mut load = self.loads();
        let shard = tunnel.shard(load.len());
        load[shard] = load[shard].saturating_sub(1);
    }

    /// Every tunnel of the table.
    pub fn all_tunnels(&self) -> Vec<TunnelId> {
        self.tunnels.iter().map(|entry| *entry.key()).collect()
    }

    /// Every session of the table.
    pub fn all_sessions(&self) -> Vec<SessionIds> {
        self.sessions.iter().map(|entry| *entry.key()).collect()
    }

    /// At most `most` sessions of the table that are meant, with their rows. Looks at all of them.
    pub fn select(
        &self,
        most: usize,
        is_meant: impl Fn(SessionIds, &SessionRow) -> bool,
    ) -> Vec<(SessionIds, Arc<SessionRow>)> {
        let sessions = self.sessions.iter();
        let meant = sessions.filter(|entry| is_meant(*entry.key(), &entry.row));
        meant
            .take(most)
            .map(|entry| (*entry.key(), entry.row.clone()))
            .collect()
    }

    /// What is known of a tunnel.
    pub fn tunnel(&self, tunnel: TunnelId) -> Option<TunnelFacts> {
        self.tunnels.get(&tunnel).map(|facts| facts.clone())
    }

    /// What is known of a session.
    pub fn session(&self, tunnel: TunnelId, session: SessionId) -> Option<SessionFacts> {
        self.sessions.get(&(tunnel, session)).map(|facts| facts.clone())
    }

    /// What an SCCRQ under this key is; `None` if nobody holds the key.
    pub fn repeated(&self, key: &PeerKey, sccrq_hash: u64) -> Option<Repeat> {
        self.peers.get_mut(key).map(|mut known| known.judge(sccrq_hash))
    }

    /// The half-open tunnel that holds this key. An established one does not listen to messages without its id: its peer
    /// knows that, and whoever only guesses the peer's address does not.
    pub fn half_open(&self, key: &PeerKey) -> Option<TunnelId> {
        let known = self.peers.get(key)?;
        (!known.is_established()).then_some(known.tunnel)
    }

    /// A tunnel is about to be proposed for this key. `false` if another one holds it half-open.
    pub fn claim(&self, key: PeerKey, new: Known) -> bool {
        let mut claimed = true;
        self.peers
            .entry(key)
            .and_modify(|known| claimed = known.give_way(new))
            .or_insert(new);
        claimed
    }

    /// The claim has become a tunnel, which keeps its place, or, if it was refused, nothing: the key goes back to who had it.
    pub fn claim_judged(&self, key: &PeerKey, tunnel: TunnelId, accepted: bool) {
        self.drawn.remove(&tunnel);
        if accepted {
            return;
        }
        self.unload(tunnel);
        self.disclaim(key, tunnel);
    }

    /// Lets a key go, if this tunnel holds it.
    fn disclaim(&self, key: &PeerKey, tunnel: TunnelId) {
        let gone = self.peers.remove_if(key, |_, known| known.tunnel == tunnel);
        // A half-open tunnel that came to nothing leaves the key to the established one that had it before.
        if let Some(earlier) = gone.and_then(|(_, known)| known.withdrawn()) {
            self.peers.insert(*key, earlier);
        }
    }

    /// The established tunnel that held the key of `tunnel` before: its LAC has restarted and forgotten it. Told once.
    pub fn superseded_by(&self, tunnel: TunnelId) -> Option<TunnelId> {
        let facts = self.tunnel(tunnel)?;
        let mut known = self.peers.get_mut(&(facts.peer, facts.peer_tunnel))?;
        known.take_superseded(tunnel)
    }

    /// Whether the LAC of `tunnel` has restarted and has a new tunnel under its key; known from the rows alone.
    pub fn is_superseded(&self, tunnel: TunnelId) -> bool {
        self.tunnel(tunnel).is_some_and(|facts| {
            let known = self.peers.get(&(facts.peer, facts.peer_tunnel));
            known.is_some_and(|known| known.has_replaced(tunnel))
        })
    }

    /// A tunnel's row as applied. Gives its state before.
    pub(super) fn put_tunnel(&self, tunnel: TunnelId, row: &TunnelRow) -> Option<TunnelState> {
        let peer = row.peer.as_ref().and_then(|address| address.to_std())?;
        let peer_tunnel = TunnelId::new(u16::try_from(row.peer_tunnel_id).ok()?)?;
        let local = row.local.as_ref().and_then(|address| address.to_std());
        let known = self.tunnels.get(&tunnel).map(|facts| facts.clone());
        let before = known.as_ref().map(|facts| facts.state);
        let key = (peer, peer_tunnel);
        // Most changes are of what nobody asks for here: sequence numbers, messages.
        if known
            .as_ref()
            .is_some_and(|facts| facts.is_of(key, local, row.state()))
        {
            self.note_key(key, tunnel, row);
            return before;
        }
        let profile: Arc<str> = row.profile.as_str().into();
        match before {
            None => {
                // One that was claimed has its place already.
                if self.peers.get(&key).is_none_or(|known| known.tunnel != tunnel) {
                    let mut load = self.loads();
                    let shard = tunnel.shard(load.len());
                    load[shard] += 1;
                }
                self.tunnel_count_changed(&profile, true);
            }
            Some(TunnelState::Closed) => {}
            Some(_) if row.state() == TunnelState::Closed => {
                self.unload(tunnel);
                self.tunnel_count_changed(&profile, false);
            }
            Some(_) => {}
        }
        let facts = TunnelFacts {
            peer,
            local,
            peer_tunnel,
            profile,
            host_name: row.host_name.as_slice().into(),
            state: row.state(),
            heard: known.as_ref().is_some_and(|facts| facts.heard),
            shared: known.map_or_else(Arc::default, |facts| facts.shared),
        };
        self.tunnels.insert(tunnel, facts);
        self.note_key(key, tunnel, row);
        before
    }

    fn note_key(&self, key: PeerKey, tunnel: TunnelId, row: &TunnelRow) {
        match row.state() {
            TunnelState::HalfOpen | TunnelState::Established => {
                let new = Known::of_row(tunnel, row);
                self.peers.entry(key).or_insert(new).note(new);
            }
            TunnelState::Closing | TunnelState::Closed => self.disclaim(&key, tunnel),
        }
    }

    /// A tombstone is gone.
    pub(super) fn remove_tunnel(&self, tunnel: TunnelId) {
        if let Some((_, facts)) = self.tunnels.remove(&tunnel) {
            self.disclaim(&(facts.peer, facts.peer_tunnel), tunnel);
            if facts.state != TunnelState::Closed {
                self.unload(tunnel);
                self.tunnel_count_changed(&facts.profile, false);
            }
        }
    }

    fn tunnel_count_changed(&self, profile: &Arc<str>, more: bool) {
        let mut used = self.profiles.entry(profile.clone()).or_default();
        if more {
            used.tunnels += 1;
            self.tunnel_count.fetch_add(1, Relaxed);
        } else {
            used.tunnels = used.tunnels.saturating_sub(1);
            self.tunnel_count.fetch_sub(1, Relaxed);
        }
    }

    /// Sessions that a user has open, `but` not counted.
    pub fn sessions_of_user(&self, user: &[u8], but: SessionIds) -> u32 {
        let open = self.users.get(user).map_or(0, |count| *count);
        let own = self.sessions.get(&but).is_some_and(|facts| facts.user() == user);
        open.saturating_sub(u32::from(own))
    }

    /// The session that has this address.
    pub fn holder(&self, address: Ipv4Addr) -> Option<SessionIds> {
        self.addresses.get(&address).map(|holder| *holder)
    }

    /// The address that a session has, reserved or confirmed.
    pub fn address_of(&self, session: SessionIds) -> Option<Ipv4Addr> {
        let reserved = self.reserved.get(&session).map(|address| *address);
        reserved.or_else(|| self.sessions.get(&session).and_then(|facts| facts.address))
    }

    /// Notes an address that is reserved for a session; gives the one that was before.
    pub fn reserve(&self, session: SessionIds, address: Ipv4Addr) -> Option<Ipv4Addr> {
        self.reserved.insert(session, address)
    }

    /// Takes a reservation out.
    pub fn unreserve(&self, session: SessionIds) -> Option<Ipv4Addr> {
        self.reserved.remove(&session).map(|(_, address)| address)
    }

    /// Tunnels that are not on their way out.
    pub fn live_tunnels(&self) -> Vec<TunnelId> {
        let live = |state| matches!(state, TunnelState::HalfOpen | TunnelState::Established);
        self.tunnels
            .iter()
            .filter(|facts| live(facts.state))
            .map(|facts| *facts.key())
            .collect()
    }

    /// The LACs that have established tunnels, once for each, with the address of ours that they speak to.
    pub fn established_lacs(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        let established = self
            .tunnels
            .iter()
            .filter(|facts| facts.state == TunnelState::Established);
        established.filter_map(|facts| Some((facts.peer.ip(), facts.local?.ip())))
    }

    /// The LAC has acknowledged our StopCCN.
    pub fn note_heard(&self, tunnel: TunnelId) {
        if let Some(mut facts) = self.tunnels.get_mut(&tunnel) {
            facts.heard = true;
        }
    }

    /// Whether none of `these` tunnels is up, nor waits for the acknowledgement of a StopCCN of ours.
    pub fn all_quiet(&self, these: impl Fn(TunnelId) -> bool) -> bool {
        let mut all = self.tunnels.iter().filter(|facts| these(*facts.key()));
        all.all(|facts| match facts.state {
            TunnelState::HalfOpen | TunnelState::Established => false,
            TunnelState::Closing => facts.heard,
            TunnelState::Closed => true,
        })
    }

    /// Every session of the table, with what is known of it.
    pub(super) fn for_each_session(&self, mut look: impl FnMut(SessionIds, &SessionFacts)) {
        for entry in &self.sessions {
            look(*entry.key(), entry.value());
        }
    }

    /// A session's row as applied; gives what was known before.
    pub(super) fn put_session(&self, session: SessionIds, facts: SessionFacts) -> Option<SessionFacts> {
        if let Some(address) = facts.address {
            self.addresses.insert(address, session);
            self.reserved
                .remove_if(&session, |_, reserved| *reserved == address);
        }
        if !facts.user().is_empty() {
            *self.users.entry(facts.user().into()).or_default() += 1;
        }
        let before = self.sessions.insert(session, facts);
        match &before {
            Some(before) => self.forget_user(before.user()),
            None => {
                self.session_count.fetch_add(1, Relaxed);
                if let Some(facts) = self.tunnels.get(&session.0) {
                    self.profiles.entry(facts.profile.clone()).or_default().sessions += 1;
                }
            }
        }
        before
    }

    /// A session is gone; gives what was known of it.
    pub(super) fn remove_session(&self, session: SessionIds) -> Option<SessionFacts> {
        let (_, before) = self.sessions.remove(&session)?;
        self.session_count.fetch_sub(1, Relaxed);
        if let Some(facts) = self.tunnels.get(&session.0) {
            let mut used = self.profiles.entry(facts.profile.clone()).or_default();
            used.sessions = used.sessions.saturating_sub(1);
        }
        self.forget_user(before.user());
        self.forget_address(session, before.address);
        Some(before)
    }

    /// What a session that is gone, by this log entry, has sent and received here is kept for a while.
    pub(super) fn depart(&self, facts: &SessionFacts, index: u64) {
        let totals = facts.shared.totals();
        if totals.received_packets > 0 || totals.sent_packets > 0 {
            let shared = facts.shared.clone();
            let name = facts.row.acct_session_id.clone();
            self.departed.insert(name, Departed { shared, index });
        }
    }

    /// What this process counts of a session, there or gone.
    pub fn counted(&self, session: SessionIds, acct_session_id: &str) -> Option<SessionTotals> {
        let live = self.sessions.get(&session);
        let live = live.filter(|facts| facts.row.acct_session_id == acct_session_id);
        if let Some(facts) = live {
            return Some(facts.shared.totals());
        }
        self.departed
            .get(acct_session_id)
            .map(|gone| gone.shared.totals())
    }

    /// Forgets those that had gone by this log entry and for which `is_wanted` does not hold.
    pub fn forget_departed(&self, index: u64, is_wanted: impl Fn(&str) -> bool) {
        self.departed
            .retain(|name, gone| gone.index > index || is_wanted(name));
    }

    /// The session holds this address no longer.
    pub(super) fn forget_address(&self, session: SessionIds, address: Option<Ipv4Addr>) {
        if let Some(address) = address {
            self.addresses.remove_if(&address, |_, holder| *holder == session);
        }
    }

    fn forget_user(&self, user: &[u8]) {
        if user.is_empty() {
            return;
        }
        if let Some(mut count) = self.users.get_mut(user) {
            *count = count.saturating_sub(1);
        }
        self.users.remove_if(user, |_, count| *count == 0);
    }
}
