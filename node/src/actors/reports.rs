//! Traffic that other nodes have counted for a session: any node may forward it, so its counters are the sum over all.
//!
//! Each node tells every other the totals of what it forwarded itself, cumulative over all its processes, never differences: a
//! report that is lost, doubled or late does no harm. Of each field the highest is kept, so a sum never goes back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message;

use crate::peers::proto::{Counters, SessionCounters};
use crate::server::Totals;

/// Sessions in one frame: some 25 kB.
const SESSIONS_PER_FRAME: usize = 500;

/// What others have reported, by accounting id and node.
#[derive(Debug, Default)]
pub struct Reports(Mutex<HashMap<String, Vec<(u64, Totals)>>>);

impl Reports {
    /// Takes a report of another node. `false`: it makes no sense.
    pub fn take(&self, node: u64, report: &[u8]) -> bool {
        let Ok(report) = Counters::decode(report) else {
            return false;
        };
        let mut known = self.known();
        for session in report.sessions {
            let totals = Totals {
                rx_packets: session.rx_packets,
                rx_octets: session.rx_octets,
                tx_packets: session.tx_packets,
                tx_octets: session.tx_octets,
                drops: session.drops,
            };
            let of_session = known.entry(session.acct_session_id).or_default();
            match of_session.iter_mut().find(|(reporter, _)| *reporter == node) {
                Some((_, before)) => *before = before.highest(totals),
                None => of_session.push((node, totals)),
            }
        }
        true
    }

    /// What all others have counted for a session.
    pub fn of(&self, acct_session_id: &str) -> Totals {
        let known = self.known();
        let of_session = known.get(acct_session_id).into_iter().flatten();
        of_session.fold(Totals::default(), |sum, (_, totals)| sum.plus(*totals))
    }

    /// Forgets the sessions for which `lives` does not hold.
    pub fn retain(&self, lives: impl Fn(&str) -> bool) {
        self.known().retain(|id, _| lives(id));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<(u64, Totals)>>> {
        // Each entry is changed by assignments alone.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports of these sessions, ready to be sent.
pub fn encode<'a>(sessions: impl Iterator<Item = (&'a str, Totals)>) -> Vec<Vec<u8>> {
    let counters: Vec<_> = sessions
        .map(|(id, totals)| SessionCounters {
            acct_session_id: id.to_owned(),
            rx_packets: totals.rx_packets,
            rx_octets: totals.rx_octets,
            tx_packets: totals.tx_packets,
            tx_octets: totals.tx_octets,
            drops: totals.drops,
        })
        .collect();
    let frames = counters.chunks(SESSIONS_PER_FRAME);
    frames
        .map(|sessions| {
            let sessions = sessions.to_vec();
            Counters { sessions }.encode_to_vec()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(rx_octets: u64) -> Totals {
        Totals {
            rx_octets,
            ..Totals::default()
        }
    }

    #[test]
    fn sums_over_nodes_and_never_goes_back() {
        let reports = Reports::default();
        for (node, octets) in [(2, 100), (3, 7), (2, 130), (2, 110)] {
            let frames = encode([("a", totals(octets))].into_iter());
            assert!(reports.take(node, &frames[0]));
        }
        assert_eq!(reports.of("a"), totals(137));
        assert_eq!(reports.of("b"), Totals::default());
        reports.retain(|id| id != "a");
        assert_eq!(reports.of("a"), Totals::default());
    }

    #[test]
    fn many_sessions_take_several_frames_and_garbage_is_refused() {
        let ids: Vec<String> = (0..1001).map(|id| format!("{id}")).collect();
        let frames = encode(ids.iter().map(|id| (id.as_str(), totals(1))));
        assert_eq!(frames.len(), 3);
        let reports = Reports::default();
        assert!(frames.iter().all(|frame| reports.take(9, frame)));
        assert_eq!(reports.of("1000"), totals(1));
        assert!(!reports.take(9, &[0xff; 7]));
    }
}
