//! What an authenticated subscriber gets, whoever decided: the users of the configuration or a RADIUS server.
//!
//! A profile is a wish: addresses and prefixes are picked afterwards, and the session table has the last word. What comes of it
//! stands in the session's row ([`holdfast_cluster::records::PppRow`]), from which CoA, accounting and a successor go on.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Whose sessions count together, and whose address is whose.
    pub user: String,
    /// `None`: no IPv4 for this subscriber.
    pub ipv4: Option<Assignment>,
    /// The prefix announced on the link. `None`: none.
    pub link_prefix: Option<PrefixAssignment>,
    /// The prefix delegated by DHCPv6. `None`: none.
    pub delegated_prefix: Option<PrefixAssignment>,
    /// The subscriber's interface identifier (RFC 5072). `None`: the subscriber's own choice.
    pub interface_id: Option<[u8; 8]>,
    /// Networks behind the subscriber.
    pub routes: Vec<Route>,
    /// Name servers offered in IPCP; empty: as configured.
    pub dns: Vec<Ipv4Addr>,
    /// Name servers offered by Router Advertisements and DHCPv6; empty: as configured.
    pub dns6: Vec<Ipv6Addr>,
    /// To what the session is held.
    pub service: Service,
    /// Seconds that the session may last; 0: any.
    pub session_timeout_s: u32,
    /// Seconds without user data after which it ends; 0: never.
    pub idle_timeout_s: u32,
    /// Seconds between two interim records; 0: as configured.
    pub interim_interval_s: u32,
    /// Sessions of the user at once; `None`: any number.
    pub max_sessions: Option<u32>,
    /// What RADIUS wants back.
    pub identity: Identity,
    /// Shown to the subscriber in the PAP Ack or CHAP Success.
    pub message: Vec<u8>,
    /// For [`holdfast_ppp::Verdict::Accept`].
    pub ms_chap_success: Option<Vec<u8>>,
}

/// Where a user's address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// Always this one.
    Fixed(Ipv4Addr),
    /// A free one of this pool, or of the first.
    Pool(Option<String>),
}

/// Where a user's prefix comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixAssignment {
    /// Always this one.
    Fixed(Ipv6Net),
    /// A free one of this pool, or of the first that has such prefixes.
    Pool(Option<String>),
}

/// A network behind the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which.
    pub net: IpNet,
    /// Of sessions with the same route the one with the lowest metric has it.
    pub metric: u32,
}

/// How a session is held to its product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Name of a policy of the configuration; empty: none.
    pub policy: String,
    /// bit/s from the subscriber; 0: unlimited.
    pub rate_up: u64,
    /// bit/s to the subscriber; 0: unlimited.
    pub rate_down: u64,
    /// Octets; 0: as the rate implies.
    pub burst_up: u32,
    /// Octets; 0: as the rate implies.
    pub burst_down: u32,
    /// Names of filters of the configuration, in the order in which they apply.
    pub filters: Vec<String>,
    /// Rules of the subscriber's own, as a filter's are written ([`crate::dataplane::filter`]); they come after the filters.
    pub rules: Vec<String>,
    /// The largest IP packet to the subscriber in octets; 0: as the link has it.
    pub mtu: u16,
}

/// Who the subscriber is to RADIUS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User-Name of the Access-Accept, where it is another than the subscriber gave.
    pub accounted_user: Vec<u8>,
    /// Chargeable-User-Identity (RFC 4372).
    pub chargeable_user: Vec<u8>,
    /// Class, each instance as it came.
    pub classes: Vec<Vec<u8>>,
    /// State (RFC 2865 §5.24).
    pub state: Vec<u8>,
    /// Termination-Action (RFC 2865 §5.29).
    pub termination_action: u32,
    /// The group of servers that granted the session; empty: the users of the configuration.
    pub server_group: String,
}
