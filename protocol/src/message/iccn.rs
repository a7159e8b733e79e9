//! Incoming-Call-Connected (RFC 2661 §6.10): the call is up, and this is what the LAC knows of it.
//!
//! ```text
//! Message Type 12 | (Tx) Connect Speed | Framing Type | [Initial Received, Last Sent, Last Received CONFREQ]
//! | [Proxy Authen Type, Name, Challenge, ID, Response] | [Private Group ID] | [Rx Connect Speed]
//! | [Sequencing Required]
//! ```

use std::fmt;

use zeroize::Zeroize;

use crate::avp::{Attributes, Fault, Writer};
use crate::iana::attribute::*;

/// A call that is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Iccn {
    /// Bits/s from the LAC to the subscriber; 0 for "unknown".
    pub tx_speed: u32,
    /// Bits of `iana::framing`.
    pub framing_type: u32,
    /// What the LAC negotiated and learnt before it opened the tunnel.
    pub proxy: Proxy,
    /// Selects a routing context.
    pub private_group: Option<Vec<u8>>,
    /// Bits/s from the subscriber to the LAC; absent: as `tx_speed`.
    pub rx_speed: Option<u32>,
    /// All data messages of the session must be numbered, both ways.
    pub sequencing_required: bool,
}

/// Proxy LCP and proxy authentication (RFC 2661 §4.4.5). Holds passwords: wiped when dropped, not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Options of the first LCP Configure-Request that the subscriber sent.
    pub initial_received_confreq: Option<Vec<u8>>,
    /// Options of the last LCP Configure-Request that the LAC sent.
    pub last_sent_confreq: Option<Vec<u8>>,
    /// Options of the last LCP Configure-Request that the subscriber sent.
    pub last_received_confreq: Option<Vec<u8>>,
    /// `iana::proxy_authen`.
    pub authen_type: Option<u16>,
    /// The subscriber's name.
    pub authen_name: Option<Vec<u8>>,
    /// The challenge that the LAC sent.
    pub authen_challenge: Option<Vec<u8>>,
    /// The PPP identifier of that exchange; the high octet is 0.
    pub authen_id: Option<u16>,
    /// The subscriber's response or password.
    pub authen_response: Option<Vec<u8>>,
}

impl Proxy {
    /// Whether the LAC sent nothing of this.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self
            .authen_name
            .as_ref()
            .map(|name| name.escape_ascii().to_string());
        f.debug_struct("Proxy")
            .field(
                "lcp",
                &(self.last_sent_confreq.is_some() && self.last_received_confreq.is_some()),
            )
            .field("authen_type", &self.authen_type)
            .field("authen_name", &name)
            .finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.authen_response.zeroize();
    }
}

impl Iccn {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        let lenient_u32 = |attribute| match attributes.u32(attribute) {
            Some(value) => Ok(value),
            None if attributes.permissive() => Ok(0),
            None => Err(attributes.missing(attribute)),
        };
        Ok(Self {
            tx_speed: lenient_u32(TX_CONNECT_SPEED)?,
            framing_type: lenient_u32(FRAMING_TYPE)?,
            proxy: Proxy {
                initial_received_confreq: attributes.octets(INITIAL_RECEIVED_CONFREQ),
                last_sent_confreq: attributes.octets(LAST_SENT_CONFREQ),
                last_received_confreq: attributes.octets(LAST_RECEIVED_CONFREQ),
                authen_type: attributes.u16(PROXY_AUTHEN_TYPE),
                authen_name: attributes.octets(PROXY_AUTHEN_NAME),
                authen_challenge: attributes.octets(PROXY_AUTHEN_CHALLENGE),
                authen_id: attributes.u16(PROXY_AUTHEN_ID),
                authen_response: attributes.octets(PROXY_AUTHEN_RESPONSE),
            },
            private_group: attributes.octets(PRIVATE_GROUP_ID),
            rx_speed: attributes.u32(RX_CONNECT_SPEED),
            sequencing_required: attributes.get(SEQUENCING_REQUIRED).is_some(),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.u32(TX_CONNECT_SPEED, self.tx_speed);
        writer.u32(FRAMING_TYPE, self.framing_type);
        let proxy = &self.proxy;
        writer.optional_octets(
            INITIAL_RECEIVED_CONFREQ,
            proxy.initial_received_confreq.as_deref(),
        );
        writer.optional_octets(LAST_SENT_CONFREQ, proxy.last_sent_confreq.as_deref());
        writer.optional_octets(LAST_RECEIVED_CONFREQ, proxy.last_received_confreq.as_deref());
        writer.optional_u16(PROXY_AUTHEN_TYPE, proxy.authen_type);
        writer.optional_octets(PROXY_AUTHEN_NAME, proxy.authen_name.as_deref());
        writer.optional_octets(PROXY_AUTHEN_CHALLENGE, proxy.authen_challenge.as_deref());
        writer.optional_u16(PROXY_AUTHEN_ID, proxy.authen_id);
        writer.optional_octets(PROXY_AUTHEN_RESPONSE, proxy.authen_response.as_deref());
        writer.optional_octets(PRIVATE_GROUP_ID, self.private_group.as_deref());
        writer.optional_u32(RX_CONNECT_SPEED, self.rx_speed);
        if self.sequencing_required {
            writer.octets(SEQUENCING_REQUIRED, &[]);
        }
    }
}
