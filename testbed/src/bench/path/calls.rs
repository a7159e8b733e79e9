//! Sessions a second: calls through fresh tunnels of a fresh server.

use super::bed::{Bed, FIRST_SUBSCRIBER, LACS};
use super::cell::Cell;
use super::cores::Cores;
use super::results::Reading;
use super::run::Plan;
use super::server::{Kind, Server};
use super::sessions::{Layout, Sessions};
use super::stand::{CALLS, reading};
use crate::bench::radius::Radius;
use crate::bench::setup::measure;
use crate::bench::{Setting, release};
use crate::lab::error::{LabError, Result};
use crate::simulator::Command;

/// Sessions that are set up.
const SESSIONS: u32 = 10_000;
/// Calls on their way at once.
const CONCURRENCY: u32 = 400;

/// Measures a cell, if it is one of set-up.
pub fn setup(plan: &Plan, bed: &Bed, cores: &Cores, kind: Kind, cell: &Cell) -> Result<Option<Vec<Reading>>> {
    let Cell::Setup { tunnels, radius } = *cell else {
        return Ok(None);
    };
    // l2tpns starts its own, the same.
    let radius = (radius && kind == Kind::Holdfast).then(|| Radius::start_in(&bed.server, FIRST_SUBSCRIBER));
    let radius = radius.transpose()?;
    let sections = radius.as_ref().map(Radius::section).unwrap_or_default();
    let _server = Server::start(kind, bed, cores, cores.server.len(), &sections, &plan.program)?;
    let layout = Layout {
        lacs: u16::try_from(tunnels).unwrap_or(LACS).min(LACS),
        tunnels,
        sessions: SESSIONS,
    };
    let mut sessions = Sessions::prepare(bed, layout)?;
    let setting = Setting {
        program: plan.program.clone(),
        testbed: Default::default(),
        sessions: SESSIONS,
        tunnels,
        concurrency: CONCURRENCY,
    };
    sessions.open_tunnels()?;
    release(&mut sessions.simulator).map_err(LabError::unmet)?;
    let reset = sessions.simulator.ask(&Command::ResetMeasurements);
    reset.map_err(LabError::unmet)?;
    let result = measure(&mut sessions.simulator, &setting).map_err(LabError::unmet)?;
    // All accept everybody; what differs is named.
    let what = match (kind, &radius) {
        (Kind::Holdfast, None) => "local users, log synced",
        (Kind::Holdfast, Some(_)) => "RADIUS on loopback, log synced",
        _ => "RADIUS on loopback, nothing on disk",
    };
    let mut notes = vec![what.to_owned()];
    if !result.is_complete() {
        notes.push(format!(
            "{} of {SESSIONS} open, {} silent",
            result.sessions_open, result.sessions_silent
        ));
    }
    let rate = Reading {
        note: Some(notes.join("; ")),
        ..reading(CALLS, result.sessions_per_second)
    };
    Ok(Some(vec![rate]))
}
