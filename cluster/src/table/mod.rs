//! The session table: a deterministic state machine.
//!
//! [`Table::apply`] judges the commands of one log entry in order, each by itself. It reads no clock and draws no
//! number: whatever it decides follows from the table and the commands alone, so every node decides alike. It
//! never panics: a command that makes no sense is refused.
//!
//! Rows are shared (`Arc`) between the table, its effects and a snapshot being written, and copied when changed.

mod apply;
mod change;
mod digest;
mod image;
mod outbox;
mod ownership;
mod rendezvous;
mod restore;
mod sequence;
mod spans;
mod stage;
mod verdict;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use holdfast_protocol::{SessionId, TunnelId};

pub use image::{ImageParts, TableImage};
pub use outbox::Owed;
pub use rendezvous::winner as preferred_owner;
pub use restore::{Restore, RestoreError};
pub use verdict::{AddressRefusal, Effect, Refusal, Verdict};

use crate::ids::first_life;
use crate::limits::{ADDRESS_REST_MS, GROUPS, TABLE_TIME_STEP_MS};
use crate::records::{Prefix, SessionRow, TunnelRow};

/// Who owns a group of tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The node; 0: nobody yet.
    pub owner: u64,
    /// Counts the takings.
    pub epoch: u32,
    /// Which process of the owner took it.
    pub incarnation: u64,
}

/// A tunnel and what belongs to it.
#[derive(Clone, Debug)]
pub struct Tunnel {
    pub(crate) row: Arc<TunnelRow>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    /// Session ids given back, with the table time of that.
    pub(crate) resting: BTreeMap<SessionId, u64>,
}

/// A session and what the table itself notes about it.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) row: Arc<SessionRow>,
    /// The row as it was when last open, while a Start is not yet followed by its Stop.
    pub(crate) accounted: Option<Arc<SessionRow>>,
    pub(crate) replaced: bool,
}

/// Names a tunnel before it has an id of ours that the peer knows: address, port and the peer's tunnel id.
type PeerKey = (SocketAddr, u32);

/// The session table.
#[derive(Clone, Debug)]
pub struct Table {
    applied: u64,
    now_ms: u64,
    unix_s: u64,
    version: u32,
    generation: u64,
    groups: Vec<Group>,
    incarnations: BTreeMap<u64, u64>,
    tunnels: BTreeMap<TunnelId, Arc<Tunnel>>,
    /// Tunnel ids given back, with the table time of that.
    resting: BTreeMap<TunnelId, u64>,
    outbox: outbox::Outbox,
    /// Derived from the rows, but for the releases.
    spans: spans::Spans,
    /// Derived from the rows.
    half_open: BTreeMap<PeerKey, TunnelId>,
    /// Derived from the rows.
    session_count: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// An empty table at table time zero.
    pub fn new() -> Self {
        Self {
            applied: 0,
            now_ms: 0,
            unix_s: 0,
            version: 1,
            generation: 0,
            groups: vec![Group::default(); GROUPS],
            incarnations: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            resting: BTreeMap::new(),
            outbox: outbox::Outbox::default(),
            spans: spans::Spans::default(),
            half_open: BTreeMap::new(),
            session_count: 0,
        }
    }

    /// The log index that the table has reached.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Table time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Wall clock of the last tick, in seconds since 1970.
    pub fn unix_s(&self) -> u64 {
        self.unix_s
    }

    /// The version of commands and rows that all members know. What a later version brought is not to be written yet: the others
    /// would drop it, and their tables would differ.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Which cluster the table belongs to: 0 until one of its nodes is made a cluster anew ([`crate::replica::Survivor`]), and
    /// more each time. Members of two generations never work together.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Goes on as the table of a cluster that is made anew, as if by the entry at `index`.
    pub(crate) fn begin_generation(&mut self, generation: u64, index: u64) {
        self.generation = generation;
        self.skip_to(index);
    }

    /// Who owns a group.
    pub fn group(&self, group: u8) -> Group {
        self.groups[usize::from(group)]
    }

    /// What the next process of `node` calls itself in `Take`.
    pub fn next_incarnation(&self, node: u64) -> u64 {
        self.incarnations
            .get(&node)
            .map_or(1, |incarnation| incarnation.saturating_add(1))
    }

    /// The newest process of `node` that the table knows; `None`: it never took part as an owner.
    pub fn incarnation(&self, node: u64) -> Option<u64> {
        self.incarnations.get(&node).copied()
    }

    /// The nodes of which the table knows that they have run, in order.
    pub fn known_nodes(&self) -> impl Iterator<Item = u64> + '_ {
        self.incarnations.keys().copied()
    }

    /// The groups of a node, in order; of node 0: those that nobody owns.
    pub fn groups_of(&self, node: u64) -> impl Iterator<Item = u8> + '_ {
        let groups = (0u8..=255).zip(&self.groups);
        groups
            .filter(move |(_, group)| group.owner == node)
            .map(|(number, _)| number)
    }

    /// A tunnel with its sessions.
    pub fn tunnel(&self, tunnel: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(&tunnel).map(|tunnel| &**tunnel)
    }

    /// From now on an address is not looked for before it is given: a mistake, for the simulation to find.
    pub(crate) fn leave_addresses_unchecked(&mut self, unchecked: bool) {
        self.spans.unchecked = unchecked;
    }

    pub(crate) fn leaves_addresses_unchecked(&self) -> bool {
        self.spans.unchecked
    }

    /// All tunnels, by id.
    pub fn tunnels(&self) -> impl Iterator<Item = (TunnelId, &Tunnel)> {
        self.tunnels.iter().map(|(id, tunnel)| (*id, &**tunnel))
    }

    /// The tunnels of a group, by id.
    pub fn tunnels_of(&self, group: u8) -> impl Iterator<Item = (TunnelId, &Tunnel)> {
        let first = TunnelId::new(u16::from(group) << 8)
            .or(TunnelId::new(1))
            .expect("1 is not zero");
        let last = TunnelId::new(u16::from(group) << 8 | 0xff).expect("0xff is not zero");
        self.tunnels
            .range(first..=last)
            .map(|(id, tunnel)| (*id, &**tunnel))
    }

    /// A session row.
    pub fn session(&self, tunnel: TunnelId, session: SessionId) -> Option<&Arc<SessionRow>> {
        self.tunnel(tunnel)?.session(session)
    }

    /// Number of tunnels, tombstones among them.
    pub fn tunnel_count(&self) -> usize {
        self.tunnels.len()
    }

    /// Number of sessions in all tunnels.
    pub fn session_count(&self) -> usize {
        self.session_count
    }

    /// The life that may change a tunnel: the row's, or the one that its group's epoch began with.
    pub fn current_life(&self, row: &TunnelRow) -> u64 {
        let epoch = row.id().map_or(0, |id| self.group(id.group()).epoch);
        row.life.max(first_life(epoch))
    }

    /// The half-open tunnel of a peer.
    pub fn half_open(&self, peer: SocketAddr, peer_tunnel: TunnelId) -> Option<TunnelId> {
        self.half_open.get(&(peer, u32::from(peer_tunnel.get()))).copied()
    }

    /// The session that an address or a prefix around it is assigned to.
    pub fn holder(&self, address: IpAddr) -> Option<(TunnelId, SessionId)> {
        self.spans
            .holder(address)
            .map(|holder| (holder.tunnel, holder.session))
    }

    /// Single addresses given back and not given out again, the longest ago first: the address, for how many more milliseconds
    /// of table time it rests for all but its last user, and who that was.
    pub fn released(&self) -> impl Iterator<Item = (IpAddr, u64, Arc<[u8]>)> + '_ {
        self.spans.releases().filter_map(|release| {
            let single = release.span.first == release.span.last;
            let address = release.span.to_prefix().ip().filter(|_| single)?;
            let rests = (release.since_ms + ADDRESS_REST_MS + TABLE_TIME_STEP_MS).saturating_sub(self.now_ms);
            Some((address, rests, release.user))
        })
    }

    /// As [`Self::released`], of IPv6 prefixes.
    pub fn released_prefixes(&self) -> impl Iterator<Item = (Prefix, u64, Arc<[u8]>)> + '_ {
        let prefixes = self
            .spans
            .releases()
            .filter(|release| release.span.first != release.span.last);
        prefixes.map(|release| {
            let rests = (release.since_ms + ADDRESS_REST_MS + TABLE_TIME_STEP_MS).saturating_sub(self.now_ms);
            (release.span.to_prefix(), rests, release.user)
        })
    }

    /// Accounting records owed, oldest first.
    pub fn outbox(&self) -> impl Iterator<Item = &Arc<Owed>> {
        self.outbox.records.values()
    }

    /// Those from the number `first` on.
    pub fn outbox_from(&self, first: u64) -> impl Iterator<Item = &Arc<Owed>> {
        self.outbox.records.range(first..).map(|(_, owed)| owed)
    }

    /// How many there are.
    pub fn outbox_len(&self) -> usize {
        self.outbox.records.len()
    }

    /// The number that the next one gets; 0: this table never owed any.
    pub fn next_owed(&self) -> u64 {
        self.outbox.next
    }

    /// One accounting record owed.
    pub fn owed(&self, sequence: u64) -> Option<&Arc<Owed>> {
        self.outbox.records.get(&sequence)
    }

    /// Accounting records that were dropped because the outbox was full, since the table began.
    pub fn accounting_dropped(&self) -> u64 {
        self.outbox.dropped
    }
}

impl Tunnel {
    /// The row.
    pub fn row(&self) -> &Arc<TunnelRow> {
        &self.row
    }

    /// A session row.
    pub fn session(&self, session: SessionId) -> Option<&Arc<SessionRow>> {
        self.sessions.get(&session).map(|session| &session.row)
    }

    /// All session rows, by id.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Arc<SessionRow>)> {
        self.sessions.iter().map(|(id, session)| (*id, &session.row))
    }

    /// Session ids given back and not rested yet, with the table time of that.
    pub fn resting_sessions(&self) -> impl Iterator<Item = (SessionId, u64)> + '_ {
        self.resting.iter().map(|(id, since_ms)| (*id, *since_ms))
    }

    /// Sessions whose place another one took and that are still to be removed.
    pub fn replaced_sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        let replaced = self.sessions.iter().filter(|(_, session)| session.replaced);
        replaced.map(|(id, _)| *id)
    }

    /// Whether another session of the same user took this one's place, so that it is only to be removed.
    pub fn is_replaced(&self, session: SessionId) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|session| session.replaced)
    }
}
