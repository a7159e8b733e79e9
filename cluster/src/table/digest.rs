//! A number that two tables share if they hold the same.

use std::convert::Infallible;

use super::Table;

/// FNV-1a: not against an adversary, only to compare replicas and to find a replay that went another way.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

impl Table {
    /// The same for tables with the same content, whatever way they got there.
    pub fn digest(&self) -> u64 {
        let mut digest = FNV_OFFSET;
        let hashed: Result<(), Infallible> = self.image().encode(|part| {
            for octet in part {
                digest = (digest ^ u64::from(*octet)).wrapping_mul(FNV_PRIME);
            }
            Ok(())
        });
        match hashed {
            Ok(()) => digest,
        }
    }
}
