//! A table into a snapshot and back.

use super::*;

use crate::commands::CreateTunnel;
use crate::records::TunnelRow;
use crate::table::{Refusal, Restore};
use crate::testing::{Bench, address, connected, create, open, tunnel_row};

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
        Refusal::Address {
            session: session(301),
            why: AddressRefusal::Resting
        }
    );
    assert!(matches!(
        refusal(again.put(0x0301, open(301, "x", address(4)))),
        Refusal::Address {
            why: AddressRefusal::Taken { .. },
            ..
        }
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
