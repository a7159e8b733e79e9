//! The calls of a tunnel: the owner's verbs, and what the peer's messages mean for them (RFC 2661 §7.4).

use std::time::Duration;

use super::event::{CallEnd, CallError};
use super::state::State;
use super::{Connection, Event};
use crate::avp::{Accm, CallErrors, Fault, ResultCode};
use crate::call::{Call, CallAction, CallInput, CallRole, CallState, Dial, transition};
use crate::iana::{MessageType, call_result, error_code};
use crate::ids::SessionId;
use crate::message::{Cdn, Iccn, Icrp, Icrq, Message, Ocrq, Sli, Wen};

/// The owner's verbs.
impl Connection {
    /// LNS: takes the call that the peer offered as `peer`, as our session `local`.
    pub fn accept_call(&mut self, now: Duration, peer: SessionId, local: SessionId) -> Result<(), CallError> {
        if self.calls.get(local).is_some() {
            return Err(CallError::InUse);
        }
        if !self.calls.take_request(peer) {
            return Err(CallError::Unknown);
        }
        let (_, state) = transition(CallRole::Lns, CallState::Idle, CallInput::IcrqAcceptable);
        self.send(
            Some(peer),
            &Message::Icrp(Icrp {
                assigned_session_id: local,
            }),
        )?;
        let deadline = Some(now + self.settings.connect_timeout);
        let call = Call {
            peer: Some(peer),
            role: CallRole::Lns,
            state,
            deadline,
            dial: None,
        };
        self.calls.insert(local, call);
        Ok(())
    }

    /// LNS: refuses the call that the peer offered as `peer`.
    pub fn reject_call(&mut self, _now: Duration, peer: SessionId, cdn: Cdn) -> Result<(), CallError> {
        if !self.calls.take_request(peer) {
            return Err(CallError::Unknown);
        }
        let refusal = self.refusal(cdn);
        Ok(self.send(Some(peer), &refusal)?)
    }

    /// Ends a call. No event follows. If the CDN finds no room the call stays.
    pub fn close_call(&mut self, _now: Duration, local: SessionId, cdn: Cdn) -> Result<(), CallError> {
        let call = self.calls.get(local).ok_or(CallError::Unknown)?;
        let (action, _) = transition(call.role, call.state, CallInput::Close);
        let peer = call.peer;
        if action == CallAction::SendCdn {
            self.send(
                peer,
                &Message::Cdn(Cdn {
                    assigned_session_id: Some(local),
                    ..cdn
                }),
            )?;
        }
        self.calls.remove(local);
        Ok(())
    }

    /// LAC: brings a call, as soon as the tunnel is open.
    pub fn place_call(&mut self, now: Duration, local: SessionId, dial: Dial) -> Result<(), CallError> {
        match self.state {
            State::Idle | State::Closing | State::Closed => return Err(CallError::NotOpen),
            State::WaitCtlReply | State::WaitCtlConn | State::Established => {}
        }
        if self.calls.get(local).is_some() {
            return Err(CallError::InUse);
        }
        let (_, state) = transition(CallRole::Lac, CallState::Idle, CallInput::Dial);
        let dial = Some(Box::new(dial));
        self.calls.insert(
            local,
            Call {
                peer: None,
                role: CallRole::Lac,
                state,
                deadline: None,
                dial,
            },
        );
        if self.state == State::Established {
            self.step_call(now, local, CallInput::TunnelOpen, CallEnd::Peer(None));
        }
        Ok(())
    }

    /// LAC: tells the line's errors.
    pub fn send_errors(&mut self, local: SessionId, errors: CallErrors) -> Result<(), CallError> {
        let peer = self.connected(local)?;
        Ok(self.send(peer, &Message::Wen(Wen { errors }))?)
    }

    /// LNS: tells the character maps that were negotiated.
    pub fn send_link_info(&mut self, local: SessionId, accm: Accm) -> Result<(), CallError> {
        let peer = self.connected(local)?;
        Ok(self.send(peer, &Message::Sli(Sli { accm }))?)
    }

    fn connected(&self, local: SessionId) -> Result<Option<SessionId>, CallError> {
        let call = self
            .calls
            .get(local)
            .filter(|call| call.state == CallState::Established);
        call.map(|call| call.peer).ok_or(CallError::Unknown)
    }
}

/// The peer's messages.
impl Connection {
    pub(super) fn on_icrq(&mut self, now: Duration, icrq: Icrq) {
        let peer = icrq.assigned_session_id;
        self.replace(now, peer);
        self.calls.add_request(peer);
        self.events.push_back(Event::CallRequested {
            peer,
            icrq: Box::new(icrq),
        });
    }

    pub(super) fn on_icrp(&mut self, now: Duration, session: Option<SessionId>, icrp: &Icrp) {
        let Some(local) = self.named(session) else { return };
        let peer = icrp.assigned_session_id;
        if self.calls.by_peer(peer).is_some_and(|other| other != local) {
            let result = general(error_code::INVALID_SESSION, "session id in use");
            self.step_call(now, local, CallInput::IcrpRefused, CallEnd::Local(result));
            return;
        }
        let end = self.misplaced(local, MessageType::Icrp);
        self.calls.learn_peer(local, peer);
        self.step_call(now, local, CallInput::Icrp, end);
    }

    pub(super) fn on_iccn(&mut self, now: Duration, session: Option<SessionId>, iccn: Box<Iccn>) {
        let Some(local) = self.named(session) else { return };
        let end = self.misplaced(local, MessageType::Iccn);
        self.step_call(now, local, CallInput::IccnAcceptable, end);
        if self
            .calls
            .get(local)
            .is_some_and(|call| call.state == CallState::Established)
        {
            self.events.push_back(Event::CallConnected { local, iccn });
        }
    }

    /// A header's id is trusted over the AVP's; without one, the AVP finds the call. `cdn` is `None` if it was
    /// unreadable.
    pub(super) fn on_cdn(
        &mut self,
        now: Duration,
        session: Option<SessionId>,
        assigned: Option<SessionId>,
        cdn: Option<Cdn>,
    ) {
        let end = CallEnd::Peer(cdn.map(Box::new));
        let local = match session {
            Some(_) => self.named(session),
            None => assigned.and_then(|peer| self.calls.by_peer(peer)),
        };
        if let Some(local) = local {
            self.step_call(now, local, CallInput::Cdn, end);
        } else if session.is_none() && assigned.is_some_and(|peer| self.calls.take_request(peer)) {
            self.closed(None, assigned, end);
        }
    }

    /// We dial for nobody.
    pub(super) fn on_ocrq(&mut self, now: Duration, ocrq: &Ocrq) {
        let result = general(error_code::VENDOR_SPECIFIC, "no outgoing calls here");
        self.refuse(now, ocrq.assigned_session_id, result);
    }

    /// A message of an outgoing call, of which there is none.
    pub(super) fn on_foreign(&mut self, now: Duration, session: Option<SessionId>, message: MessageType) {
        let Some(local) = self.named(session) else { return };
        let end = self.misplaced(local, message);
        self.step_call(now, local, CallInput::IcrpRefused, end);
    }

    pub(super) fn on_wen(&mut self, session: Option<SessionId>, errors: CallErrors) {
        if let Some(local) = self.named(session) {
            self.events.push_back(Event::WanErrors { local, errors });
        }
    }

    /// Of use to a LAC alone; an LNS takes and ignores it.
    pub(super) fn on_sli(&mut self, session: Option<SessionId>, accm: Accm) {
        let Some(local) = self.named(session) else { return };
        if self
            .calls
            .get(local)
            .is_some_and(|call| call.role == CallRole::Lac)
        {
            self.events.push_back(Event::SetLinkInfo { local, accm });
        }
    }

    /// A call's message, other than a CDN, that cannot be accepted.
    pub(super) fn on_faulty_call_message(
        &mut self,
        now: Duration,
        session: Option<SessionId>,
        fault: &Fault,
        result: ResultCode,
    ) {
        match (fault.message, fault.assigned_session) {
            (Some(MessageType::Icrq), Some(peer)) => {
                self.replace(now, peer);
                self.refuse(now, peer, result);
            }
            (Some(MessageType::Ocrq), Some(peer)) => self.refuse(now, peer, result),
            // Nobody to answer: the peer did not say by which id it knows the call.
            (Some(MessageType::Icrq | MessageType::Ocrq), None) => {}
            (message, _) => {
                let Some(local) = self.named(session) else { return };
                let input = match message {
                    Some(MessageType::Iccn) => CallInput::IccnRefused,
                    Some(MessageType::Icrp) => CallInput::IcrpRefused,
                    _ => CallInput::Close,
                };
                self.step_call(now, local, input, CallEnd::Local(result));
            }
        }
    }
}

/// What they share.
impl Connection {
    /// Feeds a call's machine and does what it decides. `end` is why, should that end the call.
    pub(super) fn step_call(&mut self, now: Duration, local: SessionId, input: CallInput, end: CallEnd) {
        let Some(mut call) = self.calls.remove(local) else {
            return;
        };
        let (action, next) = transition(call.role, call.state, input);
        call.state = next;
        match action {
            CallAction::Nothing => self.calls.insert(local, call),
            // Sent by `accept_call`: no call is in the table before its ICRQ was accepted.
            CallAction::SendIcrp => {}
            CallAction::Connect => {
                call.deadline = None;
                self.calls.insert(local, call);
            }
            CallAction::SendIcrq => self.offer(now, local, call),
            CallAction::SendIccn => self.connect(now, local, call),
            CallAction::SendCdn => {
                self.closed(Some(local), call.peer, end.clone());
                self.send_cdn(now, local, call.peer, end);
            }
            CallAction::CleanUp => self.closed(Some(local), call.peer, end),
        }
    }

    fn send_cdn(&mut self, now: Duration, local: SessionId, peer: Option<SessionId>, end: CallEnd) {
        let (session, result) = match end {
            CallEnd::Local(result) => (peer, result),
            CallEnd::Peer(_) => (peer, ResultCode::new(call_result::ADMINISTRATIVE)),
            // Without a session id in the header, or it would hit the new call; our own id finds the old one.
            CallEnd::Replaced => (
                None,
                general(error_code::INVALID_SESSION, "session id given to a new call"),
            ),
        };
        let cdn = Cdn {
            assigned_session_id: Some(local),
            ..Cdn::new(result)
        };
        self.send_or_close(now, session, &Message::Cdn(cdn));
    }

    fn offer(&mut self, now: Duration, local: SessionId, mut call: Call) {
        let Some(dial) = &mut call.dial else { return };
        dial.icrq.assigned_session_id = local;
        let icrq = Message::Icrq(dial.icrq.clone());
        call.deadline = Some(now + self.settings.connect_timeout);
        self.calls.insert(local, call);
        self.send_or_close(now, None, &icrq);
    }

    fn connect(&mut self, now: Duration, local: SessionId, mut call: Call) {
        let (Some(dial), Some(peer)) = (call.dial.take(), call.peer) else {
            return;
        };
        call.deadline = None;
        self.calls.insert(local, call);
        self.events.push_back(Event::CallAnswered { local, peer });
        self.send_or_close(now, Some(peer), &Message::Iccn(Box::new(dial.iccn)));
    }

    /// The peer gives `peer` to a new call: what it named before is lost on its side (S-72).
    fn replace(&mut self, now: Duration, peer: SessionId) {
        if self.calls.take_request(peer) {
            self.closed(None, Some(peer), CallEnd::Replaced);
        }
        if let Some(local) = self.calls.by_peer(peer) {
            self.step_call(now, local, CallInput::IcrqAcceptable, CallEnd::Replaced);
        }
    }

    /// Our id, if it names a call.
    fn named(&self, session: Option<SessionId>) -> Option<SessionId> {
        session.filter(|local| self.calls.get(*local).is_some())
    }

    fn closed(&mut self, local: Option<SessionId>, peer: Option<SessionId>, reason: CallEnd) {
        self.events.push_back(Event::CallClosed { local, peer, reason });
    }

    fn refuse(&mut self, now: Duration, peer: SessionId, result: ResultCode) {
        let refusal = self.refusal(Cdn::new(result));
        self.send_or_close(now, Some(peer), &refusal);
    }

    /// A CDN must name a session of ours: any that is free will do for a call that never was.
    fn refusal(&self, cdn: Cdn) -> Message {
        let (action, _) = transition(CallRole::Lns, CallState::Idle, CallInput::IcrqRefused);
        debug_assert_eq!(action, CallAction::SendCdn);
        let assigned_session_id = cdn.assigned_session_id.or_else(|| self.calls.free_id());
        Message::Cdn(Cdn {
            assigned_session_id,
            ..cdn
        })
    }

    /// A state machine error, should the machine find one.
    fn misplaced(&self, local: SessionId, message: MessageType) -> CallEnd {
        let state = self.calls.get(local).map_or(CallState::Idle, |call| call.state);
        CallEnd::Local(general(error_code::NONE, &format!("{message:?} in {state:?}")))
    }
}

fn general(error: u16, text: &str) -> ResultCode {
    ResultCode::with_error(call_result::GENERAL_ERROR, error, text)
}
