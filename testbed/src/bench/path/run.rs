//! Runs the stages: builds the bed, proves generator and counters, then both servers in turn, round after round.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::bed::{Bed, LACS};
use super::calls;
use super::cell::{Cell, L2TPNS_CROWD, Size, Stage};
use super::cores::{self, Cores};
use super::lanes::{self, Shape};
use super::results::{Reading, Results};
use super::server::{Kind, Server, policy};
use super::sessions::{Layout, Sessions};
use super::stand::{RATE, Stand, reading, tcp_reading};
use super::table::short;
use super::tcp;
use super::udp::{self, Times};
use crate::lab::error::{LabError, Result};

/// Octets of an ARP or two, which may pass by while packets are counted.
const STRAYS: u64 = 200;
/// The first packets look for their neighbours.
const ATTEMPTS: u32 = 4;

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
    /// How long probes of latency are sent.
    pub latency: Duration,
    /// Datagrams of a train of plain load.
    pub train: usize,
    pub servers: Vec<Kind>,
    /// LACs over which the tunnels are spread.
    pub lacs: u16,
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
            settings.push(format!(
                "plain load: single datagrams on the veths, in trains of up to {} where they have one size and one destination",
                plan.train
            ));
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
            for kind in measured(plan, stage) {
                println!("round {round} of {}: {kind}", plan.rounds);
                serve(plan, stage, &bed, &cores, kind, &mut results)?;
            }
        }
    }
    cores::pin(&all)?;
    Ok((results, settings))
}

/// Rates are Holdfast's alone, and what they cost is shown by itself without.
fn measured(plan: &Plan, stage: &Stage) -> Vec<Kind> {
    let compared = stage.cells.iter().any(|cell| matches!(cell, Cell::Udp { .. }));
    match (stage.rate, plan.servers.contains(&Kind::Holdfast)) {
        (None, _) => plan.servers.clone(),
        (Some(_), false) => Vec::new(),
        (Some(_), true) if compared => vec![Kind::Holdfast, Kind::Rated],
        (Some(_), true) => vec![Kind::Rated],
    }
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
            train: plan.train,
        };
        if done.contains(&shape) {
            continue;
        }
        done.push(shape);
        let path = lanes::bare_path(bed, &lacs, shape, &cores.others)?;
        expect_exact(&path)?;
        let found = path.search(plan.times)?;
        let name = format!("ceiling-{direction}-{sending}-{octets}");
        record(
            results,
            &stage.prefixed(&name),
            Kind::Bare,
            vec![reading(RATE, found.rate)],
        );
    }
    Ok(())
}

/// TCP with the bare forwarder in the server's place.
fn bare_tcp(plan: &Plan, stage: &Stage, bed: &Bed, cores: &Cores, results: &mut Results) -> Result<()> {
    for cell in &stage.cells {
        let Cell::Tcp { direction, flows } = *cell else {
            continue;
        };
        let transfer = tcp::bare(bed, cores, direction, flows, plan.tcp_seconds)?;
        record(results, &stage.name_of(cell), Kind::Bare, tcp_reading(transfer));
    }
    Ok(())
}

/// The counter counts each packet: all of a slow flow arrive, and not one more.
fn expect_exact(path: &udp::Path<'_>) -> Result<()> {
    let mut found = String::new();
    for _ in 0..ATTEMPTS {
        let before = path.arrivals.read()?;
        let (sent, _) = path.step(1000.0, Duration::from_millis(100))?;
        let counted = path.arrivals.read()?.since(before).payload();
        if (sent.payload..=sent.payload + STRAYS).contains(&counted) {
            return Ok(());
        }
        found = format!("sent {} octets at leisure, counted {counted}", sent.payload);
    }
    Err(LabError::unmet(found))
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
    if stage.sessions == 0 {
        for cell in &stage.cells {
            if let Some(readings) = calls::setup(plan, bed, cores, kind, cell)? {
                record(results, &stage.name_of(cell), kind, readings);
            }
        }
        return Ok(());
    }
    let started = Instant::now();
    let sections = match (stage.rate, kind) {
        (Some(rate), Kind::Rated) => policy(rate),
        _ => String::new(),
    };
    let server = Server::start(kind, bed, cores, stage.cores, &sections, &plan.program)?;
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
        memory: None,
        rate: stage.rate,
    };
    let few = stage.cells.contains(&Cell::Memory).then_some(sessions / 10);
    let prepared = stand.prepare(sessions, few);
    prepared.map_err(|error| stand.blame(error))?;
    println!(
        "  {sessions} sessions up in {:.1} s",
        started.elapsed().as_secs_f32()
    );
    for cell in &stage.cells {
        let readings = stand.measure(cell).map_err(|error| stand.blame(error))?;
        record(results, &stage.name_of(cell), kind, readings);
    }
    let lost = stand.sessions.lost()?;
    if lost > 0 {
        println!("  {kind} lost {lost} sessions under the load");
    }
    Ok(())
}

/// Prints readings and keeps them.
fn record(results: &mut Results, cell: &str, kind: Kind, readings: Vec<Reading>) {
    for Reading { metric, value, note } in &readings {
        let name = [cell, metric.name].join(" ");
        let note = note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        println!(
            "  {} {kind}: {} {}{note}",
            name.trim_end(),
            short(*value),
            metric.unit
        );
    }
    results.add(cell, kind, readings);
}
