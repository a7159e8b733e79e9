//! The session part of a change, worked out beside the table and then put into it whole.
//!
//! Sessions are changed in an overlay; addresses are changed in place, with a journal that can be rolled back.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_protocol::{SessionId, TunnelId};
use prost::Message;

use super::apply::id_rested;
use super::outbox::Event;
use super::spans::{Holder, Span};
use super::verdict::{AddressRefusal, Effect, Refusal};
use super::{Session, Table};
use crate::commands::session_change::Change;
use crate::commands::{ChangeTunnel, PutSession, RemoveSession, SessionKey};
use crate::ids::{session_id, tunnel_id};
use crate::limits::{
    ADDRESSES_PER_SESSION_MAX, REPLACE_ANY_FROM, SESSION_ROW_OCTETS_MAX, SESSIONS_MAX, TRAFFIC_FINAL_FROM,
};
use crate::records::{AccountingKind, SessionRow, SessionState, TunnelRow, TunnelState};

/// Acct-Terminate-Cause "Port Preempted" (RFC 2866 §5.10).
const CAUSE_PORT_PREEMPTED: u32 = 13;

/// A session cluster-wide, with `None` for one that is gone.
type Overlay = BTreeMap<(TunnelId, SessionId), Option<Session>>;

/// What is to be put into the table.
pub(super) struct Staged {
    overlay: Overlay,
    events: Vec<(TunnelId, Event)>,
    effects: Vec<Effect>,
}

/// A change being worked out.
pub(super) struct Stage<'a> {
    table: &'a mut Table,
    tunnel: TunnelId,
    /// The tunnel as the change leaves it.
    row: Arc<TunnelRow>,
    added: usize,
    staged: Staged,
}

impl<'a> Stage<'a> {
    pub(super) fn new(table: &'a mut Table, tunnel: TunnelId, row: Arc<TunnelRow>) -> Self {
        let staged = Staged {
            overlay: Overlay::new(),
            events: Vec::new(),
            effects: Vec::new(),
        };
        Self {
            table,
            tunnel,
            row,
            added: 0,
            staged,
        }
    }

    /// Works out all session changes in order. After an error the caller rolls the addresses back.
    pub(super) fn run(&mut self, change: ChangeTunnel) -> Result<(), Refusal> {
        for session in change.sessions {
            match session.change {
                Some(Change::Put(put)) => self.put(put)?,
                Some(Change::Remove(remove)) => self.remove(&remove)?,
                None => return Err(Refusal::Malformed("unknown session change")),
            }
        }
        if matches!(self.row.state(), TunnelState::Closing | TunnelState::Closed) {
            self.remove_all(change.terminate_cause);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Staged {
        self.staged
    }

    fn put(&mut self, put: PutSession) -> Result<(), Refusal> {
        let mut row = put.row.ok_or(Refusal::Malformed("no session row"))?;
        let id = row.id().ok_or(Refusal::Malformed("no session id"))?;
        if self.row.state() != TunnelState::Established {
            return Err(Refusal::NotEstablished);
        }
        check_row(&row)?;
        let before = self.get(self.tunnel, id).cloned();
        match &before {
            Some(before) => check_successor(before, &row)?,
            None => self.check_new(id)?,
        }
        if let Some(key) = put.replaces {
            self.replace(&key, id, &row)?;
        }
        self.move_addresses(id, before.as_ref().map(|session| &*session.row), Some(&row))?;

        row.shrink();
        let row = Arc::new(row);
        let before_open = before.as_ref().is_some_and(|session| session.row.is_open());
        let replaced = before.as_ref().is_some_and(|session| session.replaced);
        let accounted = self.account(before.and_then(|session| session.accounted), &row);
        self.staged.effects.push(Effect::SessionChanged {
            tunnel: self.tunnel,
            session: id,
            row: Arc::clone(&row),
            before_open,
            after_open: row.is_open(),
        });
        let after = Session {
            row,
            accounted,
            replaced,
        };
        self.staged.overlay.insert((self.tunnel, id), Some(after));
        Ok(())
    }

    /// A removal that comes twice in different revisions is the proposer's mistake.
    fn remove(&mut self, remove: &RemoveSession) -> Result<(), Refusal> {
        let gone = Refusal::NoSession(remove.session_id);
        let id = session_id(remove.session_id).ok_or(gone.clone())?;
        let before = self.get(self.tunnel, id).cloned().ok_or(gone)?;
        self.drop_session(id, before, remove.terminate_cause);
        Ok(())
    }

    /// The sessions of a tunnel go with it (RFC 2661 §5.7).
    fn remove_all(&mut self, terminate_cause: u32) {
        let staged = self
            .staged
            .overlay
            .keys()
            .filter(|(tunnel, _)| *tunnel == self.tunnel);
        let mut ids: Vec<SessionId> = staged.map(|(_, id)| *id).collect();
        if let Some(tunnel) = self.table.tunnels.get(&self.tunnel) {
            ids.extend(tunnel.sessions.keys());
        }
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            if let Some(before) = self.get(self.tunnel, id).cloned() {
                self.drop_session(id, before, terminate_cause);
            }
        }
    }

    fn drop_session(&mut self, id: SessionId, before: Session, terminate_cause: u32) {
        let released = self.move_addresses(id, Some(&before.row), None);
        debug_assert!(released.is_ok(), "releasing never fails");
        self.stop(self.tunnel, before.accounted, terminate_cause);
        let row = before.row;
        self.staged.effects.push(Effect::SessionRemoved {
            tunnel: self.tunnel,
            session: id,
            row,
        });
        self.staged.overlay.insert((self.tunnel, id), None);
    }

    /// Takes addresses and PPP state from a stale session of the same user, or of anybody if the key says so, in whatever tunnel it is. Its own
    /// owner learns it as an effect and removes it. One that is gone already needs nothing.
    fn replace(&mut self, key: &SessionKey, by: SessionId, row: &SessionRow) -> Result<(), Refusal> {
        let (Some(tunnel), Some(session)) = (tunnel_id(key.tunnel_id), session_id(key.session_id)) else {
            return Err(Refusal::Malformed("no session to be replaced"));
        };
        if (tunnel, session) == (self.tunnel, by) {
            return Err(Refusal::Malformed("a session does not replace itself"));
        }
        let Some(stale) = self.get(tunnel, session).cloned() else {
            return Ok(());
        };
        if stale.row.ppp.is_none() {
            return Ok(());
        }
        let any_user = key.any_user && self.table.version >= REPLACE_ANY_FROM;
        if row.user().is_none() || (stale.row.user() != row.user() && !any_user) {
            return Err(Refusal::Address {
                session: by,
                why: AddressRefusal::OtherUser,
            });
        }
        let holder = Holder { tunnel, session };
        let taken = spans_of(row)?;
        for span in spans_of(&stale.row)? {
            // What goes on at once does not rest for its former user.
            let user = match taken.contains(&span) {
                true => row.user(),
                false => stale.row.user(),
            };
            self.table.spans.release(span, holder, user, self.table.now_ms);
        }
        self.stop(tunnel, stale.accounted, CAUSE_PORT_PREEMPTED);
        let after = Arc::new(SessionRow {
            ppp: None,
            ..SessionRow::clone(&stale.row)
        });
        self.staged.effects.push(Effect::SessionChanged {
            tunnel,
            session,
            row: Arc::clone(&after),
            before_open: stale.row.is_open(),
            after_open: false,
        });
        self.staged
            .effects
            .push(Effect::SessionReplaced { tunnel, session });
        let after = Session {
            row: after,
            accounted: None,
            replaced: true,
        };
        self.staged.overlay.insert((tunnel, session), Some(after));
        Ok(())
    }

    /// Releases what the row no longer has, takes what it has anew.
    fn move_addresses(
        &mut self,
        id: SessionId,
        before: Option<&SessionRow>,
        after: Option<&SessionRow>,
    ) -> Result<(), Refusal> {
        let holder = Holder {
            tunnel: self.tunnel,
            session: id,
        };
        let old = before.map_or(Ok(Vec::new()), spans_of)?;
        let new = after.map_or(Ok(Vec::new()), spans_of)?;
        let now_ms = self.table.now_ms;
        for span in old.iter().filter(|span| !new.contains(span)) {
            let user = before.and_then(SessionRow::user);
            self.table.spans.release(*span, holder, user, now_ms);
        }
        for span in new.iter().filter(|span| !old.contains(span)) {
            let user = after.and_then(SessionRow::user);
            let taken = self.table.spans.take(*span, holder, user, now_ms);
            taken.map_err(|why| Refusal::Address { session: id, why })?;
        }
        Ok(())
    }

    /// A Start is owed when a session opens for the first time, a Stop when it ends, and both when it opens
    /// under another accounting id. Renegotiation in between owes nothing.
    fn account(
        &mut self,
        accounted: Option<Arc<SessionRow>>,
        row: &Arc<SessionRow>,
    ) -> Option<Arc<SessionRow>> {
        const CAUSE_USER_REQUEST: u32 = 1;
        if !row.is_open() {
            return accounted;
        }
        match accounted {
            Some(old) if old.acct_session_id == row.acct_session_id => return Some(Arc::clone(row)),
            old => self.stop(self.tunnel, old, CAUSE_USER_REQUEST),
        }
        let session = Arc::clone(row);
        let event = Event {
            kind: AccountingKind::Start,
            session,
            terminate_cause: 0,
        };
        self.staged.events.push((self.tunnel, event));
        Some(Arc::clone(row))
    }

    fn stop(&mut self, tunnel: TunnelId, accounted: Option<Arc<SessionRow>>, terminate_cause: u32) {
        if let Some(session) = accounted {
            let event = Event {
                kind: AccountingKind::Stop,
                session,
                terminate_cause,
            };
            self.staged.events.push((tunnel, event));
        }
    }

    fn check_new(&mut self, id: SessionId) -> Result<(), Refusal> {
        let tunnel = self.table.tunnels.get(&self.tunnel);
        if let Some(&since) = tunnel.and_then(|tunnel| tunnel.resting.get(&id))
            && !id_rested(since, self.table.now_ms)
        {
            return Err(Refusal::IdResting(id.get()));
        }
        if self.staged.overlay.contains_key(&(self.tunnel, id)) {
            return Err(Refusal::IdResting(id.get()));
        }
        if self.table.session_count + self.added >= SESSIONS_MAX {
            return Err(Refusal::Full("sessions"));
        }
        self.added += 1;
        Ok(())
    }

    fn get(&self, tunnel: TunnelId, session: SessionId) -> Option<&Session> {
        match self.staged.overlay.get(&(tunnel, session)) {
            Some(staged) => staged.as_ref(),
            None => self.table.tunnels.get(&tunnel)?.sessions.get(&session),
        }
    }
}

fn check_row(row: &SessionRow) -> Result<(), Refusal> {
    if SessionState::try_from(row.state).is_err() {
        return Err(Refusal::Malformed("unknown session state"));
    }
    if row.encoded_len() > SESSION_ROW_OCTETS_MAX {
        return Err(Refusal::Full("octets of a session row"));
    }
    Ok(())
}

/// What a row may not do to the one that it follows.
fn check_successor(before: &Session, row: &SessionRow) -> Result<(), Refusal> {
    if before.replaced && row.ppp.is_some() {
        return Err(Refusal::Replaced);
    }
    if row.state < before.row.state {
        return Err(Refusal::Malformed("the session's state goes backwards"));
    }
    Ok(())
}

fn spans_of(row: &SessionRow) -> Result<Vec<Span>, Refusal> {
    let Some(ppp) = &row.ppp else {
        return Ok(Vec::new());
    };
    if ppp.addresses.len() > ADDRESSES_PER_SESSION_MAX {
        return Err(Refusal::Full("addresses of a session"));
    }
    let spans = ppp.addresses.iter().map(Span::of).collect::<Option<Vec<Span>>>();
    spans.ok_or(Refusal::Malformed("not an address or a prefix"))
}

impl Table {
    /// Puts a worked-out change into the table.
    pub(super) fn commit(
        &mut self,
        id: TunnelId,
        row: Arc<TunnelRow>,
        staged: Staged,
        effects: &mut Vec<Effect>,
    ) {
        let now_ms = self.now_ms;
        self.spans.commit();
        self.tunnel_mut(id).row = row;
        for ((tunnel, session), after) in staged.overlay {
            let entry = self.tunnel_mut(tunnel);
            let count_before = entry.sessions.len();
            match after {
                Some(after) => {
                    entry.sessions.insert(session, after);
                }
                None => {
                    entry.sessions.remove(&session);
                    entry.resting.insert(session, now_ms);
                }
            }
            let count_after = entry.sessions.len();
            self.session_count = self.session_count + count_after - count_before;
        }
        effects.extend(staged.effects);
        for (tunnel, event) in staged.events {
            let row = Arc::clone(&self.tunnels[&tunnel].row);
            let local = row.local.clone().filter(|_| self.version >= TRAFFIC_FINAL_FROM);
            let sequence = self
                .outbox
                .push(event, tunnel, &row, local, (now_ms, self.unix_s));
            effects.push(Effect::AccountingOwed { sequence });
        }
    }
}
