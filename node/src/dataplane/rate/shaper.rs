//! What waits for its rate on one shard, session by session.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::arena::{Arena, PLACE};
use super::limit::{Bucket, Limit};
use super::queue::{FLOWS, Queue};
use crate::dataplane::ip::View;
use crate::dataplane::routes::AssignedMap;
use crate::dataplane::slab::Slab;

/// Packets that wait on one shard, of all sessions. Beyond it packets are dropped and counted as `rate_full`.
pub const PACKETS_MAX: u32 = 16_384;
/// Packets that wait for one session. Beyond it the flow with most octets loses its oldest.
pub const PACKETS_PER_SESSION_MAX: u32 = 512;

/// Our ids of a tunnel and of a session, as headers carry them.
pub type SessionIds = (u16, u16);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It may pass now.
    Send,
    /// It waits; so many others of the session were dropped for it.
    Waits {
        /// Packets.
        dropped: u32,
    },
    /// There is no room for it.
    Full,
}

/// See the module. All memory is taken by [`Self::prepare`]; the kernel gives pages for as much of it as is ever used.
#[derive(Debug, Default)]
pub struct Shaper {
    arena: Option<Box<Arena>>,
    waiting: Slab<Waiting>,
    index: AssignedMap<u32, u32>,
    /// Each session that waits stands here once, but for the one that is being drained.
    due: BinaryHeap<Reverse<(Duration, u32)>>,
}

#[derive(Debug)]
struct Waiting {
    ids: SessionIds,
    queue: Queue,
}

impl Shaper {
    /// Makes room for all packets that may wait, before one has to: a session with a rate is on its way.
    pub fn prepare(&mut self) {
        if self.arena.is_none() {
            let sessions = PACKETS_MAX as usize;
            self.arena = Some(Box::new(Arena::new(PACKETS_MAX)));
            self.waiting = Slab::with_capacity(sessions);
            self.index.reserve(sessions);
            self.due.reserve(sessions);
        }
    }

    /// A packet for a session: `packet` may pass if the bucket lets it and none waits before it.
    pub fn offer(
        &mut self,
        ids: SessionIds,
        packet: &[u8],
        view: &View,
        now: Duration,
        limit: &Limit,
        bucket: &Bucket,
    ) -> Offered {
        let known = self.index.get(&key(ids)).copied();
        if known.is_none() && bucket.take(limit, now, packet.len()) {
            return Offered::Send;
        }
        if packet.len() > PLACE {
            return Offered::Full;
        }
        self.prepare();
        let arena = self.arena.as_mut().expect("just prepared");
        let at = match known {
            Some(at) => at,
            None if arena.is_full() => return Offered::Full,
            None => {
                let queue = Queue::default();
                let at = self.waiting.insert(Waiting { ids, queue });
                self.index.insert(key(ids), at);
                self.due.push(Reverse((now + bucket.wait(limit, now), at)));
                at
            }
        };
        let queue = &mut self
            .waiting
            .get_mut(at)
            .expect("the index names what waits")
            .queue;
        let mut dropped = 0;
        if (arena.is_full() || queue.packets() >= PACKETS_PER_SESSION_MAX) && queue.drop_fattest(arena) {
            dropped += 1;
        }
        match queue.push(arena, flow(packet, view), packet, now) {
            true => Offered::Waits { dropped },
            false => Offered::Full,
        }
    }

    /// Whether packets for a session, `octets` in all, pass at once: the rate has room for them and none wait before them. Then they
    /// need not be offered one by one.
    pub fn passes(
        &self,
        ids: SessionIds,
        octets: usize,
        now: Duration,
        limit: &Limit,
        bucket: &Bucket,
    ) -> bool {
        !self.index.contains_key(&key(ids)) && bucket.take_all(limit, now, octets)
    }

    /// When the next session may send again.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// A session that may send again, to be drained: until [`Self::pop`] has nothing more or [`Self::wait`] is called.
    pub fn take_due(&mut self, now: Duration) -> Option<(u32, SessionIds)> {
        let Reverse((at, _)) = self.due.peek()?;
        if *at > now {
            return None;
        }
        let Reverse((_, number)) = self.due.pop()?;
        Some((number, self.waiting.get(number)?.ids))
    }

    /// The session that is being drained has to wait again.
    pub fn wait(&mut self, number: u32, until: Duration) {
        self.due.push(Reverse((until, number)));
    }

    /// The next packet of the session that is being drained, to the start of `out`: its length, and how many were dropped before it.
    /// Without one the session waits no more.
    pub fn pop(
        &mut self,
        number: u32,
        now: Duration,
        limit: Option<&Limit>,
        out: &mut [u8],
    ) -> (Option<usize>, u32) {
        let (Some(waiting), Some(arena)) = (self.waiting.get_mut(number), &mut self.arena) else {
            return (None, 0);
        };
        let (length, dropped) = waiting.queue.pop(arena, now, limit, out);
        if length.is_none() {
            self.retire(number);
        }
        (length, dropped)
    }

    /// Drops all that waits for the session that is being drained; how many packets.
    pub fn discard(&mut self, number: u32) -> u32 {
        let (Some(waiting), Some(arena)) = (self.waiting.get_mut(number), &mut self.arena) else {
            return 0;
        };
        let packets = waiting.queue.packets();
        while waiting.queue.drop_fattest(arena) {}
        self.retire(number);
        packets
    }

    fn retire(&mut self, number: u32) {
        if let Some(Waiting { ids, .. }) = self.waiting.remove(number) {
            self.index.remove(&key(ids));
        }
    }
}

fn key((tunnel, session): SessionIds) -> u32 {
    u32::from(tunnel) << 16 | u32::from(session)
}

/// The flow of a packet: addresses, protocol and, in TCP and UDP but for later fragments, the ports.
fn flow(packet: &[u8], view: &View) -> usize {
    let addresses = match view.source.is_ipv4() {
        true => 12..20,
        false => 8..40,
    };
    let ports = match view.protocol {
        6 | 17 if !view.later_fragment => view.header..view.header + 4,
        _ => 0..0,
    };
    let octets = [addresses, ports]
        .into_iter()
        .filter_map(|range| packet.get(range));
    // FNV-1a: quick on so few octets, and a subscriber who makes his own flows collide harms himself alone.
    let hash = octets.flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % FLOWS
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn packet(port: u16, payload: usize) -> (Vec<u8>, View) {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 0, 2, 9], [10, 0, 0, 1], 64)
            .udp(port, 53)
            .write(&mut packet, &vec![0; payload])
            .expect("a vector takes it");
        let view = View::parse(&packet).expect("it is whole");
        (packet, view)
    }

    /// Octets that leave in 10 s while twice the rate is offered in packets of 1,000 octets, a look a millisecond.
    fn shaped(rate: u64) -> u64 {
        let limit = Limit::new(rate, 0).expect("a rate");
        let (mut shaper, bucket, ids) = (Shaper::default(), Bucket::default(), (4, 10));
        let (packet, view) = packet(7, 972);
        let (mut sent, mut offered) = (0, 0);
        let mut out = [0; PLACE];
        for millisecond in 0..10_000_u64 {
            let now = Duration::from_millis(millisecond);
            while offered * 8_000 * 1_000 < 2 * rate * millisecond {
                offered += 1;
                if shaper.offer(ids, &packet, &view, now, &limit, &bucket) == Offered::Send {
                    sent += 1;
                }
            }
            while let Some((number, _)) = shaper.take_due(now) {
                loop {
                    let wait = bucket.wait(&limit, now);
                    if wait > Duration::ZERO {
                        shaper.wait(number, now + wait);
                        break;
                    }
                    let (Some(length), _) = shaper.pop(number, now, Some(&limit), &mut out) else {
                        break;
                    };
                    bucket.charge(&limit, now, length);
                    sent += 1;
                }
            }
        }
        sent * 1_000
    }

    #[test]
    fn ten_seconds_are_within_three_percent_at_any_rate() {
        for rate in [64_000, 1_000_000, 50_000_000, 1_000_000_000] {
            let ratio = shaped(rate) as f64 * 8.0 / (rate as f64 * 10.0);
            assert!((0.97..1.03).contains(&ratio), "{rate} bit/s: {ratio}");
        }
    }

    #[test]
    fn what_waits_is_bounded_and_leaves_when_its_time_comes() {
        let limit = Limit::new(8_000, 1_000).expect("a rate");
        let (mut shaper, bucket, now) = (Shaper::default(), Bucket::default(), Duration::from_secs(1));
        let (packet, view) = packet(7, 972);
        let mut outcomes = [0; 3];
        for _ in 0..PACKETS_PER_SESSION_MAX + 10 {
            match shaper.offer((4, 10), &packet, &view, now, &limit, &bucket) {
                Offered::Send => outcomes[0] += 1,
                Offered::Waits { dropped: 0 } => outcomes[1] += 1,
                Offered::Waits { .. } => outcomes[2] += 1,
                Offered::Full => panic!("there is room"),
            }
        }
        assert_eq!(outcomes, [1, PACKETS_PER_SESSION_MAX, 9]);
        assert_eq!(shaper.take_due(now), None);
        let due = shaper.next_due().expect("a session waits");
        let (number, ids) = shaper.take_due(due).expect("it is due");
        assert_eq!(ids, (4, 10));
        assert_eq!(shaper.discard(number), PACKETS_PER_SESSION_MAX);
        assert_eq!(shaper.next_due(), None);
        let long = vec![0; PLACE + 1];
        assert_eq!(
            shaper.offer((4, 10), &long, &view, now, &limit, &bucket),
            Offered::Full
        );
    }

    #[test]
    fn all_sessions_together_are_bounded() {
        let limit = Limit::new(8_000, 1_000).expect("a rate");
        let (mut shaper, now) = (Shaper::default(), Duration::from_secs(1));
        let (packet, view) = packet(7, 972);
        let buckets: Vec<Bucket> = (0..80).map(|_| Bucket::default()).collect();
        let mut full = 0;
        for (session, bucket) in buckets.iter().enumerate() {
            for _ in 0..PACKETS_PER_SESSION_MAX {
                let ids = (4, session as u16 + 1);
                full += u32::from(shaper.offer(ids, &packet, &view, now, &limit, bucket) == Offered::Full);
            }
        }
        assert!(full > 0);
        let mut left = 0;
        while let Some(due) = shaper.next_due() {
            let (number, _) = shaper.take_due(due).expect("it is due");
            left += shaper.discard(number);
        }
        assert_eq!(left, PACKETS_MAX);
    }

    #[test]
    fn flows_are_told_apart_by_their_ports() {
        let flows: std::collections::BTreeSet<usize> = (1000..1100)
            .map(|port| {
                let (packet, view) = packet(port, 10);
                flow(&packet, &view)
            })
            .collect();
        assert_eq!(flows.len(), FLOWS);
    }
}
