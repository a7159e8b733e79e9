//! What of a tunnel is under way and would be cut if its group changed hands now; and calls that wait for their answer
//! meanwhile (design: `drain`).
//!
//! A call that is kept waiting is in the table, with its ICRP as an unacknowledged message: only the first copy is held back. The
//! retransmission a second later brings it, or the next owner, who says at once what is unacknowledged. Nothing behind it in the
//! control channel has to wait, as it would if the ICRQ were left lying.

use std::collections::BTreeSet;

use holdfast_cluster::records::{SessionRow, SessionState};
use holdfast_protocol::SessionId;
use holdfast_protocol::iana::MessageType;

use super::Tunnel;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// New calls wait.
    holds_calls: bool,
    /// Calls whose LAC was sent our ICRP, and the ICCN is yet to come.
    answered: BTreeSet<SessionId>,
    /// Calls that are connected while PPP is not open.
    negotiating: BTreeSet<SessionId>,
}

impl UnderWay {
    /// What a birth finds. Whether an ICRP has left before is not known; it leaves now.
    pub(super) fn adopt(&mut self, session: SessionId, row: &SessionRow) {
        match row.state() {
            SessionState::WaitConnect => {
                self.answered.insert(session);
            }
            SessionState::Connected => self.put(session, row),
        }
    }

    /// A connected session has, or is about to have, this row.
    pub(super) fn put(&mut self, session: SessionId, row: &SessionRow) {
        self.answered.remove(&session);
        if row.is_open() {
            self.negotiating.remove(&session);
        } else {
            self.negotiating.insert(session);
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.answered.remove(&session);
        self.negotiating.remove(&session);
    }

    pub(super) fn forget_all(&mut self) {
        self.answered.clear();
        self.negotiating.clear();
    }
}

impl Tunnel {
    /// Says before an input whether the answers to new calls wait.
    pub fn hold_calls(&mut self, holds: bool) {
        self.under_way.holds_calls = holds;
    }

    /// Whether a change, a call or PPP is on its way that another owner of the group would have to begin anew.
    pub fn has_under_way(&self) -> bool {
        let UnderWay {
            answered,
            negotiating,
            ..
        } = &self.under_way;
        !self.proposals.is_empty() || !answered.is_empty() || !negotiating.is_empty()
    }

    /// Whether a message of ours is to be held back; `repeated`: it has left before, or was held back once.
    pub(super) fn is_held_back(&mut self, datagram: &[u8], repeated: bool) -> bool {
        let Some(session) = self.call_answered_by(datagram) else {
            return false;
        };
        if self.under_way.holds_calls && !repeated {
            return true;
        }
        self.under_way.answered.insert(session);
        false
    }

    /// The call that an ICRP of ours is for. Ours begin with the message's type, never hidden.
    fn call_answered_by(&self, datagram: &[u8]) -> Option<SessionId> {
        let number = |at: usize| Some(u16::from_be_bytes([*datagram.get(at)?, *datagram.get(at + 1)?]));
        let (peer, message_type) = (number(6)?, number(18)?);
        if MessageType::from_wire(message_type) != Some(MessageType::Icrp) {
            return None;
        }
        let mut waiting = self.waiting.iter();
        let found = waiting.find(|(_, row)| row.peer_session_id == u32::from(peer));
        found.map(|(session, _)| *session)
    }
}
