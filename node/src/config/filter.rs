//! `[[filter]]`: what the sessions that have it may send and receive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::model::Config;
use super::read::{Raw, Reader, Scalar, Section};
use super::values::Name;
use crate::dataplane::filter::flow::Transport;
use crate::dataplane::filter::portal::{LOCATION_MAX, Redirect};
use crate::dataplane::filter::{Answer, Direction, Filter, Flow, Rule};
use crate::dataplane::ip::TCP;

/// Rules of one filter: each packet may be held against all of them.
const RULES_MAX: usize = 256;
/// Filters that a policy may name.
pub(super) const FILTERS_MAX: usize = 16;

/// `[[filter]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterConfig {
    /// Unique, among policies too: policies name it, and RADIUS by Filter-Id.
    pub name: String,
    /// In the order in which they are asked; empty: everything passes.
    pub rules: Vec<Rule>,
    /// What the subscriber is told about what he may not send.
    pub answer: FilterAnswer,
    /// Where pages without TLS are instead, for whom they are denied.
    pub portal: Option<Portal>,
}

/// How a denied packet is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterAnswer {
    /// By ICMP.
    #[default]
    Icmp,
    /// Not at all.
    None,
}

/// The address of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal(String);

impl Portal {
    /// Where a browser would connect to, if the address is written as a number.
    fn server(&self) -> Option<(IpAddr, u16)> {
        let (scheme, rest) = self.0.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let standard = if scheme == "https" { 443 } else { 80 };
        if let Ok(address) = authority.parse::<Ipv4Addr>() {
            return Some((address.into(), standard));
        }
        let bare = authority
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = bare.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
            return Some((address.into(), standard));
        }
        let address: std::net::SocketAddr = authority.parse().ok()?;
        Some((address.ip(), address.port()))
    }
}

impl FilterConfig {
    /// What the packet threads do.
    pub fn answer(&self) -> Answer {
        match (&self.portal, self.answer) {
            (Some(portal), _) => Answer::Portal(Redirect::new(&portal.0)),
            (None, FilterAnswer::Icmp) => Answer::Prohibited,
            (None, FilterAnswer::None) => Answer::Silence,
        }
    }

    /// Whether a subscriber may connect there.
    fn lets_connect(&self, (server, port): (IpAddr, u16)) -> bool {
        let any = match server {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let filter = Filter::new(
            &self.name,
            self.rules.clone(),
            Answer::Silence,
            Default::default(),
        );
        let segment = |source, destination, flags| Transport::Tcp {
            source,
            destination,
            flags,
        };
        let flow = |source, destination, transport| Flow {
            source,
            destination,
            protocol: TCP,
            transport,
        };
        // A port as systems give it to whoever connects; SYN and its answer.
        let there = flow(any, server, segment(50_000, port, 0x02));
        let back = flow(server, any, segment(port, 50_000, 0x12));
        filter.passes(Direction::In, &there) && filter.passes(Direction::Out, &back)
    }
}

impl Scalar for Rule {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        raw.text()?.parse()
    }
}

impl Scalar for FilterAnswer {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw.text()? {
            "icmp" => Ok(Self::Icmp),
            "none" => Ok(Self::None),
            other => Err(format!("must be \"icmp\" or \"none\", not \"{other}\"")),
        }
    }
}

impl Scalar for Portal {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let after = ["http://", "https://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let is_plain = |text: &str| {
            text.bytes()
                .all(|octet| octet.is_ascii_graphic() && !b"\"<>\\".contains(&octet))
        };
        match after {
            Some(rest) if !rest.is_empty() && !rest.starts_with(['/', '?', '#']) && is_plain(rest) => {
                if text.len() > LOCATION_MAX {
                    return Err(format!("is longer than {LOCATION_MAX} octets"));
                }
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!(
                "must be an address such as \"http://portal.example.net/\", other characters as %XX, not \"{}\"",
                text.escape_default()
            )),
        }
    }
}

pub(super) fn filter(mut s: Section<'_>) -> FilterConfig {
    let name: Name<253> = s.required("name");
    if !s.has("rules") {
        s.mistake("rules", "is missing; [] lets everything pass");
    }
    let rules: Vec<Rule> = s.list("rules").unwrap_or_default();
    let has_answer = s.has("answer");
    let answer = s.value("answer", FilterAnswer::default());
    let portal = s.optional("portal");
    if rules.len() > RULES_MAX {
        s.mistake(
            "rules",
            format!("has {} rules; {RULES_MAX} are the most", rules.len()),
        );
    }
    if has_answer && portal.is_some() {
        s.mistake(
            "answer",
            "is of no use with a portal: pages are answered by it, the rest by ICMP",
        );
    }
    s.finish();
    FilterConfig {
        name: name.0,
        rules,
        answer,
        portal,
    }
}

/// Names that mean two things or nothing, and portals that nobody could reach.
pub(super) fn check(config: &Config, reader: &Reader) {
    for (index, filter) in config.filters.iter().enumerate() {
        if config.policies.iter().any(|policy| policy.name == filter.name) {
            reader.mistake(
                &format!("filter[{index}].name"),
                format!(
                    "there is a [[policy]] \"{}\" too: which does a Filter-Id mean?",
                    filter.name
                ),
            );
        }
        let server = filter.portal.as_ref().and_then(Portal::server);
        if let Some(server) = server.filter(|server| !filter.lets_connect(*server)) {
            reader.mistake(
                &format!("filter[{index}].portal"),
                format!(
                    "port {} of {} is denied by the rules, in or out: nobody sees that page",
                    server.1, server.0
                ),
            );
        }
    }
    for (index, policy) in config.policies.iter().enumerate() {
        for (position, name) in policy.filters.iter().enumerate() {
            if !config.filters.iter().any(|filter| filter.name == *name) {
                reader.mistake(
                    &format!("policy[{index}].filters[{position}]"),
                    format!("there is no [[filter]] \"{name}\""),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BASE: &str = "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\n[[lac]]\nname = \"any\"\nhost_name = \"*\"\n";

    fn parse(more: &str) -> Result<Config, String> {
        let none = std::iter::empty::<(String, String)>();
        Config::parse(Path::new("h.toml"), &format!("{BASE}{more}"), none).map_err(|error| error.to_string())
    }

    #[test]
    fn a_garden() {
        let config = parse(
            "[[filter]]\nname = \"garden\"\nportal = \"http://192.0.2.80:8080/pay?line=1\"\n\
             rules = [\"permit both tcp from any to 192.0.2.80 8080\", \"deny in ip from any to any\"]\n\
             [[filter]]\nname = \"none\"\nrules = []\nanswer = \"none\"\n\
             [[policy]]\nname = \"unpaid\"\nfilters = [\"garden\", \"none\"]\n",
        )
        .expect("no mistake");
        let [garden, none] = &config.filters[..] else {
            panic!("two filters")
        };
        assert_eq!((garden.rules.len(), config.policies[0].filters.len()), (2, 2));
        assert!(matches!(garden.answer(), Answer::Portal(_)));
        assert_eq!((none.answer(), none.rules.len()), (Answer::Silence, 0));
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        for (more, expected) in [
            ("[[filter]]\nname = \"f\"\n", "filter[0].rules: is missing"),
            (
                "[[filter]]\nname = \"f\"\nrules = [\"deny up ip from any to any\"]\n",
                "filter[0].rules[0]: has \"up\" where \"in\", \"out\", \"both\" is expected",
            ),
            (
                "[[filter]]\nname = \"f\"\nrules = []\nanswer = \"tcp\"\n",
                "filter[0].answer: must be",
            ),
            (
                "[[filter]]\nname = \"f\"\nrules = []\nanswer = \"icmp\"\nportal = \"http://a/\"\n",
                "filter[0].answer: is of no use with a portal",
            ),
            (
                "[[filter]]\nname = \"f\"\nrules = []\nportal = \"a.example\"\n",
                "filter[0].portal: must be an address",
            ),
            (
                "[[filter]]\nname = \"f\"\nrules = []\nportal = \"http://a/\\r\\nx\"\n",
                "filter[0].portal: must be an address",
            ),
            (
                "[[filter]]\nname = \"f\"\nrules = []\n[[policy]]\nname = \"f\"\n",
                "filter[0].name: there is a [[policy]] \"f\" too",
            ),
            (
                "[[filter]]\nname = \"f\"\nrules = []\n[[filter]]\nname = \"f\"\nrules = []\n",
                "filter[1].name",
            ),
            (
                "[[policy]]\nname = \"p\"\nfilters = [\"gone\"]\n",
                "policy[0].filters[0]: there is no [[filter]] \"gone\"",
            ),
            (
                "[[filter]]\nname = \"f\"\nportal = \"https://192.0.2.80/\"\nrules = [\"permit both tcp from any to 192.0.2.80 80\"]\n",
                "filter[0].portal: port 443 of 192.0.2.80 is denied by the rules",
            ),
            (
                "[[filter]]\nname = \"f\"\nportal = \"http://[2001:db8::1]/\"\nrules = [\"permit in tcp from any to 2001:db8::1 80\"]\n",
                "filter[0].portal: port 80 of 2001:db8::1 is denied",
            ),
        ] {
            let found = parse(more).expect_err(more);
            assert!(found.contains(expected), "{more}\n{found}");
        }
    }
}
