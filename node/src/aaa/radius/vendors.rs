//! Vendors' attributes in a reply.

use std::net::{IpAddr, Ipv4Addr};

use super::attributes::Attribute;
use super::dictionary::vendor::{
    self, adsl_forum, cisco, erx, huawei, microsoft, mikrotik, nokia, roaring_penguin, wispr,
};
use super::error::WrongValue;
use super::packet::Packet;
use super::rate::{self, Direction};
use super::reply::{self, Draft};
use crate::aaa::profile::Service;

/// Octets of an MS-CHAP success: `S=` and 40 hexadecimal digits (RFC 2759 §5).
const MS_CHAP_SUCCESS: usize = 42;

/// Takes one attribute of a vendor over.
pub(super) fn take(draft: &mut Draft, a: &Attribute<'_>, ms_chap: bool) -> Result<(), WrongValue> {
    if service(&mut draft.profile.service, a)? {
        return Ok(());
    }
    match (a.vendor.unwrap_or_default(), a.kind) {
        (vendor::MICROSOFT, microsoft::MS_CHAP2_SUCCESS) if ms_chap => {
            draft.profile.ms_chap_success = Some(ms_chap_success(a)?);
        }
        (vendor::MICROSOFT, microsoft::PRIMARY_DNS)
        | (vendor::ERX, erx::PRIMARY_DNS)
        | (vendor::NOKIA, nokia::PRIMARY_DNS)
        | (vendor::HUAWEI, huawei::PRIMARY_DNS) => draft.profile.dns.insert(0, name_server(a)?),
        (vendor::MICROSOFT, microsoft::SECONDARY_DNS)
        | (vendor::ERX, erx::SECONDARY_DNS)
        | (vendor::NOKIA, nokia::SECONDARY_DNS)
        | (vendor::HUAWEI, huawei::SECONDARY_DNS) => draft.profile.dns.push(name_server(a)?),
        (vendor::ERX, erx::IPV6_PRIMARY_DNS) => draft.profile.dns6.insert(0, a.ipv6()?),
        (vendor::ERX, erx::IPV6_SECONDARY_DNS) | (vendor::NOKIA, nokia::IPV6_DNS) => {
            draft.profile.dns6.push(a.ipv6()?)
        }
        (vendor::NOKIA, nokia::IPV6_ADDRESS) => draft.address6 = Some(reply::subscriber_address6(a)?),
        (vendor::ERX, erx::ADDRESS_POOL) => {
            draft.pool.get_or_insert(a.text()?.to_owned());
        }
        (vendor::ERX, erx::IPV6_NDRA_PREFIX) => reply::set_prefix(&mut draft.profile.link_prefix, a)?,
        (vendor::ERX, erx::IPV6_NDRA_POOL) => reply::set_prefix_pool(&mut draft.profile.link_prefix, a)?,
        (vendor::ERX, erx::IPV6_DELEGATED_POOL) | (vendor::MIKROTIK, mikrotik::DELEGATED_IPV6_POOL) => {
            reply::set_prefix_pool(&mut draft.profile.delegated_prefix, a)?;
        }
        (vendor::CISCO, cisco::AV_PAIR) => cisco_pair(draft, a)?,
        // A server that repeats what it was told of the line sets nothing by it.
        (vendor::ADSL_FORUM, adsl_forum::ACTUAL_RATE_UP | adsl_forum::ACTUAL_RATE_DOWN) => {}
        _ => {}
    }
    Ok(())
}

/// Takes over what a session is held to. `false`: it is about something else.
pub(crate) fn service(service: &mut Service, a: &Attribute<'_>) -> Result<bool, WrongValue> {
    let kilo = 1_000;
    match (a.vendor.unwrap_or_default(), a.kind) {
        (vendor::ERX, erx::QOS_PROFILE) | (vendor::NOKIA, nokia::SLA_PROFILE) => {
            service.policy = a.text()?.to_owned();
        }
        (vendor::WISPR, wispr::MAX_UP) => rate::number(service, a, Direction::Up, 1)?,
        (vendor::WISPR, wispr::MAX_DOWN) => rate::number(service, a, Direction::Down, 1)?,
        (vendor::HUAWEI, huawei::INPUT_AVERAGE) => rate::number(service, a, Direction::Up, 1)?,
        (vendor::HUAWEI, huawei::OUTPUT_AVERAGE) => rate::number(service, a, Direction::Down, 1)?,
        (vendor::ROARING_PENGUIN, roaring_penguin::UPSTREAM) => {
            rate::number(service, a, Direction::Up, kilo)?;
        }
        (vendor::ROARING_PENGUIN, roaring_penguin::DOWNSTREAM) => {
            rate::number(service, a, Direction::Down, kilo)?;
        }
        (vendor::MIKROTIK, mikrotik::RATE_LIMIT) => rate::mikrotik(service, a)?,
        (
            vendor::ERX,
            erx::INGRESS_POLICY | erx::EGRESS_POLICY | erx::IPV6_INGRESS_POLICY | erx::IPV6_EGRESS_POLICY,
        )
        | (vendor::CISCO, cisco::IN_ACL | cisco::OUT_ACL) => filter(service, a)?,
        (
            vendor::CISCO,
            cisco::POLICY_UP | cisco::POLICY_DOWN | cisco::SUB_QOS_POLICY_IN | cisco::SUB_QOS_POLICY_OUT,
        ) => policy(service, a)?,
        (vendor::CISCO, cisco::AV_PAIR) => return cisco_rate(service, a),
        _ => return Ok(false),
    }
    Ok(true)
}

/// The name of a filter for one direction or one family. A filter of ours has rules for all, so it is named once.
fn filter(service: &mut Service, a: &Attribute<'_>) -> Result<(), WrongValue> {
    let name = a.text()?.to_owned();
    if !service.filters.contains(&name) {
        service.filters.push(name);
    }
    Ok(())
}

/// The name of a policy for one direction. A policy of ours has the rates of both.
fn policy(service: &mut Service, a: &Attribute<'_>) -> Result<(), WrongValue> {
    let name = a.text()?;
    if !service.policy.is_empty() && service.policy != name {
        return Err(a.wrong("must name the same policy as the other direction"));
    }
    service.policy = name.to_owned();
    Ok(())
}

/// `lcp:interface-config#N=rate-limit ...`.
fn cisco_rate(service: &mut Service, a: &Attribute<'_>) -> Result<bool, WrongValue> {
    match cisco_name_and_value(a)? {
        Some(("lcp:interface-config", command)) => rate::cisco(service, a, command),
        _ => Ok(false),
    }
}

/// `NAME[#NUMBER]=VALUE`.
fn cisco_name_and_value<'a>(a: &Attribute<'a>) -> Result<Option<(&'a str, &'a str)>, WrongValue> {
    let pair = a.text()?.split_once('=');
    Ok(pair.map(|(name, value)| (name.split_once('#').map_or(name, |(name, _)| name).trim(), value)))
}

/// `ip:addr-pool=NAME` and `ip:dns-servers=ADDRESS ADDRESS`; others are a Cisco's own.
fn cisco_pair(draft: &mut Draft, a: &Attribute<'_>) -> Result<(), WrongValue> {
    let Some((name, value)) = cisco_name_and_value(a)? else {
        return Ok(());
    };
    match name {
        "ip:addr-pool" => {
            draft.pool.get_or_insert(value.trim().to_owned());
        }
        "ip:dns-servers" => {
            for word in value.split_ascii_whitespace() {
                let address = word
                    .parse()
                    .ok()
                    .filter(|address| reply::is_host(IpAddr::V4(*address)));
                draft
                    .profile
                    .dns
                    .push(address.ok_or(a.wrong("must be addresses of name servers"))?);
            }
        }
        _ => {}
    }
    Ok(())
}

fn name_server(a: &Attribute<'_>) -> Result<Ipv4Addr, WrongValue> {
    let address = a.ipv4()?;
    reply::is_host(IpAddr::V4(address))
        .then_some(address)
        .ok_or(a.wrong("must be an address that a host can have"))
}

/// Without the identifier before it and the message behind it (RFC 2548 §2.3.3).
fn ms_chap_success(a: &Attribute<'_>) -> Result<Vec<u8>, WrongValue> {
    let proof = a.value.get(1..1 + MS_CHAP_SUCCESS);
    proof
        .filter(|proof| proof.starts_with(b"S=") && proof[2..].iter().all(u8::is_ascii_hexdigit))
        .map(<[u8]>::to_vec)
        .ok_or(a.wrong("must be an identifier and \"S=\" with 40 hexadecimal digits"))
}

/// An Accept of MS-CHAPv2 that does not prove anything to the subscriber.
pub(super) fn ms_chap_success_missing() -> WrongValue {
    WrongValue {
        vendor: Some(vendor::MICROSOFT),
        kind: microsoft::MS_CHAP2_SUCCESS,
        expected: "is missing, and MS-CHAPv2 needs it",
    }
}

/// What MS-CHAP-Error says (RFC 2548 §2.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MsChapError {
    pub(super) code: u16,
    pub(super) message: Vec<u8>,
}

/// `E=NUMBER R=... C=... V=3 M=TEXT` behind an identifier, from a Reject that has it.
pub(super) fn ms_chap_error(packet: &Packet<'_>) -> Option<MsChapError> {
    let mut inside = packet
        .attributes()
        .flat_map(|attribute| attribute.of_vendor().collect::<Vec<_>>());
    let error = inside.find(|a| a.vendor == Some(vendor::MICROSOFT) && a.kind == microsoft::MS_CHAP_ERROR)?;
    let text = error.value.get(1..)?;
    let text = std::str::from_utf8(text).ok()?;
    let (numbers, message) = text.split_once("M=").unwrap_or((text, ""));
    let code = numbers
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("E="))?;
    Some(MsChapError {
        code: code.parse().ok()?,
        message: message.as_bytes().to_vec(),
    })
}
