//! The sending half of the control channel (RFC 2661 §5.8): queue, window, retransmission.
//!
//! ```text
//!      oldest          next           highest        released         queued
//!        |  in flight   | to be sent   |  may leave    |  held          |
//!  ------+--------------+- - - - - - - +---------------+----------------+--> Ns
//!        acknowledged before           never sent before
//! ```
//!
//! An Ns is assigned when a message is queued. It leaves once it is *released*, which is what the commit gate
//! decides, and the window has room. When the timer of the oldest message runs out, sending goes back to it.

use std::collections::VecDeque;
use std::time::Duration;

use super::Timing;
use super::congestion::Congestion;
use crate::header::ControlHeader;
use crate::sequence::distance;

/// Messages that may wait for their acknowledgement or for the window, whichever the peer.
pub(super) const SEND_QUEUE_MESSAGES: usize = 4096;

/// The retransmissions are used up without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoAnswer;

pub(super) struct Sender {
    oldest: u16,
    next: u16,
    highest: u16,
    released: u16,
    queue: VecDeque<Box<[u8]>>,
    congestion: Congestion,
    due: Option<Duration>,
    retransmissions: u32,
}

impl Sender {
    pub(super) fn new(peer_window: u16) -> Self {
        Self {
            oldest: 0,
            next: 0,
            highest: 0,
            released: 0,
            queue: VecDeque::new(),
            congestion: Congestion::new(peer_window),
            due: None,
            retransmissions: 0,
        }
    }

    /// As it was stored: all that was queued was released, and may have left.
    pub(super) fn restore(peer_window: u16, oldest: u16, messages: impl Iterator<Item = Box<[u8]>>) -> Self {
        let queue: VecDeque<_> = messages.collect();
        let end = oldest.wrapping_add(queue.len() as u16);
        Self {
            oldest,
            next: oldest,
            highest: end,
            released: end,
            queue,
            ..Self::new(peer_window)
        }
    }

    pub(super) fn oldest(&self) -> u16 {
        self.oldest
    }

    /// The Ns that the next message to be queued will take.
    pub(super) fn queued(&self) -> u16 {
        self.oldest.wrapping_add(self.queue.len() as u16)
    }

    /// The Ns that a ZLB carries: of the first message that has never left.
    pub(super) fn highest(&self) -> u16 {
        self.highest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn set_peer_window(&mut self, messages: u16) {
        self.congestion.set_limit(messages);
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= SEND_QUEUE_MESSAGES
    }

    pub(super) fn push(&mut self, message: Vec<u8>) {
        self.queue.push_back(message.into_boxed_slice());
    }

    /// Messages with this Ns or a later one.
    pub(super) fn messages_from(&self, ns: u16) -> impl Iterator<Item = (u16, &[u8])> {
        let offset = usize::from(distance(ns, self.oldest));
        // An Ns before the oldest is far ahead, modulo 65536: then all of the queue is meant.
        let skip = if offset > self.queue.len() { 0 } else { offset };
        let first = self.oldest.wrapping_add(skip as u16);
        self.queue
            .iter()
            .skip(skip)
            .enumerate()
            .map(move |(index, octets)| (first.wrapping_add(index as u16), octets.as_ref()))
    }

    /// Lets messages below `ns` leave. Never takes a release back.
    pub(super) fn release(&mut self, ns: u16) {
        let ahead = distance(ns, self.oldest);
        if usize::from(ahead) <= self.queue.len() && ahead > distance(self.released, self.oldest) {
            self.released = ns;
        }
    }

    /// The peer expects `nr` next. Whether that acknowledged anything new; what it cannot mean is ignored.
    pub(super) fn acknowledge(&mut self, now: Duration, nr: u16, timing: &Timing) -> bool {
        let count = distance(nr, self.oldest);
        if count == 0 || count > distance(self.highest, self.oldest) {
            return false;
        }
        let in_flight = distance(self.next, self.oldest);
        self.queue.drain(..usize::from(count));
        self.oldest = nr;
        if in_flight < count {
            self.next = nr;
        }
        self.congestion.acknowledged(count);
        self.retransmissions = 0;
        self.due = (self.next != self.oldest).then(|| now + timing.interval(0));
        true
    }

    /// The next message that may leave, with `nr` in it.
    pub(super) fn poll(&mut self, now: Duration, nr: u16, timing: &Timing) -> Option<Vec<u8>> {
        let index = distance(self.next, self.oldest);
        if index >= self.congestion.window() || index >= distance(self.released, self.oldest) {
            return None;
        }
        let mut octets = self.queue[usize::from(index)].to_vec();
        ControlHeader::patch_nr(&mut octets, nr);
        if self.next == self.highest {
            self.highest = self.highest.wrapping_add(1);
        }
        self.next = self.next.wrapping_add(1);
        let retransmissions = self.retransmissions;
        self.due
            .get_or_insert_with(|| now + timing.interval(retransmissions));
        Some(octets)
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Duration, timing: &Timing) -> Result<(), NoAnswer> {
        if self.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        if self.retransmissions >= timing.max_retransmits {
            self.due = None;
            return Err(NoAnswer);
        }
        self.retransmissions += 1;
        self.congestion.lost();
        self.next = self.oldest;
        self.due = Some(now + timing.interval(self.retransmissions));
        Ok(())
    }
}
