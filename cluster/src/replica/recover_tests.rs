//! A node of a lost group, its log as fsync left it.

use std::time::Duration;

use prost::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState};

use super::{Lineage, Members, NoTransport, Others, RecoverError, Replica, ReplicaConfig, Survivor};
use crate::commands::CommandBatch;
use crate::log::{DiskLog, DiskLogOptions, LogStore};
use crate::testing::{create, take};

/// Two entries of term 5, of which this node knows the first to be decided.
fn lost(folder: &std::path::Path, members: &[u64]) {
    let mut log = DiskLog::open_with(folder, small()).expect("opens");
    let voters = ConfState {
        voters: members.to_vec(),
        ..ConfState::default()
    };
    log.bootstrap(1, &voters).expect("new");
    log.set_hard_state(&HardState {
        term: 5,
        vote: 2,
        commit: 1,
    })
    .expect("set");
    let commands = [take([3], 2, 1).into(), create(0x0301).into()];
    let entries: Vec<Entry> = (1..)
        .zip(commands)
        .map(|(index, command)| entry(index, command))
        .collect();
    log.append(&entries).expect("appended");
    log.sync().expect("synced");
}

fn entry(index: u64, command: crate::commands::Command) -> Entry {
    let batch = CommandBatch {
        version: 1,
        origin: 2,
        boot: 1,
        sequence: index,
        commands: vec![command],
    };
    Entry {
        index,
        term: 5,
        data: batch.encode_to_vec(),
        ..Entry::default()
    }
}

fn small() -> DiskLogOptions {
    DiskLogOptions {
        segment_octets: 256 * 1024,
        ..DiskLogOptions::default()
    }
}

fn survivor(folder: &std::path::Path) -> Result<Survivor<DiskLog>, RecoverError> {
    Survivor::read(DiskLog::open_with(folder, small())?, 1)
}

#[test]
fn a_survivor_decides_alone_over_all_that_its_log_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    lost(folder.path(), &[1, 2, 3]);
    let found = survivor(folder.path()).expect("a survivor");
    assert_eq!(
        (found.last(), found.members().voters.as_slice()),
        ((5, 2), &[1, 2, 3][..])
    );
    assert_eq!(
        found.table().tunnel_count(),
        1,
        "what may have been decided counts as decided"
    );
    let generation = found.begin_alone(9).expect("recovered");
    assert_eq!(generation, 1 << 32 | 9);

    let log = DiskLog::open_with(folder.path(), small()).expect("opens again");
    assert_eq!(Lineage::of(&log, true).expect("reads").generation, generation);
    let config = ReplicaConfig {
        node_id: 1,
        members: vec![1, 2, 3],
        boot: 2,
    };
    let (mut replica, _) = Replica::open_with(config, log, NoTransport).expect("starts");
    replica.advance().expect("goes on");
    let leadership = replica.leadership();
    assert!(leadership.is_self && leadership.term > 6, "{leadership:?}");
    assert_eq!(replica.members().voters, [1]);
    assert_eq!(
        (replica.table().tunnel_count(), replica.table().generation()),
        (1, generation)
    );
    replica.tick(Duration::ZERO, Duration::ZERO).expect("ticks");
    drop(replica);
    assert!(matches!(survivor(folder.path()), Err(RecoverError::Alone(1))));
}

#[test]
fn who_has_nothing_to_recover_or_must_not_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(matches!(survivor(folder.path()), Err(RecoverError::Nothing)));
    lost(folder.path(), &[2, 3]);
    assert!(matches!(survivor(folder.path()), Err(RecoverError::Removed(1))));
    let log = DiskLog::open_with(folder.path(), small()).expect("opens");
    assert!(
        matches!(Survivor::read(log, 4), Err(RecoverError::Log(_))),
        "of another node"
    );
}

#[test]
fn a_quorum_that_answers_is_not_lost_and_one_that_does_not_is_to_be_stopped() {
    let cases: [(&[u64], &[u64], Others); 7] = [
        (&[1, 2, 3], &[], Others::Silent),
        (&[1, 2, 3], &[2], Others::Quorum),
        (&[1, 2, 3], &[2, 3], Others::Quorum),
        (&[1, 2, 3], &[9], Others::Running),
        (&[1, 2, 3, 4], &[4], Others::Running),
        (&[1, 2, 3, 4, 5], &[2], Others::Running),
        (&[1, 2, 3, 4, 5], &[2, 5], Others::Quorum),
    ];
    for (members, answering, expected) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        lost(folder.path(), members);
        let found = survivor(folder.path()).expect("a survivor");
        let said = found.others(&answering.iter().copied().collect());
        assert_eq!(said, expected, "{answering:?} of {members:?}");
    }
}

#[test]
fn during_an_exchange_of_members_both_groups_have_to_agree() {
    let members = Members {
        voters: vec![1, 2, 3],
        learners: vec![6],
        outgoing: vec![3, 4, 5],
    };
    let is_quorum = |nodes: &[u64]| members.is_quorum(&nodes.iter().copied().collect());
    assert!(is_quorum(&[1, 3, 4]));
    assert!(!is_quorum(&[1, 2, 3]) && !is_quorum(&[3, 4, 5]) && !is_quorum(&[1, 6, 4, 5]));
}

#[test]
fn messages_of_another_generation_are_dropped() {
    use super::test_net::messages_dropped_by;
    let of = |generation, fresh| Lineage { generation, fresh };
    assert_eq!(messages_dropped_by(&[1, 2, 3], of(0, false)), 0);
    assert_eq!(messages_dropped_by(&[1, 2, 3], of(7, false)), 1);
    assert_eq!(messages_dropped_by(&[1, 2, 3], of(0, true)), 0);
    assert_eq!(messages_dropped_by(&[], of(7, false)), 0, "its log is empty");
}
