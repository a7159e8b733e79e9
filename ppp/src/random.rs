//! A sequence of random octets that grows from one seed.
//!
//! SHA-1 in counter mode: an observer who sees some outputs (magic numbers go over the wire in clear) learns neither
//! the seed nor the other outputs (challenges). So the seed must come from the system's generator.

use std::fmt;

use sha1::{Digest, Sha1};

/// The sequence; a copy would repeat it, so it is not `Clone`.
pub(crate) struct Random {
    seed: u64,
    drawn: u32,
}

/// Without the seed, which would tell every challenge to come.
impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next block of 16 octets.
    pub(crate) fn block(&mut self) -> [u8; 16] {
        let digest = Sha1::new()
            .chain_update(self.seed.to_be_bytes())
            .chain_update(self.drawn.to_be_bytes())
            .finalize();
        self.drawn = self.drawn.wrapping_add(1);
        let mut block = [0; 16];
        block.copy_from_slice(&digest[..16]);
        block
    }

    pub(crate) fn octet(&mut self) -> u8 {
        self.block()[0]
    }

    pub(crate) fn word(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.block();
        u32::from_be_bytes([a, b, c, d])
    }

    /// A magic number: never zero, which would mean "none" (RFC 1661 §6.4).
    pub(crate) fn magic(&mut self) -> u32 {
        self.word().max(1)
    }

    /// A sequence of its own for a part of the link.
    pub(crate) fn fork(&mut self) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = self.block();
        Self::new(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence_and_blocks_differ() {
        let (mut one, mut two) = (Random::new(7), Random::new(7));
        let blocks = [one.block(), one.block()];
        assert_eq!(blocks, [two.block(), two.block()]);
        assert_ne!(blocks[0], blocks[1]);
        assert_ne!(Random::new(8).block(), blocks[0]);
        assert_ne!(one.fork().block(), one.block());
    }
}
