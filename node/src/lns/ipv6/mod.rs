//! IPv6 on an open link beyond IPV6CP: Router Advertisements and DHCPv6, from the session's row alone.
//!
//! ```text
//!   0x0057 frame of the subscriber --> packet --> Router Solicitation --> ra    --> frame
//!                                             `-> DHCPv6              --> dhcp6 --> frame
//!   timer ------------------------------------------------------------> ra    --> frame
//! ```
//!
//! What is said follows from the row: prefixes, name servers, interface identifiers. So another node goes on after a takeover
//! as if nothing had been; nothing but the times of the advertisements is kept here.

mod counter;
pub mod dhcp6;
mod packet;
pub mod ra;

use std::net::Ipv6Addr;
use std::time::Duration;

use holdfast_cluster::records::{PppRow, Prefix};
use holdfast_ppp::iana::protocol;
use holdfast_ppp::{Ncp, frame};
use ipnet::Ipv6Net;

use self::dhcp6::Duid;
use self::packet::Heard;
use self::ra::{Advertisement, Schedule};
use super::entropy::Entropy;

pub use counter::Counter;

/// The least MTU of a link with IPv6, octets (RFC 8200 §5).
pub const MIN_MTU: u16 = 1280;

/// Name servers told to a subscriber at most; of more the first ones.
const NAME_SERVERS_MAX: usize = 8;

/// What the LNS does for a subscriber whose IPV6CP is open.
#[derive(Debug)]
pub struct Services {
    schedule: Schedule,
}

/// What is to be done: at most one of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// A PPP frame for the subscriber.
    pub frame: Option<Vec<u8>>,
    /// Something to count.
    pub count: Option<Counter>,
}

impl Services {
    /// IPV6CP has just opened.
    pub fn begin(now: Duration, seed: u64) -> Self {
        Self {
            schedule: Schedule::begin(now, Entropy::new(seed)),
        }
    }

    /// IPV6CP was open already, here before a restart or on another node.
    pub fn go_on(now: Duration, seed: u64) -> Self {
        Self {
            schedule: Schedule::go_on(now, Entropy::new(seed)),
        }
    }

    /// An IPv6 packet for us. Whose link it is says `ppp`, and who we are `duid`.
    pub fn handle_packet(&mut self, now: Duration, ppp: &PppRow, duid: Duid, octets: &[u8]) -> Answer {
        match packet::parse(octets) {
            None => Answer::count(Counter::Ipv6Malformed),
            Some(Heard::RouterSolicitation) => {
                self.schedule.solicited(now);
                Answer::count(Counter::RouterSolicitations)
            }
            Some(Heard::Dhcp { from, message }) => {
                let server = dhcp6::Server {
                    duid,
                    delegated: net(ppp.delegated_prefix.as_ref()),
                    link: net(ppp.link_prefix.as_ref()),
                    dns: &name_servers(ppp),
                };
                match dhcp6::answer(&server, message) {
                    Ok(reply) => Answer {
                        frame: Some(frame(&packet::dhcp(local(ppp), from, &reply))),
                        count: Some(Counter::Dhcp6Answered),
                    },
                    Err(dhcp6::Discard::Malformed) => Answer::count(Counter::Dhcp6Malformed),
                    Err(dhcp6::Discard::NotForUs) => Answer::count(Counter::Dhcp6Ignored),
                }
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Duration, ppp: &PppRow) -> Answer {
        if !self.schedule.handle_timeout(now) {
            return Answer::default();
        }
        let dns = name_servers(ppp);
        let advertisement = Advertisement {
            prefix: net(ppp.link_prefix.as_ref()),
            mtu: link_mtu(ppp),
            other: !dns.is_empty(),
            dns,
        };
        let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        Answer {
            frame: Some(frame(&packet::icmp(local(ppp), to, advertisement.encode()))),
            count: Some(Counter::RouterAdvertisements),
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Duration {
        self.schedule.next()
    }
}

impl Answer {
    fn count(counter: Counter) -> Self {
        Self {
            frame: None,
            count: Some(counter),
        }
    }
}

/// Our end of the link: the link-local address of the identifier that IPV6CP agreed on.
fn local(ppp: &PppRow) -> Ipv6Addr {
    let ipv6cp = u32::from(Ncp::Ipv6cp.protocol());
    let row = ppp.ncps.iter().find(|ncp| ncp.protocol == ipv6cp);
    let id = row.and_then(|row| row.local.as_slice().try_into().ok());
    Ipv6Addr::from(0xfe80 << 112 | u128::from(u64::from_be_bytes(id.unwrap_or_default())))
}

/// The largest packet that either side of the link takes.
fn link_mtu(ppp: &PppRow) -> u32 {
    let held = ppp.service.as_ref().map_or(0, |service| service.mtu);
    let mtu = ppp.local_mru.min(ppp.peer_mru);
    if held > 0 { mtu.min(held) } else { mtu }
}

fn name_servers(ppp: &PppRow) -> Vec<Ipv6Addr> {
    let address = |octets: &Vec<u8>| <[u8; 16]>::try_from(octets.as_slice()).ok();
    let all = ppp.dns6.iter().filter_map(address).map(Ipv6Addr::from);
    all.take(NAME_SERVERS_MAX).collect()
}

/// A prefix of a row.
pub fn net(prefix: Option<&Prefix>) -> Option<Ipv6Net> {
    let prefix = prefix?;
    let address = <[u8; 16]>::try_from(prefix.address.as_slice()).ok()?;
    Ipv6Net::new(address.into(), u8::try_from(prefix.length).ok()?).ok()
}

fn frame(packet: &[u8]) -> Vec<u8> {
    frame::encode(protocol::IPV6, packet)
}

#[cfg(test)]
mod tests;
