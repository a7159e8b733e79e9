//! When each session's next Interim-Update is due (RFC 2869 §2.1).
//!
//! The schedule follows from the row alone: when the session opened, its interval, and its accounting id, which spreads sessions that
//! opened together over half an interval. So every node knows the schedule of every session, a new owner goes on where the former one
//! was, and a takeover costs nothing. What is looked at in a turn is what is due.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_protocol::{SessionId, TunnelId};

/// Our ids of a session.
pub type SessionIds = (TunnelId, SessionId);

/// Seconds: a shorter interval is raised to it (RFC 2869 §5.16, S-156).
pub const INTERVAL_MIN_S: u32 = 60;

/// What a session's schedule follows from.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Acct-Session-Id.
    pub name: &'a str,
    /// Table time in milliseconds when it first opened.
    pub opened_ms: u64,
    /// Seconds, from its own row; 0: as configured.
    pub interval_s: u32,
    /// Network protocols that are open: when one comes up later than the first, the server learns its addresses at once.
    pub families: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    first_ms: u64,
    interval_ms: u64,
    next_ms: u64,
    families: usize,
}

impl Plan {
    fn of(session: &Session, interval_s: u32) -> Self {
        let interval_ms = u64::from(interval_s.max(INTERVAL_MIN_S)) * 1_000;
        let spread_ms = interval_ms / 2;
        let first_ms = session.opened_ms + spread_ms + spread(session.name) % spread_ms;
        Self {
            first_ms,
            interval_ms,
            next_ms: first_ms,
            families: session.families,
        }
    }

    /// The first time of the schedule that is yet to come.
    fn after(&self, now_ms: u64) -> u64 {
        match now_ms.checked_sub(self.first_ms) {
            None => self.first_ms,
            Some(late_ms) => self.first_ms + (late_ms / self.interval_ms + 1) * self.interval_ms,
        }
    }
}

/// FNV-1a: the same on every node.
fn spread(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// See the module.
#[derive(Debug, Default)]
pub struct Interims {
    /// Seconds, for sessions that have no interval of their own; 0: they have no interims.
    default_s: u32,
    plans: BTreeMap<SessionIds, Plan>,
    due: BTreeSet<(u64, SessionIds)>,
}

impl Interims {
    /// From now on sessions without an interval of their own have this one. Those that are known are to be put again.
    pub fn set_default(&mut self, interval_s: u32) {
        self.default_s = interval_s;
    }

    /// A session is open, at this table time.
    pub fn put(&mut self, now_ms: u64, ids: SessionIds, session: &Session) {
        let interval_s = match session.interval_s {
            0 => self.default_s,
            own => own,
        };
        if interval_s == 0 {
            return self.remove(ids);
        }
        let mut plan = Plan::of(session, interval_s);
        plan.next_ms = plan.after(now_ms);
        if let Some(before) = self.plans.get(&ids) {
            let is_same = (before.first_ms, before.interval_ms) == (plan.first_ms, plan.interval_ms);
            let has_more = before.families > 0 && session.families > before.families;
            match (is_same, has_more) {
                (_, true) => plan.next_ms = now_ms,
                (true, false) => plan.next_ms = before.next_ms,
                (false, false) => {}
            }
            self.due.remove(&(before.next_ms, ids));
        }
        self.due.insert((plan.next_ms, ids));
        self.plans.insert(ids, plan);
    }

    /// A session is gone.
    pub fn remove(&mut self, ids: SessionIds) {
        if let Some(plan) = self.plans.remove(&ids) {
            self.due.remove(&(plan.next_ms, ids));
        }
    }

    /// Nothing is known.
    pub fn clear(&mut self) {
        self.plans.clear();
        self.due.clear();
    }

    /// The sessions that are due, `max` of them at most; each is due again an interval later.
    pub fn take_due(&mut self, now_ms: u64, max: usize) -> Vec<SessionIds> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(&(at_ms, ids)) = self.due.first().filter(|(at_ms, _)| *at_ms <= now_ms) else {
                break;
            };
            self.due.remove(&(at_ms, ids));
            if let Some(plan) = self.plans.get_mut(&ids) {
                plan.next_ms = plan.after(now_ms);
                self.due.insert((plan.next_ms, ids));
            }
            taken.push(ids);
        }
        taken
    }

    /// Table time in milliseconds when the next one is due.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(session: u16) -> SessionIds {
        let tunnel = TunnelId::new(0x0301).expect("not zero");
        (tunnel, SessionId::new(session).expect("not zero"))
    }

    fn session(name: &str, interval_s: u32) -> Session<'_> {
        Session {
            name,
            opened_ms: 1_000,
            interval_s,
            families: 1,
        }
    }

    /// When it is due from 1 s on, until `until_ms`, looking each second.
    fn due(interims: &mut Interims, from_ms: u64, until_ms: u64) -> Vec<u64> {
        (from_ms / 1_000..=until_ms / 1_000)
            .map(|second| second * 1_000)
            .filter(|now_ms| !interims.take_due(*now_ms, 10).is_empty())
            .collect()
    }

    #[test]
    fn each_interval_once_from_half_of_the_first_on() {
        let mut interims = Interims::default();
        interims.put(1_000, ids(1), &session("a", 100));
        let times = due(&mut interims, 1_000, 1_000_000);
        assert!(times.len() >= 9, "{times:?}");
        assert!((51_000..=102_000).contains(&times[0]), "{times:?}");
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] == 100_000),
            "{times:?}"
        );
    }

    #[test]
    fn another_node_and_a_later_one_keep_the_same_times() {
        let (mut first, mut second) = (Interims::default(), Interims::default());
        first.put(1_000, ids(1), &session("a", 600));
        let times = due(&mut first, 1_000, 4_000_000);
        second.put(2_000_000, ids(1), &session("a", 600));
        let later: Vec<_> = times.iter().copied().filter(|at| *at > 2_000_000).collect();
        assert_eq!(due(&mut second, 2_000_000, 4_000_000), later);
    }

    #[test]
    fn s_156_a_second_is_raised_to_a_minute() {
        let mut interims = Interims::default();
        interims.put(1_000, ids(1), &session("a", 1));
        let times = due(&mut interims, 1_000, 301_000);
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] == 60_000),
            "{times:?}"
        );
    }

    #[test]
    fn without_any_interval_there_are_none_and_a_default_is_one() {
        let mut interims = Interims::default();
        interims.put(1_000, ids(1), &session("a", 0));
        assert_eq!(interims.poll_timeout(), None);
        interims.set_default(600);
        interims.put(1_000, ids(1), &session("a", 0));
        assert!(interims.poll_timeout().is_some());
        interims.remove(ids(1));
        assert_eq!(interims.poll_timeout(), None);
    }

    #[test]
    fn sessions_that_opened_together_are_spread() {
        let mut interims = Interims::default();
        for session_id in 1..=1_000 {
            interims.put(
                1_000,
                ids(session_id),
                &session(&format!("{session_id:024x}"), 1_000),
            );
        }
        let in_each_second: Vec<usize> = (501..1_002)
            .map(|second| interims.take_due(second * 1_000, 1_000).len())
            .collect();
        assert_eq!(in_each_second.iter().sum::<usize>(), 1_000);
        assert!(in_each_second.iter().all(|due| *due < 15), "{in_each_second:?}");
    }

    #[test]
    fn a_turn_takes_no_more_than_it_may_and_forgets_none() {
        let mut interims = Interims::default();
        for session_id in 1..=5 {
            interims.put(1_000, ids(session_id), &session(&session_id.to_string(), 60));
        }
        let taken: BTreeSet<_> = (0..3).flat_map(|_| interims.take_due(62_000, 2)).collect();
        assert_eq!(taken.len(), 5);
        assert!(interims.take_due(62_000, 2).is_empty());
    }

    #[test]
    fn a_second_family_is_told_at_once_and_another_interval_counts_from_the_opening() {
        let mut interims = Interims::default();
        interims.put(1_000, ids(1), &session("a", 600));
        let both = Session {
            families: 2,
            ..session("a", 600)
        };
        interims.put(5_000, ids(1), &both);
        assert_eq!(interims.take_due(5_000, 9), [ids(1)]);
        let next = interims.poll_timeout().expect("it is open");
        interims.put(6_000, ids(1), &both);
        assert_eq!(interims.poll_timeout(), Some(next), "nothing has changed");
        interims.put(6_000, ids(1), &session("a", 60));
        assert!(interims.poll_timeout() < Some(70_000));
    }
}
