//! What the control side tells the forwarding tables.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use holdfast_protocol::{SessionId, TunnelId};
use ipnet::IpNet;

use super::counters::{SessionShared, TunnelShared};
use super::filter::FilterSet;
use super::lcp_echo::Magics;
use super::rate::Limits;

/// A tunnel that may exchange datagrams with its peer.
#[derive(Clone, Debug)]
pub struct TunnelEntry {
    /// Our id.
    pub tunnel: TunnelId,
    /// The LAC's address and port; datagrams from anywhere else are dropped (S-8).
    pub peer: SocketAddr,
    /// The address and port to which the LAC sends and from which we answer. `None`: the first socket of the peer's
    /// family, and the kernel picks the address.
    pub local: Option<SocketAddr>,
    /// The LAC's id for the tunnel.
    pub peer_tunnel: TunnelId,
    /// Where the shard notes when it last heard from the peer.
    pub shared: Arc<TunnelShared>,
}

/// A prefix behind a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRoute {
    /// Which.
    pub net: IpNet,
    /// Of sessions with the same prefix the lowest has it.
    pub metric: u32,
    /// Of those with the same metric the one that opened last, by the table's clock.
    pub opened_ms: u64,
}

impl From<IpNet> for SessionRoute {
    fn from(net: IpNet) -> Self {
        Self {
            net,
            metric: 0,
            opened_ms: 0,
        }
    }
}

impl std::str::FromStr for SessionRoute {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpNet>().map(Self::from)
    }
}

/// A session of a tunnel that was announced before.
#[derive(Clone, Debug)]
pub struct SessionEntry {
    /// Our id of the tunnel.
    pub tunnel: TunnelId,
    /// Our id of the session.
    pub session: SessionId,
    /// The LAC's id of the session.
    pub peer_session: SessionId,
    /// Whether user data may pass. Before that only PPP control frames do (S-91).
    pub open: bool,
    /// Whether IPv6 may pass: IPV6CP is open. IPv4 may pass where there is an address.
    pub ipv6: bool,
    /// The subscriber's own address.
    pub address: Option<Ipv4Addr>,
    /// Further prefixes of the subscriber, of either family.
    pub routes: Vec<SessionRoute>,
    /// The largest IP packet, octets, to be sent to the subscriber. At least [`crate::dataplane::table::MIN_MTU`].
    pub mtu: u16,
    /// Whether the MSS of TCP connections is held to what `mtu` carries.
    pub mss_clamp: bool,
    /// Whether the LAC required sequence numbers (AVP 39).
    pub sequencing: bool,
    /// The session's rates.
    pub limits: Limits,
    /// The number of the session's filters, given by a [`TableUpdate::Filters`] before;
    /// [`crate::dataplane::table::NO_FILTERS`] if it has none.
    pub filters: u16,
    /// Of LCP, while `open`.
    pub magics: Magics,
    /// Counters and send sequence. An update of the same session carries the same one.
    pub shared: Arc<SessionShared>,
}

/// One change of the forwarding tables. Every shard applies all of them in the order in which they were given.
#[derive(Clone, Debug)]
pub enum TableUpdate {
    /// What sessions with filters of this number may send and receive from now on.
    Filters(u16, Arc<FilterSet>),
    /// A new tunnel, or new values of a known one; its sessions stay.
    Tunnel(TunnelEntry),
    /// The tunnel and all its sessions are gone.
    RemoveTunnel(TunnelId),
    /// A new session, or new values of a known one. Ignored if its tunnel is not known.
    Session(SessionEntry),
    /// The session is gone.
    RemoveSession(TunnelId, SessionId),
}
