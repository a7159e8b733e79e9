use std::time::Duration;

use holdfast_ppp::{AuthRequest, Credential, Secret as Password};
use holdfast_protocol::TunnelId;

use super::*;
use crate::aaa::radius::request::SessionFacts;
use crate::aaa::radius::{Builder, Code, Packet, verify_request};
use crate::config::Secret;

const SECRET: &[u8] = b"s3cret";

/// A client on a clock of its own, and servers 10.0.0.1, .2 ... that answer when they are told to.
struct Bench {
    client: Client,
    now: Duration,
    drawn: u8,
    outputs: Vec<Output>,
}

fn server(host: u8, priority: u32) -> EndpointSettings {
    EndpointSettings {
        group: "main".to_owned(),
        purpose: Purpose::Access,
        address: ([10, 0, 0, host], 1812).into(),
        secret: Secret::new(SECRET),
        priority,
        message_authenticator: Requirement::Yes,
        status_interval: None,
        timeout: Duration::from_secs(2),
        tries: 3,
        dead_time: Duration::from_secs(30),
        transport: Transport::Udp,
    }
}

fn content(name: &str) -> Content {
    let request = AuthRequest {
        name: name.as_bytes().to_vec(),
        credential: Credential::Pap {
            password: Password::new(*b"hello"),
        },
    };
    let row = holdfast_cluster::records::SessionRow::default();
    let facts = SessionFacts {
        tunnel: TunnelId::new(1).expect("not zero"),
        row: &row,
        lac: None,
        local: None,
        lac_name: b"lac",
        own_name: "lns",
    };
    let nas = NasIdentity {
        identifier: "nas".to_owned(),
        ..NasIdentity::default()
    };
    Content::access(&request, &nas, &facts).expect("it fits")
}

fn ask(token: u64, name: &str) -> Ask {
    Ask {
        token,
        groups: vec!["main".into()],
        purpose: Purpose::Access,
        content: content(name),
        patience: Duration::from_secs(20),
    }
}

/// A packet on its way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    endpoint: EndpointId,
    socket: u16,
    octets: Arc<[u8]>,
}

impl Bench {
    fn new(endpoints: Vec<EndpointSettings>) -> Self {
        let mut bench = Self {
            client: Client::default(),
            now: Duration::from_secs(1000),
            drawn: 0,
            outputs: Vec::new(),
        };
        bench.configure(endpoints);
        bench
    }

    fn configure(&mut self, endpoints: Vec<EndpointSettings>) {
        let settings = Settings {
            nas: NasIdentity::default(),
            endpoints,
        };
        self.client.configure(self.now, settings);
        self.drain();
    }

    fn drain(&mut self) {
        self.outputs
            .extend(std::iter::from_fn(|| self.client.poll_output()));
    }

    fn ask(&mut self, ask: Ask) -> Result<(), AskError> {
        let drawn = &mut self.drawn;
        let asked = self.client.ask(self.now, &mut || draw(drawn), ask);
        self.drain();
        asked
    }

    /// Lets time pass until something is sent, answered or given up; at most `limit`.
    fn pass(&mut self, limit: Duration) {
        let end = self.now + limit;
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let drawn = &mut self.drawn;
            self.client.handle_timeout(self.now, &mut || draw(drawn));
            self.drain();
            if !self.outputs.is_empty() {
                return;
            }
        }
        self.now = end;
    }

    fn seconds(&mut self, seconds: u64) -> Vec<Output> {
        let end = self.now + Duration::from_secs(seconds);
        let mut all = std::mem::take(&mut self.outputs);
        while self.now < end {
            self.pass(end - self.now);
            all.append(&mut self.outputs);
        }
        all
    }

    /// The packets among the outputs since the last call; the rest is forgotten.
    fn sent(&mut self) -> Vec<Sent> {
        sent(&std::mem::take(&mut self.outputs))
    }

    fn reply(&mut self, to: &Sent, code: Code, write: impl FnOnce(&mut Builder)) {
        let reply = reply(to, code, SECRET, write);
        self.deliver(to, &reply);
    }

    fn deliver(&mut self, to: &Sent, octets: &[u8]) {
        self.client.handle_reply(self.now, to.endpoint, to.socket, octets);
        self.drain();
    }

    fn answers(&mut self) -> Vec<(u64, Code)> {
        let outputs = std::mem::take(&mut self.outputs);
        let answer = |output: &Output| match output {
            Output::Answered { token, reply, .. } => Some((*token, Code(reply[0]))),
            _ => None,
        };
        outputs.iter().filter_map(answer).collect()
    }

    fn health(&self) -> Vec<&'static str> {
        self.client
            .servers()
            .iter()
            .map(|server| server.health.name())
            .collect()
    }
}

/// The middle of the jitter, and different each time.
fn draw(drawn: &mut u8) -> [u8; 16] {
    *drawn = drawn.wrapping_add(1);
    let mut octets = [*drawn; 16];
    octets[0] = 127;
    octets
}

fn sent(outputs: &[Output]) -> Vec<Sent> {
    let sent = |output: &Output| match output {
        Output::Send {
            endpoint,
            socket,
            octets,
        } => Some(Sent {
            endpoint: *endpoint,
            socket: *socket,
            octets: octets.clone(),
        }),
        _ => None,
    };
    outputs.iter().filter_map(sent).collect()
}

fn reply(to: &Sent, code: Code, secret: &[u8], write: impl FnOnce(&mut Builder)) -> Vec<u8> {
    let request = Packet::parse(&to.octets).expect("well-formed");
    let mut builder = Builder::new(code, request.id());
    write(&mut builder);
    builder
        .finish_reply(secret, &request.authenticator())
        .expect("it fits")
}

fn signed(builder: &mut Builder) {
    builder.message_authenticator();
}

fn to_host(sent: &Sent) -> u32 {
    sent.endpoint.0 + 1
}

#[test]
fn asked_and_answered() {
    let mut bench = Bench::new(vec![server(1, 1)]);
    bench.ask(ask(7, "bob")).expect("taken");
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert!(verify_request(&sent[0].octets, SECRET).is_ok());
    bench.reply(&sent[0], Code::ACCESS_ACCEPT, signed);
    assert_eq!(bench.answers(), [(7, Code::ACCESS_ACCEPT)]);
    assert_eq!((bench.client.under_way(), bench.client.poll_timeout()), (0, None));
    let server = &bench.client.servers()[0];
    assert_eq!(
        (server.counts.sent, server.counts.accepted, server.outstanding),
        (1, 1, 0)
    );
}

#[test]
fn retransmissions_are_the_same_octets_at_growing_intervals() {
    let mut bench = Bench::new(vec![server(1, 1)]);
    bench.ask(ask(7, "bob")).expect("taken");
    let first = bench.sent().remove(0);
    let began = bench.now;
    let mut waits = Vec::new();
    for _ in 0..2 {
        bench.pass(Duration::from_secs(60));
        waits.push((bench.now - began).as_secs_f64().round() as u64);
        assert_eq!(bench.sent(), std::slice::from_ref(&first));
    }
    assert_eq!(waits, [2, 6]);
    assert_eq!(bench.client.servers()[0].counts.retransmitted, 2);
}

/// The next server after all tries with the first; its answer counts, and so would a late one of the first.
#[test]
fn the_next_server_is_asked_and_the_first_valid_answer_counts() {
    for late in [false, true] {
        let mut bench = Bench::new(vec![server(1, 1), server(2, 2)]);
        bench.ask(ask(7, "bob")).expect("taken");
        let first = bench.sent().remove(0);
        let all = bench.seconds(15);
        let packets = sent(&all);
        let second = packets.last().expect("sent again").clone();
        assert_eq!((to_host(&first), to_host(&second)), (1, 2));
        assert_ne!(first.octets[4..20], second.octets[4..20], "another authenticator");
        assert_eq!(bench.health(), ["dead", "alive"]);
        let (decides, other) = if late {
            (&first, &second)
        } else {
            (&second, &first)
        };
        bench.reply(decides, Code::ACCESS_ACCEPT, signed);
        assert_eq!(bench.answers(), [(7, Code::ACCESS_ACCEPT)]);
        bench.reply(other, Code::ACCESS_REJECT, signed);
        assert_eq!(bench.answers(), []);
        assert_eq!(bench.client.poll_timeout(), None);
    }
}

/// A Reject behind an Accept for the same identifier.
#[test]
fn s_152_the_first_valid_reply_decides() {
    let mut bench = Bench::new(vec![server(1, 1)]);
    bench.ask(ask(7, "bob")).expect("taken");
    let sent = bench.sent().remove(0);
    bench.reply(&sent, Code::ACCESS_ACCEPT, signed);
    bench.reply(&sent, Code::ACCESS_REJECT, signed);
    assert_eq!(bench.answers(), [(7, Code::ACCESS_ACCEPT)]);
    assert_eq!(bench.client.servers()[0].counts.unknown, 1);
}

/// A wrong authenticator, an unknown identifier, another source: dropped, and the wait goes on.
#[test]
fn s_150_what_proves_nothing_is_dropped() {
    let mut bench = Bench::new(vec![server(1, 1), server(2, 2)]);
    bench.ask(ask(7, "bob")).expect("taken");
    let asked = bench.sent().remove(0);
    let timeout = bench.client.poll_timeout();
    let right = reply(&asked, Code::ACCESS_ACCEPT, SECRET, signed);
    bench.deliver(&asked, &reply(&asked, Code::ACCESS_ACCEPT, b"other", signed));
    let mut forged = right.clone();
    forged[10] ^= 1;
    bench.deliver(&asked, &forged);
    let mut unknown = right.clone();
    unknown[1] ^= 1;
    bench.deliver(&asked, &unknown);
    bench.deliver(&asked, &right[..19]);
    let elsewhere = Sent {
        endpoint: EndpointId(1),
        ..asked.clone()
    };
    bench.deliver(&elsewhere, &right);
    let other_socket = Sent {
        socket: 1,
        ..asked.clone()
    };
    bench.deliver(&other_socket, &right);
    bench.reply(&asked, Code::ACCOUNTING_RESPONSE, signed);
    assert_eq!(bench.answers(), []);
    assert_eq!(bench.client.poll_timeout(), timeout, "nothing else has changed");
    let counts = bench.client.servers()[0].counts;
    assert_eq!((counts.unverified, counts.unknown), (4, 2));
    bench.deliver(&asked, &right);
    assert_eq!(bench.answers(), [(7, Code::ACCESS_ACCEPT)]);
}

/// Without Message-Authenticator: dropped where it is required, and where the server has sent one before.
#[test]
fn s_151_message_authenticator_as_it_is_required() {
    for (requirement, expected) in [
        (Requirement::Yes, [false, true, false]),
        (Requirement::Auto, [true, true, false]),
        (Requirement::No, [true, true, true]),
    ] {
        let mut bench = Bench::new(vec![EndpointSettings {
            message_authenticator: requirement,
            ..server(1, 1)
        }]);
        for (token, signs) in [(1, false), (2, true), (3, false)] {
            bench.ask(ask(token, "bob")).expect("taken");
            let sent = bench.sent().remove(0);
            bench.reply(&sent, Code::ACCESS_ACCEPT, |builder| {
                if signs {
                    builder.message_authenticator();
                }
            });
            let counted = expected[usize::try_from(token).expect("small") - 1];
            assert_eq!(!bench.answers().is_empty(), counted, "{requirement:?}, {token}");
            bench.client.forget(token);
        }
    }
    let mut bench = Bench::new(vec![server(1, 1)]);
    bench.ask(ask(1, "bob")).expect("taken");
    let sent = bench.sent().remove(0);
    bench.reply(&sent, Code::ACCESS_ACCEPT, |builder| {
        builder.message_authenticator().octets(33, b"proxy");
    });
    assert_eq!(bench.answers(), [], "Proxy-State");
}

#[test]
fn patience_ends() {
    let mut bench = Bench::new(vec![server(1, 1), server(2, 2)]);
    bench.ask(ask(7, "bob")).expect("taken");
    let began = bench.now;
    loop {
        bench.pass(Duration::from_secs(60));
        if bench.outputs.contains(&Output::Unanswered { token: 7 }) {
            break;
        }
        bench.outputs.clear();
    }
    assert_eq!(bench.now - began, Duration::from_secs(20));
    assert_eq!((bench.client.under_way(), bench.client.poll_timeout()), (0, None));
}

#[test]
fn a_dead_server_is_left_alone_and_then_tried_by_one_request() {
    let mut bench = Bench::new(vec![server(1, 1), server(2, 2)]);
    bench.ask(ask(1, "bob")).expect("taken");
    let all = bench.seconds(15);
    bench.reply(sent(&all).last().expect("sent"), Code::ACCESS_ACCEPT, signed);
    assert_eq!(bench.health(), ["dead", "alive"]);
    bench.outputs.clear();
    let asked_host = |bench: &mut Bench, token: u64| {
        bench.ask(ask(token, "bob")).expect("taken");
        let sent = bench.sent();
        to_host(&sent[0])
    };
    assert_eq!(asked_host(&mut bench, 2), 2);
    bench.client.forget(2);
    bench.seconds(31);
    assert_eq!(asked_host(&mut bench, 3), 1, "its time is over");
    assert_eq!(bench.health(), ["on trial", "alive"]);
    assert_eq!(asked_host(&mut bench, 4), 2, "one at a time");
    bench.client.forget(4);
    let all = bench.seconds(3);
    assert_eq!(to_host(&sent(&all)[0]), 2, "one try on trial");
    assert_eq!(bench.health(), ["dead", "alive"]);
    bench.client.forget(3);
    bench.seconds(31);
    bench.ask(ask(5, "bob")).expect("taken");
    let asked = bench.sent().remove(0);
    bench.reply(&asked, Code::ACCESS_REJECT, signed);
    assert_eq!(bench.health(), ["alive", "alive"]);
}

#[test]
fn of_dead_servers_the_one_that_is_dead_longest() {
    let mut bench = Bench::new(vec![server(1, 1), server(2, 2)]);
    bench
        .ask(Ask {
            patience: Duration::from_secs(29),
            ..ask(1, "bob")
        })
        .expect("taken");
    bench.seconds(29);
    assert_eq!(bench.health(), ["dead", "dead"]);
    bench.ask(ask(2, "ada")).expect("taken");
    let first = bench.sent().remove(0);
    assert_eq!(to_host(&first), 1);
    let all = bench.seconds(3);
    assert_eq!(to_host(&sent(&all)[0]), 2, "each gets one try");
    // Both are back.
    bench.reply(&sent(&all)[0], Code::ACCESS_ACCEPT, signed);
    assert_eq!(bench.answers(), [(2, Code::ACCESS_ACCEPT)]);
    assert_eq!(bench.health(), ["dead", "alive"]);
}

#[test]
fn a_suspect_server_comes_after_those_that_are_alive() {
    let mut bench = Bench::new(vec![server(1, 1), server(2, 2)]);
    for token in 0..3 {
        bench.ask(ask(token, "bob")).expect("taken");
    }
    bench.seconds(3);
    assert_eq!(bench.health(), ["suspect", "alive"]);
    bench.ask(ask(9, "ada")).expect("taken");
    assert_eq!(to_host(&bench.sent()[0]), 2);
}

#[test]
fn servers_of_one_priority_take_turns() {
    let mut bench = Bench::new(vec![server(1, 1), server(2, 1), server(3, 2)]);
    let hosts: Vec<u32> = (0..4)
        .map(|token| {
            bench.ask(ask(token, "bob")).expect("taken");
            to_host(&bench.sent()[0])
        })
        .collect();
    assert_eq!(hosts, [1, 2, 1, 2]);
}

#[test]
fn groups_in_their_order() {
    let second = EndpointSettings {
        group: "second".to_owned(),
        ..server(1, 0)
    };
    let mut bench = Bench::new(vec![second, server(2, 9)]);
    bench
        .ask(Ask {
            groups: vec!["main".into(), "second".into()],
            ..ask(1, "bob")
        })
        .expect("taken");
    let first = bench.sent().remove(0);
    assert_eq!(to_host(&first), 2);
    let all = bench.seconds(15);
    let last = sent(&all).last().expect("sent").clone();
    assert_eq!(to_host(&last), 1);
    bench.reply(&last, Code::ACCESS_ACCEPT, signed);
    let of_group = |output: &Output| matches!(output, Output::Answered { group, .. } if group == "second");
    assert!(bench.outputs.iter().any(of_group));
    let nowhere = Ask {
        groups: vec!["third".into()],
        ..ask(2, "bob")
    };
    assert_eq!(bench.ask(nowhere), Err(AskError::NoServer));
    let accounting = Ask {
        purpose: Purpose::Accounting,
        ..ask(3, "bob")
    };
    assert_eq!(bench.ask(accounting), Err(AskError::NoServer));
}

/// A session that is born again asks again while its first request is under way.
#[test]
fn the_same_question_joins_and_another_one_takes_its_place() {
    let mut bench = Bench::new(vec![server(1, 1)]);
    bench.ask(ask(7, "bob")).expect("taken");
    let first = bench.sent().remove(0);
    bench.ask(ask(7, "bob")).expect("joined");
    assert_eq!(bench.sent(), []);
    bench.ask(ask(7, "ada")).expect("taken");
    let second = bench.sent().remove(0);
    bench.reply(&first, Code::ACCESS_ACCEPT, signed);
    assert_eq!(bench.answers(), []);
    bench.reply(&second, Code::ACCESS_REJECT, signed);
    assert_eq!(bench.answers(), [(7, Code::ACCESS_REJECT)]);
}

#[test]
fn sockets_as_the_load_needs_them() {
    let mut bench = Bench::new(vec![server(1, 1)]);
    for token in 0..600 {
        bench.ask(ask(token, "bob")).expect("taken");
    }
    let sockets: BTreeSet<u16> = bench.sent().iter().map(|sent| sent.socket).collect();
    assert_eq!(sockets.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    for token in 600..u64::from(SOCKETS_MAX) * 256 {
        bench.ask(ask(token, "bob")).expect("taken");
    }
    assert_eq!(bench.sent().len(), usize::from(SOCKETS_MAX) * 256 - 600);
    bench.ask(ask(99_999, "bob")).expect("it waits for an identifier");
    assert_eq!(bench.outputs, [Output::NoSlot]);
    bench.outputs.clear();
    bench.client.forget(0);
    bench.pass(NO_SLOT_RETRY);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn requests_are_bounded() {
    let mut bench = Bench::new(vec![server(1, 1), server(2, 1), server(3, 1), server(4, 1)]);
    let limit = u64::try_from(EXCHANGES_MAX).expect("small");
    for token in 0..limit {
        bench.ask(ask(token, "bob")).expect("taken");
    }
    assert_eq!(bench.ask(ask(limit, "bob")), Err(AskError::TooMany));
}

#[test]
fn status_server_tells_when_a_server_is_back() {
    let probed = EndpointSettings {
        status_interval: Some(Duration::from_secs(30)),
        ..server(1, 1)
    };
    let mut bench = Bench::new(vec![probed, server(2, 2)]);
    bench.ask(ask(1, "bob")).expect("taken");
    let all = bench.seconds(16);
    bench.reply(sent(&all).last().expect("sent"), Code::ACCESS_ACCEPT, signed);
    bench.outputs.clear();
    assert_eq!(bench.health(), ["dead", "alive"]);
    let all = bench.seconds(100);
    let probes = sent(&all);
    assert!(probes.len() >= 3, "{}", probes.len());
    assert!(
        probes
            .iter()
            .all(|probe| probe.octets[0] == 12 && to_host(probe) == 1)
    );
    assert_ne!(probes[0].octets[4..20], probes[1].octets[4..20], "each is new");
    bench.ask(ask(2, "bob")).expect("taken");
    assert_eq!(to_host(&bench.sent()[0]), 2, "no real request is risked");
    bench.reply(&probes[0], Code::ACCESS_ACCEPT, |_| {});
    assert_eq!(bench.health()[0], "dead", "an old probe's answer is none");
    bench.reply(probes.last().expect("some"), Code::ACCESS_ACCEPT, |_| {});
    assert_eq!(bench.health(), ["alive", "alive"]);
    bench.client.forget(2);
    assert_eq!(bench.client.poll_timeout(), None, "no more probes");
}

#[test]
fn a_reload_keeps_what_stays_and_asks_elsewhere_what_was_asked_where_nobody_is() {
    let mut bench = Bench::new(vec![server(1, 1), server(2, 2)]);
    bench.ask(ask(1, "bob")).expect("taken");
    let first = bench.sent().remove(0);
    bench.configure(vec![server(2, 2), server(3, 3)]);
    assert!(bench.outputs.contains(&Output::Close(first.endpoint)));
    bench.outputs.clear();
    bench.pass(Duration::from_secs(1));
    let second = bench.sent().remove(0);
    assert_eq!(to_host(&second), 2);
    bench.configure(vec![server(2, 2)]);
    bench.reply(&second, Code::ACCESS_ACCEPT, signed);
    assert_eq!(bench.answers(), [(1, Code::ACCESS_ACCEPT)]);
}

#[test]
fn a_broken_connection_is_not_waited_for() {
    let tls = |host, priority| EndpointSettings {
        transport: Transport::Tls(TlsSettings {
            ca: "/ca".into(),
            certificate: "/certificate".into(),
            key: "/key".into(),
            server_name: None,
        }),
        ..server(host, priority)
    };
    let mut bench = Bench::new(vec![tls(1, 1), tls(2, 2)]);
    bench.ask(ask(1, "bob")).expect("taken");
    let first = bench.sent().remove(0);
    let all = bench.seconds(5);
    assert_eq!(sent(&all), [], "nothing is sent again on one connection");
    bench
        .client
        .handle_disconnected(bench.now, first.endpoint, first.socket);
    bench.pass(Duration::from_secs(1));
    assert_eq!(to_host(&bench.sent()[0]), 2);
    assert_eq!(bench.health(), ["dead", "alive"]);
}
