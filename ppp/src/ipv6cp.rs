//! IPV6CP: interface identifiers (RFC 5072 §4.1).
//!
//! | the peer's identifier | answer |
//! |---|---|
//! | not zero, not ours | Ack; where one is set for the peer, Nak with that unless it is this one |
//! | zero, ours is not | Nak with one for it |
//! | ours, not zero | Nak with another |
//! | zero, and so is ours | Reject |
//!
//! An identifier makes a link-local address and no other; global addresses come by Router Advertisements and DHCPv6, which
//! are data to this crate.

use sha1::{Digest, Sha1};

use crate::cause::{Cause, Direction};
use crate::iana::ipv6cp_option::INTERFACE_IDENTIFIER;
use crate::ncp::Ncp;
use crate::negotiator::{Answer, OptionHandling};
use crate::packet::ConfigOption;

/// An interface identifier; all zero is none.
pub type InterfaceId = [u8; 8];

const NONE: InterfaceId = [0; 8];

/// How often a peer that leaves its identifier out is told to ask for one.
const IDENTIFIER_HINTS: u32 = 2;

/// How often a peer that insists on a bad identifier is rejected before the protocol is given up.
const IDENTIFIER_REJECTS: u32 = 1;

/// The universal/local bit: an identifier that was made up has it clear (RFC 5072 §4.1).
const UNIVERSAL: u8 = 0x02;

/// What IPV6CP is to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6cpConfig {
    /// Our identifier. The peer may want us to have another.
    pub local: InterfaceId,
    /// The peer's: what it gets if it has none, or must take.
    pub peer: InterfaceId,
    /// Whether the peer must take that one; otherwise its own choice stands.
    pub fixed: bool,
}

/// The options of IPV6CP on one link.
#[derive(Debug)]
pub(crate) struct Ipv6cpOptions {
    config: Ipv6cpConfig,
    /// The peer has not refused to hear our identifier.
    announce: bool,
    hints: u32,
    rejects: u32,
}

impl Ipv6cpOptions {
    pub(crate) fn new(config: Ipv6cpConfig) -> Self {
        let mut options = Self {
            config,
            announce: true,
            hints: 0,
            rejects: 0,
        };
        if options.config.fixed && options.config.local == options.config.peer {
            options.config.local = another(options.config.peer);
        }
        options
    }

    pub(crate) fn config(&self) -> Ipv6cpConfig {
        self.config
    }

    /// What we want the peer to take: neither zero nor ours.
    fn offer(&self) -> ConfigOption {
        let mut id = self.config.peer;
        if id == NONE || id == self.config.local {
            id = another(self.config.local);
        }
        ConfigOption::new(INTERFACE_IDENTIFIER, id)
    }

    /// What is wrong with the peer's identifier; `None` takes it.
    fn refuse(&mut self, option: &ConfigOption) -> Option<Answer> {
        let nak = || Some(Answer::Nak(vec![self.offer()]));
        let Some(id) = option.array::<8>() else {
            return nak();
        };
        if id == NONE && self.config.local == NONE {
            return Some(Answer::Reject(vec![option.clone()]));
        }
        if id == NONE || id == self.config.local || (self.config.fixed && id != self.config.peer) {
            return nak();
        }
        self.config.peer = id;
        None
    }
}

/// An identifier that follows from `id` and is another: not zero, and said to be made up.
fn another(id: InterfaceId) -> InterfaceId {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 20]>::from(Sha1::digest(id));
    [a & !UNIVERSAL, b, c, d, e, f, g, (h & !1) | (!id[7] & 1)]
}

impl OptionHandling for Ipv6cpOptions {
    fn request(&self) -> Vec<ConfigOption> {
        let option = ConfigOption::new(INTERFACE_IDENTIFIER, self.config.local);
        if self.announce { vec![option] } else { Vec::new() }
    }

    fn judge(&mut self, options: &[ConfigOption]) -> Result<Answer, Cause> {
        let first = options
            .iter()
            .position(|option| option.kind == INTERFACE_IDENTIFIER);
        // Compression has gone from the RFC, and there is one identifier an interface.
        let rejected: Vec<_> = (0..options.len())
            .filter(|at| Some(*at) != first)
            .map(|at| options[at].clone())
            .collect();
        if !rejected.is_empty() {
            return Ok(Answer::Reject(rejected));
        }
        match first {
            Some(at) => Ok(self.refuse(&options[at]).unwrap_or(Answer::Ack)),
            None if self.hints == IDENTIFIER_HINTS => Err(self.disagreement()),
            None => {
                self.hints += 1;
                Ok(Answer::Nak(vec![self.offer()]))
            }
        }
    }

    /// The peer finds ours equal to its own, or is itself told so at the same time: then both think of another.
    fn naked(&mut self, options: &[ConfigOption], exhausted: bool) -> Result<(), Cause> {
        if exhausted {
            return Err(Cause::NoAgreement(Ncp::Ipv6cp, Direction::Peer));
        }
        let wanted = options
            .iter()
            .find(|option| option.kind == INTERFACE_IDENTIFIER)
            .and_then(ConfigOption::array);
        self.config.local = match wanted {
            Some(id) if id != NONE && id != self.config.peer => id,
            Some(_) | None => another(self.config.local),
        };
        if self.config.local == self.config.peer {
            self.config.local = another(self.config.local);
        }
        Ok(())
    }

    /// The peer does not want to know our identifier, the only option that we send: it will do without.
    fn rejected(&mut self, _: &[ConfigOption]) -> Result<(), Cause> {
        self.announce = false;
        Ok(())
    }

    fn nak_becomes_reject(&mut self, _: &[ConfigOption]) -> Result<(), Cause> {
        if self.rejects == IDENTIFIER_REJECTS {
            return Err(Cause::AddressRefused(Ncp::Ipv6cp));
        }
        self.rejects += 1;
        Ok(())
    }

    fn disagreement(&self) -> Cause {
        Cause::NoAgreement(Ncp::Ipv6cp, Direction::Local)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn another_identifier_is_not_the_same_nor_zero_nor_universal(id in any::<[u8; 8]>()) {
            let other = another(id);
            prop_assert!(other != id && other != NONE && other[0] & UNIVERSAL == 0);
        }
    }

    #[test]
    fn the_peers_fixed_identifier_is_never_ours() {
        let id = [0, 0, 0, 0, 0, 0, 0, 1];
        let config = Ipv6cpConfig {
            local: id,
            peer: id,
            fixed: true,
        };
        let options = Ipv6cpOptions::new(config);
        assert_eq!(options.offer(), ConfigOption::new(INTERFACE_IDENTIFIER, id));
        assert_ne!(options.config().local, id);
    }
}
