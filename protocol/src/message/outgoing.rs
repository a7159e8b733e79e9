//! The outgoing call (RFC 2661 §6.5 to §6.7): the LNS asks the LAC to dial.
//!
//! ```text
//! OCRQ  Message Type 7 | Assigned Session ID | Call Serial Number | Minimum BPS | Maximum BPS | Bearer Type
//!       | Framing Type | Called Number | [Sub-Address]
//! OCRP  Message Type 8 | Assigned Session ID | [Physical Channel ID]
//! OCCN  Message Type 9 | (Tx) Connect Speed | Framing Type | [Rx Connect Speed] | [Sequencing Required]
//! ```

use crate::avp::{Attributes, Fault, Writer};
use crate::iana::attribute::*;
use crate::ids::SessionId;

/// A request to place a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ocrq {
    /// The LNS's session id.
    pub assigned_session_id: SessionId,
    /// For logs and accounting.
    pub call_serial: u32,
    /// Lowest acceptable speed, bits/s.
    pub minimum_bps: u32,
    /// Highest acceptable speed, bits/s.
    pub maximum_bps: u32,
    /// Bits of `iana::bearer`.
    pub bearer_type: u32,
    /// Bits of `iana::framing`.
    pub framing_type: u32,
    /// Whom to call. ASCII by the RFC.
    pub called_number: Vec<u8>,
    /// Further dialling information. ASCII by the RFC.
    pub sub_address: Option<Vec<u8>>,
}

impl Ocrq {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        Ok(Self {
            assigned_session_id: attributes.required_session_id()?,
            call_serial: attributes.required_u32(CALL_SERIAL_NUMBER)?,
            minimum_bps: attributes.required_u32(MINIMUM_BPS)?,
            maximum_bps: attributes.required_u32(MAXIMUM_BPS)?,
            bearer_type: attributes.required_u32(BEARER_TYPE)?,
            framing_type: attributes.required_u32(FRAMING_TYPE)?,
            called_number: attributes.required(CALLED_NUMBER, attributes.octets(CALLED_NUMBER))?,
            sub_address: attributes.octets(SUB_ADDRESS),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.u16(ASSIGNED_SESSION_ID, self.assigned_session_id.get());
        writer.u32(CALL_SERIAL_NUMBER, self.call_serial);
        writer.u32(MINIMUM_BPS, self.minimum_bps);
        writer.u32(MAXIMUM_BPS, self.maximum_bps);
        writer.u32(BEARER_TYPE, self.bearer_type);
        writer.u32(FRAMING_TYPE, self.framing_type);
        writer.octets(CALLED_NUMBER, &self.called_number);
        writer.optional_octets(SUB_ADDRESS, self.sub_address.as_deref());
    }
}

/// The LAC will dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ocrp {
    /// The LAC's session id.
    pub assigned_session_id: SessionId,
    /// The LAC's own numbering of its ports.
    pub physical_channel: Option<u32>,
}

impl Ocrp {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        Ok(Self {
            assigned_session_id: attributes.required_session_id()?,
            physical_channel: attributes.u32(PHYSICAL_CHANNEL_ID),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.u16(ASSIGNED_SESSION_ID, self.assigned_session_id.get());
        writer.optional_u32(PHYSICAL_CHANNEL_ID, self.physical_channel);
    }
}

/// The call is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occn {
    /// Bits/s from the LAC to the subscriber.
    pub tx_speed: u32,
    /// Bits of `iana::framing`.
    pub framing_type: u32,
    /// Bits/s from the subscriber to the LAC; absent: as `tx_speed`.
    pub rx_speed: Option<u32>,
    /// All data messages of the session must be numbered, both ways.
    pub sequencing_required: bool,
}

impl Occn {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        Ok(Self {
            tx_speed: attributes.required_u32(TX_CONNECT_SPEED)?,
            framing_type: attributes.required_u32(FRAMING_TYPE)?,
            rx_speed: attributes.u32(RX_CONNECT_SPEED),
            sequencing_required: attributes.get(SEQUENCING_REQUIRED).is_some(),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.u32(TX_CONNECT_SPEED, self.tx_speed);
        writer.u32(FRAMING_TYPE, self.framing_type);
        writer.optional_u32(RX_CONNECT_SPEED, self.rx_speed);
        if self.sequencing_required {
            writer.octets(SEQUENCING_REQUIRED, &[]);
        }
    }
}
