//! Scenarios as text: each file of `conformance/` is prose and numbered steps, and is read by people and by this.
//!
//! A step is `<number> <verb> <argument>`; any other line is prose. Verbs: `in` a datagram arrives; `out` a
//! datagram must have left; `accept <peer> <local>`, `disconnect <local>`,
//! `stop <result> <text>` the owner acts; `wait <seconds>` time passes. Lines with the same number are one turn: what
//! leaves is looked at when all of them have been done. Nothing else may leave.
//!
//! The LNS under test: host name `lns1`, secret `tunnel-secret`, challenge 10..1f, tunnel 0x2002.

mod support;

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_protocol::avp::{DisconnectCause, ResultCode};
use holdfast_protocol::message::Cdn;
use holdfast_protocol::{Connection, Secret, SessionId, Settings};

fn settings() -> Settings {
    Settings {
        host_name: b"lns1".to_vec(),
        vendor_name: Vec::new(),
        firmware: 0,
        secret: Some(Secret::new("tunnel-secret")),
        challenge: Some(std::array::from_fn(|at| 0x10 + at as u8)),
        ..Settings::default()
    }
}

struct Run {
    now: Duration,
    connection: Option<Connection>,
    left: VecDeque<String>,
}

impl Run {
    fn step(&mut self, verb: &str, argument: &str) {
        if verb == "out" {
            self.drain();
            assert_eq!(self.left.pop_front().as_deref(), Some(argument));
            return;
        }
        match verb {
            "in" => self.input(&octets(argument)),
            "wait" => self.wait(argument.parse().expect("seconds")),
            "accept" => {
                let (peer, local) = argument.split_once(' ').expect("two ids");
                let now = self.now;
                self.lns().accept_call(now, id(peer), id(local)).expect("offered");
            }
            "disconnect" => {
                let cause = DisconnectCause {
                    code: 1,
                    protocol: 0,
                    direction: 0,
                    text: Vec::new(),
                };
                let cdn = Cdn {
                    disconnect: vec![cause],
                    ..Cdn::new(ResultCode::new(3))
                };
                let now = self.now;
                self.lns().close_call(now, id(argument), cdn).expect("a call");
            }
            "stop" => {
                let (result, text) = argument.split_once(' ').expect("result and text");
                let result = ResultCode::with_error(result.parse().expect("a number"), 0, text);
                let now = self.now;
                self.lns().close(now, result);
            }
            other => panic!("no such verb: {other}"),
        }
    }

    fn end_of_turn(&mut self) {
        self.drain();
        assert_eq!(self.left, [] as [&str; 0], "left unexpectedly");
    }

    fn lns(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("an SCCRQ came first")
    }

    fn input(&mut self, datagram: &[u8]) {
        let now = self.now;
        match &mut self.connection {
            Some(connection) => connection.handle_input(now, datagram).expect("a valid message"),
            None => self.connection = support::respond(&settings(), now, datagram),
        }
    }

    fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.lns().poll_timeout().filter(|due| *due <= end) {
            self.lns().handle_timeout(due);
            self.now = due;
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        let now = self.now;
        let lns = self.lns();
        lns.accept(now, lns.progress());
        while let Some(octets) = self.lns().poll_transmit(now) {
            self.left
                .push_back(octets.iter().map(|octet| format!("{octet:02x}")).collect());
        }
        while self.lns().poll_event().is_some() {}
    }
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}

fn id(hex: &str) -> SessionId {
    SessionId::new(u16::from_str_radix(hex, 16).expect("hex")).expect("not zero")
}

fn run(scenario: &str) {
    let mut run = Run {
        now: Duration::from_secs(1000),
        connection: None,
        left: VecDeque::new(),
    };
    let steps = scenario
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let mut turn = "1";
    for step in steps {
        println!("{step}");
        let mut words = step.splitn(3, ' ');
        let (number, verb, argument) = (words.next(), words.next(), words.next());
        if number != Some(turn) {
            run.end_of_turn();
            turn = number.expect("a number");
        }
        run.step(verb.expect("a verb"), argument.expect("an argument").trim());
    }
    run.end_of_turn();
}

#[test]
fn complete_exchange() {
    run(include_str!("conformance/01-complete-exchange.txt"));
}

#[test]
fn s_30_s_31_s_39_lost_and_late() {
    run(include_str!("conformance/02-lost-and-late.txt"));
}

#[test]
fn s_53_s_54_unknown_mandatory_avp() {
    run(include_str!("conformance/03-unknown-mandatory-avp.txt"));
}
