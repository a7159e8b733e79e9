//! Router Advertisements (RFC 4861 §4.2, §6.2; RFC 8106): what they say, and when.
//!
//! ```text
//!  | 134 | 0 | Checksum | Hop limit 64 | M O flags | Router lifetime | Reachable time 0 | Retransmission time 0 |
//!  | 3, 4 | /64 | L A | valid | preferred | 0 | prefix |        the session's, if it has one
//!  | 5, 1 | 0 | MTU |
//!  | 25, 1 + 2n | 0 | lifetime | n addresses |                 name servers
//! ```
//!
//! They are multicast, of which the link has one listener. M is never set: addresses are made by autoconfiguration alone. O is
//! set where DHCPv6 has name servers to tell.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::super::entropy::Entropy;
use super::MIN_MTU;

/// Unsolicited ones that follow the opening, so that one may get lost.
const INITIAL: u8 = 3;
/// From open to the first: the subscriber sets its interface up meanwhile.
const FIRST: Duration = Duration::from_secs(1);
/// Between the first ones, at most.
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// Between those that follow: drawn anew each time.
const MIN_INTERVAL: Duration = Duration::from_secs(200);
const MAX_INTERVAL: Duration = Duration::from_secs(600);
/// A solicitation is answered within this time, and never two within the other.
const MAX_DELAY: Duration = Duration::from_millis(500);
const MIN_DELAY_BETWEEN: Duration = Duration::from_secs(3);

/// Seconds; the longest that a router may claim (RFC 4861 §6.2.1). A subscriber loses nothing while no node of the cluster may
/// speak for the session.
const ROUTER_LIFETIME_S: u16 = 9000;
/// Seconds that a prefix may be used, and be used for new connections: longer than any outage that the sessions outlive, shorter than
/// the RFC's month, for after a redial it may be another's.
pub const VALID_S: u32 = 86_400;
/// See [`VALID_S`].
pub const PREFERRED_S: u32 = 14_400;

const ROUTER_ADVERTISEMENT: u8 = 134;
const HOP_LIMIT: u8 = 64;
const OTHER: u8 = 0x40;
const PREFIX_INFORMATION: u8 = 3;
const ON_LINK_AUTONOMOUS: u8 = 0xc0;
const MTU: u8 = 5;
const RDNSS: u8 = 25;

/// What an advertisement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// For autoconfiguration: a /64.
    pub prefix: Option<Ipv6Net>,
    /// Of the link, octets. Not said where IPv6 does not know it.
    pub mtu: u32,
    /// Name servers; 127 have room.
    pub dns: Vec<Ipv6Addr>,
    /// DHCPv6 tells more.
    pub other: bool,
}

impl Advertisement {
    /// The ICMPv6 message, without its checksum.
    pub fn encode(&self) -> Vec<u8> {
        let flags = if self.other { OTHER } else { 0 };
        let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, flags];
        message.extend_from_slice(&ROUTER_LIFETIME_S.to_be_bytes());
        message.extend_from_slice(&[0; 8]);
        if let Some(prefix) = self.prefix {
            message.extend_from_slice(&[PREFIX_INFORMATION, 4, prefix.prefix_len(), ON_LINK_AUTONOMOUS]);
            for word in [VALID_S, PREFERRED_S, 0] {
                message.extend_from_slice(&word.to_be_bytes());
            }
            message.extend_from_slice(&prefix.network().octets());
        }
        if self.mtu >= u32::from(MIN_MTU) {
            message.extend_from_slice(&[MTU, 1, 0, 0]);
            message.extend_from_slice(&self.mtu.to_be_bytes());
        }
        let dns = &self.dns[..self.dns.len().min(127)];
        if !dns.is_empty() {
            message.extend_from_slice(&[RDNSS, 1 + 2 * dns.len() as u8, 0, 0]);
            message.extend_from_slice(&u32::from(ROUTER_LIFETIME_S).to_be_bytes());
            dns.iter()
                .for_each(|address| message.extend_from_slice(&address.octets()));
        }
        message
    }
}

/// When the next one is due.
#[derive(Debug)]
pub struct Schedule {
    next: Duration,
    last: Option<Duration>,
    /// Of the first ones.
    left: u8,
    entropy: Entropy,
}

impl Schedule {
    /// The link has just opened.
    pub fn begin(now: Duration, entropy: Entropy) -> Self {
        Self {
            next: now + FIRST,
            last: None,
            left: INITIAL,
            entropy,
        }
    }

    /// The link was open before: somewhere within the longest interval, so that a node that takes many over does not speak to all at
    /// once.
    pub fn go_on(now: Duration, entropy: Entropy) -> Self {
        let mut schedule = Self {
            left: 0,
            ..Self::begin(now, entropy)
        };
        schedule.next = now + schedule.within(Duration::ZERO, MAX_INTERVAL);
        schedule
    }

    /// When the next one is due.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// The subscriber asks for one.
    pub fn solicited(&mut self, now: Duration) {
        let delay = self.within(Duration::ZERO, MAX_DELAY);
        let earliest = self.last.map_or(now, |last| last + MIN_DELAY_BETWEEN);
        self.next = self.next.min((now + delay).max(earliest));
    }

    /// Whether one is to be sent now.
    pub fn handle_timeout(&mut self, now: Duration) -> bool {
        if now < self.next {
            return false;
        }
        self.last = Some(now);
        self.left = self.left.saturating_sub(1);
        let interval = self.within(MIN_INTERVAL, MAX_INTERVAL);
        self.next = now
            + match self.left {
                0 => interval,
                _ => interval.min(INITIAL_INTERVAL),
            };
        true
    }

    fn within(&mut self, least: Duration, most: Duration) -> Duration {
        let range = (most - least).as_millis() as u64;
        least + Duration::from_millis(self.entropy.next_u64() % (range + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// When advertisements leave until `end`, with nobody asking.
    fn times(mut schedule: Schedule, end: Duration) -> Vec<Duration> {
        let mut times = Vec::new();
        while schedule.next() <= end {
            let now = schedule.next();
            assert!(schedule.handle_timeout(now) && !schedule.handle_timeout(now));
            times.push(now);
        }
        times
    }

    #[test]
    fn the_octets_on_the_wire() {
        let advertisement = Advertisement {
            prefix: Some("2001:db8:1::/64".parse().expect("a prefix")),
            mtu: 1492,
            dns: vec!["2001:db8::53".parse().expect("an address")],
            other: true,
        };
        let expected = [
            &[134, 0, 0, 0, 64, 0x40, 0x23, 0x28, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0],
            &[0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[5, 1, 0, 0, 0, 0, 0x05, 0xd4],
            &[25, 3, 0, 0, 0, 0, 0x23, 0x28],
            &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53],
        ];
        assert_eq!(advertisement.encode(), expected.concat());
    }

    #[test]
    fn what_there_is_not_is_not_said() {
        let nothing = Advertisement {
            prefix: None,
            mtu: 1279,
            dns: Vec::new(),
            other: false,
        };
        assert_eq!(
            nothing.encode(),
            [134, 0, 0, 0, 64, 0, 0x23, 0x28, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn three_at_first_and_then_one_in_ten_minutes_at_most() {
        for seed in 0..50 {
            let times = times(Schedule::begin(seconds(100), Entropy::new(seed)), seconds(7300));
            assert_eq!(times[..3], [seconds(101), seconds(117), seconds(133)]);
            for pair in times[2..].windows(2) {
                let gap = pair[1] - pair[0];
                assert!((MIN_INTERVAL..=MAX_INTERVAL).contains(&gap), "{gap:?}");
            }
        }
    }

    #[test]
    fn after_a_takeover_all_speak_at_times_of_their_own() {
        let first = |seed| Schedule::go_on(seconds(100), Entropy::new(seed)).next();
        let mut firsts: Vec<_> = (0..1000).map(first).collect();
        assert!(firsts.iter().all(|at| *at <= seconds(100) + MAX_INTERVAL));
        firsts.sort();
        let in_one_second = firsts.windows(20).any(|pair| pair[19] - pair[0] < seconds(1));
        assert!(!in_one_second);
    }

    #[test]
    fn a_solicitation_is_answered_soon_and_a_flood_of_them_seldom() {
        let mut schedule = Schedule::go_on(seconds(100), Entropy::new(1));
        schedule.solicited(seconds(101));
        assert!(schedule.next() <= seconds(101) + MAX_DELAY);
        let mut sent = Vec::new();
        for millis in (101_000..131_000).step_by(10) {
            let now = Duration::from_millis(millis);
            schedule.solicited(now);
            if schedule.handle_timeout(now) {
                sent.push(now);
            }
        }
        assert!((9..=11).contains(&sent.len()), "{sent:?}");
        assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= MIN_DELAY_BETWEEN));
    }
}
