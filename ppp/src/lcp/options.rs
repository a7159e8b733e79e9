//! The options of LCP (RFC 1661 §6).
//!
//! We ask for our MRU, for authentication and for a magic number. Of the peer's options we take MRU, ACCM (which means
//! nothing inside L2TP), magic number, PFC and ACFC; everything else, multilink above all, is rejected.

use crate::auth::AuthMethod;
use crate::cause::Cause;
use crate::iana::lcp_option;
use crate::link::LinkConfig;
use crate::negotiator::{Answer, OptionHandling};
use crate::packet::ConfigOption;
use crate::random::Random;

/// The MRU of a peer that names none, and what everyone must be able to receive (RFC 1661 §6.1).
pub(crate) const DEFAULT_MRU: u16 = 1500;

/// The smallest MRU worth agreeing on.
pub(crate) const MIN_MRU: u16 = 128;

/// How many Configure-Requests with our own magic number are taken for chance; the next one is a loop.
const LOOP_ROUNDS: u32 = 4;

/// What one side has asked for and the other acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) mru: u16,
    /// 0 for none.
    pub(crate) magic: u32,
    pub(crate) pfc: bool,
    pub(crate) acfc: bool,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            mru: DEFAULT_MRU,
            magic: 0,
            pfc: false,
            acfc: false,
        }
    }
}

/// The options of LCP on one link.
#[derive(Debug)]
pub(crate) struct LcpOptions {
    random: Random,
    /// Our own, as we ask for them. MRU `DEFAULT_MRU` and magic 0 are left out of the request.
    ours: Side,
    send_mru: bool,
    /// Authentication protocols that the peer has not refused yet; the first is asked for.
    auth: Vec<AuthMethod>,
    peer: Side,
    loops: u32,
}

impl LcpOptions {
    /// Options for a negotiation from scratch.
    pub(crate) fn new(config: &LinkConfig, mut random: Random) -> Self {
        let magic = random.magic();
        let ours = Side {
            mru: config.mru,
            magic,
            ..Side::default()
        };
        Self {
            random,
            ours,
            send_mru: true,
            auth: config.auth.clone(),
            peer: Side::default(),
            loops: 0,
        }
    }

    /// Options of a link that is open already.
    pub(crate) fn agreed(
        config: &LinkConfig,
        random: Random,
        ours: Side,
        peer: Side,
        auth: Option<AuthMethod>,
    ) -> Self {
        let auth = auth.into_iter().collect();
        Self {
            ours,
            peer,
            auth,
            ..Self::new(config, random)
        }
    }

    /// Forgets what was agreed: everything is asked for anew, with a new magic number.
    pub(crate) fn reset(&mut self, config: &LinkConfig) {
        *self = Self::new(config, self.random.fork());
    }

    pub(crate) fn ours(&self) -> Side {
        self.ours
    }

    pub(crate) fn peer(&self) -> Side {
        self.peer
    }

    /// The protocol by which the peer is to authenticate.
    pub(crate) fn auth(&self) -> Option<AuthMethod> {
        self.auth.first().copied()
    }

    fn judge_one(&mut self, option: &ConfigOption, peer: &mut Side) -> Opinion {
        match option.kind {
            lcp_option::MRU => match option.array().map(u16::from_be_bytes) {
                Some(mru) if mru >= MIN_MRU => peer.mru = mru,
                Some(_) => return nak(option.kind, MIN_MRU.to_be_bytes()),
                None => return nak(option.kind, DEFAULT_MRU.to_be_bytes()),
            },
            lcp_option::ACCM if option.value.len() == 4 => {}
            lcp_option::ACCM => return nak(option.kind, [0; 4]),
            lcp_option::MAGIC_NUMBER => match option.array().map(u32::from_be_bytes) {
                Some(magic) if magic != 0 && magic != self.ours.magic => {
                    self.loops = 0;
                    peer.magic = magic;
                }
                Some(magic) => {
                    self.loops += u32::from(magic != 0);
                    return nak(option.kind, self.random.magic().to_be_bytes());
                }
                None => return nak(option.kind, self.random.magic().to_be_bytes()),
            },
            lcp_option::PFC if option.value.is_empty() => peer.pfc = true,
            lcp_option::ACFC if option.value.is_empty() => peer.acfc = true,
            _ => return Opinion::Reject,
        }
        Opinion::Ack
    }

    fn adopt_mru(&mut self, option: &ConfigOption) {
        if let Some(mru) = option.array().map(u16::from_be_bytes)
            && (MIN_MRU..=DEFAULT_MRU.max(self.ours.mru)).contains(&mru)
        {
            self.ours.mru = mru;
        }
    }

    /// The peer prefers another protocol: the first of those that it names (RFC 1661 §5.3 lets it name several) that
    /// policy allows, else the next that policy allows.
    fn change_auth(&mut self, proposals: &[&ConfigOption]) -> Result<(), Cause> {
        let Some(refused) = self.auth() else {
            return Ok(());
        };
        self.auth.remove(0);
        let wanted = proposals.iter().find_map(|proposal| {
            self.auth
                .iter()
                .position(|method| method.lcp_value() == proposal.value)
        });
        if let Some(at) = wanted {
            self.auth[..=at].rotate_right(1);
        }
        if self.auth.is_empty() {
            Err(Cause::AuthUnacceptable(refused))
        } else {
            Ok(())
        }
    }
}

/// What one option of the peer deserves.
enum Opinion {
    Ack,
    Nak(ConfigOption),
    Reject,
}

fn nak(kind: u8, value: impl Into<Vec<u8>>) -> Opinion {
    Opinion::Nak(ConfigOption::new(kind, value))
}

impl OptionHandling for LcpOptions {
    fn request(&self) -> Vec<ConfigOption> {
        let mut options = Vec::new();
        if self.send_mru {
            options.push(ConfigOption::new(lcp_option::MRU, self.ours.mru.to_be_bytes()));
        }
        if let Some(method) = self.auth() {
            options.push(ConfigOption::new(
                lcp_option::AUTHENTICATION_PROTOCOL,
                method.lcp_value(),
            ));
        }
        if self.ours.magic != 0 {
            options.push(ConfigOption::new(
                lcp_option::MAGIC_NUMBER,
                self.ours.magic.to_be_bytes(),
            ));
        }
        options
    }

    fn judge(&mut self, options: &[ConfigOption]) -> Result<Answer, Cause> {
        let mut peer = Side::default();
        let (mut naked, mut rejected) = (Vec::new(), Vec::new());
        for option in options {
            match self.judge_one(option, &mut peer) {
                Opinion::Ack => {}
                Opinion::Nak(wanted) => naked.push(wanted),
                Opinion::Reject => rejected.push(option.clone()),
            }
        }
        if self.loops > LOOP_ROUNDS {
            return Err(Cause::Loop);
        }
        if !rejected.is_empty() {
            return Ok(Answer::Reject(rejected));
        }
        if !naked.is_empty() {
            return Ok(Answer::Nak(naked));
        }
        self.peer = peer;
        Ok(Answer::Ack)
    }

    fn naked(&mut self, options: &[ConfigOption], exhausted: bool) -> Result<(), Cause> {
        for option in options {
            match option.kind {
                // A peer that is never content with a value gets none.
                lcp_option::MRU if exhausted => self.send_mru = false,
                lcp_option::MRU => self.adopt_mru(option),
                lcp_option::MAGIC_NUMBER if exhausted => self.ours.magic = 0,
                // Whatever it suggests, perhaps our own Nak come back: a new one tells a loop from chance.
                lcp_option::MAGIC_NUMBER => self.ours.magic = self.random.magic(),
                // Authentication: below. Else something it would like to hear from us; it can do without.
                _ => {}
            }
        }
        let auth = |option: &&ConfigOption| option.kind == lcp_option::AUTHENTICATION_PROTOCOL;
        let proposals: Vec<_> = options.iter().filter(auth).collect();
        if proposals.is_empty() {
            return Ok(());
        }
        self.change_auth(&proposals)
    }

    fn rejected(&mut self, options: &[ConfigOption]) -> Result<(), Cause> {
        for option in options {
            match option.kind {
                lcp_option::MRU => {
                    self.send_mru = false;
                    self.ours.mru = DEFAULT_MRU;
                }
                lcp_option::MAGIC_NUMBER => self.ours.magic = 0,
                lcp_option::AUTHENTICATION_PROTOCOL => {
                    return Err(self.auth().map_or(Cause::LcpTimeout, Cause::AuthUnacceptable));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn disagreement(&self) -> Cause {
        Cause::LcpTimeout
    }
}
