//! What stands before the first commit for an unknown peer (S-9): a forged SCCRQ must not buy an fsync.
//!
//! Pure: rates are token buckets filled by the `now` that is passed in, half-open tunnels are counted by whoever owns them.
//! Over a cap, new requests wait ([`super::waiting`]) or are dropped, without an answer: an answer would make us a reflector.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::waiting::{Waiter, Waiting};

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

/// What becomes of an SCCRQ before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is read now.
    Admitted,
    /// It waits: a cap is reached. [`Admission::take_waiting`] gives it when there is a place.
    Waits(OverCap),
    /// A cap is reached, and too many wait.
    Dropped(OverCap),
}

/// Which cap an SCCRQ exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverCap {
    /// The source sends more than `per_source_rate`.
    SourceRate,
    /// All sources together send more than `total_rate`.
    TotalRate,
    /// The source has `half_open_per_source` half-open tunnels.
    SourceHalfOpen,
    /// There are `half_open_total` half-open tunnels.
    TotalHalfOpen,
    /// The session table has more to do than it can do soon: who is let in now would only wait elsewhere, and what has begun
    /// would wait with him.
    TableBusy,
}

/// Token buckets and half-open counts of one node (or of one shard's share of it).
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    total: Bucket,
    sources: HashMap<IpAddr, Source>,
    half_open: u32,
    waiting: Waiting,
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
            waiting: Waiting::default(),
        }
    }

    /// Takes new limits over; counts go on.
    pub fn set_limits(&mut self, limits: AdmissionLimits) {
        self.limits = limits;
    }

    /// Judges an SCCRQ by its source alone, before anything of it is parsed.
    /// Admitted, it counts as half-open until [`Self::half_open_ended`] is told what became of it; its row counts by itself.
    pub fn judge(&mut self, now: Duration, request: &Waiter, table_busy: bool) -> Judgement {
        let source = request.from.ip();
        // First come, first served; and a repetition of what waits must not pass it.
        let over = if table_busy {
            OverCap::TableBusy
        } else if self.waiting.has(source) {
            OverCap::SourceHalfOpen
        } else {
            match self.admit(now, source) {
                Ok(()) => return Judgement::Admitted,
                Err(over) => over,
            }
        };
        if self.waiting.put(now, request) {
            Judgement::Waits(over)
        } else {
            Judgement::Dropped(over)
        }
    }

    /// Up to `most` of those that wait and have a place now; they are admitted.
    pub fn take_waiting(&mut self, now: Duration, most: usize) -> Vec<Waiter> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        let taken = waiting.take(now, most, |source| match self.admit(now, source) {
            Ok(()) => Some(true),
            Err(OverCap::SourceRate | OverCap::SourceHalfOpen) => Some(false),
            Err(OverCap::TotalRate | OverCap::TotalHalfOpen | OverCap::TableBusy) => None,
        });
        self.waiting = waiting;
        taken
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The source's own caps come first, so that one flooding source does not use up what belongs to all.
    fn admit(&mut self, now: Duration, source: IpAddr) -> Result<(), OverCap> {
        self.forget_idle_sources(now);
        let limits = self.limits;
        let entry = self.sources.entry(source).or_insert_with(|| Source {
            bucket: Bucket::full(now, limits.per_source_rate),
            half_open: 0,
        });
        entry.bucket.refill(now, limits.per_source_rate);
        if entry.half_open >= limits.half_open_per_source {
            return Err(OverCap::SourceHalfOpen);
        }
        if !entry.bucket.take() {
            return Err(OverCap::SourceRate);
        }
        if self.half_open >= limits.half_open_total {
            return Err(OverCap::TotalHalfOpen);
        }
        self.total.refill(now, limits.total_rate);
        if !self.total.take() {
            return Err(OverCap::TotalRate);
        }
        self.half_open_began(now, source);
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

    /// Admits one that comes to nothing at once.
    fn pass(admission: &mut Admission, now: Duration, source: IpAddr) -> Result<(), OverCap> {
        admission.admit(now, source)?;
        admission.half_open_ended(source);
        Ok(())
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn s_9_a_source_over_its_rate_is_dropped_and_others_are_not() {
        let mut admission = Admission::new(at(0), LIMITS);
        for _ in 0..10 {
            assert_eq!(pass(&mut admission, at(0), source(1)), Ok(()));
        }
        assert_eq!(pass(&mut admission, at(0), source(1)), Err(OverCap::SourceRate));
        assert_eq!(pass(&mut admission, at(0), source(2)), Ok(()));
        assert_eq!(
            pass(&mut admission, at(100), source(1)),
            Ok(()),
            "a tenth of a second buys one more"
        );
        assert_eq!(pass(&mut admission, at(100), source(1)), Err(OverCap::SourceRate));
    }

    #[test]
    fn s_9_a_flood_from_a_hundred_thousand_sources_is_held_to_the_total_rate() {
        let mut admission = Admission::new(at(0), LIMITS);
        let admitted = (0..100_000u32)
            .filter(|n| pass(&mut admission, at(0), Ipv4Addr::from(0x0a00_0000 + n).into()).is_ok())
            .count();
        assert_eq!(admitted, 100);
        assert!(admission.sources.len() <= MAX_TRACKED_SOURCES);
    }

    #[test]
    fn s_9_who_comes_over_a_cap_waits_for_a_place_and_nobody_passes_him() {
        let request = |last: u8, message: u8| Waiter {
            from: (source(last), 1701).into(),
            to: ([192, 0, 2, 99], 1701).into(),
            datagram: vec![message],
        };
        let judge = |admission: &mut Admission, now, request: &Waiter| admission.judge(now, request, false);
        let mut admission = Admission::new(at(0), LIMITS);
        for message in 0..3 {
            assert_eq!(
                judge(&mut admission, at(0), &request(1, message)),
                Judgement::Admitted
            );
        }
        let waits = Judgement::Waits(OverCap::SourceHalfOpen);
        assert_eq!(judge(&mut admission, at(0), &request(1, 3)), waits);
        assert_eq!(judge(&mut admission, at(0), &request(2, 0)), Judgement::Admitted);
        assert!(admission.take_waiting(at(1), 9).is_empty());
        admission.half_open_ended(source(1));
        assert_eq!(
            judge(&mut admission, at(1), &request(1, 3)),
            waits,
            "a repetition waits too"
        );
        assert_eq!(admission.take_waiting(at(1), 9), [request(1, 3)]);
        let busy = Judgement::Waits(OverCap::TableBusy);
        assert_eq!(admission.judge(at(1), &request(2, 1), true), busy);
        assert_eq!(admission.take_waiting(at(1), 9), [request(2, 1)]);
        assert_eq!(admission.half_open(), 5);
    }

    #[test]
    fn s_9_half_open_tunnels_are_capped_per_source_first() {
        let mut admission = Admission::new(at(0), LIMITS);
        for _ in 0..3 {
            admission.half_open_began(at(0), source(1));
        }
        assert_eq!(
            pass(&mut admission, at(0), source(1)),
            Err(OverCap::SourceHalfOpen)
        );
        assert_eq!(pass(&mut admission, at(0), source(2)), Ok(()));
        for _ in 0..2 {
            admission.half_open_began(at(0), source(2));
        }
        assert_eq!(
            pass(&mut admission, at(0), source(3)),
            Err(OverCap::TotalHalfOpen)
        );
        admission.half_open_ended(source(1));
        assert_eq!(pass(&mut admission, at(0), source(3)), Ok(()));
        assert_eq!(admission.half_open(), 4);
    }
}
