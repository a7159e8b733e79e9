//! The whole table on its way to a member that has been away for longer than the log reaches back.
//!
//! It is encoded from the shared rows of one moment, part by part, as the receiver takes them, and built up there as
//! they arrive: no message is large, nobody waits for the disk, and memory holds no second table. Parts go in order
//! with a window, and again from the last one taken when nothing comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb::Message;

use crate::peer::{SnapshotPart, SnapshotTaken};
use crate::table::{ImageParts, Restore, RestoreError, Table, TableImage};

/// Parts sent and not taken, of 256 KiB each.
const WINDOW: usize = 8;
/// Ticks of 10 ms without an answer after which the parts are sent again, and after which the attempt is given up.
const RESEND_TICKS: u32 = 20;
const PATIENCE_TICKS: u32 = 200;

/// A table being sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    transfer: u64,
    parts: ImageParts<Arc<TableImage>>,
    /// Goes with the last part.
    message: Vec<u8>,
    /// The part that comes next; known in advance, to know which is the last.
    upcoming: Option<Vec<u8>>,
    next: u64,
    untaken: VecDeque<SnapshotPart>,
    ticks: u32,
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    Sending,
    /// The receiver has all of it.
    Complete,
    /// The receiver no longer answers.
    Stuck,
}

impl Outgoing {
    pub(super) fn new(transfer: u64, image: Arc<TableImage>, message: Vec<u8>) -> Self {
        let mut parts = ImageParts::new(image);
        Self {
            transfer,
            upcoming: parts.next(),
            parts,
            message,
            next: 0,
            untaken: VecDeque::new(),
            ticks: 0,
        }
    }

    /// What may be sent now and was not yet.
    pub(super) fn fill(&mut self) -> Vec<SnapshotPart> {
        let mut fresh = Vec::new();
        while self.untaken.len() < WINDOW
            && let Some(octets) = self.upcoming.take()
        {
            self.upcoming = self.parts.next();
            let last = self.upcoming.is_none();
            let part = SnapshotPart {
                transfer: self.transfer,
                number: self.next,
                octets,
                message: if last { self.message.clone() } else { Vec::new() },
            };
            self.next += 1;
            self.untaken.push_back(part.clone());
            fresh.push(part);
        }
        fresh
    }

    /// The receiver has the parts before `next`.
    pub(super) fn taken(&mut self, taken: SnapshotTaken) -> Progress {
        if taken.transfer != self.transfer {
            return Progress::Sending;
        }
        while self
            .untaken
            .pop_front_if(|part| part.number < taken.next)
            .is_some()
        {
            self.ticks = 0;
        }
        match self.untaken.is_empty() && self.upcoming.is_none() {
            true => Progress::Complete,
            false => Progress::Sending,
        }
    }

    /// 10 ms have passed: what is to be sent again.
    pub(super) fn tick(&mut self) -> (Progress, Vec<SnapshotPart>) {
        self.ticks += 1;
        if self.ticks > PATIENCE_TICKS {
            return (Progress::Stuck, Vec::new());
        }
        let again = match self.ticks.is_multiple_of(RESEND_TICKS) {
            true => self.untaken.iter().cloned().collect(),
            false => Vec::new(),
        };
        (Progress::Sending, again)
    }
}

/// A table being received.
#[derive(Debug)]
pub(super) struct Incoming {
    from: u64,
    transfer: u64,
    next: u64,
    /// `None`: it is complete, and only answers are still given.
    restore: Option<Box<Restore>>,
}

/// A table that came, and raft's message about it.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) table: Box<Table>,
    pub(super) message: Message,
}

/// Why a part was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
    #[error("it belongs to no transfer that is known here")]
    Unknown,
}

impl Incoming {
    /// Takes a part. A new transfer takes the place of an older one; the answer is for its sender.
    pub(super) fn take(
        current: &mut Option<Self>,
        from: u64,
        part: &SnapshotPart,
    ) -> Result<(SnapshotTaken, Option<Arrived>), PartError> {
        let known = |incoming: &&mut Self| (incoming.from, incoming.transfer) == (from, part.transfer);
        if current.as_mut().filter(known).is_none() {
            if part.number != 0 {
                return Err(PartError::Unknown);
            }
            *current = Some(Self {
                from,
                transfer: part.transfer,
                next: 0,
                restore: Some(Box::default()),
            });
        }
        let incoming = current.as_mut().ok_or(PartError::Unknown)?;
        let arrived = incoming.add(part);
        let taken = SnapshotTaken {
            transfer: incoming.transfer,
            next: incoming.next,
        };
        if arrived.is_err() {
            *current = None;
        }
        Ok((taken, arrived?))
    }

    fn add(&mut self, part: &SnapshotPart) -> Result<Option<Arrived>, PartError> {
        if part.number != self.next {
            return Ok(None);
        }
        let Some(restore) = &mut self.restore else {
            return Ok(None);
        };
        restore.part(&part.octets)?;
        self.next += 1;
        if part.message.is_empty() {
            return Ok(None);
        }
        let message = <Message as prost::Message>::decode(part.message.as_slice())?;
        let restore = self.restore.take().unwrap_or_default();
        let table = Box::new(restore.finish()?);
        Ok(Some(Arrived { table, message }))
    }
}
