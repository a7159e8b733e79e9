//! Which groups this process may act for, and what a leader does about those of the dead.

use std::time::Duration;

use holdfast_cluster::Effect;
use holdfast_cluster::commands::{Assign, Take};
use holdfast_cluster::limits::GROUPS;
use holdfast_cluster::table::Group;
use holdfast_protocol::TunnelId;

use super::process::{Out, Process};
use super::table::Reply;
use crate::sim::bugs::Bug;
use crate::sim::facts::Fact;

/// How long a process waits for the answer to its Take.
const PATIENCE: Duration = Duration::from_millis(500);

impl Process {
    /// Derives everything from the table: at the start, and when a snapshot took its place.
    pub(super) fn read_table(&mut self) {
        self.table_ms = self.replica.table().now_ms();
        self.told = self.replica.table().applied();
        self.groups = (0..GROUPS)
            .map(|group| self.replica.table().group(group as u8))
            .collect();
        self.peers.clear();
        let rows: Vec<_> = self
            .replica
            .table()
            .tunnels()
            .map(|(id, tunnel)| (id, tunnel.row().clone()))
            .collect();
        for (tunnel, row) in rows {
            self.note_peer(tunnel, &row);
            self.tell_sessions(tunnel);
        }
        let gone: Vec<_> = self
            .tunnels
            .keys()
            .copied()
            .filter(|tunnel| !self.owns(tunnel.group()) || self.replica.table().tunnel(*tunnel).is_none())
            .collect();
        for tunnel in gone {
            self.let_go_addresses(tunnel);
            self.drop_tunnel(tunnel);
        }
        self.addresses.replace(self.now, self.replica.table());
        self.find_unborn();
    }

    /// For the invariants: rows that no effect has told of.
    fn tell_sessions(&mut self, tunnel: TunnelId) {
        let rows = self.replica.table().tunnel(tunnel).into_iter();
        let facts = rows
            .flat_map(|found| found.sessions())
            .map(|(session, row)| Fact::Effect {
                node: self.id,
                effect: Effect::SessionChanged {
                    tunnel,
                    session,
                    row: row.clone(),
                    before_open: row.is_open(),
                    after_open: row.is_open(),
                },
            });
        self.out.extend(facts.map(Out::Fact));
    }

    /// A process that starts takes what its node owns, once it knows what that is.
    pub(super) fn register(&mut self) {
        let waits = self.asked_at.is_some_and(|at| self.now < at + PATIENCE);
        if self.registered || waits || !self.replica.is_caught_up() {
            return;
        }
        let table = self.replica.table();
        let mut incarnation = table.next_incarnation(self.id);
        if self.has(Bug::IncarnationKept) {
            incarnation = (incarnation - 1).max(1);
        }
        let own = |group: &u8| table.group(*group).owner == self.id;
        let take = Take {
            groups: (0..=255).filter(own).map(u32::from).collect(),
            node: self.id,
            incarnation,
        };
        self.asked_at = Some(self.now);
        self.incarnation = Some(incarnation);
        self.propose(Reply::Registration, take);
    }

    pub(super) fn on_registered(&mut self, accepted: bool) {
        self.registered = accepted;
        if accepted {
            self.find_unborn();
            for group in 0..=255 {
                for (_, relay) in self.hold.release(group, u32::MAX) {
                    self.on_released(relay);
                }
            }
        } else {
            (self.incarnation, self.asked_at) = (None, None);
        }
    }

    pub(super) fn on_group_taken(&mut self, number: u8, owner: u64, epoch: u32) {
        let before = self.groups[usize::from(number)];
        self.groups[usize::from(number)] = Group {
            owner,
            epoch,
            incarnation: self.replica.table().group(number).incarnation,
        };
        if before.owner != owner {
            self.taken_over_at.insert(number, self.now);
        }
        let of_group = |tunnel: &&TunnelId| tunnel.group() == number;
        let tunnels: Vec<_> = self.tunnels.keys().filter(of_group).copied().collect();
        for tunnel in tunnels {
            // Silently: its sessions are another's now, or its next core's.
            if !self.has(Bug::EpochUnchecked) || self.owns(number) {
                self.let_go_addresses(tunnel);
                self.drop_tunnel(tunnel);
            }
        }
        if self.owns(number) {
            let unborn = self.replica.table().tunnels_of(number).map(|(id, _)| id);
            self.unborn.extend(unborn);
        }
        for (_, relay) in self.hold.release(number, epoch) {
            self.on_released(relay);
        }
    }

    fn find_unborn(&mut self) {
        let missing: Vec<_> = self
            .replica
            .table()
            .tunnels()
            .map(|(id, _)| id)
            .filter(|id| self.owns(id.group()) && !self.tunnels.contains_key(id))
            .collect();
        self.unborn.extend(missing);
    }

    /// The leader gives the groups of a node that is down to the living, and so those that nobody has.
    pub(super) fn give_away_groups(&mut self) {
        let due = self.liveness.reassign(self.now, &self.groups, &self.witnesses);
        let term = self.replica.leadership().term;
        for reassign in due {
            let assign = Assign {
                from: reassign.from,
                incarnation: reassign.incarnation,
                alive: reassign.alive,
                term,
            };
            self.propose(Reply::Assignment(reassign.from), assign);
        }
    }
}
