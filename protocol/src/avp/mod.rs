//! Attribute-value pairs (RFC 2661 §4.1): the octets on the wire, the table of what is known, hiding, and the
//! values that are more than a number or a string.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |M|H| rsvd  |      Length       |           Vendor ID           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         Attribute Type        |        Attribute Value...
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

mod attributes;
mod cause;
mod errors;
mod fault;
mod hiding;
mod raw;
mod result_code;
mod spec;
mod vendor;
mod writer;

pub(crate) use attributes::{Attributes, message_type};
pub use cause::{DisconnectCause, Q931Cause};
pub use errors::{Accm, CallErrors};
pub use fault::{Fault, FaultKind, Reaction};
pub use hiding::{Hiding, HidingError, hide, unhide};
pub use raw::{Avp, Avps, MAX_VALUE_LEN, Truncated};
pub use result_code::ResultCode;
pub(crate) use vendor::MAX_VENDOR_AVPS;
pub use vendor::VendorAvp;
pub(crate) use writer::Writer;

/// What the decoder of a message must know of the peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The secret shared with the peer, for hidden AVPs.
    pub secret: Option<&'a crate::Secret>,
    /// Tolerate unknown mandatory AVPs of vendors, and a missing framing or speed, as some LACs need.
    pub permissive: bool,
}
