//! Writes a control message: header, Message Type, AVPs with M and H as the table and the policy say.

use std::borrow::Cow;

use super::hiding::{Hiding, hide};
use super::raw::{Avp, MAX_VALUE_LEN};
use super::spec::spec;
use super::vendor::VendorAvp;
use crate::header::{CONTROL_HEADER_LEN, ControlHeader};
use crate::iana::attribute::{MESSAGE_TYPE, RANDOM_VECTOR};
use crate::iana::{MessageType, VENDOR_IETF};

/// A message under construction. A value beyond 1,017 octets is cut, which only names and texts can reach.
pub(crate) struct Writer<'a> {
    header: ControlHeader,
    out: Vec<u8>,
    hiding: Option<&'a Hiding>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(header: ControlHeader, message: MessageType, hiding: Option<&'a Hiding>) -> Self {
        let mut writer = Self {
            header,
            out: vec![0; CONTROL_HEADER_LEN],
            hiding,
        };
        writer.u16(MESSAGE_TYPE, message.wire());
        if let Some(hiding) = hiding {
            writer.octets(RANDOM_VECTOR, &hiding.random_vector);
        }
        writer
    }

    pub(crate) fn octets(&mut self, attribute: u16, value: &[u8]) {
        let spec = spec(attribute).expect("only attributes of the table are written");
        let hiding = self
            .hiding
            .filter(|hiding| spec.hideable && hiding.attributes.contains(&attribute));
        let value = match hiding {
            None => Cow::Borrowed(&value[..value.len().min(MAX_VALUE_LEN)]),
            Some(hiding) => Cow::Owned(hide(
                attribute,
                value,
                hiding.padding,
                &hiding.secret,
                &hiding.random_vector,
            )),
        };
        let avp = Avp {
            mandatory: spec.mandatory,
            hidden: hiding.is_some(),
            reserved: false,
            vendor: VENDOR_IETF,
            attribute,
            value: &value,
        };
        avp.encode(&mut self.out);
    }

    pub(crate) fn u16(&mut self, attribute: u16, value: u16) {
        self.octets(attribute, &value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, attribute: u16, value: u32) {
        self.octets(attribute, &value.to_be_bytes());
    }

    pub(crate) fn optional_octets(&mut self, attribute: u16, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.octets(attribute, value.as_ref());
        }
    }

    pub(crate) fn optional_u16(&mut self, attribute: u16, value: Option<u16>) {
        self.optional_octets(attribute, value.map(u16::to_be_bytes));
    }

    pub(crate) fn optional_u32(&mut self, attribute: u16, value: Option<u32>) {
        self.optional_octets(attribute, value.map(u32::to_be_bytes));
    }

    /// Vendor AVPs go out with M clear and open, as RFC 5515 §5 advises.
    pub(crate) fn vendor(&mut self, vendor_avp: &VendorAvp) {
        let value = &vendor_avp.value[..vendor_avp.value.len().min(MAX_VALUE_LEN)];
        let avp = Avp {
            mandatory: false,
            hidden: false,
            reserved: false,
            vendor: vendor_avp.vendor,
            attribute: vendor_avp.attribute,
            value,
        };
        avp.encode(&mut self.out);
    }

    /// The finished message.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let header = self.header.encode(self.out.len() - CONTROL_HEADER_LEN);
        self.out[..CONTROL_HEADER_LEN].copy_from_slice(&header);
        self.out
    }
}
