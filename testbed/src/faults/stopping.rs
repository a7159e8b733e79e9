//! Orders to stop: SIGTERM keeps the sessions, `shutdown --disconnect` ends them.

use std::process::Command as Process;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::error::{Error, Outcome, ensure, ensure_says};
use super::site::{PATIENCE, Site, ensure_undisturbed};
use super::{Setting, node_api};
use crate::node_config::Settings;
use crate::simulator::Command;

const SESSIONS: u32 = 1000;
const TUNNELS: u32 = 20;
const ROUNDS: u32 = 5;
/// Calls that arrive in each round, and how fast.
const CALLS: u32 = 40;
const CALL_RATE: f64 = 40.0;
/// How long the calls of the last rounds may take to come up or fail.
const SETTLE: Duration = Duration::from_secs(70);
/// SIGTERM stops fast.
const STOP_TIME: Duration = Duration::from_secs(2);

/// SIGTERM at random moments while calls arrive.
pub fn sigterm_storm(setting: &Setting) -> Result<Outcome, Error> {
    let mut random = StdRng::seed_from_u64(setting.seed);
    let mut site = Site::start(setting, &Settings::default())?;
    let plan = site.plan(TUNNELS, SESSIONS + ROUNDS * CALLS);
    let mut simulator = site.dial(&plan, SESSIONS)?;
    let mut slowest = Duration::ZERO;
    for _ in 0..ROUNDS {
        simulator.dial_paced(CALLS, CALL_RATE)?;
        std::thread::sleep(Duration::from_millis(random.random_range(0..1500)));
        let asked = std::time::Instant::now();
        let status = site.node().daemon.terminate()?;
        slowest = slowest.max(asked.elapsed());
        ensure(status.success(), || {
            format!("SIGTERM ended the node with {status}")
        })?;
        std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
        site.node().daemon.start()?;
    }
    let report = simulator.wait_until("the end of the set-ups", SETTLE, |report| {
        report.sessions_pending == 0
    })?;
    let open = u32::try_from(report.sessions_open).unwrap_or(u32::MAX);
    ensure(open >= SESSIONS, || {
        format!("only {open} sessions are open: {:?}", report.losses)
    })?;
    ensure_undisturbed(&mut simulator, open)?;
    ensure(slowest < STOP_TIME, || format!("SIGTERM took {slowest:?}"))?;
    Ok(Outcome::Held(format!(
        "{ROUNDS} times, {SESSIONS} sessions lost nothing, {} calls failed meanwhile; slowest stop {:.2} s",
        report.sessions_failed,
        slowest.as_secs_f64()
    )))
}

/// `holdfast shutdown --disconnect`.
pub fn disconnect(setting: &Setting) -> Result<Outcome, Error> {
    let mut site = Site::start(setting, &Settings::default())?;
    let plan = site.plan(TUNNELS, SESSIONS);
    let mut simulator = site.dial(&plan, SESSIONS)?;
    let socket = site.socket();
    let output = Process::new(&setting.program)
        .args(["shutdown", "--disconnect", "--socket"])
        .arg(&socket)
        .output()?;
    ensure(output.status.success(), || {
        format!("the command failed: {}", String::from_utf8_lossy(&output.stderr))
    })?;
    ensure_says(&String::from_utf8_lossy(&output.stdout), &["1000 sessions ended"])?;
    let ended = site.node().daemon.wait_end(PATIENCE)?;
    ensure(ended.is_some_and(|status| status.success()), || {
        format!("the node ended with {ended:?}")
    })?;
    let all = u64::from(SESSIONS);
    let report = simulator.wait_until("all LACs told", PATIENCE, |report| report.sessions_lost == all)?;
    ensure(
        report
            .losses
            .keys()
            .all(|reason| reason.starts_with("StopCCN") || reason.starts_with("CDN")),
        || format!("sessions ended otherwise: {:?}", report.losses),
    )?;
    ensure(report.control_channels_stuck == 0, || {
        "a control channel is stuck".into()
    })?;

    site.node().daemon.start()?;
    site.status()?;
    let left = node_api::sessions(&socket)?;
    ensure(left.is_empty(), || {
        format!("{} sessions are left in the data folder", left.len())
    })?;
    simulator.ask(&Command::ResetMeasurements)?;
    simulator.dial(SESSIONS, Some(200))?;
    simulator.wait_until("all sessions up again", Duration::from_secs(30), |report| {
        report.sessions_open == all
    })?;
    Ok(Outcome::Held(format!(
        "{SESSIONS} sessions told ({}), none left in the data folder; all dialled again",
        report.losses.keys().cloned().collect::<Vec<_>>().join(", ")
    )))
}
