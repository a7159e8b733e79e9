//! Panics inside the node: contained, its actor born again from the row; or without end, and then given up.

use std::time::Duration;

use holdfast::api::Fault;

use super::error::{Error, Outcome, ensure, ensure_says};
use super::site::{PATIENCE, Site, ensure_undisturbed};
use super::{Setting, node_api};
use crate::node_config::Settings;

const SESSIONS: u32 = 1000;
const TUNNELS: u32 = 20;
const PANICS: u64 = 20;
/// More than an actor is allowed within a minute.
const ENDLESS: u64 = 40;
/// The longest time that pings, one a second, may go without an answer. The data path knows no actors.
const LONGEST_GAP_MS: u64 = 2_500;

fn start(setting: &Setting) -> Result<Site, Error> {
    let mut site = Site::new(setting, &Settings::default())?;
    let daemon = &mut site.node().daemon;
    daemon.set_environment("HOLDFAST_FAULT_INJECTION", "1");
    daemon.start()?;
    site.status()?;
    Ok(site)
}

/// Injects `count` panics, each once the actor is back from the one before; `counter` counts them.
fn inject(site: &Site, target: Fault, counter: &str, count: u64) -> Result<(), Error> {
    let before = site.counter(counter)?;
    for done in 1..=count {
        // An actor that waits for its rebirth has nothing that could panic: order it again.
        let deadline = std::time::Instant::now() + PATIENCE;
        while site.counter(counter)? < before + done {
            node_api::inject(&site.socket(), target)?;
            std::thread::sleep(Duration::from_millis(20));
            ensure(std::time::Instant::now() < deadline, || {
                format!("panic {done} of {target:?} was never contained: {counter} stays")
            })?;
        }
    }
    Ok(())
}

/// 20 panics each in one session, one tunnel and one shard of a node with 1,000 sessions.
pub fn twenty_each(setting: &Setting) -> Result<Outcome, Error> {
    let mut site = start(setting)?;
    let plan = site.plan(TUNNELS, SESSIONS + 20);
    let mut simulator = site.dial(&plan, SESSIONS)?;
    let victim = node_api::sessions(&site.socket())?.swap_remove(SESSIONS as usize / 2);
    let tunnel = node_api::tunnels(&site.socket())?.swap_remove(TUNNELS as usize / 2);

    inject(
        &site,
        node_api::session_target(&victim),
        "session_actor_restarts_total",
        PANICS,
    )?;
    ensure_undisturbed(&mut simulator, SESSIONS)?;
    inject(
        &site,
        node_api::tunnel_target(tunnel.tunnel_id),
        "tunnel_actor_restarts_total",
        PANICS,
    )?;
    ensure_undisturbed(&mut simulator, SESSIONS)?;
    inject(&site, Fault::ShardPanic(0), "arbiter_restarts_total", PANICS)?;
    ensure_undisturbed(&mut simulator, SESSIONS)?;

    simulator.dial(20, None)?;
    simulator.wait_until("new calls after the panics", PATIENCE, |report| {
        report.sessions_open == u64::from(SESSIONS + 20)
    })?;
    ensure_undisturbed(&mut simulator, SESSIONS + 20)?;
    let status = site.status()?;
    let loops = node_api::counter(&status, "panic_loops_total");
    ensure(loops == 0, || format!("{loops} actors were given up"))?;
    let gap = simulator.report()?.longest_gap_ms;
    ensure(gap < LONGEST_GAP_MS, || {
        format!("pings went unanswered for {gap} ms")
    })?;
    Ok(Outcome::Held(format!(
        "{SESSIONS} sessions noticed nothing of {} panics; longest gap {:.1} s",
        3 * PANICS,
        gap as f64 / 1000.0
    )))
}

/// A session and a tunnel whose panics do not end.
pub fn endless(setting: &Setting) -> Result<Outcome, Error> {
    let mut site = start(setting)?;
    let plan = site.plan(10, 100);
    let mut simulator = site.dial(&plan, 100)?;
    let victim = node_api::sessions(&site.socket())?.swap_remove(0);
    give_up(&site, node_api::session_target(&victim), 1)?;
    let report = simulator.wait_until("the session's end", PATIENCE, |report| report.sessions_lost == 1)?;
    let reason = report.losses.keys().next().cloned().unwrap_or_default();
    ensure_says(&reason, &["CDN"])?;

    let tunnel = node_api::tunnels(&site.socket())?
        .into_iter()
        .find(|tunnel| tunnel.tunnel_id != victim.tunnel_id)
        .expect("one of ten tunnels");
    give_up(&site, node_api::tunnel_target(tunnel.tunnel_id), 2)?;
    let lost = u64::from(1 + tunnel.sessions);
    let report = simulator.wait_until("the tunnel's end", PATIENCE, |report| {
        report.sessions_lost == lost
    })?;
    ensure(report.sessions_renegotiated == 0, || {
        "others were renegotiated".into()
    })?;
    let checked = simulator.check(PATIENCE)?;
    ensure(checked.sessions_silent() == 0, || {
        format!("{} other sessions are silent", checked.sessions_silent())
    })?;
    Ok(Outcome::Held(format!(
        "the session ended by CDN, the tunnel by StopCCN, {} other sessions stayed",
        report.sessions_open
    )))
}

/// Injects panics until the node has given up `loops` actors.
fn give_up(site: &Site, target: Fault, loops: u64) -> Result<(), Error> {
    for _ in 0..ENDLESS * 10 {
        if site.counter("panic_loops_total")? >= loops {
            return Ok(());
        }
        // The actor may be gone before the counter is read.
        let _ = node_api::inject(&site.socket(), target);
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(Error::Violation(format!(
        "{target:?} panics for ever and is not given up"
    )))
}
