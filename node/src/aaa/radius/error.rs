//! What can be wrong with a packet, a signature or a value. None of it repeats a secret or a value.

use std::fmt;

use super::dictionary;

/// Octets that are no RADIUS packet (RFC 2865 §3, §5): to be dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Less than a header.
    #[error("{0} octets are no RADIUS packet")]
    Short(usize),
    /// The Length field is outside 20..=4096, or says more than there is.
    #[error("the packet says {length} octets, {received} are there")]
    Length {
        /// As the packet has it.
        length: u16,
        /// Octets received.
        received: usize,
    },
    /// An attribute's length is below 2 or passes the end of the packet.
    #[error("{} at octet {offset} says {length} octets", name(*kind, None))]
    Attribute {
        /// Its type.
        kind: u8,
        /// From the start of the packet.
        offset: usize,
        /// As the attribute has it.
        length: u8,
    },
}

/// A packet that does not prove who sent it: to be dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// See there.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A code that cannot be checked in this direction.
    #[error("the code {0} is not expected here")]
    Code(u8),
    /// The Request or Response Authenticator is wrong: another secret, or a forgery.
    #[error("the authenticator is wrong: is the secret the same on both sides?")]
    Authenticator,
    /// Message-Authenticator is wrong, has a wrong length or comes twice.
    #[error("the Message-Authenticator is wrong")]
    MessageAuthenticator,
    /// Message-Authenticator is required and missing.
    #[error("there is no Message-Authenticator")]
    MessageAuthenticatorMissing,
    /// A reply carries Proxy-State, which we never sent (CVE-2024-3596 uses it).
    #[error("the reply carries a Proxy-State that was never sent")]
    ProxyState,
}

/// An attribute whose value makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongValue {
    /// Its vendor, or none.
    pub vendor: Option<u32>,
    /// Its type; within the vendor's own, if it has a vendor.
    pub kind: u8,
    /// What it should have been.
    pub expected: &'static str,
}

impl fmt::Display for WrongValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vendor,
            kind,
            expected,
        } = self;
        write!(f, "{}: {expected}", name(*kind, *vendor))
    }
}

impl std::error::Error for WrongValue {}

/// What was to be sent does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} does not fit: 253 octets a value, 4096 a packet", name(*.0, None))]
pub struct TooLong(pub u8);

/// The attribute in words: its name where it has one here, its numbers in any case.
pub fn name(kind: u8, vendor: Option<u32>) -> String {
    match vendor {
        Some(vendor) => {
            let who = dictionary::vendor::name(vendor);
            format!("{who} attribute {kind} (vendor {vendor})")
        }
        None => match dictionary::name(kind) {
            Some(name) => format!("{name} ({kind})"),
            None => format!("attribute {kind}"),
        },
    }
}
