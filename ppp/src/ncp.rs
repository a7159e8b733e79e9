//! The network control protocols: users of one [`Negotiator`](crate::negotiator::Negotiator), told apart by their
//! options alone. A further protocol is a further variant of the enums here.

use crate::cause::Cause;
use crate::iana::protocol;
use crate::ipcp::{IpcpConfig, IpcpOptions};
use crate::ipv6cp::{Ipv6cpConfig, Ipv6cpOptions};
use crate::negotiator::{Answer, OptionHandling};
use crate::packet::ConfigOption;

/// A network control protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ncp {
    /// IPv4 (RFC 1332).
    Ipcp,
    /// IPv6 (RFC 5072).
    Ipv6cp,
}

impl Ncp {
    /// Its protocol number.
    pub fn protocol(self) -> u16 {
        match self {
            Self::Ipcp => protocol::IPCP,
            Self::Ipv6cp => protocol::IPV6CP,
        }
    }

    /// The protocol with this number.
    pub fn from_protocol(number: u16) -> Option<Self> {
        match number {
            protocol::IPCP => Some(Self::Ipcp),
            protocol::IPV6CP => Some(Self::Ipv6cp),
            _ => None,
        }
    }
}

/// What a network control protocol is to agree on, or has agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NcpConfig {
    Ipcp(IpcpConfig),
    Ipv6cp(Ipv6cpConfig),
}

impl NcpConfig {
    /// The protocol that this is for.
    pub fn ncp(&self) -> Ncp {
        match self {
            Self::Ipcp(_) => Ncp::Ipcp,
            Self::Ipv6cp(_) => Ncp::Ipv6cp,
        }
    }
}

/// The options of one network control protocol.
#[derive(Debug)]
pub(crate) enum NcpOptions {
    Ipcp(IpcpOptions),
    Ipv6cp(Ipv6cpOptions),
}

impl NcpOptions {
    pub(crate) fn new(config: &NcpConfig) -> Self {
        match config {
            NcpConfig::Ipcp(config) => Self::Ipcp(IpcpOptions::new(*config)),
            NcpConfig::Ipv6cp(config) => Self::Ipv6cp(Ipv6cpOptions::new(*config)),
        }
    }

    /// What is agreed once both Configure-Acks are there.
    pub(crate) fn agreed(&self) -> NcpConfig {
        match self {
            Self::Ipcp(options) => NcpConfig::Ipcp(options.config()),
            Self::Ipv6cp(options) => NcpConfig::Ipv6cp(options.config()),
        }
    }

    fn handling(&mut self) -> &mut dyn OptionHandling {
        match self {
            Self::Ipcp(options) => options,
            Self::Ipv6cp(options) => options,
        }
    }
}

impl OptionHandling for NcpOptions {
    fn request(&self) -> Vec<ConfigOption> {
        match self {
            Self::Ipcp(options) => options.request(),
            Self::Ipv6cp(options) => options.request(),
        }
    }

    fn judge(&mut self, options: &[ConfigOption]) -> Result<Answer, Cause> {
        self.handling().judge(options)
    }

    fn naked(&mut self, options: &[ConfigOption], exhausted: bool) -> Result<(), Cause> {
        self.handling().naked(options, exhausted)
    }

    fn rejected(&mut self, options: &[ConfigOption]) -> Result<(), Cause> {
        self.handling().rejected(options)
    }

    fn nak_becomes_reject(&mut self, refused: &[ConfigOption]) -> Result<(), Cause> {
        self.handling().nak_becomes_reject(refused)
    }

    fn disagreement(&self) -> Cause {
        match self {
            Self::Ipcp(options) => options.disagreement(),
            Self::Ipv6cp(options) => options.disagreement(),
        }
    }
}
