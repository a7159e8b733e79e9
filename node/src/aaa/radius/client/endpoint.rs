//! One server for one purpose: its state, its identifiers, what was heard of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::health::{Event, Health};
use super::settings::{EndpointSettings, Purpose, Requirement};
use super::slots::{Slot, Slots};
use crate::aaa::radius::authenticator;
use crate::aaa::radius::{Code, Packet, Unverified, verify_reply};

/// Names an endpoint towards the sockets; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u32);

/// For whom an identifier is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// For an exchange, by its token.
    Exchange(u64),
    Probe,
}

/// An identifier in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) by: Use,
    /// What the reply is checked with.
    pub(super) authenticator: [u8; 16],
    pub(super) sent_at: Duration,
}

/// What was sent to a server and heard of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets for the first time.
    pub sent: u64,
    /// Packets again.
    pub retransmitted: u64,
    /// Access-Accepts and Accounting-Responses.
    pub accepted: u64,
    /// Access-Rejects and Challenges.
    pub rejected: u64,
    /// Waits in vain.
    pub timeouts: u64,
    /// Replies that do not prove who sent them.
    pub unverified: u64,
    /// Replies to nothing that is under way.
    pub unknown: u64,
    /// Status-Server packets sent.
    pub probes: u64,
    /// From the last transmission to the reply, of the newest one.
    pub last_wait: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) settings: EndpointSettings,
    pub(super) health: Health,
    pub(super) counts: Counts,
    pub(super) open: BTreeMap<Slot, Open>,
    slots: Slots,
    heard_at: Option<Duration>,
    silent: u32,
    /// It has signed a reply with Message-Authenticator.
    signs: bool,
    /// The Status-Server packet under way.
    pub(super) probe: Option<Slot>,
    pub(super) probe_at: Option<Duration>,
    /// Turns of servers of one priority.
    pub(super) turns: u64,
}

impl Endpoint {
    pub(super) fn new(settings: EndpointSettings) -> Self {
        Self {
            settings,
            health: Health::Alive,
            counts: Counts::default(),
            open: BTreeMap::new(),
            slots: Slots::default(),
            heard_at: None,
            silent: 0,
            signs: false,
            probe: None,
            probe_at: None,
            turns: 0,
        }
    }

    /// An identifier for a new packet; `None` if all are in use.
    pub(super) fn take_slot(&mut self) -> Option<Slot> {
        self.slots.take()
    }

    /// A reply to it is no longer waited for.
    pub(super) fn release(&mut self, slot: Slot) {
        if self.open.remove(&slot).is_some() {
            self.slots.give_back(slot);
        }
    }

    /// It could not be used after all.
    pub(super) fn give_back(&mut self, slot: Slot) {
        self.slots.give_back(slot);
    }

    /// Goes over to another state. Gives the one before, if it was another kind.
    pub(super) fn note(&mut self, event: Event, now: Duration) -> Option<Health> {
        let dead_time = match self.settings.status_interval {
            Some(_) => None,
            None => Some(self.settings.dead_time),
        };
        let before = self.health;
        self.health = before.after(event, now, dead_time);
        (before.name() != self.health.name()).then_some(before)
    }

    /// A wait ended.
    pub(super) fn on_silence(&mut self) -> Event {
        self.counts.timeouts += 1;
        self.silent += 1;
        Event::TimedOut { silent: self.silent }
    }

    /// Whether anything was heard of it since then.
    pub(super) fn heard_since(&self, then: Duration) -> bool {
        self.heard_at.is_some_and(|at| at >= then)
    }

    /// Checks a reply on `socket`. What proves nothing is counted, and nothing else changes (S-150).
    pub(super) fn verify<'a>(
        &mut self,
        now: Duration,
        socket: u16,
        octets: &'a [u8],
    ) -> Result<Option<(Slot, Open, Packet<'a>)>, Unverified> {
        let slot = Slot {
            socket,
            id: octets.get(1).copied().unwrap_or_default(),
        };
        let Some(open) = self.open.get(&slot).copied() else {
            self.counts.unknown += 1;
            return Ok(None);
        };
        let probe = open.by == Use::Probe;
        let required = match self.settings.message_authenticator {
            // Accounting is signed itself, and a probe's answer lets nobody in.
            _ if probe || self.settings.purpose == Purpose::Accounting => false,
            Requirement::Yes => true,
            Requirement::Auto => self.signs,
            Requirement::No => false,
        };
        let verified = verify_reply(
            octets,
            self.settings.secret.expose(),
            &open.authenticator,
            required,
        );
        let verified =
            verified.and_then(
                |packet| match is_answer(packet.code(), self.settings.purpose, probe) {
                    true => Ok(packet),
                    false => Err(Unverified::Code(packet.code().0)),
                },
            );
        let packet = verified.inspect_err(|_| self.counts.unverified += 1)?;
        self.signs |= authenticator::has_message_authenticator(&packet);
        self.heard_at = Some(now);
        self.silent = 0;
        if !probe {
            self.counts.last_wait = now.saturating_sub(open.sent_at);
            match packet.code() {
                Code::ACCESS_ACCEPT | Code::ACCOUNTING_RESPONSE => self.counts.accepted += 1,
                _ => self.counts.rejected += 1,
            }
        }
        Ok(Some((slot, open, packet)))
    }
}

/// Whether a reply of this code answers what was asked. A probe is answered in either way (RFC 5997 §3).
fn is_answer(code: Code, purpose: Purpose, probe: bool) -> bool {
    match purpose {
        _ if probe => matches!(code, Code::ACCESS_ACCEPT | Code::ACCOUNTING_RESPONSE),
        Purpose::Access => matches!(
            code,
            Code::ACCESS_ACCEPT | Code::ACCESS_REJECT | Code::ACCESS_CHALLENGE
        ),
        Purpose::Accounting => code == Code::ACCOUNTING_RESPONSE,
    }
}
