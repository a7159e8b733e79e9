//! Whether the peer of an open link is still there: LCP Echo (RFC 1661 §5.8).
//!
//! An echo goes out when nothing was heard for an interval. The first one falls anywhere in the first interval, by the
//! link's seed, so that a hundred thousand links taken over at once do not beat in step.

use std::time::Duration;

use crate::link::LinkConfig;
use crate::random::Random;

/// Echo-Replies in a row with a wrong magic number that prove a peer to be in another negotiation than we are.
const WRONG_MAGIC_LIMIT: u8 = 3;

/// What a due echo asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    SendEcho,
    /// Too many went unanswered.
    Dead,
}

/// What an Echo-Reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Alive,
    WrongMagic,
    /// The limit of wrong ones is reached.
    Stranger,
}

#[derive(Debug, Default)]
pub(crate) struct Keepalive {
    due: Option<Duration>,
    unanswered: u32,
    wrong_magic: u8,
    /// The last sign of life.
    heard: Option<Duration>,
    /// The peer does not know Echo-Request.
    refused: bool,
}

impl Keepalive {
    /// The link has opened.
    pub(crate) fn start(&mut self, now: Duration, config: &LinkConfig, random: &mut Random) {
        if self.due.is_some() || self.refused || config.echo_interval.is_zero() {
            return;
        }
        let phase = f64::from(random.word()) / f64::from(u32::MAX);
        self.due = Some(now + config.echo_interval.mul_f64(phase));
    }

    /// The link is open no more.
    pub(crate) fn stop(&mut self) {
        *self = Self {
            refused: self.refused,
            ..Self::default()
        };
    }

    /// The peer rejects Echo-Request: nothing is to be learnt this way.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
        self.stop();
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due
    }

    /// Anything from the peer is a sign of life.
    pub(crate) fn note_received(&mut self, now: Duration) {
        self.heard = Some(now);
        self.unanswered = 0;
    }

    pub(crate) fn note_reply(&mut self, now: Duration, magic: u32, peer_magic: u32) -> Reply {
        if magic == peer_magic || magic == 0 || peer_magic == 0 {
            self.wrong_magic = 0;
            self.note_received(now);
            return Reply::Alive;
        }
        self.wrong_magic += 1;
        if self.wrong_magic < WRONG_MAGIC_LIMIT {
            return Reply::WrongMagic;
        }
        self.wrong_magic = 0;
        Reply::Stranger
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration, config: &LinkConfig) -> Due {
        match self.due {
            Some(due) if now >= due => {}
            Some(_) | None => return Due::Nothing,
        }
        // Whoever was heard within the interval need not be asked yet.
        if let Some(heard) = self
            .heard
            .take()
            .filter(|heard| now < *heard + config.echo_interval)
        {
            self.due = Some(heard + config.echo_interval);
            return Due::Nothing;
        }
        self.due = Some(now + config.echo_interval);
        if self.unanswered >= config.echo_failures {
            self.due = None;
            return Due::Dead;
        }
        self.unanswered += 1;
        Due::SendEcho
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn config() -> LinkConfig {
        LinkConfig {
            echo_interval: seconds(20),
            echo_failures: 3,
            ..LinkConfig::default()
        }
    }

    #[test]
    fn the_seed_spreads_the_first_echo_over_the_interval() {
        let mut quarters = [0; 4];
        for seed in 0..400 {
            let mut keepalive = Keepalive::default();
            keepalive.start(seconds(100), &config(), &mut Random::new(seed));
            let after = keepalive.deadline().unwrap() - seconds(100);
            assert!(after <= seconds(20));
            quarters[(after.as_millis() as usize / 5000).min(3)] += 1;
        }
        assert!(quarters.iter().all(|count| *count > 60), "{quarters:?}");
    }

    #[test]
    fn silence_for_so_many_echoes_is_death() {
        let config = config();
        let mut keepalive = Keepalive::default();
        keepalive.start(seconds(0), &config, &mut Random::new(1));
        for want in [Due::SendEcho, Due::SendEcho, Due::SendEcho, Due::Dead] {
            let now = keepalive.deadline().unwrap();
            assert_eq!(keepalive.handle_timeout(now, &config), want);
        }
        assert_eq!(keepalive.deadline(), None);
    }

    #[test]
    fn any_frame_is_life_and_puts_the_echo_off() {
        let config = config();
        let mut keepalive = Keepalive::default();
        keepalive.start(seconds(0), &config, &mut Random::new(1));
        for _ in 0..3 {
            let now = keepalive.deadline().unwrap();
            assert_eq!(keepalive.handle_timeout(now, &config), Due::SendEcho);
        }
        let due = keepalive.deadline().unwrap();
        keepalive.note_received(due - seconds(15));
        assert_eq!(keepalive.handle_timeout(due, &config), Due::Nothing);
        assert_eq!(keepalive.deadline(), Some(due + seconds(5)));
        assert_eq!(keepalive.handle_timeout(due + seconds(5), &config), Due::SendEcho);
    }

    #[test]
    fn an_interval_of_zero_sends_no_echoes() {
        let mut keepalive = Keepalive::default();
        keepalive.start(
            seconds(0),
            &LinkConfig {
                echo_interval: Duration::ZERO,
                ..config()
            },
            &mut Random::new(1),
        );
        assert_eq!(keepalive.deadline(), None);
    }

    #[test]
    fn three_wrong_magics_in_a_row_are_a_stranger() {
        let mut keepalive = Keepalive::default();
        assert_eq!(keepalive.note_reply(seconds(0), 7, 9), Reply::WrongMagic);
        assert_eq!(keepalive.note_reply(seconds(0), 7, 9), Reply::WrongMagic);
        assert_eq!(keepalive.note_reply(seconds(0), 9, 9), Reply::Alive);
        assert_eq!(keepalive.note_reply(seconds(0), 0, 9), Reply::Alive);
        assert_eq!(keepalive.note_reply(seconds(0), 7, 0), Reply::Alive);
        assert_eq!(keepalive.note_reply(seconds(0), 7, 9), Reply::WrongMagic);
        assert_eq!(keepalive.note_reply(seconds(0), 7, 9), Reply::WrongMagic);
        assert_eq!(keepalive.note_reply(seconds(0), 7, 9), Reply::Stranger);
    }
}
