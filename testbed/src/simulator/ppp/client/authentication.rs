//! How the client proves who it is: PAP (RFC 1334), CHAP (RFC 1994), MS-CHAPv2 (RFC 2759).

use md5::{Digest, Md5};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::super::mschap;
use super::super::packet::{self, Packet};
use super::{Client, Context, Event, MAX_TRIES, Phase, RESTART};

const CHALLENGE: u8 = 1;
const RESPONSE: u8 = 2;
const SUCCESS: u8 = 3;
const FAILURE: u8 = 4;

const PAP_REQUEST: u8 = 1;
const PAP_ACK: u8 = 2;
const PAP_NAK: u8 = 3;

/// Option 3 of LCP as it names each method.
const PAP_VALUE: &[u8] = &[0xc0, 0x23];
const CHAP_VALUE: &[u8] = &[0xc2, 0x23, 0x05];
const MS_CHAP_VALUE: &[u8] = &[0xc2, 0x23, 0x81];

/// Which methods the subscriber agrees to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// Whatever the server asks for.
    #[default]
    Any,
    Pap,
    Chap,
    MsChapV2,
}

/// The method that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Pap,
    ChapMd5,
    MsChapV2,
}

impl Method {
    /// The value of LCP's option 3 for this method.
    pub fn option(self) -> &'static [u8] {
        match self {
            Self::Pap => PAP_VALUE,
            Self::ChapMd5 => CHAP_VALUE,
            Self::MsChapV2 => MS_CHAP_VALUE,
        }
    }
}

impl Authentication {
    /// The method behind the server's option, or the value that the client would rather see there.
    pub fn judge(self, asked: &[u8]) -> Result<Method, &'static [u8]> {
        let (method, wanted) = match asked {
            PAP_VALUE => (Some(Method::Pap), PAP_VALUE),
            CHAP_VALUE => (Some(Method::ChapMd5), CHAP_VALUE),
            MS_CHAP_VALUE => (Some(Method::MsChapV2), MS_CHAP_VALUE),
            _ => (None, CHAP_VALUE),
        };
        let wanted = match self {
            Self::Any => wanted,
            Self::Pap => PAP_VALUE,
            Self::Chap => CHAP_VALUE,
            Self::MsChapV2 => MS_CHAP_VALUE,
        };
        method.filter(|_| asked == wanted).ok_or(wanted)
    }
}

impl Client {
    pub(super) fn begin_authentication(&mut self, ctx: &mut Context<'_>) {
        self.phase = Phase::Authenticate;
        self.lcp.tries = 0;
        self.chap_response = None;
        match self.method {
            None => self.begin_network(ctx),
            Some(Method::Pap) => {
                self.pap_id = self.pap_id.wrapping_add(1);
                self.send_pap(ctx);
            }
            Some(Method::ChapMd5 | Method::MsChapV2) => self.deadline = Some(ctx.now + RESTART),
        }
    }

    /// Repeats the request or the response: its answer may be lost, and nothing but the answer lets the client go
    /// on (RFC 1994 §4.2 has the server take repeated responses for that reason).
    pub(super) fn repeat_authentication(&mut self, ctx: &mut Context<'_>) -> Option<Event> {
        if self.lcp.tries >= MAX_TRIES {
            return self.fail("authentication unanswered");
        }
        if self.method == Some(Method::Pap) {
            self.send_pap(ctx);
            return None;
        }
        self.lcp.tries += 1;
        self.deadline = Some(ctx.now + RESTART);
        if let Some((id, data)) = &self.chap_response {
            ctx.send(packet::PROTOCOL_CHAP, RESPONSE, *id, data);
        }
        None
    }

    pub(super) fn handle_pap(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        if self.phase != Phase::Authenticate || self.method != Some(Method::Pap) || packet.id != self.pap_id {
            return None;
        }
        match packet.code {
            PAP_ACK => {
                self.begin_network(ctx);
                None
            }
            PAP_NAK => self.fail(refused(packet.data.get(1..).unwrap_or_default())),
            _ => None,
        }
    }

    pub(super) fn handle_chap(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        match packet.code {
            CHALLENGE if self.is_lcp_open() => self.answer_challenge(ctx, packet),
            SUCCESS if self.phase == Phase::Authenticate => {
                let proven = self.expected_proof.take();
                if proven.is_some_and(|proof| !packet.data.starts_with(proof.as_bytes())) {
                    return self.fail("server did not prove itself");
                }
                self.begin_network(ctx);
                None
            }
            FAILURE if self.is_lcp_open() => self.fail(refused(packet.data)),
            _ => None,
        }
    }

    fn send_pap(&mut self, ctx: &mut Context<'_>) {
        self.lcp.tries += 1;
        self.deadline = Some(ctx.now + RESTART);
        let (user, password) = (ctx.login.user.as_bytes(), ctx.login.password.as_bytes());
        ctx.send(
            packet::PROTOCOL_PAP,
            PAP_REQUEST,
            self.pap_id,
            &pap_data(user, password),
        );
    }

    fn answer_challenge(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        let (&size, rest) = packet.data.split_first()?;
        let challenge = rest.get(..usize::from(size))?;
        let user = ctx.login.user.as_bytes();
        let mut data = Vec::new();
        match self.method? {
            Method::Pap => return None,
            Method::ChapMd5 => {
                data.push(16);
                data.extend_from_slice(&chap_response(
                    packet.id,
                    ctx.login.password.as_bytes(),
                    challenge,
                ));
            }
            Method::MsChapV2 => {
                let peer: [u8; 16] = ctx.rng.random();
                let answer = mschap::answer(challenge.try_into().ok()?, &peer, user, &ctx.login.password);
                self.expected_proof = Some(answer.proof.into());
                data.push(49);
                data.extend_from_slice(&answer.response);
            }
        }
        data.extend_from_slice(user);
        ctx.send(packet::PROTOCOL_CHAP, RESPONSE, packet.id, &data);
        if self.phase == Phase::Authenticate {
            self.chap_response = Some((packet.id, data.into()));
        }
        None
    }
}

/// `peer-id length, peer-id, password length, password` (RFC 1334 §2.2.1).
pub(super) fn pap_data(user: &[u8], password: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(2 + user.len() + password.len());
    for field in [user, password] {
        data.push(u8::try_from(field.len()).expect("names and passwords of at most 255 octets"));
        data.extend_from_slice(field);
    }
    data
}

/// MD5 over identifier, secret and challenge (RFC 1994 §4.1).
pub(super) fn chap_response(id: u8, secret: &[u8], challenge: &[u8]) -> [u8; 16] {
    Md5::new()
        .chain_update([id])
        .chain_update(secret)
        .chain_update(challenge)
        .finalize()
        .into()
}

/// What the server says when it refuses (RFC 1334 §2.2.2, RFC 1994 §4.2).
fn refused(message: &[u8]) -> String {
    format!("authentication refused: {}", String::from_utf8_lossy(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_vector_of_chap() {
        let challenge: Vec<u8> = (0..=0xff).step_by(0x11).map(|octet| octet as u8).collect();
        let expected = [
            0x15, 0xc1, 0x68, 0x2e, 0xb7, 0xac, 0x3d, 0xac, 0xa8, 0x5d, 0x72, 0x78, 0x84, 0xaf, 0x20, 0xa0,
        ];
        assert_eq!(chap_response(7, b"secret", &challenge), expected);
    }

    #[test]
    fn a_client_with_a_wish_refuses_the_rest() {
        assert_eq!(Authentication::Any.judge(MS_CHAP_VALUE), Ok(Method::MsChapV2));
        assert_eq!(Authentication::Any.judge(&[0xc2, 0x27]), Err(CHAP_VALUE));
        assert_eq!(Authentication::Pap.judge(CHAP_VALUE), Err(PAP_VALUE));
        assert_eq!(Authentication::Chap.judge(CHAP_VALUE), Ok(Method::ChapMd5));
    }
}
