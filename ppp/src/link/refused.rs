//! The Configure-Requests that one negotiation has refused, by which late copies of them are known.
//!
//! A path that duplicates and reorders can deliver a copy of a refused request after the request that was good. To the
//! automaton it is a new negotiation (RCR- in Opened, RFC 1661 §4.1) and would take an open link down; but a peer that
//! means to negotiate anew sends contents or an identifier of its own (RFC 1661 §5.1), and one that means to repeat
//! does so after its restart timer, when copies have died out.

use std::collections::VecDeque;
use std::time::Duration;

use super::output::request_hash;
use crate::negotiator::RESTART_CAP;
use crate::packet::Packet;

/// How many refused requests are remembered, the newest.
const REFUSED_LIMIT: usize = 8;

/// How long after open a copy may still be on its way.
const COPY_LIFETIME: Duration = RESTART_CAP;

/// Identifiers and hashes of refused requests.
#[derive(Debug, Default)]
pub(super) struct Refused {
    requests: VecDeque<(u8, u64)>,
    /// Set by open, if there is anything to forget.
    forget_at: Option<Duration>,
}

impl Refused {
    /// This request is answered with a Nak or a Reject.
    pub(super) fn note(&mut self, packet: &Packet<'_>) {
        if self.contains(packet) {
            return;
        }
        if self.requests.len() == REFUSED_LIMIT {
            self.requests.pop_front();
        }
        self.requests.push_back((packet.id, request_hash(packet.data)));
    }

    /// Whether this is a copy of a refused request.
    pub(super) fn contains(&self, packet: &Packet<'_>) -> bool {
        !self.requests.is_empty() && self.requests.contains(&(packet.id, request_hash(packet.data)))
    }

    /// The protocol has opened.
    pub(super) fn note_open(&mut self, now: Duration) {
        self.forget_at = (!self.requests.is_empty()).then_some(now + COPY_LIFETIME);
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.forget_at
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if self.forget_at.is_some_and(|at| now >= at) {
            *self = Self::default();
        }
    }
}
