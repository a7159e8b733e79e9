//! The receiving half of the control channel (RFC 2661 §5.8): order, duplicates, and what may be acknowledged.
//!
//! `received` counts what was processed, `accepted` what may be acknowledged. The commit gate moves the second up
//! to the first. An Nr that was never accepted never leaves.

use super::{Delivery, DropReason};
use crate::ids::SessionId;
use crate::sequence::{distance, is_before};

/// A message that came before its predecessors.
pub(crate) struct Early {
    ns: u16,
    pub(crate) session: Option<SessionId>,
    pub(crate) body: Box<[u8]>,
}

pub(super) struct Receiver {
    received: u16,
    accepted: u16,
    /// The last Nr that left.
    acknowledged: u16,
    /// An acknowledgement is owed although it says nothing new.
    repeat: bool,
    /// Our own window, messages: what a peer may send ahead, and so the bound of `early`.
    window: u16,
    early: Vec<Early>,
}

impl Receiver {
    pub(super) fn new(window: u16, received: u16) -> Self {
        Self {
            received,
            accepted: received,
            acknowledged: received,
            repeat: false,
            window: window.max(1),
            early: Vec::new(),
        }
    }

    pub(super) fn received(&self) -> u16 {
        self.received
    }

    pub(super) fn accepted(&self) -> u16 {
        self.accepted
    }

    /// Judges a message with a body. `Deliver` counts it as received.
    pub(super) fn receive(
        &mut self,
        ns: u16,
        session: Option<SessionId>,
        body: &[u8],
    ) -> Result<Delivery, DropReason> {
        if is_before(ns, self.received) {
            self.repeat = true;
            return Ok(Delivery::Duplicate);
        }
        let ahead = distance(ns, self.received);
        // Counted from what the peer can know to be acknowledged, nobody sends further ahead than our window.
        if distance(ns, self.accepted) >= self.window {
            return Err(DropReason::OutOfWindow {
                ns,
                expected: self.received,
            });
        }
        if ahead == 0 {
            self.received = self.received.wrapping_add(1);
            return Ok(Delivery::Deliver);
        }
        if self.early.iter().all(|early| early.ns != ns) {
            self.early.push(Early {
                ns,
                session,
                body: body.into(),
            });
        }
        Ok(Delivery::Early)
    }

    /// The early message whose turn it is now; it counts as received.
    pub(super) fn next_early(&mut self) -> Option<Early> {
        let index = self.early.iter().position(|early| early.ns == self.received)?;
        self.received = self.received.wrapping_add(1);
        Some(self.early.swap_remove(index))
    }

    /// Messages below `nr` may be acknowledged.
    pub(super) fn accept(&mut self, nr: u16) {
        if distance(nr, self.accepted) <= distance(self.received, self.accepted) {
            self.accepted = nr;
        }
    }

    pub(super) fn repeat_acknowledgement(&mut self) {
        self.repeat = true;
    }

    pub(super) fn owes_acknowledgement(&self) -> bool {
        self.repeat || self.acknowledged != self.accepted
    }

    /// The accepted Nr left, in whatever message.
    pub(super) fn acknowledgement_sent(&mut self) {
        self.repeat = false;
        self.acknowledged = self.accepted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_31_an_early_message_is_kept_once_however_often_it_comes() {
        let mut receiver = Receiver::new(4, 0);
        for _ in 0..100 {
            for ns in 1..4 {
                assert_eq!(receiver.receive(ns, None, &[1]), Ok(Delivery::Early));
            }
        }
        assert_eq!(receiver.early.len(), 3);
        assert_eq!(receiver.receive(0, None, &[0]), Ok(Delivery::Deliver));
        while receiver.next_early().is_some() {}
        assert_eq!((receiver.received(), receiver.early.len()), (4, 0));
    }
}
