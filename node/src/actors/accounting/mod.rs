//! The task that has accounting delivered: it reads the table's outbox, asks the pure part what to do, and does it.
//!
//! ```text
//!   table's thread --news--> Keeper --Send--> courier (RADIUS client) --outcome--> Keeper
//!         ^                    |  |
//!         +--- Acknowledge,----+  +--last words of sessions that are gone--> other members
//!              Finalize
//! ```
//!
//! One task a node. It looks after the records of the groups that this node owns; of all others it knows no more than that their Stops
//! want this node's last word.

mod courier;
mod desk;
mod look;
mod servers;

pub use courier::{Courier, Delivery, Outcome};
pub use desk::Desk;
pub use servers::Servers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::Table;
use holdfast_cluster::commands::{Acknowledge, Command as TableCommand, FinalTraffic, Finalize};
use holdfast_cluster::limits::{OUTBOX_MAX, TRAFFIC_FINAL_FROM};
use holdfast_cluster::records::{AccountingKind, Traffic};
use holdfast_cluster::table::Owed;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use self::look::Page;
use super::context::Shared;
use super::reports;
use super::table::ReplyTo;
use crate::aaa::accounting::interim::SessionIds;
use crate::aaa::accounting::sender::{Command, Notice};
use crate::aaa::accounting::{Closing, Interim, Key, Sender, server_group};
use crate::config::duration;
use crate::io::clock;
use crate::logging::Escaped;
use crate::metrics::{Counter, Limit};
use crate::peers::Frame;
use crate::server::{Totals, checkpoint};
use crate::throttled;

/// How often it looks for what nobody tells it: interims, groups that came or went.
const TURN: Duration = Duration::from_millis(250);

/// How often the table is read at most: a record that has become owed waits for others.
const LOOK: Duration = Duration::from_millis(20);

/// Interims that are made in one turn.
const INTERIMS_PER_TURN: usize = 1_024;

/// How long a verdict of the table is waited for.
const VERDICT_PATIENCE: Duration = Duration::from_secs(2);

/// What has come of something that was begun.
enum Done {
    Sent(Key, Outcome),
    Acknowledged(Vec<u64>, bool),
    Finalized(Vec<(u64, Told)>),
}

/// What the table says of a Stop after it was told its traffic.
enum Told {
    Final(Traffic),
    /// It was not told.
    Nothing,
    Gone,
}

/// See the module.
struct Keeper {
    shared: Arc<Shared>,
    courier: Arc<dyn Courier>,
    sender: Sender,
    closing: Closing,
    /// Stops that this node has not closed.
    open_stops: BTreeMap<u64, Arc<Owed>>,
    /// The first record that is yet to be looked at.
    cursor: u64,
    /// Since boot.
    looked_at: Duration,
    /// Something has become owed since.
    has_news: bool,
    /// By group, the epoch under which it was ours when this was last looked at.
    epochs: Vec<Option<u32>>,
    /// Whether an Accounting-On is still to be thought of.
    may_begin: bool,
    /// Told when a first session begins: an Accounting-On that came later would end it.
    begun: watch::Sender<bool>,
    dropped: Option<u64>,
    silent: Vec<String>,
    work: JoinSet<Done>,
}

/// Delivers accounting until the node ends.
pub async fn keep(shared: Arc<Shared>, courier: Arc<dyn Courier>) {
    shared
        .metrics
        .set_limit(Limit::AccountingOutbox, OUTBOX_MAX as u64);
    let mut keeper = Keeper {
        shared: shared.clone(),
        courier,
        sender: Sender::default(),
        closing: Closing::default(),
        open_stops: BTreeMap::new(),
        cursor: 0,
        looked_at: Duration::ZERO,
        has_news: true,
        epochs: vec![None; 256],
        may_begin: true,
        begun: watch::Sender::new(false),
        dropped: None,
        silent: Vec::new(),
        work: JoinSet::new(),
    };
    loop {
        keeper.turn().await;
        let wait = keeper.patience();
        tokio::select! {
            () = shared.table.published().accounting.news() => keeper.has_news = true,
            Some(done) = keeper.work.join_next() => match done {
                Ok(done) => keeper.on_done(done),
                Err(error) => tracing::error!(%error, "a task of accounting panicked; what it had to do is done again after a restart"),
            },
            () = tokio::time::sleep(wait) => {}
        }
        // What has been done meanwhile is taken in one turn.
        while let Some(Ok(done)) = keeper.work.try_join_next() {
            keeper.on_done(done);
        }
    }
}

impl Keeper {
    fn patience(&self) -> Duration {
        let now = clock::since_boot();
        let look = self.looked_at + if self.has_news { LOOK } else { TURN };
        let deadlines = [
            Some(look),
            self.sender.poll_timeout(),
            self.closing.poll_timeout(),
        ];
        let next = deadlines.into_iter().flatten().min();
        next.map_or(TURN, |at| {
            at.saturating_sub(now).clamp(Duration::from_millis(1), TURN)
        })
    }

    async fn turn(&mut self) {
        self.follow_groups();
        self.follow_configuration();
        let now = clock::since_boot();
        if now >= self.looked_at + if self.has_news { LOOK } else { TURN } {
            (self.looked_at, self.has_news) = (now, false);
            self.read_outbox().await;
            self.make_interims().await;
        }
        self.close_stops();
        self.finalize_stops();
        let now = clock::since_boot();
        while let Some(command) = self.sender.poll_output(now) {
            self.carry_out(command);
        }
        self.count();
    }

    async fn read_outbox(&mut self) {
        while let Some(page) = look::page(&self.shared.table, self.cursor).await {
            let is_last = page.is_last;
            self.on_page(page);
            if is_last {
                break;
            }
        }
    }

    /// Groups that were taken bring what is owed for them; those that are another's now are that one's.
    fn follow_groups(&mut self) {
        let published = self.shared.table.published();
        let epochs: Vec<_> = (0..=u8::MAX).map(|group| published.own_epoch(group)).collect();
        if epochs == self.epochs {
            return;
        }
        self.epochs = epochs;
        self.sender.retain(|tunnel| published.owns(tunnel));
        self.closing
            .forget(|sequence| !self.sender.wants_traffic(sequence));
        (self.cursor, self.has_news) = (0, true);
    }

    fn follow_configuration(&self) {
        let desk = &self.shared.table.published().accounting;
        if desk.set_interval(self.courier.interim_interval_s()) {
            let published = self.shared.clone();
            // Should the table have no time now, the interval counts from the sessions' next change on.
            self.shared
                .table
                .query(move |table| published.table.published().accounting.rebuild(table));
        }
    }

    fn on_page(&mut self, page: Page) {
        let now = clock::since_boot();
        self.sender.forget_before(page.first);
        self.begin(&page);
        for owed in &page.records {
            let is_open = owed.kind == AccountingKind::Stop && owed.traffic.is_none();
            if is_open && owed.sequence >= self.closing.seen_before() {
                self.open_stops.insert(owed.sequence, owed.clone());
            }
            self.closing.note(now, owed.sequence, is_open);
            if self.shared.table.published().owns(owed.tunnel) {
                self.owe(now, owed);
            }
        }
        self.cursor = page.next;
        self.closing.seen(page.next);
        self.shared
            .metrics
            .set_current(Limit::AccountingOutbox, page.length as u64);
        self.note_dropped(page.dropped);
    }

    fn owe(&mut self, now: Duration, owed: &Arc<Owed>) {
        let group = server_group(&owed.session).filter(|group| self.courier.accounts(group));
        self.sender.owe(now, owed, group);
        if self.sender.wants_traffic(owed.sequence) {
            self.closing.want(now, owed.sequence);
        }
    }

    /// Says once that the cluster begins, if it does and this node speaks for it.
    fn begin(&mut self, page: &Page) {
        if page.next_owed > 0 && self.may_begin {
            self.may_begin = false;
            self.begun.send_replace(true);
        }
        if self.may_begin && self.shared.table.published().leads() {
            self.may_begin = false;
            for group in self.courier.groups() {
                self.sender.announce(&group, clock::unix().as_secs());
            }
        }
    }

    fn note_dropped(&mut self, dropped: u64) {
        let new = dropped.saturating_sub(self.dropped.replace(dropped).unwrap_or(dropped));
        if new > 0 {
            self.shared.metrics.add(Counter::AccountingDropped, new);
            self.shared.metrics.hit(Limit::AccountingOutbox);
            throttled!(
                error,
                dropped = new,
                bound = OUTBOX_MAX,
                "accounting records are lost: no server has taken them for so long that the oldest make room for new ones"
            );
        }
    }

    /// This node's last word of sessions that are gone.
    fn close_stops(&mut self) {
        let desk = &self.shared.table.published().accounting;
        let closed = self.closing.close(clock::since_boot());
        let closed_before = self.closing.closed_before();
        if closed_before == desk.closed_before() {
            return;
        }
        desk.set_closed_before(closed_before);
        let stops = closed
            .iter()
            .filter_map(|sequence| self.open_stops.remove(sequence));
        let said: Vec<_> = stops
            .filter_map(|owed| {
                let name = &owed.session.acct_session_id;
                let totals = checkpoint::own_totals(&self.shared, ids_of(&owed)?, name);
                (totals != Totals::default()).then(|| (name.clone(), totals))
            })
            .collect();
        let Some(members) = &self.shared.members else {
            return;
        };
        let totals = said.iter().map(|(name, totals)| (name.as_str(), *totals));
        let frames = reports::encode_closing(clock::unix(), totals, closed_before);
        for node in members.peers().connected() {
            for frame in &frames {
                // What does not fit comes with the next report.
                members.peers().send(node, Frame::Counters(frame.clone()));
            }
        }
    }

    /// Stops of which every node has said its last word get their traffic, by the table, so that each copy says the same.
    fn finalize_stops(&mut self) {
        let members = self.shared.members.as_ref().map_or_else(Vec::new, |members| {
            let connected = members.peers().connected();
            connected
                .into_iter()
                .map(|node| members.reports().closed_before(node))
                .collect()
        });
        let known = self.closing.take_final(clock::since_boot(), &members);
        let records: Vec<FinalTraffic> = known
            .into_iter()
            .filter_map(|sequence| {
                let owed = self.sender.owed(sequence)?;
                let name = &owed.session.acct_session_id;
                let totals = checkpoint::all_totals(&self.shared, ids_of(owed)?, name);
                let traffic = Some(traffic(totals));
                Some(FinalTraffic { sequence, traffic })
            })
            .collect();
        if records.is_empty() {
            return;
        }
        if self.shared.table.published().version() < TRAFFIC_FINAL_FROM {
            for FinalTraffic { sequence, traffic } in records {
                self.sender.finalize(sequence, traffic.unwrap_or_default());
            }
            return;
        }
        let table = self.shared.table.clone();
        let sequences: Vec<u64> = records.iter().map(|last| last.sequence).collect();
        let verdict = self.propose(Finalize { records }.into());
        self.work.spawn(async move {
            let asked = sequences.clone();
            let told = match verdict.await {
                true => {
                    table
                        .ask(move |table| asked.into_iter().map(|sequence| told(table, sequence)).collect())
                        .await
                }
                false => None,
            };
            let nothing = || {
                sequences
                    .into_iter()
                    .map(|sequence| (sequence, Told::Nothing))
                    .collect()
            };
            Done::Finalized(told.unwrap_or_else(nothing))
        });
    }

    async fn make_interims(&mut self) {
        // Who is no owner any more may not know it yet, and its figures would be other ones than its successor's.
        let fresh_until = self.shared.members.as_ref().map(|members| members.fresh_until());
        if fresh_until.is_some_and(|until| until < clock::since_boot()) {
            return;
        }
        let published = self.shared.table.published();
        let due = published
            .accounting
            .take_due(published.table_ms(), INTERIMS_PER_TURN);
        let own: Vec<SessionIds> = due
            .into_iter()
            .filter(|(tunnel, _)| published.owns(*tunnel))
            .collect();
        if own.is_empty() {
            return;
        }
        for due in look::sessions(&self.shared.table, own).await {
            let session = &due.session;
            let Some(group) = server_group(session).filter(|group| self.courier.accounts(group)) else {
                continue;
            };
            let interim = Interim {
                traffic: traffic(self.shared.checkpoint.totals(&session.acct_session_id)),
                tunnel: due.tunnel,
                session: session.clone(),
                now_ms: due.now_ms,
                unix_s: clock::unix().as_secs(),
            };
            self.sender.interim(group, interim);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Send { key, group, request } => {
                let delivery = self.courier.deliver(&group, request);
                let begun = matches!(key, Key::On(_)).then(|| self.begun.subscribe());
                self.work.spawn(async move {
                    let outcome = match begun {
                        None => delivery.await,
                        Some(mut begun) => tokio::select! {
                            outcome = delivery => outcome,
                            _ = begun.wait_for(|begun| *begun) => Outcome::Cancelled,
                        },
                    };
                    Done::Sent(key, outcome)
                });
            }
            Command::Acknowledge(sequences) => {
                let acknowledge = Acknowledge {
                    sequences: sequences.clone(),
                };
                let verdict = self.propose(acknowledge.into());
                self.work
                    .spawn(async move { Done::Acknowledged(sequences, verdict.await) });
            }
        }
    }

    /// Whether the table accepts it; `false` also if that is not known in time.
    fn propose(&self, command: TableCommand) -> impl Future<Output = bool> + Send + use<> {
        let (reply, verdict) = oneshot::channel();
        self.shared.table.propose(ReplyTo::Waiter(reply), command);
        async move {
            let verdict = tokio::time::timeout(VERDICT_PATIENCE, verdict).await;
            matches!(verdict, Ok(Ok(verdict)) if verdict.is_accepted())
        }
    }

    fn on_done(&mut self, done: Done) {
        let now = clock::since_boot();
        match done {
            Done::Sent(key, Outcome::Confirmed) => self.sender.answered(now, key),
            Done::Sent(key, Outcome::Unanswered) => self.sender.unanswered(now, key),
            Done::Sent(key, Outcome::Cancelled) => self.sender.cancelled(key),
            Done::Sent(key, Outcome::Impossible(why)) => {
                self.shared.metrics.count(Counter::AccountingImpossible);
                throttled!(
                    error,
                    ?key,
                    %why,
                    "an accounting record cannot be written, and is passed over"
                );
                self.sender.answered(now, key);
            }
            Done::Acknowledged(sequences, accepted) => self.sender.acknowledged(now, &sequences, accepted),
            Done::Finalized(told) => told.into_iter().for_each(|(sequence, told)| match told {
                Told::Final(traffic) => self.sender.finalize(sequence, traffic),
                Told::Nothing if self.sender.wants_traffic(sequence) => self.closing.want(now, sequence),
                Told::Nothing => {}
                Told::Gone => self.sender.forget(sequence),
            }),
        }
    }

    fn count(&mut self) {
        let tally = self.sender.take_tally();
        for (counter, by) in [
            (Counter::AccountingDelivered, tally.delivered),
            (Counter::AccountingInterims, tally.interims),
            (Counter::AccountingUnanswered, tally.unanswered),
            (Counter::AccountingGivenUp, tally.given_up),
            (Counter::AccountingInterimsDropped, tally.interims_dropped),
        ] {
            self.shared.metrics.add(counter, by);
        }
        self.sender.take_notices().iter().for_each(log_left_out);
        if tally.on_given_up > 0 {
            tracing::warn!(
                "no server has confirmed the Accounting-On before the first session: sessions of an earlier cluster may still count at it"
            );
        }
        let silent: Vec<String> = self.sender.silent().map(str::to_owned).collect();
        for group in silent.iter().filter(|group| !self.silent.contains(group)) {
            tracing::warn!(
                group,
                records = self.sender.waiting(),
                "no accounting server of the group answers; its records are kept and tried again"
            );
        }
        for group in self.silent.iter().filter(|group| !silent.contains(group)) {
            tracing::info!(group, "accounting servers of the group answer again");
        }
        self.silent = silent;
    }
}

fn log_left_out(notice: &Notice) {
    let (session, group) = (&notice.owed.session.acct_session_id, &notice.group);
    let user = Escaped(notice.owed.session.user().unwrap_or_default());
    let (kind, lasted) = (notice.owed.kind, duration::format(notice.lasted));
    match notice.given_up {
        false => throttled!(
            warn,
            %session,
            %user,
            %group,
            ?kind,
            "the accounting servers of the group answer others and have not answered this record for {lasted}; it is tried again"
        ),
        true => tracing::error!(
            %session,
            %user,
            %group,
            ?kind,
            "an accounting record is given up: for {lasted} the servers of the group have answered others, and never this one"
        ),
    }
}

fn told(table: &Table, sequence: u64) -> (u64, Told) {
    let told = match table.owed(sequence) {
        None => Told::Gone,
        Some(owed) => owed.traffic.map_or(Told::Nothing, Told::Final),
    };
    (sequence, told)
}

fn ids_of(owed: &Owed) -> Option<SessionIds> {
    Some((owed.tunnel, owed.session.id()?))
}

fn traffic(totals: Totals) -> Traffic {
    Traffic {
        input_octets: totals.rx_octets,
        output_octets: totals.tx_octets,
        input_packets: totals.rx_packets,
        output_packets: totals.tx_packets,
    }
}
