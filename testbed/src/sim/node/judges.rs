//! RADIUS as the daemon asks it: the client and the codec are its own; the servers, and the network to them, are made up here.
//!
//! Two servers, of which one may be dead for a while and each loses requests and answers, and answers late or twice. An Accept bears a
//! Class and a Chargeable-User-Identity that no other has.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast::aaa::Profile;
use holdfast::aaa::radius::client::{
    Ask, Client, EndpointId, EndpointSettings, Output, Purpose, Requirement, Settings, Transport,
};
use holdfast::aaa::radius::dictionary::attribute;
use holdfast::aaa::radius::reply::{self, Asked, Decision};
use holdfast::aaa::radius::request::{Content, NasIdentity, SessionFacts};
use holdfast::aaa::radius::{Builder, Code, Packet, verify_request};
use holdfast::config::Secret;
use holdfast::lns::session::Denial;
use holdfast_ppp::AuthRequest;
use holdfast_protocol::{SessionId, TunnelId};

use super::process::Process;
use crate::sim::bugs::Bug;
use crate::sim::dice::Dice;
use crate::sim::facts::Fact;

const GROUP: &str = "isp";
const SECRET: &str = "known to both";
const SERVERS: [([u8; 4], u32); 2] = [([192, 0, 2, 10], 1), ([192, 0, 2, 11], 2)];
const PATIENCE: Duration = Duration::from_secs(8);
const TIMEOUT: Duration = Duration::from_millis(500);
/// While all goes wrong: how many of a thousand packets are lost either way, come twice, and how many requests are refused.
const LOST: u64 = 100;
const DOUBLED: u64 = 100;
const REFUSED: u64 = 50;
/// How long an answer is under way.
const FAST: (u64, u64) = (1, 30);
const SLOW: (u64, u64) = (300, 3_000);
const SLOW_ONES: u64 = 200;
/// The first server is dead for this part of each of these spans.
const SPAN: Duration = Duration::from_secs(30);
const DEAD: Duration = Duration::from_secs(10);

type Key = (TunnelId, SessionId);

/// What a session's actor waits for. A later one of the same session asks anew.
#[derive(Debug)]
struct Question {
    number: u64,
    serial: u32,
    request: Box<AuthRequest>,
}

/// A packet of a server.
#[derive(Debug)]
struct Flight {
    lands_at: Duration,
    endpoint: EndpointId,
    socket: u16,
    octets: Vec<u8>,
}

/// What one process knows of RADIUS.
#[derive(Debug)]
pub(super) struct Judges {
    client: Client,
    questions: BTreeMap<Key, Question>,
    /// By the client's token: whose question.
    asked: BTreeMap<u64, (Key, u64)>,
    next: u64,
    flights: Vec<Flight>,
    /// For [`Bug::AcceptRemembered`].
    remembered: BTreeMap<Vec<u8>, Profile>,
    /// From then on the servers are well.
    well_from: Duration,
    /// No two Accepts of a run are alike.
    accepts: u64,
    dice: Dice,
}

impl Judges {
    pub(super) fn new(now: Duration, dice: Dice, well_from: Duration) -> Self {
        let mut client = Client::default();
        let endpoint = |(address, priority): ([u8; 4], u32)| EndpointSettings {
            group: GROUP.into(),
            purpose: Purpose::Access,
            address: SocketAddr::from((address, 1812)),
            secret: Secret::new(SECRET),
            priority,
            message_authenticator: Requirement::Yes,
            status_interval: None,
            timeout: TIMEOUT,
            tries: 2,
            dead_time: DEAD,
            transport: Transport::Udp,
        };
        let settings = Settings {
            nas: nas(),
            endpoints: SERVERS.map(endpoint).to_vec(),
        };
        client.configure(now, settings);
        let mut dice = dice;
        let accepts = dice.seed();
        Self {
            client,
            questions: BTreeMap::new(),
            asked: BTreeMap::new(),
            next: 0,
            flights: Vec::new(),
            remembered: BTreeMap::new(),
            well_from,
            accepts,
            dice,
        }
    }

    /// Nobody waits for the answer any more.
    pub(super) fn forget(&mut self, key: Key) {
        self.questions.remove(&key);
    }
}

fn nas() -> NasIdentity {
    NasIdentity {
        identifier: "simulation".into(),
        ..NasIdentity::default()
    }
}

impl Process {
    /// Asks the servers who the subscriber of a session is.
    pub(super) fn ask_judges(&mut self, key: Key, serial: u32, request: Box<AuthRequest>) {
        if self.has(Bug::AcceptRemembered)
            && let Some(profile) = self.judges.remembered.get(&*request.name).cloned()
        {
            return self.grant(key, serial, &request.name, profile);
        }
        let Some(row) = self.sessions.get(&key).map(|core| core.row().clone()) else {
            return;
        };
        let facts = SessionFacts {
            tunnel: key.0,
            row: &row,
            lac: None,
            local: None,
            lac_name: b"lac",
            own_name: "lns",
        };
        let content = Content::access(&request, &nas(), &facts).expect("a name and a password are short");
        let judges = &mut self.judges;
        judges.next += 1;
        let number = judges.next;
        let ask = Ask {
            token: number,
            groups: vec![GROUP.into()],
            purpose: Purpose::Access,
            content,
            patience: PATIENCE,
        };
        judges.asked.insert(number, (key, number));
        judges.questions.insert(
            key,
            Question {
                number,
                serial,
                request,
            },
        );
        let dice = &mut judges.dice;
        let asked = judges.client.ask(self.now, &mut || random(dice), ask);
        asked.expect("the servers are there, and few are asked");
        self.hear_judges();
    }

    /// Time passes for the client, and what the servers have sent arrives.
    pub(super) fn wait_for_judges(&mut self) {
        let now = self.now;
        let judges = &mut self.judges;
        let landed: Vec<Flight> = judges
            .flights
            .extract_if(.., |flight| flight.lands_at <= now)
            .collect();
        for flight in landed {
            judges
                .client
                .handle_reply(now, flight.endpoint, flight.socket, &flight.octets);
        }
        if judges.client.poll_timeout().is_some_and(|at| at <= now) {
            let dice = &mut judges.dice;
            judges.client.handle_timeout(now, &mut || random(dice));
        }
        self.hear_judges();
    }

    fn hear_judges(&mut self) {
        while let Some(output) = self.judges.client.poll_output() {
            match output {
                Output::Send {
                    endpoint,
                    socket,
                    octets,
                } => self.send_to_server(endpoint, socket, &octets),
                Output::Answered { token, reply, .. } => self.answered(token, Some(&reply)),
                Output::Unanswered { token } => self.answered(token, None),
                Output::Changed { .. } | Output::Dropped { .. } | Output::NoSlot | Output::Close(_) => {}
            }
        }
    }

    /// The server's work, and what the network makes of it.
    fn send_to_server(&mut self, endpoint: EndpointId, socket: u16, octets: &Arc<[u8]>) {
        let troubled = self.world < self.judges.well_from;
        let into_span = Duration::from_micros((self.world.as_micros() % SPAN.as_micros()) as u64);
        let first = self
            .judges
            .client
            .endpoint(endpoint)
            .map(|server| server.priority)
            == Some(1);
        let dice = &mut self.judges.dice;
        let lost = (0..2).any(|_| dice.happens(LOST));
        if troubled && (lost || (first && into_span < DEAD)) {
            return;
        }
        let refused = troubled && dice.happens(REFUSED);
        let (least, most) = if troubled && dice.happens(SLOW_ONES) {
            SLOW
        } else {
            FAST
        };
        let times = 1 + usize::from(troubled && dice.happens(DOUBLED));
        let arrivals: Vec<Duration> = (0..times).map(|_| self.now + dice.millis(least, most)).collect();
        let Some(reply) = self.serve(octets, refused) else {
            return;
        };
        let flights = arrivals.into_iter().map(|lands_at| Flight {
            lands_at,
            endpoint,
            socket,
            octets: reply.clone(),
        });
        self.judges.flights.extend(flights);
    }

    fn serve(&mut self, octets: &[u8], refused: bool) -> Option<Vec<u8>> {
        let request = verify_request(octets, SECRET.as_bytes()).expect("the client signs what it sends");
        let user = request.first(attribute::USER_NAME)?.value.to_vec();
        let mut reply = Builder::new(
            if refused {
                Code::ACCESS_REJECT
            } else {
                Code::ACCESS_ACCEPT
            },
            request.id(),
        );
        reply.message_authenticator();
        if !refused {
            self.judges.accepts = self.judges.accepts.wrapping_add(1);
            let class = self.judges.accepts.to_be_bytes();
            reply
                .octets(attribute::CLASS, &class)
                .octets(attribute::CHARGEABLE_USER_IDENTITY, &class);
            self.fact(Fact::Accepted {
                user,
                class: class.to_vec(),
            });
        }
        reply
            .finish_reply(SECRET.as_bytes(), &request.authenticator())
            .ok()
    }

    /// An answer, or that there is none, to a question that somebody may still wait on.
    fn answered(&mut self, token: u64, reply: Option<&[u8]>) {
        let Some((key, number)) = self.judges.asked.remove(&token) else {
            return;
        };
        let is_waited_for = |question: &&Question| question.number == number;
        if self.judges.questions.get(&key).filter(is_waited_for).is_none() {
            return;
        }
        let Question { serial, request, .. } = self.judges.questions.remove(&key).expect("just seen");
        let user = String::from_utf8_lossy(&request.name).into_owned();
        let asked = Asked {
            name: &request.name,
            user: &user,
            ms_chap: false,
            group: GROUP,
        };
        let decision = reply.map(|octets| {
            let packet = Packet::parse(octets).expect("the client has parsed it");
            reply::read(&packet, &asked).expect("the servers say nothing wrong")
        });
        let denial = |message: &[u8], is_temporary| Denial {
            message: message.to_vec(),
            ms_chap_error: None,
            is_temporary,
        };
        let denial = match decision {
            Some(Decision::Accept(profile)) => {
                self.judges
                    .remembered
                    .insert(request.name.clone(), (*profile).clone());
                return self.grant(key, serial, &request.name, *profile);
            }
            Some(Decision::Refuse(_)) if self.has(Bug::RejectIgnored) => {
                return self.grant(key, serial, &request.name, Profile::default());
            }
            Some(Decision::Refuse(_)) => denial(b"unpaid", false),
            None => denial(b"Service temporarily unavailable", true),
        };
        self.at_session(key.0, key.1, |core, now| core.handle_refusal(now, serial, denial));
    }
}

fn random(dice: &mut Dice) -> [u8; 16] {
    let halves = [dice.seed(), dice.seed()].map(u64::to_be_bytes);
    *halves.as_flattened().first_chunk().expect("sixteen")
}
