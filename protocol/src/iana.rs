//! Code points of L2TPv2 (RFC 2661 §3.2, §4.4, §10 and the IANA "L2TP" registry).
//!
//! Nothing else in this crate writes a code point as a number.

/// UDP port of L2TP.
pub const UDP_PORT: u16 = 1701;

/// Vendor id of the attributes that the IETF defines.
pub const VENDOR_IETF: u16 = 0;
/// Vendor id of the access line attributes (RFC 5515), the ADSL Forum's enterprise number.
pub const VENDOR_ADSL_FORUM: u16 = 3561;
/// Vendor id under which PPP Disconnect Cause was sent before RFC 3145.
pub const VENDOR_DISCONNECT_PRESTANDARD: u16 = 43;

/// The value of the Message Type attribute (RFC 2661 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum MessageType {
    /// Start-Control-Connection-Request.
    Sccrq = 1,
    /// Start-Control-Connection-Reply.
    Sccrp = 2,
    /// Start-Control-Connection-Connected.
    Scccn = 3,
    /// Stop-Control-Connection-Notification.
    StopCcn = 4,
    /// Hello.
    Hello = 6,
    /// Outgoing-Call-Request.
    Ocrq = 7,
    /// Outgoing-Call-Reply.
    Ocrp = 8,
    /// Outgoing-Call-Connected.
    Occn = 9,
    /// Incoming-Call-Request.
    Icrq = 10,
    /// Incoming-Call-Reply.
    Icrp = 11,
    /// Incoming-Call-Connected.
    Iccn = 12,
    /// Call-Disconnect-Notify.
    Cdn = 14,
    /// WAN-Error-Notify.
    Wen = 15,
    /// Set-Link-Info.
    Sli = 16,
}

impl MessageType {
    /// The message type of a wire value; `None` for one that RFC 2661 does not define.
    pub const fn from_wire(value: u16) -> Option<Self> {
        Some(match value {
            1 => Self::Sccrq,
            2 => Self::Sccrp,
            3 => Self::Scccn,
            4 => Self::StopCcn,
            6 => Self::Hello,
            7 => Self::Ocrq,
            8 => Self::Ocrp,
            9 => Self::Occn,
            10 => Self::Icrq,
            11 => Self::Icrp,
            12 => Self::Iccn,
            14 => Self::Cdn,
            15 => Self::Wen,
            16 => Self::Sli,
            _ => return None,
        })
    }

    /// The value that the Message Type attribute carries.
    pub const fn wire(self) -> u16 {
        self as u16
    }

    /// Whether a fault in such a message concerns one session only (RFC 2661 §4.1).
    pub const fn is_session_message(self) -> bool {
        match self {
            Self::Sccrq | Self::Sccrp | Self::Scccn | Self::StopCcn | Self::Hello => false,
            Self::Ocrq
            | Self::Ocrp
            | Self::Occn
            | Self::Icrq
            | Self::Icrp
            | Self::Iccn
            | Self::Cdn
            | Self::Wen
            | Self::Sli => true,
        }
    }
}

/// Attribute types of vendor 0 (RFC 2661 §4.4; 46: RFC 3145).
pub mod attribute {
    pub const MESSAGE_TYPE: u16 = 0;
    pub const RESULT_CODE: u16 = 1;
    pub const PROTOCOL_VERSION: u16 = 2;
    pub const FRAMING_CAPABILITIES: u16 = 3;
    pub const BEARER_CAPABILITIES: u16 = 4;
    pub const TIE_BREAKER: u16 = 5;
    pub const FIRMWARE_REVISION: u16 = 6;
    pub const HOST_NAME: u16 = 7;
    pub const VENDOR_NAME: u16 = 8;
    pub const ASSIGNED_TUNNEL_ID: u16 = 9;
    pub const RECEIVE_WINDOW_SIZE: u16 = 10;
    pub const CHALLENGE: u16 = 11;
    pub const Q931_CAUSE_CODE: u16 = 12;
    pub const CHALLENGE_RESPONSE: u16 = 13;
    pub const ASSIGNED_SESSION_ID: u16 = 14;
    pub const CALL_SERIAL_NUMBER: u16 = 15;
    pub const MINIMUM_BPS: u16 = 16;
    pub const MAXIMUM_BPS: u16 = 17;
    pub const BEARER_TYPE: u16 = 18;
    pub const FRAMING_TYPE: u16 = 19;
    pub const CALLED_NUMBER: u16 = 21;
    pub const CALLING_NUMBER: u16 = 22;
    pub const SUB_ADDRESS: u16 = 23;
    pub const TX_CONNECT_SPEED: u16 = 24;
    pub const PHYSICAL_CHANNEL_ID: u16 = 25;
    pub const INITIAL_RECEIVED_CONFREQ: u16 = 26;
    pub const LAST_SENT_CONFREQ: u16 = 27;
    pub const LAST_RECEIVED_CONFREQ: u16 = 28;
    pub const PROXY_AUTHEN_TYPE: u16 = 29;
    pub const PROXY_AUTHEN_NAME: u16 = 30;
    pub const PROXY_AUTHEN_CHALLENGE: u16 = 31;
    pub const PROXY_AUTHEN_ID: u16 = 32;
    pub const PROXY_AUTHEN_RESPONSE: u16 = 33;
    pub const CALL_ERRORS: u16 = 34;
    pub const ACCM: u16 = 35;
    pub const RANDOM_VECTOR: u16 = 36;
    pub const PRIVATE_GROUP_ID: u16 = 37;
    pub const RX_CONNECT_SPEED: u16 = 38;
    pub const SEQUENCING_REQUIRED: u16 = 39;
    pub const PPP_DISCONNECT_CAUSE: u16 = 46;
}

/// Result codes of StopCCN (RFC 2661 §4.4.2).
pub mod stop_result {
    pub const GENERAL_REQUEST: u16 = 1;
    /// The error code says which.
    pub const GENERAL_ERROR: u16 = 2;
    pub const ALREADY_EXISTS: u16 = 3;
    pub const NOT_AUTHORIZED: u16 = 4;
    /// The error code carries the highest version supported.
    pub const VERSION_UNSUPPORTED: u16 = 5;
    pub const SHUTTING_DOWN: u16 = 6;
    pub const STATE_MACHINE_ERROR: u16 = 7;
}

/// Result codes of CDN (RFC 2661 §4.4.2; 13 and up are later registrations).
pub mod call_result {
    pub const LOSS_OF_CARRIER: u16 = 1;
    /// The error code says which.
    pub const GENERAL_ERROR: u16 = 2;
    pub const ADMINISTRATIVE: u16 = 3;
    pub const NO_FACILITIES_TEMPORARY: u16 = 4;
    pub const NO_FACILITIES_PERMANENT: u16 = 5;
    pub const INVALID_DESTINATION: u16 = 6;
    pub const NO_CARRIER: u16 = 7;
    pub const BUSY: u16 = 8;
    pub const NO_DIAL_TONE: u16 = 9;
    /// Not established within the time allotted.
    pub const NOT_ESTABLISHED_IN_TIME: u16 = 10;
    pub const NO_FRAMING: u16 = 11;
    /// RFC 3931.
    pub const LOST_TIE_BREAKER: u16 = 13;
    /// State machine error or timeout (RFC 3931).
    pub const STATE_MACHINE_ERROR: u16 = 16;
}

/// Error codes, with result 2 of either message (RFC 2661 §4.4.2; 9: RFC 3931).
pub mod error_code {
    pub const NONE: u16 = 0;
    pub const NO_CONTROL_CONNECTION: u16 = 1;
    pub const WRONG_LENGTH: u16 = 2;
    /// A field out of range, or a reserved field that is not zero.
    pub const BAD_VALUE: u16 = 3;
    pub const NO_RESOURCES: u16 = 4;
    pub const INVALID_SESSION: u16 = 5;
    pub const VENDOR_SPECIFIC: u16 = 6;
    pub const TRY_ANOTHER: u16 = 7;
    pub const UNKNOWN_MANDATORY: u16 = 8;
    pub const TRY_ANOTHER_DIRECTED: u16 = 9;
}

/// PPP disconnect cause codes (RFC 3145 §2.1).
pub mod disconnect {
    pub const NO_INFORMATION: u16 = 0;
    pub const ADMINISTRATIVE: u16 = 1;
    pub const RENEGOTIATION_DISABLED: u16 = 2;
    pub const NORMAL_TERMINATION: u16 = 3;
    pub const ENCRYPTION_REFUSED: u16 = 4;
    pub const LCP_TIMEOUT: u16 = 5;
    pub const NO_LCP_SEEN: u16 = 6;
    pub const MAGIC_NUMBER_ERROR: u16 = 7;
    pub const ECHO_TIMEOUT: u16 = 8;
    pub const ENDPOINT_DISCRIMINATOR: u16 = 9;
    pub const MRRU_UNEXPECTED: u16 = 10;
    pub const SHORT_SEQUENCE_UNEXPECTED: u16 = 11;
    pub const CALLBACK_REFUSED: u16 = 12;
    pub const AUTHENTICATION_TIMEOUT: u16 = 13;
    pub const NAME_UNEXPECTED: u16 = 14;
    pub const AUTHENTICATION_UNACCEPTABLE: u16 = 15;
    pub const AUTHENTICATION_FAILED: u16 = 16;
    pub const NCP_TIMEOUT: u16 = 17;
    pub const NO_NCP: u16 = 18;
    pub const ADDRESS_DISAGREEMENT: u16 = 19;
    pub const ADDRESS_FORBIDDEN: u16 = 20;
}

/// Bits of Framing Capabilities and Framing Type (RFC 2661 §4.4.3).
pub mod framing {
    pub const SYNCHRONOUS: u32 = 0x0000_0001;
    pub const ASYNCHRONOUS: u32 = 0x0000_0002;
}

/// Bits of Bearer Capabilities and Bearer Type (RFC 2661 §4.4.3).
pub mod bearer {
    pub const DIGITAL: u32 = 0x0000_0001;
    pub const ANALOG: u32 = 0x0000_0002;
}

/// Proxy Authen Type (RFC 2661 §4.4.5).
pub mod proxy_authen {
    pub const TEXT: u16 = 1;
    pub const CHAP: u16 = 2;
    pub const PAP: u16 = 3;
    pub const NONE: u16 = 4;
    pub const MS_CHAP_V1: u16 = 5;
}
