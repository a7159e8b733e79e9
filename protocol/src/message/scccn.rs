//! Start-Control-Connection-Connected (RFC 2661 §6.3): completes a tunnel.
//!
//! ```text
//! Message Type 3 | [Challenge Response]
//! ```

use crate::avp::{Attributes, Writer};
use crate::challenge::Response;
use crate::iana::attribute::CHALLENGE_RESPONSE;

/// The answer to an SCCRP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scccn {
    /// The answer to the SCCRP's challenge.
    pub response: Option<Response>,
}

impl Scccn {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Self {
        Self {
            response: attributes.array(CHALLENGE_RESPONSE),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.optional_octets(CHALLENGE_RESPONSE, self.response);
    }
}
