//! The table of known attributes (RFC 2661 §4.4; 46: RFC 3145): default of M, whether H may be set, and what
//! the value must look like before hiding.

use crate::iana::attribute::*;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// This many octets.
    Exactly(usize),
    /// This many octets or more.
    AtLeast(usize),
    /// Two octets that are not both zero: an id or a window.
    NonZero,
    /// A result code: two octets, or two and an error code and perhaps a text.
    ResultCode,
}

/// Why a value does not have its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    Length,
    Value,
}

impl Shape {
    pub(crate) fn check(self, value: &[u8]) -> Result<(), Misfit> {
        let fits = match self {
            Self::Exactly(len) => value.len() == len,
            Self::AtLeast(len) => value.len() >= len,
            Self::NonZero => value.len() == 2,
            Self::ResultCode => value.len() == 2 || value.len() >= 4,
        };
        if !fits {
            return Err(Misfit::Length);
        }
        if self == Self::NonZero && value == [0, 0] {
            return Err(Misfit::Value);
        }
        Ok(())
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) attribute: u16,
    /// M as this side sends it.
    pub(crate) mandatory: bool,
    pub(crate) hideable: bool,
    pub(crate) shape: Shape,
}

const fn row(attribute: u16, m: u8, h: char, shape: Shape) -> Spec {
    Spec {
        attribute,
        mandatory: m == 1,
        hideable: h == 'y',
        shape,
    }
}

use Shape::{AtLeast, Exactly, NonZero, ResultCode};

/// Sorted by attribute.
const TABLE: &[Spec] = &[
    row(MESSAGE_TYPE, 1, 'n', Exactly(2)),
    row(RESULT_CODE, 1, 'n', ResultCode),
    row(PROTOCOL_VERSION, 1, 'n', Exactly(2)),
    row(FRAMING_CAPABILITIES, 1, 'y', Exactly(4)),
    row(BEARER_CAPABILITIES, 1, 'y', Exactly(4)),
    row(TIE_BREAKER, 0, 'n', Exactly(8)),
    row(FIRMWARE_REVISION, 0, 'y', Exactly(2)),
    row(HOST_NAME, 1, 'n', AtLeast(1)),
    row(VENDOR_NAME, 0, 'y', AtLeast(0)),
    row(ASSIGNED_TUNNEL_ID, 1, 'y', NonZero),
    row(RECEIVE_WINDOW_SIZE, 1, 'n', NonZero),
    row(CHALLENGE, 1, 'y', AtLeast(1)),
    row(Q931_CAUSE_CODE, 1, 'n', AtLeast(3)),
    row(CHALLENGE_RESPONSE, 1, 'y', Exactly(16)),
    row(ASSIGNED_SESSION_ID, 1, 'y', NonZero),
    row(CALL_SERIAL_NUMBER, 1, 'y', Exactly(4)),
    row(MINIMUM_BPS, 1, 'y', Exactly(4)),
    row(MAXIMUM_BPS, 1, 'y', Exactly(4)),
    row(BEARER_TYPE, 1, 'y', Exactly(4)),
    row(FRAMING_TYPE, 1, 'y', Exactly(4)),
    row(CALLED_NUMBER, 1, 'y', AtLeast(0)),
    row(CALLING_NUMBER, 1, 'y', AtLeast(0)),
    row(SUB_ADDRESS, 1, 'y', AtLeast(0)),
    row(TX_CONNECT_SPEED, 1, 'y', Exactly(4)),
    row(PHYSICAL_CHANNEL_ID, 0, 'y', Exactly(4)),
    row(INITIAL_RECEIVED_CONFREQ, 0, 'y', AtLeast(0)),
    row(LAST_SENT_CONFREQ, 0, 'y', AtLeast(0)),
    row(LAST_RECEIVED_CONFREQ, 0, 'y', AtLeast(0)),
    row(PROXY_AUTHEN_TYPE, 0, 'y', Exactly(2)),
    row(PROXY_AUTHEN_NAME, 0, 'y', AtLeast(0)),
    row(PROXY_AUTHEN_CHALLENGE, 0, 'y', AtLeast(1)),
    row(PROXY_AUTHEN_ID, 0, 'y', Exactly(2)),
    row(PROXY_AUTHEN_RESPONSE, 0, 'y', AtLeast(0)),
    row(CALL_ERRORS, 1, 'y', Exactly(26)),
    row(ACCM, 1, 'y', Exactly(10)),
    row(RANDOM_VECTOR, 1, 'n', AtLeast(0)),
    row(PRIVATE_GROUP_ID, 0, 'y', AtLeast(0)),
    row(RX_CONNECT_SPEED, 0, 'y', Exactly(4)),
    row(SEQUENCING_REQUIRED, 1, 'n', Exactly(0)),
    row(PPP_DISCONNECT_CAUSE, 0, 'y', AtLeast(5)),
];

/// The table's row for an attribute of vendor 0.
pub(crate) fn spec(attribute: u16) -> Option<&'static Spec> {
    let row = TABLE
        .binary_search_by_key(&attribute, |spec| spec.attribute)
        .ok()?;
    Some(&TABLE[row])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(TABLE.is_sorted_by_key(|spec| spec.attribute));
        let known = (0..=39)
            .filter(|attribute| *attribute != 20)
            .chain([PPP_DISCONNECT_CAUSE]);
        assert!(known.eq(TABLE.iter().map(|spec| spec.attribute)));
    }

    #[test]
    fn s_64_what_must_not_be_hidden() {
        let open: Vec<_> = TABLE
            .iter()
            .filter(|spec| !spec.hideable)
            .map(|spec| spec.attribute)
            .collect();
        assert_eq!(open, [0, 1, 2, 5, 7, 10, 12, 36, 39]);
    }
}
