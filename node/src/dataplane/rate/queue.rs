//! What waits for one session: its flows in turns, new ones first (RFC 8290 §4).

use std::time::Duration;

use super::arena::{Arena, List};
use super::codel::{Codel, TARGET};
use super::limit::Limit;

/// Flows that are told apart, by addresses and ports; those that fall together share their turns.
pub(super) const FLOWS: usize = 8;
/// Octets that a flow may send in its turn: a packet of full size.
const QUANTUM: i32 = 1_514;
/// Packets of full size that CoDel's target is worth at least.
const TARGET_PACKETS: usize = 2;

#[derive(Debug, Default)]
struct Flow {
    list: List,
    octets: usize,
    deficit: i32,
    codel: Codel,
    /// It is in one of the two lists.
    listed: bool,
}

/// Numbers of flows in the order of their turns, each once.
#[derive(Debug, Default)]
struct Turns {
    numbers: [u8; FLOWS],
    first: u8,
    len: u8,
}

impl Turns {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push_back(&mut self, number: u8) {
        self.numbers[(self.first + self.len) as usize % FLOWS] = number;
        self.len += 1;
    }

    fn push_front(&mut self, number: u8) {
        self.first = (self.first + FLOWS as u8 - 1) % FLOWS as u8;
        self.numbers[usize::from(self.first)] = number;
        self.len += 1;
    }

    fn pop_front(&mut self) -> Option<u8> {
        let number = *self
            .numbers
            .get(usize::from(self.first))
            .filter(|_| self.len > 0)?;
        self.first = (self.first + 1) % FLOWS as u8;
        self.len -= 1;
        Some(number)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    flows: [Flow; FLOWS],
    new: Turns,
    old: Turns,
    packets: u32,
}

impl Queue {
    /// How many packets wait.
    pub(super) fn packets(&self) -> u32 {
        self.packets
    }

    /// Lets a packet of the flow wait; whether there was room.
    pub(super) fn push(&mut self, arena: &mut Arena, flow: usize, packet: &[u8], now: Duration) -> bool {
        let number = flow as u8;
        let flow = &mut self.flows[flow];
        if !arena.push(&mut flow.list, packet, now) {
            return false;
        }
        flow.octets += packet.len();
        self.packets += 1;
        if !flow.listed {
            (flow.listed, flow.deficit) = (true, QUANTUM);
            self.new.push_back(number);
        }
        true
    }

    /// Drops the oldest packet of the flow with most octets; whether there was one.
    pub(super) fn drop_fattest(&mut self, arena: &mut Arena) -> bool {
        let fattest = self.flows.iter_mut().max_by_key(|flow| flow.octets);
        let Some(flow) = fattest else { return false };
        let Some((length, _)) = arena.pop(&mut flow.list, |_| {}) else {
            return false;
        };
        flow.octets -= length;
        self.packets -= 1;
        true
    }

    /// Takes the next packet out to the start of `out`; its length, and how many were dropped before it.
    pub(super) fn pop(
        &mut self,
        arena: &mut Arena,
        now: Duration,
        limit: Option<&Limit>,
        out: &mut [u8],
    ) -> (Option<usize>, u32) {
        let target = limit.map_or(TARGET, |limit| {
            limit.time_of(TARGET_PACKETS * QUANTUM as usize).max(TARGET)
        });
        let mut dropped = 0;
        loop {
            let is_new = !self.new.is_empty();
            let list = if is_new { &mut self.new } else { &mut self.old };
            let Some(number) = list.pop_front() else {
                return (None, dropped);
            };
            let flow = &mut self.flows[usize::from(number)];
            if flow.deficit <= 0 {
                flow.deficit += QUANTUM;
                self.old.push_back(number);
                continue;
            }
            let (length, lost) = flow.pop(arena, now, target, out);
            dropped += lost;
            self.packets -= lost + u32::from(length.is_some());
            match length {
                Some(length) => {
                    flow.deficit -= length as i32;
                    let list = if is_new { &mut self.new } else { &mut self.old };
                    list.push_front(number);
                    return (Some(length), dropped);
                }
                // One that has emptied may not be new again before the others had their turn.
                None if is_new && !self.old.is_empty() => self.old.push_back(number),
                None => flow.listed = false,
            }
        }
    }
}

impl Flow {
    fn pop(
        &mut self,
        arena: &mut Arena,
        now: Duration,
        target: Duration,
        out: &mut [u8],
    ) -> (Option<usize>, u32) {
        let mut dropped = 0;
        while let Some((length, since)) = arena.oldest(&self.list) {
            self.octets -= length;
            let waited = now.saturating_sub(since);
            if self.codel.drops(now, waited, self.octets, target) {
                arena.pop(&mut self.list, |_| {});
                dropped += 1;
                continue;
            }
            arena.pop(&mut self.list, |packet| out[..length].copy_from_slice(packet));
            return (Some(length), dropped);
        }
        (None, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(3);

    fn drain(queue: &mut Queue, arena: &mut Arena, count: usize) -> Vec<u8> {
        let mut out = [0; 2048];
        let mut first = Vec::new();
        for _ in 0..count {
            let (length, _) = queue.pop(arena, NOW, None, &mut out);
            first.extend(length.map(|_| out[0]));
        }
        first
    }

    #[test]
    fn a_sparse_flow_goes_before_one_that_fills_the_line() {
        let (mut queue, mut arena) = (Queue::default(), Arena::new(64));
        for _ in 0..20 {
            assert!(queue.push(&mut arena, 1, &[1; 1500], NOW));
        }
        assert_eq!(drain(&mut queue, &mut arena, 3), [1, 1, 1]);
        assert!(queue.push(&mut arena, 2, &[2; 100], NOW));
        assert_eq!(drain(&mut queue, &mut arena, 3), [2, 1, 1], "at once");
        assert_eq!(queue.packets(), 15);
    }

    #[test]
    fn full_flows_have_equal_shares() {
        let (mut queue, mut arena) = (Queue::default(), Arena::new(256));
        for _ in 0..60 {
            assert!(queue.push(&mut arena, 1, &[1; 1500], NOW));
            assert!(queue.push(&mut arena, 2, &[2; 750], NOW));
            assert!(queue.push(&mut arena, 2, &[2; 750], NOW));
        }
        let sent = drain(&mut queue, &mut arena, 90);
        let octets = |flow: u8, size: usize| sent.iter().filter(|sent| **sent == flow).count() * size;
        let (one, other) = (octets(1, 1500), octets(2, 750));
        assert!(one.abs_diff(other) <= 3_000, "{one} and {other} octets");
    }

    #[test]
    fn at_the_bound_the_fattest_flow_pays() {
        let (mut queue, mut arena) = (Queue::default(), Arena::new(64));
        assert!(!queue.drop_fattest(&mut arena));
        assert!(queue.push(&mut arena, 3, &[3; 100], NOW));
        for _ in 0..3 {
            assert!(queue.push(&mut arena, 1, &[1; 1500], NOW));
        }
        for _ in 0..3 {
            assert!(queue.drop_fattest(&mut arena));
        }
        assert_eq!(drain(&mut queue, &mut arena, 3), [3]);
    }

    #[test]
    fn what_has_waited_too_long_for_too_long_is_dropped() {
        let (mut queue, mut arena) = (Queue::default(), Arena::new(512));
        let mut out = [0; 2048];
        let (mut dropped, mut sent) = (0, 0);
        for millisecond in 0..400 {
            let now = NOW + Duration::from_millis(millisecond);
            for _ in 0..2 {
                queue.push(&mut arena, 1, &[1; 1000], now);
            }
            let (length, lost) = queue.pop(&mut arena, now, None, &mut out);
            sent += u32::from(length.is_some());
            dropped += lost;
        }
        assert_eq!(sent, 400);
        assert!(dropped > 2, "{dropped}");
        assert_eq!(queue.packets() + sent + dropped, 800);
    }
}
