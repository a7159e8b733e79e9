//! One question on its way from server to server.

use std::sync::Arc;
use std::time::Duration;

use super::endpoint::{Endpoint, EndpointId, Open, Use};
use super::health::{Event, Health};
use super::settings::Transport;
use super::slots::Slot;
use super::{Ask, Client, LONGEST_WAIT, NO_SLOT_RETRY, Output, Random, Timer};

/// With one server.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) endpoint: EndpointId,
    pub(super) slot: Slot,
    octets: Arc<[u8]>,
    first_sent: Duration,
    wait: Duration,
    tries_left: u32,
    /// Its connection is gone.
    pub(super) is_lost: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) ask: Ask,
    deadline: Duration,
    /// The last one is the active one; replies to the others count as well.
    pub(super) attempts: Vec<Attempt>,
    /// Servers of this round.
    tried: Vec<EndpointId>,
    pub(super) timer: Duration,
    /// The end of the wait for the active one; the timer is sooner where patience ends before.
    wait_ends: Duration,
}

/// Which server is asked first: a class, then a place within it.
type Rank = (u8, usize, u64, u64);

impl Exchange {
    pub(super) fn new(now: Duration, ask: Ask) -> Self {
        Self {
            deadline: now + ask.patience,
            ask,
            attempts: Vec::new(),
            tried: Vec::new(),
            timer: now,
            wait_ends: now,
        }
    }

    pub(super) fn active(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
}

/// Whether a server may be asked this.
pub(super) fn serves(ask: &Ask, endpoint: &Endpoint) -> bool {
    let settings = &endpoint.settings;
    settings.purpose == ask.purpose && ask.groups.iter().any(|group| **group == *settings.group)
}

fn rank(now: Duration, ask: &Ask, endpoint: &Endpoint) -> Rank {
    let settings = &endpoint.settings;
    let group = ask
        .groups
        .iter()
        .position(|group| **group == *settings.group)
        .unwrap_or(usize::MAX);
    let in_order = |class| (class, group, u64::from(settings.priority), endpoint.turns);
    let dead_time = settings.status_interval.is_none().then_some(settings.dead_time);
    match endpoint.health {
        Health::Alive => in_order(0),
        health @ Health::Dead { .. } if health.may_be_tried(now, dead_time) => in_order(0),
        Health::Suspect => in_order(1),
        Health::Dead { since } | Health::Trial { since } => {
            (2, 0, u64::try_from(since.as_micros()).unwrap_or(u64::MAX), 0)
        }
    }
}

impl Client {
    pub(super) fn set_exchange_timer(&mut self, token: u64, at: Duration) {
        if let Some(exchange) = self.exchanges.get_mut(&token) {
            self.timers.remove(&(exchange.timer, Timer::Exchange(token)));
            exchange.wait_ends = at;
            exchange.timer = at.min(exchange.deadline);
            self.timers.insert((exchange.timer, Timer::Exchange(token)));
        }
    }

    pub(super) fn on_exchange_timer(&mut self, now: Duration, random: Random<'_>, token: u64) {
        let Some(exchange) = self.exchanges.get_mut(&token) else {
            return;
        };
        let deadline = exchange.deadline;
        if now >= deadline && now < exchange.wait_ends {
            return self.give_up(token);
        }
        let Some(attempt) = exchange.attempts.last() else {
            return match now >= deadline {
                true => self.give_up(token),
                false => self.next_attempt(now, random, token),
            };
        };
        let (id, first_sent, more) = (
            attempt.endpoint,
            attempt.first_sent,
            attempt.tries_left > 0 && !attempt.is_lost,
        );
        let silent = self.endpoints.get_mut(&id).map(Endpoint::on_silence);
        if let Some(event) = silent {
            self.note(now, id, event);
        }
        let heard = self
            .endpoints
            .get(&id)
            .is_some_and(|endpoint| endpoint.heard_since(first_sent));
        if !more && !heard {
            self.note(now, id, Event::Exhausted);
        }
        if now >= deadline {
            self.give_up(token);
        } else if more {
            self.send_again(now, random, token);
        } else {
            self.next_attempt(now, random, token);
        }
    }

    fn give_up(&mut self, token: u64) {
        self.forget(token);
        self.outputs.push_back(Output::Unanswered { token });
    }

    fn send_again(&mut self, now: Duration, random: Random<'_>, token: u64) {
        let Some(attempt) = self
            .exchanges
            .get_mut(&token)
            .and_then(|exchange| exchange.attempts.last_mut())
        else {
            return;
        };
        attempt.tries_left -= 1;
        attempt.wait = (attempt.wait * 2).min(LONGEST_WAIT);
        let (id, slot, octets, wait) = (
            attempt.endpoint,
            attempt.slot,
            attempt.octets.clone(),
            attempt.wait,
        );
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.counts.retransmitted += 1;
            if let Some(open) = endpoint.open.get_mut(&slot) {
                open.sent_at = now;
            }
        }
        self.outputs.push_back(Output::Send {
            endpoint: id,
            socket: slot.socket,
            octets,
        });
        self.set_exchange_timer(token, now + jittered(wait, random));
    }

    /// Asks the best server that was not asked in this round; after all of them, a new round.
    pub(super) fn next_attempt(&mut self, now: Duration, random: Random<'_>, token: u64) {
        let Some(exchange) = self.exchanges.get_mut(&token) else {
            return;
        };
        let mut candidates: Vec<(Rank, EndpointId)> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| serves(&exchange.ask, endpoint))
            .map(|(id, endpoint)| (rank(now, &exchange.ask, endpoint), *id))
            .collect();
        candidates.sort_unstable();
        if candidates.iter().all(|(_, id)| exchange.tried.contains(id)) {
            exchange.tried.clear();
        }
        let tried = exchange.tried.clone();
        for (_, id) in candidates.into_iter().filter(|(_, id)| !tried.contains(id)) {
            if self.attempt(now, random, token, id) {
                return;
            }
        }
        self.outputs.push_back(Output::NoSlot);
        self.set_exchange_timer(token, now + NO_SLOT_RETRY);
    }

    /// `false` if the server has no identifier left.
    fn attempt(&mut self, now: Duration, random: Random<'_>, token: u64, id: EndpointId) -> bool {
        let (Some(exchange), Some(endpoint)) = (self.exchanges.get_mut(&token), self.endpoints.get_mut(&id))
        else {
            return false;
        };
        let Some(slot) = endpoint.take_slot() else {
            return false;
        };
        let content = &exchange.ask.content;
        let Ok((octets, authenticator)) =
            content.encode(slot.id, endpoint.settings.secret.expose(), random())
        else {
            // It was encoded when it was asked; nothing of its length depends on the server.
            endpoint.give_back(slot);
            return false;
        };
        let by = Use::Exchange(token);
        let open = Open {
            by,
            authenticator,
            sent_at: now,
        };
        endpoint.open.insert(slot, open);
        endpoint.counts.sent += 1;
        endpoint.turns += 1;
        let octets: Arc<[u8]> = octets.into();
        let is_alive = matches!(endpoint.health, Health::Alive | Health::Suspect);
        // Over TLS nothing is sent again on one connection (RFC 6613 §2.6.1): all its waits are one. A dead server gets one chance.
        let (tries, wait) = match (&endpoint.settings.transport, is_alive) {
            (Transport::Udp, true) => (endpoint.settings.tries, endpoint.settings.timeout),
            (Transport::Udp | Transport::Tls(_), false) => (1, endpoint.settings.timeout),
            (Transport::Tls(_), true) => (1, endpoint.settings.timeout * endpoint.settings.tries),
        };
        exchange.tried.push(id);
        exchange.attempts.push(Attempt {
            endpoint: id,
            slot,
            octets: octets.clone(),
            first_sent: now,
            wait,
            tries_left: tries - 1,
            is_lost: false,
        });
        self.outputs.push_back(Output::Send {
            endpoint: id,
            socket: slot.socket,
            octets,
        });
        self.note(now, id, Event::Asked);
        self.set_exchange_timer(token, now + jittered(wait, random));
        true
    }
}

/// A tenth more or less (RFC 5080 §2.2.1), lest all come at once.
fn jittered(wait: Duration, random: Random<'_>) -> Duration {
    let [octet, ..] = random();
    wait.mul_f64(0.9 + 0.2 * f64::from(octet) / 255.0)
}
