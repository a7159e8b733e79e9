//! Whether a node has a way to the LACs (design: "Who is alive, who takes over").
//!
//! A node that hears the other nodes and cannot answer a single LAC must not own their tunnels. It finds out by asking the
//! kernel, a few times a second, for the routes to some of the LACs that have tunnels in the table, its own or others': so
//! all nodes ask for the same ones, and one that owns nothing knows as well. Looks are counted, not timed: who looks late
//! judges late.
//!
//! ```text
//!             | some LAC has a way     | none of them has          | there are no LACs
//!   ----------+------------------------+---------------------------+-----------------------
//!   Unproven  | There                  | Lost, after GRACE looks   | Unproven
//!   There     | There                  | Lost, after LOST looks    | There
//!   Lost      | There, after BACK looks| Lost                      | There, after BACK looks
//! ```
//! *Unproven* is a process that has just begun: the routers may be about to say what they know.
//!
//! What is a way: any route but the default one; the default one too, unless this LAC had a better one before. Routers on
//! both sides of a node often offer a default route, and when those of the LACs withdraw theirs it would hide the loss. A
//! LAC that was never reached otherwise is reached by it.
//!
//! Not seen: a route that stays although it leads nowhere. A dead router's goes with BGP and BFD; a static one needs its link
//! to go down.
//!
//! A look to which the kernel gives no answer is none: what was known stays. When that goes on ([`WAY_FAILED_LOOKS`]), a doubt is
//! dropped, for nobody can settle it: a node that cannot ask is as good an owner as one that never looked, and keeps its groups.
//! One that has lost its way is not believed to have it back before a look says so.
//!
//! The routes are the caller's to ask for; there are no sockets or clocks here.

mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use sample::Sample;

use crate::limits::{WAY_BACK_LOOKS, WAY_FAILED_LOOKS, WAY_GRACE_LOOKS, WAY_LOST_LOOKS};

/// What the kernel said of one LAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No route, or one that drops or refuses.
    Nothing,
    /// The default route.
    Default,
    /// A route for fewer addresses than all.
    Specific,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unproven,
    There,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Way,
    NoWay,
    NoLacs,
}

/// What a node thinks of its own way.
#[derive(Debug)]
pub struct Way {
    state: State,
    /// Looks in a row that spoke against the state.
    against: u32,
    /// Looks in a row that failed.
    failed: u32,
    /// The LACs of the last look that have had a better route than the default one.
    specific: BTreeSet<IpAddr>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            state: State::Unproven,
            against: 0,
            failed: 0,
            specific: BTreeSet::new(),
        }
    }
}

impl Way {
    /// One look at all LACs of the sample. Tells whether it has just been lost (`true`) or come back (`false`).
    pub fn handle_look(&mut self, looked: &BTreeMap<IpAddr, Found>) -> Option<bool> {
        self.failed = 0;
        let was_lost = self.is_lost();
        let seen = self.see(looked);
        let (next, patience) = match (self.state, seen) {
            (State::Unproven, Seen::Way) => (State::There, 1),
            (State::Unproven, Seen::NoWay) => (State::Lost, WAY_GRACE_LOOKS),
            (State::There, Seen::NoWay) => (State::Lost, WAY_LOST_LOOKS),
            (State::Lost, Seen::Way | Seen::NoLacs) => (State::There, WAY_BACK_LOOKS),
            (state @ State::Unproven, Seen::NoLacs)
            | (state @ State::There, Seen::Way | Seen::NoLacs)
            | (state @ State::Lost, Seen::NoWay) => (state, 0),
        };
        if next == self.state {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against >= patience {
            self.state = next;
            self.against = 0;
        }
        (self.is_lost() != was_lost).then_some(self.is_lost())
    }

    /// The kernel gave no answer. Tells whether that has just become too often to be passed over.
    pub fn handle_failure(&mut self) -> bool {
        self.failed = self.failed.saturating_add(1);
        let too_often = self.failed == WAY_FAILED_LOOKS;
        if too_often {
            self.against = 0;
        }
        too_often
    }

    /// Whether looks have failed for so long that this was said.
    pub fn is_unknown(&self) -> bool {
        self.failed >= WAY_FAILED_LOOKS
    }

    /// Whether this node cannot answer LACs.
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Whether it is lost or may be: no time to ask for other LACs, of whom nobody knows which route they had.
    pub fn is_doubtful(&self) -> bool {
        self.is_lost() || self.against > 0
    }

    fn see(&mut self, looked: &BTreeMap<IpAddr, Found>) -> Seen {
        self.specific.retain(|lac| looked.contains_key(lac));
        let specific = looked.iter().filter(|(_, found)| **found == Found::Specific);
        self.specific.extend(specific.map(|(lac, _)| *lac));
        let reaches = |(lac, found): (&IpAddr, &Found)| match found {
            Found::Nothing => false,
            Found::Default => !self.specific.contains(lac),
            Found::Specific => true,
        };
        match looked.is_empty() {
            true => Seen::NoLacs,
            false if looked.iter().any(reaches) => Seen::Way,
            false => Seen::NoWay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(found: &[Found]) -> BTreeMap<IpAddr, Found> {
        let lac = |last: usize| IpAddr::from([10, 10, 1, u8::try_from(last).expect("few")]);
        found
            .iter()
            .enumerate()
            .map(|(last, found)| (lac(last), *found))
            .collect()
    }

    /// Looks so often, and gives the changes with the numbers of their looks.
    fn looks(way: &mut Way, times: u32, found: &[Found]) -> Vec<(u32, bool)> {
        let looked = look(found);
        (1..=times)
            .filter_map(|number| way.handle_look(&looked).map(|lost| (number, lost)))
            .collect()
    }

    fn there() -> Way {
        let mut way = Way::default();
        assert_eq!(looks(&mut way, 1, &[Found::Specific; 2]), []);
        assert_eq!(way.state, State::There);
        way
    }

    fn lost() -> Way {
        let mut way = there();
        assert_eq!(
            looks(&mut way, WAY_LOST_LOOKS, &[Found::Nothing; 2]),
            [(WAY_LOST_LOOKS, true)]
        );
        way
    }

    #[test]
    fn every_cell_of_the_states() {
        let (way, no_way, no_lacs): (&[Found], &[Found], &[Found]) =
            (&[Found::Specific], &[Found::Nothing], &[]);
        let make = |state| match state {
            State::Unproven => Way::default(),
            State::There => there(),
            State::Lost => lost(),
        };
        let cells = [
            (State::Unproven, way, Some((1, State::There))),
            (State::Unproven, no_way, Some((WAY_GRACE_LOOKS, State::Lost))),
            (State::Unproven, no_lacs, None),
            (State::There, way, None),
            (State::There, no_way, Some((WAY_LOST_LOOKS, State::Lost))),
            (State::There, no_lacs, None),
            (State::Lost, way, Some((WAY_BACK_LOOKS, State::There))),
            (State::Lost, no_way, None),
            (State::Lost, no_lacs, Some((WAY_BACK_LOOKS, State::There))),
        ];
        for (state, found, change) in cells {
            let mut way = make(state);
            let (looks_before, next) = change.unwrap_or((1_000, state));
            looks(&mut way, looks_before - 1, found);
            assert_eq!(way.state, state, "{state:?}, {found:?}: too early");
            looks(&mut way, 1, found);
            assert_eq!(way.state, next, "{state:?}, {found:?}");
        }
    }

    #[test]
    fn one_look_of_the_other_kind_begins_the_count_anew() {
        let mut way = there();
        for _ in 0..10 {
            assert_eq!(looks(&mut way, WAY_LOST_LOOKS - 1, &[Found::Nothing; 2]), []);
            assert!(way.is_doubtful());
            assert_eq!(looks(&mut way, 1, &[Found::Specific; 2]), []);
            assert!(!way.is_doubtful());
        }
        let mut way = lost();
        for _ in 0..10 {
            assert_eq!(looks(&mut way, WAY_BACK_LOOKS - 1, &[Found::Specific; 2]), []);
            assert_eq!(looks(&mut way, 1, &[Found::Nothing; 2]), []);
            assert!(way.is_doubtful());
        }
        assert_eq!(
            looks(&mut way, WAY_BACK_LOOKS, &[Found::Specific; 2]),
            [(WAY_BACK_LOOKS, false)]
        );
    }

    #[test]
    fn who_cannot_ask_keeps_what_it_knew_but_no_doubt() {
        let fail = |way: &mut Way| (0..1_000).filter(|_| way.handle_failure()).count();
        let mut way = there();
        looks(&mut way, WAY_LOST_LOOKS - 1, &[Found::Nothing; 2]);
        assert!((1..WAY_FAILED_LOOKS).all(|_| !way.handle_failure()));
        assert!(way.is_doubtful() && !way.is_unknown(), "too early");
        assert!(way.handle_failure() && way.is_unknown());
        assert!(!way.is_doubtful() && !way.is_lost());
        assert_eq!(fail(&mut way), 0, "said once");
        assert_eq!(looks(&mut way, WAY_LOST_LOOKS - 1, &[Found::Nothing; 2]), []);
        assert!(!way.is_unknown());
        assert_eq!(fail(&mut way), 1, "said anew");

        let mut way = lost();
        assert_eq!(fail(&mut way), 1);
        assert!(way.is_lost() && way.is_doubtful());
    }

    #[test]
    fn one_lac_that_has_a_way_is_enough() {
        let mut way = there();
        assert_eq!(looks(&mut way, 1_000, &[Found::Nothing, Found::Specific]), []);
        assert!(!way.is_doubtful());
    }

    #[test]
    fn a_default_route_is_a_way_for_those_who_never_had_a_better_one() {
        let mut way = Way::default();
        assert_eq!(looks(&mut way, 1_000, &[Found::Default; 2]), []);
        assert!(!way.is_lost());
        assert_eq!(looks(&mut way, 1_000, &[Found::Default, Found::Nothing]), []);
        assert_eq!(
            looks(&mut way, WAY_LOST_LOOKS, &[Found::Nothing; 2]),
            [(WAY_LOST_LOOKS, true)]
        );
        assert_eq!(
            looks(&mut way, WAY_BACK_LOOKS, &[Found::Default; 2]),
            [(WAY_BACK_LOOKS, false)]
        );
    }

    #[test]
    fn a_default_route_does_not_hide_that_the_better_ones_are_gone() {
        let mut way = there();
        assert_eq!(
            looks(&mut way, 1_000, &[Found::Default; 2]),
            [(WAY_LOST_LOOKS, true)]
        );
        assert_eq!(
            looks(&mut way, 1_000, &[Found::Specific, Found::Default]),
            [(WAY_BACK_LOOKS, false)]
        );
    }

    #[test]
    fn a_lac_that_is_not_asked_for_any_more_is_forgotten() {
        let mut way = there();
        looks(&mut way, 1, &[Found::Specific]);
        assert_eq!(
            looks(&mut way, 1_000, &[Found::Default; 2]),
            [],
            "the second is new"
        );
    }
}
