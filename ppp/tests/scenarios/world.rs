//! A link, a client, a line between them and a session table, in virtual time.
//!
//! At every step the world checks what the commit gate promises: an IPCP Configure-Ack leaves only while the table holds
//! that very request, and a client comes up only while it is in the table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_ppp::frame::Frame;
use holdfast_ppp::packet::Packet;
use holdfast_ppp::{Cause, Link, LinkConfig, Ncp, OpenLink, Output, Secret, Transition, Verdict};

use crate::bench::{ACK, IPCP, IPV6CP, ipcp_config, ipv6cp_config, seconds};
use crate::client::Client;

const LINE: Duration = Duration::from_millis(10);
const RADIUS: Duration = Duration::from_millis(50);

/// Whether the line loses a frame.
pub type Loss = Box<dyn FnMut(&[u8]) -> bool>;

enum Happening {
    ToServer(Vec<u8>),
    ToClient(Vec<u8>),
    Verdict(u32, Verdict),
    Accepted(u32, Option<Box<OpenLink>>),
}

pub struct World {
    pub link: Link,
    pub client: Client,
    pub now: Duration,
    /// Until a commit is accepted; `None` for never.
    pub commit_delay: Option<Duration>,
    pub lose: Loss,
    /// The session table.
    pub row: Option<Box<OpenLink>>,
    pub authentications: u32,
    /// Whether the link may open IPV6CP too.
    pub grants_ipv6: bool,
    pub finished: Option<Cause>,
    pub up: bool,
    pub up6: bool,
    /// How often the client had come up when we last looked.
    ups: usize,
    config: Arc<LinkConfig>,
    seeds: u64,
    happenings: BTreeMap<(Duration, u64), Happening>,
    serial: u64,
}

impl World {
    pub fn new(config: LinkConfig) -> Self {
        let config = Arc::new(config);
        Self {
            link: Link::start(Duration::ZERO, config.clone(), None, 1),
            client: Client::new(0xc11e_0001),
            now: Duration::ZERO,
            commit_delay: Some(Duration::ZERO),
            lose: Box::new(|_| false),
            row: None,
            authentications: 0,
            grants_ipv6: false,
            finished: None,
            up: false,
            up6: false,
            ups: 0,
            config,
            seeds: 1,
            happenings: BTreeMap::new(),
            serial: 0,
        }
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.serial += 1;
        self.happenings.insert((self.now + delay, self.serial), happening);
    }

    /// The process dies and comes back, or another node takes over: what was on its way inside is gone.
    pub fn reborn(&mut self) {
        self.seeds += 1;
        self.happenings
            .retain(|_, happening| matches!(happening, Happening::ToServer(_) | Happening::ToClient(_)));
        self.link = match &self.row {
            Some(row) => Link::resume(self.now, self.config.clone(), row, self.seeds),
            None => Link::start(self.now, self.config.clone(), None, self.seeds),
        };
        let open = |ncp| {
            self.row
                .as_ref()
                .is_some_and(|row| row.ncps.iter().any(|open| open.ncp() == ncp))
        };
        (self.up, self.up6) = (open(Ncp::Ipcp), open(Ncp::Ipv6cp));
        self.exchange();
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.exchange();
        loop {
            let next = [
                self.happenings.keys().next().map(|(at, _)| *at),
                self.link.poll_timeout(),
                self.client.poll_timeout(),
            ];
            let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some(first) = self
            .happenings
            .first_entry()
            .filter(|first| first.key().0 <= self.now)
        {
            match first.remove() {
                Happening::ToServer(octets) => self.link.handle_input(self.now, &octets),
                Happening::ToClient(octets) => self.client.handle_input(self.now, &octets),
                Happening::Verdict(serial, verdict) => self.link.verdict(self.now, serial, verdict),
                Happening::Accepted(serial, row) => {
                    self.row = row;
                    self.link.commit_accepted(self.now, serial);
                }
            }
            self.exchange();
        }
        self.link.handle_timeout(self.now);
        if self.client.poll_timeout().is_some_and(|due| due <= self.now) {
            self.client.handle_timeout(self.now);
        }
        self.exchange();
    }

    /// Carries what both sides have to say, and looks at it.
    fn exchange(&mut self) {
        while let Some(output) = self.link.poll_output() {
            self.obey(output);
        }
        for octets in std::mem::take(&mut self.client.out) {
            if !(self.lose)(&octets) {
                self.after(LINE, Happening::ToServer(octets));
            }
        }
        if self.client.ups.len() > self.ups {
            self.ups = self.client.ups.len();
            assert!(
                self.row.is_some(),
                "a client has come up that the table does not know"
            );
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Frame(octets) => {
                self.check_frame(&octets);
                if !(self.lose)(&octets) {
                    self.after(LINE, Happening::ToClient(octets));
                }
            }
            Output::Authenticate { serial, request } => {
                self.authentications += 1;
                let accepted = request.verify(&Secret::new(*b"clientPass"));
                let verdict = match (accepted, request.credential.method()) {
                    (Some(accepted), _) => Verdict::Accept {
                        ipcp: Some(ipcp_config()),
                        ipv6cp: self.grants_ipv6.then(ipv6cp_config),
                        message: Vec::new(),
                        ms_chap_success: accepted.ms_chap_success,
                    },
                    (None, None) => Verdict::Accept {
                        ipcp: Some(ipcp_config()),
                        ipv6cp: self.grants_ipv6.then(ipv6cp_config),
                        message: Vec::new(),
                        ms_chap_success: None,
                    },
                    (None, Some(_)) => Verdict::Reject {
                        message: Vec::new(),
                        ms_chap_error: None,
                    },
                };
                self.after(RADIUS, Happening::Verdict(serial, verdict));
            }
            Output::Commit { serial, transition } => {
                let row = match transition {
                    Transition::Open(row) => Some(row),
                    Transition::Leave => None,
                };
                if let Some(delay) = self.commit_delay {
                    self.after(delay, Happening::Accepted(serial, row));
                }
            }
            Output::Up(Ncp::Ipcp) => self.up = true,
            Output::Down(Ncp::Ipcp) => self.up = false,
            Output::Up(Ncp::Ipv6cp) => self.up6 = true,
            Output::Down(Ncp::Ipv6cp) => self.up6 = false,
            Output::Finished(cause) => self.finished = Some(cause),
            Output::Count(_) => {}
        }
    }

    fn check_frame(&self, octets: &[u8]) {
        let frame = Frame::parse(octets).unwrap();
        let packet = Packet::parse(frame.information).unwrap();
        if matches!((frame.protocol, packet.code), (IPCP | IPV6CP, ACK)) {
            let row = self
                .row
                .as_ref()
                .expect("a Configure-Ack left that no row stands for");
            let ncp = row
                .ncps
                .iter()
                .find(|open| open.ncp().protocol() == frame.protocol);
            assert_eq!(
                ncp.map(|open| open.request_id),
                Some(packet.id),
                "a Configure-Ack left for another request"
            );
        }
    }

    /// Dials and waits until the client is up.
    pub fn dial_in(&mut self) {
        self.client.dial(self.now);
        for _ in 0..30 {
            self.run_for(seconds(1));
            if self.client.is_up() && self.up {
                return;
            }
        }
        panic!("not up after 30 s");
    }
}
