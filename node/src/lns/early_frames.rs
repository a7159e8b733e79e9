//! What a subscriber says before its session is born.
//!
//! Many LACs pass a client's first frame on right behind the ICCN, whose acceptance takes a commit. Dropped, it costs that client its
//! restart timer, three seconds as a rule. So the newest frame of such a session waits: PPP repeats the others. If its group changes
//! hands meanwhile, it goes to the next owner, where the session will be born.

use std::collections::HashMap;
use std::time::Duration;

use holdfast_protocol::{SessionId, TunnelId};

/// Sessions whose frame may wait. Of one more it is dropped.
pub const EARLY_FRAMES_MAX: usize = 1024;

/// A frame that is older, in milliseconds, is worth nothing: its client has said it again.
pub const EARLY_FRAME_MS: u64 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub struct EarlyFrames(HashMap<(TunnelId, SessionId), (Duration, Vec<u8>)>);

impl EarlyFrames {
    /// Keeps a frame in place of an earlier one. `false`: there is no room.
    pub fn keep(&mut self, now: Duration, session: (TunnelId, SessionId), frame: Vec<u8>) -> bool {
        if self.0.len() >= EARLY_FRAMES_MAX && !self.0.contains_key(&session) {
            self.0.retain(|_, (since, _)| is_fresh(now, *since));
            if self.0.len() >= EARLY_FRAMES_MAX {
                return false;
            }
        }
        self.0.insert(session, (now, frame));
        true
    }

    /// The session is born, or gone: what it said last, if that was just now.
    pub fn take(&mut self, now: Duration, session: (TunnelId, SessionId)) -> Option<Vec<u8>> {
        let (since, frame) = self.0.remove(&session)?;
        is_fresh(now, since).then_some(frame)
    }

    /// The group is another node's: what was said just now for its sessions, all of which will be born there.
    pub fn take_group(&mut self, now: Duration, group: u8) -> Vec<((TunnelId, SessionId), Vec<u8>)> {
        let of_group = self.0.extract_if(|(tunnel, _), _| tunnel.group() == group);
        let fresh = of_group.filter(|(_, (since, _))| is_fresh(now, *since));
        fresh.map(|(session, (_, frame))| (session, frame)).collect()
    }
}

fn is_fresh(now: Duration, since: Duration) -> bool {
    now.saturating_sub(since) <= Duration::from_millis(EARLY_FRAME_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(100);
    const LATER: Duration = Duration::from_millis(100_000 + EARLY_FRAME_MS + 1);

    fn session(number: usize) -> (TunnelId, SessionId) {
        let number = u16::try_from(number + 1).expect("few");
        let tunnel = TunnelId::new(1).expect("not zero");
        (tunnel, SessionId::new(number).expect("not zero"))
    }

    #[test]
    fn the_newest_frame_waits_once() {
        let mut early = EarlyFrames::default();
        assert!(early.keep(T0, session(1), vec![1]) && early.keep(T0, session(1), vec![2]));
        assert_eq!(early.take(T0, session(2)), None);
        assert_eq!(early.take(T0, session(1)), Some(vec![2]));
        assert_eq!(early.take(T0, session(1)), None);
    }

    #[test]
    fn an_old_frame_is_worth_nothing() {
        let mut early = EarlyFrames::default();
        assert!(early.keep(T0, session(1), vec![1]));
        assert_eq!(early.take(LATER, session(1)), None);
    }

    #[test]
    fn a_group_takes_its_fresh_frames_along() {
        let other = TunnelId::new(0x0201).expect("not zero");
        let of_other = |number| (other, session(number).1);
        let mut early = EarlyFrames::default();
        assert!(early.keep(T0, of_other(1), vec![1]) && early.keep(LATER, of_other(2), vec![2]));
        assert!(early.keep(LATER, session(1), vec![3]));
        assert_eq!(early.take_group(LATER, 2), [(of_other(2), vec![2])]);
        assert_eq!(early.take(LATER, of_other(2)), None);
        assert_eq!(early.take_group(LATER, 0), [(session(1), vec![3])]);
    }

    #[test]
    fn there_is_room_for_so_many_and_old_ones_make_room() {
        let mut early = EarlyFrames::default();
        for number in 0..EARLY_FRAMES_MAX {
            assert!(early.keep(T0, session(number), vec![1]));
        }
        assert!(!early.keep(T0, session(EARLY_FRAMES_MAX), vec![1]));
        assert!(early.keep(T0, session(0), vec![2]), "in place of its own");
        assert!(early.keep(LATER, session(EARLY_FRAMES_MAX), vec![1]));
        assert_eq!(early.take(LATER, session(0)), None);
    }
}
