//! A subscriber's PPP, as pppd behaves: it acknowledges at once, repeats its requests under the same identifier every three
//! seconds, ten times, and takes its interface down at a Configure-Request on an open protocol.

use std::net::Ipv4Addr;
use std::time::Duration;

use holdfast_ppp::frame::{self, Frame};
use holdfast_ppp::packet::{ConfigOption, Packet, encode_options, parse_options};

use super::facts::Loss;

const LCP: u16 = 0xc021;
const PAP: u16 = 0xc023;
const IPCP: u16 = 0x8021;

const REQUEST: u8 = 1;
const ACK: u8 = 2;
const NAK: u8 = 3;
const REJECT: u8 = 4;
const TERMINATE: u8 = 5;
const TERMINATE_ACK: u8 = 6;
const ECHO_REQUEST: u8 = 9;
const ECHO_REPLY: u8 = 10;

const REPEAT: Duration = Duration::from_secs(3);
const TRIES: u32 = 10;

/// What is said until it is answered.
#[derive(Debug, Default)]
struct Asking {
    frame: Vec<u8>,
    again_at: Option<Duration>,
    tries: u32,
}

#[derive(Debug, Default)]
struct Layer {
    id: u8,
    acked: bool,
    acking: bool,
}

impl Layer {
    fn is_open(&self) -> bool {
        self.acked && self.acking
    }
}

/// What befell the client.
#[derive(Debug)]
pub enum Event {
    Up(Ipv4Addr),
    Down(Loss),
    /// Asked ten times without an answer, or the link is terminated: the line is of no more use.
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    name: Vec<u8>,
    magic: u32,
    lcp: Layer,
    ipcp: Layer,
    wants_pap: bool,
    authenticated: bool,
    options: Vec<ConfigOption>,
    asking: Asking,
    terminated: bool,
    up: bool,
    echo: u8,
    /// To the server.
    pub out: Vec<Vec<u8>>,
    /// To be told.
    pub events: Vec<Event>,
}

impl Client {
    /// Not dialled yet.
    pub fn new(name: &str, magic: u32) -> Self {
        Self {
            name: name.into(),
            magic,
            lcp: Layer::default(),
            ipcp: Layer::default(),
            wants_pap: false,
            authenticated: false,
            options: vec![ConfigOption::new(3, [0; 4])],
            asking: Asking::default(),
            terminated: false,
            up: false,
            echo: 0,
            out: Vec::new(),
            events: Vec::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    pub fn address(&self) -> Ipv4Addr {
        let octets: [u8; 4] = self.options[0].value.as_slice().try_into().unwrap_or_default();
        Ipv4Addr::from(octets)
    }

    /// Starts LCP, for the first time or anew.
    pub fn dial(&mut self, now: Duration) {
        self.lcp = Layer {
            id: self.lcp.id.wrapping_add(1),
            ..Layer::default()
        };
        let options = [&[1, 4, 5, 0xd4, 5, 6][..], &self.magic.to_be_bytes()].concat();
        self.ask(now, LCP, self.lcp.id, &options);
    }

    pub fn hang_up(&mut self, now: Duration) {
        self.take_down(Loss::Wanted);
        self.terminated = true;
        let frame = encode(LCP, TERMINATE, 77, &[]);
        self.repeat(now, frame);
    }

    /// Begins PPP anew in the same call.
    pub fn renegotiate(&mut self, now: Duration) {
        if self.up {
            self.take_down(Loss::Wanted);
            self.dial(now);
        }
    }

    /// Asks whether the server is there.
    pub fn send_echo(&mut self) {
        if self.up {
            self.echo = self.echo.wrapping_add(1);
            let frame = encode(LCP, ECHO_REQUEST, self.echo, &self.magic.to_be_bytes());
            self.out.push(frame);
        }
    }

    /// The interface goes down, if it was up.
    pub fn take_down(&mut self, loss: Loss) {
        if std::mem::take(&mut self.up) {
            self.events.push(Event::Down(loss));
        }
    }

    fn ask(&mut self, now: Duration, protocol: u16, id: u8, data: &[u8]) {
        let frame = encode(protocol, REQUEST, id, data);
        self.repeat(now, frame);
    }

    fn repeat(&mut self, now: Duration, frame: Vec<u8>) {
        self.out.push(frame.clone());
        self.asking = Asking {
            frame,
            again_at: Some(now + REPEAT),
            tries: 1,
        };
    }

    fn answer(&mut self, protocol: u16, code: u8, id: u8, data: &[u8]) {
        self.out.push(encode(protocol, code, id, data));
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.asking.again_at
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if self.asking.again_at.is_none_or(|at| now < at) {
            return;
        }
        if self.asking.tries == TRIES {
            self.asking.again_at = None;
            return self.events.push(Event::Over);
        }
        self.asking.tries += 1;
        self.asking.again_at = Some(now + REPEAT);
        self.out.push(self.asking.frame.clone());
    }

    pub fn handle_input(&mut self, now: Duration, octets: &[u8]) {
        let Ok(frame) = Frame::parse(octets) else { return };
        let Ok(packet) = Packet::parse(frame.information) else {
            return;
        };
        match frame.protocol {
            LCP => self.handle_lcp(now, &packet),
            // An answer of before a renegotiation is none.
            PAP if self.lcp.is_open() && packet.code == ACK && packet.id == self.lcp.id => {
                self.enter_network(now)
            }
            IPCP if self.authenticated => self.handle_ipcp(now, &packet),
            _ => {}
        }
    }

    fn handle_lcp(&mut self, now: Duration, packet: &Packet<'_>) {
        match packet.code {
            REQUEST if self.terminated => {}
            REQUEST => {
                if self.lcp.is_open() {
                    self.take_down(Loss::Renegotiated);
                    self.dial(now);
                }
                let options = parse_options(packet.data).unwrap_or_default();
                self.wants_pap = options.iter().any(|option| option.kind == 3);
                self.lcp.acking = true;
                self.answer(LCP, ACK, packet.id, packet.data);
                self.lcp_may_be_open(now);
            }
            ACK if packet.id == self.lcp.id && !self.lcp.acked => {
                self.lcp.acked = true;
                self.asking.again_at = None;
                self.lcp_may_be_open(now);
            }
            TERMINATE => {
                self.take_down(Loss::Terminated);
                self.terminated = true;
                self.asking.again_at = None;
                self.answer(LCP, TERMINATE_ACK, packet.id, &[]);
                self.events.push(Event::Over);
            }
            TERMINATE_ACK if self.terminated => {
                self.asking.again_at = None;
                self.events.push(Event::Over);
            }
            ECHO_REQUEST if packet.data.len() >= 4 => {
                let data = [&self.magic.to_be_bytes(), &packet.data[4..]].concat();
                self.answer(LCP, ECHO_REPLY, packet.id, &data);
            }
            _ => {}
        }
    }

    fn lcp_may_be_open(&mut self, now: Duration) {
        if !self.lcp.is_open() {
            return;
        }
        self.authenticated = false;
        self.ipcp = Layer {
            id: self.ipcp.id,
            ..Layer::default()
        };
        if self.wants_pap {
            let data = [&[self.name.len() as u8], &self.name[..], &[2], b"pw"].concat();
            self.ask(now, PAP, self.lcp.id, &data);
        } else {
            self.enter_network(now);
        }
    }

    fn enter_network(&mut self, now: Duration) {
        if !self.authenticated {
            self.authenticated = true;
            self.ask_ipcp(now);
        }
    }

    fn ask_ipcp(&mut self, now: Duration) {
        self.ipcp.id = self.ipcp.id.wrapping_add(1);
        self.ipcp.acked = false;
        self.ask(now, IPCP, self.ipcp.id, &encode_options(&self.options));
    }

    fn handle_ipcp(&mut self, now: Duration, packet: &Packet<'_>) {
        match packet.code {
            REQUEST => {
                if self.ipcp.is_open() {
                    self.take_down(Loss::Renegotiated);
                    self.ask_ipcp(now);
                }
                self.ipcp.acking = true;
                self.answer(IPCP, ACK, packet.id, packet.data);
                self.ipcp_may_be_open();
            }
            ACK if packet.id == self.ipcp.id && !self.ipcp.acked => {
                self.ipcp.acked = true;
                self.asking.again_at = None;
                self.ipcp_may_be_open();
            }
            NAK | REJECT if packet.id == self.ipcp.id && !self.ipcp.acked => {
                let answers = parse_options(packet.data).unwrap_or_default();
                if let Some(address) = answers.iter().find(|option| option.kind == 3) {
                    self.options[0].value.clone_from(&address.value);
                }
                self.ask_ipcp(now);
            }
            _ => {}
        }
    }

    fn ipcp_may_be_open(&mut self) {
        if self.ipcp.is_open() && !self.up {
            self.up = true;
            self.events.push(Event::Up(self.address()));
        }
    }
}

fn encode(protocol: u16, code: u8, id: u8, data: &[u8]) -> Vec<u8> {
    frame::encode(protocol, &Packet { code, id, data }.encode())
}
