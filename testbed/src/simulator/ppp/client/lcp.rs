//! The client's LCP (RFC 1661 §6): MRU, magic number, the server's wish for authentication.

use std::time::Duration;

use rand::RngExt;

use super::super::packet::{self, Packet, options, push_option};
use super::authentication::Method;
use super::{Client, Context, Event, Phase, RESTART, fingerprint};

const MRU: u8 = 1;
const ACCM: u8 = 2;
const AUTHENTICATION: u8 = 3;
const MAGIC: u8 = 5;
const PFC: u8 = 7;
const ACFC: u8 = 8;

impl Client {
    pub(super) fn handle_lcp(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        match packet.code {
            packet::CONFIGURE_REQUEST => self.handle_lcp_request(ctx, packet),
            packet::CONFIGURE_ACK => self.handle_lcp_acknowledged(ctx, packet),
            packet::CONFIGURE_NAK | packet::CONFIGURE_REJECT => self.handle_lcp_refused(ctx, packet),
            packet::TERMINATE_REQUEST => {
                ctx.send(
                    packet::PROTOCOL_LCP,
                    packet::TERMINATE_ACK,
                    packet.id,
                    packet.data,
                );
                self.phase = Phase::Ended;
                self.deadline = None;
                Some(Event::Terminated)
            }
            packet::TERMINATE_ACK if self.phase == Phase::Terminating => {
                self.phase = Phase::Ended;
                self.deadline = None;
                Some(Event::Finished)
            }
            packet::ECHO_REQUEST if self.is_lcp_open() => {
                let mut data = self.sent_magic().to_be_bytes().to_vec();
                data.extend_from_slice(packet.data.get(4..).unwrap_or_default());
                ctx.send(packet::PROTOCOL_LCP, packet::ECHO_REPLY, packet.id, &data);
                None
            }
            packet::ECHO_REPLY => Some(Event::EchoAnswered),
            packet::PROTOCOL_REJECT if packet.data.starts_with(&packet::PROTOCOL_IPCP.to_be_bytes()) => {
                self.fail("IPCP rejected")
            }
            _ => None,
        }
    }

    /// Sends, or repeats with the same identifier, our Configure-Request.
    pub(super) fn send_lcp_request(&mut self, ctx: &mut Context<'_>) {
        self.lcp.tries += 1;
        self.deadline = Some(ctx.now + RESTART);
        ctx.send(
            packet::PROTOCOL_LCP,
            packet::CONFIGURE_REQUEST,
            self.lcp.id,
            &self.lcp_options(ctx.login.mru),
        );
    }

    /// The options of our request: also what a LAC would have agreed on the client's behalf.
    pub(super) fn lcp_options(&self, mru: Option<u16>) -> Vec<u8> {
        let mut data = Vec::new();
        if let Some(mru) = mru.filter(|_| !self.refused_mru) {
            push_option(&mut data, MRU, &mru.to_be_bytes());
        }
        if !self.refused_magic {
            push_option(&mut data, MAGIC, &self.magic.to_be_bytes());
        }
        data
    }

    fn handle_lcp_request(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        let seen = Some((packet.id, fingerprint(packet.data)));
        if self.is_lcp_open() && ctx.network_repeats && self.lcp.last_request == seen {
            ctx.send(
                packet::PROTOCOL_LCP,
                packet::CONFIGURE_ACK,
                packet.id,
                packet.data,
            );
            return None;
        }
        let event = self.leave_open_for_lcp();
        if matches!(self.phase, Phase::Terminating | Phase::Ended) {
            return None;
        }
        if self.phase != Phase::Establish {
            self.phase = Phase::Establish;
            self.send_lcp_request(ctx);
        }
        match self.judge(ctx, packet.data)? {
            (packet::CONFIGURE_ACK, method, _) => {
                self.method = method;
                self.lcp.theirs_acknowledged = true;
                self.lcp.last_request = seen;
                ctx.send(
                    packet::PROTOCOL_LCP,
                    packet::CONFIGURE_ACK,
                    packet.id,
                    packet.data,
                );
            }
            (code, _, data) => {
                self.lcp.theirs_acknowledged = false;
                ctx.send(packet::PROTOCOL_LCP, code, packet.id, &data);
            }
        }
        self.advance_lcp(ctx).or(event)
    }

    /// A Configure-Request on an open link takes everything down (RFC 1661 §4.1, RCR+ in Opened).
    fn leave_open_for_lcp(&mut self) -> Option<Event> {
        let event = (self.phase == Phase::Open).then_some(Event::Renegotiated);
        if self.is_lcp_open() {
            self.lcp.restart();
            self.ipcp.restart();
            self.held = None;
            self.phase = Phase::Quiet;
        }
        event
    }

    /// The answer's code, the method agreed to and, for a Nak or Reject, its options.
    fn judge(&self, ctx: &Context<'_>, data: &[u8]) -> Option<(u8, Option<Method>, Vec<u8>)> {
        let mut method = None;
        let (mut naks, mut rejects) = (Vec::new(), Vec::new());
        for (kind, value) in options(data)? {
            match (kind, value) {
                (MRU, [_, _]) | (ACCM, [_, _, _, _]) | (PFC | ACFC, []) => {}
                (MAGIC, &[a, b, c, d]) => {
                    let magic = u32::from_be_bytes([a, b, c, d]);
                    if magic == 0 || magic == self.sent_magic() {
                        push_option(&mut naks, MAGIC, &magic.wrapping_add(0x5bd1_e995).to_be_bytes());
                    }
                }
                (AUTHENTICATION, asked) => match ctx.login.authentication.judge(asked) {
                    Ok(agreed) => method = Some(agreed),
                    Err(wanted) => push_option(&mut naks, AUTHENTICATION, wanted),
                },
                _ => push_option(&mut rejects, kind, value),
            }
        }
        Some(if !rejects.is_empty() {
            (packet::CONFIGURE_REJECT, None, rejects)
        } else if !naks.is_empty() {
            (packet::CONFIGURE_NAK, None, naks)
        } else {
            (packet::CONFIGURE_ACK, method, Vec::new())
        })
    }

    fn handle_lcp_acknowledged(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        let expected =
            self.phase == Phase::Establish && !self.lcp.ours_acknowledged && packet.id == self.lcp.id;
        if !expected || packet.data != self.lcp_options(ctx.login.mru) {
            return None;
        }
        self.lcp.ours_acknowledged = true;
        self.lcp.tries = 0;
        self.advance_lcp(ctx)
    }

    fn handle_lcp_refused(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        if self.phase != Phase::Establish || packet.id != self.lcp.id || self.lcp.tries >= super::MAX_TRIES {
            return None;
        }
        for (kind, _) in options(packet.data)? {
            match kind {
                MAGIC if packet.code == packet::CONFIGURE_NAK => {
                    self.magic = ctx.rng.random_range(1..=u32::MAX)
                }
                MAGIC => self.refused_magic = true,
                // A Nak means another size, which the default of 1500 always satisfies.
                MRU => self.refused_mru = true,
                _ => {}
            }
        }
        self.lcp.revise();
        self.send_lcp_request(ctx);
        None
    }

    fn advance_lcp(&mut self, ctx: &mut Context<'_>) -> Option<Event> {
        if !self.lcp.is_open() {
            // The server stalls a negotiation that we could go on with: our timer repeats our request.
            self.deadline.get_or_insert(ctx.now + Duration::from_secs(3));
            return None;
        }
        self.begin_authentication(ctx);
        None
    }
}
