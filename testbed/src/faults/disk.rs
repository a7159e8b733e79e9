//! A disk that is full, or cannot be written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast::api::StatusReport;

use super::Setting;
use super::error::{Error, Outcome, ensure, ensure_says};
use super::private_mount::{SmallDisk, privately};
use super::site::{PATIENCE, Site, ensure_undisturbed};
use crate::cleanup;
use crate::node_config::Settings;
use crate::simulator::{Command, Plan, Simulator};

const SESSIONS: u32 = 200;
const TUNNELS: u32 = 10;
/// Calls that come and go to fill the log.
const CHURN: u32 = 600;
/// Octets of the small disk, MiB: the log's first segment, its four spares and a little.
const SIZE: u32 = 90;
/// How long the log may take to fill its segment.
const FILL_TIMEOUT: Duration = Duration::from_secs(60);

/// The disk runs full under load, the node is killed and started on it, then somebody makes room.
pub fn full(setting: &Setting) -> Result<Outcome, Error> {
    privately(|| {
        let folder = cleanup::temporary_folder("holdfast-testbed-disk-")?;
        let _disk = SmallDisk::mount(folder.path(), SIZE)?;
        let settings = Settings {
            data_dir: Some(folder.path().join("data")),
            ..Settings::default()
        };
        let mut site = Site::start(setting, &settings)?;
        let plan = site.plan(TUNNELS, SESSIONS + 20);
        let mut simulator = site.dial(&plan, SESSIONS)?;
        let ballast = folder.path().join("ballast");
        fill(&ballast)?;
        churn(&mut site)?;
        ensure_undisturbed(&mut simulator, SESSIONS)?;
        let refusals = refused_calls(&mut simulator, 20)?;
        new_tunnel_refused(&mut site)?;
        ensure_says(&site.printed()?, &["disk", "full", "new calls are refused"])?;

        site.restart()?;
        ensure_undisturbed(&mut simulator, SESSIONS)?;
        fs::remove_file(&ballast)?;
        site.wait("calls again after space was freed", |status| !warns(status))?;
        simulator.dial(20, None)?;
        simulator.wait_until("calls after space was freed", PATIENCE, |report| {
            report.sessions_open == u64::from(SESSIONS + 20)
        })?;
        ensure_undisturbed(&mut simulator, SESSIONS + 20)?;
        Ok(Outcome::Held(format!(
            "{SESSIONS} sessions stayed, also over a restart; new calls refused by {refusals}, taken again after space was freed"
        )))
    })
}

/// Whether the log is on its reserve; that space runs out is another warning.
fn warns(status: &StatusReport) -> bool {
    let on_reserve = "is full: new calls are refused";
    status.warnings.iter().any(|warning| warning.contains(on_reserve))
}

/// Writes until nothing more fits.
fn fill(ballast: &Path) -> Result<(), Error> {
    let mut file = File::create(ballast)?;
    for octets in [1 << 20, 1 << 12, 1] {
        let chunk = vec![0; octets];
        loop {
            match file.write(&chunk) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Calls come and go until the log needs its reserve.
fn churn(site: &mut Site) -> Result<(), Error> {
    let plan = Plan {
        ping_interval_ms: 0,
        ..site.plan(TUNNELS, CHURN)
    };
    let mut simulator = site.simulate(&plan)?;
    let deadline = Instant::now() + FILL_TIMEOUT;
    loop {
        simulator.dial(CHURN, Some(200))?;
        simulator.wait_until("calls up or refused", PATIENCE, |report| {
            report.sessions_pending == 0
        })?;
        if warns(&site.status()?) {
            return Ok(());
        }
        simulator.ask(&Command::HangUp {
            from: 0,
            sessions: None,
            by: Default::default(),
        })?;
        simulator.check(PATIENCE)?;
        ensure(Instant::now() < deadline, || {
            "the full disk is not noticed".into()
        })?;
    }
}

/// Calls in old tunnels get a CDN for want of resources; the reason.
fn refused_calls(simulator: &mut Simulator, calls: u32) -> Result<String, Error> {
    let before = simulator.report()?.sessions_failed;
    simulator.dial(calls, None)?;
    let report = simulator.wait_until("the refusals", PATIENCE, |report| {
        report.sessions_failed == before + u64::from(calls)
    })?;
    let reason = report.failures.keys().next().cloned().unwrap_or_default();
    ensure_says(&reason, &["CDN 2/4", "disk full"])?;
    Ok(reason)
}

/// So does a new tunnel.
fn new_tunnel_refused(site: &mut Site) -> Result<(), Error> {
    let plan = site.plan(1, 1);
    let mut simulator = site.simulate(&plan)?;
    simulator.dial(1, None)?;
    let report = simulator.wait_until("the refusal", PATIENCE, |report| report.sessions_failed == 1)?;
    let reason = report.failures.keys().next().cloned().unwrap_or_default();
    ensure_says(&reason, &["StopCCN", "disk full"])
}

/// The data folder cannot be written; once it can, the sessions are there.
pub fn read_only(setting: &Setting) -> Result<Outcome, Error> {
    privately(|| {
        let folder = cleanup::temporary_folder("holdfast-testbed-disk-")?;
        let disk = SmallDisk::mount(folder.path(), SIZE)?;
        let data = folder.path().join("data");
        let settings = Settings {
            data_dir: Some(data.clone()),
            ..Settings::default()
        };
        let mut site = Site::start(setting, &settings)?;
        let plan = site.plan(TUNNELS, SESSIONS);
        let mut simulator = site.dial(&plan, SESSIONS)?;
        site.node().daemon.kill()?;
        disk.set_read_only(true)?;
        let said = site.refused()?;
        ensure_says(
            &said,
            &[
                &data.display().to_string(),
                "Read-only file system",
                "another folder",
            ],
        )?;
        disk.set_read_only(false)?;
        site.node().daemon.start()?;
        ensure_undisturbed(&mut simulator, SESSIONS)?;
        Ok(Outcome::Held(said.trim().replace('\n', " ")))
    })
}
