//! A server made of `protocol::Connection` and `ppp::Link`, with a table that accepts everything at once and outlives
//! the process in memory. No admission, no accounting, one pool.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_ppp::{
    self as ppp, AuthMethod, IpcpConfig, Link, LinkConfig, OpenLink, Output, Transition, Verdict,
};
use holdfast_protocol::avp::{Context, ResultCode};
use holdfast_protocol::header::{self, DataHeader, Packet};
use holdfast_protocol::message::{Cdn, Message};
use holdfast_protocol::{Connection, Event, Secret, SessionId, Settings, Snapshot, TunnelId};

const LOCAL: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// A server that has just started leaves unfinished PPP alone for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// A datagram to a LAC.
#[derive(Clone, Debug)]
pub struct Reply {
    pub lac: u16,
    pub octets: Vec<u8>,
}

struct Tunnel {
    lac: u16,
    connection: Connection,
    sessions: BTreeMap<SessionId, Session>,
}

struct Session {
    peer: SessionId,
    address: Ipv4Addr,
    /// None between ICRP and ICCN.
    link: Option<Link>,
    /// What the table holds of an open link.
    row: Option<Box<OpenLink>>,
    numbered: bool,
    ns: u16,
}

/// What the table holds of a tunnel: enough to be born again.
struct Row {
    lac: u16,
    snapshot: Snapshot,
    sessions: BTreeMap<SessionId, Session>,
}

pub struct Lns {
    tunnels: BTreeMap<TunnelId, Tunnel>,
    rows: Vec<(TunnelId, Row)>,
    /// Which tunnel an SCCRQ has made: repeats go to it.
    requests: HashMap<(u16, TunnelId), TunnelId>,
    settings: Settings,
    config: Arc<LinkConfig>,
    replies: Vec<Reply>,
    next_tunnel: u16,
    next_session: u16,
    next_address: u32,
    seed: u64,
    dead: bool,
    restart_ppp_at: Option<Duration>,
}

impl Lns {
    pub fn new(seed: u64) -> Self {
        let auth = vec![AuthMethod::ChapMd5, AuthMethod::MsChapV2, AuthMethod::Pap];
        Self {
            tunnels: BTreeMap::new(),
            rows: Vec::new(),
            requests: HashMap::new(),
            settings: Settings {
                challenge: Some([7; 16]),
                ..Settings::default()
            },
            config: Arc::new(LinkConfig {
                auth,
                ..LinkConfig::default()
            }),
            replies: Vec::new(),
            next_tunnel: 0,
            next_session: 0,
            next_address: 0,
            seed,
            dead: false,
            restart_ppp_at: None,
        }
    }

    pub fn set_secret(&mut self, secret: Option<&str>) {
        self.settings.secret = secret.map(Secret::new);
    }

    /// Sessions that the server knows.
    pub fn sessions(&self) -> usize {
        self.tunnels.values().map(|tunnel| tunnel.sessions.len()).sum()
    }

    pub fn take_replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    /// The process dies; what the table holds stays.
    pub fn kill(&mut self) {
        self.dead = true;
        self.replies.clear();
        for (id, tunnel) in std::mem::take(&mut self.tunnels) {
            let snapshot = tunnel.connection.snapshot();
            self.rows.push((
                id,
                Row {
                    lac: tunnel.lac,
                    snapshot,
                    sessions: tunnel.sessions,
                },
            ));
        }
    }

    /// The process starts again from the table.
    pub fn start(&mut self, now: Duration) {
        self.dead = false;
        self.restart_ppp_at = Some(now + PAUSE);
        for (id, row) in std::mem::take(&mut self.rows) {
            let connection = Connection::restore(self.settings.clone(), now, &row.snapshot);
            let mut sessions = row.sessions;
            for session in sessions.values_mut() {
                self.seed += 1;
                session.link = session
                    .row
                    .as_ref()
                    .map(|row| Link::resume(now, self.config.clone(), row, self.seed));
            }
            self.tunnels.insert(
                id,
                Tunnel {
                    lac: row.lac,
                    connection,
                    sessions,
                },
            );
            self.settle(now, id);
        }
    }

    /// The process dies, and its table with it.
    pub fn forget(&mut self) {
        self.tunnels.clear();
        self.requests.clear();
    }

    pub fn handle_datagram(&mut self, now: Duration, lac: u16, octets: &[u8]) {
        if self.dead {
            return;
        }
        match header::decode(octets).expect("the simulator sends sound datagrams") {
            Packet::Control(packet) => {
                let id = match packet.header.tunnel {
                    Some(id) => id,
                    None => match self.admit(now, lac, packet.body) {
                        Some(id) => id,
                        None => return,
                    },
                };
                let Some(tunnel) = self.tunnels.get_mut(&id) else {
                    return;
                };
                let _ = tunnel.connection.handle_input(now, octets);
                self.settle(now, id);
            }
            Packet::Data(packet) => {
                let (Some(id), Some(session)) = (packet.tunnel, packet.session) else {
                    return;
                };
                self.handle_frame(now, id, session, packet.payload);
            }
        }
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if self.dead {
            return;
        }
        let restart = self.restart_ppp_at.is_some_and(|at| at <= now);
        self.restart_ppp_at = self.restart_ppp_at.filter(|_| !restart);
        for id in self.tunnels.keys().copied().collect::<Vec<_>>() {
            let tunnel = self.tunnels.get_mut(&id).expect("listed");
            let mut due = Vec::new();
            for (&local, session) in &mut tunnel.sessions {
                if restart && session.link.is_none() && session.address != Ipv4Addr::UNSPECIFIED {
                    self.seed += 1;
                    session.link = Some(Link::start(now, self.config.clone(), None, self.seed));
                    due.push(local);
                }
                let link = session.link.as_mut();
                if let Some(link) = link.filter(|link| link.poll_timeout().is_some_and(|at| at <= now)) {
                    link.handle_timeout(now);
                    due.push(local);
                }
            }
            if tunnel.connection.poll_timeout().is_some_and(|at| at <= now) {
                tunnel.connection.handle_timeout(now);
            } else if due.is_empty() {
                continue;
            }
            for session in due {
                self.drive_link(now, id, session);
            }
            self.settle(now, id);
        }
    }

    /// The tunnel of an SCCRQ, new or known.
    fn admit(&mut self, now: Duration, lac: u16, body: &[u8]) -> Option<TunnelId> {
        let context = Context {
            secret: self.settings.secret.as_ref(),
            permissive: false,
        };
        let Ok(Message::Sccrq(sccrq)) = Message::decode(body, &context) else {
            return None;
        };
        let key = (lac, sccrq.assigned_tunnel_id);
        if let Some(known) = self
            .requests
            .get(&key)
            .filter(|known| self.tunnels.contains_key(known))
        {
            return Some(*known);
        }
        self.next_tunnel += 1;
        let id = TunnelId::new(self.next_tunnel).expect("not zero");
        match Connection::respond(self.settings.clone(), now, id, &sccrq) {
            Ok(connection) => {
                self.requests.insert(key, id);
                self.tunnels.insert(
                    id,
                    Tunnel {
                        lac,
                        connection,
                        sessions: BTreeMap::new(),
                    },
                );
                self.settle(now, id);
            }
            Err(refusal) => self.replies.push(Reply {
                lac,
                octets: refusal.octets,
            }),
        }
        None
    }

    /// Acts on events, lets the table accept everything, sends what may leave.
    fn settle(&mut self, now: Duration, id: TunnelId) {
        while let Some(event) = self
            .tunnels
            .get_mut(&id)
            .and_then(|tunnel| tunnel.connection.poll_event())
        {
            self.handle_event(now, id, event);
        }
        let Some(tunnel) = self.tunnels.get_mut(&id) else {
            return;
        };
        let progress = tunnel.connection.progress();
        tunnel.connection.accept(now, progress);
        while let Some(octets) = tunnel.connection.poll_transmit(now) {
            self.replies.push(Reply {
                lac: tunnel.lac,
                octets,
            });
        }
        if tunnel.connection.is_finished() {
            self.tunnels.remove(&id);
        }
    }

    fn handle_event(&mut self, now: Duration, id: TunnelId, event: Event) {
        let tunnel = self.tunnels.get_mut(&id).expect("it has just spoken");
        match event {
            Event::CallRequested { peer, .. } => {
                self.next_session += 1;
                let local = SessionId::new(self.next_session).expect("not zero");
                tunnel.connection.accept_call(now, peer, local).expect("a new id");
                let address = Ipv4Addr::UNSPECIFIED;
                let session = Session {
                    peer,
                    address,
                    link: None,
                    row: None,
                    numbered: false,
                    ns: 0,
                };
                tunnel.sessions.insert(local, session);
            }
            Event::CallConnected { local, iccn } => {
                let session = tunnel.sessions.get_mut(&local).expect("accepted before");
                self.next_address += 1;
                self.seed += 1;
                session.address = Ipv4Addr::from(u32::from(LOCAL) + self.next_address);
                session.numbered = iccn.sequencing_required;
                let proxy = (!iccn.proxy.is_empty()).then(|| ppp::Proxy {
                    initial_received: iccn.proxy.initial_received_confreq.clone(),
                    last_sent: iccn.proxy.last_sent_confreq.clone(),
                    last_received: iccn.proxy.last_received_confreq.clone(),
                    authen_type: iccn.proxy.authen_type,
                    authen_name: iccn.proxy.authen_name.clone(),
                    authen_challenge: iccn.proxy.authen_challenge.clone(),
                    authen_id: iccn.proxy.authen_id.map(|id| id as u8),
                    authen_response: iccn.proxy.authen_response.clone().map(ppp::Secret::new),
                });
                session.link = Some(Link::start(now, self.config.clone(), proxy.as_ref(), self.seed));
                self.drive_link(now, id, local);
            }
            Event::CallClosed {
                local: Some(local), ..
            } => {
                tunnel.sessions.remove(&local);
            }
            Event::Closed(_) => tunnel.sessions.clear(),
            _ => {}
        }
    }

    fn handle_frame(&mut self, now: Duration, id: TunnelId, local: SessionId, payload: &[u8]) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else {
            return;
        };
        tunnel.connection.note_received(now);
        let Some(session) = tunnel.sessions.get_mut(&local) else {
            return;
        };
        let Some(link) = &mut session.link else { return };
        if let [0xff, 0x03, 0x00, 0x21, packet @ ..] = payload {
            link.note_received(now);
            if session.row.is_some() {
                let frame = [&[0xff, 0x03, 0x00, 0x21], &answer_ping(packet)[..]].concat();
                self.send_frame(id, local, &frame);
            }
            return;
        }
        link.handle_input(now, payload);
        self.drive_link(now, id, local);
        self.settle(now, id);
    }

    /// Does what a link asks for until it asks for nothing.
    fn drive_link(&mut self, now: Duration, id: TunnelId, local: SessionId) {
        loop {
            let Some(tunnel) = self.tunnels.get_mut(&id) else {
                return;
            };
            let Some(session) = tunnel.sessions.get_mut(&local) else {
                return;
            };
            let Some(link) = &mut session.link else { return };
            let Some(output) = link.poll_output() else { return };
            match output {
                Output::Frame(frame) => self.send_frame(id, local, &frame),
                Output::Authenticate { serial, request } => {
                    let verdict = match request.verify(&ppp::Secret::new(*b"demo")) {
                        Some(accepted) => Verdict::Accept {
                            ipcp: Some(IpcpConfig {
                                local: LOCAL,
                                peer: session.address,
                                dns: [None; 2],
                            }),
                            ipv6cp: None,
                            message: Vec::new(),
                            ms_chap_success: accepted.ms_chap_success,
                        },
                        None => Verdict::Reject {
                            message: Vec::new(),
                            ms_chap_error: None,
                        },
                    };
                    link.verdict(now, serial, verdict);
                }
                Output::Commit { serial, transition } => {
                    session.row = match transition {
                        Transition::Open(row) => Some(row),
                        Transition::Leave => None,
                    };
                    link.commit_accepted(now, serial);
                }
                Output::Finished(_) => {
                    tunnel.sessions.remove(&local);
                    let cdn = Cdn::new(ResultCode::new(3));
                    let _ = tunnel.connection.close_call(now, local, cdn);
                }
                Output::Up(_) | Output::Down(_) | Output::Count(_) => {}
            }
        }
    }

    fn send_frame(&mut self, id: TunnelId, local: SessionId, frame: &[u8]) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else {
            return;
        };
        let Some(session) = tunnel.sessions.get_mut(&local) else {
            return;
        };
        let Some(peer) = tunnel.connection.peer().tunnel else {
            return;
        };
        let ns = session.numbered.then_some(session.ns);
        session.ns = session.ns.wrapping_add(1);
        let header = DataHeader {
            ns,
            ..DataHeader::short(peer, session.peer)
        };
        let octets = header.message(frame).expect("it fits");
        self.replies.push(Reply {
            lac: tunnel.lac,
            octets,
        });
    }
}

/// An Echo-Request turned round: of the checksums only ICMP's own changes.
fn answer_ping(packet: &[u8]) -> Vec<u8> {
    let mut answer = packet.to_vec();
    answer[12..16].copy_from_slice(&packet[16..20]);
    answer[16..20].copy_from_slice(&packet[12..16]);
    answer[20] = 0;
    let (sum, carry) = u16::from_be_bytes([packet[22], packet[23]]).overflowing_add(0x0800);
    answer[22..24].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
    answer
}
