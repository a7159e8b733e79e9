//! Call-Disconnect-Notify (RFC 2661 §6.12): ends a session.
//!
//! ```text
//! Message Type 14 | Result Code | Assigned Session ID | [Q.931 Cause Code] | [PPP Disconnect Cause, RFC 3145]...
//! ```

use crate::avp::{Attributes, DisconnectCause, Fault, Q931Cause, ResultCode, Writer};
use crate::iana::attribute::*;
use crate::ids::SessionId;

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdn {
    /// Why.
    pub result: ResultCode,
    /// The *sender's* session id, by which a session is found whose header id is 0.
    pub assigned_session_id: Option<SessionId>,
    /// In terms of ISDN.
    pub q931: Option<Q931Cause>,
    /// In terms of PPP; several where several NCPs are concerned.
    pub disconnect: Vec<DisconnectCause>,
}

impl Cdn {
    /// A CDN with a result alone. The connection fills in the session id.
    pub fn new(result: ResultCode) -> Self {
        Self {
            result,
            assigned_session_id: None,
            q931: None,
            disconnect: Vec::new(),
        }
    }

    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        let result = attributes.get(RESULT_CODE).and_then(ResultCode::from_value);
        let causes = attributes
            .all(PPP_DISCONNECT_CAUSE)
            .filter_map(DisconnectCause::from_value);
        Ok(Self {
            result: attributes.required(RESULT_CODE, result)?,
            assigned_session_id: attributes.session_id(),
            q931: attributes.get(Q931_CAUSE_CODE).and_then(Q931Cause::from_value),
            disconnect: causes.take(MAX_CAUSES).collect(),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.octets(RESULT_CODE, &self.result.value());
        writer.optional_u16(ASSIGNED_SESSION_ID, self.assigned_session_id.map(SessionId::get));
        writer.optional_octets(Q931_CAUSE_CODE, self.q931.as_ref().map(Q931Cause::value));
        for cause in self.disconnect.iter().take(MAX_CAUSES) {
            writer.octets(PPP_DISCONNECT_CAUSE, &cause.value());
        }
    }
}

/// PPP Disconnect Causes of one CDN that are kept or sent: more than there are NCPs.
const MAX_CAUSES: usize = 16;
