//! Kill points, damage, versions, locks and full disks.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use raft::eraftpb::{ConfState, Entry, HardState};
use tempfile::TempDir;

use super::{DiskLog, DiskLogOptions, LogError, LogStore, SnapshotMeta};
use crate::table::Table;

pub(super) const SEGMENT: u64 = 16 * 1024;

pub(super) fn options() -> DiskLogOptions {
    DiskLogOptions {
        segment_octets: SEGMENT,
        spares: 2,
        snapshot_octets_min: 8 * 1024,
        ..Default::default()
    }
}

pub(super) fn members() -> ConfState {
    ConfState {
        voters: vec![1],
        ..ConfState::default()
    }
}

fn open(folder: &Path) -> Result<DiskLog, LogError> {
    DiskLog::open_with(folder, options())
}

fn fresh(folder: &Path) -> DiskLog {
    let mut log = open(folder).expect("opens");
    log.bootstrap(1, &members()).expect("bootstraps");
    log
}

pub(super) fn entry(index: u64, term: u64) -> Entry {
    Entry {
        index,
        term,
        data: format!("entry {index} of term {term}").into_bytes(),
        ..Entry::default()
    }
}

pub(super) fn append(log: &mut DiskLog, indexes: std::ops::RangeInclusive<u64>) {
    for index in indexes {
        log.append(&[entry(index, 1)]).expect("appends");
        log.sync().expect("syncs");
    }
}

pub(super) fn indexes(log: &DiskLog) -> Vec<u64> {
    let first = log.snapshot().index + 1;
    let entries = log.entries(first, log.last_index() + 1, u64::MAX).expect("reads");
    entries.iter().map(|entry| entry.index).collect()
}

pub(super) fn segment(folder: &Path, number: u64) -> PathBuf {
    super::recovery::segment_path(folder, number)
}

fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().expect("a folder");
    for file in fs::read_dir(from).expect("lists") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.path().join(file.file_name())).expect("copies");
    }
    to
}

/// The end of the frames in a segment that was closed in order.
fn end_of(path: &Path) -> u64 {
    let octets = fs::read(path).expect("reads");
    octets
        .iter()
        .rposition(|octet| *octet != 0)
        .map_or(0, |last| last as u64 + 1)
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("opens");
    let mut octet = [0];
    file.read_exact_at(&mut octet, offset).expect("reads");
    file.write_all_at(&[octet[0] ^ 0x10], offset).expect("writes");
}

#[test]
fn what_was_synced_is_there_after_reopening() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=5);
    log.set_hard_state(&HardState {
        term: 1,
        vote: 1,
        commit: 4,
    })
    .expect("notes");
    log.sync().expect("syncs");
    drop(log);

    let log = open(folder.path()).expect("opens");
    assert_eq!(indexes(&log), [1, 2, 3, 4, 5]);
    assert_eq!(
        log.hard_state(),
        HardState {
            term: 1,
            vote: 1,
            commit: 4
        }
    );
    assert_eq!((log.term(5), log.term(6)), (Some(1), None));
    assert_eq!(log.snapshot().members, members());
    assert_eq!(log.recovery().cut, None);
}

#[test]
fn an_overlapping_append_replaces_the_tail_for_good() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=5);
    log.append(&[entry(3, 2)]).expect("appends");
    log.sync().expect("syncs");
    assert_eq!(indexes(&log), [1, 2, 3]);
    drop(log);
    let log = open(folder.path()).expect("opens");
    assert_eq!(indexes(&log), [1, 2, 3]);
    assert_eq!(log.term(3), Some(2));
}

#[test]
fn the_log_goes_on_over_many_segments() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=1_000);
    drop(log);
    let log = open(folder.path()).expect("opens");
    assert_eq!(indexes(&log).len(), 1_000);
    assert!(segment(folder.path(), 3).exists());
}

/// The file ends anywhere in the last write, which was not synced: all that was synced is there, the rest is cut
/// off and said.
#[test]
fn a_write_cut_short_anywhere_loses_nothing_synced() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=3);
    drop(log);
    // As the file was before entry 4, with its frame behind: the marker does not know of it.
    let before = copy(folder.path());
    let path = segment(before.path(), 1);
    let start = end_of(&path).next_multiple_of(8);
    let mut log = open(folder.path()).expect("opens");
    append(&mut log, 4..=4);
    drop(log);
    let after = fs::read(segment(folder.path(), 1)).expect("reads");
    let end = end_of(&segment(folder.path(), 1));
    let frame = &after[start as usize..end as usize];

    for length in 0..frame.len() {
        for truncated in [false, true] {
            let folder = copy(before.path());
            let path = segment(folder.path(), 1);
            let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
            file.write_all_at(&frame[..length], start).expect("writes");
            if truncated {
                file.set_len(start + length as u64).expect("truncates");
            }
            let mut log = open(folder.path()).unwrap_or_else(|error| panic!("{length}: {error}"));
            assert_eq!(indexes(&log), [1, 2, 3], "{length} octets");
            assert_eq!(log.recovery().cut.is_some(), length > 0, "{length} octets");
            append(&mut log, 4..=5);
            drop(log);
            let log = open(folder.path()).expect("opens again");
            assert_eq!((indexes(&log), &log.recovery().cut), (vec![1, 2, 3, 4, 5], &None));
        }
    }
}

#[test]
fn a_torn_write_whose_later_frame_is_whole_is_cut_entirely() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=3);
    drop(log);
    let before = copy(folder.path());
    let start = end_of(&segment(before.path(), 1)).next_multiple_of(8);
    let mut log = open(folder.path()).expect("opens");
    log.append(&[entry(4, 1), entry(5, 1)]).expect("appends");
    log.sync().expect("syncs");
    drop(log);
    let after = fs::read(segment(folder.path(), 1)).expect("reads");
    let path = segment(before.path(), 1);
    let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
    file.write_all_at(&after[start as usize..], start)
        .expect("writes");
    flip(&path, start + 30);

    let mut log = open(before.path()).expect("opens");
    assert_eq!(indexes(&log), [1, 2, 3]);
    append(&mut log, 4..=4);
    drop(log);
    assert_eq!(
        indexes(&open(before.path()).expect("opens")),
        [1, 2, 3, 4],
        "the old entry 5 stays away"
    );
}

/// Every octet of every synced frame, in the active segment and in a sealed one.
#[test]
fn a_flipped_bit_below_the_synced_end_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=3);
    drop(log);
    let active = segment(folder.path(), 1);
    for offset in 4096..end_of(&active) {
        flip(&active, offset);
        match open(folder.path()) {
            Err(LogError::Damaged { path, offset: at, .. }) => {
                assert_eq!(path, active);
                assert!(at <= offset && offset - at < 200, "{at} names {offset}");
            }
            other => panic!("octet {offset}: {other:?}"),
        }
        flip(&active, offset);
    }
    assert_eq!(indexes(&open(folder.path()).expect("whole again")), [1, 2, 3]);
}

#[test]
fn damage_in_a_sealed_segment_is_refused_and_so_is_its_absence() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=600);
    drop(log);
    assert!(segment(folder.path(), 3).exists());
    flip(&segment(folder.path(), 1), 9_000);
    assert!(matches!(open(folder.path()), Err(LogError::Damaged { .. })));
    flip(&segment(folder.path(), 1), 9_000);
    for missing in [1, 2] {
        let folder = copy(folder.path());
        fs::remove_file(segment(folder.path(), missing)).expect("removes");
        assert!(
            matches!(open(folder.path()), Err(LogError::Damaged { .. })),
            "segment {missing}"
        );
    }
    let message = {
        fs::write(segment(folder.path(), 2), b"nonsense").expect("writes");
        open(folder.path()).expect_err("is damaged").to_string()
    };
    assert!(
        message.contains("offset") && message.contains("Remedy") && message.contains("segment-"),
        "{message}"
    );
}

#[test]
fn a_newer_version_is_refused_as_such() {
    let folder = TempDir::new().expect("a folder");
    drop(fresh(folder.path()));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(segment(folder.path(), 1))
        .expect("opens");
    file.write_all_at(&7u32.to_le_bytes(), 8).expect("writes");
    let error = open(folder.path()).expect_err("is newer");
    assert!(
        matches!(error, LogError::NewerVersion { found: 7, .. }),
        "{error}"
    );
}

#[test]
fn a_folder_has_one_process_and_one_node() {
    let folder = TempDir::new().expect("a folder");
    let log = fresh(folder.path());
    match open(folder.path()) {
        Err(LogError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
        other => panic!("{other:?}"),
    }
    drop(log);
    let mut log = open(folder.path()).expect("free again");
    let error = log.bootstrap(2, &members());
    assert!(matches!(
        error,
        Err(LogError::OtherNode {
            found: 1,
            expected: 2,
            ..
        })
    ));
}

#[test]
fn a_folder_that_cannot_be_made_is_told_so() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, b"").expect("writes");
    let error = open(&file.join("data")).expect_err("is no folder");
    assert!(matches!(error, LogError::NotWritable { .. }), "{error}");
}

pub(super) fn finish_snapshot(log: &mut DiskLog) -> Result<u64, String> {
    loop {
        if let Some(finished) = log.finish_snapshot().expect("goes on") {
            return finished;
        }
        std::thread::yield_now();
    }
}

pub(super) fn table_at(index: u64) -> Table {
    let mut table = Table::new();
    table.skip_to(index);
    table
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_before_it() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=600);
    assert!(log.wants_snapshot());
    let meta = SnapshotMeta {
        index: 590,
        term: 1,
        members: members(),
    };
    log.begin_snapshot(meta.clone(), table_at(590).image())
        .expect("begins");
    assert_eq!(finish_snapshot(&mut log), Ok(590));
    assert!(!log.wants_snapshot());
    assert!(!segment(folder.path(), 1).exists());
    append(&mut log, 601..=605);
    drop(log);

    let log = open(folder.path()).expect("opens");
    assert_eq!(log.snapshot(), &meta);
    assert_eq!(indexes(&log), (591..=605).collect::<Vec<_>>());
    let mut octets = 0;
    log.read_snapshot(&mut |part| {
        octets += part.len();
        Ok(())
    })
    .expect("reads");
    assert!(octets > 0);
    assert_eq!(log.term(590), Some(1));
}

#[test]
fn a_snapshot_half_written_is_forgotten_and_a_damaged_one_refused() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=10);
    fs::write(folder.path().join("snapshot-00000000000000000009.tmp"), b"half").expect("writes");
    drop(log);
    let mut log = open(folder.path()).expect("opens");
    assert_eq!(indexes(&log).len(), 10);
    let meta = SnapshotMeta {
        index: 9,
        term: 1,
        members: members(),
    };
    log.begin_snapshot(meta, table_at(9).image()).expect("begins");
    assert_eq!(finish_snapshot(&mut log), Ok(9));
    drop(log);
    let path = super::snapshot_file::path(folder.path(), 9);
    for offset in 0..fs::metadata(&path).expect("there").len() {
        flip(&path, offset);
        let error = open(folder.path()).expect_err("is damaged");
        let known = matches!(error, LogError::Damaged { .. } | LogError::NewerVersion { .. });
        assert!(known, "octet {offset}: {error}");
        flip(&path, offset);
    }
    assert_eq!(open(folder.path()).expect("whole again").snapshot().index, 9);
}

#[test]
fn a_snapshot_from_the_leader_replaces_everything() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    append(&mut log, 1..=10);
    let meta = SnapshotMeta {
        index: 1_000,
        term: 3,
        members: members(),
    };
    log.install_snapshot(meta, table_at(1_000).image())
        .expect("installs");
    assert_eq!((log.last_index(), log.term(1_000)), (1_000, Some(3)));
    log.append(&[entry(1_001, 3)]).expect("appends");
    log.sync().expect("syncs");
    drop(log);
    let log = open(folder.path()).expect("opens");
    assert_eq!((log.snapshot().index, indexes(&log)), (1_000, vec![1_001]));
}

/// What a process leaves that is killed between any two calls of the log: nothing is flushed or closed.
#[test]
fn a_killed_process_leaves_all_it_synced() {
    let folder = TempDir::new().expect("a folder");
    let mut log = fresh(folder.path());
    for index in 1..=400 {
        log.append(&[entry(index, 1)]).expect("appends");
        if index % 3 == 0 {
            log.sync().expect("syncs");
        }
        let left = copy(folder.path());
        let found = open(left.path()).expect("opens");
        let synced = index - index % 3;
        assert!(
            (synced..=index).contains(&found.last_index()),
            "{index}: {}",
            found.last_index()
        );
        assert_eq!(found.recovery().cut, None);
    }
    assert!(segment(folder.path(), 2).exists());
}
