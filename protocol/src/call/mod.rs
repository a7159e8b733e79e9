//! Calls of one tunnel (RFC 2661 §7.4): their state machines, and the table that finds them.
//!
//! A machine decides; the connection sends what it decided. An outgoing call is never accepted (S-81), so it has
//! no machine.

mod lac;
mod lns;
mod table;

pub(crate) use table::Calls;

use std::time::Duration;

use crate::ids::SessionId;
use crate::message::{Iccn, Icrq};

/// Which end of the call this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallRole {
    /// The peer brings the call.
    Lns,
    /// This side brings the call.
    Lac,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallState {
    /// No call: not yet, or no longer.
    Idle,
    /// LAC: the tunnel is not open yet.
    WaitTunnel,
    /// LAC: ICRQ sent.
    WaitReply,
    /// LNS: ICRP sent.
    WaitConnect,
    /// Data may flow.
    Established,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallInput {
    IcrqAcceptable,
    IcrqRefused,
    Icrp,
    IcrpRefused,
    IccnAcceptable,
    IccnRefused,
    Cdn,
    /// An operator, a timer, or a message at fault.
    Close,
    /// LAC: there is a call to bring.
    Dial,
    TunnelOpen,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallAction {
    Nothing,
    SendIcrq,
    SendIcrp,
    SendIccn,
    SendCdn,
    /// Data may flow from now on.
    Connect,
    CleanUp,
}

/// The decision of the machine of this role.
pub(crate) fn transition(role: CallRole, state: CallState, input: CallInput) -> (CallAction, CallState) {
    match role {
        CallRole::Lns => lns::transition(state, input),
        CallRole::Lac => lac::transition(state, input),
    }
}

/// What a LAC tells of a call that it brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Sent first; its session id is set by the connection.
    pub icrq: Icrq,
    /// Sent when the LNS takes the call.
    pub iccn: Iccn,
}

/// One call, 40 octets: a node holds a hundred thousand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) peer: Option<SessionId>,
    pub(crate) role: CallRole,
    pub(crate) state: CallState,
    /// When an unfinished call is given up.
    pub(crate) deadline: Option<Duration>,
    /// LAC: kept until the ICCN has been queued.
    pub(crate) dial: Option<Box<Dial>>,
}

impl Call {
    pub(crate) fn snapshot(&self, local: SessionId) -> CallSnapshot {
        CallSnapshot {
            local,
            peer: self.peer,
            role: self.role,
            state: self.state,
            deadline: self.deadline,
            dial: self.dial.clone(),
        }
    }
}

/// A call as the session's row keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSnapshot {
    /// Our session id.
    pub local: SessionId,
    /// The peer's session id, once known.
    pub peer: Option<SessionId>,
    /// Which end this is.
    pub role: CallRole,
    /// Where it stands.
    pub state: CallState,
    /// When an unfinished call is given up, by the clock of `now`.
    pub deadline: Option<Duration>,
    /// LAC: what is still to be told.
    pub dial: Option<Box<Dial>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order of the variants.
    pub(super) const INPUTS: [CallInput; 10] = [
        CallInput::IcrqAcceptable,
        CallInput::IcrqRefused,
        CallInput::Icrp,
        CallInput::IcrpRefused,
        CallInput::IccnAcceptable,
        CallInput::IccnRefused,
        CallInput::Cdn,
        CallInput::Close,
        CallInput::Dial,
        CallInput::TunnelOpen,
    ];

    #[test]
    fn a_call_is_small() {
        assert!(size_of::<Call>() <= 40, "{}", size_of::<Call>());
    }
}
