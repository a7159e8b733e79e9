//! Whether a server answers.
//!
//! | state | it answers | a wait ends in silence | all tries of a request end in silence | a request is sent to it |
//! |---|---|---|---|---|
//! | alive | alive | the third in a row: suspect | dead | alive |
//! | suspect: after those that are alive | alive | suspect | dead | suspect |
//! | dead: left alone for its time | alive | dead | dead, its time anew | past its time: on trial |
//! | on trial: one request at a time | alive | dead, its time anew | dead, its time anew | on trial |

use std::time::Duration;

/// Waits without any answer after which a server is suspect.
pub const SILENT_WAITS: u32 = 3;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// As far as we know.
    Alive,
    /// Some waits were in vain.
    Suspect,
    /// Since then, or since it was last found so.
    Dead {
        /// By the caller's clock.
        since: Duration,
    },
    /// Since its death. A real request tells whether it lives again.
    Trial {
        /// By the caller's clock.
        since: Duration,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reply that proves who sent it.
    Answered,
    /// No answer in time, `silent` times since the last one.
    TimedOut {
        /// 1 at least.
        silent: u32,
    },
    /// A request is given up with it, and nothing was heard of it since that was first sent.
    Exhausted,
    /// A real request goes out to it.
    Asked,
}

impl Health {
    /// The state after an event. `dead_time` is how long a dead server is left alone; `None`: until a probe is answered.
    #[must_use]
    pub fn after(self, event: Event, now: Duration, dead_time: Option<Duration>) -> Self {
        let dead = Self::Dead { since: now };
        match (self, event) {
            (Self::Alive | Self::Suspect | Self::Dead { .. } | Self::Trial { .. }, Event::Answered) => {
                Self::Alive
            }
            (Self::Alive, Event::TimedOut { silent }) if silent >= SILENT_WAITS => Self::Suspect,
            (Self::Alive, Event::TimedOut { .. }) => Self::Alive,
            (Self::Suspect | Self::Dead { .. }, Event::TimedOut { .. }) => self,
            (Self::Trial { .. }, Event::TimedOut { .. }) => dead,
            (Self::Alive | Self::Suspect | Self::Dead { .. } | Self::Trial { .. }, Event::Exhausted) => dead,
            (Self::Dead { since }, Event::Asked) if self.may_be_tried(now, dead_time) => {
                Self::Trial { since }
            }
            (Self::Alive | Self::Suspect | Self::Dead { .. } | Self::Trial { .. }, Event::Asked) => self,
        }
    }

    /// Whether a dead server's time is over.
    pub fn may_be_tried(self, now: Duration, dead_time: Option<Duration>) -> bool {
        match (self, dead_time) {
            (Self::Dead { since }, Some(dead_time)) => now >= since + dead_time,
            _ => false,
        }
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead { .. } => "dead",
            Self::Trial { .. } => "on trial",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell() {
        let s = Duration::from_secs;
        let (now, young, old) = (s(100), s(95), s(50));
        let dead = |since| Health::Dead { since };
        let trial = |since| Health::Trial { since };
        let cells = [
            (Health::Alive, Event::Answered, Health::Alive),
            (Health::Suspect, Event::Answered, Health::Alive),
            (dead(old), Event::Answered, Health::Alive),
            (trial(old), Event::Answered, Health::Alive),
            (Health::Alive, Event::TimedOut { silent: 1 }, Health::Alive),
            (Health::Alive, Event::TimedOut { silent: 2 }, Health::Alive),
            (Health::Alive, Event::TimedOut { silent: 3 }, Health::Suspect),
            (Health::Suspect, Event::TimedOut { silent: 4 }, Health::Suspect),
            (dead(old), Event::TimedOut { silent: 5 }, dead(old)),
            (trial(old), Event::TimedOut { silent: 5 }, dead(now)),
            (Health::Alive, Event::Exhausted, dead(now)),
            (Health::Suspect, Event::Exhausted, dead(now)),
            (dead(old), Event::Exhausted, dead(now)),
            (trial(old), Event::Exhausted, dead(now)),
            (Health::Alive, Event::Asked, Health::Alive),
            (Health::Suspect, Event::Asked, Health::Suspect),
            (dead(young), Event::Asked, dead(young)),
            (dead(old), Event::Asked, trial(old)),
            (trial(old), Event::Asked, trial(old)),
        ];
        for (state, event, expected) in cells {
            assert_eq!(
                state.after(event, now, Some(s(30))),
                expected,
                "{state:?}, {event:?}"
            );
        }
        assert_eq!(dead(old).after(Event::Asked, now, None), dead(old), "probes tell");
    }
}
