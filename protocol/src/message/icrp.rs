//! Incoming-Call-Reply (RFC 2661 §6.9): the LNS takes the call.
//!
//! ```text
//! Message Type 11 | Assigned Session ID
//! ```

use crate::avp::{Attributes, Fault, Writer};
use crate::iana::attribute::ASSIGNED_SESSION_ID;
use crate::ids::SessionId;

/// The reply to an ICRQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icrp {
    /// The LNS's session id.
    pub assigned_session_id: SessionId,
}

impl Icrp {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        Ok(Self {
            assigned_session_id: attributes.required_session_id()?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.u16(ASSIGNED_SESSION_ID, self.assigned_session_id.get());
    }
}
