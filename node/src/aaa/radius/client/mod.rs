//! Finds a server that answers: identifiers, retransmission, the next server, servers that are dead (RFC 2865 §2.5, RFC 5080 §2.2, RFC 5997).
//!
//! Pure. A request goes to the best server of its groups, again and again with the same octets at growing intervals, then to the next one;
//! all identifiers that it has used stay open until the first valid reply decides (S-152). When all servers were tried they are tried
//! again, until its patience ends. Which server is best: those that are alive, by group and priority, in turns; then suspects; then
//! the one that is dead longest.
//!
//! ```text
//!   ask ------> Exchange --Send--> socket .......> server
//!                 ^  |  `--timer--> the same octets, or the next server
//!      Answered <-'  `--> Unanswered
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::request::{Content, NasIdentity};
use super::{TooLong, Unverified};

mod endpoint;
mod exchange;
mod health;
mod probes;
mod settings;
mod slots;

pub use endpoint::{Counts, EndpointId};
pub use health::Health;
pub use settings::{EndpointSettings, Purpose, Requirement, Settings, TlsSettings, Transport};
pub use slots::SOCKETS_MAX;

use endpoint::{Endpoint, Use};
use exchange::Exchange;
use health::Event;

/// Requests under way; more are refused at once.
pub const EXCHANGES_MAX: usize = 65_536;
/// The longest wait for a reply before it is sent again (MRT of RFC 5080 §2.2.1).
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// When all identifiers of all servers are in use, one is looked for again after this long.
const NO_SLOT_RETRY: Duration = Duration::from_millis(100);

/// Sixteen octets that nobody can foresee.
pub type Random<'a> = &'a mut dyn FnMut() -> [u8; 16];

/// A question.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Names it in the answer. Asking the same again under the same token joins what is under way; asking something else takes its place.
    pub token: u64,
    /// Groups of servers, the first one first.
    pub groups: Vec<Arc<str>>,
    /// What is asked for.
    pub purpose: Purpose,
    /// What is asked.
    pub content: Content,
    /// How long an answer is of use.
    pub patience: Duration,
}

/// Why a question was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// [`EXCHANGES_MAX`] are under way.
    #[error("{EXCHANGES_MAX} RADIUS requests are under way already")]
    TooMany,
    /// No server of these groups is asked for this.
    #[error("no RADIUS server is configured for this")]
    NoServer,
    /// It does not fit into a packet.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to the server from this one of its sockets.
    Send {
        /// To whom.
        endpoint: EndpointId,
        /// From which of its sockets, 0 and up; it is opened for the first packet.
        socket: u16,
        /// What.
        octets: Arc<[u8]>,
    },
    /// A reply that was verified.
    Answered {
        /// To what.
        token: u64,
        /// Whose.
        group: String,
        /// Whose.
        server: String,
        /// The packet.
        reply: Vec<u8>,
    },
    /// Nobody answered in time.
    Unanswered {
        /// What.
        token: u64,
    },
    /// A server goes from one state to another.
    Changed {
        /// Whose.
        group: String,
        /// Whose.
        server: String,
        /// Asked for what.
        purpose: Purpose,
        /// Before.
        from: Health,
        /// Now.
        to: Health,
    },
    /// A reply was dropped.
    Dropped {
        /// Whose it seems to be.
        server: String,
        /// Why.
        why: Unverified,
    },
    /// All identifiers of a server were in use.
    NoSlot,
    /// The endpoint is gone: close its sockets.
    Close(EndpointId),
}

/// One server as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Of its group.
    pub group: String,
    /// Where.
    pub address: String,
    /// For what.
    pub purpose: Purpose,
    /// Whether it answers.
    pub health: Health,
    /// Requests and probes under way.
    pub outstanding: usize,
    /// What was sent and heard.
    pub counts: Counts,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Client {
    nas: NasIdentity,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    next_endpoint: u32,
    exchanges: BTreeMap<u64, Exchange>,
    timers: BTreeSet<(Duration, Timer)>,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Exchange(u64),
    Probe(EndpointId),
}

impl Client {
    /// Goes over to other servers. One that stays as it was keeps its state; requests under way with one that goes are asked elsewhere.
    pub fn configure(&mut self, now: Duration, settings: Settings) {
        self.nas = settings.nas;
        let mut old: Vec<EndpointId> = self.endpoints.keys().copied().collect();
        for wanted in settings.endpoints {
            let known = old.iter().position(|id| self.endpoints[id].settings == wanted);
            match known {
                Some(at) => drop(old.swap_remove(at)),
                None => {
                    let id = EndpointId(self.next_endpoint);
                    self.next_endpoint += 1;
                    self.endpoints.insert(id, Endpoint::new(wanted));
                }
            }
        }
        for gone in old {
            self.remove(now, gone);
        }
    }

    fn remove(&mut self, now: Duration, gone: EndpointId) {
        if let Some(at) = self
            .endpoints
            .remove(&gone)
            .and_then(|endpoint| endpoint.probe_at)
        {
            self.timers.remove(&(at, Timer::Probe(gone)));
        }
        let tokens: Vec<u64> = self.exchanges.keys().copied().collect();
        for token in tokens {
            let Some(exchange) = self.exchanges.get_mut(&token) else {
                continue;
            };
            let asked_there = exchange.active().is_some_and(|attempt| attempt.endpoint == gone);
            exchange.attempts.retain(|attempt| attempt.endpoint != gone);
            if asked_there {
                self.set_exchange_timer(token, now);
            }
        }
        self.outputs.push_back(Output::Close(gone));
    }

    /// Takes a question. The answer comes as [`Output::Answered`] or [`Output::Unanswered`].
    pub fn ask(&mut self, now: Duration, random: Random<'_>, ask: Ask) -> Result<(), AskError> {
        if let Some(known) = self.exchanges.get(&ask.token) {
            if known.ask.purpose == ask.purpose && known.ask.content.is_same(&ask.content) {
                return Ok(());
            }
            self.forget(ask.token);
        }
        if self.exchanges.len() >= EXCHANGES_MAX {
            return Err(AskError::TooMany);
        }
        let serves = |endpoint: &Endpoint| exchange::serves(&ask, endpoint);
        if !self.endpoints.values().any(serves) {
            return Err(AskError::NoServer);
        }
        // Whether it fits does not depend on the server.
        ask.content.encode(0, b"any", [0; 16])?;
        let token = ask.token;
        self.exchanges.insert(token, Exchange::new(now, ask));
        self.next_attempt(now, random, token);
        Ok(())
    }

    /// The answer is of no use any more.
    pub fn forget(&mut self, token: u64) {
        let Some(exchange) = self.exchanges.remove(&token) else {
            return;
        };
        self.timers.remove(&(exchange.timer, Timer::Exchange(token)));
        for attempt in exchange.attempts {
            if let Some(endpoint) = self.endpoints.get_mut(&attempt.endpoint) {
                endpoint.release(attempt.slot);
            }
        }
    }

    /// A datagram came to one of a server's sockets.
    pub fn handle_reply(&mut self, now: Duration, id: EndpointId, socket: u16, octets: &[u8]) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let (slot, open, packet) = match endpoint.verify(now, socket, octets) {
            Ok(Some(verified)) => verified,
            Ok(None) => return,
            Err(why) => {
                let server = endpoint.settings.address.to_string();
                return self.outputs.push_back(Output::Dropped { server, why });
            }
        };
        let (group, server) = (
            endpoint.settings.group.clone(),
            endpoint.settings.address.to_string(),
        );
        match open.by {
            Use::Probe => {
                endpoint.release(slot);
                endpoint.probe = None;
            }
            Use::Exchange(token) => {
                self.forget(token);
                self.outputs.push_back(Output::Answered {
                    token,
                    group,
                    server,
                    reply: packet.octets().to_vec(),
                });
            }
        }
        self.note(now, id, Event::Answered);
    }

    /// The connection of a socket over TLS broke, or could not be made: what was asked there is asked elsewhere.
    pub fn handle_disconnected(&mut self, now: Duration, id: EndpointId, socket: u16) {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return;
        };
        let lost: Vec<u64> = endpoint
            .open
            .iter()
            .filter_map(|(slot, open)| match open.by {
                Use::Exchange(token) if slot.socket == socket => Some(token),
                _ => None,
            })
            .collect();
        for token in lost {
            let Some(exchange) = self.exchanges.get_mut(&token) else {
                continue;
            };
            if let Some(attempt) = exchange
                .attempts
                .last_mut()
                .filter(|attempt| attempt.endpoint == id)
            {
                attempt.is_lost = true;
                self.set_exchange_timer(token, now);
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Duration, random: Random<'_>) {
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Exchange(token) => self.on_exchange_timer(now, random, token),
                Timer::Probe(endpoint) => self.on_probe_timer(now, random, endpoint),
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.exchanges.len()
    }

    /// What a socket of this endpoint is connected to; `None` if it is gone.
    pub fn endpoint(&self, id: EndpointId) -> Option<&EndpointSettings> {
        self.endpoints.get(&id).map(|endpoint| &endpoint.settings)
    }

    /// All servers.
    pub fn servers(&self) -> Vec<ServerState> {
        let state = |endpoint: &Endpoint| ServerState {
            group: endpoint.settings.group.clone(),
            address: endpoint.settings.address.to_string(),
            purpose: endpoint.settings.purpose,
            health: endpoint.health,
            outstanding: endpoint.open.len(),
            counts: endpoint.counts,
        };
        self.endpoints.values().map(state).collect()
    }

    fn note(&mut self, now: Duration, id: EndpointId, event: Event) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some(from) = endpoint.note(event, now) else {
            return;
        };
        self.outputs.push_back(Output::Changed {
            group: endpoint.settings.group.clone(),
            server: endpoint.settings.address.to_string(),
            purpose: endpoint.settings.purpose,
            from,
            to: endpoint.health,
        });
        self.plan_probe(now, id);
    }
}

#[cfg(test)]
mod tests;
