//! The session table, the way to it, and the death and rebirth of the process.

use super::*;

impl World {
    pub(super) fn propose(&mut self, reply: Reply, command: impl Into<Command>) {
        let proposal = Proposal {
            reply,
            command: command.into(),
            process: self.process,
        };
        match self.way {
            Way::Open => self.schedule(COMMIT, Arrival::AtTable(Box::new(proposal))),
            Way::Held => self.held.push(proposal),
            Way::Cut => {}
        }
    }

    /// Lets held proposals go on, the oldest `count` of them.
    pub fn release(&mut self, count: usize) {
        let count = count.min(self.held.len());
        let released: Vec<_> = self.held.drain(..count).collect();
        for proposal in released {
            self.judge(proposal);
        }
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn apply(&mut self, command: impl Into<Command>) -> Verdict {
        self.index += 1;
        let batch = CommandBatch {
            commands: vec![command.into()],
            ..CommandBatch::default()
        };
        let mut effects = Vec::new();
        let verdicts = self.table.apply(self.index, batch, &mut effects);
        for effect in effects {
            self.on_effect(&effect);
        }
        verdicts.into_iter().next().expect("one verdict a command")
    }

    pub(super) fn on_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::TunnelChanged { tunnel, row } => {
                let peer = row.peer.as_ref().and_then(|peer| peer.to_std()).expect("a peer");
                let peer_tunnel = u16::try_from(row.peer_tunnel_id).ok().and_then(TunnelId::new);
                let key = (peer, peer_tunnel.expect("the LAC's id"));
                match row.state() {
                    TunnelState::HalfOpen | TunnelState::Established => {
                        let known = Known::of_row(*tunnel, row);
                        self.peers.entry(key).or_insert(known).note(known);
                    }
                    TunnelState::Closing | TunnelState::Closed => {
                        self.peers.retain(|_, known| known.tunnel != *tunnel);
                    }
                }
            }
            Effect::SessionReplaced { tunnel, session } => {
                let result = ResultCode::new(3);
                self.at_tunnel(*tunnel, |core, now| {
                    core.disconnect(now, *session, Cdn::new(result), terminate_cause::ADMIN_RESET);
                });
            }
            _ => {}
        }
    }

    pub(super) fn judge(&mut self, proposal: Proposal) {
        let verdict = self.apply(proposal.command);
        if proposal.process != self.process {
            return;
        }
        let refusal = match verdict {
            Verdict::Accepted { .. } => None,
            Verdict::Refused(refusal) => Some(refusal),
        };
        match proposal.reply {
            Reply::Change(tunnel, revision) => self.tell_verdict(tunnel, revision, refusal),
            Reply::Removal(tunnel) => {
                let refusal = refusal.map(|refusal| refusal.to_string());
                self.at_tunnel(tunnel, |core, now| core.handle_removal(now, refusal));
            }
            Reply::Birth(tunnel, key) => {
                if let (Some(key), Some(_)) = (key, &refusal) {
                    let earlier = self.peers.remove(&key).and_then(Known::withdrawn);
                    self.peers.extend(earlier.map(|earlier| (key, earlier)));
                }
                if refusal.is_none() {
                    self.bear(tunnel);
                }
            }
        }
    }

    pub fn tell_verdict(&mut self, tunnel: TunnelId, revision: u64, refusal: Option<Refusal>) {
        let refusal = refusal.map(|refusal| refusal.to_string());
        self.at_tunnel(tunnel, |core, now| core.handle_verdict(now, revision, refusal));
    }

    pub(super) fn bear(&mut self, id: TunnelId) {
        let Some(found) = self.table.tunnel(id) else {
            return;
        };
        let row = found.row().clone();
        let sessions: Vec<Arc<SessionRow>> = found.sessions().map(|(_, row)| row.clone()).collect();
        let birth = Birth {
            life: self.table.current_life(&row),
            row: &row,
            sessions: &sessions,
            seed: self.entropy.next_u64(),
            accounting_prefix: self.process,
            max_sessions: self.max_sessions,
        };
        let core = Tunnel::born(self.clocks(), self.settings.clone(), &birth);
        self.tunnels.insert(id, core);
        let superseded = self.peers.values().any(|known| known.has_replaced(id));
        self.at_tunnel(id, |core, now| {
            if superseded {
                core.abandon(now);
            }
        });
    }

    pub(super) fn dies_silently(&self) -> bool {
        self.crash
            .is_some_and(|crash| self.steps == crash.after && !crash.says_it)
    }

    /// An input has been handled: the moment at which the process may die.
    pub(super) fn step_done(&mut self) {
        let dies = self.crash.take_if(|crash| crash.after == self.steps);
        self.steps += 1;
        if let Some(crash) = dies {
            self.restart(crash.in_flight);
        }
    }

    /// The process dies and another one takes its place.
    pub fn restart(&mut self, in_flight: InFlight) {
        for tunnel in std::mem::take(&mut self.tunnels).into_keys() {
            self.timers.set(Timer::Tunnel(tunnel), None);
        }
        for (tunnel, session) in std::mem::take(&mut self.sessions).into_keys() {
            self.timers.set(Timer::Session(tunnel, session), None);
        }
        self.peers.clear();
        let waiting: Vec<_> = self
            .arrivals
            .iter()
            .filter(|(_, arrival)| matches!(arrival, Arrival::AtTable(_)))
            .map(|(number, _)| *number)
            .collect();
        self.process += 1;
        if !matches!(in_flight, InFlight::Late) {
            for number in waiting {
                let Some(Arrival::AtTable(proposal)) = self.arrivals.remove(&number) else {
                    continue;
                };
                if matches!(in_flight, InFlight::Judged) {
                    self.judge(*proposal);
                }
            }
        }
        self.process -= 1;
        self.start_process();
    }

    pub(super) fn start_process(&mut self) {
        self.process += 1;
        let take = Take {
            groups: (0..256).collect(),
            node: 1,
            incarnation: self.table.next_incarnation(1),
        };
        assert!(self.apply(take).is_accepted());
        let rows: Vec<_> = self
            .table
            .tunnels()
            .map(|(id, tunnel)| (id, tunnel.row().clone()))
            .collect();
        for (tunnel, row) in &rows {
            self.on_effect(&Effect::TunnelChanged {
                tunnel: *tunnel,
                row: row.clone(),
            });
        }
        for (tunnel, _) in rows {
            self.bear(tunnel);
        }
    }
}
