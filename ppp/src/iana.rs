//! Code points of PPP (IANA "Point-to-Point Protocol Field Assignments"; the RFC of each beside it).

/// Protocol numbers (RFC 1661 §2).
pub mod protocol {
    /// Internet Protocol version 4 (RFC 1332).
    pub const IPV4: u16 = 0x0021;
    /// Internet Protocol version 6 (RFC 5072).
    pub const IPV6: u16 = 0x0057;
    /// IP Control Protocol (RFC 1332).
    pub const IPCP: u16 = 0x8021;
    /// IPv6 Control Protocol (RFC 5072).
    pub const IPV6CP: u16 = 0x8057;
    /// Link Control Protocol (RFC 1661).
    pub const LCP: u16 = 0xc021;
    /// Password Authentication Protocol (RFC 1334).
    pub const PAP: u16 = 0xc023;
    /// Challenge Handshake Authentication Protocol (RFC 1994).
    pub const CHAP: u16 = 0xc223;

    /// Whether a number is in the range of the network control protocols, spoken here or not.
    pub(crate) const fn is_network_control(number: u16) -> bool {
        matches!(number, 0x8000..=0xbfff)
    }
}

/// Codes of LCP and the network control protocols (RFC 1661 §5, RFC 1570).
pub mod code {
    pub const CONFIGURE_REQUEST: u8 = 1;
    pub const CONFIGURE_ACK: u8 = 2;
    pub const CONFIGURE_NAK: u8 = 3;
    pub const CONFIGURE_REJECT: u8 = 4;
    pub const TERMINATE_REQUEST: u8 = 5;
    pub const TERMINATE_ACK: u8 = 6;
    pub const CODE_REJECT: u8 = 7;
    pub const PROTOCOL_REJECT: u8 = 8;
    pub const ECHO_REQUEST: u8 = 9;
    pub const ECHO_REPLY: u8 = 10;
    pub const DISCARD_REQUEST: u8 = 11;
    pub const IDENTIFICATION: u8 = 12;
    pub const TIME_REMAINING: u8 = 13;
}

/// LCP configuration options (RFC 1661 §6).
pub mod lcp_option {
    pub const MRU: u8 = 1;
    pub const ACCM: u8 = 2;
    pub const AUTHENTICATION_PROTOCOL: u8 = 3;
    pub const MAGIC_NUMBER: u8 = 5;
    pub const PFC: u8 = 7;
    pub const ACFC: u8 = 8;
}

/// IPCP configuration options (RFC 1332 §3, RFC 1877 §1).
pub mod ipcp_option {
    pub const IP_ADDRESS: u8 = 3;
    pub const PRIMARY_DNS: u8 = 129;
    pub const SECONDARY_DNS: u8 = 131;
}

/// IPV6CP configuration options (RFC 5072 §4).
pub mod ipv6cp_option {
    pub const INTERFACE_IDENTIFIER: u8 = 1;
}

/// Codes of PAP (RFC 1334 §2.2).
pub mod pap_code {
    pub const AUTHENTICATE_REQUEST: u8 = 1;
    pub const AUTHENTICATE_ACK: u8 = 2;
    pub const AUTHENTICATE_NAK: u8 = 3;
}

/// Codes of CHAP (RFC 1994 §4).
pub mod chap_code {
    pub const CHALLENGE: u8 = 1;
    pub const RESPONSE: u8 = 2;
    pub const SUCCESS: u8 = 3;
    pub const FAILURE: u8 = 4;
}

/// Algorithms of CHAP, the octet after the protocol in LCP option 3 (RFC 1994 §3, RFC 2759 §2).
pub mod chap_algorithm {
    pub const MD5: u8 = 0x05;
    pub const MS_CHAP_V2: u8 = 0x81;
}

/// Values of L2TP's Proxy Authen Type AVP that can be used here (RFC 2661 §4.4.5).
pub mod proxy_authen_type {
    pub const CHAP: u16 = 2;
    pub const PAP: u16 = 3;
}
