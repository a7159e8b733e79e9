//! Whatever is random in the simulation, from its seed.

use std::time::Duration;

use holdfast::lns::entropy::Entropy;

/// A source of random choices. The same seed chooses the same.
#[derive(Clone, Debug)]
pub struct Dice(Entropy);

impl Dice {
    /// Each part of the world draws from a source of its own, so that one more draw here changes nothing there.
    pub fn new(seed: u64, part: u64) -> Self {
        let mut mixed = Entropy::new(seed ^ part.wrapping_mul(0x9e6c_63d0_876a_9a69));
        Self(Entropy::new(mixed.next_u64()))
    }

    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From 0 to `end` - 1; 0 where there is nothing to choose from.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Whether something happens that does so `per_mille` times in a thousand.
    pub fn happens(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1000) < per_mille
    }

    /// A time between two, in steps of a microsecond.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_micros() as u64;
        least + Duration::from_micros(self.below(span + 1))
    }

    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        self.between(Duration::from_millis(least), Duration::from_millis(most))
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.index(from.len())).copied()
    }
}
