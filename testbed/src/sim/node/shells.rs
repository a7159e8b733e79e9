//! What the actors do for their cores.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use holdfast::aaa::{Profile, Seat};
use holdfast::lns::Now;
use holdfast::lns::session::{self, Grant, Session};
use holdfast::lns::terminate_cause;
use holdfast::lns::tunnel::{self, SessionRequest, Tunnel};
use holdfast_cluster::Refusal;
use holdfast_cluster::commands::{ChangeTunnel, RemoveTunnel, SessionKey};
use holdfast_cluster::records::SessionRow;
use holdfast_ppp::AuthRequest;
use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::header::{self, DataHeader, Packet};
use holdfast_protocol::message::{Cdn, Proxy};
use holdfast_protocol::{SessionId, TunnelId};

use super::process::{Out, Process, Timer};
use super::table::Reply;
use super::wire::Relay;
use crate::sim::bugs::Bug;
use crate::sim::facts::{About, Fact};

/// How long a new owner leaves unfinished PPP alone, lest what its predecessor said is still on its way.
const PPP_RESTART: Duration = Duration::from_secs(1);

/// Whether RADIUS servers judge the subscriber, in a run that has any.
pub fn is_of_radius(user: &[u8]) -> bool {
    user.last().is_some_and(|last| last % 2 == 1)
}

/// A message in somebody's mailbox.
#[derive(Debug)]
pub(super) enum Work {
    Datagram(Relay),
    Birth(TunnelId),
    Verdict {
        tunnel: TunnelId,
        life: u64,
        revision: u64,
        refusal: Option<Refusal>,
    },
    Removed(TunnelId, Option<Refusal>),
    Replaced(TunnelId, SessionId),
    /// Its LAC has restarted and its new tunnel is up.
    Abandon(TunnelId),
    TunnelWake(TunnelId),
    Asked(TunnelId, SessionId, SessionRequest),
    SessionBirth {
        tunnel: TunnelId,
        session: SessionId,
        row: Arc<SessionRow>,
        proxy: Option<Box<Proxy>>,
        /// Of the tunnel's core that asked for it.
        life: u64,
    },
    SessionAccepted(TunnelId, SessionId, u32),
    SessionWake(TunnelId, SessionId),
}

impl Process {
    pub(super) fn carry_out(&mut self, work: Work) {
        match work {
            Work::Datagram(relay) => self.on_own_datagram(&relay),
            Work::Birth(tunnel) => self.bear(tunnel),
            Work::Verdict {
                tunnel,
                life,
                revision,
                refusal,
            } => {
                if self.tunnels.get(&tunnel).is_some_and(|core| core.life() == life) {
                    if let Some(Refusal::Address { session, .. }) = refusal {
                        let applied = self.replica.table().applied();
                        self.addresses.on_refused(self.now, applied, (tunnel, session));
                    }
                    let refusal = refusal.map(|refusal| refusal.to_string());
                    self.at_tunnel(tunnel, |core, now| core.handle_verdict(now, revision, refusal));
                }
            }
            Work::Removed(tunnel, refusal) => {
                let refusal = refusal.map(|refusal| refusal.to_string());
                self.at_tunnel(tunnel, |core, now| core.handle_removal(now, refusal));
            }
            Work::Replaced(tunnel, session) => {
                let cdn = Cdn::new(ResultCode::new(3));
                let cause = terminate_cause::ADMIN_RESET;
                self.at_tunnel(tunnel, |core, now| core.disconnect(now, session, cdn, cause));
            }
            Work::Abandon(tunnel) => self.at_tunnel(tunnel, |core, now| core.abandon(now)),
            Work::TunnelWake(tunnel) => self.at_tunnel(tunnel, |core, now| core.handle_timeout(now)),
            Work::Asked(tunnel, session, request) => {
                self.at_tunnel(tunnel, |core, now| core.handle_request(now, session, request));
            }
            Work::SessionBirth {
                tunnel,
                session,
                row,
                proxy,
                life,
            } => {
                let wanted = self.tunnels.get(&tunnel).is_some_and(|core| core.life() == life);
                let key = (tunnel, session);
                if wanted && self.addresses.is_given_up(key) {
                    let cdn = Cdn::new(ResultCode::new(3));
                    let cause = terminate_cause::NAS_ERROR;
                    self.at_tunnel(tunnel, |core, now| core.disconnect(now, session, cdn, cause));
                } else if wanted && self.replica.table().session(tunnel, session).is_some() {
                    let seed = self.dice.seed();
                    let core = Session::born(self.clocks(), self.link.clone(), row, proxy.as_deref(), seed);
                    self.sessions.insert((tunnel, session), core);
                    self.settle_session(tunnel, session);
                }
            }
            Work::SessionAccepted(tunnel, session, serial) => {
                self.addresses.on_accepted((tunnel, session));
                self.at_session(tunnel, session, |core, now| core.handle_accepted(now, serial));
            }
            Work::SessionWake(tunnel, session) => {
                self.at_session(tunnel, session, |core, now| core.handle_timeout(now));
            }
        }
    }

    /// A datagram for a group of ours. One for a tunnel that waits for its birth brings it forward.
    fn on_own_datagram(&mut self, relay: &Relay) {
        match header::decode(&relay.octets) {
            Ok(Packet::Control(packet)) => {
                let Some(tunnel) = packet.header.tunnel else {
                    return self.on_first(relay.from, &relay.octets);
                };
                if self.comes_from_peer(tunnel, relay) {
                    self.bear(tunnel);
                    self.at_tunnel(tunnel, |core, now| core.handle_input(now, &relay.octets));
                }
            }
            Ok(Packet::Data(packet)) => {
                let (Some(tunnel), Some(session)) = (packet.tunnel, packet.session) else {
                    return;
                };
                if self.comes_from_peer(tunnel, relay) {
                    self.bear(tunnel);
                    let now = self.now;
                    if let Some(core) = self.tunnels.get_mut(&tunnel) {
                        core.note_received(now);
                    }
                    self.at_session(tunnel, session, |core, now| {
                        core.handle_input(now, packet.payload)
                    });
                }
            }
            Err(_) => {}
        }
    }

    fn comes_from_peer(&self, tunnel: TunnelId, relay: &Relay) -> bool {
        let row = self.replica.table().tunnel(tunnel).map(|found| found.row());
        row.and_then(|row| row.peer.as_ref()?.to_std()) == Some(relay.from)
    }

    /// Something for a tunnel's core.
    pub(super) fn at_tunnel(&mut self, id: TunnelId, act: impl FnOnce(&mut Tunnel, Now)) {
        let now = self.clocks();
        let Some(core) = self.tunnels.get_mut(&id) else {
            return;
        };
        act(core, now);
        let commands: Vec<_> = std::iter::from_fn(|| core.poll_output()).collect();
        self.timers.set(Timer::Tunnel(id), core.poll_timeout());
        for command in commands {
            self.carry_out_for_tunnel(id, command);
        }
    }

    fn carry_out_for_tunnel(&mut self, id: TunnelId, command: tunnel::Command) {
        use tunnel::Command as C;
        match command {
            C::Transmit(datagram) => self.send_control(id, datagram),
            C::Propose(change) => self.propose_change(id, Arc::unwrap_or_clone(change)),
            C::ProposeRemoval => {
                let life = self.tunnels.get(&id).map_or(0, Tunnel::life);
                let tunnel_id = u32::from(id.get());
                self.propose(Reply::Removal(id), RemoveTunnel { tunnel_id, life });
            }
            C::StartSession { session, row, proxy } => self.start_session(id, session, row, proxy),
            C::StopSession(session) => {
                self.drop_session(id, session);
                self.addresses.let_go((id, session));
            }
            C::SessionAccepted { session, serial } => {
                self.work.push_back(Work::SessionAccepted(id, session, serial));
            }
            C::Rebirth(_) => {
                self.drop_tunnel(id);
                self.reclaim(id);
            }
            C::Finished => {
                self.let_go_addresses(id);
                self.drop_tunnel(id);
            }
            // The owner of the tunnel that this one replaces hears of it by the row, wherever it is.
            C::Established | C::Closed(_) | C::Heard | C::Count(_) => {}
        }
    }

    fn send_control(&mut self, id: TunnelId, octets: Vec<u8>) {
        let row = self.replica.table().tunnel(id).map(|found| found.row());
        let Some(to) = row.and_then(|row| row.peer.as_ref()?.to_std()) else {
            return;
        };
        self.fact(Fact::Control {
            node: self.id,
            tunnel: id,
            to,
            octets: octets.clone(),
        });
        self.out.push(Out::Datagram {
            to,
            octets,
            about: About::Tunnel(id),
        });
    }

    fn propose_change(&mut self, id: TunnelId, mut change: ChangeTunnel) {
        let (life, revision) = (change.life, change.revision);
        if self.has(Bug::NoResubmission) && !self.proposed.insert((id, life, revision)) {
            return;
        }
        if self.has(Bug::NrNotReplicated) {
            change.received = None;
        }
        if self.has(Bug::EpochUnchecked)
            && let Some(found) = self.replica.table().tunnel(id)
        {
            change.life = self.replica.table().current_life(found.row());
        }
        if self.has(Bug::RevisionUnchecked)
            && let Some(found) = self.replica.table().tunnel(id)
        {
            change.revision = found.row().revision + 1;
        }
        let reply = Reply::Change {
            tunnel: id,
            life,
            revision,
        };
        self.propose(reply, change);
        if self.has(Bug::OutputBeforeAcceptance) {
            self.work.push_back(Work::Verdict {
                tunnel: id,
                life,
                revision,
                refusal: None,
            });
        }
    }

    fn start_session(
        &mut self,
        tunnel: TunnelId,
        session: SessionId,
        row: Arc<SessionRow>,
        proxy: Option<Box<Proxy>>,
    ) {
        let taken = self.taken_over_at.get(&tunnel.group()).copied();
        let begins = taken.unwrap_or_default() + PPP_RESTART;
        let open = row.is_open();
        let work = Work::SessionBirth {
            tunnel,
            session,
            row,
            proxy,
            life: self.tunnels.get(&tunnel).map_or(0, Tunnel::life),
        };
        if open || begins <= self.now {
            self.work.push_back(work);
        } else {
            self.delayed.push_back((begins, work));
        }
    }

    pub(super) fn drop_session(&mut self, tunnel: TunnelId, session: SessionId) {
        self.sessions.remove(&(tunnel, session));
        self.judges.forget((tunnel, session));
        self.timers.set(Timer::Session(tunnel, session), None);
    }

    /// Something for a session's core.
    pub(super) fn at_session(
        &mut self,
        tunnel: TunnelId,
        session: SessionId,
        act: impl FnOnce(&mut Session, Now),
    ) {
        let now = self.clocks();
        if let Some(core) = self.sessions.get_mut(&(tunnel, session)) {
            act(core, now);
            self.settle_session(tunnel, session);
        }
    }

    fn settle_session(&mut self, tunnel: TunnelId, session: SessionId) {
        let Some(core) = self.sessions.get_mut(&(tunnel, session)) else {
            return;
        };
        let commands: Vec<_> = std::iter::from_fn(|| core.poll_output()).collect();
        self.timers
            .set(Timer::Session(tunnel, session), core.poll_timeout());
        for command in commands {
            match command {
                session::Command::SendFrame(frame) => self.send_frame(tunnel, session, &frame),
                session::Command::Authenticate { serial, request } => {
                    self.judge((tunnel, session), serial, request);
                }
                session::Command::Request(request) => self.ask(tunnel, session, request),
                session::Command::Online
                | session::Command::Renegotiated
                | session::Command::Ended(_)
                | session::Command::Count(_)
                | session::Command::CountIpv6(_) => {}
            }
        }
    }

    fn ask(&mut self, tunnel: TunnelId, session: SessionId, request: SessionRequest) {
        if let SessionRequest::Put { serial, row, .. } = &request {
            let early = match row.is_open() {
                true => self.has(Bug::ConfigureAckEarly),
                false => self.has(Bug::LeavingOpenNotCommitted),
            };
            if early {
                self.work
                    .push_back(Work::SessionAccepted(tunnel, session, *serial));
            }
            if early && !row.is_open() {
                return;
            }
        }
        self.work.push_back(Work::Asked(tunnel, session, request));
    }

    /// Half of the subscribers are known here, the others to RADIUS servers.
    fn judge(&mut self, key: (TunnelId, SessionId), serial: u32, request: Box<AuthRequest>) {
        if self.radius && is_of_radius(&request.name) {
            self.ask_judges(key, serial, request);
        } else {
            self.grant(key, serial, &request.name, Profile::default());
        }
    }

    /// Everybody is let in for whom there is an address. The first subscriber of each LAC always has the same, for which a stale
    /// session of his has to go.
    pub(super) fn grant(
        &mut self,
        (tunnel, session): (TunnelId, SessionId),
        serial: u32,
        name: &[u8],
        profile: Profile,
    ) {
        let user = String::from_utf8_lossy(name);
        let number: u32 = user.parse().unwrap_or_default();
        let fixed = (number & 0xff == 0).then(|| Ipv4Addr::from(0x0a00_0000 + number));
        let seat = Seat {
            group: if self.crowded { 0 } else { tunnel.group() },
            is_own: &|group| self.crowded || self.groups[usize::from(group)].owner == self.id,
            horizon: self.liveness.horizon(),
        };
        let assigned = self
            .addresses
            .assign(self.now, (tunnel, session), &user, fixed, seat);
        let Ok(address) = assigned else {
            let message = b"No address available".to_vec();
            return self.at_session(tunnel, session, |core, now| {
                core.handle_refusal(now, serial, message);
            });
        };
        let holder = fixed.and_then(|fixed| self.replica.table().holder(fixed.into()));
        let replaces = holder.filter(|holder| *holder != (tunnel, session));
        let grant = Grant {
            profile,
            address: Some(address),
            link_prefix: None,
            delegated_prefix: None,
            local: Ipv4Addr::new(192, 0, 2, 1),
            dns: [None, None],
            replaces: replaces.map(|(tunnel, session)| SessionKey::new(tunnel, session)),
        };
        self.fact(Fact::Granted {
            tunnel,
            session,
            address,
        });
        self.at_session(tunnel, session, |core, now| core.handle_grant(now, serial, grant));
    }

    /// A frame leaves only while this node is sure of being the owner; PPP repeats what is dropped.
    fn send_frame(&mut self, tunnel: TunnelId, session: SessionId, frame: &[u8]) {
        if !self.is_fresh() && !self.has(Bug::StaleOwnerSpeaks) {
            return;
        }
        let Some(found) = self.replica.table().tunnel(tunnel) else {
            return;
        };
        let Some(row) = found.session(session).cloned() else {
            return;
        };
        let Some(known) = self
            .sessions
            .get(&(tunnel, session))
            .map(|core| core.row().clone())
        else {
            return;
        };
        let to = found.row().peer.as_ref().and_then(|peer| peer.to_std());
        let id = |id: u32| u16::try_from(id).ok();
        let peer_tunnel = id(found.row().peer_tunnel_id).and_then(TunnelId::new);
        let peer_session = id(row.peer_session_id).and_then(SessionId::new);
        let (Some(to), Some(peer_tunnel), Some(peer_session)) = (to, peer_tunnel, peer_session) else {
            return;
        };
        let message = DataHeader::short(peer_tunnel, peer_session).message(frame);
        let octets = message.expect("a frame is not that long");
        let about = About::Call(row.call_serial);
        self.fact(Fact::Frame {
            node: self.id,
            tunnel,
            session,
            row,
            known,
            octets: frame.to_vec(),
        });
        self.out.push(Out::Datagram { to, octets, about });
    }
}
