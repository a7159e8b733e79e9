//! One authentication of the peer, from the challenge to the answer and its repeats.

use std::time::Duration;

use super::packets::{chap_message, chap_value, pap_message, parse_chap_value, parse_pap_request};
use super::{AuthMethod, AuthRequest, Credential, Verdict, ms_chap};
use crate::iana::{chap_code, pap_code};
use crate::link::LinkConfig;
use crate::negotiator::RESTART_CAP;
use crate::packet::Packet;
use crate::random::Random;

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// To be judged by the owner of the link.
    Request(Box<AuthRequest>),
    /// Answered before: the same answer again.
    Repeat(Vec<u8>),
    /// The same packet again while it is being judged: dropped.
    Pending,
    /// Malformed, or meant for another challenge: dropped.
    Nothing,
}

/// A timer ran out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The challenge goes out again.
    Send(Vec<u8>),
    /// PAP: the peer's turn still.
    Wait,
    /// The peer has had its time.
    GiveUp,
}

#[derive(Debug)]
enum Stage {
    /// For the peer's request or response.
    Waiting,
    /// Its request with this identifier is with the owner of the link.
    Judging {
        id: u8,
    },
    Answered(Answered),
}

/// How the peer's request was answered; all that repeats need, also on an open link (RFC 1994 §4.2, RFC 1334 §2.2.1).
#[derive(Debug)]
pub(crate) struct Answered {
    /// Of the newest copy of the request.
    id: u8,
    good: bool,
    /// As it was sent: at most 255 octets.
    message: Vec<u8>,
}

/// An authentication under way, or done.
#[derive(Debug)]
pub(crate) struct Authenticator {
    method: AuthMethod,
    /// Of our challenge; PAP has none.
    id: u8,
    challenge: [u8; 16],
    stage: Stage,
    periods_left: u32,
    deadline: Option<Duration>,
}

impl Authenticator {
    /// Begins; for CHAP the packet is the challenge.
    pub(crate) fn start(
        method: AuthMethod,
        now: Duration,
        config: &LinkConfig,
        random: &mut Random,
    ) -> (Self, Option<Vec<u8>>) {
        let mut authenticator = Self {
            method,
            id: random.octet(),
            challenge: random.block(),
            stage: Stage::Waiting,
            periods_left: config.max_configure,
            deadline: None,
        };
        match authenticator.next_period(now, config) {
            Overdue::Send(challenge) => (authenticator, Some(challenge)),
            Overdue::Wait | Overdue::GiveUp => (authenticator, None),
        }
    }

    /// The peer's request reached the LAC already and is being judged: only the answer is left to give.
    pub(crate) fn proxied(method: AuthMethod, id: u8) -> Self {
        let stage = Stage::Judging { id };
        Self {
            method,
            id,
            challenge: [0; 16],
            stage,
            periods_left: 0,
            deadline: None,
        }
    }

    /// The peer of an open link: all that is left to do is to answer repeats. Where a rebirth has lost the answer,
    /// PAP's can be given all the same; CHAP's cannot, since nobody knows to which identifier it belongs.
    pub(crate) fn open(method: AuthMethod, answered: Option<Answered>) -> Option<Self> {
        let answered = match (method, answered) {
            (_, Some(answered)) => answered,
            (AuthMethod::Pap, None) => Answered {
                id: 0,
                good: true,
                message: Vec::new(),
            },
            (AuthMethod::ChapMd5 | AuthMethod::MsChapV2, None) => return None,
        };
        Some(Self {
            stage: Stage::Answered(answered),
            ..Self::proxied(method, 0)
        })
    }

    /// What to keep of it while the link is open.
    pub(crate) fn into_answered(self) -> Option<Answered> {
        match self.stage {
            Stage::Answered(answered) => Some(answered),
            Stage::Waiting | Stage::Judging { .. } => None,
        }
    }

    pub(crate) fn method(&self) -> AuthMethod {
        self.method
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The answer as it was given, for a peer that may not have heard it. One too many is harmless (RFC 1994 §4.2).
    pub(crate) fn repeat_answer(&self) -> Option<Vec<u8>> {
        match &self.stage {
            Stage::Answered(answered) => Some(self.encode_answer(answered)),
            Stage::Waiting | Stage::Judging { .. } => None,
        }
    }

    /// A packet of our protocol.
    pub(crate) fn handle_packet(&mut self, packet: &Packet<'_>) -> Heard {
        let expected = match self.method {
            AuthMethod::Pap => pap_code::AUTHENTICATE_REQUEST,
            AuthMethod::ChapMd5 | AuthMethod::MsChapV2 => chap_code::RESPONSE,
        };
        if packet.code != expected {
            return Heard::Nothing;
        }
        // PAP counts its repeats (RFC 1334 §2.2.1), so the answer goes to the newest; CHAP's identifier is our own.
        let any_id = self.method == AuthMethod::Pap;
        match &mut self.stage {
            Stage::Waiting => {}
            Stage::Judging { id } | Stage::Answered(Answered { id, .. }) if !any_id && *id != packet.id => {
                return Heard::Nothing;
            }
            Stage::Judging { id } => {
                *id = packet.id;
                return Heard::Pending;
            }
            Stage::Answered(answered) => {
                answered.id = packet.id;
                return self.repeat_answer().map_or(Heard::Nothing, Heard::Repeat);
            }
        }
        let Some(request) = self.read_request(packet) else {
            return Heard::Nothing;
        };
        self.stage = Stage::Judging { id: packet.id };
        self.deadline = None;
        Heard::Request(Box::new(request))
    }

    fn read_request(&self, packet: &Packet<'_>) -> Option<AuthRequest> {
        if self.method == AuthMethod::Pap {
            let (name, password) = parse_pap_request(packet.data)?;
            return Some(AuthRequest {
                name: name.to_vec(),
                credential: Credential::Pap { password },
            });
        }
        let (value, name) = parse_chap_value(packet.data).filter(|_| packet.id == self.id)?;
        let credential = if self.method == AuthMethod::ChapMd5 {
            let challenge = self.challenge.to_vec();
            Credential::ChapMd5 {
                id: self.id,
                challenge,
                response: value.try_into().ok()?,
            }
        } else {
            let response = value.try_into().ok()?;
            Credential::MsChapV2 {
                id: self.id,
                challenge: self.challenge,
                response,
            }
        };
        Some(AuthRequest {
            name: name.to_vec(),
            credential,
        })
    }

    /// The verdict came: the answer to the peer, and whether it is good. An MS-CHAPv2 peer goes down without our
    /// proof, so an acceptance that lacks it is a failure.
    pub(crate) fn answer(&mut self, verdict: &Verdict) -> (Vec<u8>, bool) {
        let id = match self.stage {
            Stage::Judging { id } | Stage::Answered(Answered { id, .. }) => id,
            Stage::Waiting => unreachable!("a verdict follows a request"),
        };
        let (good, data) = match (self.method, verdict) {
            (
                AuthMethod::MsChapV2,
                Verdict::Accept {
                    ms_chap_success: Some(proof),
                    message,
                    ..
                },
            ) => {
                let text = if message.is_empty() {
                    Vec::new()
                } else {
                    [b" M=", &message[..]].concat()
                };
                (true, [&proof[..], &text].concat())
            }
            (
                AuthMethod::MsChapV2,
                Verdict::Accept {
                    ms_chap_success: None,
                    ..
                },
            ) => (false, self.ms_chap_failure(None, b"")),
            (
                AuthMethod::MsChapV2,
                Verdict::Reject {
                    message,
                    ms_chap_error,
                },
            ) => (false, self.ms_chap_failure(*ms_chap_error, message)),
            (AuthMethod::MsChapV2, Verdict::Unavailable { message }) => {
                (false, self.ms_chap_failure(None, message))
            }
            (AuthMethod::Pap | AuthMethod::ChapMd5, Verdict::Accept { message, .. }) => {
                (true, message.clone())
            }
            (
                AuthMethod::Pap | AuthMethod::ChapMd5,
                Verdict::Reject { message, .. } | Verdict::Unavailable { message },
            ) => (false, message.clone()),
        };
        let answered = Answered {
            id,
            good,
            message: chap_message(&data).to_vec(),
        };
        let reply = self.encode_answer(&answered);
        self.stage = Stage::Answered(answered);
        (reply, good)
    }

    fn ms_chap_failure(&self, error: Option<u16>, text: &[u8]) -> Vec<u8> {
        /// ERROR_AUTHENTICATION_FAILURE (RFC 2759 §6).
        const AUTHENTICATION_FAILURE: u16 = 691;
        ms_chap::failure_message(error.unwrap_or(AUTHENTICATION_FAILURE), &self.challenge, text)
    }

    fn encode_answer(&self, answered: &Answered) -> Vec<u8> {
        let Answered { id, good, message } = answered;
        let (id, good) = (*id, *good);
        match self.method {
            AuthMethod::Pap => {
                let code = if good {
                    pap_code::AUTHENTICATE_ACK
                } else {
                    pap_code::AUTHENTICATE_NAK
                };
                Packet {
                    code,
                    id,
                    data: &pap_message(message),
                }
                .encode()
            }
            AuthMethod::ChapMd5 | AuthMethod::MsChapV2 => {
                let code = if good {
                    chap_code::SUCCESS
                } else {
                    chap_code::FAILURE
                };
                Packet {
                    code,
                    id,
                    data: chap_message(message),
                }
                .encode()
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration, config: &LinkConfig) -> Overdue {
        match self.deadline {
            Some(deadline) if now >= deadline => self.next_period(now, config),
            Some(_) | None => Overdue::Wait,
        }
    }

    /// The peer has Max-Configure periods to present itself; a challenge is repeated in each, always the same one.
    fn next_period(&mut self, now: Duration, config: &LinkConfig) -> Overdue {
        if self.periods_left == 0 {
            self.deadline = None;
            return Overdue::GiveUp;
        }
        self.periods_left -= 1;
        self.deadline = Some(now + RESTART_CAP);
        match self.method {
            AuthMethod::Pap => Overdue::Wait,
            AuthMethod::ChapMd5 | AuthMethod::MsChapV2 => {
                let data = chap_value(&self.challenge, &config.local_name);
                Overdue::Send(
                    Packet {
                        code: chap_code::CHALLENGE,
                        id: self.id,
                        data: &data,
                    }
                    .encode(),
                )
            }
        }
    }
}
