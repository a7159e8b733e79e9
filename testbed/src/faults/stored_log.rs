//! What happened to the log while nobody looked.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Setting;
use super::error::{Error, Outcome, ensure, ensure_says};
use super::site::{Site, ensure_undisturbed};
use crate::node_config::Settings;
use crate::simulator::Simulator;

const SESSIONS: u32 = 200;
const TUNNELS: u32 = 10;
/// Where the frames begin in a segment, octets.
const FRAMES: u64 = 4096;
/// Where a segment's version lies, octets.
const VERSION: u64 = 8;

/// Sessions, then the node is killed: its last segment and the used octets of it.
fn killed(setting: &Setting) -> Result<(Site, Simulator, PathBuf, u64), Error> {
    let mut site = Site::start(setting, &Settings::default())?;
    let plan = site.plan(TUNNELS, SESSIONS);
    let simulator = site.dial(&plan, SESSIONS)?;
    site.node().daemon.kill()?;
    let segment = last_segment(site.node().data_folder())?;
    let used = used_octets(&segment)?;
    ensure(used > 2 * FRAMES, || {
        format!("{} has only {used} octets", segment.display())
    })?;
    Ok((site, simulator, segment, used))
}

fn last_segment(folder: &Path) -> Result<PathBuf, Error> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("segment-") {
            segments.push(path);
        }
    }
    let last = segments.into_iter().max();
    last.ok_or_else(|| Error::Violation(format!("no log in {}", folder.display())))
}

/// Up to the zeros that the file was preallocated with, padding included.
fn used_octets(segment: &Path) -> Result<u64, Error> {
    let octets = fs::read(segment)?;
    let used = octets
        .iter()
        .rposition(|octet| *octet != 0)
        .map_or(0, |last| last + 1);
    Ok(used.next_multiple_of(8) as u64)
}

/// Puts an octet in place of another; the earlier one.
fn exchange(path: &Path, offset: u64, change: impl Fn(u8) -> u8) -> Result<u8, Error> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut octet = [0];
    file.read_exact_at(&mut octet, offset)?;
    file.write_all_at(&[change(octet[0])], offset)?;
    Ok(octet[0])
}

/// The node refuses to start, twice; once the log is mended, everything is there.
fn refuses_until_mended(
    setting: &Setting,
    place: impl Fn(u64) -> u64,
    change: impl Fn(u8) -> u8,
    wanted: &[&str],
) -> Result<Outcome, Error> {
    let (mut site, mut simulator, segment, used) = killed(setting)?;
    let offset = place(used);
    let original = exchange(&segment, offset, change)?;
    let said = site.refused()?;
    ensure_says(&said, &[&segment.display().to_string()])?;
    ensure_says(&said, wanted)?;
    // A supervisor starts it again and again: that must not change anything.
    site.refused()?;
    exchange(&segment, offset, |_| original)?;
    site.node().daemon.start()?;
    ensure_undisturbed(&mut simulator, SESSIONS)?;
    Ok(Outcome::Held(format!(
        "{SESSIONS} sessions are there once it is mended; {}",
        said.trim().replace('\n', " ")
    )))
}

/// A flipped octet in the midst of what was durable.
pub fn damaged(setting: &Setting) -> Result<Outcome, Error> {
    refuses_until_mended(
        setting,
        |used| FRAMES + (used - FRAMES) / 3,
        |octet| octet ^ 0x10,
        &["damaged at offset", "Remedy"],
    )
}

/// Written by a release that does not exist yet.
pub fn newer(setting: &Setting) -> Result<Outcome, Error> {
    refuses_until_mended(
        setting,
        |_| VERSION,
        |octet| octet + 1,
        &["version 2", "Start the version that wrote it"],
    )
}

/// Half a write behind the end, as a power failure leaves it.
pub fn torn(setting: &Setting) -> Result<Outcome, Error> {
    let (mut site, mut simulator, segment, used) = killed(setting)?;
    let garbage: Vec<u8> = (1..=200).collect();
    let file = OpenOptions::new().write(true).open(&segment)?;
    file.write_all_at(&garbage, used)?;
    drop(file);
    site.node().daemon.start()?;
    ensure_undisturbed(&mut simulator, SESSIONS)?;
    let printed = site.printed()?;
    ensure_says(
        &printed,
        &[
            "torn",
            "cut off",
            &segment.display().to_string(),
            &format!("offset={used}"),
        ],
    )?;
    // What was cut must not come back.
    site.restart()?;
    ensure_undisturbed(&mut simulator, SESSIONS)?;
    let cuts = site.printed()?.matches("cut off").count();
    ensure(cuts == 1, || format!("cut {cuts} times"))?;
    Ok(Outcome::Held(format!(
        "cut at offset {used} and said; {SESSIONS} sessions stayed"
    )))
}
