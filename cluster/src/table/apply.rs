//! Judging commands: lives of tunnels, table time. Ownership of groups is in `ownership`, changes of a tunnel in `change`.

use std::sync::Arc;

use holdfast_protocol::TunnelId;
use prost::Message;

use super::verdict::{Effect, Refusal, Verdict};
use super::{PeerKey, Table, Tunnel};
use crate::commands::command::Kind;
use crate::commands::{
    Acknowledge, Command, CommandBatch, CreateTunnel, Finalize, Raise, Reclaim, RemoveTunnel, Tick,
};
use crate::ids::tunnel_id;
use crate::limits::{
    COMMAND_VERSION, ID_REST_MS, PROPOSER_CHECKED_FROM, TABLE_TIME_JUMP_MAX_MS, TABLE_TIME_STEP_MS,
    TRAFFIC_FINAL_FROM, TUNNEL_ROW_OCTETS_MAX,
};
use crate::records::{TunnelRow, TunnelState};

impl Table {
    /// Judges the commands of the log entry `index`, in order. One verdict a command; effects are appended.
    pub fn apply(&mut self, index: u64, batch: CommandBatch, effects: &mut Vec<Effect>) -> Vec<Verdict> {
        let origin = batch.origin;
        let verdicts = batch
            .commands
            .into_iter()
            .map(|command| match self.judge(origin, command, effects) {
                Ok(()) => Verdict::Accepted { index },
                Err(refusal) => Verdict::Refused(refusal),
            })
            .collect();
        self.skip_to(index);
        verdicts
    }

    /// Notes a log entry that carries no commands.
    pub fn skip_to(&mut self, index: u64) {
        self.applied = self.applied.max(index);
    }

    fn judge(&mut self, origin: u64, command: Command, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        self.check_proposer(origin, &command)?;
        match command.kind {
            Some(Kind::Take(take)) => self.take(&take, effects),
            Some(Kind::Assign(assign)) => self.assign(&assign, effects),
            Some(Kind::Move(groups)) => self.move_groups(&groups, effects),
            Some(Kind::CreateTunnel(create)) => self.create_tunnel(create, effects),
            Some(Kind::ChangeTunnel(change)) => self.change_tunnel(change, effects),
            Some(Kind::Reclaim(reclaim)) => self.reclaim(&reclaim, effects),
            Some(Kind::RemoveTunnel(remove)) => self.remove_tunnel(&remove, effects),
            Some(Kind::Tick(tick)) => {
                self.tick(&tick);
                Ok(())
            }
            Some(Kind::Raise(raise)) => self.raise(&raise),
            Some(Kind::Acknowledge(acknowledge)) => {
                self.acknowledge(&acknowledge);
                Ok(())
            }
            Some(Kind::Finalize(finalize)) => self.finalize(finalize),
            None => Err(Refusal::Malformed("unknown command")),
        }
    }

    fn create_tunnel(&mut self, create: CreateTunnel, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Some(mut row) = create.row else {
            return Err(Refusal::Malformed("no row"));
        };
        let id = row.id().ok_or(Refusal::Malformed("no tunnel id"))?;
        self.check_epoch(id, create.life)?;
        if let Some(tunnel) = self.tunnels.get(&id) {
            return already_created(&tunnel.row, &row, create.life);
        }
        if let Some(&since) = self.resting.get(&id)
            && !id_rested(since, self.now_ms)
        {
            return Err(Refusal::IdResting(id.get()));
        }
        let key = peer_key(&row).ok_or(Refusal::Malformed("no peer"))?;
        check_new_row(&row)?;
        self.check_half_open(key)?;

        row.life = create.life;
        row.revision = 1;
        let row = Arc::new(row);
        let tunnel = Tunnel {
            row: Arc::clone(&row),
            sessions: Default::default(),
            resting: Default::default(),
        };
        if row.state() == TunnelState::HalfOpen {
            self.half_open.insert(key, id);
        }
        self.resting.remove(&id);
        self.tunnels.insert(id, Arc::new(tunnel));
        effects.push(Effect::TunnelChanged { tunnel: id, row });
        Ok(())
    }

    fn reclaim(&mut self, reclaim: &Reclaim, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let (id, tunnel) = self.find(reclaim.tunnel_id)?;
        self.check_epoch(id, reclaim.life)?;
        let current = self.current_life(&tunnel.row);
        if reclaim.life < current {
            return Err(Refusal::Deposed {
                life: reclaim.life,
                current,
            });
        }
        if reclaim.life == tunnel.row.life {
            return Ok(());
        }
        let tunnel = self.tunnel_mut(id);
        Arc::make_mut(&mut tunnel.row).life = reclaim.life;
        effects.push(Effect::TunnelChanged {
            tunnel: id,
            row: Arc::clone(&tunnel.row),
        });
        Ok(())
    }

    /// Only a tombstone whose time is over can go. One that is gone already was removed by the same command.
    fn remove_tunnel(&mut self, remove: &RemoveTunnel, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Some(id) = tunnel_id(remove.tunnel_id) else {
            return Err(Refusal::NoTunnel(remove.tunnel_id));
        };
        let Some(tunnel) = self.tunnels.get(&id) else {
            return Ok(());
        };
        self.check_life(&tunnel.row, remove.life)?;
        if tunnel.row.state() != TunnelState::Closed {
            return Err(Refusal::Malformed("the tunnel is not closed"));
        }
        let remaining_ms = tunnel.row.deadline_ms.saturating_sub(self.now_ms);
        if remaining_ms > 0 {
            return Err(Refusal::TooEarly { remaining_ms });
        }
        self.tunnels.remove(&id);
        self.resting.insert(id, self.now_ms);
        effects.push(Effect::TunnelRemoved { tunnel: id });
        Ok(())
    }

    fn tick(&mut self, tick: &Tick) {
        let step = tick
            .now_ms
            .saturating_sub(self.now_ms)
            .min(TABLE_TIME_JUMP_MAX_MS);
        self.now_ms += step;
        self.unix_s = tick.unix_s;
        let now_ms = self.now_ms;
        self.resting.retain(|_, since| !id_rested(*since, now_ms));
        // Here, once a step, and not with each change: a busy tunnel has thousands of resting ids.
        for tunnel in self.tunnels.values_mut() {
            if tunnel.resting.values().any(|since| id_rested(*since, now_ms)) {
                Arc::make_mut(tunnel)
                    .resting
                    .retain(|_, since| !id_rested(*since, now_ms));
            }
        }
    }

    /// The version never falls. One that this program does not know stops the replica before it comes here.
    fn raise(&mut self, raise: &Raise) -> Result<(), Refusal> {
        if raise.version > COMMAND_VERSION {
            return Err(Refusal::Malformed("a version that this program does not know"));
        }
        self.version = self.version.max(raise.version);
        Ok(())
    }

    fn acknowledge(&mut self, acknowledge: &Acknowledge) {
        for sequence in &acknowledge.sequences {
            self.outbox.records.remove(sequence);
        }
    }

    /// An older program knows the command not at all.
    fn finalize(&mut self, finalize: Finalize) -> Result<(), Refusal> {
        if self.version < TRAFFIC_FINAL_FROM {
            return Err(Refusal::Malformed("unknown command"));
        }
        for last in finalize.records {
            self.outbox.finalize(last);
        }
        Ok(())
    }

    pub(super) fn find(&self, tunnel: u32) -> Result<(TunnelId, &Tunnel), Refusal> {
        let id = tunnel_id(tunnel).ok_or(Refusal::NoTunnel(tunnel))?;
        let tunnel = self.tunnels.get(&id).ok_or(Refusal::NoTunnel(tunnel))?;
        Ok((id, tunnel))
    }

    /// A tunnel that was found before. Copied first where a snapshot still shares it.
    pub(super) fn tunnel_mut(&mut self, id: TunnelId) -> &mut Tunnel {
        Arc::make_mut(self.tunnels.get_mut(&id).expect("looked up by the caller"))
    }

    /// Tunnels are their owner's. Whoever proposes under a life knows whose it is: an epoch has one owner. So this refuses nobody
    /// who does as he should, and a life that was read off the table, not earned, is of no use to anybody else.
    fn check_proposer(&self, origin: u64, command: &Command) -> Result<(), Refusal> {
        let tunnel = match &command.kind {
            Some(Kind::CreateTunnel(create)) => create.row.as_ref().map_or(0, |row| row.tunnel_id),
            Some(Kind::ChangeTunnel(change)) => change.tunnel_id,
            Some(Kind::Reclaim(reclaim)) => reclaim.tunnel_id,
            Some(Kind::RemoveTunnel(remove)) => remove.tunnel_id,
            _ => return Ok(()),
        };
        // What has no sensible id is refused for that.
        let Some(id) = tunnel_id(tunnel).filter(|_| self.version >= PROPOSER_CHECKED_FROM) else {
            return Ok(());
        };
        let owner = self.group(id.group()).owner;
        match origin == owner {
            true => Ok(()),
            false => Err(Refusal::NotOwner { origin, owner }),
        }
    }

    /// The life belongs to the epoch of the tunnel's group.
    fn check_epoch(&self, id: TunnelId, life: u64) -> Result<(), Refusal> {
        let group = self.group(id.group());
        let current = crate::ids::first_life(group.epoch);
        match group.owner != 0 && life >> 32 == u64::from(group.epoch) {
            true => Ok(()),
            false => Err(Refusal::Deposed { life, current }),
        }
    }

    /// The life is the one that may change the row.
    pub(super) fn check_life(&self, row: &TunnelRow, life: u64) -> Result<(), Refusal> {
        let current = self.current_life(row);
        match life == current {
            true => Ok(()),
            false => Err(Refusal::Deposed { life, current }),
        }
    }

    pub(super) fn check_half_open(&self, key: PeerKey) -> Result<(), Refusal> {
        match self.half_open.get(&key) {
            Some(&tunnel) => Err(Refusal::HalfOpen {
                tunnel,
                owner: self.group(tunnel.group()).owner,
            }),
            None => Ok(()),
        }
    }
}

/// The same creation, come twice, is accepted; any other finds the id taken.
fn already_created(row: &TunnelRow, asked: &TunnelRow, life: u64) -> Result<(), Refusal> {
    let same = row.life == life
        && row.created_ms == asked.created_ms
        && row.peer_tunnel_id == asked.peer_tunnel_id
        && row.sccrq_hash == asked.sccrq_hash
        && row.challenge == asked.challenge;
    match (same, row.id()) {
        (true, _) => Ok(()),
        (false, Some(id)) => Err(Refusal::TunnelIdTaken(id)),
        (false, None) => Err(Refusal::Malformed("no tunnel id")),
    }
}

fn check_new_row(row: &TunnelRow) -> Result<(), Refusal> {
    if !matches!(row.state(), TunnelState::HalfOpen | TunnelState::Established) {
        return Err(Refusal::Malformed("a tunnel is not born closing"));
    }
    check_row_size(row)?;
    super::sequence::check(row)
}

/// Bounds the row but for its queued messages, which have bounds of their own.
pub(super) fn check_row_size(row: &TunnelRow) -> Result<(), Refusal> {
    let queued: usize = row
        .unacknowledged
        .iter()
        .map(|message| message.octets.len())
        .sum();
    match row
        .encoded_len()
        .saturating_sub(queued + 16 * row.unacknowledged.len())
        > TUNNEL_ROW_OCTETS_MAX
    {
        true => Err(Refusal::Full("octets of a tunnel row")),
        false => Ok(()),
    }
}

pub(super) fn peer_key(row: &TunnelRow) -> Option<PeerKey> {
    let peer = row.peer.as_ref()?.to_std()?;
    tunnel_id(row.peer_tunnel_id)?;
    Some((peer, row.peer_tunnel_id))
}

pub(super) fn id_rested(since_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) >= ID_REST_MS + TABLE_TIME_STEP_MS
}
