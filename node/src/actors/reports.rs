//! Traffic that other nodes have counted for a session: any node may forward it, so its counters are the sum over all.
//!
//! Each node tells every other the totals of what it forwarded itself, cumulative over all its processes, never differences: a
//! report that is lost, doubled or late does no harm. Of each field the highest is kept, so a sum never goes back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;

use crate::peers::proto::{Counters, SessionCounters};
use crate::server::Totals;
use crate::server::sheet::{read_totals, write_line};

/// Sessions in one frame: some 25 kB.
const SESSIONS_PER_FRAME: usize = 500;

/// First line of the file that they are kept in.
const HEADER: &str = "holdfast counters of others 1";

/// By accounting id and node.
type Known = HashMap<String, Vec<(u64, Totals)>>;

/// What others have reported.
#[derive(Debug, Default)]
pub struct Reports(Mutex<Known>);

impl Reports {
    /// Takes a report of another node. Gives that one's wall clock since 1970, zero if it does not say; `None`: the report makes no
    /// sense.
    pub fn take(&self, node: u64, report: &[u8]) -> Option<Duration> {
        let report = Counters::decode(report).ok()?;
        let mut known = self.known();
        for session in report.sessions {
            let totals = Totals {
                rx_packets: session.rx_packets,
                rx_octets: session.rx_octets,
                tx_packets: session.tx_packets,
                tx_octets: session.tx_octets,
                drops: session.drops,
            };
            note(&mut known, session.acct_session_id, node, totals);
        }
        Some(Duration::from_millis(report.unix_ms))
    }

    /// As it is now, apart from what comes.
    pub fn copy(&self) -> Self {
        Self(Mutex::new(self.known().clone()))
    }

    /// All of it, to outlive the process: a line with the version, then one line a session and node: the accounting id, the node
    /// and four totals.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (id, of_session) in &*self.known() {
            for (node, totals) in of_session {
                write_line(&mut text, &[id, &node.to_string()], *totals);
            }
        }
        text
    }

    /// Takes what [`Self::to_text`] gave. `false`, and nothing is taken: it is damaged.
    pub fn restore(&self, text: &str) -> bool {
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return false;
        }
        let read = |line: &str| {
            let mut words = line.split(' ');
            let (id, node) = (words.next()?, words.next()?.parse().ok()?);
            Some((id.to_owned(), node, read_totals(&mut words)?))
        };
        let Some(read) = lines.map(read).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let mut known = self.known();
        for (id, node, totals) in read {
            note(&mut known, id, node, totals);
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

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each entry is changed by assignments alone.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(known: &mut Known, id: String, node: u64, totals: Totals) {
    let of_session = known.entry(id).or_default();
    match of_session.iter_mut().find(|(reporter, _)| *reporter == node) {
        Some((_, before)) => *before = before.highest(totals),
        None => of_session.push((node, totals)),
    }
}

/// Reports of these sessions, ready to be sent: one at least, for it tells our wall clock, too.
pub fn encode<'a>(unix: Duration, sessions: impl Iterator<Item = (&'a str, Totals)>) -> Vec<Vec<u8>> {
    let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
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
    let encode = |sessions: &[SessionCounters]| {
        let sessions = sessions.to_vec();
        Counters { sessions, unix_ms }.encode_to_vec()
    };
    match counters.as_slice() {
        [] => vec![encode(&[])],
        counters => counters.chunks(SESSIONS_PER_FRAME).map(encode).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::sheet::{Sheet, parse};

    const NOW: Duration = Duration::from_secs(1_800_000_000);

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
            let frames = encode(NOW, [("a", totals(octets))].into_iter());
            assert_eq!(reports.take(node, &frames[0]), Some(NOW));
        }
        assert_eq!(reports.of("a"), totals(137));
        assert_eq!(reports.of("b"), Totals::default());
        reports.retain(|id| id != "a");
        assert_eq!(reports.of("a"), Totals::default());
    }

    #[test]
    fn a_process_that_starts_again_shows_no_less_than_its_predecessor() {
        let reports = Reports::default();
        let frames = encode(NOW, [("a", totals(100))].into_iter());
        assert!((2..=3).all(|node| reports.take(node, &frames[0]).is_some()));
        let counted = || [("a", totals(7))].into_iter();
        let sheet = Sheet::new(&HashMap::new(), &reports, counted());
        assert_eq!(sheet.shown["a"], totals(207));

        let (reports, inherited) = (Reports::default(), parse(&sheet.text).expect("our own format"));
        assert!(reports.restore(&sheet.others));
        let next = Sheet::new(&inherited, &reports, counted());
        assert_eq!((next.shown["a"], next.own["a"]), (totals(214), totals(14)));
    }

    #[test]
    fn damage_to_what_is_kept_is_noticed() {
        let reports = Reports::default();
        for text in [
            "",
            "holdfast counters of others 2\n",
            "holdfast counters of others 1\na 2 1 2 3\n",
        ] {
            assert!(!reports.restore(text), "{text:?}");
        }
    }

    #[test]
    fn many_sessions_take_several_frames_and_garbage_is_refused() {
        let ids: Vec<String> = (0..1001).map(|id| format!("{id}")).collect();
        assert_eq!(encode(NOW, std::iter::empty()).len(), 1, "the clock at least");
        let frames = encode(NOW, ids.iter().map(|id| (id.as_str(), totals(1))));
        assert_eq!(frames.len(), 3);
        let reports = Reports::default();
        assert!(frames.iter().all(|frame| reports.take(9, frame).is_some()));
        assert_eq!(reports.of("1000"), totals(1));
        assert_eq!(reports.take(9, &[0xff; 7]), None);
    }
}
