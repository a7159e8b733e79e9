//! Case 3: a rolling upgrade to a release whose rows carry one more field.
//!
//! While one old program runs the table stays at the old version and no row has the field, for an old program would lose it. Once
//! all are new the version rises by itself, and a node that goes back after that must refuse to start, and say why.

use std::time::{Duration, Instant};

use super::super::bed::Bed;
use super::super::error::{Error, Result};
use super::super::node::View;
use super::super::stage::Stage;
use super::restart::CALL_RATE;

/// The version is looked at each second, by the leader, and its last message from a member may be some time ago.
const RAISE_LIMIT: Duration = Duration::from_secs(10);
/// Tables of nodes are alike as soon as nothing is under way.
const ALIKE_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

pub fn all(stage: &mut Stage) -> Result<()> {
    let nodes: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    let (&first, &last) = nodes.first().zip(nodes.last()).expect("a bed has nodes");
    let [old, next] = stage.bed.programs()?;
    let version = wait_raised(stage, |version| version > 1)?;
    replace(stage, first, &next)?;
    expect_held_back(stage, version)?;
    // Back and forth while both are at work: it is no one-way street yet.
    replace(stage, first, &old)?;
    for id in nodes {
        expect_held_back(stage, version)?;
        replace(stage, id, &next)?;
    }
    let raised = wait_raised(stage, |found| found > version)?;
    stage.note(format!(
        "the table's version rose from {version} to {raised} by itself"
    ));
    // More calls, whose rows are written now.
    stage.event_under_load(CALL_RATE, |_| Ok(()))?;
    expect_alike(stage)?;
    go_back_too_late(stage, last, raised)?;
    expect_alike(stage)
}

/// Another program from here on, by a restart.
fn replace(stage: &mut Stage, id: u8, program: &std::path::Path) -> Result<()> {
    stage.event_under_load(CALL_RATE, |bed| {
        let node = bed.node(id)?;
        node.terminate()?;
        node.set_program(program);
        node.start()
    })?;
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

/// As the nodes see it that run: the version is the old one, and no row has the new field.
fn expect_held_back(stage: &mut Stage, version: u32) -> Result<()> {
    for (id, view) in views(&stage.bed)? {
        if view.table_version != version {
            stage.breach(format!("node {id}: the table has version {}", view.table_version));
        }
        if view.rows_of_next_version.is_some_and(|rows| rows > 0) {
            stage.breach(format!(
                "node {id}: rows with a field that old programs lose: {view:?}"
            ));
        }
    }
    Ok(())
}

/// Waits until all nodes have the same version of the table, one that is wanted.
fn wait_raised(stage: &Stage, wanted: impl Fn(u32) -> bool) -> Result<u32> {
    wait(stage, RAISE_LIMIT, "one version of the table, risen", |views| {
        let version = views.first()?.table_version;
        let same = views.iter().all(|view| view.table_version == version);
        (same && wanted(version)).then_some(version)
    })
}

/// Waits until all nodes have the field in equally many rows, and in some.
fn expect_alike(stage: &mut Stage) -> Result<()> {
    let rows = wait(
        stage,
        ALIKE_LIMIT,
        "the new field, in as many rows on each node",
        |views| {
            let rows = views.first()?.rows_of_next_version?;
            let same = views.iter().all(|view| view.rows_of_next_version == Some(rows));
            (same && rows > 0).then_some(rows)
        },
    )?;
    stage.note(format!("each node has {rows} rows with the new field"));
    Ok(())
}

fn wait<T>(stage: &Stage, limit: Duration, what: &str, look: impl Fn(&[View]) -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let views: Vec<View> = views(&stage.bed)?.into_iter().map(|(_, view)| view).collect();
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
