//! The driver over a log in memory and on disk.

use std::time::Duration;

use tempfile::TempDir;

use super::{Output, Replica, ReplicaConfig};
use crate::log::{DiskLog, DiskLogOptions, LogStore, MemoryLog};
use crate::table::{Effect, Verdict};
use crate::testing::{address, create, open, take};

fn single(boot: u64, log: impl LogStore + 'static) -> Replica {
    Replica::open(ReplicaConfig::single(1, boot), log)
        .expect("opens")
        .0
}

fn drain(replica: &mut Replica) -> Vec<Output> {
    std::iter::from_fn(|| replica.poll_output()).collect()
}

fn verdicts(outputs: &[Output]) -> Vec<(u64, bool)> {
    let verdict = |output: &Output| match output {
        Output::Verdict { token, verdict } => Some((*token, verdict.is_accepted())),
        _ => None,
    };
    outputs.iter().filter_map(verdict).collect()
}

#[test]
fn a_group_of_one_answers_at_once_and_in_order() {
    let mut replica = single(1, MemoryLog::new());
    assert!(replica.leadership().is_self, "elected without a tick");
    assert!(replica.is_caught_up());
    replica.propose(7, take(0..256, 1, 1).into()).expect("room");
    replica.propose(8, create(0x0301).into()).expect("room");
    replica.propose(9, create(0x0000).into()).expect("room");
    replica.advance().expect("advances");
    let outputs = drain(&mut replica);
    assert_eq!(verdicts(&outputs), [(7, true), (8, true), (9, false)]);
    let first_verdict = outputs
        .iter()
        .position(|output| matches!(output, Output::Verdict { .. }));
    let last_effect = outputs
        .iter()
        .rposition(|output| matches!(output, Output::Effect(_)));
    assert!(
        last_effect < first_verdict,
        "what is released finds its forwarding in place"
    );
}

#[test]
fn one_round_proposes_one_batch() {
    let mut replica = single(1, MemoryLog::new());
    let count = crate::limits::BATCH_COMMANDS_MAX as u64 + 1;
    for token in 0..count {
        replica.propose(token, take([0], 1, 1).into()).expect("room");
    }
    replica.advance().expect("advances");
    assert_eq!(verdicts(&drain(&mut replica)).len() as u64, count - 1);
    assert!(replica.has_work());
    replica.advance().expect("advances");
    assert_eq!(verdicts(&drain(&mut replica)), [(count - 1, true)]);
}

#[test]
fn table_time_follows_the_leaders_clock() {
    let mut replica = single(1, MemoryLog::new());
    let origin = Duration::from_secs(1_000);
    for step in 0..=250 {
        let unix = Duration::from_secs(5_000);
        replica
            .tick(origin + Duration::from_millis(10 * step), unix)
            .expect("ticks");
        replica.advance().expect("advances");
    }
    assert_eq!(
        (replica.table().now_ms(), replica.table().unix_s()),
        (2_000, 5_000)
    );
    assert!(drain(&mut replica).is_empty(), "ticks are the replica's own");
}

#[test]
fn a_log_of_another_past_answers_no_token() {
    let folder = TempDir::new().expect("a folder");
    let mut replica = single(1, DiskLog::open(folder.path()).expect("opens"));
    replica.propose(1, take(0..256, 1, 1).into()).expect("room");
    replica.advance().expect("advances");
    drop(replica);
    let mut replica = single(2, DiskLog::open(folder.path()).expect("opens"));
    assert!(drain(&mut replica).is_empty());
    assert_eq!(
        replica.table().group(9).epoch,
        1,
        "the table is complete on return"
    );
}

/// Restarts many times, with snapshots in between, and compares with a replica that was never restarted.
#[test]
fn restarts_keep_the_table() {
    const RESTARTS: u64 = 30;
    let folder = TempDir::new().expect("a folder");
    let options = DiskLogOptions {
        segment_octets: 16 * 1024,
        spares: 1,
        snapshot_octets_min: 4 * 1024,
        ..DiskLogOptions::default()
    };
    let mut steady = single(1, MemoryLog::new());
    let mut snapshots = 0;
    for boot in 1..=RESTARTS {
        let log = DiskLog::open_with(folder.path(), options.clone()).expect("opens");
        let mut replica = single(boot, log);
        for replica in [&mut replica, &mut steady] {
            let group = 0..256;
            replica.propose(0, take(group, 1, boot).into()).expect("room");
            for index in 0..40u16 {
                let id = (boot as u16) << 8 | index;
                let mut create = create(id.max(1));
                create.life = crate::ids::first_life(boot as u32);
                replica.propose(u64::from(index), create.into()).expect("room");
                replica.advance().expect("advances");
            }
        }
        let outputs = drain(&mut replica);
        snapshots += outputs
            .iter()
            .filter(|output| matches!(output, Output::SnapshotTaken { .. }))
            .count();
        assert_eq!(verdicts(&outputs), verdicts(&drain(&mut steady)));
        let mut steady_table = steady.table().clone();
        // Each restart adds an entry of raft's own.
        steady_table.skip_to(replica.table().applied());
        assert_eq!(steady_table.digest(), replica.table().digest(), "boot {boot}");
    }
    assert!(snapshots > 0, "the log was cut");
}

#[test]
fn sessions_survive_in_snapshot_and_log() {
    let folder = TempDir::new().expect("a folder");
    let mut replica = single(1, DiskLog::open(folder.path()).expect("opens"));
    replica.propose(0, take(0..256, 1, 1).into()).expect("room");
    replica.propose(1, create(0x0301).into()).expect("room");
    let update = crate::commands::TunnelUpdate {
        state: Some(1),
        ..Default::default()
    };
    let put = crate::commands::PutSession {
        row: Some(open(1, "ann", address(1))),
        replaces: None,
    };
    let change = crate::commands::ChangeTunnel {
        tunnel_id: 0x0301,
        life: crate::ids::first_life(1),
        revision: 2,
        update: Some(update),
        sessions: vec![put.into()],
        ..Default::default()
    };
    replica.propose(2, change.into()).expect("room");
    replica.advance().expect("advances");
    let outputs = drain(&mut replica);
    assert!(outputs.iter().any(|output| {
        matches!(
            output,
            Output::Effect(Effect::SessionChanged { after_open: true, .. })
        )
    }));
    assert!(outputs.iter().any(|output| {
        matches!(
            output,
            Output::Verdict {
                token: 2,
                verdict: Verdict::Accepted { .. }
            }
        )
    }));
    let digest = replica.table().digest();
    let applied = replica.table().applied();
    drop(replica);
    let replica = single(2, DiskLog::open(folder.path()).expect("opens"));
    assert_eq!(replica.table().session_count(), 1);
    assert_ne!(replica.table().digest(), digest, "raft's own entry counts");
    assert_eq!(replica.table().applied(), applied + 1);
}

#[test]
fn a_program_that_is_too_old_for_the_table_says_so() {
    let mut replica = single(1, MemoryLog::new());
    let version = crate::limits::COMMAND_VERSION + 1;
    let raise = crate::commands::Raise { version };
    replica.propose(1, raise.into()).expect("room");
    let error = replica.advance().expect_err("it does not know what follows");
    assert!(
        error
            .to_string()
            .contains(&format!("uses version {version} of the session table")),
        "{error}"
    );
}

#[test]
fn a_single_node_raises_the_version_by_itself() {
    let mut replica = single(1, MemoryLog::new());
    assert_eq!(replica.table().version(), 1);
    for tick in 0..=crate::limits::MAINTENANCE_TICKS {
        let now = Duration::from_millis(u64::from(tick) * 10);
        replica.tick(now, Duration::ZERO).expect("ticks");
        replica.advance().expect("advances");
    }
    assert_eq!(replica.table().version(), crate::limits::COMMAND_VERSION);
}
