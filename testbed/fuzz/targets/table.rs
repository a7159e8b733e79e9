//! What the disk and other nodes may hold for the session table: commands are judged without a panic, the table says the
//! same after a snapshot, and any octets at all may stand where a snapshot should.

#![no_main]

use holdfast_cluster::Table;
use holdfast_cluster::commands::CommandBatch;
use holdfast_cluster::table::Restore;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|input: &[u8]| {
    let mut restore = Restore::default();
    if restore.part(input).is_ok()
        && let Ok(table) = restore.finish()
    {
        same_after_snapshot(&table);
    }
    let Ok(batch) = CommandBatch::decode(input) else {
        return;
    };
    let (mut table, mut twin) = (Table::new(), Table::new());
    let verdicts = table.apply(1, batch.clone(), &mut Vec::new());
    assert_eq!(verdicts, twin.apply(1, batch, &mut Vec::new()));
    assert_eq!(table.digest(), twin.digest());
    same_after_snapshot(&table);
});

/// Writes the table and reads it back.
fn same_after_snapshot(table: &Table) {
    let mut restore = Restore::default();
    let image = table.image();
    image
        .encode(|part| restore.part(part))
        .expect("a snapshot of ours can be read");
    let restored = restore.finish().expect("a snapshot of ours is complete");
    assert_eq!(restored.digest(), table.digest());
}
