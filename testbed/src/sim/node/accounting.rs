//! Accounting as the daemon delivers it: each owner has the server receive what its groups owe, with the traffic that all nodes tell of a
//! session that is gone, and takes off the table what the server has confirmed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast::aaa::accounting::sender::Command;
use holdfast::aaa::accounting::{Closing, Key, Request, Sender};
use holdfast::actors::reports;
use holdfast_cluster::commands::{Acknowledge, FinalTraffic, Finalize};
use holdfast_cluster::limits::TRAFFIC_FINAL_FROM;
use holdfast_cluster::records::{AccountingKind, Traffic};
use holdfast_cluster::table::{Group, Owed};

use super::process::{Out, Process};
use super::table::Reply;
use super::wire::Wire;
use crate::sim::bugs::Bug;
use crate::sim::dice::Dice;
use crate::sim::facts::Fact;

/// Ticks between two looks.
const LOOK_TICKS: u64 = 10;
/// Ticks for which a request is under way, at most: its repetitions are among them.
const FLIGHT_TICKS: u64 = 100;
/// Ticks after which a proposal of accounting has come to nothing.
const VERDICT_TICKS: u64 = 300;
/// How many of a thousand requests the server does not receive, however often they are sent, and how many of its answers are lost.
const LOST: u64 = 250;

/// All that is accounted.
const GROUP: &str = "isp";

#[derive(Debug)]
struct Flight {
    lands_at: u64,
    key: Key,
    request: Request,
}

/// What one process knows of accounting.
#[derive(Debug)]
pub(super) struct Books {
    sender: Sender,
    closing: Closing,
    open_stops: BTreeMap<u64, Arc<Owed>>,
    cursor: u64,
    groups: Vec<Group>,
    flights: Vec<Flight>,
    /// Acknowledged and told, and when it is time to look what has come of it.
    asked: Vec<(u64, Vec<u64>)>,
    told: Vec<(u64, u64)>,
    /// From then on the server misses nothing: what is not delivered by the end is not delivered.
    well_from: Duration,
    dice: Dice,
}

impl Books {
    pub(super) fn new(dice: Dice, well_from: Duration) -> Self {
        Self {
            sender: Sender::default(),
            closing: Closing::default(),
            open_stops: BTreeMap::new(),
            cursor: 0,
            groups: Vec::new(),
            flights: Vec::new(),
            asked: Vec::new(),
            told: Vec::new(),
            well_from,
            dice,
        }
    }
}

impl Process {
    pub(super) fn account(&mut self) {
        if !self.ticks.is_multiple_of(LOOK_TICKS) {
            return;
        }
        self.read_outbox();
        self.close_stops();
        self.finalize_stops();
        self.hear_of_proposals();
        self.land_requests();
        self.send_requests();
    }

    fn read_outbox(&mut self) {
        if self.books.groups != self.groups {
            self.books.groups.clone_from(&self.groups);
            let (groups, id, registered) = (self.groups.clone(), self.id, self.registered);
            let books = &mut self.books;
            books
                .sender
                .retain(|tunnel| registered && groups[usize::from(tunnel.group())].owner == id);
            let sender = &books.sender;
            books.closing.forget(|sequence| !sender.wants_traffic(sequence));
            books.cursor = 0;
        }
        if !self.registered {
            return;
        }
        let table = self.replica.table();
        let records: Vec<_> = table.outbox_from(self.books.cursor).cloned().collect();
        let next = table.next_owed();
        for owed in records {
            let is_open = owed.kind == AccountingKind::Stop && owed.traffic.is_none();
            if is_open && owed.sequence >= self.books.closing.seen_before() {
                self.books.open_stops.insert(owed.sequence, owed.clone());
            }
            self.books.closing.note(self.now, owed.sequence, is_open);
            if self.owns(owed.tunnel.group()) {
                self.books.sender.owe(self.now, &owed, Some(GROUP));
                if self.books.sender.wants_traffic(owed.sequence) {
                    self.books.closing.want(self.now, owed.sequence);
                }
            }
        }
        self.books.cursor = next;
        self.books.closing.seen(next);
    }

    fn close_stops(&mut self) {
        let before = self.books.closing.closed_before();
        let closed = self.books.closing.close(self.now);
        let closed_before = self.books.closing.closed_before();
        if closed_before == before && !self.ticks.is_multiple_of(100) {
            return;
        }
        let names: Vec<String> = closed
            .iter()
            .filter_map(|sequence| self.books.open_stops.remove(sequence))
            .map(|owed| owed.session.acct_session_id.clone())
            .collect();
        let said: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), self.counters.own(name)))
            .collect();
        let frames = reports::encode_closing(Duration::ZERO, said.into_iter(), closed_before);
        for to in self.others() {
            self.out.extend(frames.iter().map(|frame| Out::Wire {
                to,
                after: Duration::ZERO,
                wire: Wire::Counters(frame.clone()),
            }));
        }
    }

    fn others(&self) -> Vec<u64> {
        let alive = self.liveness.alive().into_keys();
        alive.filter(|node| *node != self.id).collect()
    }

    fn finalize_stops(&mut self) {
        let members: Vec<u64> = self
            .others()
            .iter()
            .map(|node| self.counters.closed_before(*node))
            .collect();
        let known = self.books.closing.take_final(self.now, &members);
        let records: Vec<_> = known
            .into_iter()
            .filter_map(|sequence| {
                let name = &self.books.sender.owed(sequence)?.session.acct_session_id;
                let traffic = Some(self.traffic_of(name));
                Some(FinalTraffic { sequence, traffic })
            })
            .collect();
        if records.is_empty() {
            return;
        }
        let by_log = self.replica.table().version() >= TRAFFIC_FINAL_FROM && !self.has(Bug::StopsDiffer);
        for FinalTraffic { sequence, traffic } in &records {
            match by_log {
                true => self.books.told.push((self.ticks + VERDICT_TICKS, *sequence)),
                false => self.books.sender.finalize(*sequence, traffic.unwrap_or_default()),
            }
        }
        if by_log {
            self.propose(Reply::Nobody, Finalize { records });
        }
    }

    fn traffic_of(&self, name: &str) -> Traffic {
        let totals = self.counters.all(name);
        Traffic {
            input_octets: totals.rx_octets,
            output_octets: totals.tx_octets,
            input_packets: totals.rx_packets,
            output_packets: totals.tx_packets,
        }
    }

    /// The table says what it has accepted.
    fn hear_of_proposals(&mut self) {
        let table = self.replica.table();
        let (ticks, now) = (self.ticks, self.now);
        let Books {
            sender,
            closing,
            asked,
            told,
            ..
        } = &mut self.books;
        told.retain(|(give_up_at, sequence)| {
            match table.owed(*sequence).map(|owed| owed.traffic) {
                None => sender.forget(*sequence),
                Some(Some(traffic)) => sender.finalize(*sequence, traffic),
                Some(None) if ticks < *give_up_at => return true,
                Some(None) if sender.wants_traffic(*sequence) => closing.want(now, *sequence),
                Some(None) => {}
            }
            false
        });
        asked.retain(|(give_up_at, sequences)| {
            let gone = sequences.iter().all(|sequence| table.owed(*sequence).is_none());
            if gone || ticks >= *give_up_at {
                sender.acknowledged(now, sequences, gone);
                return false;
            }
            true
        });
    }

    fn land_requests(&mut self) {
        let ticks = self.ticks;
        let landed: Vec<Flight> = self
            .books
            .flights
            .extract_if(.., |flight| flight.lands_at <= ticks)
            .collect();
        for flight in landed {
            let lost = if self.world < self.books.well_from {
                LOST
            } else {
                0
            };
            let (is_received, is_answered) = (!self.books.dice.happens(lost), !self.books.dice.happens(lost));
            if let Request::Owed(owed, traffic) = flight.request
                && is_received
            {
                self.fact(Fact::Accounted {
                    sequence: owed.sequence,
                    kind: owed.kind,
                    id: owed.session.acct_session_id.clone(),
                    octets: traffic.map(|traffic| traffic.input_octets),
                });
            }
            let seems_received = (is_received && is_answered) || self.has(Bug::AccountingSettledUnseen);
            match seems_received {
                true => self.books.sender.answered(self.now, flight.key),
                false => self.books.sender.unanswered(self.now, flight.key),
            }
        }
    }

    fn send_requests(&mut self) {
        while let Some(command) = self.books.sender.poll_output(self.now) {
            match command {
                Command::Send { key, request, .. } => {
                    let lands_at = self.ticks + 1 + self.books.dice.below(FLIGHT_TICKS);
                    self.books.flights.push(Flight {
                        lands_at,
                        key,
                        request,
                    });
                }
                Command::Acknowledge(sequences) => {
                    self.books
                        .asked
                        .push((self.ticks + VERDICT_TICKS, sequences.clone()));
                    self.propose(Reply::Nobody, Acknowledge { sequences });
                }
            }
        }
    }
}
