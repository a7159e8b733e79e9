//! One link, one step at a time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_ppp::frame::{self, Frame};
use holdfast_ppp::packet::Packet;
use holdfast_ppp::{
    AuthRequest, Cause, Counter, IpcpConfig, Ipv6cpConfig, Link, LinkConfig, Ncp, OpenLink, Output, Proxy,
    Transition, Verdict,
};

pub const LCP: u16 = 0xc021;
pub const PAP: u16 = 0xc023;
pub const CHAP: u16 = 0xc223;
pub const IPCP: u16 = 0x8021;
pub const IPV6CP: u16 = 0x8057;

pub const REQUEST: u8 = 1;
pub const ACK: u8 = 2;
pub const NAK: u8 = 3;
pub const REJECT: u8 = 4;
pub const TERMINATE: u8 = 5;
pub const TERMINATE_ACK: u8 = 6;
pub const CODE_REJECT: u8 = 7;
pub const PROTOCOL_REJECT: u8 = 8;
pub const ECHO: u8 = 9;
pub const ECHO_REPLY: u8 = 10;

pub const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const PEER: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 7);
pub const DNS: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);

/// The peer's magic number and the option that carries it.
pub const PEER_MAGIC: u32 = 0x1122_3344;
pub const PEER_OPTIONS: [u8; 10] = [1, 4, 0x05, 0xd4, 5, 6, 0x11, 0x22, 0x33, 0x44];

/// IPCP options of a peer that asks for what it was assigned.
pub const GOOD_IPCP: [u8; 6] = [3, 6, 100, 64, 3, 7];

/// Our interface identifier, and the one that is kept for the peer.
pub const LOCAL_ID: [u8; 8] = [0x10, 0, 0, 0, 0, 0, 0, 1];
pub const PEER_ID: [u8; 8] = [0x20, 0, 0, 0, 0, 0, 0, 2];

/// IPV6CP options of a peer with an identifier of its own.
pub const GOOD_IPV6CP: [u8; 10] = [1, 10, 0x30, 0, 0, 0, 0, 0, 0, 3];

/// What a link said, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Packet(u16, u8, u8, Vec<u8>),
    Authenticate(u32, AuthRequest),
    Open(u32, OpenLink),
    Leave(u32),
    Up(Ncp),
    Down(Ncp),
    Finished(Cause),
}

pub fn packet(protocol: u16, code: u8, id: u8, data: &[u8]) -> Said {
    Said::Packet(protocol, code, id, data.to_vec())
}

pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A configuration without authentication, for tests of what comes before and after.
pub fn open_door() -> LinkConfig {
    LinkConfig {
        auth: Vec::new(),
        ..LinkConfig::default()
    }
}

pub fn ipcp_config() -> IpcpConfig {
    IpcpConfig {
        local: LOCAL,
        peer: PEER,
        dns: [Some(DNS), None],
    }
}

pub fn ipv6cp_config() -> Ipv6cpConfig {
    Ipv6cpConfig {
        local: LOCAL_ID,
        peer: PEER_ID,
        fixed: false,
    }
}

pub fn accept() -> Verdict {
    accept_with(Some(ipcp_config()), None)
}

/// Both protocols.
pub fn accept_both() -> Verdict {
    accept_with(Some(ipcp_config()), Some(ipv6cp_config()))
}

pub fn accept_with(ipcp: Option<IpcpConfig>, ipv6cp: Option<Ipv6cpConfig>) -> Verdict {
    Verdict::Accept {
        ipcp,
        ipv6cp,
        message: Vec::new(),
        ms_chap_success: None,
    }
}

pub fn reject(message: &[u8]) -> Verdict {
    Verdict::Reject {
        message: message.to_vec(),
        ms_chap_error: None,
    }
}

pub fn encode(protocol: u16, code: u8, id: u8, data: &[u8]) -> Vec<u8> {
    frame::encode(protocol, &Packet { code, id, data }.encode())
}

pub struct Bench {
    pub link: Link,
    pub now: Duration,
    pub counts: Vec<Counter>,
}

impl Bench {
    /// A new link and what it says first.
    pub fn start(config: LinkConfig) -> (Self, Vec<Said>) {
        Self::start_with(config, None)
    }

    pub fn start_with(config: LinkConfig, proxy: Option<&Proxy>) -> (Self, Vec<Said>) {
        let link = Link::start(Duration::ZERO, Arc::new(config), proxy, 1);
        let mut bench = Self {
            link,
            now: Duration::ZERO,
            counts: Vec::new(),
        };
        let said = bench.drain();
        (bench, said)
    }

    pub fn resume(config: LinkConfig, row: &OpenLink, now: Duration, seed: u64) -> Self {
        let link = Link::resume(now, Arc::new(config), row, seed);
        Self {
            link,
            now,
            counts: Vec::new(),
        }
    }

    pub fn drain(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some(output) = self.link.poll_output() {
            said.push(match output {
                Output::Frame(octets) => {
                    assert_eq!(octets[..2], [0xff, 0x03]);
                    let frame = Frame::parse(&octets).unwrap();
                    let packet = Packet::parse(frame.information).unwrap();
                    Said::Packet(frame.protocol, packet.code, packet.id, packet.data.to_vec())
                }
                Output::Authenticate { serial, request } => Said::Authenticate(serial, *request),
                Output::Commit {
                    serial,
                    transition: Transition::Open(row),
                } => Said::Open(serial, *row),
                Output::Commit {
                    serial,
                    transition: Transition::Leave,
                } => Said::Leave(serial),
                Output::Up(ncp) => Said::Up(ncp),
                Output::Down(ncp) => Said::Down(ncp),
                Output::Finished(cause) => Said::Finished(cause),
                Output::Count(counter) => {
                    self.counts.push(counter);
                    continue;
                }
            });
        }
        said
    }

    pub fn raw(&mut self, octets: &[u8]) -> Vec<Said> {
        self.link.handle_input(self.now, octets);
        self.drain()
    }

    pub fn input(&mut self, protocol: u16, code: u8, id: u8, data: &[u8]) -> Vec<Said> {
        self.raw(&encode(protocol, code, id, data))
    }

    pub fn accepted(&mut self, serial: u32) -> Vec<Said> {
        self.link.commit_accepted(self.now, serial);
        self.drain()
    }

    pub fn verdict(&mut self, serial: u32, verdict: Verdict) -> Vec<Said> {
        self.link.verdict(self.now, serial, verdict);
        self.drain()
    }

    pub fn close(&mut self, cause: Cause) -> Vec<Said> {
        self.link.close(self.now, cause);
        self.drain()
    }

    /// Lets time pass up to `until`, timer by timer.
    pub fn run_until(&mut self, until: Duration) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some(due) = self.link.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.link.handle_timeout(self.now);
            said.extend(self.drain());
        }
        self.now = until;
        said
    }

    /// Lets time pass until the next timer.
    pub fn next_timer(&mut self) -> Vec<Said> {
        let due = self.link.poll_timeout().expect("a timer runs");
        self.run_until(due)
    }

    /// The peer acknowledges our LCP request and has its own acknowledged.
    pub fn open_lcp(&mut self, said: &[Said]) -> Vec<Said> {
        let (id, options) = request_in(said, LCP);
        assert_eq!(self.input(LCP, ACK, id, &options), []);
        let mut said = self.input(LCP, REQUEST, 1, &PEER_OPTIONS);
        assert_eq!(said.remove(0), packet(LCP, ACK, 1, &PEER_OPTIONS));
        said
    }

    /// A link in the network phase that needs no authentication, and our IPCP request.
    pub fn in_network(config: LinkConfig) -> (Self, u8, Vec<u8>) {
        Self::in_network_with(config, accept())
    }

    fn in_network_with(config: LinkConfig, verdict: Verdict) -> (Self, u8, Vec<u8>) {
        let (bench, said) = Self::granted(config, verdict);
        let (id, options) = request_in(&said, IPCP);
        (bench, id, options)
    }

    /// A link in the network phase that needs no authentication, and what it said after this verdict.
    pub fn granted(config: LinkConfig, verdict: Verdict) -> (Self, Vec<Said>) {
        let (mut bench, said) = Self::start(config);
        let said = bench.open_lcp(&said);
        let [Said::Authenticate(serial, _)] = &said[..] else {
            panic!("{said:?}")
        };
        let said = bench.verdict(*serial, verdict);
        (bench, said)
    }

    /// An open link, and its row.
    pub fn open(config: LinkConfig) -> (Self, OpenLink) {
        Self::open_with(config, accept())
    }

    /// A link on which IPCP is open, whatever else this verdict grants, and its row.
    pub fn open_with(config: LinkConfig, verdict: Verdict) -> (Self, OpenLink) {
        let (mut bench, id, options) = Self::in_network_with(config, verdict);
        assert_eq!(bench.input(IPCP, ACK, id, &options), []);
        let said = bench.input(IPCP, REQUEST, 7, &GOOD_IPCP);
        let [Said::Open(serial, row)] = &said[..] else {
            panic!("{said:?}")
        };
        let said = bench.accepted(*serial);
        assert_eq!(said, [packet(IPCP, ACK, 7, &GOOD_IPCP), Said::Up(Ncp::Ipcp)]);
        (bench, row.clone())
    }
}

/// Our Configure-Request of this protocol among what was said: identifier and options.
pub fn request_in(said: &[Said], protocol: u16) -> (u8, Vec<u8>) {
    let request = said.iter().rev().find_map(|said| match said {
        Said::Packet(number, REQUEST, id, data) if *number == protocol => Some((*id, data.clone())),
        _ => None,
    });
    request.unwrap_or_else(|| panic!("no request of {protocol:#06x} in {said:?}"))
}

pub fn leave_in(said: &[Said]) -> u32 {
    match said {
        [Said::Leave(serial)] => *serial,
        other => panic!("not a Leave alone: {other:?}"),
    }
}
