//! WAN-Error-Notify and Set-Link-Info (RFC 2661 §6.13, §6.14): the state of the line at the LAC.
//!
//! ```text
//! WEN  Message Type 15 | Call Errors
//! SLI  Message Type 16 | ACCM
//! ```

use crate::avp::{Accm, Attributes, CallErrors, Fault, Writer};
use crate::iana::attribute::{ACCM, CALL_ERRORS};

/// Errors of the line, from the LAC, at most once a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wen {
    /// The counters.
    pub errors: CallErrors,
}

impl Wen {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        let errors = attributes.get(CALL_ERRORS).and_then(CallErrors::from_value);
        Ok(Self {
            errors: attributes.required(CALL_ERRORS, errors)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.octets(CALL_ERRORS, &self.errors.value());
    }
}

/// PPP options that the LAC shall use on an asynchronous line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sli {
    /// The character maps.
    pub accm: Accm,
}

impl Sli {
    pub(super) fn from_attributes(attributes: &Attributes<'_>) -> Result<Self, Fault> {
        let accm = attributes.get(ACCM).and_then(Accm::from_value);
        Ok(Self {
            accm: attributes.required(ACCM, accm)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        writer.octets(ACCM, &self.accm.value());
    }
}
