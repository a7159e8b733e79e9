//! The version that all members know.

use super::*;

use crate::commands::{Raise, Reclaim, RemoveTunnel};
use crate::limits::{COMMAND_VERSION, PROPOSER_CHECKED_FROM};
use crate::table::Restore;
use crate::testing::create;

#[test]
fn the_version_rises_and_never_falls() {
    let mut bench = Bench::new();
    assert_eq!(bench.table.version(), 1);
    for version in [COMMAND_VERSION, 1, 0] {
        assert!(bench.run(Raise { version }).is_accepted());
        assert_eq!(bench.table.version(), COMMAND_VERSION);
    }
    let unknown = Raise {
        version: COMMAND_VERSION + 1,
    };
    assert!(matches!(refusal(bench.run(unknown)), Refusal::Malformed(_)));
}

#[test]
fn a_tunnel_is_its_owners_once_all_members_check_that() {
    let mut bench = Bench::with_tunnel(0x0301);
    let known = Raise { version: 2 };
    assert!(bench.run(known).is_accepted());
    let foreign = bench.next(0x0301);
    assert!(bench.run_from(2, foreign).is_accepted(), "as older nodes judge");

    let known = Raise {
        version: PROPOSER_CHECKED_FROM,
    };
    assert!(bench.run(known).is_accepted());
    let next = bench.next(0x0301);
    let not_owner = Refusal::NotOwner { origin: 2, owner: 1 };
    let reclaim = Reclaim {
        tunnel_id: 0x0301,
        life: next.life + 1,
    };
    let remove = RemoveTunnel {
        tunnel_id: 0x0301,
        life: next.life,
    };
    assert_eq!(refusal(bench.run_from(2, next.clone())), not_owner);
    assert_eq!(refusal(bench.run_from(2, create(0x0302))), not_owner);
    assert_eq!(refusal(bench.run_from(2, reclaim)), not_owner);
    assert_eq!(refusal(bench.run_from(2, remove)), not_owner);
    assert!(bench.run(next.clone()).is_accepted());
    assert!(bench.run(next).is_accepted(), "and again by the same node");
    assert!(bench.run(create(0x0302)).is_accepted());
    assert!(bench.run(reclaim).is_accepted());
}

#[test]
fn the_version_outlives_a_snapshot() {
    let mut bench = Bench::new();
    assert!(
        bench
            .run(Raise {
                version: COMMAND_VERSION
            })
            .is_accepted()
    );
    let mut restore = Restore::default();
    bench
        .table
        .image()
        .encode(|part| restore.part(part))
        .expect("decodes");
    assert_eq!(restore.finish().expect("whole").version(), COMMAND_VERSION);
}
