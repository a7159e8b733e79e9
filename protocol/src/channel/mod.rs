//! The reliable control channel (RFC 2661 §5.8 and appendix A) with a commit gate.
//!
//! In order and exactly once, both ways. Two things leave only after [`Channel::accept`]: an Nr that acknowledges
//! something new, and a message that takes a new Ns. Retransmissions, and the repeated acknowledgement that a
//! duplicate asks for, need no gate: they say nothing that was not said before.

mod congestion;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::time::Duration;

use thiserror::Error;

use crate::header::{ControlHeader, HeaderError};
use crate::ids::{SessionId, TunnelId};
use receiver::{Early, Receiver};
pub(crate) use sender::NoAnswer;
use sender::Sender;

/// When a message is sent again, and when its sender gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Until the first retransmission; doubled for each further one.
    pub(crate) first: Duration,
    /// The doubling stops here.
    pub(crate) cap: Duration,
    /// Retransmissions of one message before the peer counts as gone.
    pub(crate) max_retransmits: u32,
}

impl Timing {
    /// From the `retransmissions`-th retransmission of a message to the next.
    fn interval(&self, retransmissions: u32) -> Duration {
        self.first
            .saturating_mul(2u32.saturating_pow(retransmissions))
            .min(self.cap.max(self.first))
    }
}

/// The send queue holds as many messages as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the control channel's send queue is full")]
pub struct QueueFull;

/// Why a control message had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DropReason {
    /// Its header is malformed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// It is a data message.
    #[error("not a control message")]
    NotControl,
    /// Its Ns lies beyond our window.
    #[error("Ns {ns} is beyond the window, {expected} is expected")]
    OutOfWindow {
        /// The message's Ns.
        ns: u16,
        /// The Ns that is due.
        expected: u16,
    },
    /// The tunnel and its retention are over.
    #[error("the tunnel is gone")]
    Gone,
}

/// What becomes of a message that was not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is the one expected: process it.
    Deliver,
    /// Kept until its predecessors have come.
    Early,
    /// Processed before; will be acknowledged again.
    Duplicate,
}

/// How far a channel has come: what a change of the tunnel's row records (each a sequence number).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The Ns expected next from the peer (RFC 2661's Sr).
    pub received: u16,
    /// The Ns that the next message to be queued will take.
    pub queued: u16,
    /// The Ns of the oldest message that the peer has not acknowledged; `queued` if there is none.
    pub acknowledged: u16,
}

/// Both halves of a tunnel's control channel.
pub(crate) struct Channel {
    sender: Sender,
    receiver: Receiver,
    timing: Timing,
}

impl Channel {
    /// A new channel: nothing sent, nothing received.
    pub(crate) fn new(timing: Timing, own_window: u16, peer_window: u16) -> Self {
        Self {
            sender: Sender::new(peer_window),
            receiver: Receiver::new(own_window, 0),
            timing,
        }
    }

    /// A channel as it was stored. Its acknowledgement may never have left, so it is repeated at once.
    pub(crate) fn restore(
        timing: Timing,
        own_window: u16,
        peer_window: u16,
        progress: Progress,
        unacknowledged: impl Iterator<Item = Box<[u8]>>,
    ) -> Self {
        let mut receiver = Receiver::new(own_window, progress.received);
        receiver.repeat_acknowledgement();
        let sender = Sender::restore(peer_window, progress.acknowledged, unacknowledged);
        Self {
            sender,
            receiver,
            timing,
        }
    }

    pub(crate) fn set_peer_window(&mut self, messages: u16) {
        self.sender.set_peer_window(messages);
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            received: self.receiver.received(),
            queued: self.sender.queued(),
            acknowledged: self.sender.oldest(),
        }
    }

    /// Queues a message. The header's Ns is assigned here; Nr follows when it is sent.
    pub(crate) fn queue(&mut self, encode: impl FnOnce(u16) -> Vec<u8>) -> Result<(), QueueFull> {
        if self.sender.is_full() {
            return Err(QueueFull);
        }
        self.queue_last(encode);
        Ok(())
    }

    /// Queues the message that ends the tunnel, for which there is always room.
    pub(crate) fn queue_last(&mut self, encode: impl FnOnce(u16) -> Vec<u8>) {
        let octets = encode(self.sender.queued());
        self.sender.push(octets);
    }

    pub(crate) fn messages_from(&self, ns: u16) -> impl Iterator<Item = (u16, &[u8])> {
        self.sender.messages_from(ns)
    }

    /// Nothing waits for an acknowledgement.
    pub(crate) fn is_idle(&self) -> bool {
        self.sender.is_empty()
    }

    /// The gate: `progress` is accepted. What lies outside of what happened is ignored.
    pub(crate) fn accept(&mut self, progress: Progress) {
        self.receiver.accept(progress.received);
        self.sender.release(progress.queued);
    }

    /// Takes the Nr of any control message. Whether it acknowledged anything new.
    pub(crate) fn acknowledge(&mut self, now: Duration, nr: u16) -> bool {
        self.sender.acknowledge(now, nr, &self.timing)
    }

    /// Judges a message with a body; a ZLB is never passed here. After `Deliver`, [`Self::next_early`] is drained.
    pub(crate) fn receive(
        &mut self,
        ns: u16,
        session: Option<SessionId>,
        body: &[u8],
    ) -> Result<Delivery, DropReason> {
        self.receiver.receive(ns, session, body)
    }

    pub(crate) fn next_early(&mut self) -> Option<Early> {
        self.receiver.next_early()
    }

    /// The next datagram that may leave: a message, else the acknowledgement that is owed as a ZLB to `peer`.
    pub(crate) fn poll_transmit(&mut self, now: Duration, peer: Option<TunnelId>) -> Option<Vec<u8>> {
        let nr = self.receiver.accepted();
        if let Some(message) = self.sender.poll(now, nr, &self.timing) {
            self.receiver.acknowledgement_sent();
            return Some(message);
        }
        if !self.receiver.owes_acknowledgement() {
            return None;
        }
        self.receiver.acknowledgement_sent();
        let header = ControlHeader {
            tunnel: peer,
            session: None,
            ns: self.sender.highest(),
            nr,
        };
        Some(header.encode(0).to_vec())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.sender.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) -> Result<(), NoAnswer> {
        self.sender.handle_timeout(now, &self.timing)
    }
}
