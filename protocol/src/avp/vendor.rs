//! Attributes of vendors, kept as they came: the access line information of RFC 5515 in the ICRQ.

/// An AVP of a vendor, opaque to this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorAvp {
    /// The vendor's enterprise number, not 0.
    pub vendor: u16,
    /// The attribute in the vendor's space.
    pub attribute: u16,
    /// The value, unhidden; at most 1,017 octets.
    pub value: Vec<u8>,
}

/// Vendor AVPs of one message that are kept; further ones are ignored.
pub(crate) const MAX_VENDOR_AVPS: usize = 32;
