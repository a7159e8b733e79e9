//! The accessors that `raft` calls, in the manner of protobuf 2's generated code.
//!
//! An absent sub-message reads as its default, as protobuf has it.

use std::mem::take;
use std::sync::OnceLock;

use crate::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
    EntryType, Message, MessageType, Snapshot, SnapshotMetadata,
};

impl Entry {
    pub fn get_entry_type(&self) -> EntryType {
        self.entry_type()
    }

    pub fn get_term(&self) -> u64 {
        self.term
    }

    pub fn get_index(&self) -> u64 {
        self.index
    }

    pub fn set_index(&mut self, index: u64) {
        self.index = index;
    }

    pub fn get_data(&self) -> &[u8] {
        &self.data
    }

    pub fn take_data(&mut self) -> Vec<u8> {
        take(&mut self.data)
    }

    pub fn take_context(&mut self) -> Vec<u8> {
        take(&mut self.context)
    }
}

impl SnapshotMetadata {
    pub fn get_index(&self) -> u64 {
        self.index
    }

    pub fn get_term(&self) -> u64 {
        self.term
    }

    pub fn get_conf_state(&self) -> &ConfState {
        static ABSENT: OnceLock<ConfState> = OnceLock::new();
        self.conf_state
            .as_ref()
            .unwrap_or_else(|| ABSENT.get_or_init(ConfState::default))
    }

    pub fn mut_conf_state(&mut self) -> &mut ConfState {
        self.conf_state.get_or_insert_default()
    }

    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = Some(conf_state);
    }

    pub fn take_conf_state(&mut self) -> ConfState {
        self.conf_state.take().unwrap_or_default()
    }
}

impl Snapshot {
    /// Whether there is no snapshot: none has index zero.
    pub fn is_empty(&self) -> bool {
        self.get_metadata().index == 0
    }

    pub fn get_data(&self) -> &[u8] {
        &self.data
    }

    pub fn get_metadata(&self) -> &SnapshotMetadata {
        static ABSENT: OnceLock<SnapshotMetadata> = OnceLock::new();
        self.metadata
            .as_ref()
            .unwrap_or_else(|| ABSENT.get_or_init(SnapshotMetadata::default))
    }

    pub fn mut_metadata(&mut self) -> &mut SnapshotMetadata {
        self.metadata.get_or_insert_default()
    }

    pub fn set_metadata(&mut self, metadata: SnapshotMetadata) {
        self.metadata = Some(metadata);
    }

    pub fn take_metadata(&mut self) -> SnapshotMetadata {
        self.metadata.take().unwrap_or_default()
    }
}

impl Message {
    pub fn get_msg_type(&self) -> MessageType {
        self.msg_type()
    }

    pub fn get_term(&self) -> u64 {
        self.term
    }

    pub fn get_index(&self) -> u64 {
        self.index
    }

    pub fn set_index(&mut self, index: u64) {
        self.index = index;
    }

    pub fn set_commit(&mut self, commit: u64) {
        self.commit = commit;
    }

    pub fn set_priority(&mut self, priority: i64) {
        self.priority = priority;
    }

    pub fn set_entries(&mut self, entries: Vec<Entry>) {
        self.entries = entries;
    }

    pub fn mut_entries(&mut self) -> &mut Vec<Entry> {
        &mut self.entries
    }

    pub fn take_entries(&mut self) -> Vec<Entry> {
        take(&mut self.entries)
    }

    pub fn take_context(&mut self) -> Vec<u8> {
        take(&mut self.context)
    }

    pub fn get_snapshot(&self) -> &Snapshot {
        static ABSENT: OnceLock<Snapshot> = OnceLock::new();
        self.snapshot
            .as_ref()
            .unwrap_or_else(|| ABSENT.get_or_init(Snapshot::default))
    }

    pub fn set_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
    }

    pub fn take_snapshot(&mut self) -> Snapshot {
        self.snapshot.take().unwrap_or_default()
    }
}

impl ConfState {
    pub fn get_voters(&self) -> &[u64] {
        &self.voters
    }

    pub fn set_voters(&mut self, ids: Vec<u64>) {
        self.voters = ids;
    }

    pub fn get_learners(&self) -> &[u64] {
        &self.learners
    }

    pub fn set_learners(&mut self, ids: Vec<u64>) {
        self.learners = ids;
    }

    pub fn get_voters_outgoing(&self) -> &[u64] {
        &self.voters_outgoing
    }

    pub fn set_voters_outgoing(&mut self, ids: Vec<u64>) {
        self.voters_outgoing = ids;
    }

    pub fn get_learners_next(&self) -> &[u64] {
        &self.learners_next
    }

    pub fn set_learners_next(&mut self, ids: Vec<u64>) {
        self.learners_next = ids;
    }
}

impl ConfChange {
    pub fn get_change_type(&self) -> ConfChangeType {
        self.change_type()
    }
}

impl ConfChangeSingle {
    pub fn get_change_type(&self) -> ConfChangeType {
        self.change_type()
    }
}

impl ConfChangeV2 {
    pub fn get_transition(&self) -> ConfChangeTransition {
        self.transition()
    }
}
