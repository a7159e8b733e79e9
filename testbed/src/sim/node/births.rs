//! How tunnels and sessions are born from their rows, and end.

use std::sync::Arc;
use std::time::Duration;

use holdfast::lns::tunnel::{Birth, Tunnel};
use holdfast_cluster::commands::Reclaim;
use holdfast_cluster::records::SessionRow;
use holdfast_protocol::{SessionId, TunnelId};

use super::process::{Process, Timer};
use super::shells::Work;
use super::table::Reply;
use crate::sim::bugs::Bug;

/// Tunnels that are born in one tick of 10 ms; those with traffic come first, whatever the number.
const BIRTHS_PER_TICK: usize = 4;
/// How long a refused core waits for its next life before it asks again.
const REBIRTH_RETRY: Duration = Duration::from_millis(500);

impl Process {
    /// Goes on with the births that wait, and with those whose asking was in vain.
    pub(super) fn bear_some(&mut self) {
        for _ in 0..BIRTHS_PER_TICK {
            let Some(tunnel) = self.unborn.pop_front() else {
                break;
            };
            self.work.push_back(Work::Birth(tunnel));
        }
        let due: Vec<_> = self
            .reborn_at
            .iter()
            .filter(|(_, at)| **at <= self.now)
            .map(|(tunnel, _)| *tunnel)
            .collect();
        for tunnel in due {
            self.reclaim(tunnel);
        }
    }

    /// Whether the table, which may be ahead of what was told, still has the epoch under which this process owns the group. A life
    /// of any other epoch is another's: a core that took it would be accepted in the other's place.
    fn owns_in_table(&self, group: u8) -> bool {
        let told = self.groups[usize::from(group)].epoch;
        self.owns(group) && self.replica.table().group(group).epoch == told
    }

    /// Asks for a new life for a tunnel whose core is void.
    pub(super) fn reclaim(&mut self, id: TunnelId) {
        self.reborn_at.remove(&id);
        let Some(found) = self.replica.table().tunnel(id) else {
            return;
        };
        if !self.owns_in_table(id.group()) {
            return;
        }
        let life = self.replica.table().current_life(found.row()) + 1;
        self.reborn_at.insert(id, self.now + REBIRTH_RETRY);
        let tunnel_id = u32::from(id.get());
        self.propose(
            Reply::Birth {
                tunnel: id,
                key: None,
            },
            Reclaim { tunnel_id, life },
        );
    }

    /// A core is born from the rows, unless one has lived under this life before.
    pub(super) fn bear(&mut self, id: TunnelId) {
        let Some(found) = self.replica.table().tunnel(id) else {
            return;
        };
        let row = found.row().clone();
        let life = self.replica.table().current_life(&row);
        // Two cores of one life would take each other's verdicts for their own.
        let lived = self.lives.get(&id).is_some_and(|lived| *lived >= life);
        if lived || !self.owns_in_table(id.group()) {
            return;
        }
        self.reborn_at.remove(&id);
        let sessions: Vec<Arc<SessionRow>> = found.sessions().map(|(_, row)| row.clone()).collect();
        let resting: Vec<_> = found.resting_sessions().collect();
        let replaced: Vec<_> = found.replaced_sessions().collect();
        let mut born_of = (*row).clone();
        if self.has(Bug::UnacknowledgedForgotten) {
            born_of.unacknowledged.clear();
        }
        let birth = Birth {
            life,
            row: &born_of,
            sessions: &sessions,
            seed: self.dice.seed(),
            accounting_prefix: self.id << 16 | self.boot,
            max_sessions: 1000,
        };
        let core = Tunnel::born(self.clocks(), self.settings.clone(), &birth);
        self.lives.insert(id, life);
        self.tunnels.insert(id, core);
        let superseded = self.peers.values().any(|known| known.has_replaced(id));
        self.at_tunnel(id, |core, now| {
            if superseded {
                core.abandon(now);
            } else {
                core.rest_ids(now, &resting);
            }
        });
        let replaced = replaced.into_iter().map(|session| Work::Replaced(id, session));
        self.work.extend(replaced);
    }

    /// Its sessions are no longer this process's.
    pub(super) fn let_go_addresses(&mut self, id: TunnelId) {
        for (tunnel, session) in self.sessions_of(id) {
            self.addresses.let_go((tunnel, session));
        }
    }

    fn sessions_of(&self, id: TunnelId) -> Vec<(TunnelId, SessionId)> {
        let of_tunnel = self.sessions.keys().filter(|(tunnel, _)| *tunnel == id);
        of_tunnel.copied().collect()
    }

    /// A core and those of its sessions end without a word.
    pub(super) fn drop_tunnel(&mut self, id: TunnelId) {
        self.tunnels.remove(&id);
        self.reborn_at.remove(&id);
        self.timers.set(Timer::Tunnel(id), None);
        for (tunnel, session) in self.sessions_of(id) {
            self.drop_session(tunnel, session);
        }
    }
}
