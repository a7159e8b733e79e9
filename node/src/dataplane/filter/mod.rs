//! Filters: which packets a subscriber may send and receive, and what happens to the rest. No state is kept of any connection.
//!
//! ```text
//!   packet of a session that has filters --> flow: addresses, protocol, ports --> each filter: its rules in order --> passes
//!                                                                             \-> denied --> answer: ICMP, redirect, none
//! ```
//!
//! A session may have several filters, and a packet passes if all of them let it. What a subscriber may not send is answered, what he
//! may not receive is dropped: nobody outside learns from it who is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::icmp::{self, MAX_ERROR};
use super::ip::View;

pub use flow::Flow;
pub use rule::{Action, Direction, Rule};

pub mod flow;
pub mod portal;
pub mod rule;
mod text;

/// Octets of the longest answer.
pub const MAX_ANSWER: usize = MAX_ERROR;

/// Rules under a name.
#[derive(Debug)]
pub struct Filter {
    name: String,
    rules: Vec<Rule>,
    answer: Answer,
    /// Outlives a reload.
    counts: Arc<Counts>,
}

/// What the sender of a denied packet is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// ICMP "administratively prohibited".
    #[default]
    Prohibited,
    /// HTTP, on port 80, that the page is elsewhere; the rest as above.
    Portal(portal::Redirect),
    /// Nothing.
    Silence,
}

/// What a filter has denied, packets of all shards since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    /// From subscribers, answered or not.
    pub denied_up: AtomicU64,
    /// For subscribers.
    pub denied_down: AtomicU64,
    /// Requests for pages answered with the portal's address.
    pub redirected: AtomicU64,
}

impl Filter {
    /// Counts from where `counts` are.
    pub fn new(name: &str, rules: Vec<Rule>, answer: Answer, counts: Arc<Counts>) -> Self {
        Self {
            name: name.to_owned(),
            rules,
            answer,
            counts,
        }
    }

    /// As configured.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has denied.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Whether a packet passes. The first rule that fits decides. Where none does, the opposite of the last one's action is done
    /// (RFC 6733 §4.3.1): a list of what is permitted denies the rest, and the other way round.
    pub fn passes(&self, direction: Direction, flow: &Flow) -> bool {
        let decided = self.rules.iter().find(|rule| rule.fits(direction, flow));
        match (decided, self.rules.last()) {
            (Some(rule), _) => rule.action == Action::Permit,
            (None, Some(last)) => last.action == Action::Deny,
            (None, None) => true,
        }
    }
}

/// The filters of a session, as the packet threads have them.
#[derive(Debug)]
pub enum FilterSet {
    /// In the order in which they are asked.
    Filters(Vec<Arc<Filter>>),
    /// Nothing passes: a filter is named that this node does not know.
    Closed,
}

/// Who lets a packet not pass.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a>(Option<&'a Filter>);

impl FilterSet {
    /// Whether a packet passes.
    ///
    /// # Errors
    /// Who denies it; it has been counted as `packets`.
    pub fn judge(
        &self,
        direction: Direction,
        view: &View,
        packet: &[u8],
        packets: usize,
    ) -> Result<(), Denied<'_>> {
        let Self::Filters(filters) = self else {
            return Err(Denied(None));
        };
        let flow = Flow::of(view, packet);
        let passes = |filter: &Filter| flow.as_ref().is_some_and(|flow| filter.passes(direction, flow));
        let Some(filter) = filters.iter().find(|filter| !passes(filter)) else {
            return Ok(());
        };
        let counter = match direction {
            Direction::In => &filter.counts.denied_up,
            Direction::Out => &filter.counts.denied_down,
        };
        counter.fetch_add(packets as u64, Relaxed);
        Err(Denied(Some(filter)))
    }
}

impl Denied<'_> {
    /// Writes what the subscriber is told about a packet of his, and returns its length. It comes from where the packet went.
    pub fn answer(&self, view: &View, packet: &[u8], out: &mut [u8; MAX_ANSWER]) -> Option<usize> {
        let filter = self.0?;
        let segment = match &filter.answer {
            Answer::Silence => return None,
            Answer::Prohibited => None,
            Answer::Portal(redirect) => portal::Segment::of(view, packet).map(|segment| (redirect, segment)),
        };
        let Some((redirect, segment)) = segment else {
            return icmp::error(packet, view, icmp::Error::Prohibited, out);
        };
        let answer = redirect.answer(&segment, out)?;
        filter
            .counts
            .redirected
            .fetch_add(answer.redirects.into(), Relaxed);
        Some(answer.length)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    /// A filter `garden`.
    pub(crate) fn filter(rules: &[&str], answer: Answer) -> Arc<Filter> {
        let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        Arc::new(Filter::new("garden", rules, answer, Arc::default()))
    }

    pub(crate) fn udp(source: [u8; 4], destination: [u8; 4], port: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(source, destination, 64)
            .udp(4000, port)
            .write(&mut packet, &[7; 20])
            .expect("a vector takes it");
        packet
    }

    fn judged(set: &FilterSet, direction: Direction, packet: &[u8]) -> bool {
        let view = View::parse(packet).expect("well formed");
        set.judge(direction, &view, packet, 3).is_ok()
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_else_the_opposite_of_the_last() {
        let packet = udp([100, 64, 0, 9], [192, 0, 2, 1], 53);
        for (rules, passes) in [
            (&[][..], true),
            (&["permit in udp from any to any 53"], true),
            (&["permit in udp from any to any 54"], false),
            (&["deny in udp from any to any 53"], false),
            (&["deny in udp from any to any 54"], true),
            (
                &["deny in udp from any to any 54", "permit in tcp from any to any"],
                false,
            ),
            (
                &["permit in udp from any to any 53", "deny in ip from any to any"],
                true,
            ),
            (
                &["deny in ip from any to any", "permit in udp from any to any 53"],
                false,
            ),
        ] {
            let set = FilterSet::Filters(vec![filter(rules, Answer::Silence)]);
            assert_eq!(judged(&set, Direction::In, &packet), passes, "{rules:?}");
        }
    }

    #[test]
    fn all_filters_must_let_it_and_the_first_that_does_not_counts() {
        let (dns, no_mail) = (
            filter(&["permit both udp from any to any 53"], Answer::Silence),
            filter(&["deny in udp from any to any 25"], Answer::Silence),
        );
        let set = FilterSet::Filters(vec![no_mail.clone(), dns.clone()]);
        let to = |port| udp([100, 64, 0, 9], [192, 0, 2, 1], port);
        let passes = [53, 25, 80].map(|port| judged(&set, Direction::In, &to(port)));
        assert_eq!(passes, [true, false, false]);
        assert!(!judged(&set, Direction::Out, &to(80)));
        let counts = |filter: &Filter| {
            let counts = filter.counts();
            (counts.denied_up.load(Relaxed), counts.denied_down.load(Relaxed))
        };
        assert_eq!((counts(&no_mail), counts(&dns)), ((3, 0), (3, 3)));
        assert!(!judged(&FilterSet::Closed, Direction::In, &to(53)));
    }

    #[test]
    fn what_hides_its_ports_passes_no_filter_with_rules() {
        let mut packet = udp([100, 64, 0, 9], [192, 0, 2, 1], 53);
        packet.truncate(22);
        packet[3] = 22;
        let set = FilterSet::Filters(vec![filter(&["deny in tcp from any to any"], Answer::Silence)]);
        assert!(!judged(&set, Direction::In, &packet));
    }

    #[test]
    fn what_may_not_be_sent_is_answered_as_configured() {
        let redirect = Answer::Portal(portal::Redirect::new("http://192.0.2.80/"));
        let mut connect = Vec::new();
        PacketBuilder::ipv4([100, 64, 0, 9], [192, 0, 2, 1], 64)
            .tcp(4000, 80, 1, 1000)
            .syn()
            .write(&mut connect, &[])
            .expect("a vector takes it");
        let datagram = udp([100, 64, 0, 9], [192, 0, 2, 1], 80);
        let protocol = |answer: &Answer, packet: &[u8]| {
            let set = FilterSet::Filters(vec![filter(&["deny in ip from any to any"], answer.clone())]);
            let view = View::parse(packet).expect("well formed");
            let denied = set
                .judge(Direction::In, &view, packet, 1)
                .expect_err("it is denied");
            let mut out = [0; MAX_ANSWER];
            let length = denied.answer(&view, packet, &mut out)?;
            let answer = View::parse(&out[..length]).expect("well formed");
            assert_eq!(
                (answer.source, answer.destination),
                (view.destination, view.source)
            );
            // ICMP type and code.
            (answer.protocol == 1).then(|| assert_eq!(out[20..22], [3, 13]));
            Some(answer.protocol)
        };
        for (answer, expected) in [
            (Answer::Silence, [None, None]),
            (Answer::Prohibited, [Some(1), Some(1)]),
            (redirect, [Some(6), Some(1)]),
        ] {
            let answered = [&connect, &datagram].map(|packet| protocol(&answer, packet));
            assert_eq!(answered, expected, "{answer:?}");
        }
        let view = View::parse(&datagram).expect("well formed");
        let closed = FilterSet::Closed
            .judge(Direction::In, &view, &datagram, 1)
            .expect_err("closed");
        assert_eq!(closed.answer(&view, &datagram, &mut [0; MAX_ANSWER]), None);
    }
}
