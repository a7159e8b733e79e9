//! What holds of rates whatever comes, and when.

use std::time::Duration;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::shaper::PACKETS_PER_SESSION_MAX;
use super::{Limit, Limits, Offered, Shaper};
use crate::dataplane::SessionShared;
use crate::dataplane::ip::View;
use crate::dataplane::sequence::SendSequence;

const IDS: (u16, u16) = (4, 10);

/// A packet of so many octets to a port, which tells its flow.
fn packet(port: u16, octets: usize) -> (Vec<u8>, View) {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([192, 0, 2, 9], [10, 0, 0, 1], 64)
        .udp(port, 53)
        .write(&mut packet, &vec![0; octets.max(28) - 28])
        .expect("a vector takes it");
    let view = View::parse(&packet).expect("it is whole");
    (packet, view)
}

fn shared(limits: &Limits) -> SessionShared {
    let shared = SessionShared::new(1, SendSequence::default());
    shared.buckets.set(limits);
    shared
}

/// Of what has passed, no interval has more than the rate allows in it, and a burst, and the packet that went beyond.
fn within(passed: &[(Duration, usize)], rate: u64, burst: u64) -> Result<(), TestCaseError> {
    for (from, (begin, _)) in passed.iter().enumerate() {
        let mut octets = 0;
        for (end, length) in &passed[from..] {
            octets += *length as u64;
            let allowed = (*end - *begin).as_secs_f64() * rate as f64 / 8.0 + burst as f64 + 1_500.0;
            prop_assert!(
                octets as f64 <= allowed,
                "{octets} octets in {:?}, {allowed} may",
                *end - *begin
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_policer_passes_no_more_than_rate_and_burst(
        rate in 64_000_u64..1_000_000_000,
        burst in 1_600_u32..200_000,
        arrivals in prop::collection::vec((0_u64..20_000, 40_usize..1_500), 1..200),
    ) {
        let limits = Limits::new((rate, burst), (0, 0));
        let (shared, limit) = (shared(&limits), limits.up.expect("it limits"));
        let mut now = Duration::from_secs(1_000);
        let mut passed = Vec::new();
        for (gap, octets) in arrivals {
            now += Duration::from_micros(gap);
            if shared.buckets.up.take(&limit, now, octets) {
                passed.push((now, octets));
            }
        }
        prop_assert!(!passed.is_empty(), "the first one has the burst");
        // A burst is worth 4 ms at least.
        within(&passed, rate, u64::from(burst).max(rate / 8 / 250))?;
    }

    #[test]
    fn a_shaper_keeps_rate_and_bound_and_starves_no_flow(
        rate in 500_000_u64..100_000_000,
        arrivals in prop::collection::vec((0_u64..2_000, 0_u16..4, 40_usize..1_500), 50..400),
    ) {
        let limits = Limits::new((0, 0), (rate, 1_600));
        let (shared, limit) = (shared(&limits), limits.down.expect("it limits"));
        let mut line = Line { shaper: Shaper::default(), limit, shared, passed: Vec::new() };
        let mut now = Duration::from_secs(1_000);
        let (mut offered, mut dropped) = (0_u32, 0_u32);
        for (gap, flow, octets) in arrivals {
            now += Duration::from_micros(gap);
            dropped += line.drain(now);
            let (packet, view) = packet(5_000 + flow, octets);
            offered += 1;
            match line.shaper.offer(IDS, &packet, &view, now, &limit, &line.shared.buckets.down) {
                Offered::Send => line.passed.push((now, packet.len())),
                Offered::Waits { dropped: others } => dropped += others,
                Offered::Full => dropped += 1,
            }
            let waiting = offered - dropped - line.passed.len() as u32;
            prop_assert!(waiting <= PACKETS_PER_SESSION_MAX, "{waiting} wait");
        }
        // Nobody sends any more: all that waits leaves, or is too old.
        while let Some(due) = line.shaper.next_due() {
            prop_assert!(due < now + Duration::from_secs(3_600), "it waits for ever");
            now = now.max(due);
            dropped += line.drain(now);
        }
        prop_assert_eq!(line.passed.len() as u32 + dropped, offered, "each packet leaves or is counted");
        within(&line.passed, rate, 1_600_u64.max(rate / 8 / 250))?;
    }
}

/// A session's way down.
struct Line {
    shaper: Shaper,
    limit: Limit,
    shared: SessionShared,
    passed: Vec<(Duration, usize)>,
}

impl Line {
    /// What a shard does when something is due; how many were dropped.
    fn drain(&mut self, now: Duration) -> u32 {
        let mut out = [0; 2_048];
        let mut dropped = 0;
        while let Some((number, _)) = self.shaper.take_due(now) {
            loop {
                let wait = self.shared.buckets.down.wait(&self.limit, now);
                if !wait.is_zero() {
                    self.shaper.wait(number, now + wait);
                    break;
                }
                let (length, lost) = self.shaper.pop(number, now, Some(&self.limit), &mut out);
                dropped += lost;
                let Some(length) = length else { break };
                self.shared.buckets.down.charge(&self.limit, now, length);
                self.passed.push((now, length));
            }
        }
        dropped
    }
}
