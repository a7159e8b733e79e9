//! What is measured from a mark on, which is set right before something is done to the LNS.

use std::time::Duration;

use super::super::protocol::SinceMark;
use super::Fleet;
use super::calls::millis;

/// One mark.
#[derive(Debug)]
pub struct Mark {
    at: Duration,
    sessions: u64,
    /// One a tunnel, in the tunnels' order.
    tunnels: Vec<TunnelMark>,
}

/// What a tunnel has lived through since.
#[derive(Clone, Copy, Debug, Default)]
struct TunnelMark {
    was_up: bool,
    hello_sent: bool,
    answered: Option<Duration>,
    called: bool,
    opened: Option<Duration>,
}

impl Mark {
    pub fn note_hello_sent(&mut self, tunnel: u32, now: Duration) {
        self.tunnels[tunnel as usize].hello_sent |= now >= self.at;
    }

    /// An answer counts only to a HELLO of which a copy left after the mark: others may have been on their way.
    pub fn note_hello_answered(&mut self, tunnel: u32, now: Duration) {
        let mark = &mut self.tunnels[tunnel as usize];
        if mark.hello_sent {
            mark.answered.get_or_insert(now);
        }
    }

    pub fn note_call_placed(&mut self, tunnel: u32) {
        self.tunnels[tunnel as usize].called = true;
    }

    /// A call asked for at `asked` has come up.
    pub fn note_call_opened(&mut self, tunnel: u32, asked: Duration, now: Duration) {
        if asked >= self.at {
            self.tunnels[tunnel as usize].opened.get_or_insert(now);
        }
    }

    fn since(&self, time: Option<Duration>) -> Option<f64> {
        time.map(|time| time.saturating_sub(self.at).as_secs_f64() * 1000.0)
    }
}

impl Fleet {
    /// What follows is measured by itself; the sessions established now are those that must survive it.
    pub fn mark(&mut self, now: Duration) {
        let mut sessions = 0;
        for subscriber in &mut self.subscribers {
            subscriber.past.mark();
            if let Some(call) = &mut subscriber.call {
                call.ping.mark();
                call.marked = call.established;
                sessions += u64::from(call.established);
            }
        }
        let tunnels = (0..self.tunnels.len() as u32).map(|index| TunnelMark {
            was_up: self.is_tunnel_up(index),
            ..TunnelMark::default()
        });
        self.mark = Some(Mark {
            at: now,
            sessions,
            tunnels: tunnels.collect(),
        });
    }

    pub(super) fn since_mark(&self, now: Duration) -> Option<SinceMark> {
        let mark = self.mark.as_ref()?;
        let gaps = |fast: bool| {
            let sessions = self.subscribers.iter().zip(0..);
            sessions
                .filter(|(subscriber, index)| {
                    let marked = subscriber.call.as_ref().is_some_and(|call| call.marked);
                    marked && self.is_fast(*index) == fast
                })
                .map(|(subscriber, _)| subscriber.pings(now).2.as_secs_f64() * 1000.0)
                .collect()
        };
        let tunnels = mark.tunnels.iter();
        Some(SinceMark {
            at_ms: millis(mark.at),
            sessions_before: mark.sessions,
            control_gaps_ms: tunnels
                .clone()
                .filter(|tunnel| tunnel.was_up)
                .map(|tunnel| mark.since(tunnel.answered))
                .collect(),
            new_calls_ms: tunnels
                .filter(|tunnel| tunnel.called)
                .map(|tunnel| mark.since(tunnel.opened))
                .collect(),
            fast_gaps_ms: gaps(true),
            slow_gaps_ms: gaps(false),
        })
    }
}
