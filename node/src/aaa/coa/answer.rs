//! ACK and NAK (RFC 5176 §2.3, §3.5).

use std::fmt;

use crate::aaa::radius::dictionary::{Code, attribute};
use crate::aaa::radius::{Builder, Packet, TooLong, WrongValue};

/// Acct-Terminate-Cause: Admin Reset (RFC 2866 §5.10), what a Disconnect-Request ends a session with.
const ADMIN_RESET: u32 = 6;

/// Why a request was refused (RFC 5176 §3.5).
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCause {
    UnsupportedAttribute = 401,
    MissingAttribute = 402,
    NasIdentificationMismatch = 403,
    InvalidRequest = 404,
    UnsupportedService = 405,
    InvalidAttributeValue = 407,
    SessionContextNotFound = 503,
    ResourcesUnavailable = 506,
    MultipleSessionSelectionUnsupported = 508,
}

impl ErrorCause {
    /// As it stands in the attribute.
    pub const fn code(self) -> u32 {
        self as u32
    }
}

/// A refusal: what the client is told, and why in words for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the NAK.
    pub cause: ErrorCause,
    /// For the log; names attributes and repeats no values.
    pub why: String,
}

impl Refusal {
    /// With its reason.
    pub fn new(cause: ErrorCause, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { cause, why }
    }

    /// A value that makes no sense.
    pub(super) fn value(wrong: WrongValue) -> Self {
        Self::new(ErrorCause::InvalidAttributeValue, wrong.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (Error-Cause {})", self.why, self.cause.code())
    }
}

/// The answer to a request that was verified: State and every Proxy-State as they came, in their order.
pub fn encode(
    request: &Packet<'_>,
    outcome: Result<(), ErrorCause>,
    secret: &[u8],
) -> Result<Vec<u8>, TooLong> {
    let is_disconnect = request.code() == Code::DISCONNECT_REQUEST;
    let code = match (is_disconnect, outcome) {
        (true, Ok(())) => Code::DISCONNECT_ACK,
        (true, Err(_)) => Code::DISCONNECT_NAK,
        (false, Ok(())) => Code::COA_ACK,
        (false, Err(_)) => Code::COA_NAK,
    };
    let mut packet = Builder::new(code, request.id());
    packet.message_authenticator();
    match outcome {
        Ok(()) if is_disconnect => {
            packet.u32(attribute::ACCT_TERMINATE_CAUSE, ADMIN_RESET);
        }
        Ok(()) => {}
        Err(cause) => {
            packet.u32(attribute::ERROR_CAUSE, cause.code());
        }
    }
    let copied = request
        .attributes()
        .filter(|a| matches!(a.kind, attribute::STATE | attribute::PROXY_STATE));
    for a in copied {
        packet.octets(a.kind, a.value);
    }
    packet.finish_reply(secret, &request.authenticator())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aaa::radius::verify_request;

    const SECRET: &[u8] = b"radsecret";

    /// `verify_reply` refuses Proxy-State, which is right for a client; so these are looked at by hand.
    fn answered(code: Code, outcome: Result<(), ErrorCause>) -> (u8, Vec<(u8, Vec<u8>)>) {
        let mut request = Builder::new(code, 77);
        request
            .octets(33, b"one")
            .octets(24, b"state")
            .text(1, "bob")
            .octets(33, b"two");
        let request = request.finish_request(SECRET).expect("it fits");
        let request = verify_request(&request, SECRET).expect("signed");
        let answer = encode(&request, outcome, SECRET).expect("it fits");
        let signature =
            crate::aaa::radius::authenticator::signature(&answer, &request.authenticator(), SECRET);
        let packet = Packet::parse(&answer).expect("well-formed");
        assert_eq!(packet.authenticator(), signature);
        assert_eq!(packet.id(), 77);
        let mut all = packet.attributes().map(|a| (a.kind, a.value.to_vec()));
        assert_eq!(all.next().map(|(kind, _)| kind), Some(80), "signed twice");
        (packet.code().0, all.collect())
    }

    #[test]
    fn what_must_come_back_comes_back_in_order() {
        let copied = [
            (33, b"one".to_vec()),
            (24, b"state".to_vec()),
            (33, b"two".to_vec()),
        ];
        let with = |kind: u8, value: u32| {
            let mut all = vec![(kind, value.to_be_bytes().to_vec())];
            all.extend(copied.clone());
            all
        };
        assert_eq!(answered(Code::COA_REQUEST, Ok(())), (44, copied.to_vec()));
        assert_eq!(answered(Code::DISCONNECT_REQUEST, Ok(())), (41, with(49, 6)));
        let missing = Err(ErrorCause::SessionContextNotFound);
        assert_eq!(answered(Code::COA_REQUEST, missing), (45, with(101, 503)));
        assert_eq!(answered(Code::DISCONNECT_REQUEST, missing), (42, with(101, 503)));
    }
}
