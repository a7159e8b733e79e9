//! Stop-Control-Connection-Notification (RFC 2661 §6.4): closes a tunnel and, silently, all its sessions.
//!
//! ```text
//! Message Type 4 | Assigned Tunnel ID | Result Code
//! ```

use crate::avp::{Attributes, Fault, ResultCode, Writer};
use crate::iana::attribute::*;
use crate::ids::TunnelId;

/// The end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopCcn {
    /// The sender's tunnel id. Required by the RFC, but a peer that leaves it out is not held to its tunnel.
    pub assigned_tunnel_id: Option<TunnelId>,
    /// Why.
    pub result: ResultCode,
}

impl StopCcn {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        let result = attributes.get(RESULT_CODE).and_then(ResultCode::from_value);
        Ok(Self {
            assigned_tunnel_id: attributes.tunnel_id(),
            result: attributes.required(RESULT_CODE, result)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.optional_u16(ASSIGNED_TUNNEL_ID, self.assigned_tunnel_id.map(TunnelId::get));
        writer.octets(RESULT_CODE, &self.result.value());
    }
}
