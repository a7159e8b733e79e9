//! IPCP: IPv4 addresses and DNS servers (RFC 1332, RFC 1877).
//!
//! The peer gets the address that was assigned to it and no other. Header compression, the old IP-Addresses option and
//! NBNS servers are rejected.

use std::net::Ipv4Addr;

use crate::cause::{Cause, Direction};
use crate::iana::ipcp_option;
use crate::ncp::Ncp;
use crate::negotiator::{Answer, OptionHandling};
use crate::packet::ConfigOption;

/// How often a peer that leaves its address out is told to ask for one.
const ADDRESS_HINTS: u32 = 2;

/// How often a peer that insists on another address is rejected before the protocol is given up.
const ADDRESS_REJECTS: u32 = 1;

/// What IPCP is to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpcpConfig {
    /// Our end; may be shared by all links.
    pub local: Ipv4Addr,
    /// The address assigned to the peer.
    pub peer: Ipv4Addr,
    /// Primary and secondary DNS server to hand out.
    pub dns: [Option<Ipv4Addr>; 2],
}

/// The options of IPCP on one link.
#[derive(Debug)]
pub(crate) struct IpcpOptions {
    config: IpcpConfig,
    /// The peer has not refused to hear our address.
    announce: bool,
    hints: u32,
    rejects: u32,
}

impl IpcpOptions {
    pub(crate) fn new(config: IpcpConfig) -> Self {
        Self {
            config,
            announce: true,
            hints: 0,
            rejects: 0,
        }
    }

    pub(crate) fn config(&self) -> IpcpConfig {
        self.config
    }

    /// The value that this option must have; `None` rejects it.
    fn wanted(&self, kind: u8) -> Option<Ipv4Addr> {
        match kind {
            ipcp_option::IP_ADDRESS => Some(self.config.peer),
            ipcp_option::PRIMARY_DNS => self.config.dns[0],
            ipcp_option::SECONDARY_DNS => self.config.dns[1],
            _ => None,
        }
    }
}

impl OptionHandling for IpcpOptions {
    fn request(&self) -> Vec<ConfigOption> {
        let address = ConfigOption::new(ipcp_option::IP_ADDRESS, self.config.local.octets());
        if self.announce { vec![address] } else { Vec::new() }
    }

    fn judge(&mut self, options: &[ConfigOption]) -> Result<Answer, Cause> {
        let rejected: Vec<_> = options
            .iter()
            .filter(|option| self.wanted(option.kind).is_none())
            .cloned()
            .collect();
        if !rejected.is_empty() {
            return Ok(Answer::Reject(rejected));
        }
        let mut wanted = Vec::new();
        for option in options {
            let value = self
                .wanted(option.kind)
                .expect("unwanted kinds were rejected above")
                .octets();
            if option.value != value {
                wanted.push(ConfigOption::new(option.kind, value));
            }
        }
        if !options
            .iter()
            .any(|option| option.kind == ipcp_option::IP_ADDRESS)
        {
            if self.hints == ADDRESS_HINTS {
                return Err(self.disagreement());
            }
            self.hints += 1;
            wanted.push(ConfigOption::new(
                ipcp_option::IP_ADDRESS,
                self.config.peer.octets(),
            ));
        }
        Ok(if wanted.is_empty() {
            Answer::Ack
        } else {
            Answer::Nak(wanted)
        })
    }

    /// Our address is not the peer's to choose: it stays as it is, for so many rounds.
    fn naked(&mut self, _: &[ConfigOption], exhausted: bool) -> Result<(), Cause> {
        if exhausted {
            return Err(Cause::NoAgreement(Ncp::Ipcp, Direction::Peer));
        }
        Ok(())
    }

    /// The peer does not want to know our address, the only option that we send: it will do without.
    fn rejected(&mut self, _: &[ConfigOption]) -> Result<(), Cause> {
        self.announce = false;
        Ok(())
    }

    fn nak_becomes_reject(&mut self, refused: &[ConfigOption]) -> Result<(), Cause> {
        if refused
            .iter()
            .any(|option| option.kind == ipcp_option::IP_ADDRESS)
        {
            if self.rejects == ADDRESS_REJECTS {
                return Err(Cause::AddressRefused(Ncp::Ipcp));
            }
            self.rejects += 1;
        }
        Ok(())
    }

    fn disagreement(&self) -> Cause {
        Cause::NoAgreement(Ncp::Ipcp, Direction::Local)
    }
}
