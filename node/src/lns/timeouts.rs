//! How long a session may last, and how long without user data (RFC 2865 §5.27, §5.28).
//!
//! Both limits stand in the row. The first counts from when the session opened, by table time, whoever owned it since; the second
//! counts anew with each owner. Whether there was data is looked at now and then, so a session without any may last an eighth longer.

use std::time::Duration;

use holdfast_cluster::records::SessionRow;
use holdfast_ppp::Cause;

use super::Now;

/// Looks at the traffic in the time that a session may idle.
const LOOKS: u32 = 8;
/// The shortest time between two.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// The limits of one session, by the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Timeouts {
    ends_at: Option<Duration>,
    idle: Option<Idle>,
}

#[derive(Debug)]
struct Idle {
    limit: Duration,
    /// The last look that found new data, or the first.
    since: Duration,
    next_look: Duration,
}

impl Timeouts {
    /// Goes by the row from here on.
    pub(super) fn follow(&mut self, now: Now, row: &SessionRow) {
        let Some(ppp) = row.ppp.as_ref().filter(|ppp| ppp.is_open()) else {
            *self = Self::default();
            return;
        };
        let seconds = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        self.ends_at = seconds(ppp.session_timeout).map(|limit| {
            let lasted = Duration::from_millis(now.table_ms.saturating_sub(ppp.opened_ms));
            now.monotonic + limit.saturating_sub(lasted)
        });
        self.idle = seconds(ppp.idle_timeout).map(|limit| {
            let since = self.idle.as_ref().map_or(now.monotonic, |idle| idle.since);
            Idle {
                limit,
                since,
                next_look: next_look(now.monotonic, since, limit),
            }
        });
    }

    /// There was user data since the last look, either way.
    pub(super) fn note_traffic(&mut self, now: Duration) {
        if let Some(idle) = &mut self.idle {
            idle.since = now;
        }
    }

    /// Why the session has to end now.
    pub(super) fn expired(&mut self, now: Duration) -> Option<Cause> {
        if self.ends_at.is_some_and(|at| now >= at) {
            self.ends_at = None;
            return Some(Cause::SessionTimeout);
        }
        let idle = self.idle.as_mut()?;
        if now < idle.since + idle.limit {
            idle.next_look = next_look(now, idle.since, idle.limit);
            return None;
        }
        self.idle = None;
        Some(Cause::IdleTimeout)
    }

    /// When [`Self::expired`] wants to be asked.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let look = self.idle.as_ref().map(|idle| idle.next_look);
        self.ends_at.into_iter().chain(look).min()
    }
}

fn next_look(now: Duration, since: Duration, limit: Duration) -> Duration {
    let pause = (limit / LOOKS).max(LOOK_MIN);
    (now + pause).min((since + limit).max(now))
}

#[cfg(test)]
mod tests {
    use holdfast_cluster::records::{NcpRow, PppRow};

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Table time runs 1,000 s behind here.
    fn now(seconds: u64) -> Now {
        Now {
            monotonic: at(seconds),
            table_ms: (seconds - 1_000) * 1_000,
        }
    }

    fn row(session_timeout: u32, idle_timeout: u32, open: bool) -> SessionRow {
        let ppp = PppRow {
            ncps: vec![NcpRow {
                open,
                ..NcpRow::default()
            }],
            opened_ms: 10_000,
            session_timeout,
            idle_timeout,
            ..PppRow::default()
        };
        SessionRow {
            ppp: Some(ppp),
            ..SessionRow::default()
        }
    }

    #[test]
    fn a_session_lasts_from_when_it_opened_whoever_owns_it() {
        let mut timeouts = Timeouts::default();
        timeouts.follow(now(1_040), &row(100, 0, true));
        assert_eq!(timeouts.deadline(), Some(at(1_110)));
        assert_eq!(timeouts.expired(at(1_109)), None);
        assert_eq!(timeouts.expired(at(1_110)), Some(Cause::SessionTimeout));
        assert_eq!(timeouts.expired(at(1_111)), None, "once");
        timeouts.follow(now(2_000), &row(100, 0, true));
        assert_eq!(timeouts.deadline(), Some(at(2_000)), "overdue is due");
    }

    #[test]
    fn data_keeps_a_session_that_may_not_idle() {
        let mut timeouts = Timeouts::default();
        timeouts.follow(now(2_000), &row(0, 80, true));
        let mut ended = None;
        while ended.is_none() {
            let look = timeouts.deadline().expect("it goes on looking");
            if look < at(2_200) {
                timeouts.note_traffic(look);
            }
            ended = timeouts.expired(look).map(|cause| (cause, look));
        }
        assert_eq!(
            ended,
            Some((Cause::IdleTimeout, at(2_270))),
            "80 s after the last look with data"
        );
        assert_eq!(timeouts.deadline(), None);
    }

    #[test]
    fn the_shortest_limit_is_kept_to_the_second() {
        let mut timeouts = Timeouts::default();
        timeouts.follow(now(2_000), &row(0, 1, true));
        assert_eq!(timeouts.deadline(), Some(at(2_001)));
        assert_eq!(timeouts.expired(at(2_001)), Some(Cause::IdleTimeout));
    }

    #[test]
    fn limits_that_change_count_from_the_same_beginning() {
        let mut timeouts = Timeouts::default();
        timeouts.follow(now(2_000), &row(0, 80, true));
        timeouts.follow(now(2_050), &row(0, 60, true));
        assert_eq!(timeouts.expired(at(2_059)), None);
        assert_eq!(timeouts.expired(at(2_060)), Some(Cause::IdleTimeout));
    }

    #[test]
    fn who_is_not_open_or_has_no_limit_has_no_deadline() {
        let mut timeouts = Timeouts::default();
        timeouts.follow(now(2_000), &row(50, 50, true));
        for other in [row(50, 50, false), row(0, 0, true), SessionRow::default()] {
            timeouts.follow(now(2_001), &other);
            assert_eq!(timeouts.deadline(), None);
            assert_eq!(timeouts.expired(at(9_000)), None);
        }
    }
}
