//! The AVPs of one message, judged (RFC 2661 §4.1) and kept for the message's own decoder.
//!
//! Every AVP is looked at even after a fault, since the answer to a faulty message may need an id that comes
//! later. Of an AVP that occurs twice the first counts, but for Random Vector (each replaces the one before it) and
//! PPP Disconnect Cause (all count). A known AVP in a message that has no use for it is judged and then ignored.

use std::borrow::Cow;

use super::Context;
use super::fault::{Fault, FaultKind};
use super::hiding::{HidingError, unhide};
use super::raw::{Avp, Avps, Truncated};
use super::spec::{Misfit, spec};
use super::vendor::{MAX_VENDOR_AVPS, VendorAvp};
use crate::iana::attribute::{
    ASSIGNED_SESSION_ID, ASSIGNED_TUNNEL_ID, MESSAGE_TYPE, PPP_DISCONNECT_CAUSE, RANDOM_VECTOR,
};
use crate::iana::{MessageType, VENDOR_ADSL_FORUM, VENDOR_DISCONNECT_PRESTANDARD, VENDOR_IETF};
use crate::ids::{SessionId, TunnelId};

/// The judged AVPs of one message.
pub(crate) struct Attributes<'a> {
    message: MessageType,
    known: Vec<(u16, Cow<'a, [u8]>)>,
    vendor: Vec<VendorAvp>,
    random_vector: Option<&'a [u8]>,
    fault: Option<FaultKind>,
    leftover: bool,
    permissive: bool,
}

/// The type that a body states, and whether M was set on it.
pub(crate) fn message_type(body: &[u8]) -> Result<(u16, bool), Fault> {
    let fault = |kind| Fault {
        message: None,
        kind,
        assigned_tunnel: None,
        assigned_session: None,
    };
    let first = match Avps::new(body).next() {
        Some(Ok(avp)) => avp,
        Some(Err(_)) => return Err(fault(FaultKind::Truncated)),
        None => return Err(fault(FaultKind::NoMessageType)),
    };
    let open = !first.hidden && !first.reserved;
    match (
        first.vendor,
        first.attribute,
        open,
        <[u8; 2]>::try_from(first.value),
    ) {
        (VENDOR_IETF, MESSAGE_TYPE, true, Ok(value)) => Ok((u16::from_be_bytes(value), first.mandatory)),
        _ => Err(fault(FaultKind::NoMessageType)),
    }
}

impl<'a> Attributes<'a> {
    /// Judges the AVPs of `body`, whose first states `message`.
    pub(crate) fn collect(message: MessageType, body: &'a [u8], context: &Context<'_>) -> Self {
        let mut attributes = Self {
            message,
            known: Vec::new(),
            vendor: Vec::new(),
            random_vector: None,
            fault: None,
            leftover: false,
            permissive: context.permissive,
        };
        for avp in Avps::new(body).skip(1) {
            match avp {
                Ok(avp) => {
                    if let Err(kind) = attributes.add(&avp, context) {
                        attributes.fault.get_or_insert(kind);
                    }
                }
                Err(Truncated::Leftover) => attributes.leftover = true,
                Err(Truncated::Length) => {
                    attributes.fault.get_or_insert(FaultKind::Truncated);
                }
            }
        }
        attributes
    }

    /// Files one AVP. An error is returned only where M makes it the message's.
    fn add(&mut self, avp: &Avp<'a>, context: &Context<'_>) -> Result<(), FaultKind> {
        let unknown = FaultKind::UnknownMandatory {
            vendor: avp.vendor,
            attribute: avp.attribute,
        };
        let known = match (avp.vendor, avp.attribute) {
            (_, _) if avp.reserved => None,
            (VENDOR_IETF, attribute) => spec(attribute),
            (VENDOR_DISCONNECT_PRESTANDARD, PPP_DISCONNECT_CAUSE) => spec(PPP_DISCONNECT_CAUSE),
            (VENDOR_ADSL_FORUM, _) => return self.add_vendor(avp, context),
            (_, _) if context.permissive => return Ok(()),
            (_, _) => None,
        };
        let Some(spec) = known else {
            return when(avp.mandatory, unknown);
        };
        let attribute = spec.attribute;
        if avp.hidden && !spec.hideable {
            return when(avp.mandatory, FaultKind::HiddenForbidden { attribute });
        }
        let value = match self.open(avp, context) {
            Ok(value) => value,
            Err(reason) => return when(avp.mandatory, FaultKind::Hidden { attribute, reason }),
        };
        match spec.shape.check(&value) {
            Ok(()) => self.file(attribute, avp, value),
            Err(Misfit::Length) => return when(avp.mandatory, FaultKind::Length { attribute }),
            Err(Misfit::Value) => return when(avp.mandatory, FaultKind::Value { attribute }),
        }
        Ok(())
    }

    fn file(&mut self, attribute: u16, avp: &Avp<'a>, value: Cow<'a, [u8]>) {
        match attribute {
            MESSAGE_TYPE => {}
            RANDOM_VECTOR => self.random_vector = Some(avp.value),
            PPP_DISCONNECT_CAUSE => self.known.push((attribute, value)),
            _ if self.get(attribute).is_some() => {}
            _ => self.known.push((attribute, value)),
        }
    }

    fn add_vendor(&mut self, avp: &Avp<'a>, context: &Context<'_>) -> Result<(), FaultKind> {
        let Avp {
            vendor, attribute, ..
        } = *avp;
        match self.open(avp, context) {
            Err(_) => when(avp.mandatory, FaultKind::UnknownMandatory { vendor, attribute }),
            Ok(value) => {
                if self.vendor.len() < MAX_VENDOR_AVPS {
                    self.vendor.push(VendorAvp {
                        vendor,
                        attribute,
                        value: value.into_owned(),
                    });
                }
                Ok(())
            }
        }
    }

    fn open(&self, avp: &Avp<'a>, context: &Context<'_>) -> Result<Cow<'a, [u8]>, HidingError> {
        if !avp.hidden {
            return Ok(Cow::Borrowed(avp.value));
        }
        let secret = context.secret.ok_or(HidingError::NoSecret)?;
        let random_vector = self.random_vector.ok_or(HidingError::NoRandomVector)?;
        unhide(avp.attribute, avp.value, secret, random_vector).map(Cow::Owned)
    }

    /// The fault that came first, if any did.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.fault.map_or(Ok(()), |kind| Err(self.fault(kind)))
    }

    /// A fault of this message.
    pub(crate) fn fault(&self, kind: FaultKind) -> Fault {
        Fault {
            message: Some(self.message),
            kind,
            assigned_tunnel: self.u16(ASSIGNED_TUNNEL_ID).and_then(TunnelId::new),
            assigned_session: self.u16(ASSIGNED_SESSION_ID).and_then(SessionId::new),
        }
    }

    /// What the absence of a required attribute means: with octets left over, that those are at fault. Behind
    /// all that is required they are tolerated.
    pub(crate) fn missing(&self, attribute: u16) -> Fault {
        self.fault(if self.leftover {
            FaultKind::Truncated
        } else {
            FaultKind::Missing { attribute }
        })
    }

    pub(crate) fn permissive(&self) -> bool {
        self.permissive
    }

    pub(crate) fn get(&self, attribute: u16) -> Option<&[u8]> {
        self.all(attribute).next()
    }

    pub(crate) fn all(&self, attribute: u16) -> impl Iterator<Item = &[u8]> {
        self.known
            .iter()
            .filter(move |(known, _)| *known == attribute)
            .map(|(_, value)| value.as_ref())
    }

    pub(crate) fn octets(&self, attribute: u16) -> Option<Vec<u8>> {
        self.get(attribute).map(<[u8]>::to_vec)
    }

    pub(crate) fn array<const N: usize>(&self, attribute: u16) -> Option<[u8; N]> {
        self.get(attribute)?.try_into().ok()
    }

    pub(crate) fn u16(&self, attribute: u16) -> Option<u16> {
        self.array(attribute).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&self, attribute: u16) -> Option<u32> {
        self.array(attribute).map(u32::from_be_bytes)
    }

    pub(crate) fn required<T>(&self, attribute: u16, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| self.missing(attribute))
    }

    pub(crate) fn required_u32(&self, attribute: u16) -> Result<u32, Fault> {
        self.required(attribute, self.u32(attribute))
    }

    pub(crate) fn tunnel_id(&self) -> Option<TunnelId> {
        self.u16(ASSIGNED_TUNNEL_ID).and_then(TunnelId::new)
    }

    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.u16(ASSIGNED_SESSION_ID).and_then(SessionId::new)
    }

    pub(crate) fn required_session_id(&self) -> Result<SessionId, Fault> {
        self.required(ASSIGNED_SESSION_ID, self.session_id())
    }

    pub(crate) fn take_vendor(&mut self) -> Vec<VendorAvp> {
        std::mem::take(&mut self.vendor)
    }
}

fn when(mandatory: bool, kind: FaultKind) -> Result<(), FaultKind> {
    if mandatory { Err(kind) } else { Ok(()) }
}
