//! What the LAC negotiated and heard before it handed the call over: proxy LCP and proxy authentication
//! (RFC 2661 §4.4.5, AVPs 26 to 33).
//!
//! It stands only where it is what we would have negotiated ourselves. Everything else, above all what does not parse,
//! is as if it had not been there: the peer is open with the LAC, and our Configure-Request starts it anew.

use crate::auth::{AuthMethod, AuthRequest, Credential, MAX_NAME};
use crate::iana::{lcp_option, proxy_authen_type};
use crate::lcp::options::{DEFAULT_MRU, LcpOptions, MIN_MRU, Side};
use crate::link::LinkConfig;
use crate::negotiator::{Answer, OptionHandling};
use crate::packet::parse_options;
use crate::random::Random;
use crate::secret::Secret;

/// The proxy AVPs of an ICCN, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// AVP 26, the options of the peer's first Configure-Request. Tells what the peer wanted; not used.
    pub initial_received: Option<Vec<u8>>,
    /// AVP 27, the options of the LAC's last Configure-Request, which the peer acknowledged: ours.
    pub last_sent: Option<Vec<u8>>,
    /// AVP 28, the options of the peer's last Configure-Request, which the LAC acknowledged.
    pub last_received: Option<Vec<u8>>,
    /// AVP 29.
    pub authen_type: Option<u16>,
    /// AVP 30.
    pub authen_name: Option<Vec<u8>>,
    /// AVP 31.
    pub authen_challenge: Option<Vec<u8>>,
    /// AVP 32, the low octet: identifier of the challenge (CHAP) or of the request (PAP).
    pub authen_id: Option<u8>,
    /// AVP 33: the CHAP response or the clear password.
    pub authen_response: Option<Secret>,
}

impl Proxy {
    /// LCP as the LAC has left it, if we would have done the same.
    pub(crate) fn lcp(&self, config: &LinkConfig, random: Random) -> Option<LcpOptions> {
        let (ours, auth) = accept_ours(self.last_sent.as_deref()?, config)?;
        let received = parse_options(self.last_received.as_deref()?).ok()?;
        let mut options = LcpOptions::agreed(config, random, ours, Side::default(), auth);
        match options.judge(&received) {
            Ok(Answer::Ack) => Some(options),
            Ok(Answer::Nak(_) | Answer::Reject(_)) | Err(_) => None,
        }
    }

    /// What the peer presented to the LAC by the method that LCP agreed on, with the identifier that the peer expects
    /// in the answer. There is no type for MS-CHAPv2, and type 4 ("none") authenticates nobody.
    pub(crate) fn authentication(&self, method: AuthMethod) -> Option<(u8, AuthRequest)> {
        let id = self.authen_id?;
        let name = self.authen_name.clone().filter(|name| name.len() <= MAX_NAME)?;
        let response = self.authen_response.as_ref()?;
        let credential = match (self.authen_type?, method) {
            (proxy_authen_type::PAP, AuthMethod::Pap) => Credential::Pap {
                password: response.clone(),
            },
            (proxy_authen_type::CHAP, AuthMethod::ChapMd5) => Credential::ChapMd5 {
                id,
                challenge: self
                    .authen_challenge
                    .clone()
                    .filter(|challenge| !challenge.is_empty())?,
                response: response.expose().try_into().ok()?,
            },
            _ => return None,
        };
        Some((id, AuthRequest { name, credential }))
    }
}

/// The options that the LAC sent in our name: each must be one that we could have sent.
fn accept_ours(octets: &[u8], config: &LinkConfig) -> Option<(Side, Option<AuthMethod>)> {
    let (mut ours, mut auth) = (Side::default(), None);
    for option in parse_options(octets).ok()? {
        match option.kind {
            lcp_option::MRU => {
                let mru = u16::from_be_bytes(option.array()?);
                if !(MIN_MRU..=config.mru.max(DEFAULT_MRU)).contains(&mru) {
                    return None;
                }
                ours.mru = mru;
            }
            lcp_option::ACCM | lcp_option::PFC | lcp_option::ACFC => {}
            lcp_option::AUTHENTICATION_PROTOCOL => {
                auth = config
                    .auth
                    .iter()
                    .copied()
                    .find(|method| method.lcp_value() == option.value);
                auth?;
            }
            lcp_option::MAGIC_NUMBER => ours.magic = u32::from_be_bytes(option.array()?),
            _ => return None,
        }
    }
    let as_policy_wants = auth.is_some() != config.auth.is_empty();
    as_policy_wants.then_some((ours, auth))
}
