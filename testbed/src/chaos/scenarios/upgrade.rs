//! Case 3: a rolling upgrade to a release whose rows carry one more field.
//!
//! While one old program runs the table stays at the old version and no row has the field, for an old program would lose it. Once
//! all are new the version rises by itself, and a node that goes back after that must refuse to start, and say why.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::bed::Bed;
use super::super::error::{Error, Result};
use super::super::node::View;
use super::super::stage::Stage;
use super::restart::CALL_RATE;

/// The version is looked at each second, by the leader, and its last message from a member may be some time ago.
const RAISE_LIMIT: Duration = Duration::from_secs(10);
/// Calls arrive for some seconds, and then the tables of all nodes are alike.
const ALIKE_LIMIT: Duration = Duration::from_secs(10);
/// Both programs take calls for so long before it is looked what they have written.
const MIXED: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(50);

pub fn all(stage: &mut Stage) -> Result<()> {
    let nodes: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    let (&first, &last) = nodes.first().zip(nodes.last()).expect("a bed has nodes");
    let [old, next] = stage.bed.programs()?;
    let version = wait_raised(&stage.bed, |version| version > 1)?;
    // There and back while both are at work: it is no one-way street yet.
    replace(stage, first, &next, Some(version))?;
    replace(stage, first, &old, Some(version))?;
    for id in nodes {
        // After the last one the version may rise at once.
        replace(stage, id, &next, (id != last).then_some(version))?;
    }
    let raised = wait_raised(&stage.bed, |found| found > version)?;
    stage.note(format!(
        "the table's version rose from {version} to {raised} by itself"
    ));
    expect_new_field(stage)?;
    go_back_too_late(stage, last, raised)?;
    expect_new_field(stage)
}

/// Another program from here on, by a restart. While calls arrive and are up the table's version must be this one, if any is given.
fn replace(stage: &mut Stage, id: u8, program: &Path, held_back: Option<u32>) -> Result<()> {
    let mut seen = Vec::new();
    stage.event_under_load(CALL_RATE, |bed| {
        let node = bed.node(id)?;
        node.terminate()?;
        node.set_program(program);
        node.start()?;
        std::thread::sleep(MIXED);
        seen = views(bed)?;
        Ok(())
    })?;
    if let Some(version) = held_back {
        expect_held_back(stage, version, &seen);
    }
    stage.restore()
}

/// The old program refuses, names the version that it lacks, and nobody else notices.
fn go_back_too_late(stage: &mut Stage, id: u8, needed: u32) -> Result<()> {
    let [old, next] = stage.bed.programs()?;
    let mut said = String::new();
    stage.event_under_load(CALL_RATE, |bed| {
        let node = bed.node(id)?;
        node.terminate()?;
        let (_, printed) = node.printed_since(usize::MAX);
        node.set_program(&old);
        node.spawn()?;
        said = node.wait_refusal(printed)?;
        Ok(())
    })?;
    if !said.contains(&format!("version {needed} of the session table")) {
        stage.breach(format!(
            "node {id} does not say that it lacks version {needed}:\n{said}"
        ));
    }
    stage.note(format!("node {id} with the old program refuses to start again"));
    stage.bed.node(id)?.set_program(&next);
    stage.restore()
}

/// The version is the old one, and no row has the new field.
fn expect_held_back(stage: &mut Stage, version: u32, seen: &[(u8, View)]) {
    for (id, view) in seen {
        if view.table_version != version {
            stage.breach(format!("node {id}: the table has version {}", view.table_version));
        }
        if view.rows_of_next_version.is_some_and(|rows| rows > 0) {
            stage.breach(format!(
                "node {id}: rows with a field that old programs lose: {view:?}"
            ));
        }
    }
}

/// Waits until all nodes have the same version of the table, one that is wanted.
fn wait_raised(bed: &Bed, wanted: impl Fn(u32) -> bool) -> Result<u32> {
    wait(bed, RAISE_LIMIT, "one version of the table, risen", |views| {
        let version = views.first()?.table_version;
        let same = views.iter().all(|view| view.table_version == version);
        (same && wanted(version)).then_some(version)
    })
}

/// Waits until all nodes have the field in equally many rows: those of the calls that arrive, for what was there before is
/// written anew only when it changes.
fn expect_new_field(stage: &mut Stage) -> Result<()> {
    let mut rows = 0;
    stage.event_under_load(CALL_RATE, |bed| {
        rows = wait(
            bed,
            ALIKE_LIMIT,
            "the new field, in as many rows on each node",
            |views| {
                let rows = views.first()?.rows_of_next_version?;
                let same = views.iter().all(|view| view.rows_of_next_version == Some(rows));
                (same && rows > 0).then_some(rows)
            },
        )?;
        Ok(())
    })?;
    stage.note(format!("each node had the new field in {rows} rows"));
    Ok(())
}

fn wait<T>(bed: &Bed, limit: Duration, what: &str, look: impl Fn(&[View]) -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let views: Vec<View> = views(bed)?.into_iter().map(|(_, view)| view).collect();
        if let Some(found) = look(&views) {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(Error::Unmet(format!(
                "not within {} s: {what}: {views:?}",
                limit.as_secs()
            )));
        }
        std::thread::sleep(POLL);
    }
}

/// What each node says.
fn views(bed: &Bed) -> Result<Vec<(u8, View)>> {
    let nodes = bed.nodes.values();
    nodes.map(|node| Ok((node.id, node.view()?))).collect()
}
