//! Runs the stages: builds the bed, proves generator and counters, then both servers in turn, round after round.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::bed::{Bed, LACS};
use super::cell::{Cell, Direction, L2TPNS_CROWD, Sending, Size, Stage};
use super::cores::{self, Cores};
use super::results::{Better, Metric, Reading, Results};
use super::server::{Kind, Server};
use super::sessions::{Layout, Sessions};
use super::table::short;
use super::tcp;
use super::udp::{self, Shape, Times};
use crate::lab::error::{LabError, Result, expect_that};

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    pub stages: Vec<Stage>,
    /// Each server once a round.
    pub rounds: usize,
    pub times: Times,
    /// Seconds of each TCP transfer.
    pub tcp_seconds: u64,
    pub servers: Vec<Kind>,
    /// LACs over which the tunnels are spread.
    pub lacs: u16,
}

/// A server under test with its sessions, in its bed.
pub(super) struct Stand<'a> {
    pub bed: &'a Bed,
    pub cores: &'a Cores,
    pub plan: &'a Plan,
    pub kind: Kind,
    pub server: Server,
    pub sessions: Sessions,
    /// Octets that the server puts before a packet on its way down.
    pub overhead: usize,
}

const BITS: Metric = Metric {
    name: "",
    unit: "bit/s",
    better: Better::Higher,
};

const RATE: Metric = Metric {
    name: "",
    unit: "packets/s",
    better: Better::Higher,
};

fn nanoseconds(name: &'static str) -> Metric {
    Metric {
        name,
        unit: "ns/packet",
        better: Better::Lower,
    }
}

/// Runs everything; prints as it goes.
pub fn run(plan: &Plan) -> Result<(Results, Vec<String>)> {
    let all = cores::allowed()?;
    let mut results = Results::default();
    let mut settings = Vec::new();
    for stage in plan.stages.iter().filter(|stage| !stage.cells.is_empty()) {
        let cores = Cores::divide(&all, stage.cores);
        // What is started from here on stays off the server's cores, unless it is the server.
        cores::pin(&cores.others)?;
        let bed = Bed::build()?;
        if settings.is_empty() {
            settings = bed.settings();
            settings.iter().for_each(|line| println!("{line}"));
        }
        println!(
            "{}{cores}",
            if stage.name.is_empty() {
                String::new()
            } else {
                format!("{}: ", stage.name)
            }
        );
        ceilings(plan, stage, &bed, &cores, &mut results)?;
        for round in 1..=plan.rounds {
            bare_tcp(plan, stage, &bed, &cores, &mut results)?;
            for kind in &plan.servers {
                println!("round {round} of {}: {kind}", plan.rounds);
                serve(plan, stage, &bed, &cores, *kind, &mut results)?;
            }
        }
    }
    cores::pin(&all)?;
    Ok((results, settings))
}

/// What generator, veths and counters can do where the kernel forwards, without a server.
fn ceilings(plan: &Plan, stage: &Stage, bed: &Bed, cores: &Cores, results: &mut Results) -> Result<()> {
    let mut done = Vec::new();
    let lacs = bed
        .lac
        .enter(|| super::steering::LacSockets::bind(super::bed::lac_address(0)))?;
    let lacs = [lacs.map_err(|source| LabError::io("a LAC's sockets", source))?];
    bed.set_far_offload(false)?;
    for cell in &stage.cells {
        let Cell::Udp {
            direction,
            sending,
            size: Size::Octets(octets),
            ..
        } = *cell
        else {
            continue;
        };
        let shape = Shape {
            direction,
            sending,
            size: Size::Octets(octets),
        };
        if done.contains(&shape) {
            continue;
        }
        done.push(shape);
        let path = udp::bare_path(bed, &lacs, shape, &cores.others)?;
        expect_exact(&path)?;
        let found = path.search(plan.times)?;
        let name = format!("ceiling-{direction}-{sending}-{octets}");
        println!("  {name}: {} packets/s without a server", short(found.rate));
        let reading = Reading {
            metric: RATE,
            value: found.rate,
            note: None,
        };
        results.add(&stage.prefixed(&name), Kind::Bare, vec![reading]);
    }
    Ok(())
}

/// TCP with the bare forwarder in the server's place.
fn bare_tcp(plan: &Plan, stage: &Stage, bed: &Bed, cores: &Cores, results: &mut Results) -> Result<()> {
    for cell in &stage.cells {
        let Cell::Tcp { direction, flows } = *cell else {
            continue;
        };
        let value = tcp::bare(bed, cores, direction, flows, plan.tcp_seconds)?;
        let name = stage.name_of(cell);
        println!("  {name}: {} bit/s by the bare forwarder", short(value));
        let reading = Reading {
            metric: BITS,
            value,
            note: None,
        };
        results.add(&name, Kind::Bare, vec![reading]);
    }
    Ok(())
}

/// The counter counts each packet: all of a slow flow arrive, and not one more.
fn expect_exact(path: &udp::Path<'_>) -> Result<()> {
    path.step(1000.0, Duration::from_millis(50))?;
    let before = path.arrivals.read()?;
    let (sent, _) = path.step(1000.0, Duration::from_millis(100))?;
    let counted = path.arrivals.read()?.since(before).payload();
    // An ARP or a router solicitation may pass by.
    let strays = 200;
    expect_that(
        counted >= sent.payload && counted <= sent.payload + strays,
        || format!("sent {} octets at leisure, counted {counted}", sent.payload),
    )
}

/// One server once through all cells of a stage.
fn serve(
    plan: &Plan,
    stage: &Stage,
    bed: &Bed,
    cores: &Cores,
    kind: Kind,
    results: &mut Results,
) -> Result<()> {
    let started = Instant::now();
    let server = Server::start(kind, bed, cores, stage.cores, &plan.program)?;
    let sessions = if kind == Kind::L2tpns {
        stage.sessions.min(L2TPNS_CROWD)
    } else {
        stage.sessions
    };
    let layout = Layout {
        lacs: plan.lacs.min(stage.tunnels as u16).clamp(1, LACS),
        tunnels: stage.tunnels,
        sessions,
    };
    let mut stand = Stand {
        bed,
        cores,
        plan,
        kind,
        server,
        sessions: Sessions::prepare(bed, layout)?,
        overhead: 0,
    };
    stand.prepare(sessions).map_err(|error| stand.blame(error))?;
    println!(
        "  {sessions} sessions up in {:.1} s",
        started.elapsed().as_secs_f32()
    );
    for cell in &stage.cells {
        let readings = stand.measure(cell).map_err(|error| stand.blame(error))?;
        let name = stage.name_of(cell);
        for reading in &readings {
            let metric = reading.metric;
            println!(
                "  {name} {}: {} {}",
                metric.name,
                short(reading.value),
                metric.unit
            );
        }
        results.add(&name, kind, readings);
    }
    stand.sessions.expect_all_up().map_err(|error| stand.blame(error))
}

impl Stand<'_> {
    fn prepare(&mut self, sessions: u32) -> Result<()> {
        self.bed.set_far_offload(false)?;
        self.sessions.dial(sessions)?;
        self.sessions.expect_forwarding()?;
        self.overhead = udp::overhead(self.bed, &self.sessions)?;
        Ok(())
    }

    /// An error with the server's name and last words.
    fn blame(&self, error: LabError) -> LabError {
        LabError::unmet(format!("{}: {error}\n{}", self.kind, self.server.words()))
    }

    fn measure(&mut self, cell: &Cell) -> Result<Vec<Reading>> {
        match *cell {
            Cell::Udp {
                direction,
                sending,
                size,
                sessions,
            } => self.udp(direction, sending, size, sessions),
            Cell::Tcp { direction, flows } => {
                let seconds = self.plan.tcp_seconds;
                let value = tcp::through(self.bed, self.cores, &self.sessions, direction, flows, seconds)?;
                Ok(vec![Reading {
                    metric: BITS,
                    value,
                    note: None,
                }])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The load's path for so many sessions: up to a hundred of them from one LAC.
    pub fn udp_path(&self, shape: Shape, sessions: usize) -> Result<udp::Path<'_>> {
        let lacs = if sessions > 100 { LACS } else { 1 };
        let subscribers = self.sessions.some(lacs, sessions);
        udp::path(
            self.bed,
            &self.sessions,
            &subscribers,
            shape,
            self.overhead,
            &self.cores.others,
        )
    }

    fn udp(
        &self,
        direction: Direction,
        sending: Sending,
        size: Size,
        sessions: usize,
    ) -> Result<Vec<Reading>> {
        let shape = Shape {
            direction,
            sending,
            size,
        };
        let path = self.udp_path(shape, sessions)?;
        let result = path.measure(self.server.pid(), self.plan.times)?;
        expect_that(result.found.rate > 0.0, || {
            format!("forwards nothing in {direction} direction")
        })?;
        let note = result
            .found
            .generator_bound
            .then(|| "the generator could offer no more".to_owned());
        let plain = |metric, value| Reading {
            metric,
            value,
            note: None,
        };
        Ok(vec![
            Reading {
                note,
                ..plain(RATE, result.found.rate)
            },
            plain(nanoseconds("user"), result.user_ns),
            plain(nanoseconds("system"), result.system_ns),
            plain(nanoseconds("machine"), result.machine_ns),
        ])
    }
}
