//! What is sent to the accounting servers, and when: delivery of each Start and Stop at least once.
//!
//! ```text
//!            owe()                     its turn                  answered()             acknowledged()
//!   outbox ────────> waits ──────────────────> ready ──> under way ──────────> delivered ─────────────> gone
//!                    for the Start of the      ^               │
//!                    same session, for an      └───────────────┘
//!                    interim under way,           unanswered()
//!                    for its traffic
//! ```
//!
//! Of one session one request is under way at a time, in the order of its records. The client beneath repeats a request and tries all
//! servers of a group; when it has given up, the group counts as silent: one record a time is tried, ever more seldom, until one is
//! answered. Interims are not worth that: while the group is silent they are dropped, and so is one that is not sent when the next is due.
//!
//! A group is silent only if it has answered nothing since the request was sent; a record that is left out by itself is [`left_out`]'s.
//!
//! Nothing here is lost with the process: whatever is not acknowledged is in the table, and the next owner begins with that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::records::{AccountingKind, SessionRow, Traffic, TunnelRow};
use holdfast_cluster::table::Owed;
use holdfast_protocol::TunnelId;

use self::left_out::LeftOut;
pub use self::left_out::{LEFT_OUT_MAX, Notice};

mod left_out;

/// Requests under way to one group of servers.
pub const WINDOW: usize = 64;

/// Interims of one group that wait. More are dropped: the next ones say more.
pub const INTERIMS_MAX: usize = 65_536;

/// Records that are acknowledged to the table at once.
const ACKNOWLEDGE_AT_ONCE: usize = 1_024;

/// How long delivered records wait for others to be acknowledged with.
const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(200);

/// From one attempt to the next while a group is silent: the first, doubled up to the last.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Names a request in its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The Accounting-On of a group, by its number here.
    On(u64),
    /// A record of the outbox.
    Owed(u64),
    /// An interim, by its number here.
    Interim(u64),
}

/// A session as it is, for the server.
#[derive(Clone, Debug)]
pub struct Interim {
    /// Its tunnel.
    pub tunnel: Arc<TunnelRow>,
    /// As the table has it.
    pub session: Arc<SessionRow>,
    /// So far.
    pub traffic: Traffic,
    /// Table time in milliseconds of this.
    pub now_ms: u64,
    /// The same in seconds since 1970.
    pub unix_s: u64,
}

/// What is to be told.
#[derive(Clone, Debug)]
pub enum Request {
    /// The cluster begins: sessions that the server still knows are over.
    On {
        /// When, in seconds since 1970.
        unix_s: u64,
    },
    /// The cluster ends, and no session with it.
    Off {
        /// When, in seconds since 1970.
        unix_s: u64,
    },
    /// A Start, or a Stop with its traffic.
    Owed(Arc<Owed>, Option<Traffic>),
    /// How far a session is.
    Interim(Arc<Interim>),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Command {
    /// Have a server of the group receive this, and say whether one did.
    Send {
        /// Names the outcome.
        key: Key,
        /// Whose.
        group: Arc<str>,
        /// What.
        request: Request,
    },
    /// These are delivered: they may leave the table.
    Acknowledge(Vec<u64>),
}

/// What happened since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Starts and Stops that a server has confirmed.
    pub delivered: u64,
    /// Interims that a server has confirmed.
    pub interims: u64,
    /// Requests that no server of their group has answered.
    pub unanswered: u64,
    /// Interims that were not sent, or not repeated.
    pub interims_dropped: u64,
    /// Starts and Stops that are given up: servers that answered others never confirmed them.
    pub given_up: u64,
    /// Accounting-Ons given up because a session began first.
    pub on_given_up: u64,
}

#[derive(Debug)]
struct Record {
    owed: Arc<Owed>,
    group: Arc<str>,
    traffic: Option<Traffic>,
    /// Since the group last answered it or nothing at all.
    left_out: Option<LeftOut>,
    /// Its next attempt is not due.
    rests: bool,
}

impl Record {
    fn is_complete(&self) -> bool {
        self.owed.kind == AccountingKind::Start || self.traffic.is_some()
    }
}

/// What is to be told of one session.
#[derive(Debug, Default)]
struct Line {
    records: BTreeSet<u64>,
    interim: Option<u64>,
}

#[derive(Debug, Default)]
struct Group {
    /// Its number in [`Key::On`] and its time, while an On is to be delivered.
    on: Option<(u64, u64)>,
    ready: BTreeSet<u64>,
    interims: BTreeSet<u64>,
    /// Records that were left out, by when they are tried again.
    resting: BTreeSet<(Duration, u64)>,
    under_way: usize,
    answered_at: Option<Duration>,
    silent: Option<Silence>,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    wait: Duration,
    until: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sender {
    records: BTreeMap<u64, Record>,
    lines: BTreeMap<String, Line>,
    groups: BTreeMap<Arc<str>, Group>,
    interims: BTreeMap<u64, (Arc<str>, Arc<Interim>)>,
    /// By request under way, its group and when it was sent.
    under_way: BTreeMap<Key, (Arc<str>, Duration)>,
    next_number: u64,
    /// Delivered, and the table is yet to be asked to let them go.
    unasked: BTreeSet<u64>,
    unasked_since: Option<Duration>,
    /// Delivered, and it was asked.
    asked: BTreeSet<u64>,
    tally: Tally,
    notices: Vec<Notice>,
}

impl Sender {
    /// The cluster begins: this group is told before anything else, unless a session begins first.
    pub fn announce(&mut self, group: &str, unix_s: u64) {
        self.next_number += 1;
        let number = self.next_number;
        self.group(group).1.on = Some((number, unix_s));
    }

    /// A record of a group of tunnels of this node. Without servers there is nobody to deliver it to: it is settled. One that is known
    /// is passed over.
    pub fn owe(&mut self, now: Duration, owed: &Arc<Owed>, group: Option<&str>) {
        let sequence = owed.sequence;
        let is_delivered = self.unasked.contains(&sequence) || self.asked.contains(&sequence);
        if is_delivered || self.records.contains_key(&sequence) {
            return;
        }
        let Some(group) = group else {
            return self.settle(now, sequence);
        };
        let (group, state) = self.group(group);
        if state.on.take().is_some() {
            self.tally.on_given_up += 1;
        }
        let name = owed.session.acct_session_id.clone();
        let record = Record {
            owed: owed.clone(),
            group,
            traffic: owed.traffic,
            left_out: None,
            rests: false,
        };
        self.records.insert(sequence, record);
        let line = self.lines.entry(name.clone()).or_default();
        line.records.insert(sequence);
        if let Some(number) = line
            .interim
            .filter(|number| !self.under_way.contains_key(&Key::Interim(*number)))
        {
            self.drop_interim(number);
        }
        self.refresh(&name);
    }

    /// Whether a record is a Stop that waits for its traffic.
    pub fn wants_traffic(&self, sequence: u64) -> bool {
        self.records
            .get(&sequence)
            .is_some_and(|record| !record.is_complete())
    }

    /// The traffic of a Stop, as every copy of it is to say.
    pub fn finalize(&mut self, sequence: u64, traffic: Traffic) {
        let Some(record) = self.records.get_mut(&sequence) else {
            return;
        };
        if record.traffic.is_none() {
            record.traffic = Some(traffic);
        }
        let name = record.owed.session.acct_session_id.clone();
        self.refresh(&name);
    }

    /// A session of this node is due for an interim.
    pub fn interim(&mut self, group: &str, interim: Interim) {
        let name = interim.session.acct_session_id.clone();
        let (group, state) = self.group(group);
        let has_room = state.interims.len() < INTERIMS_MAX && state.silent.is_none() && state.on.is_none();
        let line = self.lines.entry(name.clone()).or_default();
        match line.interim {
            // Not even the last one is answered.
            Some(number) if self.under_way.contains_key(&Key::Interim(number)) => {
                self.tally.interims_dropped += 1;
            }
            Some(number) => {
                self.tally.interims_dropped += 1;
                self.interims.insert(number, (group, Arc::new(interim)));
            }
            None if !has_room || !line.records.is_empty() => {
                self.tally.interims_dropped += 1;
                self.forget_line(&name);
            }
            None => {
                self.next_number += 1;
                let number = self.next_number;
                line.interim = Some(number);
                self.interims.insert(number, (group.clone(), Arc::new(interim)));
                self.groups.entry(group).or_default().interims.insert(number);
            }
        }
    }

    /// A server has confirmed it.
    pub fn answered(&mut self, now: Duration, key: Key) {
        let Some((group, _)) = self.landed(key) else {
            return;
        };
        group.silent = None;
        group.answered_at = Some(now);
        match key {
            Key::On(number) => group.on = group.on.filter(|(on, _)| *on != number),
            Key::Owed(sequence) => {
                self.tally.delivered += 1;
                self.drop_record(sequence);
                self.settle(now, sequence);
            }
            Key::Interim(number) => {
                self.tally.interims += 1;
                self.end_interim(number);
            }
        }
    }

    /// No server of the group has confirmed it, as often as it was sent.
    pub fn unanswered(&mut self, now: Duration, key: Key) {
        self.tally.unanswered += 1;
        let Some((group, sent_at)) = self.landed(key) else {
            return;
        };
        if group.answered_at.is_some_and(|at| at > sent_at) {
            return self.left_out(now, sent_at, key);
        }
        // What was under way together fails together: that is one failure.
        let wait = match group.silent {
            Some(silence) if now < silence.until => None,
            Some(silence) => Some((silence.wait * 2).min(RETRY_MAX)),
            None => Some(RETRY_MIN),
        };
        if let Some(wait) = wait {
            let until = now + wait;
            group.silent = Some(Silence { wait, until });
        }
        for number in std::mem::take(&mut group.interims) {
            self.drop_interim(number);
        }
        match key {
            Key::On(_) => {}
            Key::Owed(sequence) => {
                let name = self
                    .records
                    .get(&sequence)
                    .map(|record| record.owed.session.acct_session_id.clone());
                name.iter().for_each(|name| self.refresh(name));
            }
            Key::Interim(number) => {
                self.tally.interims_dropped += 1;
                self.end_interim(number);
            }
        }
    }

    /// The group has answered others meanwhile.
    fn left_out(&mut self, now: Duration, sent_at: Duration, key: Key) {
        let sequence = match key {
            // Nothing else of its group is under way.
            Key::On(_) => return,
            Key::Interim(number) => {
                self.tally.interims_dropped += 1;
                return self.end_interim(number);
            }
            Key::Owed(sequence) => sequence,
        };
        let Some(record) = self.records.get_mut(&sequence) else {
            return;
        };
        let left_out = LeftOut::after(record.left_out, sent_at, now);
        record.left_out = Some(left_out);
        let notice = left_out.notice(&record.owed, &record.group);
        let is_given_up = notice.as_ref().is_some_and(|notice| notice.given_up);
        self.notices.extend(notice);
        if is_given_up {
            self.tally.given_up += 1;
            self.drop_record(sequence);
            return self.settle(now, sequence);
        }
        record.rests = true;
        if let Some(group) = self.groups.get_mut(&record.group) {
            group.resting.insert((left_out.until, sequence));
        }
    }

    /// Records whose next attempt is due.
    fn wake(&mut self, now: Duration) {
        let mut due = Vec::new();
        for group in self.groups.values_mut() {
            while let Some(first) = group.resting.first().filter(|(at, _)| *at <= now) {
                due.push(first.1);
                group.resting.pop_first();
            }
        }
        for sequence in due {
            if let Some(record) = self.records.get_mut(&sequence) {
                record.rests = false;
                let name = record.owed.session.acct_session_id.clone();
                self.refresh(&name);
            }
        }
    }

    /// It is not wanted any more, whatever has become of it.
    pub fn cancelled(&mut self, key: Key) {
        self.landed(key);
    }

    /// The table's answer to [`Command::Acknowledge`]; without one they are acknowledged again.
    pub fn acknowledged(&mut self, now: Duration, sequences: &[u64], accepted: bool) {
        for sequence in sequences {
            if self.asked.remove(sequence) && !accepted {
                self.settle(now, *sequence);
            }
        }
    }

    /// Records of other tunnels are another node's now. What is under way may still arrive, as the other's copy does.
    pub fn retain(&mut self, is_own: impl Fn(TunnelId) -> bool) {
        self.drop_records(|owed| !is_own(owed.tunnel));
    }

    /// The table has no record below this number any more.
    pub fn forget_before(&mut self, first: u64) {
        if self
            .records
            .first_key_value()
            .is_some_and(|(sequence, _)| *sequence < first)
        {
            self.drop_records(|owed| owed.sequence < first);
        }
    }

    /// The table does not have it any more.
    pub fn forget(&mut self, sequence: u64) {
        self.drop_record(sequence);
    }

    /// A record that is yet to be delivered.
    pub fn owed(&self, sequence: u64) -> Option<&Arc<Owed>> {
        self.records.get(&sequence).map(|record| &record.owed)
    }

    /// Records that are yet to be delivered.
    pub fn waiting(&self) -> usize {
        self.records.len()
    }

    /// Groups of which no server answers.
    pub fn silent(&self) -> impl Iterator<Item = &str> {
        let silent = self.groups.iter().filter(|(_, group)| group.silent.is_some());
        silent.map(|(name, _)| &**name)
    }

    /// What has happened since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// What has to be said of single records since this was last asked.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self, now: Duration) -> Option<Command> {
        self.wake(now);
        if let Some(acknowledge) = self.acknowledge(now) {
            return Some(acknowledge);
        }
        let (name, key) = self
            .groups
            .iter()
            .find_map(|(name, group)| Some((name.clone(), group.next(now)?)))?;
        let request = self.request(&name, key);
        let group = self.groups.get_mut(&name).expect("it was just found");
        group.under_way += 1;
        match key {
            Key::On(_) => {}
            Key::Owed(sequence) => {
                group.ready.remove(&sequence);
            }
            Key::Interim(number) => {
                group.interims.remove(&number);
            }
        }
        self.under_way.insert(key, (name.clone(), now));
        Some(Command::Send {
            key,
            group: name,
            request,
        })
    }

    /// When to poll again, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let retries = self.groups.values().filter_map(Group::retry_at);
        let acknowledging = self.unasked_since.map(|since| since + ACKNOWLEDGE_DELAY);
        let resting = self.groups.values().filter_map(|group| group.resting.first());
        let due = resting.map(|(at, _)| *at);
        retries.chain(acknowledging).chain(due).min()
    }
}

impl Group {
    fn next(&self, now: Duration) -> Option<Key> {
        let room = match self.silent {
            Some(silence) if now < silence.until => 0,
            Some(_) => 1,
            None if self.on.is_some() => 1,
            None => WINDOW,
        };
        if self.under_way >= room {
            return None;
        }
        let on = self.on.map(|(number, _)| Key::On(number));
        let owed = || self.ready.first().map(|sequence| Key::Owed(*sequence));
        let interim = || self.interims.first().map(|number| Key::Interim(*number));
        on.or_else(owed).or_else(interim)
    }

    fn retry_at(&self) -> Option<Duration> {
        let has_work = self.on.is_some() || !self.ready.is_empty();
        self.silent
            .filter(|_| has_work && self.under_way == 0)
            .map(|silence| silence.until)
    }
}

impl Sender {
    fn group(&mut self, name: &str) -> (Arc<str>, &mut Group) {
        let name: Arc<str> = match self.groups.get_key_value(name) {
            Some((known, _)) => known.clone(),
            None => name.into(),
        };
        let group = self.groups.entry(name.clone()).or_default();
        (name, group)
    }

    fn request(&self, group: &str, key: Key) -> Request {
        match key {
            Key::On(_) => Request::On {
                unix_s: self
                    .groups
                    .get(group)
                    .and_then(|group| group.on)
                    .map_or(0, |(_, unix_s)| unix_s),
            },
            Key::Owed(sequence) => {
                let record = self.records.get(&sequence).expect("what is ready is there");
                Request::Owed(record.owed.clone(), record.traffic)
            }
            Key::Interim(number) => {
                let (_, interim) = self.interims.get(&number).expect("what waits is there");
                Request::Interim(interim.clone())
            }
        }
    }

    /// Its group, and when it was sent.
    fn landed(&mut self, key: Key) -> Option<(&mut Group, Duration)> {
        let (group, sent_at) = self.under_way.remove(&key)?;
        let group = self.groups.get_mut(&group)?;
        group.under_way -= 1;
        Some((group, sent_at))
    }

    /// Has the first record of a session sent if nothing is in its way.
    fn refresh(&mut self, name: &str) {
        let Some(line) = self.lines.get(name) else { return };
        let Some(&head) = line.records.first().filter(|_| line.interim.is_none()) else {
            return self.forget_line(name);
        };
        let record = self
            .records
            .get(&head)
            .expect("a line names records that are there");
        if record.is_complete() && !record.rests && !self.under_way.contains_key(&Key::Owed(head)) {
            self.groups
                .entry(record.group.clone())
                .or_default()
                .ready
                .insert(head);
        }
    }

    fn forget_line(&mut self, name: &str) {
        let is_idle = |line: &Line| line.records.is_empty() && line.interim.is_none();
        if self.lines.get(name).is_some_and(is_idle) {
            self.lines.remove(name);
        }
    }

    fn drop_records(&mut self, is_dropped: impl Fn(&Owed) -> bool) {
        let dropped = self.records.values().filter(|record| is_dropped(&record.owed));
        let dropped: Vec<u64> = dropped.map(|record| record.owed.sequence).collect();
        for sequence in dropped {
            self.drop_record(sequence);
        }
    }

    fn drop_record(&mut self, sequence: u64) {
        let Some(record) = self.records.remove(&sequence) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&record.group) {
            group.ready.remove(&sequence);
            if let Some(left_out) = record.left_out {
                group.resting.remove(&(left_out.until, sequence));
            }
        }
        let name = &record.owed.session.acct_session_id;
        if let Some(line) = self.lines.get_mut(name) {
            line.records.remove(&sequence);
        }
        self.refresh(name);
    }

    /// One that waits goes unsent.
    fn drop_interim(&mut self, number: u64) {
        self.tally.interims_dropped += 1;
        if let Some((group, _)) = self.interims.get(&number)
            && let Some(group) = self.groups.get_mut(group)
        {
            group.interims.remove(&number);
        }
        self.end_interim(number);
    }

    fn end_interim(&mut self, number: u64) {
        let Some((_, interim)) = self.interims.remove(&number) else {
            return;
        };
        let name = &interim.session.acct_session_id;
        if let Some(line) = self.lines.get_mut(name) {
            line.interim = None;
        }
        self.refresh(name);
    }

    fn settle(&mut self, now: Duration, sequence: u64) {
        self.unasked.insert(sequence);
        self.unasked_since.get_or_insert(now);
    }

    fn acknowledge(&mut self, now: Duration) -> Option<Command> {
        let since = self.unasked_since?;
        if now < since + ACKNOWLEDGE_DELAY && self.unasked.len() < ACKNOWLEDGE_AT_ONCE {
            return None;
        }
        let rest = match self.unasked.iter().nth(ACKNOWLEDGE_AT_ONCE) {
            Some(&first) => self.unasked.split_off(&first),
            None => BTreeSet::new(),
        };
        let sequences = std::mem::replace(&mut self.unasked, rest);
        if self.unasked.is_empty() {
            self.unasked_since = None;
        }
        let asked = sequences.iter().copied().collect();
        self.asked.extend(sequences);
        Some(Command::Acknowledge(asked))
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
