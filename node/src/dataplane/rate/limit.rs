//! Rates, and how much of them is left: a virtual clock a direction (GCRA, ITU-T I.371).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The highest rate there is, bit/s; above it nothing is limited.
pub const RATE_MAX: u64 = 400_000_000_000;
/// Steps of the virtual clock in one nanosecond: at 10 Gbit/s the smallest packet takes 500 of them.
const STEPS: u64 = 16;
const STEPS_A_SECOND: u64 = STEPS * 1_000_000_000;
/// A burst unless it is set: so long at the rate.
const BURST: Duration = Duration::from_millis(125);
/// And not shorter than this, octets: the packet that goes beyond it comes on top.
const BURST_MIN: u64 = 800;
/// Shards look at the clock once a batch, and wait in steps of a millisecond: a shorter burst would cost them rate.
const BURST_TIME_MIN: Duration = Duration::from_millis(4);
/// A year, in steps: beyond it a burst is none.
const BURST_STEPS_MAX: u64 = 365 * 86_400 * STEPS_A_SECOND;
/// A packet of at most so many octets is a small one: voice, acknowledgements, questions to name servers.
const SMALL: usize = 200;
/// The part of a burst that is left to small packets.
const FOR_SMALL: u64 = 8;

/// One direction of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// bit/s, 1 to [`RATE_MAX`].
    rate: u64,
    /// How far the virtual clock may be ahead, in steps.
    burst: u64,
}

/// Both directions; absent: unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// From the subscriber.
    pub up: Option<Limit>,
    /// To the subscriber.
    pub down: Option<Limit>,
}

impl Limits {
    /// Rates in bit/s, 0: unlimited; bursts in octets, 0: 125 ms of the rate.
    pub fn new(up: (u64, u32), down: (u64, u32)) -> Self {
        Self {
            up: Limit::new(up.0, up.1),
            down: Limit::new(down.0, down.1),
        }
    }

    /// Whether there is none.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

impl Limit {
    /// `None` if the rate, bit/s, limits nothing. A burst, octets, of 0 is 125 ms of the rate.
    pub fn new(rate: u64, burst: u32) -> Option<Self> {
        if rate == 0 || rate > RATE_MAX {
            return None;
        }
        let cost = |octets: u64| {
            let steps = u128::from(octets) * 8 * u128::from(STEPS_A_SECOND) / u128::from(rate);
            u64::try_from(steps).unwrap_or(u64::MAX).min(BURST_STEPS_MAX)
        };
        let burst = match burst {
            0 => steps(BURST).max(cost(BURST_MIN)),
            octets => cost(u64::from(octets)),
        };
        Some(Self {
            rate,
            burst: burst.max(steps(BURST_TIME_MIN)),
        })
    }

    /// How long so many octets take.
    pub fn time_of(&self, octets: usize) -> Duration {
        Duration::from_nanos(self.cost(octets) / STEPS)
    }

    /// Of a large packet's parts 100,000 octets at the most: the product has 54 bits.
    fn cost(&self, octets: usize) -> u64 {
        (octets as u64 * 8 * STEPS_A_SECOND / self.rate).max(1)
    }
}

/// A limit and how much of it is used up.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When, by a clock that goes on with each packet as long as the packet takes at the rate, the last packet will have passed.
    until: AtomicU64,
    /// Of the limit; 0: none.
    rate: AtomicU64,
    burst: AtomicU64,
}

/// Of one session, shared by all shards.
#[derive(Debug, Default)]
pub struct Buckets {
    /// From the subscriber.
    pub up: Bucket,
    /// To the subscriber.
    pub down: Bucket,
}

impl Buckets {
    /// New limits. A rate that changes begins with a whole burst: what was used of another may take it long to pay.
    pub fn set(&self, limits: &Limits) {
        self.up.set(limits.up);
        self.down.set(limits.down);
    }
}

impl Bucket {
    fn set(&self, limit: Option<Limit>) {
        let (rate, burst) = limit.map_or((0, 0), |limit| (limit.rate, limit.burst));
        let before = (self.rate.swap(rate, Relaxed), self.burst.swap(burst, Relaxed));
        // Each shard sets the same ones.
        if before != (rate, burst) {
            self.until.store(0, Relaxed);
        }
    }

    /// As last set. While it is being set the burst may be that of the other one, for a packet or two.
    pub fn limit(&self) -> Option<Limit> {
        let rate = self.rate.load(Relaxed);
        let burst = self.burst.load(Relaxed);
        (rate > 0).then_some(Limit { rate, burst })
    }

    /// Lets a packet of `octets` pass at `now`, since boot, or does not. The last of a burst is for small packets alone.
    pub fn take(&self, limit: &Limit, now: Duration, octets: usize) -> bool {
        let burst = if octets <= SMALL {
            limit.burst
        } else {
            limit.burst - limit.burst / FOR_SMALL
        };
        let (now, cost) = (steps(now), limit.cost(octets));
        self.until
            .fetch_update(Relaxed, Relaxed, |until| {
                let until = until.max(now);
                (until - now <= burst).then_some(until + cost)
            })
            .is_ok()
    }

    /// Lets packets of so many octets in all pass, if the burst has room for them whole.
    pub fn take_all(&self, limit: &Limit, now: Duration, octets: usize) -> bool {
        let (now, cost) = (steps(now), limit.cost(octets));
        self.until
            .fetch_update(Relaxed, Relaxed, |until| {
                let after = until.max(now) + cost;
                (after - now <= limit.burst).then_some(after)
            })
            .is_ok()
    }

    /// Lets a packet pass in any case.
    pub fn charge(&self, limit: &Limit, now: Duration, octets: usize) {
        let (now, cost) = (steps(now), limit.cost(octets));
        let _ = self
            .until
            .fetch_update(Relaxed, Relaxed, |until| Some(until.max(now) + cost));
    }

    /// How long until a packet may pass that is not small; zero: now.
    pub fn wait(&self, limit: &Limit, now: Duration) -> Duration {
        let burst = limit.burst - limit.burst / FOR_SMALL;
        let ahead = self.until.load(Relaxed).saturating_sub(steps(now));
        Duration::from_nanos(ahead.saturating_sub(burst).div_ceil(STEPS))
    }
}

fn steps(time: Duration) -> u64 {
    time.as_nanos() as u64 * STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets that pass in 10 s when more is offered, looked at once a millisecond.
    fn passed(bucket: &Bucket, limit: &Limit, from: Duration, octets: usize) -> u64 {
        let mut passed = 0;
        for millisecond in 0..10_000 {
            let now = from + Duration::from_millis(millisecond);
            while bucket.take(limit, now, octets) {
                passed += octets as u64;
            }
        }
        passed
    }

    #[test]
    fn ten_seconds_are_within_three_percent_at_any_rate() {
        for rate in [
            64_000,
            128_000,
            1_000_000,
            50_000_000,
            1_000_000_000,
            10_000_000_000,
        ] {
            for octets in [64, 576, 1500] {
                let limit = Limit::new(rate, 0).expect("a rate");
                let passed = passed(&Bucket::default(), &limit, Duration::from_secs(5), octets);
                let ratio = passed as f64 * 8.0 / (rate as f64 * 10.0);
                assert!(
                    (0.97..1.03).contains(&ratio),
                    "{rate} bit/s, {octets} octets: {ratio}"
                );
                // The burst at the beginning aside it is exact.
                let bucket = Bucket::default();
                self::passed(&bucket, &limit, Duration::from_secs(5), octets);
                let steady = self::passed(&bucket, &limit, Duration::from_secs(15), octets);
                let ratio = steady as f64 * 8.0 / (rate as f64 * 10.0);
                let packet = octets as f64 * 8.0 / (rate as f64 * 10.0);
                assert!(
                    (ratio - 1.0).abs() <= 0.001 + packet,
                    "{rate} bit/s, {octets} octets: {ratio}"
                );
            }
        }
    }

    #[test]
    fn the_last_of_a_burst_is_for_small_packets() {
        let limit = Limit::new(8_000_000, 80_000).expect("a rate");
        let (bucket, now) = (Bucket::default(), Duration::from_secs(1));
        let mut large = 0;
        while bucket.take(&limit, now, 1000) {
            large += 1;
        }
        assert_eq!(
            large, 71,
            "seven eighths of the burst, and the one that goes beyond"
        );
        let mut small = 0;
        while bucket.take(&limit, now, 100) {
            small += 1;
        }
        assert_eq!(small, 91);
        let wait = bucket.wait(&limit, now);
        assert_eq!(wait, limit.time_of(10_100));
        assert!(!bucket.take(&limit, now + wait - Duration::from_micros(1), 1000));
        assert!(bucket.take(&limit, now + wait, 1000));
    }

    #[test]
    fn a_large_packet_passes_whole_or_packet_by_packet() {
        let limit = Limit::new(8_000_000, 80_000).expect("a rate");
        let (bucket, now) = (Bucket::default(), Duration::from_secs(1));
        assert!(bucket.take_all(&limit, now, 50_000));
        assert!(!bucket.take_all(&limit, now, 50_000), "nothing of it is taken");
        assert!(bucket.take_all(&limit, now, 30_000));
        assert!(!bucket.take_all(&limit, now, 1));
        assert!(bucket.take_all(&limit, now + limit.time_of(1_000), 1_000));
    }

    #[test]
    fn shards_share_a_rate() {
        let limit = Limit::new(100_000_000, 0).expect("a rate");
        let (bucket, offered) = (Bucket::default(), 20_000_u64);
        let passed: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..offered)
                            .filter(|_| bucket.take(&limit, Duration::from_secs(1), 1000))
                            .count() as u64
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        // 125 ms of 100 Mbit/s are 1,562,500 octets, seven eighths of them for packets like these.
        assert_eq!(passed, 1_367 + 1);
    }

    #[test]
    fn a_rate_that_changes_begins_anew_and_one_that_is_set_again_does_not() {
        let buckets = Buckets::default();
        assert_eq!(buckets.down.limit(), None);
        buckets.set(&Limits::new((0, 0), (8_000, 1_000)));
        let now = Duration::from_secs(1);
        let limit = buckets.down.limit().expect("a rate");
        assert!(buckets.down.take(&limit, now, 5_000));
        buckets.set(&Limits::new((0, 0), (8_000, 1_000)));
        assert!(!buckets.down.take(&limit, now, 500), "five seconds are used");
        buckets.set(&Limits::new((0, 0), (16_000, 1_000)));
        let limit = buckets.down.limit().expect("a rate");
        assert!(buckets.down.take(&limit, now, 500));
        buckets.set(&Limits::default());
        assert_eq!(buckets.down.limit(), None);
    }

    #[test]
    fn what_limits_nothing_is_no_limit() {
        assert_eq!(Limit::new(0, 7), None);
        assert_eq!(Limit::new(1_000_000_000_000, 0), None);
        assert!(Limits::new((0, 0), (0, 5)).is_unlimited());
        assert!(!Limits::new((0, 0), (1, 0)).is_unlimited());
        let slowest = Limit::new(1, u32::MAX).expect("a rate");
        assert_eq!(slowest.burst, BURST_STEPS_MAX);
        let slowest = Limit::new(1, 0).expect("a rate");
        let bucket = Bucket::default();
        assert!(bucket.take(&slowest, Duration::from_secs(9), 65_535));
        assert!(!bucket.take(&slowest, Duration::from_secs(9), 65_535));
    }
}
