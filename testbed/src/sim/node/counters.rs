//! Traffic and its counters, as the packet threads count it and the daemon's checkpoint keeps it: what is shown was written before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::actors::reports::{self, Reports};
use holdfast::server::Totals;
use holdfast::server::sheet::{self, Sheet};
use holdfast_cluster::records::AccountingKind;

use super::process::{Out, Process};
use super::wire::Wire;
use crate::sim::bugs::Bug;
use crate::sim::facts::Fact;

/// Ticks between two packets of some session.
const PACKET_TICKS: u64 = 5;
/// Ticks between two writings, after which the others are told, too.
const WRITE_TICKS: u64 = 500;

/// The two files in a node's data folder. They outlive its processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(Arc<Mutex<(String, String)>>);

/// What one process knows of the traffic.
#[derive(Debug)]
pub(super) struct Counters {
    files: Files,
    inherited: HashMap<String, Totals>,
    counted: BTreeMap<String, Totals>,
    reports: Reports,
}

impl Counters {
    /// Reads what the process before left.
    pub(super) fn read(files: Files, bug: Option<Bug>) -> Self {
        let (own, others) = files.0.lock().expect("one thread").clone();
        let reports = Reports::default();
        let mut inherited = HashMap::new();
        if bug != Some(Bug::CountersForgotten) && !own.is_empty() {
            inherited = sheet::parse(&own).expect("our own format");
            assert!(reports.restore(&others), "our own format");
        }
        Self {
            files,
            inherited,
            counted: BTreeMap::new(),
            reports,
        }
    }

    /// What this node has forwarded of a session itself.
    pub(super) fn own(&self, id: &str) -> Totals {
        let of = |counted: Option<&Totals>| counted.copied().unwrap_or_default();
        of(self.inherited.get(id)).plus(of(self.counted.get(id)))
    }

    /// The same with what the others have told.
    pub(super) fn all(&self, id: &str) -> Totals {
        self.own(id).plus(self.reports.of(id))
    }

    /// Of the sessions whose Stops have lower numbers `node` has said its last word.
    pub(super) fn closed_before(&self, node: u64) -> u64 {
        self.reports.closed_before(node)
    }

    /// What another node has forwarded itself.
    pub(super) fn take_report(&self, from: u64, report: &[u8]) {
        assert!(self.reports.take(from, report).is_some(), "our own format");
    }
}

impl Process {
    /// Any node forwards the data of any session.
    pub(super) fn carry_traffic(&mut self) {
        if self.ticks.is_multiple_of(PACKET_TICKS) {
            let ids: Vec<_> = self.session_ids();
            let at = self.dice.index(ids.len());
            if let Some(id) = ids.into_iter().nth(at) {
                let packet = Totals {
                    rx_packets: 1,
                    rx_octets: 40 + self.dice.below(1400),
                    ..Totals::default()
                };
                let counted = self.counters.counted.entry(id).or_default();
                *counted = counted.plus(packet);
            }
        }
        if self.ticks.is_multiple_of(WRITE_TICKS) {
            self.write_counters();
        }
    }

    fn session_ids(&self) -> Vec<String> {
        let tunnels = self.replica.table().tunnels();
        tunnels
            .flat_map(|(_, found)| found.sessions())
            .map(|(_, row)| row.acct_session_id.clone())
            .collect()
    }

    /// Those of the table, and those that are gone while their Stops lack their traffic.
    fn accountable_ids(&self) -> Vec<String> {
        let open_stops = self
            .replica
            .table()
            .outbox()
            .filter(|owed| owed.kind == AccountingKind::Stop && owed.traffic.is_none());
        let gone = open_stops.map(|owed| owed.session.acct_session_id.clone());
        let ids: BTreeSet<_> = self.session_ids().into_iter().chain(gone).collect();
        ids.into_iter().collect()
    }

    fn write_counters(&mut self) {
        let ids = self.accountable_ids();
        let counters = &self.counters;
        let counted = ids.iter().map(|id| {
            let counted = counters.counted.get(id).copied().unwrap_or_default();
            (id.as_str(), counted)
        });
        let sheet = Sheet::new(&counters.inherited, &counters.reports, counted);
        *counters.files.0.lock().expect("one thread") = (sheet.text, sheet.others);
        counters.reports.retain(|id| sheet.own.contains_key(id));
        let own: BTreeMap<_, _> = sheet.own.iter().collect();
        let own = own.into_iter().map(|(id, totals)| (id.as_str(), *totals));
        // Nobody compares clocks here.
        let frames = reports::encode(Duration::ZERO, own);
        // Of one that is gone nothing is shown: its Stop says what the log says, which a node that restarts may lack for a moment.
        for id in self.session_ids() {
            let octets = sheet.shown[&id].rx_octets;
            self.fact(Fact::Counted {
                node: self.id,
                id,
                octets,
            });
        }
        for to in self.liveness.alive().into_keys().filter(|to| *to != self.id) {
            self.out.extend(frames.iter().map(|frame| Out::Wire {
                to,
                after: Duration::ZERO,
                wire: Wire::Counters(frame.clone()),
            }));
        }
    }
}
