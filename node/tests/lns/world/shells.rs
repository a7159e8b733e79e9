//! The LNS: what its actors would do for the cores.

use super::*;

impl World {
    pub(super) fn on_datagram(&mut self, lac: usize, datagram: &[u8]) {
        let Ok(Packet::Control(packet)) = header::decode(datagram) else {
            return;
        };
        if let Some(tunnel) = packet.header.tunnel {
            // Another address than the tunnel's is the packet thread's affair.
            self.at_tunnel(tunnel, |core, now| core.handle_input(now, datagram));
            return;
        }
        let from = self.lacs[lac].address;
        let local = self.draw_tunnel_id();
        let profile = Profile {
            name: "lac".into(),
            allowed: true,
            secret: self.settings.secret.clone(),
            permissive: false,
        };
        match acceptor::read(datagram, local, |_| Some(profile)) {
            Ok(First::Request(candidate)) => self.on_request(from, local, &candidate, datagram),
            Ok(First::Stop(peer_tunnel)) => {
                let known = self.peers.get(&(from, peer_tunnel)).copied();
                if let Some(known) = known.filter(|known| !known.is_established()) {
                    self.at_tunnel(known.tunnel, |core, now| core.handle_input(now, datagram));
                }
            }
            Err(_) => {}
        }
    }

    pub(super) fn on_request(
        &mut self,
        from: SocketAddr,
        local: TunnelId,
        candidate: &acceptor::Candidate,
        datagram: &[u8],
    ) {
        let key = (from, candidate.sccrq.assigned_tunnel_id);
        match self.peers.get_mut(&key).map(|known| known.judge(candidate.hash)) {
            Some(Repeat::Duplicate(tunnel)) => {
                return self.at_tunnel(tunnel, |core, now| core.handle_input(now, datagram));
            }
            Some(Repeat::Busy) => return,
            Some(Repeat::Restarted) | None => {}
        }
        let to = "192.0.2.1:1701".parse().expect("an address");
        let Ok(row) = acceptor::first_row(self.clocks(), self.settings.clone(), local, candidate, from, to)
        else {
            return;
        };
        let claim = Known::claimed(local, candidate.hash, row.created_ms);
        let mut claimed = true;
        self.peers
            .entry(key)
            .and_modify(|known| claimed = known.give_way(claim))
            .or_insert(claim);
        if claimed {
            let epoch = self.table.group(local.group()).epoch;
            let create = CreateTunnel {
                life: holdfast_cluster::first_life(epoch),
                row: Some(row),
            };
            self.propose(Reply::Birth(local, Some(key)), create);
        }
        self.step_done();
    }

    pub(super) fn draw_tunnel_id(&mut self) -> TunnelId {
        loop {
            let drawn = TunnelId::new(self.entropy.next_u16());
            if let Some(id) = drawn.filter(|id| self.table.tunnel(*id).is_none()) {
                return id;
            }
        }
    }

    pub(super) fn settle_tunnel(&mut self, id: TunnelId) {
        let mut commands = Vec::new();
        if let Some(core) = self.tunnels.get_mut(&id) {
            while let Some(command) = core.poll_output() {
                commands.push(command);
            }
            self.timers.set(Timer::Tunnel(id), core.poll_timeout());
        }
        if self.dies_silently() {
            return self.step_done();
        }
        let process = self.process;
        for command in commands {
            // One core's output is another's input: the process may have died in there.
            if self.process == process {
                self.carry_out(id, command);
            }
        }
        self.step_done();
    }

    pub(super) fn carry_out(&mut self, id: TunnelId, command: tunnel::Command) {
        use tunnel::Command as C;
        match command {
            C::Transmit(datagram) => {
                self.check_control(id, &datagram);
                self.said.push(datagram.clone());
                if let Some(lac) = self.lac_of(id) {
                    self.send(Arrival::AtLac { lac, datagram });
                }
            }
            C::Propose(change) => {
                self.proposed += 1;
                self.propose(Reply::Change(id, change.revision), Arc::unwrap_or_clone(change));
            }
            C::ProposeRemoval => {
                let life = self.tunnels.get(&id).map_or(0, Tunnel::life);
                let tunnel_id = u32::from(id.get());
                self.propose(Reply::Removal(id), RemoveTunnel { tunnel_id, life });
            }
            C::StartSession { session, row, proxy } => {
                let now = self.clocks();
                let seed = self.entropy.next_u64();
                let core = Session::born(now, self.link.clone(), row, proxy.as_deref(), seed);
                self.sessions.insert((id, session), core);
                self.settle_session(id, session);
            }
            C::StopSession(session) => self.drop_session(id, session),
            C::SessionAccepted { session, serial } => {
                self.at_session(id, session, |core, now| core.handle_accepted(now, serial));
            }
            C::Established => self.on_established(id),
            C::Closed(reason) => self.closed.push((id, reason)),
            C::Heard => {}
            C::Rebirth(why) => {
                self.rebirths.push(why);
                self.tunnels.remove(&id);
                self.timers.set(Timer::Tunnel(id), None);
                self.reclaim(id);
            }
            C::Finished => {
                self.tunnels.remove(&id);
                self.timers.set(Timer::Tunnel(id), None);
            }
            C::Count(occurrence) => self.counted.push(occurrence),
        }
    }

    pub(super) fn reclaim(&mut self, id: TunnelId) {
        self.next_life += 1;
        let epoch = self.table.group(id.group()).epoch;
        let life = holdfast_cluster::first_life(epoch) | self.next_life;
        let tunnel_id = u32::from(id.get());
        self.propose(Reply::Birth(id, None), Reclaim { tunnel_id, life });
    }

    pub(super) fn on_established(&mut self, id: TunnelId) {
        let superseded = self
            .peers
            .values_mut()
            .find_map(|known| known.take_superseded(id));
        if let Some(stale) = superseded {
            self.at_tunnel(stale, |core, now| core.abandon(now));
        }
    }

    pub(super) fn drop_session(&mut self, tunnel: TunnelId, session: SessionId) {
        self.sessions.remove(&(tunnel, session));
        self.timers.set(Timer::Session(tunnel, session), None);
    }

    pub(super) fn settle_session(&mut self, tunnel: TunnelId, session: SessionId) {
        let mut commands = Vec::new();
        if let Some(core) = self.sessions.get_mut(&(tunnel, session)) {
            while let Some(command) = core.poll_output() {
                commands.push(command);
            }
            self.timers
                .set(Timer::Session(tunnel, session), core.poll_timeout());
        }
        if self.dies_silently() {
            return self.step_done();
        }
        let process = self.process;
        for command in commands {
            if self.process != process {
                return;
            }
            match command {
                session::Command::SendFrame(frame) => self.send_frame(tunnel, session, frame),
                session::Command::Authenticate { serial, request } => {
                    self.authentications += 1;
                    if !self.radius_silent {
                        self.grant(tunnel, session, serial, &request.name);
                    }
                }
                session::Command::Request(request) => {
                    self.at_tunnel(tunnel, |core, now| core.handle_request(now, session, request));
                }
                session::Command::Online
                | session::Command::Renegotiated
                | session::Command::Ended(_)
                | session::Command::Count(_)
                | session::Command::CountIpv6(_) => {}
            }
        }
        self.step_done();
    }

    /// Everybody is let in, with an address made of the name.
    pub fn grant(&mut self, tunnel: TunnelId, session: SessionId, serial: u32, name: &[u8]) {
        let number: u32 = String::from_utf8_lossy(name)
            .parse()
            .expect("subscribers are numbers here");
        let grant = Grant {
            profile: holdfast::aaa::Profile::default(),
            address: Some(Ipv4Addr::from(0x0a00_0000 + number)),
            link_prefix: None,
            delegated_prefix: None,
            local: Ipv4Addr::new(192, 0, 2, 1),
            dns: [None, None],
            replaces: None,
        };
        self.at_session(tunnel, session, |core, now| core.handle_grant(now, serial, grant));
    }

    pub(super) fn send_frame(&mut self, tunnel: TunnelId, session: SessionId, frame: Vec<u8>) {
        self.check_frame(tunnel, session, &frame);
        self.said.push(frame.clone());
        let Some(found) = self.table.tunnel(tunnel) else {
            return;
        };
        let Some(row) = found.session(session) else { return };
        let peer_session = u16::try_from(row.peer_session_id).ok().and_then(SessionId::new);
        if let (Some(lac), Some(session)) = (self.lac_of(tunnel), peer_session) {
            self.send(Arrival::FrameAtLac { lac, session, frame });
        }
    }

    /// Who the tunnel's row says is on the other side.
    fn lac_of(&self, tunnel: TunnelId) -> Option<usize> {
        let row = self.table.tunnel(tunnel)?.row();
        let peer = row.peer.as_ref()?.to_std()?;
        self.lacs.iter().position(|lac| {
            lac.address == peer && u32::from(lac.connection.local().get()) == row.peer_tunnel_id
        })
    }
}
