//! So many in a second and no more.

use std::time::Duration;

/// What is left of the second that runs.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    second: u64,
    used: u32,
}

impl Allowance {
    /// Whether one more is allowed at `now`; then it is used.
    pub(super) fn take(&mut self, now: Duration, per_second: u32) -> bool {
        if self.second != now.as_secs() {
            *self = Self {
                second: now.as_secs(),
                used: 0,
            };
        }
        let allowed = self.used < per_second;
        self.used += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_second_allows_as_many_again() {
        let mut allowance = Allowance::default();
        let mut take = |milliseconds| allowance.take(Duration::from_millis(milliseconds), 2);
        let taken = [0, 500, 999, 1000, 1000, 1999, 2000].map(&mut take);
        assert_eq!(taken, [true, true, false, true, true, false, true]);
    }
}
