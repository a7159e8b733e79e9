//! The few requests to the kernel's rtnetlink(7) that ioctl(2) cannot carry: a link by its index, IPv6 addresses, routes
//! in a table of their own.
//!
//! One request, one acknowledgement, in the caller's thread: the parent process has no runtime to drive a netlink crate
//! with, and may wait for nothing but the kernel.

mod lookup;

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};

pub use lookup::Found;

/// `struct nlmsghdr` in octets.
const HEADER: usize = 16;
/// The kernel answers within the system call that sends the request; what takes this long will never come.
const PATIENCE: Duration = Duration::from_secs(1);

/// A route through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// Index of the interface.
    pub interface: u32,
    /// Number of the table.
    pub table: u32,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// Its priority. Zero is the first in IPv4, 1024 in IPv6, and any for a removal.
    pub metric: u32,
}

/// A conversation with the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A request under construction: its header, whose length is known at the end, then what it holds.
struct Request(Vec<u8>);

impl Netlink {
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let family = Domain::from(libc::AF_NETLINK);
        let socket = Socket::new(family, Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sets a link up or down.
    ///
    /// # Errors
    /// ENODEV when it is gone; EPERM without CAP_NET_ADMIN.
    pub fn set_link(&mut self, interface: u32, up: bool) -> io::Result<()> {
        let up = if up { libc::IFF_UP as u32 } else { 0 };
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        // struct ifinfomsg: family, padding, type, index, flags, which of them change.
        request.octets(&[libc::AF_UNSPEC as u8, 0, 0, 0]);
        for word in [interface, up, libc::IFF_UP as u32] {
            request.octets(&word.to_ne_bytes());
        }
        self.ask(request)
    }

    /// Gives an interface an address of its own: a /32 or /128, usable at once. That it has it already is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut request = Request::new(libc::RTM_NEWADDR, flags);
        let length = IpNet::from(address).prefix_len();
        // struct ifaddrmsg: family, length of the prefix, flags, scope, index. Without NODAD an IPv6 address is
        // tentative for a second on some interfaces, and cannot be bound to.
        request.octets(&[family(address), length, libc::IFA_F_NODAD as u8, 0]);
        request.octets(&interface.to_ne_bytes());
        request.address(libc::IFA_LOCAL, address);
        request.address(libc::IFA_ADDRESS, address);
        self.ask(request)
    }

    /// Adds a route, or leaves it as it is.
    ///
    /// # Errors
    /// ENETDOWN or ENETUNREACH while the link is down.
    pub fn add_route(&mut self, route: &Route) -> io::Result<()> {
        self.ask(route_request(
            libc::RTM_NEWROUTE,
            libc::NLM_F_CREATE | libc::NLM_F_REPLACE,
            route,
        ))
    }

    /// Adds a route where there is none to the same destination with the same metric, whoever made it.
    ///
    /// # Errors
    /// EEXIST when there is.
    pub fn add_new_route(&mut self, route: &Route) -> io::Result<()> {
        self.ask(route_request(
            libc::RTM_NEWROUTE,
            libc::NLM_F_CREATE | libc::NLM_F_EXCL,
            route,
        ))
    }

    /// Removes a route. That it or its interface is not there is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_route(&mut self, route: &Route) -> io::Result<()> {
        match self.ask(route_request(libc::RTM_DELROUTE, 0, route)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => Ok(()),
            outcome => outcome,
        }
    }

    fn ask(&mut self, request: Request) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.write_all(&request.finish(self.sequence))?;
        loop {
            let mut answer = [0; 1024];
            let length = self.socket.read(&mut answer)?;
            if let Some(outcome) = acknowledgement(&answer[..length], self.sequence) {
                return outcome;
            }
        }
    }
}

/// What NLMSG_ERROR says of the request `sequence`; `None` is another answer, to a request that was given up.
fn acknowledgement(answer: &[u8], sequence: u32) -> Option<io::Result<()>> {
    let word = |at: usize| {
        let octets = answer.get(at..at + 4)?;
        Some(u32::from_ne_bytes(octets.try_into().expect("four octets")))
    };
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().expect("two octets"));
    if i32::from(kind) != libc::NLMSG_ERROR || word(8)? != sequence {
        return None;
    }
    Some(match word(HEADER)? as i32 {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
    })
}

fn route_request(kind: u16, flags: libc::c_int, route: &Route) -> Request {
    let mut request = Request::new(kind, flags);
    // struct rtmsg: family, lengths of destination and source, TOS, table (by attribute), protocol, scope, type, flags.
    request.octets(&[
        family(route.to.addr()),
        route.to.prefix_len(),
        0,
        0,
        libc::RT_TABLE_UNSPEC,
        route.protocol,
        libc::RT_SCOPE_LINK,
        libc::RTN_UNICAST,
    ]);
    request.octets(&0u32.to_ne_bytes());
    request.address(libc::RTA_DST, route.to.network());
    request.attribute(libc::RTA_OIF, &route.interface.to_ne_bytes());
    request.attribute(libc::RTA_TABLE, &route.table.to_ne_bytes());
    request.attribute(libc::RTA_PRIORITY, &route.metric.to_ne_bytes());
    request
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

impl Request {
    fn new(kind: u16, flags: libc::c_int) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut request = Self(vec![0; HEADER]);
        request.0[4..6].copy_from_slice(&kind.to_ne_bytes());
        request.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        request
    }

    fn octets(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    /// `struct rtattr`: length with itself, type, value, padding to four octets.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("values are addresses and words");
        self.octets(&length.to_ne_bytes());
        self.octets(&kind.to_ne_bytes());
        self.octets(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("a request is short");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_its_length_and_padded_attributes() {
        let mut request = Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE);
        request.attribute(7, &[1, 2, 3]);
        let octets = request.finish(9);
        assert_eq!(octets[..4], 24u32.to_ne_bytes());
        assert_eq!(octets[4..6], libc::RTM_NEWROUTE.to_ne_bytes());
        assert_eq!(octets[8..12], 9u32.to_ne_bytes());
        assert_eq!(octets[HEADER..HEADER + 2], 7u16.to_ne_bytes());
        assert_eq!(octets[HEADER + 4..], [1, 2, 3, 0]);
    }

    #[test]
    fn an_answer_is_taken_by_its_sequence_number_and_may_be_short() {
        let mut answer = vec![0; 20];
        answer[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        answer[8..12].copy_from_slice(&3u32.to_ne_bytes());
        answer[16..20].copy_from_slice(&(-libc::ENODEV).to_ne_bytes());
        let error = acknowledgement(&answer, 3).expect("ours").expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(acknowledgement(&answer, 4).is_none());
        for length in 0..answer.len() {
            assert!(acknowledgement(&answer[..length], 3).is_none());
        }
        answer[16..20].fill(0);
        assert!(acknowledgement(&answer, 3).expect("ours").is_ok());
    }
}
