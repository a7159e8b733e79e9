//! Sessions and their addresses.

use super::*;

use crate::commands::{ChangeTunnel, PutSession, RemoveSession, SessionKey};
use crate::limits::REPLACE_ANY_FROM;
use crate::records::{AccountingKind, Prefix, SessionState};
use crate::table::{Effect, Refusal};
use crate::testing::{Bench, address, connected, create, open};

#[test]
fn a_session_id_rests_after_its_removal() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, connected(7)).is_accepted());
    assert!(bench.remove(0x0301, 7).is_accepted());
    assert_eq!(refusal(bench.remove(0x0301, 7)), Refusal::NoSession(7));
    assert_eq!(refusal(bench.put(0x0301, connected(7))), Refusal::IdResting(7));
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
fn s_153_an_address_has_one_holder() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let taken = |by| Refusal::Address {
        session: session(by),
        why: AddressRefusal::Taken {
            tunnel: tunnel(0x0301),
            session: session(1),
        },
    };
    assert_eq!(refusal(bench.put(0x0301, open(2, "bob", address(1)))), taken(2));
    assert_eq!(
        refusal(bench.put(0x0301, open(2, "ann", address(1)))),
        taken(2),
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
        Refusal::Address {
            session: session(2),
            why: AddressRefusal::Resting
        }
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
        Refusal::Address {
            session: session(2),
            why: AddressRefusal::Resting
        }
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
    let why = AddressRefusal::Taken {
        tunnel: tunnel(0x0301),
        session: session(2),
    };
    assert_eq!(
        refusal(bench.run(change)),
        Refusal::Address {
            session: session(3),
            why
        }
    );
    bench.table.applied -= 1;
    assert_eq!(bench.table.digest(), digest);
    assert_eq!(
        bench.table.holder(address(1).into()),
        Some((tunnel(0x0301), session(1)))
    );
}

#[test]
fn s_153_a_user_who_dials_again_replaces_his_stale_session() {
    let mut bench = Bench::with_tunnel(0x0301);
    assert!(bench.run(create(0x0402)).is_accepted());
    bench.establish(0x0402);
    assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
    let thief = bench.put_replacing(0x0402, open(9, "bob", address(1)), Some((0x0301, 1)));
    assert!(matches!(
        refusal(thief),
        Refusal::Address {
            why: AddressRefusal::OtherUser,
            ..
        }
    ));

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

/// S-153 with the policy "replace".
#[test]
fn s_153_another_users_session_is_replaced_where_that_is_asked_for() {
    for version in [REPLACE_ANY_FROM - 1, REPLACE_ANY_FROM] {
        let mut bench = Bench::with_tunnel(0x0301);
        bench.table.version = version;
        assert!(bench.put(0x0301, open(1, "ann", address(1))).is_accepted());
        let key = SessionKey {
            any_user: true,
            ..SessionKey::new(tunnel(0x0301), session(1))
        };
        let put = PutSession {
            row: Some(open(2, "bob", address(1))),
            replaces: Some(key),
        };
        let change = ChangeTunnel {
            sessions: vec![put.into()],
            ..bench.next(0x0301)
        };
        let verdict = bench.run(change);
        let holder = if version < REPLACE_ANY_FROM { 1 } else { 2 };
        assert_eq!(verdict.is_accepted(), holder == 2);
        assert_eq!(
            bench.table.holder(address(1).into()),
            Some((tunnel(0x0301), session(holder)))
        );
        if holder == 2 {
            // Ann's session is over, and she gets the address back no more than anybody.
            assert!(bench.session(0x0301, 1).is_some_and(|row| !row.is_open()));
            assert!(bench.remove(0x0301, 1).is_accepted());
            assert!(matches!(
                refusal(bench.put(0x0301, open(3, "ann", address(1)))),
                Refusal::Address {
                    why: AddressRefusal::Taken { .. },
                    ..
                }
            ));
        }
    }
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
