//! Start-Control-Connection-Request (RFC 2661 §6.1): opens a tunnel.
//!
//! ```text
//! Message Type 1 | Protocol Version | Framing Capabilities | [Bearer Capabilities] | [Tie Breaker]
//! | [Firmware Revision] | Host Name | [Vendor Name] | Assigned Tunnel ID | [Receive Window Size] | [Challenge]
//! ```
//!
//! The secret that unhides its AVPs is chosen by its Host Name, which is never hidden: [`Sccrq::peek_host_name`]
//! first, then the decoder with the secret.

use crate::avp::{Attributes, Avps, Fault, FaultKind, Writer};
use crate::iana::VENDOR_IETF;
use crate::iana::attribute::*;
use crate::iana::framing;
use crate::ids::TunnelId;

/// Messages that a peer accepts unacknowledged when it names no window (RFC 2661 §4.4.3).
pub const DEFAULT_RECEIVE_WINDOW: u16 = 4;

/// The one protocol version there is, revision 0.
pub(super) const PROTOCOL_VERSION_1_0: [u8; 2] = [1, 0];

/// A request to open a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sccrq {
    /// Bits of `iana::framing`.
    pub framing: u32,
    /// Bits of `iana::bearer`.
    pub bearer: Option<u32>,
    /// Decides when both sides open a tunnel to each other: the lower wins.
    pub tie_breaker: Option<u64>,
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
    /// To be answered in the SCCRP.
    pub challenge: Option<Vec<u8>>,
}

impl Sccrq {
    /// The Host Name in the body of an SCCRQ, before any other judgement. `None` if the body is no SCCRQ or has
    /// none.
    pub fn peek_host_name(body: &[u8]) -> Option<&[u8]> {
        let mut avps = Avps::new(body).map_while(Result::ok);
        let first = avps.next()?;
        let is_sccrq =
            first.vendor == VENDOR_IETF && first.attribute == MESSAGE_TYPE && first.value == [0, 1];
        let name = avps.find(|avp| {
            avp.vendor == VENDOR_IETF && avp.attribute == HOST_NAME && !avp.hidden && !avp.reserved
        })?;
        (is_sccrq && !name.value.is_empty()).then_some(name.value)
    }

    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        let assigned_tunnel_id = attributes.required(ASSIGNED_TUNNEL_ID, attributes.tunnel_id())?;
        check_version(attributes)?;
        Ok(Self {
            framing: framing_capabilities(attributes)?,
            bearer: attributes.u32(BEARER_CAPABILITIES),
            tie_breaker: attributes.array(TIE_BREAKER).map(u64::from_be_bytes),
            firmware: attributes.u16(FIRMWARE_REVISION),
            host_name: attributes.required(HOST_NAME, attributes.octets(HOST_NAME))?,
            vendor_name: attributes.octets(VENDOR_NAME),
            assigned_tunnel_id,
            receive_window: attributes
                .u16(RECEIVE_WINDOW_SIZE)
                .unwrap_or(DEFAULT_RECEIVE_WINDOW),
            challenge: attributes.octets(CHALLENGE),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.octets(PROTOCOL_VERSION, &PROTOCOL_VERSION_1_0);
        writer.u32(FRAMING_CAPABILITIES, self.framing);
        writer.optional_u32(BEARER_CAPABILITIES, self.bearer);
        writer.optional_octets(TIE_BREAKER, self.tie_breaker.map(u64::to_be_bytes));
        writer.optional_u16(FIRMWARE_REVISION, self.firmware);
        writer.octets(HOST_NAME, &self.host_name);
        writer.optional_octets(VENDOR_NAME, self.vendor_name.as_deref());
        writer.u16(ASSIGNED_TUNNEL_ID, self.assigned_tunnel_id.get());
        writer.u16(RECEIVE_WINDOW_SIZE, self.receive_window);
        writer.optional_octets(CHALLENGE, self.challenge.as_deref());
    }
}

/// Version 1 of any revision is accepted.
pub(super) fn check_version(attributes: &Attributes<'_>) -> Result<(), Fault> {
    let [version, _revision] =
        attributes.required(PROTOCOL_VERSION, attributes.array::<2>(PROTOCOL_VERSION))?;
    if version == PROTOCOL_VERSION_1_0[0] {
        return Ok(());
    }
    Err(attributes.fault(FaultKind::Version(version)))
}

/// Some peers leave the capabilities out; a permissive reader takes them for able to do both.
pub(super) fn framing_capabilities(attributes: &Attributes<'_>) -> Result<u32, Fault> {
    match attributes.u32(FRAMING_CAPABILITIES) {
        Some(framing) => Ok(framing),
        None if attributes.permissive() => Ok(framing::SYNCHRONOUS | framing::ASYNCHRONOUS),
        None => Err(attributes.missing(FRAMING_CAPABILITIES)),
    }
}
