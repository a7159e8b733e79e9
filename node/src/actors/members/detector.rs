//! The part of the membership that the table's thread runs: the failure detector, and what follows from it where this node leads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_cluster::Replica;
use holdfast_cluster::commands::Assign;
use holdfast_cluster::limits::WITNESS_LEAD_TICKS;
use holdfast_cluster::liveness::{self, Liveness, Reassign, View};
use holdfast_cluster::replica::{self, Lineage};
use holdfast_cluster::table::Group;

use super::isolation::Isolation;
use super::{FromPeer, Members};
use crate::io::clock;
use crate::metrics::{Counter, Limit, Metrics};
use crate::peers::Past;
use crate::server::past;

/// What a look at the members came to, where this node leads.
#[derive(Debug, Default)]
pub struct Judged {
    /// Groups that are to go to others.
    pub assigns: Vec<Assign>,
    /// Who is to lead in place of this node, which steps aside.
    pub next_leader: Option<u64>,
    /// Until when this node may forward user data, whether it leads or not.
    pub forward_until: Duration,
}

/// The part that the table's thread runs.
#[derive(Debug)]
pub struct Membership {
    /// Judgements for which this node, a witness, has led.
    led: u32,
    is_witness: bool,
    members: Arc<Members>,
    liveness: Liveness,
    /// As the others are told.
    lineage: Lineage,
    metrics: Arc<Metrics>,
    isolation: Isolation,
    /// As last said to the others.
    past: Past,
}

impl Membership {
    /// A failure detector that probes at once. `boot` is another number for each process.
    pub fn new(
        node: u64,
        boot: u64,
        members: Arc<Members>,
        group: replica::Members,
        lineage: Lineage,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = clock::since_boot();
        let mut liveness = Liveness::new(node, boot, voting(&group), now);
        liveness.set_isolation_limit(members.isolation_limit);
        metrics.set_limit(Limit::Isolation, members.isolation_limit.as_secs());
        members.group.store(Arc::new(group));
        Self {
            led: 0,
            is_witness: members.is_witness(node),
            liveness,
            lineage,
            isolation: Isolation::new(members.clone(), metrics.clone()),
            members,
            metrics,
            past: Past::default(),
        }
    }

    /// A witness leads only while nobody else can. To be called once a tick of Raft.
    pub fn pass_leadership_on(&mut self, replica: &mut Replica) {
        if !self.is_witness || !replica.leadership().is_self {
            self.led = 0;
            return;
        }
        self.led += 1;
        if self.led >= WITNESS_LEAD_TICKS {
            self.led = 0;
            if let Some(to) = replica.pass_leadership_at_once(&self.members.unwilling_leaders()) {
                tracing::info!(to, "a witness passes the lead on");
            }
        }
    }

    /// The Raft group has other members.
    pub fn set_group(&mut self, now: Duration, group: replica::Members) {
        self.liveness.set_members(now, voting(&group));
        self.members.group.store(Arc::new(group));
        self.carry_out();
    }

    /// Takes what came from another member; Raft's messages are the replica's.
    pub fn handle(&mut self, now: Duration, from: FromPeer) {
        match from {
            // Of the replica and of the table's thread.
            FromPeer::Raft(_) | FromPeer::Superseded(_) => {}
            FromPeer::Probe(node, octets) => {
                if self.liveness.handle_message(now, node, &octets).is_err() {
                    self.metrics.count(Counter::ProbesMalformed);
                }
            }
            FromPeer::Gone(node) => self.liveness.handle_closed(now, node),
        }
        self.carry_out();
    }

    /// Probes who is due, and says which groups must go to somebody else, and whether the lead must. `incarnation` is that of
    /// this process.
    pub fn judge(&mut self, now: Duration, replica: &Replica, incarnation: u64) -> Judged {
        let leadership = replica.leadership();
        self.liveness.set_view(
            now,
            View {
                leader: leadership.leader.unwrap_or(0),
                term: leadership.term,
                applied: replica.table().applied(),
                last: replica.last_index(),
                incarnation,
            },
        );
        self.liveness.set_way(self.members.way());
        self.liveness.set_full(replica.reserve_in_use());
        self.liveness.handle_timeout(now);
        self.carry_out();
        self.publish();
        let forward_until = self.isolation.look(now, self.liveness.forward_until());
        if self.lineage != replica.lineage() {
            // The table came from the cluster that adds this node.
            self.lineage = replica.lineage();
            self.members.peers.set_lineage(self.lineage);
        }
        self.remember(past::of(replica));
        if !leadership.is_self {
            return Judged {
                forward_until,
                ..Judged::default()
            };
        }
        let groups: Vec<Group> = (0..=u8::MAX).map(|group| replica.table().group(group)).collect();
        let due = self
            .liveness
            .reassign(now, &groups, &self.members.witnesses.load());
        let assign = |reassign| self.assign(reassign, leadership.term);
        Judged {
            assigns: due.into_iter().map(assign).collect(),
            next_leader: self.next_leader(now, &groups, replica),
            forward_until,
        }
    }

    fn next_leader(&mut self, now: Duration, groups: &[Group], replica: &Replica) -> Option<u64> {
        let voters = replica.members().voters;
        let mut progress = replica.progress();
        progress.retain(|member| voters.contains(&member.id));
        let serves = |node| !self.members.is_witness(node);
        progress.sort_by_key(|member| {
            std::cmp::Reverse((serves(member.id), member.recently_active, member.matched))
        });
        let best: Vec<u64> = progress.into_iter().map(|member| member.id).collect();
        let next = self.liveness.pass_lead_to(now, groups, &best)?;
        tracing::warn!(to = next, "the disk is full: another node is to lead");
        Some(next)
    }

    fn assign(&self, reassign: Reassign, term: u64) -> Assign {
        let Reassign {
            from,
            incarnation,
            alive,
            steps_aside,
        } = reassign;
        if from != 0 {
            self.metrics.count(Counter::Takeovers);
            let why = match () {
                () if !steps_aside => "is down",
                () if self.liveness.full().contains(&from) => "has a full disk",
                () => "has lost its way to the LACs",
            };
            tracing::warn!(node = from, to = ?alive, "the groups of a node that {why} go to others");
        }
        Assign {
            from,
            incarnation,
            alive,
            term,
        }
    }

    /// An Assign was judged or lost. `applied` is the last log index that was applied then.
    pub fn assign_judged(&mut self, from: u64, applied: u64) {
        self.liveness.handle_verdict(from, applied);
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.liveness.poll_output() {
            match output {
                liveness::Output::Send { to, octets } => {
                    // A datagram that cannot be sent now is as good as lost; the next one follows.
                    let _ = self.members.peers.send_datagram(to, octets);
                }
                liveness::Output::Down(node) => tracing::warn!(node, "a member does not answer any more"),
                liveness::Output::Back(node) => tracing::info!(node, "a member answers"),
                liveness::Output::Lonely(lonely) => {
                    self.members.lonely.store(lonely, Relaxed);
                    log_lonely(lonely);
                }
            }
        }
    }

    /// Tells those who connect from now on.
    fn remember(&mut self, past: Past) {
        if self.past != past {
            self.past.clone_from(&past);
            self.members.peers.set_past(past);
        }
    }

    fn publish(&self) {
        let fresh = self.liveness.fresh_until().unwrap_or(Duration::MAX);
        let fresh = u64::try_from(fresh.as_millis()).unwrap_or(u64::MAX);
        // Whoever sees this also sees which groups have gone to others.
        self.members.fresh_until_ms.store(fresh, Release);
        self.members.applied.store(Arc::new(self.liveness.applied()));
        self.members.horizon.store(self.liveness.horizon(), Relaxed);
        note(&self.members.alive, self.liveness.alive().into_keys().collect());
        note(&self.members.wayless, self.liveness.wayless());
        note(&self.members.unfit, self.liveness.unfit());
        note(&self.members.full, self.liveness.full());
    }
}

/// Puts it in place of what was known, if that was something else.
fn note(known: &ArcSwap<BTreeSet<u64>>, now: BTreeSet<u64>) {
    if **known.load() != now {
        known.store(Arc::new(now));
    }
}

/// As the failure detector knows them.
fn voting(group: &replica::Members) -> liveness::Members {
    let set = |ids: &[u64]| ids.iter().copied().collect();
    liveness::Members {
        voters: set(&group.voters),
        outgoing: set(&group.outgoing),
        learners: set(&group.learners),
    }
}

fn log_lonely(lonely: bool) {
    if lonely {
        tracing::error!(
            "there is no quorum of the cluster: sessions go on, but nothing can be set up, closed or acknowledged"
        );
    } else {
        tracing::info!("there is a quorum of the cluster again");
    }
}
