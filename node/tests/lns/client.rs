//! A subscriber's PPP, as pppd behaves: it acknowledges at once, repeats its requests under the same identifier every three
//! seconds, ten times, and takes its interface down at a Configure-Request on an open protocol.

use std::time::Duration;

use holdfast_ppp::frame::{self, Frame};
use holdfast_ppp::packet::{ConfigOption, Packet, encode_options, parse_options};

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

impl Asking {
    fn stop(&mut self) {
        self.again_at = None;
    }
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
    /// Asked ten times without an answer.
    pub gave_up: bool,
    /// How often the interface came up.
    pub ups: u32,
    /// How often it went down.
    pub downs: u32,
    /// LCP Configure-Requests of the server.
    pub lcp_requests: u32,
    /// PAP requests sent.
    pub pap_requests: u32,
    /// The link was terminated, by either side.
    pub terminated: bool,
    /// To the server.
    pub out: Vec<Vec<u8>>,
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
            gave_up: false,
            ups: 0,
            downs: 0,
            lcp_requests: 0,
            pap_requests: 0,
            terminated: false,
            out: Vec::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.ups > self.downs
    }

    pub fn address(&self) -> &[u8] {
        &self.options[0].value
    }

    /// Starts LCP, for the first time or anew.
    pub fn dial(&mut self, now: Duration) {
        self.take_down();
        self.lcp = Layer {
            id: self.lcp.id.wrapping_add(1),
            ..Layer::default()
        };
        let options = [&[1, 4, 5, 0xd4, 5, 6][..], &self.magic.to_be_bytes()].concat();
        self.ask(now, LCP, self.lcp.id, &options);
    }

    pub fn hang_up(&mut self, now: Duration) {
        self.take_down();
        self.terminated = true;
        self.asking = Asking::default();
        let frame = encode(LCP, TERMINATE, 77, &[]);
        self.repeat(now, frame);
    }

    fn take_down(&mut self) {
        if self.is_up() {
            self.downs += 1;
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
            self.gave_up = true;
            return self.asking.stop();
        }
        self.asking.tries += 1;
        self.asking.again_at = Some(now + REPEAT);
        self.out.push(self.asking.frame.clone());
    }

    pub fn handle_input(&mut self, now: Duration, octets: &[u8]) {
        let frame = Frame::parse(octets).expect("the server sends frames");
        let packet = Packet::parse(frame.information).expect("the server sends packets");
        match frame.protocol {
            LCP => self.handle_lcp(now, &packet),
            PAP if self.lcp.is_open() && packet.code == ACK => self.enter_network(now),
            IPCP if self.authenticated => self.handle_ipcp(now, &packet),
            _ => {}
        }
    }

    fn handle_lcp(&mut self, now: Duration, packet: &Packet<'_>) {
        match packet.code {
            REQUEST if self.terminated => {}
            REQUEST => {
                self.lcp_requests += 1;
                if self.lcp.is_open() {
                    self.dial(now);
                }
                let options = parse_options(packet.data).expect("options");
                self.wants_pap = options.iter().any(|option| option.kind == 3);
                self.lcp.acking = true;
                self.answer(LCP, ACK, packet.id, packet.data);
                self.lcp_may_be_open(now);
            }
            ACK if packet.id == self.lcp.id && !self.lcp.acked => {
                self.lcp.acked = true;
                self.asking.stop();
                self.lcp_may_be_open(now);
            }
            TERMINATE => {
                self.terminated = true;
                self.asking.stop();
                self.take_down();
                self.answer(LCP, TERMINATE_ACK, packet.id, &[]);
            }
            TERMINATE_ACK if self.terminated => self.asking.stop(),
            ECHO_REQUEST => {
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
            self.pap_requests += 1;
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
                    self.take_down();
                    self.ask_ipcp(now);
                }
                self.ipcp.acking = true;
                self.answer(IPCP, ACK, packet.id, packet.data);
                self.ipcp_may_be_open();
            }
            ACK if packet.id == self.ipcp.id && !self.ipcp.acked => {
                self.ipcp.acked = true;
                self.asking.stop();
                self.ipcp_may_be_open();
            }
            NAK | REJECT if packet.id == self.ipcp.id && !self.ipcp.acked => {
                let answers = parse_options(packet.data).expect("options");
                if let Some(address) = answers.iter().find(|option| option.kind == 3) {
                    self.options[0].value.clone_from(&address.value);
                }
                self.ask_ipcp(now);
            }
            _ => {}
        }
    }

    fn ipcp_may_be_open(&mut self) {
        if self.ipcp.is_open() && !self.is_up() {
            self.ups += 1;
        }
    }
}

fn encode(protocol: u16, code: u8, id: u8, data: &[u8]) -> Vec<u8> {
    frame::encode(protocol, &Packet { code, id, data }.encode())
}
