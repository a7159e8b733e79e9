//! The authentication phase (RFC 1661 §3.5).

use std::time::Duration;

use super::machine::{Machine, Phase};
use super::{Counter, Output, Shared};
use crate::auth::{AuthRequest, Authenticator, Credential, Heard, Overdue, Verdict};
use crate::cause::Cause;
use crate::frame::Frame;
use crate::ncp::NcpConfig;
use crate::packet::Packet;
use crate::proxy::Proxy;

impl Machine {
    /// LCP is open: the peer's turn to say who it is. Where no protocol is asked for, policy decides without a name.
    pub(super) fn authenticate(&mut self, now: Duration, shared: &mut Shared) {
        self.phase = Phase::Authenticate;
        let Some(method) = self.options.auth() else {
            let nobody = AuthRequest {
                name: Vec::new(),
                credential: Credential::None,
            };
            return self.submit(Box::new(nobody), shared);
        };
        let config = shared.config.clone();
        let (authenticator, challenge) = Authenticator::start(method, now, &config, &mut shared.random);
        self.auth = Some(authenticator);
        if let Some(challenge) = challenge {
            shared.outputs.send(method.protocol(), &challenge);
        }
    }

    /// LCP stands as the LAC left it; so does authentication, if all of it is there.
    pub(super) fn authenticate_by_proxy(&mut self, now: Duration, proxy: &Proxy, shared: &mut Shared) {
        let method = self.options.auth();
        match method.and_then(|method| proxy.authentication(method).map(|heard| (method, heard))) {
            Some((method, (id, request))) => {
                self.phase = Phase::Authenticate;
                self.auth = Some(Authenticator::proxied(method, id));
                self.submit(Box::new(request), shared);
            }
            None => {
                if proxy.authen_type.is_some() {
                    shared.outputs.count(Counter::ProxyAuthRefused);
                }
                self.authenticate(now, shared);
            }
        }
    }

    fn submit(&mut self, request: Box<AuthRequest>, shared: &mut Shared) {
        let serial = shared.next_serial();
        self.judging = Some(serial);
        self.user.clone_from(&request.name);
        shared.outputs.push(Output::Authenticate { serial, request });
    }

    pub(super) fn handle_auth(&mut self, frame: &Frame<'_>, shared: &mut Shared) {
        let Ok(packet) = Packet::parse(frame.information) else {
            return shared.outputs.count(Counter::MalformedPacket);
        };
        let Some(auth) = self
            .auth
            .as_mut()
            .filter(|auth| auth.method().protocol() == frame.protocol)
        else {
            return shared.outputs.count(Counter::WrongPhase);
        };
        match auth.handle_packet(&packet) {
            Heard::Request(request) => self.submit(request, shared),
            Heard::Repeat(reply) => {
                shared.outputs.count(Counter::AuthRepeated);
                shared.outputs.send(frame.protocol, &reply);
            }
            Heard::Pending => shared.outputs.count(Counter::AuthRepeated),
            Heard::Nothing => shared.outputs.count(Counter::Discarded),
        }
    }

    pub(super) fn handle_verdict(
        &mut self,
        now: Duration,
        serial: u32,
        verdict: &Verdict,
        shared: &mut Shared,
    ) {
        if self.phase != Phase::Authenticate || self.judging != Some(serial) {
            return;
        }
        self.judging = None;
        let good = match &mut self.auth {
            Some(auth) => {
                let (reply, good) = auth.answer(verdict);
                shared.outputs.send(auth.method().protocol(), &reply);
                good
            }
            None => matches!(verdict, Verdict::Accept { .. }),
        };
        match verdict {
            Verdict::Accept { ipcp, ipv6cp, .. } if good => {
                let ipv4 = ipcp.map(NcpConfig::Ipcp);
                let configs: Vec<_> = ipv4.into_iter().chain(ipv6cp.map(NcpConfig::Ipv6cp)).collect();
                self.start_network(now, &configs, shared);
            }
            Verdict::Unavailable { .. } => {
                self.close(now, Cause::AuthUnavailable(self.options.auth()), shared);
            }
            Verdict::Accept { .. } | Verdict::Reject { .. } => {
                self.close(now, Cause::AuthFailed(self.options.auth()), shared);
            }
        }
    }

    pub(super) fn auth_timeout(&mut self, now: Duration, shared: &mut Shared) {
        let Some(auth) = &mut self.auth else {
            return;
        };
        let method = auth.method();
        match auth.handle_timeout(now, &shared.config) {
            Overdue::Send(challenge) => shared.outputs.send(method.protocol(), &challenge),
            Overdue::Wait => {}
            Overdue::GiveUp => self.close(now, Cause::AuthTimeout(Some(method)), shared),
        }
    }
}
