//! Traffic that other nodes have counted for a session: any node may forward it, so its counters are the sum over all.
//!
//! Each node tells every other the totals of what it forwarded itself, cumulative over all its processes, never differences: a
//! report that is lost, doubled or late does no harm. Of each field the highest is kept, so a sum never goes back.
//!
//! A session that the table does not have here may be one that is yet to be applied: its report is kept until it is next looked
//! which sessions live, every five seconds, and then forgotten and counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_cluster::limits::SESSIONS_MAX;
use prost::Message;

use crate::peers::proto::{Counters, SessionCounters};
use crate::server::Totals;
use crate::server::sheet::{read_totals, write_line};

/// Sessions in one frame: some 25 kB.
const SESSIONS_PER_FRAME: usize = 500;

/// Octets of an accounting id; ours have 24.
const ID_OCTETS_MAX: usize = 64;

/// First line of the file that they are kept in.
const HEADER: &str = "holdfast counters of others 1";

/// By accounting id.
type Known = HashMap<String, Session>;

#[derive(Clone, Debug, Default)]
struct Session {
    by_node: Vec<(u64, Totals)>,
    /// The table here has or had it.
    found: bool,
}

/// A report that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The other node's wall clock since 1970; zero if it does not say.
    pub clock: Duration,
    /// Its sessions that were passed over: an id that can be none, or more of them than a table has.
    pub refused: u64,
}

/// What others have reported.
#[derive(Debug, Default)]
pub struct Reports {
    known: Mutex<Known>,
    /// By node, the Stop before which it has said its last word of all sessions.
    closed: Mutex<BTreeMap<u64, u64>>,
}

impl Reports {
    /// Takes a report of another node; `None`: it makes no sense.
    pub fn take(&self, node: u64, report: &[u8]) -> Option<Taken> {
        let report = Counters::decode(report).ok()?;
        let mut known = self.known();
        let mut refused = 0;
        let closed_before = report.closed_before;
        for session in report.sessions {
            let has_room = known.len() < SESSIONS_MAX || known.contains_key(&session.acct_session_id);
            if !has_room || !is_id(&session.acct_session_id) {
                refused += 1;
                continue;
            }
            let totals = Totals {
                rx_packets: session.rx_packets,
                rx_octets: session.rx_octets,
                tx_packets: session.tx_packets,
                tx_octets: session.tx_octets,
                drops: session.drops,
            };
            note(&mut known, session.acct_session_id, node, totals);
        }
        drop(known);
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = closed.entry(node).or_default();
        *before = closed_before.max(*before);
        drop(closed);
        Some(Taken {
            clock: Duration::from_millis(report.unix_ms),
            refused,
        })
    }

    /// As it is now, apart from what comes.
    pub fn copy(&self) -> Self {
        Self {
            known: Mutex::new(self.known().clone()),
            closed: Mutex::default(),
        }
    }

    /// Of the sessions whose Stops have lower numbers `node` has said its last word.
    pub fn closed_before(&self, node: u64) -> u64 {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.get(&node).copied().unwrap_or(0)
    }

    /// All of it, to outlive the process: a line with the version, then one line a session and node: the accounting id, the node
    /// and four totals.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (id, of_session) in &*self.known() {
            for (node, totals) in &of_session.by_node {
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
            note(&mut known, id, node, totals).found = true;
        }
        true
    }

    /// What all others have counted for a session.
    pub fn of(&self, acct_session_id: &str) -> Totals {
        let known = self.known();
        let of_session = known.get(acct_session_id).map(|session| &session.by_node);
        of_session
            .into_iter()
            .flatten()
            .fold(Totals::default(), |sum, (_, totals)| sum.plus(*totals))
    }

    /// Forgets the sessions for which `lives` does not hold. Gives how many of them never did.
    pub fn retain(&self, lives: impl Fn(&str) -> bool) -> u64 {
        let mut never = 0;
        self.known().retain(|id, session| {
            let lives = lives(id);
            never += u64::from(!lives && !session.found);
            session.found |= lives;
            lives
        });
        never
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each entry is changed by assignments alone.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(known: &mut Known, id: String, node: u64, totals: Totals) -> &mut Session {
    let session = known.entry(id).or_default();
    let reporter = session.by_node.iter_mut().find(|(reporter, _)| *reporter == node);
    match reporter {
        Some((_, before)) => *before = before.highest(totals),
        None => session.by_node.push((node, totals)),
    }
    session
}

/// Whether it can be one: it goes into a file of words and lines.
fn is_id(text: &str) -> bool {
    (1..=ID_OCTETS_MAX).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// Reports of these sessions, ready to be sent: one at least, for it tells our wall clock, too.
pub fn encode<'a>(unix: Duration, sessions: impl Iterator<Item = (&'a str, Totals)>) -> Vec<Vec<u8>> {
    encode_closing(unix, sessions, 0)
}

/// The same, with the Stop before which this node has said its last word once all of this is said.
pub fn encode_closing<'a>(
    unix: Duration,
    sessions: impl Iterator<Item = (&'a str, Totals)>,
    closed_before: u64,
) -> Vec<Vec<u8>> {
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
    let frames = counters.len().div_ceil(SESSIONS_PER_FRAME).max(1);
    let part = |frame: usize| {
        let rest = counters.iter().skip(frame * SESSIONS_PER_FRAME);
        let report = Counters {
            sessions: rest.take(SESSIONS_PER_FRAME).cloned().collect(),
            unix_ms,
            // True once the last part is there.
            closed_before: if frame + 1 == frames { closed_before } else { 0 },
        };
        report.encode_to_vec()
    };
    (0..frames).map(part).collect()
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
            let taken = Taken {
                clock: NOW,
                refused: 0,
            };
            assert_eq!(reports.take(node, &frames[0]), Some(taken));
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

    #[test]
    fn the_last_word_comes_with_the_last_frame() {
        let ids: Vec<String> = (0..501).map(|id| format!("{id}")).collect();
        let frames = encode_closing(NOW, ids.iter().map(|id| (id.as_str(), totals(1))), 7);
        let reports = Reports::default();
        let said: Vec<_> = frames
            .iter()
            .map(|frame| reports.take(2, frame).map(|_| reports.closed_before(2)))
            .collect();
        assert_eq!(said, [Some(0), Some(7)]);
        assert!(reports.take(2, &encode(NOW, std::iter::empty())[0]).is_some());
        assert_eq!((reports.closed_before(2), reports.closed_before(3)), (7, 0));
    }

    #[test]
    fn what_can_be_no_id_is_passed_over_and_damages_nothing() {
        let long = "f".repeat(ID_OCTETS_MAX + 1);
        let ids = ["0000002a00000000deadbeef", "", "a b", "a\n", "\u{e9}", &long];
        let frames = encode(NOW, ids.iter().map(|id| (*id, totals(1))));
        let reports = Reports::default();
        let taken = reports.take(2, &frames[0]).expect("decodes");
        assert_eq!(taken.refused, 5);
        assert_eq!(reports.of(ids[0]), totals(1));
        assert!(Reports::default().restore(&reports.to_text()), "it is read again");
    }

    #[test]
    fn a_session_that_the_table_never_had_is_forgotten_and_counted() {
        let reports = Reports::default();
        let frames = encode(NOW, ["ours", "nobodys"].into_iter().map(|id| (id, totals(1))));
        assert!(reports.take(2, &frames[0]).is_some());
        assert_eq!(reports.retain(|id| id == "ours"), 1);
        assert_eq!(
            (reports.of("ours"), reports.of("nobodys")),
            (totals(1), Totals::default())
        );
        let kept = reports.to_text();
        assert_eq!(reports.retain(|_| false), 0, "it has ended");
        assert!(reports.restore(&kept));
        assert_eq!(
            reports.retain(|_| false),
            0,
            "it ended while this node did not run"
        );
    }
}
