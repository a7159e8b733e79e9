//! Whether what accounting has told the server is true, and what it told is all.

use std::collections::{BTreeMap, BTreeSet};

use super::records::Record;

/// Counters of which a later report never says less.
const COUNTERS: [(&str, &str); 5] = [
    ("Acct-Input-Octets", "Acct-Input-Gigawords"),
    ("Acct-Output-Octets", "Acct-Output-Gigawords"),
    ("Acct-Input-Packets", ""),
    ("Acct-Output-Packets", ""),
    ("Acct-Session-Time", ""),
];

/// By name and address: who is in, as the subscribers themselves see it.
pub type Living = BTreeMap<String, String>;

/// What the server knows of one session.
#[derive(Debug, Default)]
struct Session<'a> {
    starts: Vec<&'a Record>,
    stops: Vec<&'a Record>,
    all: Vec<&'a Record>,
}

fn sessions(records: &[Record]) -> BTreeMap<&str, Session<'_>> {
    let mut sessions: BTreeMap<&str, Session<'_>> = BTreeMap::new();
    for record in records.iter().filter(|record| is_of_a_session(record)) {
        let session = sessions.entry(record.session()).or_default();
        session.all.push(record);
        match record.status() {
            "Start" => session.starts.push(record),
            "Stop" => session.stops.push(record),
            _ => {}
        }
    }
    sessions
}

fn is_of_a_session(record: &Record) -> bool {
    ["Start", "Stop", "Interim-Update"].contains(&record.status())
}

/// What the server has yet to hear: a Start of each who is in, and a Stop of each session that is over.
pub fn missing(records: &[Record], living: &Living) -> Vec<String> {
    let sessions = sessions(records);
    let alive: Vec<&Record> = sessions
        .values()
        .filter(|session| session.stops.is_empty())
        .filter_map(|session| session.all.first().copied())
        .collect();
    let is_started = |user: &str| alive.iter().any(|record| record.of("User-Name") == user);
    let unheard = living
        .keys()
        .filter(|user| !is_started(user))
        .map(|user| format!("{user} is in, and the server knows no session without a Stop"));
    let mut owed: Vec<String> = unheard.collect();
    let mut seen = BTreeSet::new();
    for record in &alive {
        let user = record.of("User-Name");
        if !living.contains_key(user) || !seen.insert(user) {
            owed.push(format!(
                "no Stop of {user}'s session {}, which is over",
                record.session()
            ));
        }
    }
    owed
}

/// What must not be in the records, in the order in which they came.
pub fn wrong(records: &[Record], living: &Living) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, session) in &sessions(records) {
        of_one(name, session, living, &mut wrong);
    }
    twice(records, &mut wrong);
    let on = records
        .iter()
        .filter(|record| record.status() == "Accounting-On")
        .count();
    if on > 1 {
        wrong.push(format!("{on} times Accounting-On: for restarts of a node"));
    }
    wrong
}

fn of_one(name: &str, session: &Session<'_>, living: &Living, wrong: &mut Vec<String>) {
    let user = session.all[0].of("User-Name");
    if session.all[0].status() != "Start" {
        wrong.push(format!(
            "{user}, session {name}: the first that was told is {}",
            session.all[0].status()
        ));
    }
    for copies in [&session.starts, &session.stops] {
        for copy in copies.iter().skip(1) {
            let differences = copies[0].differences(copy);
            if !differences.is_empty() {
                wrong.push(format!(
                    "{user}, session {name}: two {} that differ: {differences:?}",
                    copy.status()
                ));
            }
        }
    }
    let address = |record: &Record| record.of("Framed-IP-Address").to_owned();
    let addresses: BTreeSet<String> = session.all.iter().map(|record| address(record)).collect();
    if addresses.len() > 1 {
        wrong.push(format!(
            "{user}, session {name}: several addresses: {addresses:?}"
        ));
    }
    let is_alive = session.stops.is_empty();
    if let (true, Some(has)) = (is_alive, living.get(user))
        && !addresses.contains(has)
    {
        wrong.push(format!(
            "{user}, session {name}: he has {has}, the server was told {addresses:?}"
        ));
    }
    for pair in session.all.windows(2) {
        for (low, high) in COUNTERS {
            let [earlier, later] =
                [pair[0], pair[1]].map(|record| record.number(high) << 32 | record.number(low));
            // A copy of the Start that comes late is a copy.
            if later < earlier && pair[1].status() != "Start" {
                wrong.push(format!(
                    "{user}, session {name}: {low} falls from {earlier} ({}) to {later} ({})",
                    pair[0].status(),
                    pair[1].status()
                ));
            }
        }
        if pair[0].status() == "Stop" && pair[1].status() != "Stop" {
            wrong.push(format!(
                "{user}, session {name}: {} after the Stop",
                pair[1].status()
            ));
        }
    }
}

/// Nobody has two sessions at once, and no address two owners.
fn twice(records: &[Record], wrong: &mut Vec<String>) {
    let mut alive: BTreeMap<&str, &Record> = BTreeMap::new();
    for record in records {
        match record.status() {
            "Start" if !alive.contains_key(record.session()) => {
                for other in alive.values() {
                    for name in ["User-Name", "Framed-IP-Address"] {
                        if record.of(name) == other.of(name) && !record.of(name).is_empty() {
                            wrong.push(format!(
                                "{name} {} twice: sessions {} and {} at once",
                                record.of(name),
                                other.session(),
                                record.session()
                            ));
                        }
                    }
                }
                alive.insert(record.session(), record);
            }
            "Stop" => _ = alive.remove(record.session()),
            _ => {}
        }
    }
}
