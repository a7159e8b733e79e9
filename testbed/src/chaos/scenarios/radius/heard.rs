//! What an accounting server must never hear, whoever dies.

use std::collections::BTreeMap;

pub use crate::lab::freeradius::Record;

/// What may differ between two copies of a record: when and from where this one came.
const OF_THE_COPY: [&str; 5] = [
    "Acct-Delay-Time",
    "Timestamp",
    "Acct-Unique-Session-Id",
    "NAS-IP-Address",
    "Packet-Src-IP-Address",
];
/// What all records of a session have in common.
const OF_THE_SESSION: [&str; 4] = [
    "User-Name",
    "Framed-IP-Address",
    "NAS-Port-Id",
    "Calling-Station-Id",
];
/// What a later report never says less of, and where its high half is.
const COUNTERS: [(&str, &str); 5] = [
    ("Acct-Input-Octets", "Acct-Input-Gigawords"),
    ("Acct-Output-Octets", "Acct-Output-Gigawords"),
    ("Acct-Input-Packets", ""),
    ("Acct-Output-Packets", ""),
    ("Acct-Session-Time", ""),
];

/// By name: who is in, as they see it themselves, and with which address.
pub type Living = BTreeMap<String, String>;

/// Sessions that have begun and not ended.
pub fn open(records: &[Record]) -> Vec<&str> {
    let sessions = by_session(records);
    let open = sessions
        .into_iter()
        .filter(|(_, of_it)| !of_it.iter().any(|record| is(record, "Stop")));
    open.map(|(id, _)| id).collect()
}

/// What the server has yet to hear: a Start of each who is in, and a Stop of each session that is over; and whom it takes to be
/// elsewhere.
pub fn missing(records: &[Record], living: &Living) -> Vec<String> {
    let sessions = by_session(records);
    let open = open(records);
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for id in &open {
        let user = sessions[id][0].get("User-Name").map_or("", String::as_str);
        users.entry(user).or_default().push(id);
    }
    let mut missing = Vec::new();
    for (user, address) in living {
        let known = users.get(user.as_str()).map_or(&[][..], Vec::as_slice);
        let told = known
            .first()
            .and_then(|id| sessions[id][0].get("Framed-IP-Address"));
        if known.len() != 1 || told != Some(address) {
            missing.push(format!(
                "{user} is in with {address}; of his, the server knows to be open {known:?} with {told:?}"
            ));
        }
    }
    for (user, ids) in users.iter().filter(|(user, _)| !living.contains_key(**user)) {
        missing.push(format!("no Stop of {user}, who is not in: {ids:?}"));
    }
    missing
}

/// Everything that is wrong.
pub fn faults(records: &[Record]) -> Vec<String> {
    let sessions = by_session(records);
    let mut faults: Vec<String> = sessions
        .iter()
        .flat_map(|(id, of_it)| {
            of_session(of_it)
                .into_iter()
                .map(move |fault| format!("session {id}: {fault}"))
        })
        .collect();
    let lives: Vec<_> = sessions
        .iter()
        .filter_map(|(id, of_it)| Life::of(id, of_it))
        .collect();
    for (at, one) in lives.iter().enumerate() {
        for other in &lives[at + 1..] {
            let both = one.begin < other.end && other.begin < one.end;
            for (what, same) in [
                ("address", one.address == other.address),
                ("user", one.user == other.user),
            ] {
                if both && same {
                    faults.push(format!(
                        "sessions {} and {} had the same {what} at once: {one:?}, {other:?}",
                        one.id, other.id
                    ));
                }
            }
        }
    }
    faults
}

fn by_session(records: &[Record]) -> BTreeMap<&str, Vec<&Record>> {
    let mut sessions: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        let id = record.get("Acct-Session-Id").map_or("", String::as_str);
        sessions.entry(id).or_default().push(record);
    }
    sessions
}

fn is(record: &Record, status: &str) -> bool {
    record
        .get("Acct-Status-Type")
        .is_some_and(|found| found == status)
}

fn number(record: &Record, name: &str) -> u64 {
    record.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The records of one session, in the order in which they came.
fn of_session(records: &[&Record]) -> Vec<String> {
    let mut faults = Vec::new();
    for status in ["Start", "Stop"] {
        let copies: Vec<Record> = records
            .iter()
            .filter(|record| is(record, status))
            .map(|record| said(record))
            .collect();
        if let Some(other) = copies.iter().find(|copy| **copy != copies[0]) {
            faults.push(format!(
                "two {status}s that differ: {:?} and {other:?}",
                copies[0]
            ));
        }
    }
    if !is(records[0], "Start") {
        faults.push(format!("no Start before {:?}", records[0]));
    }
    let first_stop = records.iter().position(|record| is(record, "Stop"));
    if let Some(late) = records
        .iter()
        .skip(first_stop.unwrap_or(records.len()))
        .find(|record| !is(record, "Stop"))
    {
        faults.push(format!("after its Stop: {late:?}"));
    }
    for name in OF_THE_SESSION {
        if let Some(other) = records
            .iter()
            .find(|record| record.get(name) != records[0].get(name))
        {
            faults.push(format!(
                "{name} has changed from {:?}: {other:?}",
                records[0].get(name)
            ));
        }
    }
    for (low, high) in COUNTERS {
        let counted: Vec<u64> = records
            .iter()
            // A copy of the Start that comes late counts nothing.
            .filter(|record| !is(record, "Start"))
            .map(|record| number(record, high) << 32 | number(record, low))
            .collect();
        if !counted.is_sorted() {
            faults.push(format!("{low} decreases: {counted:?}"));
        }
    }
    faults
}

/// What every copy of a record says.
fn said(record: &Record) -> Record {
    let mut said = record.clone();
    said.retain(|name, _| !OF_THE_COPY.contains(&name.as_str()));
    said
}

/// When a session was there, seconds, as its Start and its Stop say.
#[derive(Debug)]
struct Life<'a> {
    id: &'a str,
    user: Option<&'a String>,
    address: Option<&'a String>,
    begin: u64,
    end: u64,
}

impl<'a> Life<'a> {
    fn of(id: &'a str, records: &[&'a Record]) -> Option<Self> {
        let start = records.iter().find(|record| is(record, "Start"))?;
        let stop = records.iter().find(|record| is(record, "Stop"));
        let begin = number(start, "Timestamp") - number(start, "Acct-Delay-Time");
        // A second that has only begun is no overlap.
        let end = stop.map_or(u64::MAX, |stop| {
            begin + number(stop, "Acct-Session-Time").saturating_sub(1)
        });
        Some(Self {
            id,
            user: start.get("User-Name"),
            address: start.get("Framed-IP-Address"),
            begin,
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, status: &str, more: &[(&str, &str)]) -> Record {
        let base = [
            ("Acct-Session-Id", id),
            ("Acct-Status-Type", status),
            ("User-Name", id),
            ("Framed-IP-Address", id),
            ("Timestamp", "1000"),
            ("Acct-Delay-Time", "0"),
            ("Acct-Session-Time", "50"),
        ];
        let all = base.iter().chain(more);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_right_has_no_fault() {
        let octets = |octets| [("Acct-Input-Octets", octets)];
        let records = [
            record("a", "Start", &[]),
            record("a", "Start", &[("Timestamp", "1003"), ("Acct-Delay-Time", "3")]),
            record("a", "Interim-Update", &octets("5")),
            record("b", "Start", &[]),
            record("a", "Interim-Update", &octets("5")),
            record("a", "Stop", &octets("9")),
            record("a", "Stop", &octets("9")),
            record(
                "c",
                "Start",
                &[
                    ("Timestamp", "1050"),
                    ("User-Name", "a"),
                    ("Framed-IP-Address", "a"),
                ],
            ),
        ];
        assert_eq!(faults(&records), Vec::<String>::new());
        assert_eq!(open(&records), ["b", "c"]);
    }

    #[test]
    fn who_is_in_has_one_session_that_is_open_and_nobody_else_has() {
        let living = |all: &[&str]| -> Living {
            let all = all.iter();
            all.map(|name| ((*name).to_owned(), (*name).to_owned())).collect()
        };
        let records = [
            record("a", "Start", &[]),
            record("b", "Start", &[]),
            record("b", "Stop", &[]),
        ];
        assert_eq!(missing(&records, &living(&["a"])), Vec::<String>::new());
        for (who, what) in [(&["a", "b"][..], "b is in with b"), (&[], "no Stop of a")] {
            let found = missing(&records, &living(who));
            assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
        }
        let elsewhere = Living::from([("a".into(), "c".into())]);
        assert!(missing(&records, &elsewhere)[0].contains("a is in with c"));
        let twice = [
            record("a", "Start", &[]),
            record("z", "Start", &[("User-Name", "a")]),
        ];
        assert!(missing(&twice, &living(&["a"]))[0].contains("[\"a\", \"z\"]"));
    }

    #[test]
    fn every_fault_is_found() {
        let octets = |octets| [("Acct-Input-Octets", octets)];
        for (records, fault) in [
            (
                vec![record("a", "Start", &[]), record("a", "Start", &[("Class", "x")])],
                "two Starts",
            ),
            (
                vec![
                    record("a", "Start", &[]),
                    record("a", "Stop", &octets("1")),
                    record("a", "Stop", &octets("2")),
                ],
                "two Stops",
            ),
            (vec![record("a", "Interim-Update", &[])], "no Start"),
            (
                vec![
                    record("a", "Start", &[]),
                    record("a", "Stop", &[]),
                    record("a", "Interim-Update", &[]),
                ],
                "after its Stop",
            ),
            (
                vec![
                    record("a", "Start", &[]),
                    record("a", "Stop", &[("User-Name", "z")]),
                ],
                "User-Name has changed",
            ),
            (
                vec![
                    record("a", "Start", &[]),
                    record("a", "Interim-Update", &octets("7")),
                    record("a", "Stop", &octets("6")),
                ],
                "Acct-Input-Octets decreases",
            ),
            (
                vec![
                    record("a", "Start", &[]),
                    record("a", "Interim-Update", &[("Acct-Session-Time", "51")]),
                    record("a", "Stop", &[]),
                ],
                "Acct-Session-Time decreases",
            ),
            (
                vec![
                    record("a", "Start", &[]),
                    record("b", "Start", &[("Framed-IP-Address", "a")]),
                ],
                "same address",
            ),
            (
                vec![
                    record("a", "Start", &[]),
                    record("b", "Start", &[("User-Name", "a")]),
                ],
                "same user",
            ),
        ] {
            let found = faults(&records);
            assert!(found.len() == 1 && found[0].contains(fault), "{fault}: {found:?}");
        }
    }
}
