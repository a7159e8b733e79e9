//! Which route the kernel would take: RTM_GETROUTE with RTM_F_FIB_MATCH, by the rules of policy routing for our source address.
//!
//! Asked so, the kernel answers with the entry of its table, thus with the length of the prefix, and nothing is sent.

use std::io::{self, Read, Write};
use std::net::IpAddr;

use super::{HEADER, Netlink, Request, acknowledgement, family};

/// `RTM_F_FIB_MATCH` of linux/rtnetlink.h. A kernel before 4.13 does not know it and answers as for one address.
const FIB_MATCH: u32 = 0x2000;
/// `RTNH_F_DEAD` and `RTNH_F_LINKDOWN`: no link, or none with a carrier.
const UNUSABLE: u32 = 1 | 16;
/// `struct rtmsg` in octets.
const ROUTE_HEADER: usize = 12;
/// Where its flags are.
const FLAGS: usize = HEADER + 8;

/// A route that the kernel would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Length of its prefix; 0 is the default route.
    pub prefix: u8,
    /// Index of its interface; `None` where it has several next hops.
    pub interface: Option<u32>,
}

impl Netlink {
    /// The route from an address of ours to another; `None` if there is none, or one that drops, refuses, or has no carrier, or
    /// if the address is not ours.
    ///
    /// # Errors
    /// The question could not be asked, or was not answered.
    pub fn find_route(&mut self, from: Option<IpAddr>, to: IpAddr) -> io::Result<Option<Found>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.write_all(&lookup(from, to).finish(self.sequence))?;
        let mut found = None;
        loop {
            let mut answer = [0; 2048];
            let length = self.socket.read(&mut answer)?;
            let answer = &answer[..length];
            if let Some(route) = route(answer, self.sequence) {
                found = route;
            }
            match acknowledgement(answer, self.sequence) {
                Some(Ok(())) => return Ok(found),
                Some(Err(error)) if is_no_route(&error) => return Ok(None),
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
    }
}

/// What the kernel says in place of a route: unreachable, prohibit, and blackhole or an address that is not ours.
fn is_no_route(error: &io::Error) -> bool {
    let codes = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn lookup(from: Option<IpAddr>, to: IpAddr) -> Request {
    let bits = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let from = from.filter(|from| from.is_ipv4() == to.is_ipv4());
    let mut request = Request::new(libc::RTM_GETROUTE, 0);
    // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
    request.octets(&[family(to), bits(to), from.map_or(0, bits), 0, 0, 0, 0, 0]);
    request.octets(&FIB_MATCH.to_ne_bytes());
    request.address(libc::RTA_DST, to);
    if let Some(from) = from {
        request.address(libc::RTA_SRC, from);
    }
    request
}

/// The route in an answer to the question `sequence`: `Some(None)` if it is of no use, `None` if this is no such answer.
fn route(answer: &[u8], sequence: u32) -> Option<Option<Found>> {
    let head = answer.first_chunk::<{ HEADER + ROUTE_HEADER }>()?;
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if u16::from_ne_bytes([head[4], head[5]]) != libc::RTM_NEWROUTE || word(8) != sequence {
        return None;
    }
    let kind = head[HEADER + 7];
    let usable = matches!(kind, libc::RTN_UNICAST | libc::RTN_LOCAL) && word(FLAGS) & UNUSABLE == 0;
    let interface = attribute(&answer[HEADER + ROUTE_HEADER..], libc::RTA_OIF)
        .and_then(|value| Some(u32::from_ne_bytes(value.try_into().ok()?)));
    Some(usable.then_some(Found {
        prefix: head[HEADER + 1],
        interface,
    }))
}

/// The value of the first attribute of a kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let head = attributes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([head[2], head[3]]) == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A route of a /16 by interface 7.
    fn answer(kind: u8, flags: u32) -> Vec<u8> {
        let mut answer = vec![0; HEADER + ROUTE_HEADER];
        answer[4..6].copy_from_slice(&libc::RTM_NEWROUTE.to_ne_bytes());
        answer[8..12].copy_from_slice(&3u32.to_ne_bytes());
        (answer[HEADER + 1], answer[HEADER + 7]) = (16, kind);
        answer[FLAGS..FLAGS + 4].copy_from_slice(&flags.to_ne_bytes());
        for (kind, value) in [
            (libc::RTA_DST, [10, 10, 0, 0]),
            (libc::RTA_OIF, 7u32.to_ne_bytes()),
        ] {
            answer.extend(8u16.to_ne_bytes());
            answer.extend(kind.to_ne_bytes());
            answer.extend(value);
        }
        answer
    }

    #[test]
    fn a_route_is_read_and_what_drops_or_has_no_carrier_is_none() {
        let good = Found {
            prefix: 16,
            interface: Some(7),
        };
        let cases = [
            (libc::RTN_UNICAST, 0, Some(good)),
            (libc::RTN_LOCAL, 0, Some(good)),
            (libc::RTN_UNICAST, 1, None),
            (libc::RTN_UNICAST, 16, None),
            (libc::RTN_BLACKHOLE, 0, None),
            (libc::RTN_UNREACHABLE, 0, None),
            (libc::RTN_PROHIBIT, 0, None),
        ];
        for (kind, flags, expected) in cases {
            assert_eq!(
                route(&answer(kind, flags), 3),
                Some(expected),
                "{kind}, {flags:#x}"
            );
        }
        assert_eq!(
            route(&answer(libc::RTN_UNICAST, 0), 4),
            None,
            "another question's"
        );
    }

    #[test]
    fn an_answer_may_be_cut_anywhere() {
        let whole = answer(libc::RTN_UNICAST, 0);
        for length in 0..whole.len() {
            let found = route(&whole[..length], 3).flatten();
            assert!(found.is_none_or(|found| found.interface.is_none()), "{length}");
        }
    }

    #[test]
    fn the_kernel_finds_a_way_to_ourselves_and_none_from_a_stranger() {
        let mut netlink = Netlink::open().expect("anybody may ask");
        let (home, stranger) = ([127, 0, 0, 1].into(), [192, 0, 2, 77].into());
        for from in [None, Some(home)] {
            let found = netlink.find_route(from, home).expect("answered");
            assert!(found.is_some_and(|found| found.prefix >= 8), "{found:?}");
        }
        assert_eq!(netlink.find_route(Some(stranger), home).expect("answered"), None);
        let home = std::net::Ipv6Addr::LOCALHOST.into();
        assert!(
            netlink.find_route(Some(stranger), home).is_ok(),
            "another family's source is left out"
        );
    }
}
