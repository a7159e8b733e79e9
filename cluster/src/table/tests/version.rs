//! The version that all members know.

use super::*;

use crate::commands::Raise;
use crate::limits::COMMAND_VERSION;
use crate::table::Restore;

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
