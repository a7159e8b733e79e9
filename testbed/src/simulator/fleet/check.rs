//! Pings inside the sessions, and the check that every tunnel and every session is alive.

use std::time::Duration;

use super::super::ppp::{self, EchoReply, echo_request, parse_echo_reply};
use super::super::protocol::{Checked, Event, SessionState};
use super::super::subscriber::{CHECK_SEQUENCE, CheckState};
use super::Fleet;

/// Octets of data in a ping.
const PAYLOAD: usize = 32;
/// A check asks again what was not answered for so long.
const REPEAT: Duration = Duration::from_secs(1);

/// The first so many subscribers ping at an interval of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fast {
    pub sessions: u32,
    pub interval: Duration,
}

/// A check under way.
#[derive(Debug)]
pub struct Check {
    deadline: Duration,
    repeat: Duration,
    tunnels: Vec<u32>,
    sessions: Vec<u32>,
    result: Checked,
}

impl Check {
    pub fn poll_timeout(&self) -> Duration {
        self.deadline.min(self.repeat)
    }

    fn is_complete(&self) -> bool {
        let Checked {
            tunnels_asked,
            tunnels_answered,
            sessions_asked,
            echoes_answered,
            pings_answered,
        } = self.result;
        tunnels_answered == tunnels_asked
            && echoes_answered == sessions_asked
            && pings_answered == sessions_asked
    }
}

impl Fleet {
    /// Changes the interval of the pings (zero: none) and their target.
    pub fn set_ping(
        &mut self,
        now: Duration,
        interval_ms: u64,
        host: Option<std::net::Ipv4Addr>,
        fast: Fast,
    ) {
        self.plan.ping_interval_ms = interval_ms;
        self.plan.ping_host = host;
        self.fast = fast;
        let count = self.subscribers.len().max(1) as u32;
        for index in 0..self.subscribers.len() as u32 {
            // Spread over one interval, or a hundred thousand would ping in one breath.
            let interval = self.ping_interval(index);
            let offset = interval.mul_f64(f64::from(index) / f64::from(count));
            let Some(call) = &mut self.subscribers[index as usize].call else {
                continue;
            };
            call.ping.stop();
            if !interval.is_zero() && call.is_open() {
                call.ping.next = Some(now + offset);
            }
            self.remind_subscriber(index);
        }
    }

    /// Between two pings of this subscriber; zero: none.
    pub(super) fn ping_interval(&self, index: u32) -> Duration {
        if self.is_fast(index) {
            self.fast.interval
        } else {
            Duration::from_millis(self.plan.ping_interval_ms)
        }
    }

    pub(super) fn is_fast(&self, index: u32) -> bool {
        index < self.fast.sessions
    }

    pub(super) fn send_due_ping(&mut self, now: Duration, index: u32) {
        let interval = self.ping_interval(index);
        let Some(call) = &mut self.subscribers[index as usize].call else {
            return;
        };
        if call.ping.next.is_none_or(|due| due > now) {
            return;
        }
        if interval.is_zero() || call.ending {
            call.ping.stop();
            return;
        }
        let sequence = call.ping.note_sent(now, interval);
        self.counts.pings_sent += 1;
        self.send_ping(index, sequence, self.plan.ping_host);
    }

    pub(super) fn handle_ipv4(&mut self, now: Duration, index: u32, packet: &[u8]) {
        let Some(reply) = parse_echo_reply(packet) else {
            return;
        };
        let Some(call) = &mut self.subscribers[index as usize].call else {
            return;
        };
        let ours = call
            .client
            .as_ref()
            .is_some_and(|client| reply.destination == client.address());
        if !ours || reply.id != index as u16 {
            self.counts.stray += 1;
            return;
        }
        if reply.sequence >= CHECK_SEQUENCE {
            self.note_check_ping(index, reply);
        } else {
            call.ping.note_answered(now);
            self.counts.pings_answered += 1;
        }
    }

    /// Sends a HELLO on every tunnel that is up.
    pub fn hello(&mut self, now: Duration) {
        for index in 0..self.tunnels.len() as u32 {
            if self.is_tunnel_up(index) {
                self.tunnels[index as usize].hello();
                self.flush_tunnel(now, index);
            }
        }
    }

    /// Asks every tunnel and every open session for a sign of life; the event comes by `within` at the latest.
    pub fn start_check(&mut self, now: Duration, within: Duration) {
        let tunnels: Vec<u32> = (0..self.tunnels.len() as u32)
            .filter(|&index| self.is_tunnel_up(index))
            .collect();
        let sessions: Vec<u32> = (0..self.subscribers.len() as u32)
            .filter(|&index| self.subscribers[index as usize].state == SessionState::Open)
            .collect();
        for &index in &tunnels {
            self.tunnels[index as usize].check_pending = true;
        }
        for &index in &sessions {
            if let Some(call) = &mut self.subscribers[index as usize].call {
                call.check = CheckState {
                    echo_pending: true,
                    ping_pending: true,
                };
            }
        }
        let result = Checked {
            tunnels_asked: tunnels.len() as u64,
            sessions_asked: sessions.len() as u64,
            ..Checked::default()
        };
        self.check = Some(Check {
            deadline: now + within,
            repeat: now,
            tunnels,
            sessions,
            result,
        });
        self.hello(now);
        self.continue_check(now);
    }

    pub(super) fn continue_check(&mut self, now: Duration) {
        let Some(mut check) = self.check.take() else {
            return;
        };
        if check.is_complete() || now >= check.deadline {
            for &index in &check.tunnels {
                self.tunnels[index as usize].check_pending = false;
            }
            self.events.push_back(Event::Checked(check.result));
            return;
        }
        if now >= check.repeat {
            check.repeat = now + REPEAT;
            for &index in &check.sessions {
                self.ask_session(now, index);
            }
        }
        self.check = Some(check);
    }

    pub(super) fn note_hello_answered(&mut self, index: u32) {
        let pending = std::mem::take(&mut self.tunnels[index as usize].check_pending);
        if let Some(check) = self.check.as_mut().filter(|_| pending) {
            check.result.tunnels_answered += 1;
        }
    }

    pub(super) fn note_echo_answered(&mut self, index: u32) {
        let Some(call) = &mut self.subscribers[index as usize].call else {
            return;
        };
        let pending = std::mem::take(&mut call.check.echo_pending);
        if let Some(check) = self.check.as_mut().filter(|_| pending) {
            check.result.echoes_answered += 1;
        }
    }

    fn note_check_ping(&mut self, index: u32, reply: EchoReply) {
        let Some(call) = &mut self.subscribers[index as usize].call else {
            return;
        };
        let from_server = call.client.as_ref().and_then(ppp::Client::server) == Some(reply.source);
        if !from_server || !std::mem::take(&mut call.check.ping_pending) {
            return;
        }
        if let Some(check) = &mut self.check {
            check.result.pings_answered += 1;
        }
    }

    fn ask_session(&mut self, now: Duration, index: u32) {
        let Some(call) = &self.subscribers[index as usize].call else {
            return;
        };
        let CheckState {
            echo_pending,
            ping_pending,
        } = call.check;
        if echo_pending {
            self.drive_client(now, index, |client, ctx| {
                client.send_echo(ctx);
                None
            });
        }
        if ping_pending {
            self.send_ping(index, CHECK_SEQUENCE, None);
        }
    }

    /// Pings `host`, or the LNS's own address inside the session.
    fn send_ping(&mut self, index: u32, sequence: u16, host: Option<std::net::Ipv4Addr>) {
        let Some(call) = &self.subscribers[index as usize].call else {
            return;
        };
        let Some(client) = &call.client else { return };
        let Some(target) = host.or(client.server()) else {
            return;
        };
        let packet = echo_request(client.address(), target, index as u16, sequence, PAYLOAD);
        self.send_frame(index, &ppp::frame(ppp::PROTOCOL_IPV4, &packet));
    }

    /// Holds the clients' Configure-Acks back from here on, or sends what is held.
    pub fn set_hold(&mut self, now: Duration, on: bool) {
        self.hold = on;
        if on {
            return;
        }
        for index in 0..self.subscribers.len() as u32 {
            self.drive_client(now, index, ppp::Client::release);
            self.remind_subscriber(index);
        }
    }
}
