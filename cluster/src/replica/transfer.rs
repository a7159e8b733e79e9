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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, create};

    /// A table of about thirty parts, and a message that stands for raft's.
    fn outgoing() -> (Outgoing, u64) {
        let mut bench = Bench::new();
        for id in 0x0300..0x031e {
            let mut large = create(id);
            large.row.as_mut().expect("made with a row").unacknowledged[0].octets = vec![7; 300_000];
            assert!(bench.run(large).is_accepted());
        }
        let message = prost::Message::encode_to_vec(&Message {
            to: 2,
            ..Message::default()
        });
        let digest = bench.table.digest();
        (Outgoing::new(9, Arc::new(bench.table.image()), message), digest)
    }

    #[test]
    fn parts_that_are_lost_doubled_and_late_make_the_same_table() {
        let (mut outgoing, digest) = outgoing();
        let (mut incoming, mut arrived) = (None, None);
        let mut sent: VecDeque<SnapshotPart> = outgoing.fill().into();
        assert_eq!(sent.len(), WINDOW, "no more than the window at first");
        let mut count = 0;
        let ended = loop {
            let Some(part) = sent.pop_front() else {
                let (progress, again) = outgoing.tick();
                assert_eq!(progress, Progress::Sending);
                sent.extend(again);
                continue;
            };
            count += 1;
            match count % 7 {
                0 => continue,
                3 => sent.push_back(part.clone()),
                _ => {}
            }
            let (taken, table) = Incoming::take(&mut incoming, 1, &part).expect("a part");
            assert!(arrived.is_none() || table.is_none(), "it arrives once");
            arrived = arrived.or(table);
            match outgoing.taken(taken) {
                Progress::Sending => sent.extend(outgoing.fill()),
                ended => break ended,
            }
        };
        assert_eq!(ended, Progress::Complete);
        let arrived = arrived.expect("complete");
        assert_eq!((arrived.table.digest(), arrived.message.to), (digest, 2));
    }

    #[test]
    fn a_receiver_that_does_not_answer_is_given_up() {
        let (mut outgoing, _) = outgoing();
        outgoing.fill();
        let ticks = (1..).find(|_| outgoing.tick().0 == Progress::Stuck);
        assert_eq!(ticks, Some(PATIENCE_TICKS + 1));
    }

    #[test]
    fn parts_of_nothing_known_and_parts_that_are_no_table_are_refused() {
        let (mut outgoing, _) = outgoing();
        let parts = outgoing.fill();
        let mut incoming = None;
        assert!(matches!(
            Incoming::take(&mut incoming, 1, &parts[1]),
            Err(PartError::Unknown)
        ));
        let broken = SnapshotPart {
            octets: vec![0xff; 9],
            ..parts[0].clone()
        };
        assert!(matches!(
            Incoming::take(&mut incoming, 1, &broken),
            Err(PartError::Restore(_))
        ));
        assert!(incoming.is_none(), "it begins again with the first part");
        assert!(Incoming::take(&mut incoming, 1, &parts[0]).is_ok());
        assert!(matches!(
            Incoming::take(&mut incoming, 3, &parts[1]),
            Err(PartError::Unknown)
        ));
    }
}
