//! Tunnels: birth, revisions, sequence numbers, end.

use super::*;

use crate::commands::{ChangeTunnel, Command, CreateTunnel, RemoveTunnel};
use crate::ids::first_life;
use crate::limits::UNACKNOWLEDGED_MAX;
use crate::records::{AccountingKind, QueuedMessage, TunnelRow, TunnelState};
use crate::table::{Effect, Refusal, Table, Verdict};
use crate::testing::{Bench, address, connected, create, open, tunnel_row};

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
