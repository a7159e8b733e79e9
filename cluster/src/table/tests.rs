//! A test for each rule of `apply`.

use holdfast_protocol::{SessionId, TunnelId};

use super::{AddressPicker, AddressRange, Effect, Refusal, Restore, Table, Verdict};
use crate::commands::{
    Acknowledge, ChangeTunnel, Command, CreateTunnel, PutSession, Reclaim, RemoveSession, RemoveTunnel, Tick,
    TunnelUpdate,
};
use crate::ids::first_life;
use crate::limits::{TABLE_TIME_JUMP_MAX_MS, UNACKNOWLEDGED_MAX};
use crate::records::{AccountingKind, Prefix, QueuedMessage, SessionState, TunnelRow, TunnelState};
use crate::testing::{Bench, address, connected, create, open, take, tunnel_row};

fn tunnel(id: u16) -> TunnelId {
    TunnelId::new(id).expect("not zero")
}

fn session(id: u16) -> SessionId {
    SessionId::new(id).expect("not zero")
}

fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        Verdict::Accepted { index } => panic!("accepted at {index}"),
    }
}

fn close(state: TunnelState, deadline_ms: u64) -> Option<TunnelUpdate> {
    Some(TunnelUpdate {
        state: Some(state as i32),
        deadline_ms: Some(deadline_ms),
        ..TunnelUpdate::default()
    })
}

fn row(bench: &Bench, id: u16) -> TunnelRow {
    TunnelRow::clone(bench.table.tunnel(tunnel(id)).expect("a tunnel").row())
}

// Ownership.

#[test]
fn take_counts_the_epoch_and_a_repeat_does_not() {
    let mut bench = Bench::new();
    assert!(bench.run(take([3], 1, 1)).is_accepted());
    assert_eq!(
        bench.table.group(3).epoch,
        1,
        "the same incarnation has it already"
    );
    assert!(bench.run(take([3], 1, 2)).is_accepted());
    assert_eq!((bench.table.group(3).epoch, bench.table.group(4).epoch), (2, 1));
    assert_eq!(
        bench.effects,
        [Effect::GroupTaken {
            group: 3,
            owner: 1,
            epoch: 2
        }]
    );
    assert_eq!(bench.table.next_incarnation(1), 3);
}

#[test]
fn take_by_an_incarnation_that_is_over_is_refused() {
    let mut bench = Bench::new();
    assert!(bench.run(take([3], 1, 2)).is_accepted());
    let expected = Refusal::StaleIncarnation {
        node: 1,
        incarnation: 1,
        current: 2,
    };
    assert_eq!(refusal(bench.run(take([3], 1, 1))), expected);
    assert!(
        bench.run(take([3], 2, 1)).is_accepted(),
        "another node counts for itself"
    );
}

#[test]
fn a_change_of_a_deposed_owner_is_refused() {
    let mut bench = Bench::with_tunnel(0x0301);
    let late = bench.next(0x0301);
    assert!(bench.run(take([3], 2, 1)).is_accepted());
    let expected = Refusal::Deposed {
        life: first_life(1),
        current: first_life(2),
    };
    assert_eq!(refusal(bench.run(late)), expected);
    let next = bench.next(0x0301);
    assert!(
        bench.run(next).is_accepted(),
        "the new owner goes on with the revision"
    );
}

#[test]
fn a_reclaimed_tunnel_refuses_its_earlier_life() {
    let mut bench = Bench::with_tunnel(0x0301);
    let late = bench.next(0x0301);
    let reclaim = Reclaim {
        tunnel_id: 0x0301,
        life: first_life(1) + 1,
    };
    assert!(bench.run(reclaim).is_accepted());
    assert!(bench.run(reclaim).is_accepted(), "a repeat");
    assert!(matches!(refusal(bench.run(late)), Refusal::Deposed { .. }));
    assert_eq!(bench.next(0x0301).revision, 3, "the revision goes on");
    let next = bench.next(0x0301);
    assert!(bench.run(next).is_accepted());
    let earlier = Reclaim {
        tunnel_id: 0x0301,
        life: first_life(1),
    };
    assert!(matches!(refusal(bench.run(earlier)), Refusal::Deposed { .. }));
    let foreign = Reclaim {
        tunnel_id: 0x0301,
        life: first_life(9),
    };
    assert!(
        matches!(refusal(bench.run(foreign)), Refusal::Deposed { .. }),
        "an epoch that never was"
    );
}

// Tunnels.

#[test]
fn creation_in_a_group_that_nobody_took_is_refused() {
    let mut bench = Bench {
        table: Table::new(),
        ..Bench::new()
    };
    assert!(matches!(
        refusal(bench.run(create(0x0301))),
        Refusal::Deposed { .. }
    ));
}

#[test]
fn creation_twice_is_accepted_and_another_tunnel_with_the_id_is_not() {
    let mut bench = Bench::new();
    assert!(bench.run(create(0x0301)).is_accepted());
    assert!(bench.run(create(0x0301)).is_accepted());
    assert!(bench.effects.is_empty(), "a resubmission has no effect");
    let other = TunnelRow {
        sccrq_hash: vec![8; 16],
        ..tunnel_row(0x0301)
    };
    let other = CreateTunnel {
        row: Some(other),
        ..create(0x0301)
    };
    assert_eq!(refusal(bench.run(other)), Refusal::TunnelIdTaken(tunnel(0x0301)));
}

#[test]
fn a_second_half_open_tunnel_of_a_peer_is_refused_and_the_owner_named() {
    let mut bench = Bench::new();
    assert!(bench.run(create(0x0301)).is_accepted());
    let again = TunnelRow {
        peer_tunnel_id: 0x0301,
        ..tunnel_row(0x0402)
    };
    let again = CreateTunnel {
        row: Some(again),
        ..create(0x0402)
    };
    assert_eq!(
        refusal(bench.run(again.clone())),
        Refusal::HalfOpen {
            tunnel: tunnel(0x0301),
            owner: 1
        }
    );
    bench.establish(0x0301);
    assert!(
        bench.run(again).is_accepted(),
        "the key is for half-open tunnels only"
    );
}

#[test]
fn a_tunnel_id_rests_after_the_tombstone() {
    let mut bench = Bench::with_tunnel(0x0301);
    let change = ChangeTunnel {
        update: close(TunnelState::Closed, 32_000),
        ..bench.next(0x0301)
    };
    assert!(bench.run(change).is_accepted());
    let remove = RemoveTunnel {
        tunnel_id: 0x0301,
        life: first_life(1),
    };
    assert_eq!(
        refusal(bench.run(remove)),
        Refusal::TooEarly { remaining_ms: 32_000 }
    );
    bench.pass(32);
    assert!(bench.run(remove).is_accepted());
    assert_eq!(
        bench.effects,
        [Effect::TunnelRemoved {
            tunnel: tunnel(0x0301)
        }]
    );
    assert!(bench.run(remove).is_accepted(), "a repeat");
    bench.pass(60);
    assert_eq!(refusal(bench.run(create(0x0301))), Refusal::IdResting(0x0301));
    assert_eq!(bench.table.pick_tunnel_id(3, 1, |_| false), Some(tunnel(0x0302)));
    bench.pass(1);
    assert!(bench.run(create(0x0301)).is_accepted());
}

#[test]
fn only_a_tombstone_can_be_removed() {
    let mut bench = Bench::with_tunnel(0x0301);
    let remove = RemoveTunnel {
        tunnel_id: 0x0301,
        life: first_life(1),
    };
    assert!(matches!(refusal(bench.run(remove)), Refusal::Malformed(_)));
}

#[test]
fn revisions_follow_one_another() {
    let mut bench = Bench::with_tunnel(0x0301);
    let change = bench.next(0x0301);
    let ahead = ChangeTunnel {
        revision: change.revision + 1,
        ..change.clone()
    };
    assert_eq!(
        refusal(bench.run(ahead)),
        Refusal::RevisionGap {
            revision: 4,
            current: 2
        }
    );
    assert!(bench.run(change.clone()).is_accepted());
    assert!(bench.run(change).is_accepted(), "a resubmission");
    assert!(bench.effects.is_empty());
    assert_eq!(row(&bench, 0x0301).revision, 3);
}

#[test]
fn each_tunnel_of_a_batch_is_judged_by_itself() {
    let mut bench = Bench::with_tunnel(0x0301);
    let good: Command = bench.next(0x0301).into();
    let bad: Command = ChangeTunnel {
        tunnel_id: 0x0999,
        ..bench.next(0x0301)
    }
    .into();
    let batch = crate::commands::CommandBatch {
        commands: vec![bad, good],
        ..Default::default()
    };
    let verdicts = bench.table.apply(100, batch, &mut bench.effects);
    assert_eq!(
        verdicts,
        [
            Verdict::Refused(Refusal::NoTunnel(0x0999)),
            Verdict::Accepted { index: 100 }
        ]
    );
}

#[test]
fn messages_take_the_next_ns_and_leave_when_acknowledged() {
    let mut bench = Bench::with_tunnel(0x0301);
    let message = |ns| QueuedMessage {
        ns,
        octets: vec![ns as u8],
    };
    let change = ChangeTunnel {
        received: Some(2),
        acknowledged: Some(1),
        messages: vec![message(1), message(2)],
        ..bench.next(0x0301)
    };
    assert!(bench.run(change).is_accepted());
    let after = row(&bench, 0x0301);
    assert_eq!(
        (after.ns, after.nr, after.unacknowledged),
        (3, 2, vec![message(1), message(2)])
    );

    for wrong in [
        ChangeTunnel {
            messages: vec![message(4)],
            ..bench.next(0x0301)
        },
        ChangeTunnel {
            received: Some(1),
            ..bench.next(0x0301)
        },
        ChangeTunnel {
            acknowledged: Some(4),
            ..bench.next(0x0301)
        },
        ChangeTunnel {
            acknowledged: Some(0x1_0000),
            ..bench.next(0x0301)
        },
    ] {
        assert!(matches!(refusal(bench.run(wrong)), Refusal::Malformed(_)));
    }
    assert_eq!(
        row(&bench, 0x0301).revision,
        3,
        "a refused change changes nothing"
    );
}

#[test]
fn sequence_numbers_wrap() {
    let mut bench = Bench::new();
    let row_before = TunnelRow {
        ns: 0,
        nr: 0xffff,
        unacknowledged: vec![QueuedMessage {
            ns: 0xffff,
            octets: vec![],
        }],
        ..tunnel_row(0x0301)
    };
    assert!(
        bench
            .run(CreateTunnel {
                row: Some(row_before),
                ..create(0x0301)
            })
            .is_accepted()
    );
    let change = ChangeTunnel {
        received: Some(0),
        acknowledged: Some(0),
        ..bench.next(0x0301)
    };
    assert!(bench.run(change).is_accepted());
    assert_eq!(
        (row(&bench, 0x0301).nr, row(&bench, 0x0301).unacknowledged.len()),
        (0, 0)
    );
}

#[test]
fn unacknowledged_messages_are_bounded() {
    let mut bench = Bench::with_tunnel(0x0301);
    let messages = (1..=UNACKNOWLEDGED_MAX as u32)
        .map(|ns| QueuedMessage { ns, octets: vec![] })
        .collect();
    let change = ChangeTunnel {
        messages,
        ..bench.next(0x0301)
    };
    assert!(matches!(refusal(bench.run(change)), Refusal::Full(_)));
}

#[test]
fn a_closing_tunnel_takes_its_sessions_with_it() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let change = ChangeTunnel {
        update: close(TunnelState::Closing, 0),
        terminate_cause: 2,
        ..bench.next(0x0301)
    };
    assert!(bench.run(change).is_accepted());
    assert_eq!(
        (bench.table.session_count(), bench.table.holder(address(1).into())),
        (0, None)
    );
    let stop = bench.table.outbox().last().expect("a Stop");
    assert_eq!((stop.kind, stop.terminate_cause), (AccountingKind::Stop, 2));
    assert_eq!(refusal(bench.put(0x0301, connected(2))), Refusal::NotEstablished);
    let back = ChangeTunnel {
        update: close(TunnelState::Established, 0),
        ..bench.next(0x0301)
    };
    assert!(matches!(refusal(bench.run(back)), Refusal::Malformed(_)));
}

// Sessions and addresses.

#[test]
fn a_session_id_rests_after_its_removal() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, connected(7)).is_accepted());
    assert!(bench.remove(0x0301, 7).is_accepted());
    assert_eq!(refusal(bench.remove(0x0301, 7)), Refusal::NoSession(7));
    assert_eq!(refusal(bench.put(0x0301, connected(7))), Refusal::IdResting(7));
    assert_eq!(
        bench.table.pick_session_id(tunnel(0x0301), 7, |_| false),
        Some(session(8))
    );
    bench.pass(61);
    assert!(bench.put(0x0301, connected(7)).is_accepted());
}

#[test]
fn a_session_does_not_go_back_to_wait_connect() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, connected(7)).is_accepted());
    let mut back = connected(7);
    back.state = SessionState::WaitConnect as i32;
    assert!(matches!(refusal(bench.put(0x0301, back)), Refusal::Malformed(_)));
}

#[test]
fn opening_and_closing_shows_in_the_effects() {
    let mut bench = Bench::with_tunnel(0x0301);
    let opened = |effects: &[Effect]| match &effects[1] {
        Effect::SessionChanged {
            before_open,
            after_open,
            ..
        } => (*before_open, *after_open),
        other => panic!("{other:?}"),
    };
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    assert_eq!(opened(&bench.effects), (false, true));
    assert!(bench.put(0x0301, connected(1)).is_accepted());
    assert_eq!(opened(&bench.effects), (true, false));
    assert_eq!(bench.table.holder(address(1).into()), None, "no PPP, no address");
}

#[test]
fn an_address_has_one_holder() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let taken = Refusal::AddressTaken {
        tunnel: tunnel(0x0301),
        session: session(1),
    };
    assert_eq!(refusal(bench.put(0x0301, open(2, "bob", address(1)))), taken);
    assert_eq!(
        refusal(bench.put(0x0301, open(2, "ann", address(1)))),
        taken,
        "not even the same user"
    );
    assert_eq!(bench.session(0x0301, 2), None);
}

#[test]
fn an_address_rests_for_others_and_returns_to_its_user_at_once() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    assert!(bench.remove(0x0301, 1).is_accepted());
    assert_eq!(
        refusal(bench.put(0x0301, open(2, "bob", address(1)))),
        Refusal::AddressResting
    );
    assert!(bench.put(0x0301, open(2, "ann", address(1))).is_accepted());
    assert!(bench.remove(0x0301, 2).is_accepted());
    bench.pass(31);
    assert!(bench.put(0x0301, open(3, "bob", address(1))).is_accepted());
}

#[test]
fn sessions_without_a_user_are_not_the_same_user() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "", address(1))).is_accepted());
    assert!(bench.remove(0x0301, 1).is_accepted());
    assert_eq!(
        refusal(bench.put(0x0301, open(2, "", address(1)))),
        Refusal::AddressResting
    );
}

#[test]
fn a_refused_change_gives_no_address_away() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let digest = bench.table.digest();
    let put = |row| {
        PutSession {
            row: Some(row),
            replaces: None,
        }
        .into()
    };
    let sessions = vec![
        RemoveSession {
            session_id: 1,
            terminate_cause: 1,
        }
        .into(),
        put(open(2, "bob", address(2))),
        put(open(3, "cat", address(2))),
    ];
    let change = ChangeTunnel {
        sessions,
        ..bench.next(0x0301)
    };
    assert!(matches!(refusal(bench.run(change)), Refusal::AddressTaken { .. }));
    bench.table.applied -= 1;
    assert_eq!(bench.table.digest(), digest);
    assert_eq!(
        bench.table.holder(address(1).into()),
        Some((tunnel(0x0301), session(1)))
    );
}

#[test]
fn a_user_who_dials_again_replaces_his_stale_session() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.run(create(0x0402)).is_accepted());
    bench.establish(0x0402);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let thief = bench.put_replacing(0x0402, open(9, "bob", address(1)), Some((0x0301, 1)));
    assert_eq!(refusal(thief), Refusal::OtherUser);

    assert!(
        bench
            .put_replacing(0x0402, open(9, "ann", address(1)), Some((0x0301, 1)))
            .is_accepted()
    );
    assert_eq!(
        bench.table.holder(address(1).into()),
        Some((tunnel(0x0402), session(9)))
    );
    let replaced = Effect::SessionReplaced {
        tunnel: tunnel(0x0301),
        session: session(1),
    };
    assert!(bench.effects.contains(&replaced));
    assert!(bench.session(0x0301, 1).is_some_and(|row| !row.is_open()));
    assert_eq!(
        refusal(bench.put(0x0301, open(1, "ann", address(1)))),
        Refusal::Replaced
    );
    assert!(
        bench
            .table
            .tunnel(tunnel(0x0301))
            .is_some_and(|tunnel| tunnel.is_replaced(session(1)))
    );
    assert!(bench.remove(0x0301, 1).is_accepted());
    let kinds: Vec<AccountingKind> = bench.table.outbox().map(|owed| owed.kind).collect();
    assert_eq!(
        kinds,
        [AccountingKind::Start, AccountingKind::Stop, AccountingKind::Start]
    );
}

#[test]
fn a_replaced_session_that_is_gone_already_is_no_obstacle() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(
        bench
            .put_replacing(0x0301, open(2, "ann", address(1)), Some((0x0301, 1)))
            .is_accepted()
    );
}

#[test]
fn what_is_no_prefix_is_refused() {
    let mut bench = Bench::with_tunnel(0x0301);
    let mut wrong = open(1, "ann", address(1));
    wrong.ppp.as_mut().expect("open").addresses = vec![Prefix {
        address: vec![1, 2],
        length: 16,
    }];
    assert!(matches!(refusal(bench.put(0x0301, wrong)), Refusal::Malformed(_)));
}

#[test]
fn the_picker_prefers_the_users_last_then_fresh_then_longest_released() {
    let mut bench = Bench::with_tunnel(0x0301);
    let mut picker = AddressPicker::new(AddressRange {
        first: address(1),
        last: address(2),
    });
    for (id, user) in [(1, "ann"), (2, "bob")] {
        let picked = picker.pick(&bench.table, user.as_bytes(), None).expect("fresh");
        assert_eq!(picked, address(id as u8));
        assert!(bench.put(0x0301, open(id, user, picked)).is_accepted());
        picker.settle(&bench.table, picked);
    }
    assert_eq!(
        picker.pick(&bench.table, b"cat", None),
        None,
        "the pool is exhausted"
    );
    assert!(bench.remove(0x0301, 2).is_accepted());
    bench.pass(1);
    assert!(bench.remove(0x0301, 1).is_accepted());
    assert_eq!(picker.pick(&bench.table, b"cat", None), None, "both rest");
    assert_eq!(
        picker.pick(&bench.table, b"ann", Some(address(1))),
        Some(address(1))
    );
    picker.settle(&bench.table, address(1));
    bench.pass(31);
    assert_eq!(
        picker.pick(&bench.table, b"cat", None),
        Some(address(2)),
        "the longest released"
    );
}

#[test]
fn an_address_whose_proposal_failed_can_be_picked_again() {
    let bench = Bench::new();
    let mut picker = AddressPicker::new(AddressRange {
        first: address(1),
        last: address(1),
    });
    assert_eq!(picker.pick(&bench.table, b"ann", None), Some(address(1)));
    assert_eq!(picker.pick(&bench.table, b"bob", None), None);
    picker.settle(&bench.table, address(1));
    assert_eq!(picker.pick(&bench.table, b"bob", None), Some(address(1)));
}

// Accounting and time.

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

// Snapshots.

#[test]
fn a_snapshot_brings_the_whole_table_back() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.run(create(0x0402)).is_accepted());
    for id in 1..=200 {
        assert!(
            bench
                .put(0x0301, open(id, &format!("user{id}"), address(id as u8)))
                .is_accepted()
        );
    }
    assert!(bench.put(0x0301, connected(1)).is_accepted());
    assert!(bench.remove(0x0301, 2).is_accepted());
    assert!(
        bench
            .put_replacing(0x0301, open(300, "user3", address(3)), Some((0x0301, 3)))
            .is_accepted()
    );
    bench.pass(1);

    let mut restore = Restore::default();
    bench
        .table
        .image()
        .encode(|part| restore.part(part))
        .expect("decodes");
    let restored = restore.finish().expect("whole");
    assert_eq!(restored.digest(), bench.table.digest());
    assert_eq!(restored.session_count(), bench.table.session_count());
    let mut again = Bench {
        table: restored,
        ..bench.clone()
    };
    assert_eq!(
        refusal(again.put(0x0301, open(301, "x", address(2)))),
        Refusal::AddressResting
    );
    assert!(matches!(
        refusal(again.put(0x0301, open(301, "x", address(4)))),
        Refusal::AddressTaken { .. }
    ));
    let twin = TunnelRow {
        peer_tunnel_id: 0x0402,
        ..tunnel_row(0x0403)
    };
    let twin = CreateTunnel {
        row: Some(twin),
        ..create(0x0403)
    };
    assert!(matches!(refusal(again.run(twin)), Refusal::HalfOpen { .. }));
}

#[test]
fn an_image_stays_as_it_was() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let (image, digest) = (bench.table.image(), bench.table.digest());
    assert!(bench.remove(0x0301, 1).is_accepted());
    let mut restore = Restore::default();
    image.encode(|part| restore.part(part)).expect("decodes");
    assert_eq!(restore.finish().expect("whole").digest(), digest);
}
