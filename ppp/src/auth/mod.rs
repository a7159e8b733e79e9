//! Authentication of the peer: PAP (RFC 1334), CHAP with MD5 (RFC 1994), MS-CHAPv2 (RFC 2759).
//!
//! The link collects what the peer presents as an [`AuthRequest`]; whoever owns the link judges it, by RADIUS or with
//! [`AuthRequest::verify`] where the clear password is known, and answers with a [`Verdict`]. The link itself knows no
//! passwords and never authenticates itself to the peer.

mod authenticator;
pub mod ms_chap;
mod packets;
mod verify;

use std::fmt;

pub(crate) use authenticator::{Answered, Authenticator, Heard, Overdue};
pub(crate) use packets::MAX_NAME;
pub use verify::Accepted;

use crate::iana::{chap_algorithm, protocol};
use crate::ipcp::IpcpConfig;
use crate::ipv6cp::Ipv6cpConfig;
use crate::secret::Secret;

/// An authentication protocol with its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    Pap,
    ChapMd5,
    MsChapV2,
}

impl AuthMethod {
    /// The protocol number.
    pub fn protocol(self) -> u16 {
        match self {
            Self::Pap => protocol::PAP,
            Self::ChapMd5 | Self::MsChapV2 => protocol::CHAP,
        }
    }

    /// The value of LCP option 3 that asks for it.
    pub(crate) fn lcp_value(self) -> Vec<u8> {
        let algorithm = match self {
            Self::Pap => None,
            Self::ChapMd5 => Some(chap_algorithm::MD5),
            Self::MsChapV2 => Some(chap_algorithm::MS_CHAP_V2),
        };
        self.protocol()
            .to_be_bytes()
            .into_iter()
            .chain(algorithm)
            .collect()
    }
}

/// What a peer presents, for the owner of the link to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRequest {
    /// The name as the peer gave it: any octets at all, to be escaped in logs. Empty without authentication.
    pub name: Vec<u8>,
    pub credential: Credential,
}

/// The proof that goes with a name.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// The link asks for no authentication; policy alone decides.
    None,
    Pap {
        password: Secret,
    },
    ChapMd5 {
        id: u8,
        challenge: Vec<u8>,
        response: [u8; 16],
    },
    MsChapV2 {
        id: u8,
        challenge: [u8; 16],
        /// Peer challenge 16, reserved 8, NT-Response 24, flags 1 (RFC 2759 §4).
        response: [u8; 49],
    },
}

impl Credential {
    /// The method that produced it.
    pub fn method(&self) -> Option<AuthMethod> {
        match self {
            Self::None => None,
            Self::Pap { .. } => Some(AuthMethod::Pap),
            Self::ChapMd5 { .. } => Some(AuthMethod::ChapMd5),
            Self::MsChapV2 { .. } => Some(AuthMethod::MsChapV2),
        }
    }
}

/// Says the method alone: responses can be attacked offline, so they are kept from logs like passwords.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?})", self.method())
    }
}

/// The judgement of an [`AuthRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept {
        /// IPv4 for the peer; without any network protocol the link ends with "no NCP opened".
        ipcp: Option<IpcpConfig>,
        /// IPv6 for the peer.
        ipv6cp: Option<Ipv6cpConfig>,
        /// Text for the user; at most 255 octets are sent.
        message: Vec<u8>,
        /// For MS-CHAPv2: `S=` and 40 hex digits, which prove to the peer that we know its password too. RADIUS gives
        /// it as MS-CHAP2-Success (without the leading ident octet), [`AuthRequest::verify`] computes it.
        ms_chap_success: Option<Vec<u8>>,
    },
    Reject {
        /// Text for the user; at most 255 octets are sent.
        message: Vec<u8>,
        /// For MS-CHAPv2: the `E=` number; 691 (authentication failure) if none.
        ms_chap_error: Option<u16>,
    },
    /// Nobody can judge for now: the peer is told no, and the link ends for another reason than a wrong proof.
    Unavailable {
        /// Text for the user; at most 255 octets are sent.
        message: Vec<u8>,
    },
}
