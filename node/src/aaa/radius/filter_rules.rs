//! NAS-Filter-Rule (RFC 4849): rules that a server brings along.

use super::attributes::Attribute;
use super::dictionary::attribute;
use super::error::WrongValue;
use super::packet::Packet;
use crate::dataplane::filter::Rule;

/// Rules of one subscriber; more are refused.
const RULES_MAX: usize = 64;

/// All rules of a packet, each as it is written in a `[[filter]]`.
///
/// A zero octet ends a rule, and a rule may go on in the next attribute. Servers whose rules stand one by one in an attribute each are
/// understood too: where one begins as a rule does, the one before has ended.
pub fn rules(packet: &Packet<'_>) -> Result<Vec<String>, WrongValue> {
    let mut octets: Vec<u8> = Vec::new();
    let mut last: Option<Attribute<'_>> = None;
    for a in packet.all(attribute::NAS_FILTER_RULE) {
        if a.value.starts_with(b"permit ") || a.value.starts_with(b"deny ") {
            octets.push(0);
        }
        octets.extend_from_slice(a.value);
        last = Some(a);
    }
    let Some(last) = last else {
        return Ok(Vec::new());
    };
    let texts = octets.split(|octet| *octet == 0).filter(|text| !text.is_empty());
    let rule = |text: &[u8]| {
        let text = std::str::from_utf8(text).ok()?.trim_ascii();
        text.parse::<Rule>().ok().map(|_| text.to_owned())
    };
    let rules: Option<Vec<String>> = texts.map(rule).collect();
    let rules =
        rules.ok_or(last.wrong("must be rules such as \"permit in tcp from any to 192.0.2.1 80\""))?;
    match rules.len() {
        0 => Err(last.wrong("has no rule")),
        1..=RULES_MAX => Ok(rules),
        _ => Err(last.wrong("a subscriber may have 64 rules")),
    }
}
