//! Probes, their acknowledgements, and what follows from either.

use std::time::Duration;

use prost::Message;

use super::{LEASE, Liveness, Output, ProbeError};
use crate::limits::{LONELY_MS, PROBE_INTERVAL_MS, SILENCE_MS};
use crate::probes::{Datagram, Probe, ProbeAck, Standing, datagram::Body};

impl Liveness {
    /// Comes first at each input: a judge that is late gives everybody that much more time, whether it is its timer
    /// that comes late or a message that it finds after a stall.
    pub(super) fn wake(&mut self, now: Duration) {
        let Some(lateness) = now.checked_sub(self.next_round) else {
            return;
        };
        self.peers.values_mut().for_each(|peer| peer.extend(lateness));
        self.connected += lateness;
        self.next_round = now;
    }

    /// One round: the same probe to everybody.
    pub(super) fn probe(&mut self, now: Duration) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.next_round = now + Duration::from_millis(PROBE_INTERVAL_MS);
        let silence = Duration::from_millis(SILENCE_MS);
        self.rounds.retain(|(_, sent)| *sent + silence > now);
        self.rounds.push_back((sequence, now));
        let probe = Body::Probe(Probe {
            sequence,
            boot: self.boot,
            standing: Some(self.standing()),
        });
        for node in self.peers.keys() {
            self.outputs.push_back(send(*node, probe));
        }
    }

    pub(super) fn handle_probe(&mut self, now: Duration, from: u64, probe: &Probe) -> Result<(), ProbeError> {
        let standing = probe.standing.as_ref().ok_or(ProbeError::UnknownKind)?;
        let left = if self.leads() {
            self.own_lease().saturating_sub(now).min(LEASE)
        } else {
            Duration::ZERO
        };
        self.isolation.learn(standing.horizon);
        let peer = self.peers.get_mut(&from).ok_or(ProbeError::Stranger(from))?;
        peer.observe(now, standing, self.view.applied);
        let leaves = self.takeover.is_leaving(from);
        let lease = if !left.is_zero() && !leaves && peer.grant(now, standing.applied) {
            left
        } else {
            Duration::ZERO
        };
        if self.view.leader == from {
            self.support.give(now);
        }
        let ack = Body::Ack(ProbeAck {
            sequence: probe.sequence,
            boot: probe.boot,
            standing: Some(self.standing()),
            lease_ms: u32::try_from(lease.as_millis()).unwrap_or(u32::MAX),
            other_support_ms: milliseconds(now.saturating_sub(self.support.of_others)),
        });
        self.outputs.push_back(send(from, ack));
        Ok(())
    }

    pub(super) fn handle_ack(&mut self, now: Duration, from: u64, ack: &ProbeAck) -> Result<(), ProbeError> {
        let standing = ack.standing.as_ref().ok_or(ProbeError::UnknownKind)?;
        self.isolation.learn(standing.horizon);
        let peer = self.peers.get_mut(&from).ok_or(ProbeError::Stranger(from))?;
        let round = self.rounds.iter().find(|(sequence, _)| *sequence == ack.sequence);
        let Some((sequence, sent)) = round.copied().filter(|_| ack.boot == self.boot) else {
            return Ok(());
        };
        peer.observe(now, standing, self.view.applied);
        if peer.answer(now, sequence, self.view.applied) {
            self.outputs.push_back(Output::Back(from));
        }
        if (standing.term, standing.leader) != (self.view.term, self.view.leader) {
            return Ok(());
        }
        if standing.leader == self.me {
            let ago = Duration::from_millis(ack.other_support_ms);
            peer.support(sent, now.saturating_sub(ago));
        } else if standing.leader == from && ack.lease_ms > 0 {
            let lease = Duration::from_millis(u64::from(ack.lease_ms)).min(LEASE);
            self.support.lease_until = self.support.lease_until.max(sent + lease);
            self.isolation.hear(sent, standing.applied);
            self.isolation.advance(self.view.applied);
        }
        Ok(())
    }

    /// Says when leader or quorum have been missing for long, and when they are back.
    pub(super) fn check_connected(&mut self, now: Duration) {
        if self.is_alive(self.view.leader) && self.members.is_quorum(|node| self.is_alive(node)) {
            self.connected = now;
        }
        let lonely = now >= self.connected + Duration::from_millis(LONELY_MS);
        if lonely != self.lonely {
            self.lonely = lonely;
            self.outputs.push_back(Output::Lonely(lonely));
        }
    }

    /// The sending time of the newest probes that a quorum acknowledged as our followers. `MAX` if we alone are one.
    pub(super) fn quorum_sent(&self) -> Option<Duration> {
        self.members.reached(|node| match node == self.me {
            true => Some(Duration::MAX),
            false => self.peers.get(&node)?.supported,
        })
    }

    /// Until when this node, as leader, is fresh; zero: not now.
    pub(super) fn own_lease(&self) -> Duration {
        if self.view.applied < self.inherited {
            return Duration::ZERO;
        }
        self.quorum_sent()
            .map_or(Duration::ZERO, |sent| sent.saturating_add(LEASE))
    }

    fn standing(&self) -> Standing {
        Standing {
            term: self.view.term,
            leader: self.view.leader,
            applied: self.view.applied,
            incarnation: self.view.incarnation,
            wayless: self.way.lost,
            way_in_doubt: self.way.in_doubt,
            full: self.full,
            horizon: self.isolation.horizon(),
        }
    }
}

fn send(to: u64, body: Body) -> Output {
    let datagram = Datagram { body: Some(body) };
    Output::Send {
        to,
        octets: datagram.encode_to_vec(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
