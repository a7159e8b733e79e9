//! The numbers of RADIUS (IANA's "RADIUS Types", and vendors' own).

/// What a packet is (RFC 2865 §3, RFC 2866 §3, RFC 5176 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u8);

impl Code {
    /// May this user come in?
    pub const ACCESS_REQUEST: Self = Self(1);
    /// Yes.
    pub const ACCESS_ACCEPT: Self = Self(2);
    /// No.
    pub const ACCESS_REJECT: Self = Self(3);
    /// A record.
    pub const ACCOUNTING_REQUEST: Self = Self(4);
    /// It is kept.
    pub const ACCOUNTING_RESPONSE: Self = Self(5);
    /// The user is asked something.
    pub const ACCESS_CHALLENGE: Self = Self(11);
    /// Are you there? (RFC 5997)
    pub const STATUS_SERVER: Self = Self(12);
    /// End this session.
    pub const DISCONNECT_REQUEST: Self = Self(40);
    /// Done.
    pub const DISCONNECT_ACK: Self = Self(41);
    /// Not done.
    pub const DISCONNECT_NAK: Self = Self(42);
    /// Change this session.
    pub const COA_REQUEST: Self = Self(43);
    /// Done.
    pub const COA_ACK: Self = Self(44);
    /// Not done.
    pub const COA_NAK: Self = Self(45);
}

macro_rules! attributes {
    ($($constant:ident = $number:literal $name:literal;)*) => {
        /// Types of attributes.
        #[allow(missing_docs)]
        pub mod attribute {
            $(pub const $constant: u8 = $number;)*
        }

        /// The name of an attribute.
        pub const fn name(kind: u8) -> Option<&'static str> {
            match kind {
                $($number => Some($name),)*
                _ => None,
            }
        }
    };
}

attributes! {
    USER_NAME = 1 "User-Name";
    USER_PASSWORD = 2 "User-Password";
    CHAP_PASSWORD = 3 "CHAP-Password";
    NAS_IP_ADDRESS = 4 "NAS-IP-Address";
    NAS_PORT = 5 "NAS-Port";
    SERVICE_TYPE = 6 "Service-Type";
    FRAMED_PROTOCOL = 7 "Framed-Protocol";
    FRAMED_IP_ADDRESS = 8 "Framed-IP-Address";
    FRAMED_IP_NETMASK = 9 "Framed-IP-Netmask";
    FILTER_ID = 11 "Filter-Id";
    FRAMED_MTU = 12 "Framed-MTU";
    FRAMED_COMPRESSION = 13 "Framed-Compression";
    REPLY_MESSAGE = 18 "Reply-Message";
    FRAMED_ROUTE = 22 "Framed-Route";
    STATE = 24 "State";
    CLASS = 25 "Class";
    VENDOR_SPECIFIC = 26 "Vendor-Specific";
    SESSION_TIMEOUT = 27 "Session-Timeout";
    IDLE_TIMEOUT = 28 "Idle-Timeout";
    TERMINATION_ACTION = 29 "Termination-Action";
    CALLED_STATION_ID = 30 "Called-Station-Id";
    CALLING_STATION_ID = 31 "Calling-Station-Id";
    NAS_IDENTIFIER = 32 "NAS-Identifier";
    PROXY_STATE = 33 "Proxy-State";
    ACCT_STATUS_TYPE = 40 "Acct-Status-Type";
    ACCT_DELAY_TIME = 41 "Acct-Delay-Time";
    ACCT_INPUT_OCTETS = 42 "Acct-Input-Octets";
    ACCT_OUTPUT_OCTETS = 43 "Acct-Output-Octets";
    ACCT_SESSION_ID = 44 "Acct-Session-Id";
    ACCT_AUTHENTIC = 45 "Acct-Authentic";
    ACCT_SESSION_TIME = 46 "Acct-Session-Time";
    ACCT_INPUT_PACKETS = 47 "Acct-Input-Packets";
    ACCT_OUTPUT_PACKETS = 48 "Acct-Output-Packets";
    ACCT_TERMINATE_CAUSE = 49 "Acct-Terminate-Cause";
    ACCT_MULTI_SESSION_ID = 50 "Acct-Multi-Session-Id";
    ACCT_LINK_COUNT = 51 "Acct-Link-Count";
    ACCT_INPUT_GIGAWORDS = 52 "Acct-Input-Gigawords";
    ACCT_OUTPUT_GIGAWORDS = 53 "Acct-Output-Gigawords";
    EVENT_TIMESTAMP = 55 "Event-Timestamp";
    CHAP_CHALLENGE = 60 "CHAP-Challenge";
    NAS_PORT_TYPE = 61 "NAS-Port-Type";
    PORT_LIMIT = 62 "Port-Limit";
    TUNNEL_TYPE = 64 "Tunnel-Type";
    TUNNEL_MEDIUM_TYPE = 65 "Tunnel-Medium-Type";
    TUNNEL_CLIENT_ENDPOINT = 66 "Tunnel-Client-Endpoint";
    TUNNEL_SERVER_ENDPOINT = 67 "Tunnel-Server-Endpoint";
    ACCT_TUNNEL_CONNECTION = 68 "Acct-Tunnel-Connection";
    TUNNEL_PASSWORD = 69 "Tunnel-Password";
    CONNECT_INFO = 77 "Connect-Info";
    EAP_MESSAGE = 79 "EAP-Message";
    MESSAGE_AUTHENTICATOR = 80 "Message-Authenticator";
    TUNNEL_PRIVATE_GROUP_ID = 81 "Tunnel-Private-Group-ID";
    TUNNEL_ASSIGNMENT_ID = 82 "Tunnel-Assignment-ID";
    TUNNEL_PREFERENCE = 83 "Tunnel-Preference";
    ACCT_INTERIM_INTERVAL = 85 "Acct-Interim-Interval";
    ACCT_TUNNEL_PACKETS_LOST = 86 "Acct-Tunnel-Packets-Lost";
    NAS_PORT_ID = 87 "NAS-Port-Id";
    FRAMED_POOL = 88 "Framed-Pool";
    CHARGEABLE_USER_IDENTITY = 89 "Chargeable-User-Identity";
    NAS_FILTER_RULE = 92 "NAS-Filter-Rule";
    TUNNEL_CLIENT_AUTH_ID = 90 "Tunnel-Client-Auth-ID";
    TUNNEL_SERVER_AUTH_ID = 91 "Tunnel-Server-Auth-ID";
    NAS_IPV6_ADDRESS = 95 "NAS-IPv6-Address";
    FRAMED_INTERFACE_ID = 96 "Framed-Interface-Id";
    FRAMED_IPV6_PREFIX = 97 "Framed-IPv6-Prefix";
    FRAMED_IPV6_ROUTE = 99 "Framed-IPv6-Route";
    FRAMED_IPV6_POOL = 100 "Framed-IPv6-Pool";
    ERROR_CAUSE = 101 "Error-Cause";
    DELEGATED_IPV6_PREFIX = 123 "Delegated-IPv6-Prefix";
    FRAMED_IPV6_ADDRESS = 168 "Framed-IPv6-Address";
    DNS_SERVER_IPV6_ADDRESS = 169 "DNS-Server-IPv6-Address";
    ROUTE_IPV6_INFORMATION = 170 "Route-IPv6-Information";
    DELEGATED_IPV6_PREFIX_POOL = 171 "Delegated-IPv6-Prefix-Pool";
    STATEFUL_IPV6_ADDRESS_POOL = 172 "Stateful-IPv6-Address-Pool";
}

/// Values of Service-Type.
#[allow(missing_docs)]
pub mod service_type {
    pub const FRAMED: u32 = 2;
    pub const AUTHORIZE_ONLY: u32 = 17;
}

/// Framed-Protocol: PPP.
pub const FRAMED_PROTOCOL_PPP: u32 = 1;
/// NAS-Port-Type: Virtual.
pub const NAS_PORT_TYPE_VIRTUAL: u32 = 5;
/// Tunnel-Type: L2TP.
pub const TUNNEL_TYPE_L2TP: u32 = 3;
/// Tunnel-Medium-Type: IPv4.
pub const TUNNEL_MEDIUM_IPV4: u32 = 1;
/// Tunnel-Medium-Type: IPv6.
pub const TUNNEL_MEDIUM_IPV6: u32 = 2;

/// Vendors (IANA's enterprise numbers) and their attributes.
#[allow(missing_docs)]
pub mod vendor {
    pub const CISCO: u32 = 9;
    pub const MICROSOFT: u32 = 311;
    pub const HUAWEI: u32 = 2011;
    pub const ADSL_FORUM: u32 = 3561;
    pub const ERX: u32 = 4874;
    pub const NOKIA: u32 = 6527;
    pub const ROARING_PENGUIN: u32 = 10055;
    pub const WISPR: u32 = 14122;
    pub const MIKROTIK: u32 = 14988;

    /// In words.
    pub const fn name(vendor: u32) -> &'static str {
        match vendor {
            CISCO => "Cisco",
            MICROSOFT => "Microsoft",
            HUAWEI => "Huawei",
            ADSL_FORUM => "ADSL-Forum",
            ERX => "ERX",
            NOKIA => "Nokia",
            ROARING_PENGUIN => "Roaring Penguin",
            WISPR => "WISPr",
            MIKROTIK => "Mikrotik",
            _ => "vendor's",
        }
    }

    pub mod microsoft {
        pub const MS_CHAP_ERROR: u8 = 2;
        pub const MS_CHAP_CHALLENGE: u8 = 11;
        pub const MS_CHAP2_RESPONSE: u8 = 25;
        pub const MS_CHAP2_SUCCESS: u8 = 26;
        pub const PRIMARY_DNS: u8 = 28;
        pub const SECONDARY_DNS: u8 = 29;
    }

    pub mod cisco {
        pub const AV_PAIR: u8 = 1;
        pub const POLICY_UP: u8 = 37;
        pub const POLICY_DOWN: u8 = 38;
        pub const SUB_QOS_POLICY_IN: u8 = 55;
        pub const SUB_QOS_POLICY_OUT: u8 = 56;
        pub const IN_ACL: u8 = 57;
        pub const OUT_ACL: u8 = 58;
    }

    pub mod erx {
        pub const ADDRESS_POOL: u8 = 2;
        pub const PRIMARY_DNS: u8 = 4;
        pub const SECONDARY_DNS: u8 = 5;
        pub const INGRESS_POLICY: u8 = 10;
        pub const EGRESS_POLICY: u8 = 11;
        pub const QOS_PROFILE: u8 = 26;
        pub const IPV6_PRIMARY_DNS: u8 = 47;
        pub const IPV6_SECONDARY_DNS: u8 = 48;
        pub const IPV6_INGRESS_POLICY: u8 = 106;
        pub const IPV6_EGRESS_POLICY: u8 = 107;
        pub const IPV6_NDRA_PREFIX: u8 = 129;
        pub const IPV6_NDRA_POOL: u8 = 157;
        pub const IPV6_DELEGATED_POOL: u8 = 161;
    }

    pub mod wispr {
        pub const MAX_UP: u8 = 7;
        pub const MAX_DOWN: u8 = 8;
    }

    pub mod mikrotik {
        pub const RATE_LIMIT: u8 = 8;
        pub const DELEGATED_IPV6_POOL: u8 = 22;
    }

    pub mod nokia {
        pub const PRIMARY_DNS: u8 = 9;
        pub const SECONDARY_DNS: u8 = 10;
        pub const SLA_PROFILE: u8 = 13;
        pub const IPV6_ADDRESS: u8 = 99;
        pub const IPV6_DNS: u8 = 105;
    }

    pub mod huawei {
        pub const INPUT_AVERAGE: u8 = 2;
        pub const INPUT_PEAK: u8 = 3;
        pub const OUTPUT_AVERAGE: u8 = 5;
        pub const OUTPUT_PEAK: u8 = 6;
        pub const PRIMARY_DNS: u8 = 135;
        pub const SECONDARY_DNS: u8 = 136;
    }

    pub mod roaring_penguin {
        /// kbit/s.
        pub const UPSTREAM: u8 = 1;
        /// kbit/s.
        pub const DOWNSTREAM: u8 = 2;
    }

    /// RFC 4679.
    pub mod adsl_forum {
        pub const ACTUAL_RATE_UP: u8 = 129;
        pub const ACTUAL_RATE_DOWN: u8 = 130;
    }
}
