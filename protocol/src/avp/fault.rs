//! What is wrong with a message's body, and what RFC 2661 §4.1 and §4.4.2 demand to be done about it.

use thiserror::Error;

use super::hiding::HidingError;
use super::result_code::ResultCode;
use crate::iana::{MessageType, call_result, error_code, stop_result};
use crate::ids::{SessionId, TunnelId};

/// A body that cannot be accepted. The message has still taken its Ns and is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message:?}: {kind}")]
pub struct Fault {
    /// The type of the message, as far as it was readable.
    pub message: Option<MessageType>,
    /// What is wrong.
    pub kind: FaultKind,
    /// The sender's tunnel id, if the body named it before it became unreadable.
    pub assigned_tunnel: Option<TunnelId>,
    /// The sender's session id, if the body named it before it became unreadable.
    pub assigned_session: Option<SessionId>,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FaultKind {
    /// An AVP's length is below 6 or runs past the end, or octets are left over.
    #[error("AVPs do not end with the message")]
    Truncated,
    /// The first AVP is not an open, valid Message Type.
    #[error("first AVP is not the message type")]
    NoMessageType,
    /// Message Type with M set and a value that is not known.
    #[error("message type {0} is not known")]
    UnknownMessage(u16),
    /// An AVP with M set that is not recognised, or has a reserved bit set.
    #[error("AVP {vendor}/{attribute} is not known")]
    UnknownMandatory {
        /// Its vendor.
        vendor: u16,
        /// Its type.
        attribute: u16,
    },
    /// A known AVP with M set whose length is wrong.
    #[error("AVP 0/{attribute} has a wrong length")]
    Length {
        /// Its type.
        attribute: u16,
    },
    /// A known AVP with M set whose value is out of range.
    #[error("AVP 0/{attribute} is out of range")]
    Value {
        /// Its type.
        attribute: u16,
    },
    /// An AVP with M and H set that must not be hidden.
    #[error("AVP 0/{attribute} must not be hidden")]
    HiddenForbidden {
        /// Its type.
        attribute: u16,
    },
    /// An AVP with M and H set that cannot be read.
    #[error("hidden AVP 0/{attribute}: {reason}")]
    Hidden {
        /// Its type.
        attribute: u16,
        /// Why not.
        reason: HidingError,
    },
    /// An AVP that the message must carry is absent.
    #[error("AVP 0/{attribute} is missing")]
    Missing {
        /// Its type.
        attribute: u16,
    },
    /// The Protocol Version is not 1.
    #[error("protocol version {0} is not supported")]
    Version(u8),
}

/// What to do about a faulty message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// No reply is possible.
    Drop,
    /// Clear the tunnel with this StopCCN.
    StopTunnel(ResultCode),
    /// Clear the session with this CDN.
    ClearSession(ResultCode),
    /// The peer was clearing the tunnel anyway: clear it, without a reply.
    TunnelCleared,
    /// The peer was clearing the session anyway: clear it, without a reply.
    SessionCleared,
}

impl Fault {
    /// The reaction that the message's type and the kind of fault demand.
    pub fn reaction(&self) -> Reaction {
        match self.message {
            Some(MessageType::StopCcn) => Reaction::TunnelCleared,
            Some(MessageType::Cdn) => Reaction::SessionCleared,
            // Nobody to answer: without an id of the peer no StopCCN could be addressed.
            Some(MessageType::Sccrq) if self.assigned_tunnel.is_none() => Reaction::Drop,
            Some(message) if message.is_session_message() => {
                Reaction::ClearSession(self.result(call_result::GENERAL_ERROR))
            }
            Some(_) | None => Reaction::StopTunnel(self.result(stop_result::GENERAL_ERROR)),
        }
    }

    fn result(&self, general: u16) -> ResultCode {
        let error = match self.kind {
            // "The error code holds the highest version supported"; how it is written is not said. 1 reads right
            // both as a number and as the version octet.
            FaultKind::Version(_) => {
                return ResultCode::with_error(stop_result::VERSION_UNSUPPORTED, 1, self.kind.to_string());
            }
            FaultKind::Truncated | FaultKind::Length { .. } => error_code::WRONG_LENGTH,
            FaultKind::Hidden {
                reason: HidingError::Length,
                ..
            } => error_code::WRONG_LENGTH,
            FaultKind::NoMessageType
            | FaultKind::Value { .. }
            | FaultKind::HiddenForbidden { .. }
            | FaultKind::Hidden { .. } => error_code::BAD_VALUE,
            FaultKind::UnknownMessage(_) | FaultKind::UnknownMandatory { .. } => {
                error_code::UNKNOWN_MANDATORY
            }
            // The RFC names no code for an absent AVP; a vendor's error is the one that invites a text.
            FaultKind::Missing { .. } => error_code::VENDOR_SPECIFIC,
        };
        ResultCode::with_error(general, error, self.text())
    }

    fn text(&self) -> String {
        match self.kind {
            FaultKind::UnknownMandatory { vendor, attribute } => format!("AVP {vendor}/{attribute}"),
            FaultKind::Truncated
            | FaultKind::NoMessageType
            | FaultKind::UnknownMessage(_)
            | FaultKind::Length { .. }
            | FaultKind::Value { .. }
            | FaultKind::HiddenForbidden { .. }
            | FaultKind::Hidden { .. }
            | FaultKind::Missing { .. }
            | FaultKind::Version(_) => self.kind.to_string(),
        }
    }
}
