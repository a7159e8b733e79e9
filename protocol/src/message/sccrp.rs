//! Start-Control-Connection-Reply (RFC 2661 §6.2): accepts a tunnel.
//!
//! ```text
//! Message Type 2 | Protocol Version | Framing Capabilities | [Bearer Capabilities] | [Firmware Revision]
//! | Host Name | [Vendor Name] | Assigned Tunnel ID | [Receive Window Size] | [Challenge Response] | [Challenge]
//! ```

use super::sccrq::{DEFAULT_RECEIVE_WINDOW, PROTOCOL_VERSION_1_0, check_version, framing_capabilities};
use crate::avp::{Attributes, Fault, Writer};
use crate::challenge::Response;
use crate::iana::attribute::*;
use crate::ids::TunnelId;

/// The reply to an SCCRQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sccrp {
    /// Bits of `iana::framing`.
    pub framing: u32,
    /// Bits of `iana::bearer`.
    pub bearer: Option<u32>,
    /// The vendor's own numbering.
    pub firmware: Option<u16>,
    /// Names the sender. Any octets, at least one.
    pub host_name: Vec<u8>,
    /// For people.
    pub vendor_name: Option<Vec<u8>>,
    /// The sender's tunnel id.
    pub assigned_tunnel_id: TunnelId,
    /// Messages that the sender accepts unacknowledged; not 0.
    pub receive_window: u16,
    /// The answer to the SCCRQ's challenge.
    pub response: Option<Response>,
    /// To be answered in the SCCCN.
    pub challenge: Option<Vec<u8>>,
}

impl Sccrp {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        let assigned_tunnel_id = attributes.required(ASSIGNED_TUNNEL_ID, attributes.tunnel_id())?;
        check_version(attributes)?;
        Ok(Self {
            framing: framing_capabilities(attributes)?,
            bearer: attributes.u32(BEARER_CAPABILITIES),
            firmware: attributes.u16(FIRMWARE_REVISION),
            host_name: attributes.required(HOST_NAME, attributes.octets(HOST_NAME))?,
            vendor_name: attributes.octets(VENDOR_NAME),
            assigned_tunnel_id,
            receive_window: attributes
                .u16(RECEIVE_WINDOW_SIZE)
                .unwrap_or(DEFAULT_RECEIVE_WINDOW),
            response: attributes.array(CHALLENGE_RESPONSE),
            challenge: attributes.octets(CHALLENGE),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.octets(PROTOCOL_VERSION, &PROTOCOL_VERSION_1_0);
        writer.u32(FRAMING_CAPABILITIES, self.framing);
        writer.optional_u32(BEARER_CAPABILITIES, self.bearer);
        writer.optional_u16(FIRMWARE_REVISION, self.firmware);
        writer.octets(HOST_NAME, &self.host_name);
        writer.optional_octets(VENDOR_NAME, self.vendor_name.as_deref());
        writer.u16(ASSIGNED_TUNNEL_ID, self.assigned_tunnel_id.get());
        writer.u16(RECEIVE_WINDOW_SIZE, self.receive_window);
        writer.optional_octets(CHALLENGE_RESPONSE, self.response);
        writer.optional_octets(CHALLENGE, self.challenge.as_deref());
    }
}
