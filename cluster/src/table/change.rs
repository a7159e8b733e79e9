//! Judging a change of a tunnel: the revision gate, the tunnel's own fields, then its sessions (in `stage`).

use std::sync::Arc;

use super::Table;
use super::apply::{check_row_size, peer_key};
use super::stage::Stage;
use super::verdict::{Effect, Refusal};
use crate::commands::{ChangeTunnel, TunnelUpdate};
use crate::limits::SESSION_CHANGES_MAX;
use crate::records::{TunnelRow, TunnelState};

impl Table {
    /// All of the change is made, or nothing of it.
    ///
    /// The same life and a revision not above the row's is a resubmission of what was accepted: accepted again,
    /// without effect.
    pub(super) fn change_tunnel(
        &mut self,
        mut change: ChangeTunnel,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (id, tunnel) = self.find(change.tunnel_id)?;
        self.check_life(&tunnel.row, change.life)?;
        if change.revision <= tunnel.row.revision {
            return Ok(());
        }
        let before = Arc::clone(&tunnel.row);
        let row = Arc::new(self.successor(&before, &mut change)?);
        let mut stage = Stage::new(self, id, Arc::clone(&row));
        if let Err(refusal) = stage.run(change) {
            self.spans.rollback();
            return Err(refusal);
        }
        let staged = stage.finish();
        self.reindex_half_open(&before, &row);
        effects.push(Effect::TunnelChanged {
            tunnel: id,
            row: Arc::clone(&row),
        });
        self.commit(id, row, staged, effects);
        Ok(())
    }

    /// The row that follows, but for its sessions.
    fn successor(&self, before: &TunnelRow, change: &mut ChangeTunnel) -> Result<TunnelRow, Refusal> {
        let (revision, current) = (change.revision, before.revision);
        if revision.saturating_sub(current) > 1 {
            return Err(Refusal::RevisionGap { revision, current });
        }
        if change.sessions.len() > SESSION_CHANGES_MAX {
            return Err(Refusal::Full("session changes in one change"));
        }
        let mut row = before.clone();
        row.life = change.life;
        row.revision = revision;
        super::sequence::advance(&mut row, change)?;
        if let Some(update) = change.update.take() {
            self.update(&mut row, update)?;
        }
        Ok(row)
    }

    fn update(&self, row: &mut TunnelRow, update: TunnelUpdate) -> Result<(), Refusal> {
        if let Some(state) = update.state {
            if TunnelState::try_from(state).is_err() || state < row.state {
                return Err(Refusal::Malformed("the tunnel's state goes backwards"));
            }
            row.state = state;
        }
        if let Some(deadline_ms) = update.deadline_ms {
            row.deadline_ms = deadline_ms;
        }
        if let Some(reason) = update.close_reason {
            row.close_reason = Some(reason);
        }
        if let Some(window) = update.peer_window {
            row.peer_window = window;
        }
        if let Some(peer) = update.peer {
            let moved = row.peer.as_ref() != Some(&peer);
            row.peer = Some(peer);
            let key = peer_key(row).ok_or(Refusal::Malformed("no peer"))?;
            if moved && row.state() == TunnelState::HalfOpen {
                self.check_half_open(key)?;
            }
        }
        check_row_size(row)
    }

    fn reindex_half_open(&mut self, before: &TunnelRow, after: &TunnelRow) {
        if before.state() == TunnelState::HalfOpen
            && let Some(key) = peer_key(before)
        {
            self.half_open.remove(&key);
        }
        if after.state() == TunnelState::HalfOpen
            && let (Some(key), Some(id)) = (peer_key(after), after.id())
        {
            self.half_open.insert(key, id);
        }
    }
}
