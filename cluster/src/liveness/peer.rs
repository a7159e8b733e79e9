//! What is known of one other member.
//!
//! ```text
//!            | Answered | Overdue | Closed
//!   ---------+----------+---------+---------
//!   Unheard  | Alive    | Down    | Unheard
//!   Alive    | Alive    | Down    | Down
//!   Down     | Alive    | Down    | Down
//! ```
//! A member that was never heard keeps its grace though its port is closed: it may be about to start.

use std::time::Duration;

use super::WayToLacs;
use crate::limits::{LEASE_DOUBT_MS, LEASE_MARGIN_MS, LEASE_MS, SILENCE_MS, STALL_MS, START_GRACE_MS};
use crate::probes::Standing;

/// Our opinion of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not heard since we know of it; no opinion yet.
    Unheard,
    /// Answers, and applies what is committed.
    Alive,
    /// Does not.
    Down,
}

/// What changes an opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It acknowledged a probe, and has applied what we had applied when it was first heard again.
    Answered,
    /// Its deadline has passed.
    Overdue,
    /// Its connection was closed and a new one refused.
    Closed,
}

impl State {
    pub(super) fn next(self, event: Event) -> Self {
        match (self, event) {
            (Self::Unheard | Self::Alive | Self::Down, Event::Answered) => Self::Alive,
            (Self::Unheard | Self::Alive | Self::Down, Event::Overdue) => Self::Down,
            (Self::Unheard, Event::Closed) => Self::Unheard,
            (Self::Alive | Self::Down, Event::Closed) => Self::Down,
        }
    }
}

/// A member and what it told us.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) state: State,
    /// When we came to know of it.
    known: Duration,
    /// When it last acknowledged a probe.
    heard: Duration,
    /// When it was last seen to apply something, or to lack nothing.
    progressed: Duration,
    applied: u64,
    pub(super) incarnation: u64,
    /// What it says of its way to the LACs.
    pub(super) way: WayToLacs,
    /// It says that its disk is full.
    pub(super) full: bool,
    /// The index it has to reach before it is alive again; `None` while nothing is heard.
    catch_up: Option<u64>,
    /// Acknowledgements of earlier probes say nothing of it.
    floor: u64,
    /// Proposals to give its groups away of which no verdict has come.
    pub(super) replacing: u32,
    /// What it has to have applied before we, as leader, vouch for it.
    must_apply: u64,
    /// When we, as leader, last vouched for it.
    granted: Option<Duration>,
    /// The sending time of the newest probe that it acknowledged to us as leader of this term.
    pub(super) supported: Option<Duration>,
    /// When it last can have supported another leader than us in this term.
    pub(super) other_support: Option<Duration>,
}

impl Peer {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            state: State::Unheard,
            known: now,
            heard: now,
            progressed: now,
            applied: 0,
            incarnation: 0,
            way: WayToLacs::default(),
            full: false,
            catch_up: None,
            floor: 0,
            replacing: 0,
            must_apply: 0,
            granted: None,
            supported: None,
            other_support: None,
        }
    }

    /// The last log entry that it has applied, as it last said.
    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// Any message of it came.
    pub(super) fn observe(&mut self, now: Duration, standing: &Standing, our_applied: u64) {
        // Changed, not grown: a process that starts anew begins lower.
        if standing.applied != self.applied || standing.applied >= our_applied {
            self.progressed = now;
        }
        self.applied = standing.applied;
        self.incarnation = self.incarnation.max(standing.incarnation);
        self.way = WayToLacs {
            lost: standing.wayless,
            in_doubt: standing.way_in_doubt,
        };
        self.full = standing.full;
    }

    /// It acknowledged a probe of ours. Tells whether it came back.
    pub(super) fn answer(&mut self, now: Duration, sequence: u64, our_applied: u64) -> bool {
        if sequence < self.floor {
            return false;
        }
        self.heard = now;
        let target = *self.catch_up.get_or_insert(our_applied);
        if self.state != State::Alive && self.applied < target {
            return false;
        }
        self.turn(Event::Answered)
    }

    /// Time has passed. Tells whether it went down.
    pub(super) fn check(&mut self, now: Duration) -> bool {
        if self.state == State::Down && now >= self.heard + ms(SILENCE_MS) {
            self.catch_up = None;
        }
        now >= self.deadline() && self.turn(Event::Overdue)
    }

    /// Its process is gone; probes from `floor` on are those of after. Tells whether it went down.
    pub(super) fn close(&mut self, floor: u64) -> bool {
        self.floor = floor;
        self.turn(Event::Closed)
    }

    /// We were late by so much, and may have missed what it said.
    pub(super) fn extend(&mut self, lateness: Duration) {
        self.known += lateness;
        self.heard += lateness;
        self.progressed += lateness;
    }

    /// Vouches for it unless it may be down soon, or may not know that its groups were given away. `applied`: as
    /// the probe said that asks for it.
    pub(super) fn grant(&mut self, now: Duration, applied: u64) -> bool {
        let knows = self.replacing == 0 && applied >= self.must_apply;
        let may = self.state == State::Alive && knows && now + ms(LEASE_DOUBT_MS) < self.patience();
        if may {
            self.granted = Some(now);
        }
        may
    }

    /// When we last vouched for it, or came to know of it.
    pub(super) fn vouched(&self) -> Duration {
        self.granted.unwrap_or_default().max(self.known)
    }

    /// When the lease of what we vouched for has ended, whatever its clock does.
    pub(super) fn lease_over(&self) -> Duration {
        self.granted
            .map_or(Duration::ZERO, |granted| granted + ms(LEASE_MS + LEASE_MARGIN_MS))
    }

    /// It acknowledged a probe sent at `sent` to us as leader, and no other leader since `others`.
    pub(super) fn support(&mut self, sent: Duration, others: Duration) {
        self.supported = self.supported.max(Some(sent));
        // Each acknowledgement bounds the same moment from above; the quickest knows it best.
        self.other_support = Some(self.other_support.map_or(others, |known| known.min(others)));
    }

    /// The proposal to give its groups away is judged, or lost; what came of it is at or below this index.
    pub(super) fn settle(&mut self, index: u64) {
        self.replacing = self.replacing.saturating_sub(1);
        self.must_apply = self.must_apply.max(index);
    }

    /// Forgets what holds in one term under one leader only. The log ends at `last`.
    pub(super) fn change_view(&mut self, last: u64) {
        self.replacing = 0;
        self.must_apply = last;
        self.supported = None;
        self.other_support = None;
    }

    /// Tells whether the opinion changed.
    fn turn(&mut self, event: Event) -> bool {
        let before = self.state;
        self.state = before.next(event);
        if self.state == State::Down && before != State::Down {
            self.catch_up = None;
        }
        self.state != before
    }

    fn deadline(&self) -> Duration {
        match self.state {
            State::Unheard => self.patience(),
            State::Alive => self.patience().max(self.lease_over()),
            State::Down => Duration::MAX,
        }
    }

    /// How long it may keep us waiting.
    fn patience(&self) -> Duration {
        match self.state {
            State::Unheard => self.known + ms(START_GRACE_MS),
            State::Alive | State::Down => (self.heard + ms(SILENCE_MS)).min(self.progressed + ms(STALL_MS)),
        }
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(50);

    #[test]
    fn every_cell_of_the_states() {
        use Event::{Answered, Closed, Overdue};
        use State::{Alive, Down, Unheard};
        let cells = [
            (Unheard, Answered, Alive),
            (Unheard, Overdue, Down),
            (Unheard, Closed, Unheard),
            (Alive, Answered, Alive),
            (Alive, Overdue, Down),
            (Alive, Closed, Down),
            (Down, Answered, Alive),
            (Down, Overdue, Down),
            (Down, Closed, Down),
        ];
        for (state, event, next) in cells {
            assert_eq!(state.next(event), next, "{state:?}, {event:?}");
        }
    }

    fn standing(applied: u64) -> Standing {
        Standing {
            applied,
            ..Standing::default()
        }
    }

    /// Alive since `T0`, like us at index 10.
    fn alive() -> Peer {
        let mut peer = Peer::new(T0);
        peer.observe(T0, &standing(10), 10);
        assert!(peer.answer(T0, 1, 10));
        peer
    }

    #[test]
    fn the_silent_is_down_after_300_ms() {
        let mut peer = alive();
        assert!(!peer.check(T0 + ms(299)));
        assert!(peer.check(T0 + ms(300)));
        assert!(!peer.check(T0 + ms(400)), "said once");
    }

    #[test]
    fn who_applies_nothing_is_down_after_500_ms_however_well_it_is_heard() {
        let mut peer = alive();
        for after in (20..500).step_by(20) {
            peer.observe(T0 + ms(after), &standing(10), 11);
            assert!(!peer.answer(T0 + ms(after), 1, 11) && !peer.check(T0 + ms(after)));
        }
        assert!(peer.check(T0 + ms(500)));
        assert!(!peer.answer(T0 + ms(500), 1, 11), "it still lacks what we have");
        peer.observe(T0 + ms(501), &standing(11), 12);
        assert!(
            peer.answer(T0 + ms(501), 1, 12),
            "what we had when it was first heard again"
        );
    }

    #[test]
    fn an_idle_cluster_is_alive() {
        let mut peer = alive();
        for after in (20..5_000).step_by(20) {
            peer.observe(T0 + ms(after), &standing(10), 10);
            assert!(!peer.answer(T0 + ms(after), 1, 10) && !peer.check(T0 + ms(after)));
        }
    }

    #[test]
    fn whom_we_vouched_for_is_down_only_when_that_is_over() {
        let mut peer = alive();
        assert!(peer.grant(T0 + ms(199), 0));
        assert!(!peer.grant(T0 + ms(200), 0), "it may be down in 100 ms");
        assert!(!peer.check(T0 + ms(418)));
        assert!(peer.check(T0 + ms(419)));
        assert!(!peer.grant(T0 + ms(419), 0));
    }

    #[test]
    fn who_may_not_know_of_its_loss_is_not_vouched_for() {
        let mut peer = alive();
        peer.change_view(10);
        assert!(
            !peer.grant(T0, 9) && peer.grant(T0, 10),
            "what earlier leaders proposed"
        );
        peer.replacing = 2;
        assert!(!peer.grant(T0, 99));
        peer.settle(12);
        assert!(!peer.grant(T0, 99), "another is under way");
        peer.settle(14);
        assert!(!peer.grant(T0, 13) && peer.grant(T0, 14));
    }

    #[test]
    fn a_closed_one_is_back_by_a_probe_sent_later_only() {
        let mut peer = alive();
        assert!(peer.close(5));
        assert!(!peer.answer(T0 + ms(1), 4, 10));
        assert!(peer.answer(T0 + ms(2), 5, 10));
    }

    #[test]
    fn a_late_judge_waits_longer() {
        let mut peer = alive();
        peer.extend(ms(30_000));
        assert!(!peer.check(T0 + ms(30_299)));
        assert!(peer.check(T0 + ms(30_300)));
    }
}
