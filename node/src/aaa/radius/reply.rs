//! What a server says of a subscriber, as a [`Profile`] or a refusal.
//!
//! An attribute that is known and makes no sense refuses the subscriber and is named: whoever typed it wants to know, and a session
//! without what it should be held to is worse than none. Attributes that are not known are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::attributes::Attribute;
use super::dictionary::{Code, FRAMED_PROTOCOL_PPP, attribute, service_type};
use super::error::WrongValue;
use super::packet::Packet;
use super::{filter_rules, rate, vendors};
use crate::aaa::profile::{Assignment, PrefixAssignment, Profile, Route};

/// The shortest interim interval, seconds (RFC 2869 §5.16); a shorter one is raised to it.
pub const SHORTEST_INTERIM_S: u32 = 60;
/// Routes of one subscriber; more are refused.
pub const ROUTES_MAX: usize = 64;
/// The longest Reply-Message in all, octets: what a PAP Ack or Nak holds (RFC 1334 §2.2.2).
const LONGEST_MESSAGE: usize = 255;
/// Framed-IP-Address: the NAS picks (RFC 2865 §5.8).
const NAS_PICKS: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 254);
/// Framed-IP-Address: the user picks. We pick for him.
const USER_PICKS: Ipv4Addr = Ipv4Addr::BROADCAST;

/// Framed-IP-Address: none. A session with IPv6 alone, where the reply gives any.
const NO_IPV4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// Bits of the prefix on a link.
const LINK_PREFIX_BITS: u8 = 64;

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// As the subscriber gave it.
    pub name: &'a [u8],
    /// Whose sessions count together: the name as text.
    pub user: &'a str,
    /// By MS-CHAPv2: an Accept has to prove that the server knows the password.
    pub ms_chap: bool,
    /// The group of servers that was asked.
    pub group: &'a str,
}

/// What a server decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// He may come in.
    Accept(Box<Profile>),
    /// He may not.
    Refuse(Refusal),
}

/// Why a subscriber may not come in, in the server's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// For the subscriber.
    pub message: Vec<u8>,
    /// The `E=` number of MS-CHAP.
    pub ms_chap_error: Option<u16>,
    /// For the log, where it is not simply a Reject.
    pub why: Option<&'static str>,
}

/// Reads a reply that was verified.
pub fn read(packet: &Packet<'_>, asked: &Asked<'_>) -> Result<Decision, WrongValue> {
    let refuse = |why| Ok(Decision::Refuse(refusal(packet, why)));
    match packet.code() {
        Code::ACCESS_ACCEPT => match unsupported(packet)? {
            Some(why) => refuse(Some(why)),
            None => profile(packet, asked).map(|profile| Decision::Accept(Box::new(profile))),
        },
        Code::ACCESS_CHALLENGE => refuse(Some(
            "the server asks back (Access-Challenge), which PPP's protocols cannot",
        )),
        _ => refuse(None),
    }
}

/// An Accept for a service that is none of ours counts as a Reject (RFC 2865 §5.6, §5.7).
fn unsupported(packet: &Packet<'_>) -> Result<Option<&'static str>, WrongValue> {
    for (kind, supported, why) in [
        (
            attribute::SERVICE_TYPE,
            service_type::FRAMED,
            "accepted for a Service-Type other than Framed",
        ),
        (
            attribute::FRAMED_PROTOCOL,
            FRAMED_PROTOCOL_PPP,
            "accepted for a Framed-Protocol other than PPP",
        ),
    ] {
        for attribute in packet.all(kind) {
            if attribute.u32()? != supported {
                return Ok(Some(why));
            }
        }
    }
    Ok(None)
}

fn refusal(packet: &Packet<'_>, why: Option<&'static str>) -> Refusal {
    let ms_chap = vendors::ms_chap_error(packet);
    let mut message = message(packet);
    if let Some(error) = ms_chap.as_ref().filter(|_| message.is_empty()) {
        message.clone_from(&error.message);
    }
    Refusal {
        message,
        ms_chap_error: ms_chap.map(|error| error.code),
        why,
    }
}

/// All Reply-Messages, in order.
fn message(packet: &Packet<'_>) -> Vec<u8> {
    let mut message: Vec<u8> = packet
        .all(attribute::REPLY_MESSAGE)
        .flat_map(|attribute| attribute.value.iter().copied())
        .collect();
    message.truncate(LONGEST_MESSAGE);
    message
}

/// A profile in the making: what needs another attribute beside it.
pub(super) struct Draft {
    pub(super) profile: Profile,
    address: Option<(Ipv4Addr, WrongValue)>,
    netmask: Option<(Ipv4Addr, WrongValue)>,
    /// And what is wrong should it fit nothing else.
    pub(super) address6: Option<(Ipv6Addr, WrongValue)>,
    /// For addresses by DHCPv6, which are not given: for the link, if nothing else is.
    stateful_pool: Option<String>,
    /// The first pool that is named.
    pub(super) pool: Option<String>,
}

fn profile(packet: &Packet<'_>, asked: &Asked<'_>) -> Result<Profile, WrongValue> {
    let mut draft = Draft {
        profile: Profile {
            user: asked.user.to_owned(),
            message: message(packet),
            ..Profile::default()
        },
        address: None,
        netmask: None,
        address6: None,
        stateful_pool: None,
        pool: None,
    };
    draft.profile.identity.server_group = asked.group.to_owned();
    draft.profile.service.rules = filter_rules::rules(packet)?;
    for attribute in packet.attributes() {
        draft.take(&attribute, asked)?;
        for inside in attribute.of_vendor() {
            vendors::take(&mut draft, &inside, asked.ms_chap)?;
        }
    }
    if asked.ms_chap && draft.profile.ms_chap_success.is_none() {
        return Err(vendors::ms_chap_success_missing());
    }
    draft.finish()
}

impl Draft {
    fn take(&mut self, a: &Attribute<'_>, asked: &Asked<'_>) -> Result<(), WrongValue> {
        let profile = &mut self.profile;
        let (service, identity) = (&mut profile.service, &mut profile.identity);
        match a.kind {
            attribute::USER_NAME if a.value != asked.name => identity.accounted_user = a.value.to_vec(),
            attribute::CLASS => identity.classes.push(a.value.to_vec()),
            attribute::STATE => identity.state = a.value.to_vec(),
            attribute::CHARGEABLE_USER_IDENTITY => identity.chargeable_user = a.value.to_vec(),
            attribute::TERMINATION_ACTION => identity.termination_action = a.u32()?,
            attribute::FRAMED_IP_ADDRESS => self.address = Some(subscriber_address(a)?),
            attribute::FRAMED_IPV6_ADDRESS => self.address6 = Some(subscriber_address6(a)?),
            attribute::STATEFUL_IPV6_ADDRESS_POOL => {
                self.stateful_pool.get_or_insert(a.text()?.to_owned());
            }
            attribute::FRAMED_IP_NETMASK => {
                self.netmask = Some((a.ipv4()?, a.wrong("must be a netmask, ones before zeros")));
            }
            attribute::FRAMED_POOL => self.pool = Some(a.text()?.to_owned()),
            attribute::FRAMED_ROUTE => self.route(a, route4(a)?)?,
            attribute::FRAMED_IPV6_ROUTE => self.route(a, route6(a)?)?,
            attribute::FRAMED_IPV6_PREFIX => set_prefix(&mut profile.link_prefix, a)?,
            attribute::FRAMED_IPV6_POOL => set_prefix_pool(&mut profile.link_prefix, a)?,
            attribute::DELEGATED_IPV6_PREFIX => set_prefix(&mut profile.delegated_prefix, a)?,
            attribute::DELEGATED_IPV6_PREFIX_POOL => set_prefix_pool(&mut profile.delegated_prefix, a)?,
            attribute::FRAMED_INTERFACE_ID => profile.interface_id = Some(interface_id(a)?),
            attribute::DNS_SERVER_IPV6_ADDRESS => profile.dns6.push(name_server6(a)?),
            attribute::FRAMED_MTU => {
                let mtu = u16::try_from(a.u32()?).ok().filter(|mtu| *mtu >= 64);
                service.mtu = mtu.ok_or(a.wrong("must be 64 to 65535 octets"))?;
            }
            // S-156: 0 is no limit; whoever should not come in is rejected.
            attribute::SESSION_TIMEOUT => profile.session_timeout_s = a.u32()?,
            attribute::IDLE_TIMEOUT => profile.idle_timeout_s = a.u32()?,
            attribute::ACCT_INTERIM_INTERVAL => {
                profile.interim_interval_s = match a.u32()? {
                    0 => 0,
                    interval => interval.max(SHORTEST_INTERIM_S),
                };
            }
            attribute::PORT_LIMIT => {
                let limit = Some(a.u32()?).filter(|limit| *limit > 0);
                profile.max_sessions = Some(limit.ok_or(a.wrong("must not be 0"))?);
            }
            attribute::FILTER_ID => {
                let text = a.text()?;
                if !rate::filter_id(service, a, text)? {
                    service.filters.push(text.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn route(&mut self, a: &Attribute<'_>, route: Route) -> Result<(), WrongValue> {
        if self.profile.routes.len() >= ROUTES_MAX {
            return Err(a.wrong("a subscriber may have 64 routes"));
        }
        self.profile.routes.push(route);
        Ok(())
    }

    fn finish(mut self) -> Result<Profile, WrongValue> {
        self.finish_ipv6()?;
        let mut profile = self.profile;
        profile.ipv4 = Some(match self.address {
            Some((NO_IPV4, wrong)) => {
                let has_ipv6 = profile.link_prefix.is_some() || profile.delegated_prefix.is_some();
                profile.ipv4 = None;
                return if has_ipv6 { Ok(profile) } else { Err(wrong) };
            }
            Some((address, _)) if ![NAS_PICKS, USER_PICKS].contains(&address) => {
                if let Some((netmask, wrong)) = self.netmask {
                    let net = Ipv4Net::with_netmask(address, netmask).ok();
                    let net = net.filter(|net| net.prefix_len() > 0).ok_or(wrong)?;
                    if net.prefix_len() < 32 {
                        profile.routes.push(Route {
                            net: IpNet::V4(net.trunc()),
                            metric: 0,
                        });
                    }
                }
                Assignment::Fixed(address)
            }
            _ => Assignment::Pool(self.pool),
        });
        Ok(profile)
    }

    /// A single address is one that the subscriber makes himself: of its /64 and its own second half, which IPV6CP gives him.
    fn finish_ipv6(&mut self) -> Result<(), WrongValue> {
        let profile = &mut self.profile;
        if let Some((address, wrong)) = self.address6 {
            let net = Ipv6Net::new(address, LINK_PREFIX_BITS)
                .map_err(|_| wrong)?
                .trunc();
            let id = (u128::from(address) as u64).to_be_bytes();
            let has_other_prefix =
                matches!(&profile.link_prefix, Some(PrefixAssignment::Fixed(prefix)) if *prefix != net);
            let has_other_id = profile.interface_id.is_some_and(|own| own != id);
            if id == [0; 8] || has_other_prefix || has_other_id {
                return Err(wrong);
            }
            profile.link_prefix = Some(PrefixAssignment::Fixed(net));
            profile.interface_id = Some(id);
        }
        if let Some(pool) = self.stateful_pool.take() {
            profile
                .link_prefix
                .get_or_insert(PrefixAssignment::Pool(Some(pool)));
        }
        Ok(())
    }
}

/// An address that a host can have, or one of the two that say who picks, or none; and what is wrong with none where there is no IPv6.
fn subscriber_address(a: &Attribute<'_>) -> Result<(Ipv4Addr, WrongValue), WrongValue> {
    let address = a.ipv4()?;
    let stands_for_itself = [NAS_PICKS, USER_PICKS, NO_IPV4].contains(&address);
    match stands_for_itself || is_host(IpAddr::V4(address)) {
        true => Ok((
            address,
            a.wrong("is 0.0.0.0, no IPv4, and there is no IPv6 either"),
        )),
        false => Err(a.wrong("must be an address that a host can have")),
    }
}

/// An address that a host can have; and what is wrong with it should it fit nothing else in the reply.
pub(super) fn subscriber_address6(a: &Attribute<'_>) -> Result<(Ipv6Addr, WrongValue), WrongValue> {
    let misfit =
        "must be of the Framed-IPv6-Prefix and the Framed-Interface-Id, with a second half that is not zero";
    Ok((name_server6(a)?, a.wrong(misfit)))
}

/// Whether a host can have it.
pub(super) fn is_host(address: IpAddr) -> bool {
    let wrong = address.is_unspecified() || address.is_multicast() || address.is_loopback();
    match address {
        IpAddr::V4(v4) => !wrong && v4.octets()[0] != 0 && v4.octets()[0] < 240,
        IpAddr::V6(_) => !wrong,
    }
}

fn name_server6(a: &Attribute<'_>) -> Result<Ipv6Addr, WrongValue> {
    let address = a.ipv6()?;
    is_host(IpAddr::V6(address))
        .then_some(address)
        .ok_or(a.wrong("must be an address that a host can have"))
}

fn interface_id(a: &Attribute<'_>) -> Result<[u8; 8], WrongValue> {
    let id = <[u8; 8]>::try_from(a.value).ok().filter(|id| *id != [0; 8]);
    id.ok_or(a.wrong("must be 8 octets that are not all zero"))
}

/// A prefix by itself goes before a pool's name, and the first before the next.
pub(super) fn set_prefix(into: &mut Option<PrefixAssignment>, a: &Attribute<'_>) -> Result<(), WrongValue> {
    let net = a.prefix()?;
    if !is_unicast(net) {
        return Err(a.wrong("must be a prefix of unicast addresses"));
    }
    if !matches!(into, Some(PrefixAssignment::Fixed(_))) {
        *into = Some(PrefixAssignment::Fixed(net));
    }
    Ok(())
}

fn is_unicast(net: Ipv6Net) -> bool {
    let address = net.network();
    net.prefix_len() > 0
        && !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unicast_link_local()
}

pub(super) fn set_prefix_pool(
    into: &mut Option<PrefixAssignment>,
    a: &Attribute<'_>,
) -> Result<(), WrongValue> {
    let pool = a.text()?.to_owned();
    into.get_or_insert(PrefixAssignment::Pool(Some(pool)));
    Ok(())
}

/// `PREFIX[/LENGTH] [GATEWAY [METRIC ...]]` (RFC 2865 §5.22). A PPP subscriber is the only way there is, whatever gateway is named.
pub(super) fn route4(a: &Attribute<'_>) -> Result<Route, WrongValue> {
    let wrong = a.wrong("must be \"PREFIX/LENGTH GATEWAY METRIC\"");
    let mut words = a.text()?.split_ascii_whitespace();
    let prefix = words.next().ok_or(wrong)?;
    let net = match prefix.split_once('/') {
        Some(_) => prefix.parse::<Ipv4Net>().map_err(|_| wrong)?,
        None => {
            let address = prefix.parse::<Ipv4Addr>().map_err(|_| wrong)?;
            Ipv4Net::new(address, class_length(address)).map_err(|_| wrong)?
        }
    };
    let net = IpNet::V4(net.trunc());
    let metric = gateway_and_metric::<Ipv4Addr>(words).ok_or(wrong)?;
    Ok(Route { net, metric })
}

/// The same for IPv6 (RFC 3162 §2.5).
fn route6(a: &Attribute<'_>) -> Result<Route, WrongValue> {
    let wrong = a.wrong("must be \"PREFIX/LENGTH GATEWAY METRIC\"");
    let mut words = a.text()?.split_ascii_whitespace();
    let net = words
        .next()
        .and_then(|prefix| prefix.parse::<Ipv6Net>().ok())
        .ok_or(wrong)?;
    let net = IpNet::V6(net.trunc());
    let metric = gateway_and_metric::<Ipv6Addr>(words).ok_or(wrong)?;
    Ok(Route { net, metric })
}

/// The metric, 0 without one; what follows it is for other routers.
fn gateway_and_metric<'t, A: std::str::FromStr>(mut words: impl Iterator<Item = &'t str>) -> Option<u32> {
    if let Some(gateway) = words.next() {
        gateway.parse::<A>().ok()?;
    }
    words.next().map_or(Some(0), |metric| metric.parse().ok())
}

/// Without a length the address' class gives it (RFC 2865 §5.22).
fn class_length(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        192.. => 24,
    }
}

#[cfg(test)]
mod tests;
