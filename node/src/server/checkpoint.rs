//! Traffic counters that outlive the process (design: "counters stay off the log, never decreasing").
//!
//! Packet threads count in memory. Every ten seconds, and whenever somebody asks, the totals are written to a file; what is
//! shown is what was written, so that no figure that anyone has seen can go back after a kill. What a kill costs is the packets
//! counted since the last writing, never a step backwards.
//!
//! What other members have reported is written, too, and shown once it is: they tell it again only when they hear of us, and
//! until then the sum would be lower than before. What is in the files is in [`super::sheet`].

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use holdfast_cluster::Table;
use holdfast_cluster::records::{AccountingKind, SessionRow};
use holdfast_protocol::{SessionId, TunnelId};

use super::sheet::{self, Sheet, Totals};
use crate::actors::context::Shared;
use crate::actors::directory::SessionIds;
use crate::actors::reports::{self, Reports};
use crate::io::clock;
use crate::metrics::Counter;
use crate::peers::Frame;

/// How often the totals are written.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often in a cluster, where the other members are told, too.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Name of the file in the data folder.
const FILE: &str = "counters";

/// Name of the file with what other members have reported.
const OTHERS_FILE: &str = "counters-of-others";

/// The totals as last written, and those that earlier processes left.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Held from reading the counters to replacing the file, so that no older figures replace newer ones.
    writing: Mutex<()>,
    inherited: Mutex<HashMap<String, Totals>>,
    /// By accounting id, with what other members have reported.
    shown: Mutex<HashMap<String, Totals>>,
    /// By accounting id, as last reported to the other members.
    reported: Mutex<HashMap<String, Totals>>,
}

impl Checkpoint {
    /// Reads what the process before left. A file that cannot be read costs the history of the counters, no session.
    pub fn load(&self, data_dir: &Path, others: Option<&Reports>) {
        if let Some(totals) = read(&data_dir.join(FILE), sheet::parse) {
            *lock(&self.inherited) = totals;
        }
        if let Some(others) = others {
            read(&data_dir.join(OTHERS_FILE), |text| {
                others.restore(text).then_some(())
            });
        }
    }

    /// A session's totals as last written, by its accounting id.
    pub fn totals(&self, id: &str) -> Totals {
        lock(&self.shown).get(id).copied().unwrap_or_default()
    }
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let parsed = parse(&text);
            if parsed.is_none() {
                tracing::warn!(path = %path.display(), "the counters' checkpoint is damaged: counters start at zero");
            }
            parsed
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the counters' checkpoint: counters start at zero");
            None
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The maps are replaced whole, so they are consistent whatever happened to an earlier holder.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the totals of all sessions now.
pub async fn write(shared: &Arc<Shared>) {
    let Some((sessions, applied)) = shared.table.ask(accountable).await else {
        return;
    };
    let shared = shared.clone();
    let written = tokio::task::spawn_blocking(move || {
        let _writing = lock(&shared.checkpoint.writing);
        let counted = sessions.iter().map(|(tunnel, session, row)| {
            let name = row.acct_session_id.as_str();
            (name, counted(&shared, (*tunnel, *session), name))
        });
        let members = shared.members.as_ref();
        let others = members.map_or_else(Reports::default, |members| members.reports().copy());
        let sheet = Sheet::new(&lock(&shared.checkpoint.inherited), &others, counted);
        let folder = shared.config.load().node.data_dir.clone();
        if members.is_some() {
            replace(&folder.join(OTHERS_FILE), &sheet.others)?;
        }
        replace(&folder.join(FILE), &sheet.text)?;
        let is_wanted = |name: &str| sheet.own.contains_key(name);
        shared.directory.forget_departed(applied, is_wanted);
        // The others first: who takes a session over is to say no less than we have.
        report(&shared, sheet.own);
        *lock(&shared.checkpoint.shown) = sheet.shown;
        Ok::<(), io::Error>(())
    });
    if let Ok(Err(error)) = written.await {
        tracing::warn!(%error, "cannot write the counters' checkpoint: the counters shown stand still");
    }
}

/// The sessions of the table, those that are gone and whose Stops lack their traffic, and how far the log is applied.
fn accountable(table: &Table) -> (Vec<(TunnelId, SessionId, Arc<SessionRow>)>, u64) {
    let live = table.tunnels().flat_map(|(tunnel, entry)| {
        let sessions = entry.sessions();
        sessions.map(move |(session, row)| (tunnel, session, row.clone()))
    });
    let open_stops = table
        .outbox()
        .filter(|owed| owed.kind == AccountingKind::Stop && owed.traffic.is_none());
    let gone = open_stops.filter_map(|owed| {
        let session = owed.session.id()?;
        let live = table.session(owed.tunnel, session);
        let is_live = live.is_some_and(|row| row.acct_session_id == owed.session.acct_session_id);
        (!is_live).then(|| (owed.tunnel, session, owed.session.clone()))
    });
    (live.chain(gone).collect(), table.applied())
}

/// Tells the other members what has changed since they were last told.
fn report(shared: &Shared, totals: HashMap<String, Totals>) {
    let Some(members) = &shared.members else { return };
    let unknown = members.reports().retain(|id| totals.contains_key(id));
    shared.metrics.add(Counter::ReportsUnknown, unknown);
    let mut reported = lock(&shared.checkpoint.reported);
    if members.has_newcomer() {
        reported.clear();
    }
    let changed = totals
        .iter()
        .filter(|(id, totals)| reported.get(*id).copied().unwrap_or_default() != **totals);
    let changed = changed.map(|(id, totals)| (id.as_str(), *totals));
    let closed_before = shared.table.published().accounting.closed_before();
    let frames = reports::encode_closing(clock::unix(), changed, closed_before);
    let mut all_sent = true;
    for node in members.peers().connected() {
        for frame in &frames {
            all_sent &= members.peers().send(node, Frame::Counters(frame.clone()));
        }
    }
    // What does not fit is made up for by the next: totals, not differences.
    *reported = if all_sent { totals } else { HashMap::new() };
}

/// What this process has counted.
fn counted(shared: &Shared, ids: SessionIds, acct_session_id: &str) -> Totals {
    let Some(counted) = shared.directory.counted(ids, acct_session_id) else {
        return Totals::default();
    };
    Totals {
        rx_packets: counted.received_packets,
        rx_octets: counted.received_octets,
        tx_packets: counted.sent_packets,
        tx_octets: counted.sent_octets,
        drops: counted.drops.iter().sum(),
    }
}

/// What all processes of this node have counted of a session up to now.
pub fn own_totals(shared: &Shared, ids: SessionIds, acct_session_id: &str) -> Totals {
    let inherited = lock(&shared.checkpoint.inherited).get(acct_session_id).copied();
    inherited
        .unwrap_or_default()
        .plus(counted(shared, ids, acct_session_id))
}

/// The same with what the other members have reported.
pub fn all_totals(shared: &Shared, ids: SessionIds, acct_session_id: &str) -> Totals {
    let others = shared
        .members
        .as_ref()
        .map(|members| members.reports().of(acct_session_id));
    own_totals(shared, ids, acct_session_id).plus(others.unwrap_or_default())
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new: PathBuf = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    // What was shown must be there after a loss of power, too.
    file.sync_data()?;
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
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join(FILE);
        replace(&path, "one").expect("the folder is writable");
        replace(&path, "two").expect("the folder is writable");
        assert_eq!(fs::read_to_string(&path).expect("just written"), "two");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1);
    }
}
