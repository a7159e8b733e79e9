//! The client's IPCP (RFC 1332, RFC 1877): asks for an address and takes what it is given.

use std::net::Ipv4Addr;

use super::super::packet::{self, Packet, options, push_option};
use super::{Client, Context, Event, MAX_TRIES, Phase, RESTART, fingerprint};

const ADDRESS: u8 = 3;

impl Client {
    pub(super) fn begin_network(&mut self, ctx: &mut Context<'_>) {
        self.phase = Phase::Network;
        self.lcp.tries = 0;
        self.chap_response = None;
        self.ipcp.tries = 0;
        self.send_ipcp_request(ctx);
    }

    /// Sends, or repeats with the same identifier, our Configure-Request.
    pub(super) fn send_ipcp_request(&mut self, ctx: &mut Context<'_>) {
        self.ipcp.tries += 1;
        self.deadline = Some(ctx.now + RESTART);
        ctx.send(
            packet::PROTOCOL_IPCP,
            packet::CONFIGURE_REQUEST,
            self.ipcp.id,
            &self.ipcp_options(),
        );
    }

    pub(super) fn handle_ipcp(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        // Before the network phase such packets are dropped (RFC 1661 §3.5).
        if !matches!(self.phase, Phase::Network | Phase::Open) {
            return None;
        }
        match packet.code {
            packet::CONFIGURE_REQUEST => self.handle_ipcp_request(ctx, packet),
            packet::CONFIGURE_ACK => self.handle_ipcp_acknowledged(packet),
            packet::CONFIGURE_NAK | packet::CONFIGURE_REJECT => self.handle_ipcp_refused(ctx, packet),
            packet::TERMINATE_REQUEST => {
                ctx.send(packet::PROTOCOL_IPCP, packet::TERMINATE_ACK, packet.id, &[]);
                self.fail("IPCP terminated")
            }
            _ => None,
        }
    }

    fn ipcp_options(&self) -> Vec<u8> {
        let mut data = Vec::new();
        push_option(&mut data, ADDRESS, &self.address.octets());
        data
    }

    fn handle_ipcp_request(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        let mut event = None;
        if self.phase == Phase::Open {
            let seen = Some((packet.id, fingerprint(packet.data)));
            if ctx.network_repeats && self.ipcp.last_request == seen {
                ctx.send(
                    packet::PROTOCOL_IPCP,
                    packet::CONFIGURE_ACK,
                    packet.id,
                    packet.data,
                );
                return None;
            }
            event = Some(Event::Renegotiated);
            self.ipcp.restart();
            self.phase = Phase::Network;
            self.send_ipcp_request(ctx);
        }
        let mut rejects = Vec::new();
        for (kind, value) in options(packet.data)? {
            match (kind, value) {
                (ADDRESS, &[a, b, c, d]) => self.server = Some(Ipv4Addr::new(a, b, c, d)),
                _ => push_option(&mut rejects, kind, value),
            }
        }
        if !rejects.is_empty() {
            ctx.send(
                packet::PROTOCOL_IPCP,
                packet::CONFIGURE_REJECT,
                packet.id,
                &rejects,
            );
            return event;
        }
        if ctx.hold_acknowledgement {
            self.held = Some((packet.id, packet.data.into()));
            return event;
        }
        event.or(self.acknowledge_ipcp(ctx, packet.id, packet.data))
    }

    pub(super) fn acknowledge_ipcp(&mut self, ctx: &mut Context<'_>, id: u8, data: &[u8]) -> Option<Event> {
        ctx.send(packet::PROTOCOL_IPCP, packet::CONFIGURE_ACK, id, data);
        self.ipcp.theirs_acknowledged = true;
        self.ipcp.last_request = Some((id, fingerprint(data)));
        self.advance_ipcp().or(Some(Event::Acknowledged))
    }

    fn handle_ipcp_acknowledged(&mut self, packet: Packet<'_>) -> Option<Event> {
        let expected =
            self.phase == Phase::Network && !self.ipcp.ours_acknowledged && packet.id == self.ipcp.id;
        if !expected || packet.data != self.ipcp_options() {
            return None;
        }
        if self.address.is_unspecified() {
            return self.fail("no address given");
        }
        self.ipcp.ours_acknowledged = true;
        self.advance_ipcp()
    }

    fn handle_ipcp_refused(&mut self, ctx: &mut Context<'_>, packet: Packet<'_>) -> Option<Event> {
        if self.phase != Phase::Network || self.ipcp.ours_acknowledged || packet.id != self.ipcp.id {
            return None;
        }
        if self.ipcp.tries >= MAX_TRIES {
            return self.fail("IPCP does not converge");
        }
        for (kind, value) in options(packet.data)? {
            match (kind, value, packet.code) {
                (ADDRESS, _, packet::CONFIGURE_REJECT) => return self.fail("no address given"),
                (ADDRESS, &[a, b, c, d], _) => self.address = Ipv4Addr::new(a, b, c, d),
                _ => {}
            }
        }
        self.ipcp.revise();
        self.send_ipcp_request(ctx);
        None
    }

    fn advance_ipcp(&mut self) -> Option<Event> {
        if !self.ipcp.is_open() {
            return None;
        }
        self.phase = Phase::Open;
        self.deadline = None;
        self.ipcp.tries = 0;
        Some(Event::Opened {
            address: self.address,
        })
    }
}
