//! The table's thread: proposals in, effects and verdicts out, in order.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast::lns::repeats::{Known, PeerKey};
use holdfast_cluster::commands::Command;
use holdfast_cluster::records::{TunnelRow, TunnelState};
use holdfast_cluster::replica::{MemberChange, Output, ReplicaError};
use holdfast_cluster::{Effect, Verdict};
use holdfast_protocol::TunnelId;

use super::orders::voting;
use super::process::{Out, Process};
use super::shells::Work;
use super::wire::Wire;
use crate::sim::bugs::Bug;
use crate::sim::facts::Fact;

/// What waits for the table's thread.
#[derive(Debug)]
pub(super) enum Input {
    Propose(Reply, Box<Command>),
    /// Of another member.
    Message(Vec<u8>),
    Members(MemberChange),
    PassLead {
        at_once: bool,
    },
    Tick,
}

/// Where a verdict goes.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Change {
        tunnel: TunnelId,
        life: u64,
        revision: u64,
    },
    Birth {
        tunnel: TunnelId,
        key: Option<PeerKey>,
    },
    Removal(TunnelId),
    Registration,
    /// An Assign of the groups of this node.
    Assignment(u64),
    Nobody,
}

/// What a turn of the table brought. It is seen once the disk has done its part.
#[derive(Debug)]
pub struct Results(Vec<Output>);

impl Process {
    /// Lets the table work off what waits. `false` if there is nothing, or if it has to wait for its disk.
    pub(super) fn turn(&mut self) -> bool {
        if self.busy || self.inbox.is_empty() {
            return false;
        }
        self.disk.begin_turn(self.world);
        let results = match self.advance() {
            Ok(results) => results,
            Err(error) => {
                self.fact(Fact::Died {
                    node: self.id,
                    why: error.to_string(),
                });
                return false;
            }
        };
        let messages = std::mem::take(&mut *self.outbox.lock().expect("one thread"));
        self.out
            .extend(messages.into_iter().map(|(to, message, after)| Out::Wire {
                to,
                after,
                wire: Wire::Raft(message),
            }));
        let after = self.disk.taken();
        if after == Duration::ZERO {
            self.hand_out(results);
            return true;
        }
        self.busy = true;
        self.out.push(Out::Results { after, results });
        false
    }

    /// The disk has done its part.
    pub fn on_results(&mut self, results: Results) {
        self.busy = false;
        self.hand_out(results);
        self.drain();
    }

    fn advance(&mut self) -> Result<Results, ReplicaError> {
        while let Some(input) = self.inbox.pop_front() {
            match input {
                Input::Propose(reply, command) => {
                    let token = self.next_token;
                    self.next_token += 1;
                    match self.replica.propose(token, *command) {
                        Ok(()) => drop(self.replies.insert(token, reply)),
                        Err(_) => self.never_judged(&reply),
                    }
                }
                Input::Message(message) => self.replica.receive(&message)?,
                // Asked again until it is so.
                Input::Members(change) => drop(self.replica.propose_members(&[change])),
                Input::PassLead { at_once: true } => {
                    self.replica.pass_leadership_at_once(&self.witnesses);
                }
                Input::PassLead { at_once: false } => {
                    self.replica.pass_leadership_on(&BTreeSet::new());
                }
                Input::Tick => self.replica.tick(self.now, self.unix)?,
            }
        }
        let mut outputs = Vec::new();
        loop {
            self.replica.advance()?;
            outputs.extend(std::iter::from_fn(|| self.replica.poll_output()));
            if !self.replica.has_work() {
                return Ok(Results(outputs));
            }
        }
    }

    fn hand_out(&mut self, Results(outputs): Results) {
        for output in outputs {
            match output {
                Output::Effect(effect) => self.on_effect(effect),
                Output::Verdict { token, verdict } => {
                    if let Some(reply) = self.replies.remove(&token) {
                        self.on_verdict(reply, verdict);
                    }
                }
                Output::Unanswered { token } => {
                    if let Some(reply) = self.replies.remove(&token) {
                        self.never_judged(&reply);
                    }
                }
                Output::Members(members) => {
                    self.liveness.set_members(self.now, voting(&members));
                    self.fact(Fact::Members {
                        applied: self.replica.table().applied(),
                        members,
                    });
                }
                Output::SnapshotTaken { .. } | Output::SnapshotFailed { .. } => {}
            }
        }
        self.table_ms = self.replica.table().now_ms();
        self.told = self.replica.table().applied();
        self.fact(Fact::Turn { node: self.id });
    }

    fn on_effect(&mut self, effect: Effect) {
        let applied = self.replica.table().applied();
        self.addresses.follow(self.now, applied, &effect);
        match &effect {
            Effect::GroupTaken { group, owner, epoch } => self.on_group_taken(*group, *owner, *epoch),
            Effect::TunnelChanged { tunnel, row } => self.note_peer(*tunnel, row),
            Effect::TunnelRemoved { tunnel } => {
                self.drop_tunnel(*tunnel);
                self.lives.remove(tunnel);
            }
            Effect::SessionReplaced { tunnel, session } => {
                self.work.push_back(Work::Replaced(*tunnel, *session));
            }
            Effect::TableReplaced => self.read_table(),
            Effect::SessionRemoved { tunnel, session, .. } => self.addresses.let_go((*tunnel, *session)),
            Effect::SessionChanged { .. } | Effect::AccountingOwed { .. } => {}
        }
        self.fact(Fact::Effect {
            node: self.id,
            effect,
        });
    }

    /// Who answers to a LAC's address, port and tunnel id.
    pub(super) fn note_peer(&mut self, tunnel: TunnelId, row: &TunnelRow) {
        let peer = row.peer.as_ref().and_then(|peer| peer.to_std());
        let peer_tunnel = u16::try_from(row.peer_tunnel_id).ok().and_then(TunnelId::new);
        let (Some(peer), Some(peer_tunnel)) = (peer, peer_tunnel) else {
            return;
        };
        match row.state() {
            TunnelState::HalfOpen | TunnelState::Established => {
                let known = Known::of_row(tunnel, row);
                let known_before = self.peers.entry((peer, peer_tunnel)).or_insert(known);
                known_before.note(known);
                let known = *known_before;
                let stale = self.tunnels.keys().filter(|tunnel| known.has_replaced(**tunnel));
                self.work.extend(stale.map(|tunnel| Work::Abandon(*tunnel)));
            }
            TunnelState::Closing | TunnelState::Closed => {
                self.peers.retain(|_, known| known.tunnel != tunnel);
            }
        }
    }

    fn on_verdict(&mut self, reply: Reply, verdict: Verdict) {
        let refusal = match verdict {
            Verdict::Accepted { .. } => None,
            Verdict::Refused(_) if self.has(Bug::RefusalIgnored) => None,
            Verdict::Refused(refusal) => Some(refusal),
        };
        match reply {
            Reply::Change {
                tunnel,
                life,
                revision,
            } => self.work.push_back(Work::Verdict {
                tunnel,
                life,
                revision,
                refusal,
            }),
            Reply::Removal(tunnel) => self.work.push_back(Work::Removed(tunnel, refusal)),
            Reply::Birth { tunnel, key } => {
                if let (Some(key), Some(_)) = (&key, &refusal) {
                    self.withdraw(key);
                }
                if refusal.is_none() {
                    self.work.push_back(Work::Birth(tunnel));
                }
            }
            Reply::Registration => self.on_registered(refusal.is_none()),
            Reply::Assignment(from) => self.on_assigned(from),
            Reply::Nobody => {}
        }
    }

    fn never_judged(&mut self, reply: &Reply) {
        match reply {
            Reply::Birth { key: Some(key), .. } => self.withdraw(key),
            Reply::Assignment(from) => self.on_assigned(*from),
            _ => {}
        }
    }

    fn on_assigned(&mut self, from: u64) {
        let applied = self.replica.table().applied();
        self.liveness.handle_verdict(from, applied);
    }

    /// A claim came to nothing.
    fn withdraw(&mut self, key: &PeerKey) {
        let earlier = self.peers.remove(key).and_then(Known::withdrawn);
        self.peers.extend(earlier.map(|earlier| (*key, earlier)));
    }
}
