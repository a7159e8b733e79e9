//! Sessions a second: calls through fresh tunnels of a fresh server.

use super::bed::{Bed, LACS};
use super::cell::Cell;
use super::cores::Cores;
use super::results::Reading;
use super::run::Plan;
use super::server::{Kind, Server};
use super::sessions::{Layout, Sessions};
use super::stand::{CALLS, reading};
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
    let Cell::Setup { tunnels } = *cell else {
        return Ok(None);
    };
    let _server = Server::start(kind, bed, cores, cores.server.len(), false, &plan.program)?;
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
    let mut notes = vec![match kind {
        // Both accept everybody; what differs is named.
        Kind::Holdfast => "local users, log synced".to_owned(),
        _ => "RADIUS on loopback, nothing on disk".to_owned(),
    }];
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
