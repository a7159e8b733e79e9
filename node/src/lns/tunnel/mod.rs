//! One tunnel as the LNS runs it: the protocol's control connection over a row of the session table.
//!
//! Pure. Inputs are control messages, verdicts of the table, requests of the tunnel's sessions and the passing of time; outputs
//! are [`Command`]s. After each input whatever changed becomes one [`ChangeTunnel`] with the tunnel's next revision, and what
//! acknowledges or advances the peer's state waits for its acceptance (design invariant 1).
//!
//! It does not run PPP (that is [`super::session`]) and knows neither users nor addresses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::commands::{ChangeTunnel, PutSession, RemoveSession, SessionChange, TunnelUpdate};
use holdfast_cluster::limits::{ID_REST_MS, SESSION_CHANGES_MAX, TABLE_TIME_STEP_MS, TOMBSTONE_MS};
use holdfast_cluster::records::{QueuedMessage, SessionRow, SessionState, TunnelRow, TunnelState};
use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::iana::call_result;
use holdfast_protocol::message::{Cdn, Iccn, Icrq};
use holdfast_protocol::{CloseReason, Connection, Event, Progress, SessionId, Settings, TunnelId};

use super::entropy::Entropy;
use super::proposals::Proposals;
use super::{Now, rows, terminate_cause};

#[cfg(test)]
mod tests;
mod under_way;
mod vocabulary;

use under_way::UnderWay;
pub use vocabulary::{CallRefusal, Command, Occurrence, SessionRequest};

/// Draws of a session id before the tunnel counts as full. With half of the ids in use, 64 draws fail once in 2^64.
const SESSION_ID_DRAWS: u32 = 64;

/// How long a freed session id rests; a little longer than the table asks for, whose clock runs in steps.
const SESSION_ID_REST: Duration = Duration::from_millis(ID_REST_MS + 2 * TABLE_TIME_STEP_MS);

/// What acceptance of a change sets free.
#[derive(Debug)]
struct Release {
    progress: Progress,
    effects: Vec<Command>,
}

/// The tunnel's own part of a row's life that the connection does not know.
#[derive(Debug)]
pub struct Birth<'a> {
    /// The committed row.
    pub row: &'a TunnelRow,
    /// The rows of its sessions.
    pub sessions: &'a [Arc<SessionRow>],
    /// The life under which this actor acts.
    pub life: u64,
    /// Seed of the session ids.
    pub seed: u64,
    /// Prefix of the accounting ids, unique to this process.
    pub accounting_prefix: u64,
    /// The most sessions that the tunnel may have.
    pub max_sessions: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Tunnel {
    id: TunnelId,
    life: u64,
    connection: Connection,
    state: TunnelState,
    /// Table time; a tombstone's end.
    deadline_ms: u64,
    proposed: Progress,
    proposals: Proposals<Arc<ChangeTunnel>, Release>,
    changes: VecDeque<SessionChange>,
    held: Vec<Command>,
    /// Rows of calls that wait for their ICCN.
    waiting: BTreeMap<SessionId, SessionRow>,
    /// Every session that the table has or is about to have.
    sessions: BTreeSet<SessionId>,
    under_way: UnderWay,
    /// Ids that were freed lately, with the time from which they may be drawn again.
    resting: BTreeMap<SessionId, Duration>,
    /// The LAC has forgotten this tunnel: nothing is said any more.
    abandoned: bool,
    heard: bool,
    max_sessions: usize,
    entropy: Entropy,
    accounting_prefix: u64,
    removal_at: Option<Duration>,
    /// Why no new calls are taken, if none are.
    calls_refused: Option<CallRefusal>,
    /// The Ns after the last message that was sent.
    next_to_send: u16,
    terminate_cause: u32,
    /// Sessions whose link is being ended, and why.
    ending: BTreeMap<SessionId, u32>,
    close_reason: Option<CloseReason>,
    commands: VecDeque<Command>,
}

impl Tunnel {
    /// Born from its row: unacknowledged messages are due at once, connected sessions start at once.
    pub fn born(now: Now, settings: Settings, birth: &Birth<'_>) -> Self {
        let id = birth.row.id().expect("a row in the table has a tunnel id");
        let connect_timeout = settings.connect_timeout;
        let snapshot = rows::snapshot(birth.row, birth.sessions, now, connect_timeout);
        let connection = Connection::restore(settings, now.monotonic, &snapshot);
        let mut tunnel = Self {
            id,
            life: birth.life,
            proposed: connection.progress(),
            connection,
            state: birth.row.state(),
            deadline_ms: birth.row.deadline_ms,
            proposals: Proposals::new(birth.row.revision),
            changes: VecDeque::new(),
            held: Vec::new(),
            waiting: BTreeMap::new(),
            sessions: BTreeSet::new(),
            under_way: UnderWay::default(),
            resting: BTreeMap::new(),
            // A tombstone whose time is over has nobody to talk to; perhaps its LAC has restarted and forgotten it.
            abandoned: birth.row.state() == TunnelState::Closed && birth.row.deadline_ms <= now.table_ms,
            heard: false,
            max_sessions: birth.max_sessions,
            entropy: Entropy::new(birth.seed),
            accounting_prefix: birth.accounting_prefix,
            removal_at: None,
            calls_refused: None,
            next_to_send: birth.row.ns as u16,
            terminate_cause: terminate_cause::LOST_CARRIER,
            ending: BTreeMap::new(),
            close_reason: None,
            commands: VecDeque::new(),
        };
        tunnel.adopt_sessions(birth.sessions);
        tunnel.schedule_removal(now);
        tunnel.settle(now);
        tunnel
    }

    fn adopt_sessions(&mut self, sessions: &[Arc<SessionRow>]) {
        for row in sessions {
            let session = row.id().expect("a row in the table has a session id");
            self.sessions.insert(session);
            self.under_way.adopt(session, row);
            match row.state() {
                SessionState::WaitConnect => {
                    self.waiting.insert(session, SessionRow::clone(row));
                }
                SessionState::Connected => {
                    self.commands.push_back(Command::StartSession {
                        session,
                        row: row.clone(),
                        proxy: None,
                    });
                }
            }
        }
    }

    /// Our id.
    pub fn id(&self) -> TunnelId {
        self.id
    }

    /// The life under which this actor's changes are accepted.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// The state that the table has or is about to have.
    pub fn state(&self) -> TunnelState {
        self.state
    }

    /// Says before an input whether new calls are taken.
    pub fn refuse_calls(&mut self, why: Option<CallRefusal>) {
        self.calls_refused = why;
    }

    /// Takes over settings that may change while the tunnel lives.
    pub fn set_max_sessions(&mut self, max_sessions: usize) {
        self.max_sessions = max_sessions;
    }

    /// Session ids that the table does not give out yet, with the table time of their release.
    pub fn rest_ids(&mut self, now: Now, resting: &[(SessionId, u64)]) {
        let until = |since_ms: u64| {
            let gone = Duration::from_millis(now.table_ms.saturating_sub(since_ms));
            now.monotonic + SESSION_ID_REST.saturating_sub(gone)
        };
        let resting = resting
            .iter()
            .map(|(session, since_ms)| (*session, until(*since_ms)));
        self.resting.extend(resting);
    }

    /// A control message for this tunnel, whose source has been checked.
    pub fn handle_input(&mut self, now: Now, datagram: &[u8]) {
        self.count(Occurrence::ControlReceived);
        if self.is_repeat(datagram) {
            self.count(Occurrence::ControlDuplicate);
        }
        if self.abandoned || self.connection.handle_input(now.monotonic, datagram).is_err() {
            self.count(Occurrence::ControlDropped);
        }
        self.settle(now);
    }

    /// Data came through the tunnel at `at`: the peer is alive.
    pub fn note_received(&mut self, at: Duration) {
        self.connection.note_received(at);
    }

    /// The table's answer to the change of `revision`.
    pub fn handle_verdict(&mut self, now: Now, revision: u64, refusal: Option<String>) {
        if let Some(refusal) = refusal {
            self.commands.push_back(Command::Rebirth(refusal));
            return;
        }
        while let Some(accepted) = self.proposals.pop_accepted(now.monotonic, revision) {
            self.connection.accept(now.monotonic, accepted.on_accept.progress);
            self.commands.extend(accepted.on_accept.effects);
        }
        self.settle(now);
    }

    /// How long the table last took to accept a change, as far as this tunnel knows.
    pub fn table_took(&self) -> Duration {
        self.proposals.table_took()
    }

    /// It took another tunnel so long just now: what is proposed from here on is not repeated sooner.
    pub fn set_table_took(&mut self, took: Duration) {
        self.proposals.set_table_took(took);
    }

    /// The table's answer to [`Command::ProposeRemoval`].
    pub fn handle_removal(&mut self, now: Now, refusal: Option<String>) {
        match refusal {
            None => self.commands.push_back(Command::Finished),
            // Table time runs a step behind ours: ask again.
            Some(_) => self.removal_at = Some(now.monotonic + Duration::from_secs(1)),
        }
    }

    /// A request of one of the sessions.
    pub fn handle_request(&mut self, now: Now, session: SessionId, request: SessionRequest) {
        if !self.sessions.contains(&session) {
            return;
        }
        match request {
            SessionRequest::Put {
                serial,
                row,
                replaces,
            } => {
                self.under_way.put(session, &row);
                self.changes.push_back(
                    PutSession {
                        row: Some(*row),
                        replaces,
                    }
                    .into(),
                );
                self.held.push(Command::SessionAccepted { session, serial });
            }
            SessionRequest::Ending { terminate_cause } => {
                self.ending.entry(session).or_insert(terminate_cause);
            }
            SessionRequest::End { cdn, terminate_cause } => {
                // A full queue keeps the CDN back; the LAC clears the call when its own timers run out.
                let _ = self.connection.close_call(now.monotonic, session, cdn);
                self.forget_session(now, session, terminate_cause);
            }
        }
        self.settle(now);
    }

    /// Clears one call for a reason of ours.
    pub fn disconnect(&mut self, now: Now, session: SessionId, cdn: Cdn, terminate_cause: u32) {
        self.handle_request(now, session, SessionRequest::End { cdn, terminate_cause });
    }

    /// Closes the tunnel and with it its sessions.
    pub fn close(&mut self, now: Now, result: ResultCode, terminate_cause: u32) {
        self.terminate_cause = terminate_cause;
        self.connection.close(now.monotonic, result);
        self.settle(now);
    }

    /// Ends the tunnel without a word to the peer: a restarted LAC uses the same ids for its new tunnel, and anything we
    /// said for the old one would hit the new one.
    pub fn abandon(&mut self, now: Now) {
        if !self.abandoned && self.state != TunnelState::Closed {
            self.abandoned = true;
            self.drop_sessions();
            self.held.push(Command::Closed(CloseReason::NoAnswer));
            self.settle(now);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now) {
        if !self.abandoned {
            self.connection.handle_timeout(now.monotonic);
        }
        self.resting.retain(|_, rested| *rested > now.monotonic);
        let again: Vec<_> = self
            .proposals
            .due(now.monotonic)
            .map(|p| p.change.clone())
            .collect();
        self.commands.extend(again.into_iter().map(Command::Propose));
        if self.removal_at.is_some_and(|at| at <= now.monotonic) {
            self.removal_at = Some(now.monotonic + Duration::from_secs(5));
            self.commands.push_back(Command::ProposeRemoval);
        }
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let connection = if self.abandoned {
            None
        } else {
            self.connection.poll_timeout()
        };
        [connection, self.proposals.poll_timeout(), self.removal_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Turns what the input left behind into events, at most a few changes, and datagrams that may leave.
    fn settle(&mut self, now: Now) {
        while let Some(event) = self.connection.poll_event() {
            self.on_event(now, event);
        }
        self.propose(now);
        if self.abandoned {
            return;
        }
        while let Some(datagram) = self.connection.poll_transmit(now.monotonic) {
            self.transmit(datagram);
        }
        let progress = self.connection.progress();
        if self.state == TunnelState::Closing && !self.heard && progress.acknowledged == progress.queued {
            self.heard = true;
            self.commands.push_back(Command::Heard);
        }
    }

    fn on_event(&mut self, now: Now, event: Event) {
        match event {
            Event::Established => self.held.push(Command::Established),
            Event::CallRequested { peer, icrq } => self.on_call_requested(now, peer, &icrq),
            Event::CallConnected { local, iccn } => self.on_call_connected(local, &iccn),
            Event::CallClosed {
                local: Some(session),
                reason,
                ..
            } => {
                if self.waiting.contains_key(&session) {
                    self.count(Occurrence::CallAbandoned);
                }
                let ending = self.ending.get(&session).copied();
                let cause = terminate_cause::of_call(&reason, ending);
                self.forget_session(now, session, cause);
            }
            Event::Closed(reason) => {
                self.terminate_cause = terminate_cause::of_tunnel(&reason, self.terminate_cause);
                self.close_reason = Some(reason.clone());
                self.drop_sessions();
                self.held.push(Command::Closed(reason));
            }
            Event::Fault(_) => self.count(Occurrence::Fault),
            // What the row needs of these is in the connection's state; the rest is a LAC's.
            Event::Finished
            | Event::CallClosed { local: None, .. }
            | Event::CallAnswered { .. }
            | Event::WanErrors { .. }
            | Event::SetLinkInfo { .. } => {}
        }
    }

    /// The table removes the sessions together with the tunnel's state.
    fn drop_sessions(&mut self) {
        for session in std::mem::take(&mut self.sessions) {
            self.held.push(Command::StopSession(session));
        }
        self.waiting.clear();
        self.ending.clear();
        self.under_way.forget_all();
        self.changes.clear();
    }

    fn on_call_requested(&mut self, now: Now, peer: SessionId, icrq: &Icrq) {
        self.count(Occurrence::CallReceived);
        let full = (self.sessions.len() >= self.max_sessions).then_some(CallRefusal::TunnelSessions);
        if let Some(why) = self.calls_refused.or(full) {
            return self.refuse_call(now, peer, why);
        }
        let session = self.draw_session_id();
        let accepted =
            session.filter(|session| self.connection.accept_call(now.monotonic, peer, *session).is_ok());
        let Some(session) = accepted else {
            return self.refuse_call(now, peer, CallRefusal::NoSessionId);
        };
        let row = rows::session_from_icrq(self.id, session, icrq, self.accounting_id(), now.table_ms);
        self.sessions.insert(session);
        self.waiting.insert(session, row.clone());
        self.changes.push_back(
            PutSession {
                row: Some(row),
                replaces: None,
            }
            .into(),
        );
    }

    fn refuse_call(&mut self, now: Now, peer: SessionId, why: CallRefusal) {
        let (code, text) = why.answer();
        let cdn = Cdn::new(ResultCode::with_error(call_result::GENERAL_ERROR, code, text));
        // A full queue keeps the CDN back; the LAC clears the call when its own timers run out.
        let _ = self.connection.reject_call(now.monotonic, peer, cdn);
        self.count(Occurrence::CallRefused(why));
    }

    fn count(&mut self, occurrence: Occurrence) {
        self.commands.push_back(Command::Count(occurrence));
    }

    /// Whether a control message with a body has an Ns from before the one we expect.
    fn is_repeat(&self, datagram: &[u8]) -> bool {
        let behind = |ns: u16| ns.wrapping_sub(self.connection.progress().received) >= 0x8000;
        control_ns(datagram).is_some_and(behind)
    }

    fn transmit(&mut self, datagram: Vec<u8>) {
        if let Some(ns) = control_ns(&datagram) {
            let repeated = ns.wrapping_sub(self.next_to_send) >= 0x8000;
            if repeated {
                self.count(Occurrence::ControlRetransmitted);
            } else {
                self.next_to_send = ns.wrapping_add(1);
            }
            if self.is_held_back(&datagram, repeated) {
                return self.count(Occurrence::CallHeld);
            }
        }
        self.commands.push_back(Command::Transmit(datagram));
    }

    /// A free id, drawn at random: unpredictable, and late data of an old session finds no new one.
    fn draw_session_id(&mut self) -> Option<SessionId> {
        (0..SESSION_ID_DRAWS)
            .filter_map(|_| SessionId::new(self.entropy.next_u16()))
            .find(|id| !self.sessions.contains(id) && !self.resting.contains_key(id))
    }

    fn accounting_id(&mut self) -> String {
        format!(
            "{:08x}{:016x}",
            self.accounting_prefix as u32,
            self.entropy.next_u64()
        )
    }

    fn on_call_connected(&mut self, session: SessionId, iccn: &Iccn) {
        let Some(mut row) = self.waiting.remove(&session) else {
            return;
        };
        rows::add_iccn(&mut row, iccn);
        self.under_way.put(session, &row);
        let proxy = (!iccn.proxy.is_empty()).then(|| Box::new(iccn.proxy.clone()));
        self.changes.push_back(
            PutSession {
                row: Some(row.clone()),
                replaces: None,
            }
            .into(),
        );
        self.held.push(Command::StartSession {
            session,
            row: Arc::new(row),
            proxy,
        });
    }

    fn forget_session(&mut self, now: Now, session: SessionId, terminate_cause: u32) {
        self.ending.remove(&session);
        if self.sessions.remove(&session) {
            self.resting.insert(session, now.monotonic + SESSION_ID_REST);
            self.waiting.remove(&session);
            self.under_way.forget(session);
            let session_id = u32::from(session.get());
            self.changes.push_back(
                RemoveSession {
                    session_id,
                    terminate_cause,
                }
                .into(),
            );
            self.held.push(Command::StopSession(session));
        }
    }

    /// One change for all that has happened since the last one. If more sessions changed than one may carry there are several,
    /// and the last one brings what the peer sees: Nr, our messages, and all that waits for acceptance.
    fn propose(&mut self, now: Now) {
        while self.has_changed() {
            let last = self.changes.len() <= SESSION_CHANGES_MAX;
            let progress = if last {
                self.connection.progress()
            } else {
                self.proposed
            };
            let change = Arc::new(self.next_change(now, progress));
            let release = Release {
                progress,
                effects: if last {
                    std::mem::take(&mut self.held)
                } else {
                    Vec::new()
                },
            };
            self.proposed = progress;
            self.proposals.push(now.monotonic, change.clone(), release);
            self.commands.push_back(Command::Propose(change));
        }
    }

    fn has_changed(&self) -> bool {
        let progress = self.connection.progress();
        progress.received != self.proposed.received
            || progress.queued != self.proposed.queued
            || !self.changes.is_empty()
            || self.state_now() != self.state
    }

    fn state_now(&self) -> TunnelState {
        if self.abandoned {
            TunnelState::Closed
        } else {
            rows::tunnel_state(self.connection.state())
        }
    }

    fn next_change(&mut self, now: Now, progress: Progress) -> ChangeTunnel {
        let new = usize::from(progress.queued.wrapping_sub(self.proposed.queued));
        let messages = self
            .connection
            .messages_from(self.proposed.queued)
            .take(new)
            .map(|(ns, octets)| QueuedMessage {
                ns: u32::from(ns),
                octets: octets.to_vec(),
            })
            .collect();
        let sessions: Vec<_> = {
            let count = self.changes.len().min(SESSION_CHANGES_MAX);
            self.changes.drain(..count).collect()
        };
        ChangeTunnel {
            tunnel_id: u32::from(self.id.get()),
            life: self.life,
            revision: self.proposals.next_revision(),
            received: (progress.received != self.proposed.received).then_some(u32::from(progress.received)),
            acknowledged: (progress.acknowledged != self.proposed.acknowledged)
                .then_some(u32::from(progress.acknowledged)),
            messages,
            update: self.update(now),
            sessions,
            terminate_cause: self.terminate_cause,
        }
    }

    /// The change of state, if there is one.
    fn update(&mut self, now: Now) -> Option<TunnelUpdate> {
        let state = self.state_now();
        if state == self.state {
            return None;
        }
        self.state = state;
        // A tombstone goes on acknowledging; without a peer, or with one that has forgotten the tunnel, there is nothing
        // to acknowledge.
        let mourned = !self.abandoned && !self.connection.is_finished();
        self.deadline_ms = match state {
            TunnelState::HalfOpen | TunnelState::Established => 0,
            TunnelState::Closing | TunnelState::Closed if mourned => now.table_ms + TOMBSTONE_MS,
            TunnelState::Closing | TunnelState::Closed => now.table_ms,
        };
        self.schedule_removal(now);
        Some(TunnelUpdate {
            state: Some(state.into()),
            deadline_ms: Some(self.deadline_ms),
            close_reason: self.close_reason.take().map(|reason| rows::close_reason(&reason)),
            ..TunnelUpdate::default()
        })
    }

    fn schedule_removal(&mut self, now: Now) {
        if self.state == TunnelState::Closed {
            let left = Duration::from_millis(self.deadline_ms.saturating_sub(now.table_ms));
            self.removal_at = Some(now.monotonic + left);
        }
    }
}

/// The Ns of a control message with a body; a ZLB has none of its own.
fn control_ns(datagram: &[u8]) -> Option<u16> {
    let body_begins = 12;
    let ns = datagram.get(8..10).filter(|_| datagram.len() > body_begins)?;
    Some(u16::from_be_bytes([ns[0], ns[1]]))
}
