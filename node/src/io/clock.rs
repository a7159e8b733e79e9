//! The clock of deadlines and of "last heard": CLOCK_BOOTTIME, which never jumps and counts while the host sleeps.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since the host booted.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every Linux since 2.6.39 has CLOCK_BOOTTIME");
    Duration::from(now)
}

/// Wall clock since 1970, for the dates of events; it may jump.
pub fn unix() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("every Linux has CLOCK_REALTIME");
    Duration::from(now)
}

#[cfg(test)]
mod tests {
    #[test]
    fn goes_forward() {
        let before = super::since_boot();
        assert!(super::since_boot() >= before && !before.is_zero());
    }
}
