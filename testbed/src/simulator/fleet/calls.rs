//! What befalls tunnels, calls and PPP clients, and what follows from it.

use std::net::Ipv4Addr;
use std::time::Duration;

use holdfast_protocol::SessionId;
use holdfast_protocol::iana::{call_result, framing};
use holdfast_protocol::message::Iccn;

use super::super::channel::Tag;
use super::super::ppp::{self, Client, Context, Phase};
use super::super::protocol::{Event, Moment, SessionState};
use super::super::tunnel::{Happening, State};
use super::Fleet;

/// Downstream rate that the LACs claim, bits/s.
const TX_SPEED: u32 = 100_000_000;

impl Fleet {
    pub(super) fn handle_happening(&mut self, now: Duration, index: u32, happening: Happening) {
        match happening {
            Happening::Up => self.tunnel_up(index),
            Happening::Down { reason, stuck } => self.tunnel_down(now, index, &reason, stuck),
            Happening::Closed => self.reopen_if_wanted(now, index),
            Happening::Acknowledged(tag) => self.note_acknowledged(now, index, tag),
            Happening::CallTaken {
                subscriber,
                session,
                peer,
            } => {
                self.call_taken(now, subscriber, session, peer);
            }
            Happening::CallEnded { subscriber, reason } => self.call_ended(now, subscriber, Some(reason)),
        }
    }

    /// A PPP frame has arrived for a subscriber.
    pub(super) fn handle_ppp(&mut self, now: Duration, index: u32, numbered: bool, payload: &[u8]) {
        let Some(frame) = ppp::split(payload) else {
            self.counts.undecodable += 1;
            return;
        };
        if let Some(call) = &mut self.subscribers[index as usize].call {
            // RFC 2661 §5.4: unless numbers are required, the LAC does as the LNS does.
            call.numbered = self.plan.sequencing || numbered;
        }
        if frame.protocol == ppp::PROTOCOL_IPV4 {
            self.handle_ipv4(now, index, frame.information);
        } else {
            self.drive_client(now, index, |client, ctx| client.handle_frame(ctx, frame));
        }
        self.remind_subscriber(index);
    }

    /// Runs a step of a subscriber's client, sends its frames and acts on its event.
    pub(super) fn drive_client(
        &mut self,
        now: Duration,
        index: u32,
        step: impl FnOnce(&mut Client, &mut Context<'_>) -> Option<ppp::Event>,
    ) {
        let subscriber = &mut self.subscribers[index as usize];
        let Some(client) = subscriber.call.as_mut().and_then(|call| call.client.as_mut()) else {
            return;
        };
        let (held, before) = (client.holds(), client.phase());
        let mut frames = std::mem::take(&mut self.frames);
        let mut ctx = Context {
            now,
            login: &subscriber.login,
            network_repeats: self.plan.impairment.repeats(),
            hold_acknowledgement: self.hold,
            rng: &mut self.rng,
            frames: &mut frames,
        };
        let event = step(client, &mut ctx);
        let moments = [
            (!held && client.holds(), Moment::Held),
            (
                before == Phase::Authenticate && client.phase() == Phase::Network,
                Moment::Authenticated,
            ),
        ];
        let tunnel = self.subscribers[index as usize].tunnel;
        for (_, moment) in moments.into_iter().filter(|(came, _)| *came) {
            self.note_moment(tunnel, moment);
        }
        for frame in frames.drain(..) {
            self.send_frame(index, &frame);
        }
        self.frames = frames;
        if let Some(event) = event {
            self.handle_client_event(now, index, event);
        }
    }

    fn handle_client_event(&mut self, now: Duration, index: u32, event: ppp::Event) {
        match event {
            ppp::Event::Opened { address } => self.opened(now, index, address),
            ppp::Event::Renegotiated => self.renegotiated(now, index),
            ppp::Event::Acknowledged => {
                let tunnel = self.subscribers[index as usize].tunnel;
                self.note_moment(tunnel, Moment::AddressAcknowledged);
            }
            ppp::Event::EchoAnswered => self.note_echo_answered(index),
            ppp::Event::Terminated => self.disconnect(now, index, Some("LCP Terminate-Request".into())),
            ppp::Event::Finished => self.disconnect(now, index, None),
            ppp::Event::Failed(why) => self.disconnect(now, index, Some(why)),
        }
    }

    fn tunnel_up(&mut self, index: u32) {
        self.counts.tunnels_open += 1;
        for subscriber in std::mem::take(&mut self.tunnels[index as usize].waiting) {
            self.place_call(index, subscriber);
        }
    }

    fn tunnel_down(&mut self, now: Duration, index: u32, reason: &str, stuck: bool) {
        let tunnel = &mut self.tunnels[index as usize];
        self.counts.stuck += u64::from(stuck);
        if tunnel.take_up() {
            self.counts.tunnels_open -= 1;
            self.counts.tunnels_lost += 1;
        } else {
            self.counts.tunnels_failed += 1;
        }
        let mut affected = tunnel.take_calls();
        affected.append(&mut tunnel.waiting);
        for subscriber in affected {
            self.call_ended(now, subscriber, Some(reason.to_owned()));
        }
    }

    /// A subscriber has dialled while the tunnel was closing.
    fn reopen_if_wanted(&mut self, now: Duration, index: u32) {
        if !self.tunnels[index as usize].waiting.is_empty() {
            self.open_tunnel(now, index);
        }
    }

    fn note_acknowledged(&mut self, now: Duration, index: u32, tag: Tag) {
        self.note_moment(index, Moment::ControlAcknowledged);
        match tag {
            Tag::Connect => self.note_moment(index, Moment::CallConnected),
            Tag::Clear => self.note_moment(index, Moment::CallCleared),
            Tag::Hello | Tag::Call(_) | Tag::Plain => {}
        }
        if tag == Tag::Hello {
            self.note_moment(index, Moment::HelloAcknowledged);
            self.note_hello_answered(index);
            if let Some(mark) = &mut self.mark {
                mark.note_hello_answered(index, now);
            }
        }
    }

    fn call_taken(&mut self, now: Duration, index: u32, session: SessionId, peer: SessionId) {
        let (eager, proxy, sequencing) = (self.plan.eager, self.plan.proxy, self.plan.sequencing);
        self.note_moment(self.subscribers[index as usize].tunnel, Moment::CallTaken);
        let subscriber = &mut self.subscribers[index as usize];
        let tunnel = subscriber.tunnel;
        let Some(call) = subscriber
            .call
            .as_mut()
            .filter(|call| call.local == session && call.peer.is_none())
        else {
            return;
        };
        call.peer = Some(peer);
        let mut frames = std::mem::take(&mut self.frames);
        let mut ctx = Context {
            now,
            login: &subscriber.login,
            network_repeats: self.plan.impairment.repeats(),
            hold_acknowledgement: self.hold,
            rng: &mut self.rng,
            frames: &mut frames,
        };
        let mut iccn = Iccn {
            tx_speed: TX_SPEED,
            framing_type: framing::SYNCHRONOUS,
            sequencing_required: sequencing,
            ..Iccn::default()
        };
        if proxy {
            let (client, proxy) = Client::start_proxied(&mut ctx);
            call.client = Some(client);
            iccn.proxy = proxy;
        } else {
            call.client = Some(Client::start(&mut ctx, eager));
        }
        self.tunnels[tunnel as usize].connect_call(peer, iccn);
        // The ICCN goes first, or the client's first word would be for nobody.
        self.flush_tunnel(now, tunnel);
        for frame in frames.drain(..) {
            self.send_frame(index, &frame);
        }
        self.frames = frames;
        self.remind_subscriber(index);
    }

    fn opened(&mut self, now: Duration, index: u32, address: Ipv4Addr) {
        self.note_moment(self.subscribers[index as usize].tunnel, Moment::Opened);
        let interval = self.ping_interval(index);
        let subscriber = &mut self.subscribers[index as usize];
        let Some(call) = &mut subscriber.call else { return };
        if !call.established {
            call.established = true;
            self.counts.pending -= 1;
            self.counts.established += 1;
            self.counts.last_opened = Some(now);
            if let Some(asked) = call.asked_at {
                if let Some(mark) = &mut self.mark {
                    mark.note_call_opened(subscriber.tunnel, asked, now);
                }
                self.counts.setups.record(now - asked);
                subscriber.setup = Some(now - asked);
            }
        }
        subscriber.state = SessionState::Open;
        if !interval.is_zero() {
            call.ping.next = Some(now);
        }
        subscriber.address = Some(address);
        if self
            .addresses
            .insert(address, index)
            .is_some_and(|other| other != index)
        {
            self.counts.duplicated += 1;
        }
    }

    fn renegotiated(&mut self, now: Duration, index: u32) {
        self.release_address(index);
        let subscriber = &mut self.subscribers[index as usize];
        let Some(call) = subscriber.call.as_mut().filter(|call| !call.ending) else {
            return;
        };
        if !std::mem::replace(&mut call.renegotiated, true) {
            self.counts.renegotiated += 1;
            self.counts.marked_renegotiated += u64::from(call.marked);
        }
        self.events.push_back(Event::Renegotiated {
            subscriber: index,
            at_ms: millis(now),
        });
    }

    /// The LAC ends the call, for a reason of the client's or, without one, on purpose.
    pub(super) fn disconnect(&mut self, now: Duration, index: u32, reason: Option<String>) {
        let subscriber = &self.subscribers[index as usize];
        let Some(call) = &subscriber.call else { return };
        let (tunnel, local, peer) = (subscriber.tunnel, call.local, call.peer);
        self.tunnels[tunnel as usize].end_call(local, peer, call_result::LOSS_OF_CARRIER);
        self.call_ended(now, index, reason);
        self.flush_tunnel(now, tunnel);
    }

    /// A call is over, or was never placed; without a reason on purpose.
    pub(super) fn call_ended(&mut self, now: Duration, index: u32, reason: Option<String>) {
        self.release_address(index);
        let subscriber = &mut self.subscribers[index as usize];
        let (established, ending, marked) = subscriber.call.as_ref().map_or((false, false, false), |call| {
            (call.established, call.ending, call.marked)
        });
        if !established {
            self.counts.pending -= 1;
        }
        let reason = reason.filter(|_| !ending);
        let state = match (&reason, established) {
            (None, _) => {
                self.counts.hung_up += 1;
                SessionState::Idle
            }
            (Some(reason), true) => {
                self.counts.lost(reason);
                self.counts.marked_lost += u64::from(marked);
                let event = Event::Lost {
                    subscriber: index,
                    reason: reason.clone(),
                    at_ms: millis(now),
                };
                self.events.push_back(event);
                SessionState::Lost
            }
            (Some(reason), false) => {
                self.counts.failed(reason);
                SessionState::Failed
            }
        };
        subscriber.end_call(state, reason, now);
    }

    pub(super) fn release_address(&mut self, index: u32) {
        if let Some(address) = self.subscribers[index as usize].address.take()
            && self.addresses.get(&address) == Some(&index)
        {
            self.addresses.remove(&address);
        }
    }

    /// Whether the tunnel of this index takes calls now.
    pub(super) fn is_tunnel_up(&self, index: u32) -> bool {
        self.tunnels[index as usize].state == State::Established
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
