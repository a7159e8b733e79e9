//! What the fleet has counted and measured.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stats::Samples;

use super::super::protocol::{CallIds, Report, Session};
use super::super::subscriber::Subscriber;
use super::Fleet;
use super::calls::millis;

/// Different reasons that are told apart; the rest is summed up.
const MAX_REASONS: usize = 32;

/// Running totals.
#[derive(Debug, Default)]
pub struct Counts {
    pub asked: u64,
    pub established: u64,
    pub pending: u64,
    pub hung_up: u64,
    pub renegotiated: u64,
    pub duplicated: u64,
    pub marked_lost: u64,
    pub marked_renegotiated: u64,
    pub tunnels_open: u64,
    pub tunnels_failed: u64,
    pub tunnels_lost: u64,
    pub stuck: u64,
    pub pings_sent: u64,
    pub pings_answered: u64,
    pub sent: u64,
    pub received: u64,
    pub undecodable: u64,
    pub stray: u64,
    pub numbers_repeated: u64,
    pub numbers_missing: u64,
    /// Of tunnels that are over.
    pub retransmitted: u64,
    pub setups: Samples,
    /// When the first tunnel was asked for, the first ICRQ left and the last IPCP opened, since the last reset.
    pub first_opening: Option<Duration>,
    pub first_asked: Option<Duration>,
    pub last_opened: Option<Duration>,
    failures: BTreeMap<String, u64>,
    losses: BTreeMap<String, u64>,
}

impl Counts {
    pub fn failed(&mut self, reason: &str) {
        note(&mut self.failures, reason);
    }

    pub fn lost(&mut self, reason: &str) {
        note(&mut self.losses, reason);
    }
}

impl Fleet {
    /// Everything counted so far.
    pub fn report(&self, now: Duration) -> Report {
        let counts = &self.counts;
        let longest = self
            .subscribers
            .iter()
            .map(|subscriber| subscriber.pings(now).2)
            .max();
        let retransmitted: u64 = self.tunnels.iter().map(super::Tunnel::retransmitted).sum();
        let unanswered = self
            .tunnels
            .iter()
            .filter_map(super::Tunnel::unanswered_since)
            .min();
        let lost: u64 = counts.losses.values().sum();
        let open = self
            .subscribers
            .iter()
            .filter(|subscriber| subscriber.is_open())
            .count() as u64;
        Report {
            at_ms: millis(now),
            sessions_asked: counts.asked,
            sessions_established: counts.established,
            calls_to_place: u64::from(self.dialler.remaining()),
            sessions_pending: counts.pending,
            sessions_open: open,
            sessions_failed: counts.failures.values().sum(),
            failures: counts.failures.clone(),
            sessions_lost: lost,
            losses: counts.losses.clone(),
            sessions_renegotiated: counts.renegotiated,
            sessions_hung_up: counts.hung_up,
            tunnels_open: counts.tunnels_open,
            tunnels_failed: counts.tunnels_failed,
            tunnels_lost: counts.tunnels_lost,
            control_channels_stuck: counts.stuck,
            longest_unacknowledged_ms: millis(unanswered.map_or(Duration::ZERO, |since| now - since)),
            addresses_duplicated: counts.duplicated,
            pings_sent: counts.pings_sent,
            pings_answered: counts.pings_answered,
            longest_gap_ms: millis(longest.unwrap_or_default()),
            setups_measured: counts.setups.len() as u64,
            setup_rate: self.setup_rate(),
            bring_up_ms: self.bring_up().as_secs_f64() * 1000.0,
            setup_p50_ms: counts.setups.percentile_ms(50.0),
            setup_p99_ms: counts.setups.percentile_ms(99.0),
            datagrams_sent: counts.sent,
            datagrams_received: counts.received,
            retransmitted: counts.retransmitted + retransmitted,
            datagrams_dropped: 0,
            datagrams_undecodable: counts.undecodable,
            datagrams_stray: counts.stray,
            data_numbers_repeated: counts.numbers_repeated,
            data_numbers_missing: counts.numbers_missing,
            marked_lost: counts.marked_lost,
            marked_renegotiated: counts.marked_renegotiated,
            since_mark: self.since_mark(now),
        }
    }

    /// Sessions a second from the first ICRQ to the last IPCP open.
    fn setup_rate(&self) -> f64 {
        match (self.counts.first_asked, self.counts.last_opened) {
            (Some(first), Some(last)) if last > first => {
                self.counts.setups.len() as f64 / (last - first).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// From the first SCCRQ or ICRQ to the last IPCP open.
    fn bring_up(&self) -> Duration {
        let Counts {
            first_opening,
            first_asked,
            last_opened,
            ..
        } = self.counts;
        let first = first_opening.into_iter().chain(first_asked).min();
        first
            .zip(last_opened)
            .map_or(Duration::ZERO, |(first, last)| last.saturating_sub(first))
    }

    /// One line a subscriber.
    pub fn sessions(&self, now: Duration) -> Vec<Session> {
        let lines = self.subscribers.iter().enumerate().map(|(index, subscriber)| {
            let (sent, answered, gap) = subscriber.pings(now);
            Session {
                subscriber: index as u32,
                state: subscriber.state,
                address: subscriber.address,
                reason: subscriber.reason.clone(),
                setup_ms: subscriber.setup.map(|setup| setup.as_secs_f64() * 1000.0),
                renegotiated: subscriber.has_renegotiated(),
                pings_sent: sent,
                pings_answered: answered,
                longest_gap_ms: millis(gap),
                ids: self.call_ids(subscriber),
            }
        });
        lines.collect()
    }

    /// By what the two sides name the call of a subscriber who is up.
    fn call_ids(&self, subscriber: &Subscriber) -> Option<CallIds> {
        let call = subscriber.call.as_ref().filter(|call| call.is_open())?;
        let tunnel = &self.tunnels[subscriber.tunnel as usize];
        Some(CallIds {
            lac: tunnel.lac,
            tunnel: tunnel.local.get(),
            session: call.local.get(),
            peer_tunnel: tunnel.peer()?.get(),
            peer_session: call.peer?.get(),
        })
    }

    /// Forgets latencies and gaps, so that what follows is measured by itself.
    pub fn reset_measurements(&mut self) {
        self.counts.setups.clear();
        (self.counts.first_opening, self.counts.first_asked) = (None, None);
        self.counts.last_opened = None;
        for subscriber in &mut self.subscribers {
            subscriber.past = Default::default();
            if let Some(call) = &mut subscriber.call {
                call.ping.restart();
            }
        }
    }
}

fn note(reasons: &mut BTreeMap<String, u64>, reason: &str) {
    let known = reasons.contains_key(reason) || reasons.len() < MAX_REASONS;
    *reasons
        .entry(if known {
            reason.to_owned()
        } else {
            "other".to_owned()
        })
        .or_default() += 1;
}
