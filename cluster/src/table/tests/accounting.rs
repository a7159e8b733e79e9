//! Accounting records owed, and table time.

use super::*;

use crate::commands::{Acknowledge, Command, FinalTraffic, Finalize, Raise, Tick};
use crate::limits::{TABLE_TIME_JUMP_MAX_MS, TRAFFIC_FINAL_FROM};
use crate::records::{AccountingKind, Traffic};
use crate::table::Refusal;
use crate::testing::{Bench, address, connected, open};

#[test]
fn start_and_stop_are_owed_once() {
    let mut bench = Bench::with_tunnel(0x0301);
    bench.pass(2);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    assert!(bench.put(0x0301, connected(1)).is_accepted(), "renegotiates");
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    assert!(bench.put(0x0301, connected(1)).is_accepted());
    bench.pass(3);
    assert!(bench.remove(0x0301, 1).is_accepted());
    let owed: Vec<_> = bench
        .table
        .outbox()
        .map(|owed| {
            (
                owed.sequence,
                owed.kind,
                owed.event_ms,
                owed.event_unix_s,
                owed.session.user().map(<[u8]>::to_vec),
            )
        })
        .collect();
    let user = Some(b"ann".to_vec());
    let expected = [
        (0, AccountingKind::Start, 2_000, 2, user.clone()),
        (1, AccountingKind::Stop, 5_000, 5, user),
    ];
    assert_eq!(owed, expected);
    assert!(bench.run(Acknowledge { sequences: vec![0] }).is_accepted());
    assert_eq!(
        bench.table.outbox().map(|owed| owed.sequence).collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn another_accounting_id_owes_a_stop_and_a_start() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let mut again = open(1, "ann", address(1));
    again.acct_session_id = "another".to_owned();
    assert!(bench.put(0x0301, again).is_accepted());
    let ids: Vec<_> = bench
        .table
        .outbox()
        .map(|owed| owed.session.acct_session_id.clone())
        .collect();
    assert_eq!(ids, ["acct-1", "acct-1", "another"]);
}

#[test]
fn a_session_that_never_opened_owes_nothing() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, connected(1)).is_accepted());
    assert!(bench.remove(0x0301, 1).is_accepted());
    assert_eq!(bench.table.outbox().count(), 0);
}

#[test]
fn table_time_neither_jumps_nor_goes_back() {
    let mut bench = Bench::new();
    bench.run(Tick {
        now_ms: 1_000_000,
        unix_s: 1,
    });
    assert_eq!(bench.table.now_ms(), TABLE_TIME_JUMP_MAX_MS);
    bench.run(Tick { now_ms: 1, unix_s: 2 });
    assert_eq!(
        (bench.table.now_ms(), bench.table.unix_s()),
        (TABLE_TIME_JUMP_MAX_MS, 2)
    );
}

#[test]
fn an_unknown_command_is_refused() {
    let mut bench = Bench::new();
    assert!(matches!(
        refusal(bench.run(Command { kind: None })),
        Refusal::Malformed(_)
    ));
}

fn finalize(sequence: u64, input_octets: u64) -> Finalize {
    let traffic = Some(Traffic {
        input_octets,
        ..Traffic::default()
    });
    Finalize {
        records: vec![FinalTraffic { sequence, traffic }],
    }
}

/// The figure is 64 bits wide up to the record.
#[test]
fn s_161_the_last_traffic_of_a_session_is_told_once_and_goes_with_the_stop() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    assert!(bench.remove(0x0301, 1).is_accepted());
    let early = bench.run(finalize(1, 7));
    assert!(
        matches!(refusal(early), Refusal::Malformed(_)),
        "older members do not know it"
    );

    let version = TRAFFIC_FINAL_FROM;
    assert!(bench.run(Raise { version }).is_accepted());
    for (sequence, octets) in [(0, 5), (1, 1 << 33), (1, 9), (7, 1)] {
        assert!(bench.run(finalize(sequence, octets)).is_accepted());
    }
    let told = |sequence| {
        let owed = bench.table.owed(sequence).expect("nobody has acknowledged it");
        owed.traffic.as_ref().map(|traffic| traffic.input_octets)
    };
    assert_eq!(
        (told(0), told(1)),
        (None, Some(1 << 33)),
        "a Start has none, and the first word counts"
    );
}

#[test]
fn records_name_our_address_once_all_members_know_the_field() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let version = TRAFFIC_FINAL_FROM;
    assert!(bench.run(Raise { version }).is_accepted());
    assert!(bench.remove(0x0301, 1).is_accepted());
    let ours = row(&bench, 0x0301).local;
    assert!(ours.is_some());
    let locals: Vec<_> = bench.table.outbox().map(|owed| owed.local.clone()).collect();
    assert_eq!(locals, [None, ours]);
}
