//! What an Accounting-Request says (RFC 2866, RFC 2867, RFC 2869, RFC 3162, RFC 4372, RFC 4818).
//!
//! Input is what came from the subscriber, Output what went to him; octets are those of his IP packets, of both families. Whoever writes a
//! record from the same row says the same, octet for octet: Event-Timestamp tells when it was, and Acct-Delay-Time, which would change
//! with each attempt, is not sent.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use holdfast_cluster::records::{AccountingKind, PppRow, Prefix, SessionRow, SocketAddress, Traffic};
use ipnet::Ipv6Net;

use super::sender::Request;
use crate::aaa::radius::dictionary::{Code, attribute};
use crate::aaa::radius::request::{Content, NasIdentity, SessionFacts, nas_attributes, session_attributes};
use crate::aaa::radius::{Builder, TooLong};

/// Acct-Status-Type.
mod status {
    pub(super) const START: u32 = 1;
    pub(super) const STOP: u32 = 2;
    pub(super) const INTERIM_UPDATE: u32 = 3;
    pub(super) const ACCOUNTING_ON: u32 = 7;
    pub(super) const ACCOUNTING_OFF: u32 = 8;
}

/// Acct-Authentic.
mod authentic {
    pub(super) const RADIUS: u32 = 1;
    pub(super) const LOCAL: u32 = 2;
}

/// PPP protocol number of IPV6CP.
const IPV6CP: u32 = 0x8057;

/// Who speaks: the same for all nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nas {
    /// As for any request.
    pub identity: NasIdentity,
    /// Our host name in tunnels.
    pub host_name: String,
}

/// An Accounting-Request. An error names what does not fit.
pub fn content(nas: &Nas, request: &Request) -> Result<Content, TooLong> {
    let mut packet = Builder::new(Code::ACCOUNTING_REQUEST, 0);
    write(&mut packet, nas, request);
    packet.fits()?;
    Ok(Content::accounting(packet))
}

fn write(packet: &mut Builder, nas: &Nas, request: &Request) {
    match request {
        Request::On { unix_s } => write_nas(packet, nas, (status::ACCOUNTING_ON, "on"), *unix_s),
        Request::Off { unix_s } => write_nas(packet, nas, (status::ACCOUNTING_OFF, "off"), *unix_s),
        Request::Owed(owed, traffic) => {
            let is_stop = owed.kind == AccountingKind::Stop;
            let status = if is_stop { status::STOP } else { status::START };
            let facts = SessionFacts {
                tunnel: owed.tunnel,
                row: &owed.session,
                lac: endpoint(&owed.peer),
                local: endpoint(&owed.local),
                lac_name: &owed.host_name,
                own_name: &nas.host_name,
            };
            write_session(packet, nas, status, &facts, owed.event_unix_s);
            if is_stop {
                write_usage(packet, &owed.session, traffic.as_ref(), owed.event_ms);
                packet.u32(attribute::ACCT_TERMINATE_CAUSE, owed.terminate_cause);
            }
        }
        Request::Interim(interim) => {
            let tunnel = &interim.tunnel;
            let facts = SessionFacts {
                tunnel: tunnel.id().expect("a row in the table has a tunnel id"),
                row: &interim.session,
                lac: endpoint(&tunnel.peer),
                local: endpoint(&tunnel.local),
                lac_name: &tunnel.host_name,
                own_name: &nas.host_name,
            };
            write_session(packet, nas, status::INTERIM_UPDATE, &facts, interim.unix_s);
            write_usage(packet, &interim.session, Some(&interim.traffic), interim.now_ms);
        }
    }
}

/// Of the NAS as a whole; an Acct-Session-Id is required all the same (RFC 2866 §5.5).
fn write_nas(packet: &mut Builder, nas: &Nas, (status, name): (u32, &str), unix_s: u64) {
    packet.u32(attribute::ACCT_STATUS_TYPE, status);
    nas_attributes(packet, &nas.identity);
    packet
        .text(attribute::ACCT_SESSION_ID, &format!("{name}-{unix_s:x}"))
        .u32(attribute::EVENT_TIMESTAMP, seconds(unix_s));
}

fn write_session(packet: &mut Builder, nas: &Nas, status: u32, facts: &SessionFacts<'_>, unix_s: u64) {
    packet.u32(attribute::ACCT_STATUS_TYPE, status);
    // Before its first tick the table does not know the time: a record without one is dated when it comes.
    if unix_s > 0 {
        packet.u32(attribute::EVENT_TIMESTAMP, seconds(unix_s));
    }
    session_attributes(packet, &nas.identity, facts);
    if let Some(ppp) = &facts.row.ppp {
        write_subscriber(packet, ppp);
    }
}

fn write_subscriber(packet: &mut Builder, ppp: &PppRow) {
    let identity = ppp.identity.clone().unwrap_or_default();
    let user = match identity.accounted_user.is_empty() {
        true => &ppp.user,
        false => &identity.accounted_user,
    };
    let granted_by = match identity.server_group.is_empty() {
        true => authentic::LOCAL,
        false => authentic::RADIUS,
    };
    packet
        .clipped(attribute::USER_NAME, user)
        .u32(attribute::ACCT_AUTHENTIC, granted_by)
        .clipped(attribute::CHARGEABLE_USER_IDENTITY, &identity.chargeable_user);
    for class in &ppp.classes {
        packet.octets(attribute::CLASS, class);
    }
    for prefix in &ppp.addresses {
        match prefix.ip() {
            Some(IpAddr::V4(address)) if prefix.length == 32 => {
                packet
                    .ipv4(attribute::FRAMED_IP_ADDRESS, address)
                    .ipv4(attribute::FRAMED_IP_NETMASK, Ipv4Addr::BROADCAST);
            }
            // The prefixes follow by what they are for.
            Some(IpAddr::V4(_) | IpAddr::V6(_)) | None => {}
        }
    }
    let ipv6cp = ppp.ncps.iter().find(|ncp| ncp.open && ncp.protocol == IPV6CP);
    if let Some(ipv6cp) = ipv6cp {
        packet.octets(attribute::FRAMED_INTERFACE_ID, &ipv6cp.peer);
    }
    for (kind, prefix) in [
        (attribute::FRAMED_IPV6_PREFIX, &ppp.link_prefix),
        (attribute::DELEGATED_IPV6_PREFIX, &ppp.delegated_prefix),
    ] {
        if let Some(prefix) = prefix.as_ref().and_then(ipv6_net) {
            packet.prefix(kind, prefix);
        }
    }
}

fn write_usage(packet: &mut Builder, session: &SessionRow, traffic: Option<&Traffic>, now_ms: u64) {
    let opened_ms = session.ppp.as_ref().map_or(now_ms, |ppp| ppp.opened_ms);
    let lasted = Duration::from_millis(now_ms.saturating_sub(opened_ms));
    packet.u32(attribute::ACCT_SESSION_TIME, seconds(lasted.as_secs()));
    let Some(traffic) = traffic else { return };
    // S-161: 32 bits, and how often they overflowed.
    packet
        .u32(attribute::ACCT_INPUT_OCTETS, traffic.input_octets as u32)
        .u32(
            attribute::ACCT_INPUT_GIGAWORDS,
            (traffic.input_octets >> 32) as u32,
        )
        .u32(attribute::ACCT_OUTPUT_OCTETS, traffic.output_octets as u32)
        .u32(
            attribute::ACCT_OUTPUT_GIGAWORDS,
            (traffic.output_octets >> 32) as u32,
        )
        .u32(attribute::ACCT_INPUT_PACKETS, traffic.input_packets as u32)
        .u32(attribute::ACCT_OUTPUT_PACKETS, traffic.output_packets as u32);
}

fn endpoint(address: &Option<SocketAddress>) -> Option<std::net::SocketAddr> {
    address.as_ref()?.to_std()
}

fn ipv6_net(prefix: &Prefix) -> Option<Ipv6Net> {
    match prefix.ip()? {
        IpAddr::V6(address) => Ipv6Net::new(address, u8::try_from(prefix.length).ok()?).ok(),
        IpAddr::V4(_) => None,
    }
}

fn seconds(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
