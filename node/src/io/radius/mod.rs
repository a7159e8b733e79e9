//! The sockets of the RADIUS client: one thread for all servers of a node.
//!
//! ```text
//!   actors --orders (bounded)--> the thread: Client (pure) --Send--> udp sockets, TLS streams ....> servers
//!      ^                             ^                                   |
//!      '--- Answer ------------------'<-------- Arrival (bounded) -------'
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use self::line::Line;
use super::clock;
use crate::aaa::radius::client::{
    Ask, AskError, Client, EXCHANGES_MAX, EndpointId, Health, Output, SOCKETS_MAX, ServerState, Settings,
};
use crate::metrics::{Counter, Limit, Metrics};
use crate::throttled;

mod line;
mod tls;
mod udp;

/// Questions that wait for the thread; more are answered at once by [`NoAnswer::Busy`].
pub const QUEUE: usize = 8_192;
/// Replies that wait for it; more wait in the kernel's buffers.
const ARRIVALS: usize = 1_024;

/// What became of a question.
#[derive(Debug)]
pub enum Answer {
    /// A reply that was verified.
    Reply {
        /// Of its server.
        group: String,
        /// Who sent it.
        server: String,
        /// The packet.
        octets: Vec<u8>,
    },
    /// There is none.
    None(NoAnswer),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// No server has answered.
    #[error("no RADIUS server has answered")]
    Silence,
    /// Too many questions.
    #[error("too many questions wait for RADIUS servers")]
    Busy,
    /// The same one has asked again; that question is answered.
    #[error("asked again")]
    Superseded,
    /// See there.
    #[error(transparent)]
    NotAsked(#[from] AskError),
}

/// Takes an answer, on the client's thread: it must not block.
pub type Taker = Box<dyn FnOnce(Answer) + Send>;

/// The way to the servers.
pub struct Radius {
    orders: mpsc::Sender<Order>,
    /// Settings that were not taken over yet; the newest count.
    settings: Arc<Mutex<Option<Settings>>>,
    client: Arc<Mutex<Client>>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Radius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Radius")
    }
}

enum Order {
    Ask(Box<Ask>, Taker),
    Configure,
}

/// What comes back from the sockets.
enum Arrival {
    Reply {
        endpoint: EndpointId,
        socket: u16,
        octets: Vec<u8>,
    },
    /// A stream is over, or could not be made.
    Ended {
        endpoint: EndpointId,
        socket: u16,
        /// Which of the streams in this place.
        line: u64,
        why: String,
    },
}

impl Radius {
    /// Starts the thread, which ends with the handle.
    pub fn start(settings: Settings, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (orders, queue) = mpsc::channel(QUEUE);
        let client = Arc::new(Mutex::new(Client::default()));
        let settings = Arc::new(Mutex::new(Some(settings)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let worker = Worker::new(client.clone(), settings.clone(), metrics.clone());
        std::thread::Builder::new()
            .name("radius".into())
            .spawn(move || runtime.block_on(worker.run(queue)))?;
        for (limit, bound) in [
            (Limit::RadiusQueue, QUEUE),
            (Limit::RadiusRequests, EXCHANGES_MAX),
            (Limit::RadiusIdentifiers, usize::from(SOCKETS_MAX) * 256),
        ] {
            metrics.set_limit(limit, bound as u64);
        }
        Ok(Self {
            orders,
            settings,
            client,
            metrics,
        })
    }

    /// Asks. The taker is called once, whatever happens.
    pub fn ask(&self, ask: Ask, taker: Taker) {
        let Err(refused) = self.orders.try_send(Order::Ask(Box::new(ask), taker)) else {
            return;
        };
        self.metrics.hit(Limit::RadiusQueue);
        if let Order::Ask(_, taker) = refused.into_inner() {
            taker(Answer::None(NoAnswer::Busy));
        }
    }

    /// Goes over to other servers.
    pub fn configure(&self, settings: Settings) {
        *lock(&self.settings) = Some(settings);
        // Should the queue be full, the next order brings them.
        let _ = self.orders.try_send(Order::Configure);
    }

    /// All servers and how they do.
    pub fn servers(&self) -> Vec<ServerState> {
        lock(&self.client).servers()
    }
}

/// The thread's state stays right even if somebody panicked while he looked at it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    client: Arc<Mutex<Client>>,
    settings: Arc<Mutex<Option<Settings>>>,
    metrics: Arc<Metrics>,
    takers: HashMap<u64, Taker>,
    lines: BTreeMap<(EndpointId, u16), Line>,
    next_line: u64,
    arrivals: mpsc::Sender<Arrival>,
    arrived: mpsc::Receiver<Arrival>,
}

impl Worker {
    fn new(
        client: Arc<Mutex<Client>>,
        settings: Arc<Mutex<Option<Settings>>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (arrivals, arrived) = mpsc::channel(ARRIVALS);
        Self {
            client,
            settings,
            metrics,
            takers: HashMap::new(),
            lines: BTreeMap::new(),
            next_line: 0,
            arrivals,
            arrived,
        }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let deadline = lock(&self.client).poll_timeout();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.on_order(order),
                    None => return,
                },
                Some(arrival) = self.arrived.recv() => self.on_arrival(arrival),
                () = until(deadline) => lock(&self.client).handle_timeout(clock::since_boot(), &mut random),
            }
            self.carry_out();
        }
    }

    fn on_order(&mut self, order: Order) {
        let now = clock::since_boot();
        if let Some(settings) = lock(&self.settings).take() {
            lock(&self.client).configure(now, settings);
        }
        let Order::Ask(ask, taker) = order else { return };
        let token = ask.token;
        let asked = lock(&self.client).ask(now, &mut random, *ask);
        match asked {
            Ok(()) => {
                if let Some(earlier) = self.takers.insert(token, taker) {
                    earlier(Answer::None(NoAnswer::Superseded));
                }
            }
            Err(error) => {
                if error == AskError::TooMany {
                    self.metrics.hit(Limit::RadiusRequests);
                }
                taker(Answer::None(error.into()));
            }
        }
    }

    fn on_arrival(&mut self, arrival: Arrival) {
        let now = clock::since_boot();
        match arrival {
            Arrival::Reply {
                endpoint,
                socket,
                octets,
            } => lock(&self.client).handle_reply(now, endpoint, socket, &octets),
            Arrival::Ended {
                endpoint,
                socket,
                line,
                why,
            } => {
                if self
                    .lines
                    .get(&(endpoint, socket))
                    .is_some_and(|known| known.number() == line)
                {
                    self.lines.remove(&(endpoint, socket));
                    let mut client = lock(&self.client);
                    if let Some(settings) = client.endpoint(endpoint) {
                        throttled!(warn, server = %settings.address, "the TLS connection to a RADIUS server is over: {why}");
                    }
                    client.handle_disconnected(now, endpoint, socket);
                }
            }
        }
    }

    fn carry_out(&mut self) {
        loop {
            let Some(output) = lock(&self.client).poll_output() else {
                break;
            };
            match output {
                Output::Send {
                    endpoint,
                    socket,
                    octets,
                } => self.send(endpoint, socket, octets),
                Output::Answered {
                    token,
                    group,
                    server,
                    reply: octets,
                } => self.answer(
                    token,
                    Answer::Reply {
                        group,
                        server,
                        octets,
                    },
                ),
                Output::Unanswered { token } => {
                    self.metrics.count(Counter::RadiusUnanswered);
                    self.answer(token, Answer::None(NoAnswer::Silence));
                }
                Output::Changed {
                    group,
                    server,
                    purpose,
                    from,
                    to,
                } => {
                    let (purpose, from, to_name) = (purpose.name(), from.name(), to.name());
                    if to == Health::Alive {
                        info!(group, server, purpose, from, "RADIUS server: alive");
                    } else {
                        self.metrics.count(Counter::RadiusServerLost);
                        warn!(group, server, purpose, from, "RADIUS server: {to_name}");
                    }
                }
                Output::Dropped { server, why } => {
                    self.metrics.count(Counter::RadiusDropped);
                    throttled!(warn, server, "reply of a RADIUS server dropped: {why}");
                }
                Output::NoSlot => self.metrics.hit(Limit::RadiusIdentifiers),
                Output::Close(endpoint) => self.lines.retain(|(of, _), _| *of != endpoint),
            }
        }
        let under_way = lock(&self.client).under_way();
        self.metrics.set_current(Limit::RadiusRequests, under_way as u64);
    }

    fn answer(&mut self, token: u64, answer: Answer) {
        if let Some(taker) = self.takers.remove(&token) {
            taker(answer);
        }
    }

    /// What cannot be sent now is lost, as on the wire: it is sent again.
    fn send(&mut self, endpoint: EndpointId, socket: u16, octets: Arc<[u8]>) {
        let place = (endpoint, socket);
        if !self.lines.contains_key(&place) {
            let Some(settings) = lock(&self.client).endpoint(endpoint).cloned() else {
                return;
            };
            self.next_line += 1;
            match Line::open(&settings, place, self.next_line, self.arrivals.clone()) {
                Ok(line) => drop(self.lines.insert(place, line)),
                Err(error) => {
                    throttled!(warn, server = %settings.address, "no socket for a RADIUS server: {error}");
                    self.metrics.count(Counter::RadiusNotSent);
                    return;
                }
            }
        }
        if !self.lines[&place].send(octets) {
            self.metrics.count(Counter::RadiusNotSent);
        }
    }
}

/// From the operating system's generator by way of a cipher: nobody can foresee them (RFC 2865 §3).
fn random() -> [u8; 16] {
    rand::random()
}

async fn until(deadline: Option<Duration>) {
    match deadline {
        Some(at) => tokio::time::sleep(at.saturating_sub(clock::since_boot())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
