//! A dial-in client, as pppd behaves: it acknowledges at once, repeats its own requests under the same identifier every
//! three seconds but never a CHAP Response, hears no network protocol before it is authenticated, and takes its interface down at a Configure-Request on an open protocol. Plain state.

use std::time::Duration;

use holdfast_ppp::auth::ms_chap;
use holdfast_ppp::frame::{self, Frame};
use holdfast_ppp::packet::{ConfigOption, Packet, encode_options, parse_options};
use md5::{Digest, Md5};

use crate::bench::{
    ACK, CHAP, GOOD_IPV6CP, IPCP, IPV6CP, LCP, NAK, PAP, PROTOCOL_REJECT, REJECT, REQUEST, TERMINATE,
    TERMINATE_ACK, encode, seconds,
};

const REPEAT: Duration = seconds(3);
const NAME: &[u8] = b"User";
const PASSWORD: &[u8] = b"clientPass";

/// One protocol of the client: whether its own request is acknowledged, and whether it has acknowledged ours.
#[derive(Default)]
struct Layer {
    id: u8,
    acked: bool,
    acking: bool,
    repeat_at: Option<Duration>,
}

impl Layer {
    fn is_open(&self) -> bool {
        self.acked && self.acking
    }

    fn begin(&mut self, now: Duration) {
        *self = Self {
            id: self.id.wrapping_add(1),
            repeat_at: Some(now + REPEAT),
            ..Self::default()
        };
    }
}

pub struct Client {
    lcp: Layer,
    ipcp: Layer,
    /// For a client that wants IPv6.
    ipv6cp: Option<Layer>,
    pub magic: u32,
    /// The authentication that the server has asked for.
    auth: Vec<u8>,
    authenticated: bool,
    pap_id: u8,
    /// When PAP repeats its request. A CHAP Response is not repeated: it waits for the next challenge.
    auth_at: Option<Duration>,
    ipcp_options: Vec<ConfigOption>,
    /// How often the interface has come up and gone down.
    pub ups: Vec<Duration>,
    pub downs: Vec<Duration>,
    pub terminated: bool,
    /// Frames on their way to the server.
    pub out: Vec<Vec<u8>>,
}

impl Client {
    pub fn new(magic: u32) -> Self {
        let wishes = [
            (2, vec![0, 0x2d, 15, 1]),
            (3, vec![0; 4]),
            (129, vec![0; 4]),
            (131, vec![0; 4]),
        ];
        Self {
            lcp: Layer::default(),
            ipcp: Layer::default(),
            ipv6cp: None,
            magic,
            auth: Vec::new(),
            authenticated: false,
            pap_id: 0,
            auth_at: None,
            ipcp_options: wishes.map(|(kind, value)| ConfigOption { kind, value }).to_vec(),
            ups: Vec::new(),
            downs: Vec::new(),
            terminated: false,
            out: Vec::new(),
        }
    }

    /// One that asks for IPv6 as well.
    pub fn with_ipv6(magic: u32) -> Self {
        Self {
            ipv6cp: Some(Layer::default()),
            ..Self::new(magic)
        }
    }

    pub fn has_ipv6(&self) -> bool {
        self.ipv6cp.as_ref().is_some_and(Layer::is_open)
    }

    pub fn is_up(&self) -> bool {
        self.ups.len() > self.downs.len()
    }

    /// The address that it has been given.
    pub fn address(&self) -> Option<&[u8]> {
        self.ipcp_options
            .iter()
            .find(|option| option.kind == 3)
            .map(|option| &option.value[..])
    }

    /// Starts LCP, for the first time or anew.
    pub fn dial(&mut self, now: Duration) {
        self.take_down(now);
        self.lcp.begin(now);
        self.send_lcp_request();
    }

    /// Asks to renegotiate IPCP alone.
    pub fn redo_ipcp(&mut self, now: Duration) {
        self.take_down(now);
        self.ipcp.begin(now);
        self.send_ipcp_request();
    }

    pub fn hang_up(&mut self, now: Duration) {
        self.take_down(now);
        self.send(LCP, TERMINATE, 77, b"bye");
    }

    fn take_down(&mut self, now: Duration) {
        if self.is_up() {
            self.downs.push(now);
        }
    }

    fn send(&mut self, protocol: u16, code: u8, id: u8, data: &[u8]) {
        self.out.push(encode(protocol, code, id, data));
    }

    fn send_lcp_request(&mut self) {
        let options = [
            &[1, 4, 0x05, 0xd4, 5, 6][..],
            &self.magic.to_be_bytes(),
            &[7, 2, 8, 2],
        ]
        .concat();
        self.send(LCP, REQUEST, self.lcp.id, &options);
    }

    fn send_ipcp_request(&mut self) {
        self.send(IPCP, REQUEST, self.ipcp.id, &encode_options(&self.ipcp_options));
    }

    fn send_pap(&mut self, now: Duration) {
        self.pap_id += 1;
        self.auth_at = Some(now + REPEAT);
        let data = [&[NAME.len() as u8], NAME, &[PASSWORD.len() as u8], PASSWORD].concat();
        self.send(PAP, 1, self.pap_id, &data);
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let ipv6cp = self.ipv6cp.as_ref().and_then(|layer| layer.repeat_at);
        [self.lcp.repeat_at, self.ipcp.repeat_at, ipv6cp, self.auth_at]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        let due = |at: Option<Duration>| at.is_some_and(|at| now >= at);
        if due(self.lcp.repeat_at) {
            self.lcp.repeat_at = Some(now + REPEAT);
            self.send_lcp_request();
        }
        if due(self.ipcp.repeat_at) {
            self.ipcp.repeat_at = Some(now + REPEAT);
            self.send_ipcp_request();
        }
        if let Some(layer) = self.ipv6cp.as_mut().filter(|layer| due(layer.repeat_at)) {
            layer.repeat_at = Some(now + REPEAT);
            let id = layer.id;
            self.send(IPV6CP, REQUEST, id, &GOOD_IPV6CP);
        }
        if due(self.auth_at) {
            self.send_pap(now);
        }
    }

    pub fn handle_input(&mut self, now: Duration, octets: &[u8]) {
        let frame = Frame::parse(octets).unwrap();
        let packet = Packet::parse(frame.information).unwrap();
        match frame.protocol {
            LCP => self.handle_lcp(now, &packet),
            PAP | CHAP if self.lcp.is_open() => self.handle_auth(now, frame.protocol, &packet),
            IPCP if self.authenticated => self.handle_ipcp(now, &packet),
            IPV6CP if self.authenticated => self.handle_ipv6cp(now, &packet),
            _ => {}
        }
    }

    fn handle_lcp(&mut self, now: Duration, packet: &Packet<'_>) {
        match packet.code {
            REQUEST => {
                if self.lcp.is_open() {
                    self.dial(now);
                }
                let options = parse_options(packet.data).unwrap();
                self.auth = options
                    .iter()
                    .find(|option| option.kind == 3)
                    .map_or(Vec::new(), |o| o.value.clone());
                self.lcp.acking = true;
                self.send(LCP, ACK, packet.id, packet.data);
                self.lcp_may_be_open(now);
            }
            ACK if packet.id == self.lcp.id && !self.lcp.acked => {
                self.lcp.acked = true;
                self.lcp.repeat_at = None;
                self.lcp_may_be_open(now);
            }
            TERMINATE => {
                self.terminated = true;
                self.take_down(now);
                self.send(LCP, TERMINATE_ACK, packet.id, &[]);
            }
            9 => {
                let data = [&self.magic.to_be_bytes(), &packet.data[4..]].concat();
                self.send(LCP, 10, packet.id, &data);
            }
            _ => {}
        }
    }

    fn lcp_may_be_open(&mut self, now: Duration) {
        if !self.lcp.is_open() {
            return;
        }
        (self.authenticated, self.auth_at) = (false, None);
        self.ipcp = Layer {
            id: self.ipcp.id,
            ..Layer::default()
        };
        if let Some(layer) = &mut self.ipv6cp {
            *layer = Layer {
                id: layer.id,
                ..Layer::default()
            };
        }
        match self.auth[..] {
            [] => self.enter_network(now),
            [0xc0, 0x23] => self.send_pap(now),
            _ => {}
        }
    }

    fn handle_auth(&mut self, now: Duration, protocol: u16, packet: &Packet<'_>) {
        match (protocol, packet.code) {
            (PAP, 2) | (CHAP, 3) if !self.authenticated => self.enter_network(now),
            (CHAP, 1) => {
                let challenge: &[u8; 16] = packet.data[1..17].try_into().unwrap();
                let value = match self.auth[2] {
                    5 => Md5::new()
                        .chain_update([packet.id])
                        .chain_update(PASSWORD)
                        .chain_update(challenge)
                        .finalize()
                        .to_vec(),
                    _ => {
                        let hash = ms_chap::nt_password_hash(PASSWORD).unwrap();
                        let hashed = ms_chap::challenge_hash(&[9; 16], challenge, NAME);
                        [&[9; 16][..], &[0; 8], &ms_chap::nt_response(&hashed, &hash), &[0]].concat()
                    }
                };
                let response = [&[value.len() as u8], &value[..], NAME].concat();
                self.send(CHAP, 2, packet.id, &response);
            }
            _ => {}
        }
    }

    fn enter_network(&mut self, now: Duration) {
        self.authenticated = true;
        self.auth_at = None;
        self.ipcp.begin(now);
        self.send_ipcp_request();
        self.begin_ipv6cp(now);
    }

    fn handle_ipcp(&mut self, now: Duration, packet: &Packet<'_>) {
        match packet.code {
            REQUEST => {
                if self.ipcp.is_open() {
                    self.redo_ipcp(now);
                }
                self.ipcp.acking = true;
                self.send(IPCP, ACK, packet.id, packet.data);
                self.ipcp_may_be_open(now);
            }
            ACK if packet.id == self.ipcp.id && !self.ipcp.acked => {
                self.ipcp.acked = true;
                self.ipcp.repeat_at = None;
                self.ipcp_may_be_open(now);
            }
            NAK | REJECT if packet.id == self.ipcp.id && !self.ipcp.acked => {
                for answer in parse_options(packet.data).unwrap() {
                    match packet.code {
                        NAK => self
                            .ipcp_options
                            .iter_mut()
                            .filter(|own| own.kind == answer.kind)
                            .for_each(|own| {
                                own.value.clone_from(&answer.value);
                            }),
                        _ => self.ipcp_options.retain(|own| own.kind != answer.kind),
                    }
                }
                let acking = self.ipcp.acking;
                self.ipcp.begin(now);
                self.ipcp.acking = acking;
                self.send_ipcp_request();
            }
            _ => {}
        }
    }

    fn begin_ipv6cp(&mut self, now: Duration) {
        if let Some(layer) = &mut self.ipv6cp {
            layer.begin(now);
            let id = layer.id;
            self.send(IPV6CP, REQUEST, id, &GOOD_IPV6CP);
        }
    }

    fn handle_ipv6cp(&mut self, now: Duration, packet: &Packet<'_>) {
        let Some(layer) = &mut self.ipv6cp else {
            return self.send(LCP, PROTOCOL_REJECT, 1, &[0x80, 0x57]);
        };
        match packet.code {
            REQUEST => {
                if layer.is_open() {
                    self.begin_ipv6cp(now);
                }
                if let Some(layer) = &mut self.ipv6cp {
                    layer.acking = true;
                }
                self.send(IPV6CP, ACK, packet.id, packet.data);
            }
            ACK if packet.id == layer.id && !layer.acked => (layer.acked, layer.repeat_at) = (true, None),
            _ => {}
        }
    }

    fn ipcp_may_be_open(&mut self, now: Duration) {
        if self.ipcp.is_open() && !self.is_up() {
            self.ups.push(now);
        }
    }
}

/// Whether this frame is a Configure-Request of LCP from the server.
pub fn is_lcp_request(octets: &[u8]) -> bool {
    octets.starts_with(&frame::encode(LCP, &[REQUEST]))
}
