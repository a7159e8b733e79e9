//! Incoming-Call-Request (RFC 2661 §6.8): the LAC has a call for the LNS.
//!
//! ```text
//! Message Type 10 | Assigned Session ID | Call Serial Number | [Bearer Type] | [Physical Channel ID]
//! | [Calling Number] | [Called Number] | [Sub-Address] | [access line AVPs of vendor 3561, RFC 5515]
//! ```

use crate::avp::{Attributes, Fault, VendorAvp, Writer};
use crate::iana::attribute::*;
use crate::ids::SessionId;

/// A request to take a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icrq {
    /// The LAC's session id.
    pub assigned_session_id: SessionId,
    /// For logs and accounting; increasing, mostly unique.
    pub call_serial: u32,
    /// Bits of `iana::bearer`; both may be clear.
    pub bearer_type: Option<u32>,
    /// The LAC's own numbering of its ports.
    pub physical_channel: Option<u32>,
    /// Who calls. ASCII by the RFC.
    pub calling_number: Option<Vec<u8>>,
    /// Who is called. ASCII by the RFC.
    pub called_number: Option<Vec<u8>>,
    /// Further dialling information. ASCII by the RFC.
    pub sub_address: Option<Vec<u8>>,
    /// Access line information, opaque; at most 32.
    pub vendor_avps: Vec<VendorAvp>,
}

impl Icrq {
    pub(super) fn from_attributes(attributes: &mut Attributes<'_>) -> Result<Self, Fault> {
        Ok(Self {
            assigned_session_id: attributes.required_session_id()?,
            call_serial: attributes.required_u32(CALL_SERIAL_NUMBER)?,
            bearer_type: attributes.u32(BEARER_TYPE),
            physical_channel: attributes.u32(PHYSICAL_CHANNEL_ID),
            calling_number: attributes.octets(CALLING_NUMBER),
            called_number: attributes.octets(CALLED_NUMBER),
            sub_address: attributes.octets(SUB_ADDRESS),
            vendor_avps: attributes.take_vendor(),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.u16(ASSIGNED_SESSION_ID, self.assigned_session_id.get());
        writer.u32(CALL_SERIAL_NUMBER, self.call_serial);
        writer.optional_u32(BEARER_TYPE, self.bearer_type);
        writer.optional_u32(PHYSICAL_CHANNEL_ID, self.physical_channel);
        writer.optional_octets(CALLING_NUMBER, self.calling_number.as_deref());
        writer.optional_octets(CALLED_NUMBER, self.called_number.as_deref());
        writer.optional_octets(SUB_ADDRESS, self.sub_address.as_deref());
        for vendor_avp in self.vendor_avps.iter().take(crate::avp::MAX_VENDOR_AVPS) {
            writer.vendor(vendor_avp);
        }
    }
}
