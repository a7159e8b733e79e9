//! One rule of a filter, and whether a packet fits it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::flow::{Flow, Transport};

/// TCP flags (RFC 9293 §3.1).
pub const SYN: u8 = 0x02;
/// See [`SYN`].
pub const RST: u8 = 0x04;
/// See [`SYN`].
pub const ACK: u8 = 0x10;

/// What is done with what fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It passes.
    Permit,
    /// It does not.
    Deny,
}

/// As RFC 6733 §4.3.1 has it, seen from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the subscriber.
    In,
    /// To the subscriber.
    Out,
}

/// One end of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// `None`: any address.
    pub net: Option<IpNet>,
    /// All addresses but those of `net`.
    pub except: bool,
    /// Empty: any.
    pub ports: Box<[RangeInclusive<u16>]>,
}

/// Written as [`super::text`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is done.
    pub action: Action,
    /// Packets that it is about; `None`: both ways, ends changed for what goes to the subscriber.
    pub direction: Option<Direction>,
    /// IANA number; `None`: any.
    pub protocol: Option<u8>,
    /// Where packets come from.
    pub from: End,
    /// Where they go.
    pub to: End,
    /// What else must hold.
    pub options: Options,
}

/// What else must hold of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// TCP with ACK or RST: the answer to something.
    pub established: bool,
    /// TCP with SYN and without ACK: the first of a connection.
    pub setup: bool,
    /// A fragment other than the first.
    pub fragment: bool,
    /// Types of ICMP or ICMPv6; empty: any.
    pub icmp_types: Box<[RangeInclusive<u8>]>,
}

impl Rule {
    /// Whether the rule is about the packet.
    ///
    /// A later fragment has no ports, flags or types to look at: a rule that permits takes it by what it has, so that all of a
    /// permitted packet passes; one that denies leaves it, for without its first part it is of no use.
    pub fn fits(&self, direction: Direction, flow: &Flow) -> bool {
        let mirrored = self.direction.is_none() && direction == Direction::Out;
        let (from, to) = if mirrored {
            (&self.to, &self.from)
        } else {
            (&self.from, &self.to)
        };
        self.direction.is_none_or(|own| own == direction)
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && from.has(flow.source)
            && to.has(flow.destination)
            && self.fits_transport(from, to, flow)
    }

    fn fits_transport(&self, from: &End, to: &End, flow: &Flow) -> bool {
        let options = &self.options;
        if flow.transport == Transport::Elsewhere {
            let looks_closer = !(from.ports.is_empty()
                && to.ports.is_empty()
                && options.icmp_types.is_empty()
                && !options.established
                && !options.setup);
            return !looks_closer || self.action == Action::Permit;
        }
        let flags = match flow.transport {
            Transport::Tcp { flags, .. } => Some(flags),
            _ => None,
        };
        let kind = match flow.transport {
            Transport::Icmp(kind) => Some(kind),
            _ => None,
        };
        let ports = flow.ports();
        !options.fragment
            && from.has_port(ports.map(|ports| ports.0))
            && to.has_port(ports.map(|ports| ports.1))
            && (!options.established || flags.is_some_and(|flags| flags & (ACK | RST) != 0))
            && (!options.setup || flags.is_some_and(|flags| flags & (SYN | ACK) == SYN))
            && is_among(&options.icmp_types, kind)
    }
}

impl End {
    fn has(&self, address: IpAddr) -> bool {
        self.net.is_none_or(|net| {
            net.addr().is_ipv4() == address.is_ipv4() && net.contains(&address) != self.except
        })
    }

    fn has_port(&self, port: Option<u16>) -> bool {
        is_among(&self.ports, port)
    }
}

fn is_among<T: PartialOrd>(ranges: &[RangeInclusive<T>], value: Option<T>) -> bool {
    ranges.is_empty() || value.is_some_and(|value| ranges.iter().any(|range| range.contains(&value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::ip::{ICMP, TCP, UDP};

    fn flow(source: &str, destination: &str, protocol: u8, transport: Transport) -> Flow {
        Flow {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            protocol,
            transport,
        }
    }

    fn tcp(source: u16, destination: u16, flags: u8) -> Transport {
        Transport::Tcp {
            source,
            destination,
            flags,
        }
    }

    fn fits(rule: &str, direction: Direction, flow: &Flow) -> bool {
        rule.parse::<Rule>().expect(rule).fits(direction, flow)
    }

    const SUBSCRIBER: &str = "100.64.0.9";

    #[test]
    fn each_condition_counts() {
        let connect = flow(SUBSCRIBER, "192.0.2.1", TCP, tcp(4000, 443, SYN));
        for (rule, expected) in [
            ("deny in ip from any to any", true),
            ("deny in tcp from assigned to 192.0.2.0/24 443", true),
            ("deny in tcp from assigned 1-4000 to 192.0.2.1 80,443 setup", true),
            ("deny in tcp from !192.0.2.0/24 to any", true),
            ("deny out tcp from any to any", false),
            ("deny in udp from any to any", false),
            ("deny in tcp from any to !192.0.2.0/24", false),
            ("deny in tcp from 192.0.2.0/24 to any", false),
            ("deny in tcp from any to 2001:db8::/32", false),
            ("deny in tcp from any to !2001:db8::/32", false),
            ("deny in tcp from any to any 80,444-500", false),
            ("deny in tcp from any 443 to any", false),
            ("deny in tcp from any to any established", false),
            ("deny in ip from any to any frag", false),
        ] {
            assert_eq!(fits(rule, Direction::In, &connect), expected, "{rule}");
        }
        let answer = flow("192.0.2.1", SUBSCRIBER, TCP, tcp(443, 4000, SYN | ACK));
        assert!(fits(
            "deny out tcp from any to any established",
            Direction::Out,
            &answer
        ));
        assert!(!fits(
            "deny out tcp from any to any setup",
            Direction::Out,
            &answer
        ));
        let echo = flow(SUBSCRIBER, "192.0.2.1", ICMP, Transport::Icmp(8));
        assert!(fits(
            "deny in icmp from any to any icmptypes 0,8",
            Direction::In,
            &echo
        ));
        assert!(!fits(
            "deny in icmp from any to any icmptypes 3-5",
            Direction::In,
            &echo
        ));
    }

    #[test]
    fn one_for_both_ways_changes_its_ends() {
        let rule = "permit both udp from any to 192.0.2.53 53";
        let udp = |source, destination| Transport::Udp { source, destination };
        let asks = flow(SUBSCRIBER, "192.0.2.53", UDP, udp(4000, 53));
        let answers = flow("192.0.2.53", SUBSCRIBER, UDP, udp(53, 4000));
        assert!(fits(rule, Direction::In, &asks) && fits(rule, Direction::Out, &answers));
        assert!(!fits(rule, Direction::Out, &asks) && !fits(rule, Direction::In, &answers));
        let other = flow("192.0.2.53", SUBSCRIBER, UDP, udp(54, 53));
        assert!(!fits(rule, Direction::Out, &other), "a port of the server's");
    }

    #[test]
    fn later_fragments_go_with_what_is_permitted() {
        let later = flow(SUBSCRIBER, "192.0.2.1", UDP, Transport::Elsewhere);
        let fits = |rule| fits(rule, Direction::In, &later);
        assert!(fits("permit in udp from any to 192.0.2.1 53"));
        assert!(!fits("permit in udp from any to 192.0.2.2 53"));
        assert!(!fits("deny in udp from any to any 53"));
        assert!(fits("deny in udp from any to any"));
        assert!(fits("deny in udp from any to any frag"));
    }
}
