//! Messages on their way out, and the whole table in both directions.

use std::sync::Arc;

use prost::Message as _;
use raft::eraftpb::{Message, MessageType};
use raft::{SnapshotStatus, StateRole};

use super::{OFFER_TICKS, RaftGroup};
use crate::limits::COMMAND_VERSION;
use crate::peer::{Envelope, SnapshotPart, SnapshotTaken, envelope::Kind};
use crate::replica::consensus::Consensus;
use crate::replica::transfer::{self, Arrived, Incoming, Outgoing};
use crate::replica::{Lineage, ReplicaError};

impl RaftGroup {
    pub(super) fn send(&mut self, messages: Vec<Message>) {
        let mut image_used = false;
        for message in messages {
            let to = message.to;
            if message.get_msg_type() != MessageType::MsgSnapshot {
                self.transmit(to, Kind::Raft(message.encode_to_vec()));
                continue;
            }
            if let Some((image, _)) = &self.offer {
                self.transfers = self.transfers.wrapping_add(1);
                let outgoing = Outgoing::new(self.transfers, Arc::clone(image), message.encode_to_vec());
                self.outgoing.insert(to, outgoing);
                self.fill(to);
                image_used = true;
            }
        }
        if image_used {
            self.withdraw_offer();
        }
    }

    pub(super) fn transmit(&mut self, to: u64, kind: Kind) {
        let Lineage { generation, fresh } = self.lineage();
        let envelope = Envelope {
            from: self.node.raft.id,
            version: COMMAND_VERSION,
            generation,
            fresh,
            kind: Some(kind),
        };
        self.transport.send(to, envelope.encode_to_vec());
    }

    pub(super) fn withdraw_offer(&mut self) {
        self.offer = None;
        self.node.mut_store().offer = None;
    }

    /// Sends as much of the table as the window allows.
    fn fill(&mut self, to: u64) {
        let parts = self.outgoing.get_mut(&to).map(Outgoing::fill);
        for part in parts.into_iter().flatten() {
            self.transmit(to, Kind::Part(part));
        }
    }

    pub(super) fn tick_transfers(&mut self) {
        if self.node.raft.state != StateRole::Leader {
            self.outgoing.clear();
            self.withdraw_offer();
        }
        if let Some((_, ticks)) = &mut self.offer {
            *ticks += 1;
            if *ticks > OFFER_TICKS {
                self.withdraw_offer();
            }
        }
        let receivers: Vec<u64> = self.outgoing.keys().copied().collect();
        for to in receivers {
            let Some((progress, again)) = self.outgoing.get_mut(&to).map(Outgoing::tick) else {
                continue;
            };
            self.conclude(to, progress);
            for part in again {
                self.transmit(to, Kind::Part(part));
            }
        }
    }

    fn conclude(&mut self, to: u64, progress: transfer::Progress) {
        let status = match progress {
            transfer::Progress::Sending => return,
            transfer::Progress::Complete => SnapshotStatus::Finish,
            transfer::Progress::Stuck => SnapshotStatus::Failure,
        };
        self.outgoing.remove(&to);
        self.node.report_snapshot(to, status);
    }

    pub(super) fn receive_taken(&mut self, from: u64, taken: SnapshotTaken) {
        if let Some(outgoing) = self.outgoing.get_mut(&from) {
            let progress = outgoing.taken(taken);
            self.fill(from);
            self.conclude(from, progress);
        }
    }

    pub(super) fn receive_part(&mut self, from: u64, part: &SnapshotPart) -> Result<(), ReplicaError> {
        let (taken, arrived) = match Incoming::take(&mut self.incoming, from, part) {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(from, %error, "a part of the table was not taken");
                self.dropped += 1;
                return Ok(());
            }
        };
        self.transmit(from, Kind::Taken(taken));
        let Some(Arrived { table, message }) = arrived else {
            return Ok(());
        };
        let index = message
            .snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.metadata.as_ref());
        let fits = index.is_some_and(|metadata| metadata.index == table.applied()) && message.from == from;
        let free = self.node.snap().is_none();
        if !fits || !free || message.get_msg_type() != MessageType::MsgSnapshot {
            self.dropped += 1;
            return Ok(());
        }
        self.arrived = Some(table);
        self.receive_raft(message)?;
        if self.node.snap().is_none() {
            // It was of no use any more.
            self.arrived = None;
        }
        Ok(())
    }
}
