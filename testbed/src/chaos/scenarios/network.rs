//! Cases 5 to 7: partitions, routers that disagree, flows that move, a bad network between the nodes, a slow disk.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::bed::Bed;
use super::super::error::{Error, Result};
use super::super::node::Member;
use super::super::stage::Stage;
use super::restart::order;
use crate::simulator::Impairment;

const PARTITION: Duration = Duration::from_secs(30);
/// Longer than any LAC waits for an answer.
const NO_WAY: Duration = Duration::from_secs(90);
/// Shorter than that: nobody can serve them.
const ALL_WITHOUT_WAY: Duration = Duration::from_secs(8);
/// A node may take so long to say that its way is back.
const WAY_BACK_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// A fault that is one of two.
const HALF: Duration = Duration::from_secs(15);
/// Between the nodes, each direction by itself.
const BAD: Impairment = Impairment {
    loss: 5.0,
    duplication: 5.0,
    reordering: 5.0,
    delay_ms: 20,
};

pub fn partition_owner(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    partition(stage, victim)
}

pub fn partition_leader(stage: &mut Stage) -> Result<()> {
    let victim = stage.leader()?;
    partition(stage, victim)
}

/// The node still has its LACs and its core, but no longer the others.
fn partition(stage: &mut Stage, victim: u8) -> Result<()> {
    stage.note(format!("node {victim}"));
    stage.event_for(PARTITION, |bed| {
        bed.mesh.mute(victim);
        bed.mesh.deafen(victim);
        Ok(())
    })?;
    stage.event(|bed| {
        bed.mesh.heal();
        Ok(())
    })?;
    stage.restore()
}

pub fn one_way(stage: &mut Stage) -> Result<()> {
    for deaf in [true, false] {
        let victim = stage.owner()?;
        stage.event_for(HALF, |bed| {
            if deaf {
                bed.mesh.deafen(victim);
            } else {
                bed.mesh.mute(victim);
            }
            Ok(())
        })?;
        stage.event(|bed| {
            bed.mesh.heal();
            Ok(())
        })?;
        stage.restore()?;
    }
    Ok(())
}

/// Neither router sees all nodes, and each misses another one.
pub fn routers_differ(stage: &mut Stage) -> Result<()> {
    let ids: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    let [first, second, ..] = ids[..] else {
        return Err(Error::Unmet("routers-differ needs two nodes".into()));
    };
    let set = |up| {
        move |bed: &mut Bed| {
            bed.set_router_link(1, first, up)?;
            bed.set_router_link(2, second, up)
        }
    };
    stage.event_for(HALF, set(false))?;
    stage.event(set(true))?;
    stage.restore()
}

/// Whoever cannot answer a LAC must not own its tunnels: the owner of most groups for long, the leader, and all at once.
pub fn no_way_to_lacs(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    without_way(stage, victim, NO_WAY)?;
    let victim = stage.leader()?;
    without_way(stage, victim, HALF)?;
    let before = owned(&stage.bed)?;
    let all: Vec<u8> = before.keys().copied().collect();
    stage.event_for(ALL_WITHOUT_WAY, set_ways(&all, false))?;
    let view = stage.bed.view()?;
    if !view.nodes.iter().all(|member| member.no_way_to_lacs) {
        stage.breach(format!("all nodes are without a way to the LACs: {view:?}"));
    }
    stage.event(set_ways(&all, true))?;
    stage.restore()?;
    let after = owned(&stage.bed)?;
    if after != before {
        stage.breach(format!(
            "nobody had a way to the LACs, and groups moved: {before:?}, then {after:?}"
        ));
    }
    Ok(())
}

/// It loses its groups at once, gets none back by itself, and its share when it is told to take it.
fn without_way(stage: &mut Stage, victim: u8, time: Duration) -> Result<()> {
    stage.note(format!("node {victim}"));
    stage.event_for(time, set_ways(&[victim], false))?;
    let without = member(&stage.bed, victim)?;
    if !without.no_way_to_lacs || without.groups > 0 {
        stage.breach(format!("without a way to the LACs: {without:?}"));
    }
    stage.event(set_ways(&[victim], true))?;
    let deadline = Instant::now() + WAY_BACK_LIMIT;
    while member(&stage.bed, victim)?.no_way_to_lacs && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    let back = member(&stage.bed, victim)?;
    if back.no_way_to_lacs || back.groups > 0 {
        stage.breach(format!("with its way back, and no order given: {back:?}"));
    }
    stage.restore()?;
    stage.event(|bed| order(bed, "undrain", victim, |groups| groups > 0))?;
    stage.restore()
}

/// Takes these nodes' ways to the LACs, or gives them back. The core stays in reach, and offers a default route.
fn set_ways(nodes: &[u8], up: bool) -> impl FnOnce(&mut Bed) -> Result<()> {
    move |bed: &mut Bed| {
        bed.set_link_of_routers(up)?;
        nodes
            .iter()
            .try_for_each(|node| bed.set_router_link(1, *node, up))
    }
}

/// How many groups each node owns.
fn owned(bed: &Bed) -> Result<BTreeMap<u8, u32>> {
    let nodes = bed.view()?.nodes.into_iter();
    Ok(nodes.map(|member| (member.id, member.groups)).collect())
}

/// How the cluster sees a node.
fn member(bed: &Bed, id: u8) -> Result<Member> {
    let found = bed.view()?.nodes.into_iter().find(|member| member.id == id);
    found.ok_or_else(|| Error::Unmet(format!("cluster status does not name node {id}")))
}

/// The routers hash half of all flows to other nodes; the owners stay who they are.
pub fn ecmp_return(stage: &mut Stage) -> Result<()> {
    let victim = stage.bystander()?;
    stage.bed.node(victim)?.terminate()?;
    stage.bed.wait_routes()?;
    let before = stage.bed.view()?;
    stage.event(|bed| {
        bed.node(victim)?.start()?;
        bed.wait_routes()
    })?;
    let after = stage.bed.view()?;
    for member in &after.nodes {
        let had = before.nodes.iter().find(|other| other.id == member.id);
        if had.is_some_and(|had| had.groups != member.groups) {
            stage.breach(format!("ownership moved to or from node {}", member.id));
        }
    }
    stage.restore()
}

pub fn lossy(stage: &mut Stage) -> Result<()> {
    stage.event_for(HALF, |bed| {
        bed.mesh.impair_all(BAD);
        Ok(())
    })?;
    let victim = stage.owner()?;
    stage.event(|bed| bed.node(victim)?.kill())?;
    stage.restore()
}

pub fn slow_disk(stage: &mut Stage) -> Result<()> {
    for victim in [stage.leader()?, stage.bystander()?] {
        stage.event_for(HALF, |bed| bed.node(victim)?.set_slow_disk(true))?;
        stage.event(|bed| bed.node(victim)?.set_slow_disk(false))?;
        stage.restore()?;
    }
    Ok(())
}
