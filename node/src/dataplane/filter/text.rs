//! How a rule is written: an IPFilterRule (RFC 6733 §4.3.1), and `both` for one that holds both ways.
//!
//! ```text
//!   permit|deny in|out|both PROTOCOL from END to END [established|setup|frag|icmptypes TYPES]
//!   END: any|assigned|[!]ADDRESS[/LENGTH] [PORT[-PORT][,...]]
//! ```
//!
//! `in` is from the subscriber. `both` is written as for `in`; for what goes to the subscriber its ends change places. `assigned` are
//! the subscriber's own addresses. What the RFC has besides (options of IP and TCP, single flags) is not known here.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::{FromStr, SplitAsciiWhitespace};

use ipnet::IpNet;

use super::rule::{Action, Direction, End, Options, Rule};
use crate::dataplane::ip::{ICMP, ICMPV6, TCP, UDP};

/// IANA's numbers of the protocols that have a name here.
const PROTOCOLS: [(&str, u8); 9] = [
    ("icmp", ICMP),
    ("igmp", 2),
    ("tcp", TCP),
    ("udp", UDP),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", ICMPV6),
    ("sctp", 132),
];

type Words<'a> = std::iter::Peekable<SplitAsciiWhitespace<'a>>;

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace().peekable();
        let action = choice(&mut words, &[("permit", Action::Permit), ("deny", Action::Deny)])?;
        let directions = [
            ("in", Some(Direction::In)),
            ("out", Some(Direction::Out)),
            ("both", None),
        ];
        let direction = choice(&mut words, &directions)?;
        let protocol = protocol(words.next().unwrap_or_default())?;
        choice(&mut words, &[("from", ())])?;
        let from = end(&mut words, direction != Some(Direction::Out))?;
        choice(&mut words, &[("to", ())])?;
        let to = end(&mut words, direction == Some(Direction::Out))?;
        let rule = Self {
            action,
            direction,
            protocol,
            from,
            to,
            options: options(&mut words)?,
        };
        consistent(&rule)?;
        Ok(rule)
    }
}

fn choice<T: Copy>(words: &mut Words<'_>, choices: &[(&str, T)]) -> Result<T, String> {
    let word = words.next().unwrap_or_default();
    let chosen = choices.iter().find(|(name, _)| *name == word);
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        expected(&format!("\"{}\"", names.join("\", \"")), word)
    })
}

fn expected(what: &str, word: &str) -> String {
    match word {
        "" => format!("ends where {what} is expected"),
        word => format!("has \"{word}\" where {what} is expected"),
    }
}

fn protocol(word: &str) -> Result<Option<u8>, String> {
    if word == "ip" {
        return Ok(None);
    }
    let known = PROTOCOLS.iter().find(|(name, _)| *name == word);
    let number = known.map(|(_, number)| *number).or_else(|| word.parse().ok());
    number.filter(|number| *number > 0).map(Some).ok_or_else(|| {
        let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
        expected(
            &format!(
                "a protocol (ip for any, {} or a number from 1 to 255)",
                names.join(", ")
            ),
            word,
        )
    })
}

fn end(words: &mut Words<'_>, subscribers: bool) -> Result<End, String> {
    let word = words.next().unwrap_or_default();
    let (address, except) = word.strip_prefix('!').map_or((word, false), |word| (word, true));
    let net = match address {
        "any" if !except => None,
        "assigned" if !except && subscribers => None,
        "assigned" => {
            return Err("has \"assigned\" where the other end of the subscriber's flow stands".to_owned());
        }
        address => Some(net(address)?),
    };
    let is_ports = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let ports = match words.next_if(is_ports) {
        Some(word) => ranges(word, "a port")?,
        None => Box::default(),
    };
    Ok(End { net, except, ports })
}

fn net(word: &str) -> Result<IpNet, String> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = word
        .parse()
        .map_err(|_| expected("any, assigned, an address or a prefix", word))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!(
            "has \"{word}\", which has bits beyond its length; the prefix is \"{}\"",
            net.trunc()
        ))
    }
}

fn ranges<T: FromStr + PartialOrd + Copy>(
    word: &str,
    what: &str,
) -> Result<Box<[RangeInclusive<T>]>, String> {
    let range = |text: &str| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (low, high): (T, T) = (low.parse().ok()?, high.parse().ok()?);
        (low <= high).then_some(low..=high)
    };
    let all: Option<Vec<_>> = word.split(',').map(range).collect();
    all.map(Vec::into_boxed_slice).ok_or_else(|| {
        expected(
            &format!("{what}, a range (LOW-HIGH) or a list of these (\"A,B-C\")"),
            word,
        )
    })
}

fn options(words: &mut Words<'_>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word {
            "established" => options.established = true,
            "setup" => options.setup = true,
            "frag" => options.fragment = true,
            "icmptypes" => options.icmp_types = ranges(words.next().unwrap_or_default(), "a type")?,
            other => return Err(expected("established, setup, frag, icmptypes or the end", other)),
        }
    }
    Ok(options)
}

/// What could never fit.
fn consistent(rule: &Rule) -> Result<(), String> {
    let Rule {
        protocol,
        from,
        to,
        options,
        ..
    } = rule;
    let has = |needed: &[u8]| protocol.is_some_and(|protocol| needed.contains(&protocol));
    let needs = |used: bool, what: &str, needed: &[u8], names: &str| match used && !has(needed) {
        true => Err(format!("has {what}, which {names} alone has")),
        false => Ok(()),
    };
    let with_ports = !(from.ports.is_empty() && to.ports.is_empty());
    needs(with_ports, "a port", &[TCP, UDP], "tcp or udp")?;
    needs(options.established, "established", &[TCP], "tcp")?;
    needs(options.setup, "setup", &[TCP], "tcp")?;
    needs(
        !options.icmp_types.is_empty(),
        "icmptypes",
        &[ICMP, ICMPV6],
        "icmp or ipv6-icmp",
    )?;
    let families: Vec<bool> = [from, to]
        .iter()
        .filter_map(|end| Some(end.net?.addr().is_ipv4()))
        .chain((*protocol == Some(ICMP)).then_some(true))
        .chain((*protocol == Some(ICMPV6)).then_some(false))
        .collect();
    match families.iter().any(|is_ipv4| *is_ipv4 != families[0]) {
        true => Err("is about IPv4 and IPv6 at once: no packet fits".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_a_rule_says() {
        let read = rule("permit in tcp from assigned 1024-65535 to 192.0.2.0/24 80,443,8000-8080 setup");
        let expected = Rule {
            action: Action::Permit,
            direction: Some(Direction::In),
            protocol: Some(TCP),
            from: End {
                ports: Box::new([1024..=65535]),
                ..End::default()
            },
            to: End {
                net: Some("192.0.2.0/24".parse().expect("a prefix")),
                except: false,
                ports: Box::new([80..=80, 443..=443, 8000..=8080]),
            },
            options: Options {
                setup: true,
                ..Options::default()
            },
        };
        assert_eq!(read, expected);
        let read = rule("deny both ipv6-icmp from any to !2001:db8::1 icmptypes 1-4,128");
        assert_eq!(
            (read.action, read.direction, read.protocol),
            (Action::Deny, None, Some(ICMPV6))
        );
        assert!(read.to.except && read.from == End::default());
        assert_eq!(*read.options.icmp_types, [1..=4, 128..=128]);
        assert_eq!(rule("permit out 47 from any to assigned").protocol, Some(47));
        assert_eq!(rule("deny in ip from any to any frag").protocol, None);
    }

    #[test]
    fn what_is_no_rule_and_why() {
        for (text, why) in [
            ("", "ends where \"permit\", \"deny\" is expected"),
            ("allow in ip from any to any", "\"allow\" where"),
            ("permit up ip from any to any", "\"in\", \"out\", \"both\""),
            ("permit in ipv4 from any to any", "a protocol"),
            ("permit in 0 from any to any", "a protocol"),
            ("permit in 256 from any to any", "a protocol"),
            ("permit in ip any to any", "\"from\""),
            ("permit in ip from any", "ends where \"to\""),
            ("permit in ip from any to", "ends where any, assigned"),
            (
                "permit in ip from any to assigned",
                "\"assigned\" where the other end",
            ),
            (
                "permit out ip from assigned to any",
                "\"assigned\" where the other end",
            ),
            (
                "permit in ip from any to 192.0.2.1/24",
                "the prefix is \"192.0.2.0/24\"",
            ),
            (
                "permit in ip from any to example.net",
                "\"example.net\" where any",
            ),
            ("permit in ip from any to !any", "\"any\" where"),
            ("permit in tcp from any to any 80-", "a port, a range"),
            ("permit in tcp from any to any 90-80", "a port, a range"),
            ("permit in tcp from any to any 65536", "a port, a range"),
            (
                "permit in ip from any to any 80",
                "a port, which tcp or udp alone has",
            ),
            (
                "permit in udp from any to any setup",
                "setup, which tcp alone has",
            ),
            (
                "permit in udp from any to any established",
                "established, which tcp",
            ),
            (
                "permit in tcp from any to any icmptypes 8",
                "icmptypes, which icmp",
            ),
            ("permit in icmp from any to any icmptypes 256", "a type, a range"),
            ("permit in icmp from any to any icmptypes", "ends where a type"),
            (
                "permit in ip from any to any tcpflags syn",
                "\"tcpflags\" where established",
            ),
            (
                "permit in ip from 10.0.0.1 to 2001:db8::1",
                "IPv4 and IPv6 at once",
            ),
            ("permit in icmp from any to 2001:db8::1", "IPv4 and IPv6 at once"),
            (
                "permit in ipv6-icmp from any to 192.0.2.1",
                "IPv4 and IPv6 at once",
            ),
        ] {
            let error = text.parse::<Rule>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
