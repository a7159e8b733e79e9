//! What stands before the first commit for an unknown peer (S-9): a forged SCCRQ must not buy an fsync.
//!
//! Pure: rates are token buckets filled by the `now` that is passed in, half-open tunnels are counted by whoever owns them.
//! Over a cap, new requests are dropped without an answer: an answer would make us a reflector.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Sources whose bucket is remembered; beyond it the fullest (least active) are forgotten first.
pub const MAX_TRACKED_SOURCES: usize = 4096;

/// The caps of admission, from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// SCCRQs per second from one source address.
    pub per_source_rate: u32,
    /// SCCRQs per second from all sources together.
    pub total_rate: u32,
    /// Half-open tunnels of one source address.
    pub half_open_per_source: u32,
    /// Half-open tunnels of all sources together.
    pub half_open_total: u32,
}

/// Why an SCCRQ was dropped before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The source sends more than `per_source_rate`.
    SourceRate,
    /// All sources together send more than `total_rate`.
    TotalRate,
    /// The source has `half_open_per_source` half-open tunnels.
    SourceHalfOpen,
    /// There are `half_open_total` half-open tunnels.
    TotalHalfOpen,
}

/// Token buckets and half-open counts of one node (or of one shard's share of it).
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    total: Bucket,
    sources: HashMap<IpAddr, Source>,
    half_open: u32,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    bucket: Bucket,
    half_open: u32,
}

/// A bucket that holds one second's worth of its rate.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Duration,
}

impl Bucket {
    fn full(now: Duration, rate: u32) -> Self {
        Self {
            tokens: f64::from(rate),
            filled_at: now,
        }
    }

    fn refill(&mut self, now: Duration, rate: u32) {
        let rate = f64::from(rate);
        let gained = now.saturating_sub(self.filled_at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(rate);
        self.filled_at = now;
    }

    fn take(&mut self) -> bool {
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

impl Admission {
    /// No source known, all buckets full.
    pub fn new(now: Duration, limits: AdmissionLimits) -> Self {
        Self {
            limits,
            total: Bucket::full(now, limits.total_rate),
            sources: HashMap::new(),
            half_open: 0,
        }
    }

    /// Takes new limits over; counts go on.
    pub fn set_limits(&mut self, limits: AdmissionLimits) {
        self.limits = limits;
    }

    /// Judges an SCCRQ by its source alone, before anything of it is parsed. The source's own caps come first, so that
    /// one flooding source does not use up what belongs to all.
    pub fn admit(&mut self, now: Duration, source: IpAddr) -> Result<(), Dropped> {
        self.forget_idle_sources(now);
        let limits = self.limits;
        let entry = self.sources.entry(source).or_insert_with(|| Source {
            bucket: Bucket::full(now, limits.per_source_rate),
            half_open: 0,
        });
        entry.bucket.refill(now, limits.per_source_rate);
        if entry.half_open >= limits.half_open_per_source {
            return Err(Dropped::SourceHalfOpen);
        }
        if !entry.bucket.take() {
            return Err(Dropped::SourceRate);
        }
        if self.half_open >= limits.half_open_total {
            return Err(Dropped::TotalHalfOpen);
        }
        self.total.refill(now, limits.total_rate);
        if !self.total.take() {
            return Err(Dropped::TotalRate);
        }
        Ok(())
    }

    /// A tunnel of `source` became half-open.
    pub fn half_open_began(&mut self, now: Duration, source: IpAddr) {
        let rate = self.limits.per_source_rate;
        self.half_open += 1;
        self.sources
            .entry(source)
            .or_insert_with(|| Source {
                bucket: Bucket::full(now, rate),
                half_open: 0,
            })
            .half_open += 1;
    }

    /// A half-open tunnel of `source` was established or went away.
    pub fn half_open_ended(&mut self, source: IpAddr) {
        self.half_open = self.half_open.saturating_sub(1);
        if let Some(entry) = self.sources.get_mut(&source) {
            entry.half_open = entry.half_open.saturating_sub(1);
        }
    }

    /// Half-open tunnels now.
    pub fn half_open(&self) -> u32 {
        self.half_open
    }

    fn forget_idle_sources(&mut self, now: Duration) {
        if self.sources.len() < MAX_TRACKED_SOURCES {
            return;
        }
        let idle = Duration::from_secs(1);
        self.sources
            .retain(|_, source| source.half_open > 0 || now.saturating_sub(source.bucket.filled_at) < idle);
        if self.sources.len() >= MAX_TRACKED_SOURCES {
            // All active within a second: the total rate alone protects us until they calm down.
            self.sources.retain(|_, source| source.half_open > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LIMITS: AdmissionLimits = AdmissionLimits {
        per_source_rate: 10,
        total_rate: 100,
        half_open_per_source: 3,
        half_open_total: 5,
    };

    fn source(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn s_9_a_source_over_its_rate_is_dropped_and_others_are_not() {
        let mut admission = Admission::new(at(0), LIMITS);
        for _ in 0..10 {
            assert_eq!(admission.admit(at(0), source(1)), Ok(()));
        }
        assert_eq!(admission.admit(at(0), source(1)), Err(Dropped::SourceRate));
        assert_eq!(admission.admit(at(0), source(2)), Ok(()));
        assert_eq!(
            admission.admit(at(100), source(1)),
            Ok(()),
            "a tenth of a second buys one more"
        );
        assert_eq!(admission.admit(at(100), source(1)), Err(Dropped::SourceRate));
    }

    #[test]
    fn s_9_a_flood_from_a_hundred_thousand_sources_is_held_to_the_total_rate() {
        let mut admission = Admission::new(at(0), LIMITS);
        let admitted = (0..100_000u32)
            .filter(|n| {
                admission
                    .admit(at(0), Ipv4Addr::from(0x0a00_0000 + n).into())
                    .is_ok()
            })
            .count();
        assert_eq!(admitted, 100);
        assert!(admission.sources.len() <= MAX_TRACKED_SOURCES);
    }

    #[test]
    fn s_9_half_open_tunnels_are_capped_per_source_first() {
        let mut admission = Admission::new(at(0), LIMITS);
        for _ in 0..3 {
            admission.half_open_began(at(0), source(1));
        }
        assert_eq!(admission.admit(at(0), source(1)), Err(Dropped::SourceHalfOpen));
        assert_eq!(admission.admit(at(0), source(2)), Ok(()));
        for _ in 0..2 {
            admission.half_open_began(at(0), source(2));
        }
        assert_eq!(admission.admit(at(0), source(3)), Err(Dropped::TotalHalfOpen));
        admission.half_open_ended(source(1));
        assert_eq!(admission.admit(at(0), source(3)), Ok(()));
        assert_eq!(admission.half_open(), 4);
    }
}
