//! Who dials when, and how calls and tunnels end on purpose.

use std::time::Duration;

use holdfast_protocol::iana::stop_result;
use rand::RngExt;

use super::super::protocol::{HangUp, SessionState};
use super::super::subscriber::Call;
use super::super::tunnel::State;
use super::Fleet;

/// Calls that one pass of the dialler places at most, so that answers are read in between.
const MAX_PER_PASS: u32 = 256;

/// Calls still to be placed, and how fast.
#[derive(Debug, Default)]
pub struct Dialler {
    remaining: u32,
    /// Between two calls; zero: no pace.
    gap: Duration,
    next: Duration,
    /// Calls on their way at once.
    concurrency: u64,
    /// Where the search for idle subscribers goes on.
    cursor: u32,
}

impl Dialler {
    /// Calls that are still to be placed.
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// When the next call is to be placed, if there is room for it.
    pub fn poll_timeout(&self, pending: u64) -> Option<Duration> {
        (self.remaining > 0 && pending < self.concurrency).then_some(self.next)
    }
}

impl Fleet {
    /// Places calls of `sessions` idle subscribers, `rate` a second, `concurrency` at once.
    pub fn dial(&mut self, now: Duration, sessions: u32, rate: Option<f64>, concurrency: Option<u32>) {
        let gap = rate
            .filter(|rate| *rate > 0.0)
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        let concurrency = concurrency.map_or(u64::MAX, u64::from);
        self.dialler = Dialler {
            remaining: sessions,
            gap,
            next: now,
            concurrency,
            cursor: 0,
        };
        self.continue_dialling(now);
    }

    pub(super) fn continue_dialling(&mut self, now: Duration) {
        for _ in 0..MAX_PER_PASS {
            if self
                .dialler
                .poll_timeout(self.counts.pending)
                .is_none_or(|due| due > now)
            {
                return;
            }
            let Some(index) = self.next_idle() else {
                self.dialler.remaining = 0;
                return;
            };
            self.dialler.remaining -= 1;
            self.dialler.next += self.dialler.gap;
            self.call(now, index);
        }
    }

    fn next_idle(&mut self) -> Option<u32> {
        let count = self.subscribers.len() as u32;
        let first = self.dialler.cursor;
        let index = (first..count).find(|index| self.subscribers[*index as usize].is_idle())?;
        self.dialler.cursor = index + 1;
        Some(index)
    }

    fn call(&mut self, now: Duration, index: u32) {
        let subscriber = &mut self.subscribers[index as usize];
        subscriber.state = SessionState::Pending;
        subscriber.renegotiated = false;
        let tunnel = subscriber.tunnel;
        self.counts.asked += 1;
        self.counts.pending += 1;
        match self.tunnels[tunnel as usize].state {
            State::Established => {
                self.place_call(tunnel, index);
                self.flush_tunnel(now, tunnel);
            }
            State::WaitReply | State::Closing => self.tunnels[tunnel as usize].waiting.push(index),
            State::Idle => {
                self.tunnels[tunnel as usize].waiting.push(index);
                self.open_tunnel(now, tunnel);
            }
        }
    }

    pub(super) fn open_tunnel(&mut self, now: Duration, index: u32) {
        let lac = self.tunnels[index as usize].lac;
        self.counts.first_opening.get_or_insert(now);
        self.forget_tunnel_id(index);
        let local = self.unused_tunnel_id(lac);
        self.ids[usize::from(lac)].insert(local, index);
        let challenge = self.rng.random();
        let tunnel = &mut self.tunnels[index as usize];
        self.counts.retransmitted += tunnel.retransmitted();
        tunnel.remote = self.plan.target;
        tunnel.open(now, &self.traits[usize::from(lac)], local, challenge);
        tunnel.set_repeat(self.repeat);
        self.flush_tunnel(now, index);
    }

    /// Queues the ICRQ of a subscriber whose tunnel is up.
    pub(super) fn place_call(&mut self, tunnel: u32, index: u32) {
        if let Some(mark) = &mut self.mark {
            mark.note_call_placed(tunnel);
        }
        self.serial = self.serial.wrapping_add(1);
        match self.tunnels[tunnel as usize].place_call(index, self.serial) {
            Some(session) => {
                let call = Call::new(session, self.plan.sequencing);
                self.subscribers[index as usize].call = Some(call);
            }
            None => {
                self.counts.pending -= 1;
                self.counts.failed("no session id left in the tunnel");
                self.subscribers[index as usize].state = SessionState::Failed;
            }
        }
    }

    /// Ends calls of subscribers from number `from` on.
    pub fn hang_up(&mut self, now: Duration, from: u32, sessions: Option<u32>, by: HangUp) {
        let mut left = sessions.unwrap_or(u32::MAX);
        for index in from..self.subscribers.len() as u32 {
            if left == 0 {
                return;
            }
            let subscriber = &mut self.subscribers[index as usize];
            let Some(call) = subscriber.call.as_mut().filter(|call| !call.ending) else {
                continue;
            };
            left -= 1;
            call.ending = true;
            call.ping.stop();
            subscriber.state = SessionState::Closing;
            match by {
                HangUp::Terminate if call.client.is_some() => self.drive_client(now, index, |client, ctx| {
                    client.terminate(ctx);
                    None
                }),
                HangUp::Terminate | HangUp::Disconnect => self.disconnect(now, index, None),
            }
            self.remind_subscriber(index);
        }
    }

    /// Ends every tunnel by StopCCN.
    pub fn close(&mut self, now: Duration) {
        self.dialler.remaining = 0;
        for index in 0..self.tunnels.len() as u32 {
            let tunnel = &mut self.tunnels[index as usize];
            if !matches!(tunnel.state, State::Established | State::WaitReply) {
                continue;
            }
            self.counts.tunnels_open -= u64::from(tunnel.state == State::Established);
            tunnel.close(stop_result::GENERAL_REQUEST);
            self.drop_calls(now, index);
            self.flush_tunnel(now, index);
        }
    }

    /// Tunnels forget everything and say nothing, as if their LAC had lost power.
    pub fn vanish(&mut self, now: Duration, tunnels: Option<u32>) {
        let count = tunnels.unwrap_or(u32::MAX).min(self.tunnels.len() as u32);
        for index in 0..count {
            self.counts.tunnels_open -= u64::from(self.is_tunnel_up(index));
            self.drop_calls(now, index);
            self.forget_tunnel_id(index);
            let tunnel = &mut self.tunnels[index as usize];
            self.counts.retransmitted += tunnel.retransmitted();
            tunnel.vanish();
        }
    }

    /// All calls of a tunnel end on purpose, without a message of their own.
    fn drop_calls(&mut self, now: Duration, index: u32) {
        let tunnel = &mut self.tunnels[index as usize];
        let mut affected = tunnel.take_calls();
        affected.append(&mut tunnel.waiting);
        for subscriber in affected {
            self.call_ended(now, subscriber, None);
        }
    }

    fn forget_tunnel_id(&mut self, index: u32) {
        let tunnel = &self.tunnels[index as usize];
        let ids = &mut self.ids[usize::from(tunnel.lac)];
        if ids.get(&tunnel.local) == Some(&index) {
            ids.remove(&tunnel.local);
        }
    }
}
