//! Traffic counters that outlive the process (design: "counters stay off the log, never decreasing").
//!
//! Packet threads count in memory. Every ten seconds, and whenever somebody asks, the totals are written to a file; what is
//! shown is what was written, so that no figure that anyone has seen can go back after a kill. What a kill costs is the packets
//! counted since the last writing, never a step backwards.
//!
//! The file: a line with the version, then one line a session: its accounting id and four totals.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use holdfast_protocol::{SessionId, TunnelId};

use crate::actors::context::Shared;
use crate::actors::reports;
use crate::io::clock;
use crate::peers::Frame;

/// How often the totals are written.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often in a cluster, where the other members are told, too.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// First line of the file.
const HEADER: &str = "holdfast counters 1";

/// Name of the file in the data folder.
const FILE: &str = "counters";

/// Octets and packets of one session since it began, over all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// From the subscriber, packets.
    pub rx_packets: u64,
    /// From the subscriber, octets of IP packets.
    pub rx_octets: u64,
    /// To the subscriber, packets.
    pub tx_packets: u64,
    /// To the subscriber, octets of IP packets.
    pub tx_octets: u64,
    /// Either way; of this process alone.
    pub drops: u64,
}

impl Totals {
    /// The sum, field by field.
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// The higher, field by field.
    pub fn highest(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    fn each(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            rx_packets: of(self.rx_packets, other.rx_packets),
            rx_octets: of(self.rx_octets, other.rx_octets),
            tx_packets: of(self.tx_packets, other.tx_packets),
            tx_octets: of(self.tx_octets, other.tx_octets),
            drops: of(self.drops, other.drops),
        }
    }
}

/// The totals as last written, and those that earlier processes left.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Held from reading the counters to replacing the file, so that no older figures replace newer ones.
    writing: Mutex<()>,
    inherited: Mutex<HashMap<String, Totals>>,
    written: Mutex<HashMap<(TunnelId, SessionId), Totals>>,
    /// By accounting id, as last reported to the other members.
    reported: Mutex<HashMap<String, Totals>>,
}

impl Checkpoint {
    /// Reads what the process before left. A file that cannot be read costs the history of the counters, no session.
    pub fn load(&self, data_dir: &Path) {
        let path = data_dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => match parse(&text) {
                Some(totals) => *lock(&self.inherited) = totals,
                None => {
                    tracing::warn!(path = %path.display(), "the counters' checkpoint is damaged: counters start at zero")
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the counters' checkpoint: counters start at zero");
            }
        }
    }

    /// A session's totals as last written.
    pub fn totals(&self, tunnel: TunnelId, session: SessionId) -> Totals {
        lock(&self.written)
            .get(&(tunnel, session))
            .copied()
            .unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The maps are replaced whole, so they are consistent whatever happened to an earlier holder.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the totals of all sessions now.
pub async fn write(shared: &Arc<Shared>) {
    let sessions = shared
        .table
        .ask(|table| {
            let sessions = table.tunnels().flat_map(|(tunnel, entry)| {
                entry
                    .sessions()
                    .map(move |(session, row)| (tunnel, session, row.clone()))
            });
            sessions.collect::<Vec<_>>()
        })
        .await;
    let Some(sessions) = sessions else { return };
    let shared = shared.clone();
    let written = tokio::task::spawn_blocking(move || {
        let _writing = lock(&shared.checkpoint.writing);
        let inherited = lock(&shared.checkpoint.inherited);
        let mut text = format!("{HEADER}\n");
        let mut written = HashMap::with_capacity(sessions.len());
        let mut by_id = HashMap::new();
        for (tunnel, session, row) in sessions {
            let before = inherited.get(&row.acct_session_id).copied().unwrap_or_default();
            let totals = now_of(&shared, tunnel, session, before);
            write_line(&mut text, &row.acct_session_id, totals);
            written.insert((tunnel, session), totals);
            if shared.members.is_some() {
                by_id.insert(row.acct_session_id.clone(), totals);
            }
        }
        drop(inherited);
        let result = replace(&shared.config.load().node.data_dir.join(FILE), &text);
        if result.is_ok() {
            *lock(&shared.checkpoint.written) = written;
            report(&shared, by_id);
        }
        result
    });
    if let Ok(Err(error)) = written.await {
        tracing::warn!(%error, "cannot write the counters' checkpoint: the counters shown stand still");
    }
}

/// Tells the other members what has changed since they were last told.
fn report(shared: &Shared, totals: HashMap<String, Totals>) {
    let Some(members) = &shared.members else { return };
    members.reports().retain(|id| totals.contains_key(id));
    let mut reported = lock(&shared.checkpoint.reported);
    if members.has_newcomer() {
        reported.clear();
    }
    let changed = totals
        .iter()
        .filter(|(id, totals)| reported.get(*id).copied().unwrap_or_default() != **totals);
    let frames = reports::encode(clock::unix(), changed.map(|(id, totals)| (id.as_str(), *totals)));
    for node in members.peers().connected() {
        for frame in &frames {
            // One that does not fit is made up for by the next: totals, not differences.
            let _ = members.peers().send(node, Frame::Counters(frame.clone()));
        }
    }
    *reported = totals;
}

fn now_of(shared: &Shared, tunnel: TunnelId, session: SessionId, before: Totals) -> Totals {
    let Some(facts) = shared.directory.session(tunnel, session) else {
        return before;
    };
    let counted = facts.shared.totals();
    Totals {
        rx_packets: before.rx_packets + counted.received_packets,
        rx_octets: before.rx_octets + counted.received_octets,
        tx_packets: before.tx_packets + counted.sent_packets,
        tx_octets: before.tx_octets + counted.sent_octets,
        drops: counted.drops.iter().sum(),
    }
}

fn write_line(text: &mut String, id: &str, totals: Totals) {
    let Totals {
        rx_packets,
        rx_octets,
        tx_packets,
        tx_octets,
        ..
    } = totals;
    writeln!(text, "{id} {rx_packets} {rx_octets} {tx_packets} {tx_octets}")
        .expect("a String takes what is written");
}

fn parse(text: &str) -> Option<HashMap<String, Totals>> {
    let mut lines = text.lines();
    if lines.next()? != HEADER {
        return None;
    }
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let id = words.next()?.to_owned();
            let mut number = || words.next()?.parse().ok();
            let totals = Totals {
                rx_packets: number()?,
                rx_octets: number()?,
                tx_packets: number()?,
                tx_octets: number()?,
                drops: 0,
            };
            Some((id, totals))
        })
        .collect()
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new: PathBuf = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&new, path)
}

/// Writes the totals again and again.
pub async fn keep(shared: Arc<Shared>) {
    let interval = match &shared.members {
        Some(_) => REPORT_INTERVAL,
        None => INTERVAL,
    };
    loop {
        tokio::time::sleep(interval).await;
        write(&shared).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let totals = Totals {
            rx_packets: 1,
            rx_octets: u64::MAX,
            tx_packets: 3,
            tx_octets: 4,
            drops: 0,
        };
        let mut text = format!("{HEADER}\n");
        write_line(&mut text, "00000001abcdef", totals);
        let read = parse(&text).expect("our own format");
        assert_eq!(read.get("00000001abcdef"), Some(&totals));
    }

    #[test]
    fn damage_is_noticed() {
        assert!(parse("").is_none());
        assert!(parse("holdfast counters 2\n").is_none());
        assert!(parse(&format!("{HEADER}\nid 1 2 3\n")).is_none());
        assert!(parse(&format!("{HEADER}\nid 1 2 3 x\n")).is_none());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join(FILE);
        replace(&path, "one").expect("the folder is writable");
        replace(&path, "two").expect("the folder is writable");
        assert_eq!(fs::read_to_string(&path).expect("just written"), "two");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1);
    }
}
