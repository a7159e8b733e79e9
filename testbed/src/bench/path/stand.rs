//! A server under test with its sessions, and each kind of cell measured on it.

use std::time::Duration;

use super::bed::{Bed, LACS};
use super::cell::{Beside, Cell, Direction, RATE_OCTETS, Sending, Size};
use super::cores::Cores;
use super::first_packet;
use super::lanes::{self, Shape};
use super::latency;
use super::rate;
use super::results::{Better, Metric, Reading};
use super::run::Plan;
use super::server::{Kind, Server};
use super::sessions::Sessions;
use super::tcp;
use super::udp;
use crate::daemon::Memory;
use crate::lab::error::{LabError, Result, expect_that};

/// Before memory is measured: logs and allocators come to rest.
const REST: Duration = Duration::from_secs(5);
/// The load whose half runs beside the probes.
const BESIDE: (Sending, Size) = (Sending::Plain, Size::Octets(512));

pub(super) const RATE: Metric = higher("packets/s");
const BITS: Metric = higher("bit/s");
const OFF_RATE: Metric = lower("", "% above the rate");
pub(super) const CALLS: Metric = higher("sessions/s");
const OCTETS: Metric = lower("", "octets/session");

const fn higher(unit: &'static str) -> Metric {
    Metric {
        name: "",
        unit,
        better: Better::Higher,
    }
}

const fn lower(name: &'static str, unit: &'static str) -> Metric {
    Metric {
        name,
        unit,
        better: Better::Lower,
    }
}

/// A number without a note.
pub(super) fn reading(metric: Metric, value: f64) -> Reading {
    Reading {
        metric,
        value,
        note: None,
    }
}

/// Bits a second, and who was busy: a server that was not is not the limit.
pub(super) fn tcp_reading(transfer: tcp::Transfer) -> Vec<Reading> {
    vec![
        reading(BITS, transfer.bits_per_second),
        reading(lower("server-cores", "% busy"), transfer.server_busy),
        reading(lower("other-cores", "% busy"), transfer.others_busy),
    ]
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stand<'a> {
    pub bed: &'a Bed,
    pub cores: &'a Cores,
    pub plan: &'a Plan,
    pub kind: Kind,
    pub server: Server,
    pub sessions: Sessions,
    /// Octets that the server puts before a packet on its way down.
    pub overhead: usize,
    /// Octets that a session takes, and those of the process with all sessions, once measured.
    pub memory: Option<(f64, f64)>,
    /// Mbit/s that each session may have.
    pub rate: Option<u32>,
}

impl Stand<'_> {
    /// Sets the sessions up and sees that packets pass. `few`: memory is measured from there on.
    pub fn prepare(&mut self, sessions: u32, few: Option<u32>) -> Result<()> {
        self.bed.set_far_offload(false)?;
        self.sessions.open_tunnels()?;
        let before = few.map(|few| {
            self.sessions.dial(few)?;
            self.memory_now()
        });
        let before = before.transpose()?;
        self.sessions.dial(sessions)?;
        if let (Some(few), Some(before)) = (few, before) {
            let all = self.memory_now()?;
            self.memory = Some(((all - before) / f64::from(sessions - few), all));
        }
        self.sessions.expect_forwarding()?;
        self.overhead = first_packet::overhead(self.bed, &self.sessions)?;
        Ok(())
    }

    fn memory_now(&self) -> Result<f64> {
        std::thread::sleep(REST);
        let memory = Memory::of(self.server.pid()).map_err(|source| LabError::io("memory", source))?;
        Ok(memory.pss as f64)
    }

    /// An error with the server's name and last words.
    pub fn blame(&self, error: LabError) -> LabError {
        LabError::unmet(format!("{}: {error}\n{}", self.kind, self.server.words()))
    }

    pub fn measure(&self, cell: &Cell) -> Result<Vec<Reading>> {
        match *cell {
            Cell::Udp {
                direction,
                sending,
                size,
                sessions,
            } => {
                let shape = Shape {
                    direction,
                    sending,
                    size,
                    train: self.plan.train,
                };
                self.udp(shape, sessions)
            }
            Cell::Tcp { direction, flows } => self.tcp(direction, flows),
            Cell::Latency { direction, beside } => self.latency(direction, beside),
            // The peer's tables are laid out at its start for all it can hold: the slope alone would not say so.
            Cell::Memory => Ok(self.memory.map_or_else(Vec::new, |(session, all)| {
                vec![reading(OCTETS, session), reading(lower("all", "octets"), all)]
            })),
            Cell::Rate { direction } => self.rate(direction),
            // Measured on servers of their own.
            Cell::Setup { .. } => Ok(Vec::new()),
        }
    }

    /// The load's path for so many sessions: up to a hundred of them from one LAC.
    fn path<'b>(&'b self, shape: Shape, sessions: usize, places: &'b [usize]) -> Result<udp::Path<'b>> {
        let lacs = if sessions > 100 { LACS } else { 1 };
        let subscribers = self.sessions.some(lacs, sessions);
        lanes::path(
            self.bed,
            &self.sessions,
            &subscribers,
            shape,
            self.overhead,
            places,
        )
    }

    fn udp(&self, shape: Shape, sessions: usize) -> Result<Vec<Reading>> {
        let path = self.path(shape, sessions, &self.cores.others)?;
        let result = path.measure(self.server.pid(), self.plan.times)?;
        expect_that(result.found.rate > 0.0, || {
            format!("forwards nothing in {} direction", shape.direction)
        })?;
        let note = result
            .found
            .generator_bound
            .then(|| "the generator could offer no more".to_owned());
        Ok(vec![
            Reading {
                note,
                ..reading(RATE, result.found.rate)
            },
            reading(lower("user", "ns/packet"), result.user_ns),
            reading(lower("system", "ns/packet"), result.system_ns),
            reading(lower("machine", "ns/packet"), result.machine_ns),
        ])
    }

    /// By how much what comes through differs from what all sessions may have together.
    fn rate(&self, direction: Direction) -> Result<Vec<Reading>> {
        let Some(rate) = self.rate else {
            return Ok(Vec::new());
        };
        // Trains would be cut by the burst that a low rate has.
        let (sending, size, train) = (Sending::Plain, Size::Octets(RATE_OCTETS), 1);
        let shape = Shape {
            direction,
            sending,
            size,
            train,
        };
        let sessions = self.sessions.subscribers.len();
        let path = self.path(shape, sessions, &self.cores.others)?;
        let allowed = f64::from(rate) * 1e6 * sessions as f64;
        let found = rate::measure(&path, RATE_OCTETS.into(), allowed, self.server.pid())?;
        Ok(vec![
            reading(OFF_RATE, (found.bits_per_second / allowed - 1.0) * 100.0),
            reading(lower("server", "% of a core"), found.server_busy),
        ])
    }

    fn tcp(&self, direction: Direction, flows: u32) -> Result<Vec<Reading>> {
        let seconds = self.plan.tcp_seconds;
        let transfer = tcp::through(self.bed, self.cores, &self.sessions, direction, flows, seconds)?;
        Ok(tcp_reading(transfer))
    }

    fn latency(&self, direction: Direction, beside: Beside) -> Result<Vec<Reading>> {
        let (core, places) = self
            .cores
            .others
            .split_first()
            .ok_or_else(|| LabError::unmet("no core for the probes"))?;
        let time = self.plan.latency;
        let probe = || latency::measure(self.bed, &self.sessions, direction, *core, time);
        let (latency, note) = match beside {
            Beside::Nothing => (probe()?, None),
            Beside::HalfPeak if places.is_empty() => return Ok(Vec::new()),
            Beside::HalfPeak => {
                let shape = Shape {
                    direction,
                    sending: BESIDE.0,
                    size: BESIDE.1,
                    train: self.plan.train,
                };
                let path = self.path(shape, 1, places)?;
                let rate = path.search(self.plan.times)?.rate / 2.0;
                let latency = std::thread::scope(|scope| {
                    // A little longer than the probes.
                    let load = scope.spawn(|| path.load.run(places, rate, time + Duration::from_millis(400)));
                    let latency = probe();
                    load.join().expect("a generator does not panic")?;
                    latency
                })?;
                (
                    latency,
                    Some(format!("beside {rate:.0} packets/s of {} octets", shape.size)),
                )
            }
        };
        let lost = (latency.lost > 0.0).then(|| format!("{:.2} % of the probes lost", latency.lost * 100.0));
        let p50 = Reading {
            note,
            ..reading(lower("p50", "us"), latency.p50)
        };
        let p99 = Reading {
            note: lost,
            ..reading(lower("p99", "us"), latency.p99)
        };
        Ok(vec![p50, p99])
    }
}
