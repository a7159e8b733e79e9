//! IPv6 that does not leave the link: what of it the control side answers, and what a subscriber may not say (RFC 6105, RFC 7610).
//!
//! | from a subscriber | |
//! |---|---|
//! | Router Solicitation, DHCPv6 to a server, from a link-local address | to the control side |
//! | Router Advertisement, Redirect, DHCPv6 to a client | dropped: the subscriber is neither router nor server here |
//! | anything else from or to a link-local address, to a group, from no address | dropped: there is nobody on the link but us |
//!
//! The first next header alone is looked at: what hides behind extension headers falls under the last row, or leaves with a hop limit
//! below 255, which no host takes for Neighbour Discovery.

use std::net::Ipv6Addr;

use super::counters::DropReason;
use super::ip::{ICMPV6, View};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;
const DHCPV6_CLIENT_PORT: u16 = 546;
const DHCPV6_SERVER_PORT: u16 = 547;

/// Whether the control side is to have the packet; `Ok(false)` for one that may leave the link.
///
/// # Errors
/// The reason to drop it.
pub fn judge(
    view: &View,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    packet: &[u8],
) -> Result<bool, DropReason> {
    let icmp = packet.get(view.header).filter(|_| view.protocol == ICMPV6);
    let port = view.udp_destination(packet);
    if matches!(icmp, Some(&ROUTER_ADVERTISEMENT | &REDIRECT)) || port == Some(DHCPV6_CLIENT_PORT) {
        return Err(DropReason::Guard);
    }
    let asks = icmp == Some(&ROUTER_SOLICITATION) || port == Some(DHCPV6_SERVER_PORT);
    if source.is_unicast_link_local() && asks {
        return Ok(true);
    }
    let stays = |address: Ipv6Addr| {
        address.is_unicast_link_local() || address.is_multicast() || address.is_unspecified()
    };
    if stays(source) || stays(destination) {
        return Err(DropReason::LinkScope);
    }
    Ok(false)
}
