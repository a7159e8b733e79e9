//! Case 8: members come and go.

use super::super::error::{Error, Result};
use super::super::stage::Stage;
use super::restart::{CALL_RATE, order};

/// Two more than at the beginning, and back.
pub fn grow_and_shrink(stage: &mut Stage) -> Result<()> {
    let newcomers = [next_id(stage), next_id(stage) + 1];
    for id in newcomers {
        join(stage, id)?;
    }
    newcomers.into_iter().rev().try_for_each(|id| leave(stage, id))
}

/// The dead node never comes back.
pub fn replace(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    let newcomer = next_id(stage);
    stage.event(|bed| bed.node(victim)?.kill())?;
    leave(stage, victim)?;
    join(stage, newcomer)
}

fn next_id(stage: &Stage) -> u8 {
    stage.bed.nodes.keys().last().map_or(1, |last| last + 1)
}

/// A node gets a certificate, the table, a vote and its share.
fn join(stage: &mut Stage, id: u8) -> Result<()> {
    let mut members: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    members.push(id);
    reload_with(stage, &members)?;
    stage.bed.start_newcomer(id, &members)?;
    let leader = stage.leader()?;
    stage.event_under_load(CALL_RATE, |bed| {
        bed.node(leader)?.ask(&["cluster", "add", &id.to_string()])?;
        bed.node(id)?.wait_ready()
    })?;
    stage.bed.set_members(&members)?;
    stage.event_under_load(CALL_RATE, |bed| order(bed, "undrain", id, |groups| groups > 0))?;
    stage.restore()
}

/// A node, dead or alive, loses its vote and goes.
fn leave(stage: &mut Stage, id: u8) -> Result<()> {
    let leader = stage.leader()?;
    stage.event_under_load(CALL_RATE, |bed| {
        bed.node(leader)?.ask(&["cluster", "remove", &id.to_string()])?;
        Ok(())
    })?;
    stage.bed.remove_node(id)?;
    let members: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    reload_with(stage, &members)?;
    stage.restore()
}

/// The members learn their list by a reload, one after the other.
fn reload_with(stage: &mut Stage, members: &[u8]) -> Result<()> {
    stage.bed.set_members(members)?;
    let nodes: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    for id in nodes {
        stage.event_under_load(CALL_RATE, |bed| {
            let report = bed.node(id)?.ask(&["reload"])?;
            let applied = report["applied"].as_array().into_iter().flatten();
            let mut texts = applied.filter_map(|text| text.as_str());
            match texts.any(|text| text.starts_with("member ")) {
                true => Ok(()),
                false => Err(Error::Unmet(format!("node {id} took no members over: {report}"))),
            }
        })?;
    }
    Ok(())
}
