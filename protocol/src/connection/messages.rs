//! Messages that the channel delivered, each once and in order: what they mean for the tunnel (RFC 2661 §7.2).
//!
//! Whatever a message leads to, it has taken its Ns and will be acknowledged.

use std::time::Duration;

use super::event::CloseReason;
use super::no_secret;
use super::settings::Peer;
use super::state::{Input, State};
use super::{Connection, Event};
use crate::avp::{Fault, Reaction, ResultCode};
use crate::challenge::{Response, verify};
use crate::iana::{MessageType, error_code, stop_result};
use crate::ids::SessionId;
use crate::message::{Message, Scccn, Sccrp};

impl Connection {
    /// A message to our `session`.
    pub(super) fn deliver(&mut self, now: Duration, session: Option<SessionId>, body: &[u8]) {
        match self.state {
            // The transport alone is left.
            State::Idle | State::Closing | State::Closed => return,
            State::WaitCtlReply | State::WaitCtlConn | State::Established => {}
        }
        match Message::decode(body, &self.settings.context()) {
            Ok(message) => self.handle_message(now, session, message),
            Err(fault) => self.handle_fault(now, session, fault),
        }
    }

    fn handle_message(&mut self, now: Duration, session: Option<SessionId>, message: Message) {
        let message_type = message.message_type();
        if message_type.is_some_and(MessageType::is_session_message) && !self.serves_calls(now, message_type)
        {
            return;
        }
        match message {
            Message::Sccrq(_) => {
                self.step(now, Input::SccrqAcceptable, self.out_of_place(message_type));
            }
            Message::Sccrp(sccrp) => self.on_sccrp(now, &sccrp),
            Message::Scccn(scccn) => self.on_scccn(now, &scccn),
            Message::StopCcn(stop) => {
                self.step(now, Input::StopCcn, CloseReason::Peer(Some(stop.result)));
            }
            // A HELLO asks for its acknowledgement alone; what is unknown was sent with M clear.
            Message::Hello | Message::Unknown(_) => {}
            Message::Icrq(icrq) => self.on_icrq(now, icrq),
            Message::Icrp(icrp) => self.on_icrp(now, session, &icrp),
            Message::Iccn(iccn) => self.on_iccn(now, session, iccn),
            Message::Cdn(cdn) => self.on_cdn(now, session, cdn.assigned_session_id, Some(cdn)),
            Message::Ocrq(ocrq) => self.on_ocrq(now, &ocrq),
            Message::Ocrp(_) => self.on_foreign(now, session, MessageType::Ocrp),
            Message::Occn(_) => self.on_foreign(now, session, MessageType::Occn),
            Message::Wen(wen) => self.on_wen(session, wen.errors),
            Message::Sli(sli) => self.on_sli(session, sli.accm),
        }
    }

    /// Calls are for open tunnels; before that, a call's message is out of place (S-70).
    fn serves_calls(&mut self, now: Duration, message: Option<MessageType>) -> bool {
        if self.state == State::Established {
            return true;
        }
        self.step(now, Input::Close, self.out_of_place(message));
        false
    }

    fn on_sccrp(&mut self, now: Duration, sccrp: &Sccrp) {
        if self.state != State::WaitCtlReply {
            self.step(
                now,
                Input::SccrpAcceptable,
                self.out_of_place(Some(MessageType::Sccrp)),
            );
            return;
        }
        // Known from here on, so that a StopCCN can be addressed too.
        self.peer = Peer::from(sccrp);
        let refused = match self.judge_response(MessageType::Sccrp, sccrp.response.as_ref()) {
            Err(result) => Some(result),
            Ok(()) if sccrp.challenge.is_some() && self.settings.secret.is_none() => Some(no_secret()),
            Ok(()) => None,
        };
        if let Some(result) = refused {
            self.step(now, Input::SccrpRefused, CloseReason::Local(result));
            return;
        }
        self.channel.set_peer_window(sccrp.receive_window);
        self.peer_challenge = sccrp.challenge.clone();
        self.step(
            now,
            Input::SccrpAcceptable,
            self.out_of_place(Some(MessageType::Sccrp)),
        );
    }

    fn on_scccn(&mut self, now: Duration, scccn: &Scccn) {
        let verdict = match self.state {
            State::WaitCtlConn => self.judge_response(MessageType::Scccn, scccn.response.as_ref()),
            State::Idle | State::WaitCtlReply | State::Established | State::Closing | State::Closed => Ok(()),
        };
        match verdict {
            Ok(()) => self.step(
                now,
                Input::ScccnAcceptable,
                self.out_of_place(Some(MessageType::Scccn)),
            ),
            Err(result) => self.step(now, Input::ScccnRefused, CloseReason::Local(result)),
        }
    }

    /// Whether the peer proved to know the secret, if it was asked to. A response that nobody asked for is ignored.
    /// If the secret was taken away since the challenge was sent, nothing proves anything.
    fn judge_response(&self, carrier: MessageType, given: Option<&Response>) -> Result<(), ResultCode> {
        let Some(challenge) = &self.settings.challenge else {
            return Ok(());
        };
        let Some(secret) = &self.settings.secret else {
            return Err(no_secret());
        };
        let text = match given {
            Some(given) if verify(carrier, secret, challenge, given) => return Ok(()),
            Some(_) => "wrong challenge response",
            None => "challenge response missing",
        };
        Err(ResultCode::with_error(
            stop_result::NOT_AUTHORIZED,
            error_code::NONE,
            text,
        ))
    }

    fn handle_fault(&mut self, now: Duration, session: Option<SessionId>, fault: Fault) {
        self.events.push_back(Event::Fault(fault.clone()));
        match fault.reaction() {
            Reaction::Drop => {}
            Reaction::StopTunnel(result) => {
                // A faulty SCCRP may still have said where the StopCCN is to go.
                self.peer.tunnel = self.peer.tunnel.or(fault.assigned_tunnel);
                let input = match fault.message {
                    Some(MessageType::Sccrq) => Input::SccrqRefused,
                    Some(MessageType::Sccrp) => Input::SccrpRefused,
                    Some(MessageType::Scccn) => Input::ScccnRefused,
                    Some(_) | None => Input::Close,
                };
                self.step(now, input, CloseReason::Local(result));
            }
            Reaction::TunnelCleared => self.step(now, Input::StopCcn, CloseReason::Peer(None)),
            Reaction::ClearSession(result) => {
                if self.serves_calls(now, fault.message) {
                    self.on_faulty_call_message(now, session, &fault, result);
                }
            }
            Reaction::SessionCleared => {
                if self.serves_calls(now, fault.message) {
                    self.on_cdn(now, session, fault.assigned_session, None);
                }
            }
        }
    }

    /// A state machine error, should the machine find one.
    fn out_of_place(&self, message: Option<MessageType>) -> CloseReason {
        let text = match message {
            Some(message) => format!("{message:?} in {:?}", self.state),
            None => format!("message in {:?}", self.state),
        };
        CloseReason::Local(ResultCode::with_error(
            stop_result::STATE_MACHINE_ERROR,
            error_code::NONE,
            text,
        ))
    }
}
