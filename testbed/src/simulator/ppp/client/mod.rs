//! One subscriber's PPP: phases, timer and what befalls it.
//!
//! The client behaves as pppd does: it acknowledges the server's requests at once, repeats its own with the same
//! identifier every three seconds, and goes down when a negotiation starts on an open link.

mod authentication;
mod ipcp;
mod lcp;
mod proxied;

use std::net::Ipv4Addr;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

pub use authentication::Authentication;

use super::packet::{self, Frame, Packet};

/// How long the client waits before it repeats what was not answered (RFC 1661 §4.6).
const RESTART: Duration = Duration::from_secs(3);
/// Requests sent without an answer before the client gives up (RFC 1661 §4.6, Max-Configure).
const MAX_TRIES: u8 = 10;
/// How long a client that was told to wait leaves the first word to the server.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who dials: what the credentials and wishes of one subscriber are.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: String,
    pub authentication: Authentication,
    pub mru: Option<u16>,
}

/// What a step of the client may use besides its own state.
#[derive(Debug)]
pub struct Context<'a> {
    pub now: Duration,
    pub login: &'a Login,
    /// Whether an exact repeat of the last request on an open link is the network's doing and no renegotiation.
    pub network_repeats: bool,
    /// Whether the Configure-Ack for IPCP is to be held back.
    pub hold_acknowledgement: bool,
    pub rng: &'a mut StdRng,
    /// Frames to send, in order.
    pub frames: &'a mut Vec<Vec<u8>>,
}

impl Context<'_> {
    fn send(&mut self, protocol: u16, code: u8, id: u8, data: &[u8]) {
        self.frames.push(Packet { code, id, data }.to_frame(protocol));
    }
}

/// What befell the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// IPCP is open with this address.
    Opened { address: Ipv4Addr },
    /// The server started a negotiation anew on an open link.
    Renegotiated,
    /// The server ended the link by a Terminate-Request.
    Terminated,
    /// The server acknowledged our own Terminate-Request, or never did.
    Finished,
    /// No way to go on, and why.
    Failed(String),
    /// The client has acknowledged the server's IPCP request; the server's own acknowledgement is due next.
    Acknowledged,
    /// An LCP Echo-Reply.
    EchoAnswered,
}

/// Where the client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The server has the first word.
    Quiet,
    Establish,
    Authenticate,
    Network,
    Open,
    /// Our Terminate-Request is out.
    Terminating,
    Ended,
}

/// One layer's negotiation: our request under way, and whether each side has acknowledged the other's.
#[derive(Clone, Copy, Debug, Default)]
struct Layer {
    id: u8,
    tries: u8,
    ours_acknowledged: bool,
    theirs_acknowledged: bool,
    /// Identifier and hash of the server's last request that we acknowledged.
    last_request: Option<(u8, u64)>,
}

impl Layer {
    /// Begins anew with another identifier; what the server last asked stays known.
    fn restart(&mut self) {
        self.id = self.id.wrapping_add(1);
        self.tries = 0;
        self.ours_acknowledged = false;
        self.theirs_acknowledged = false;
    }

    /// Asks again with other contents, hence another identifier.
    fn revise(&mut self) {
        self.id = self.id.wrapping_add(1);
        self.ours_acknowledged = false;
    }

    fn is_open(&self) -> bool {
        self.ours_acknowledged && self.theirs_acknowledged
    }
}

/// A subscriber's end of one PPP link.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    deadline: Option<Duration>,
    lcp: Layer,
    ipcp: Layer,
    magic: u32,
    refused_mru: bool,
    refused_magic: bool,
    method: Option<authentication::Method>,
    pap_id: u8,
    expected_proof: Option<Box<str>>,
    /// Identifier and data of the last response, until it is answered.
    chap_response: Option<(u8, Box<[u8]>)>,
    address: Ipv4Addr,
    server: Option<Ipv4Addr>,
    /// The server's IPCP request whose acknowledgement is held back.
    held: Option<(u8, Box<[u8]>)>,
}

impl Client {
    /// A client whose link came up; it speaks first if `eager`, else leaves the server a second to do so.
    pub fn start(ctx: &mut Context<'_>, eager: bool) -> Self {
        let mut client = Self::new(ctx);
        if eager {
            client.send_lcp_request(ctx);
            client.phase = Phase::Establish;
        } else {
            client.deadline = Some(ctx.now + PATIENCE);
        }
        client
    }

    fn new(ctx: &mut Context<'_>) -> Self {
        Self {
            phase: Phase::Quiet,
            deadline: None,
            lcp: Layer {
                id: 1,
                ..Layer::default()
            },
            ipcp: Layer {
                id: 1,
                ..Layer::default()
            },
            magic: ctx.rng.random_range(1..=u32::MAX),
            refused_mru: false,
            refused_magic: false,
            method: None,
            pap_id: 1,
            expected_proof: None,
            chap_response: None,
            address: Ipv4Addr::UNSPECIFIED,
            server: None,
            held: None,
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The client's own address, once given.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The server's address inside the session, once its IPCP request has named it.
    pub fn server(&self) -> Option<Ipv4Addr> {
        self.server
    }

    /// Whether an acknowledgement is held back now.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadline
    }

    /// Takes a control frame; user data is not the client's business.
    pub fn handle_frame(&mut self, ctx: &mut Context<'_>, frame: Frame<'_>) -> Option<Event> {
        if self.phase == Phase::Ended {
            return None;
        }
        let packet = Packet::parse(frame.information)?;
        match frame.protocol {
            packet::PROTOCOL_LCP => self.handle_lcp(ctx, packet),
            packet::PROTOCOL_PAP => self.handle_pap(ctx, packet),
            packet::PROTOCOL_CHAP => self.handle_chap(ctx, packet),
            packet::PROTOCOL_IPCP => self.handle_ipcp(ctx, packet),
            _ => None,
        }
    }

    /// Repeats what was not answered.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_>) -> Option<Event> {
        if self.deadline.is_none_or(|deadline| deadline > ctx.now) {
            return None;
        }
        self.deadline = None;
        match self.phase {
            Phase::Quiet => {
                self.phase = Phase::Establish;
                self.send_lcp_request(ctx);
                None
            }
            Phase::Establish if self.lcp.tries >= MAX_TRIES => self.fail("LCP unanswered"),
            Phase::Establish => {
                self.send_lcp_request(ctx);
                None
            }
            Phase::Authenticate => self.repeat_authentication(ctx),
            Phase::Network if self.ipcp.tries >= MAX_TRIES => self.fail("IPCP unanswered"),
            Phase::Network => {
                self.send_ipcp_request(ctx);
                None
            }
            Phase::Terminating => self.repeat_terminate(ctx),
            Phase::Open | Phase::Ended => None,
        }
    }

    /// Hangs up in PPP: Terminate-Request, answered or repeated once, then [`Event::Finished`].
    pub fn terminate(&mut self, ctx: &mut Context<'_>) {
        self.phase = Phase::Terminating;
        self.lcp.restart();
        self.repeat_terminate(ctx);
    }

    /// Asks the server for an LCP Echo-Reply.
    pub fn send_echo(&self, ctx: &mut Context<'_>) {
        let magic = self.sent_magic().to_be_bytes();
        ctx.send(packet::PROTOCOL_LCP, packet::ECHO_REQUEST, self.lcp.id, &magic);
    }

    /// Sends the held Configure-Ack, if there is one.
    pub fn release(&mut self, ctx: &mut Context<'_>) -> Option<Event> {
        let (id, options) = self.held.take()?;
        self.acknowledge_ipcp(ctx, id, &options)
    }

    fn repeat_terminate(&mut self, ctx: &mut Context<'_>) -> Option<Event> {
        if self.lcp.tries >= 2 {
            self.phase = Phase::Ended;
            return Some(Event::Finished);
        }
        self.lcp.tries += 1;
        ctx.send(
            packet::PROTOCOL_LCP,
            packet::TERMINATE_REQUEST,
            self.lcp.id,
            b"hang-up",
        );
        self.deadline = Some(ctx.now + RESTART);
        None
    }

    fn fail(&mut self, why: impl Into<String>) -> Option<Event> {
        self.phase = Phase::Ended;
        self.deadline = None;
        Some(Event::Failed(why.into()))
    }

    fn is_lcp_open(&self) -> bool {
        matches!(self.phase, Phase::Authenticate | Phase::Network | Phase::Open)
    }

    fn sent_magic(&self) -> u32 {
        if self.refused_magic { 0 } else { self.magic }
    }
}

/// Tells one request from another without keeping its octets.
fn fingerprint(data: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(data);
    hasher.finish()
}
