//! Cases 3 and 4: nodes are restarted one after the other, or all at once.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::RngExt;

use super::super::bed::Bed;
use super::super::error::{Error, Result};
use super::super::node::Node;
use super::super::stage::Stage;

/// Calls a second.
pub(super) const CALL_RATE: f64 = 40.0;
/// A drain or its opposite may take so long.
const ORDER_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// All nodes are away for this long at most.
const LONGEST_DARK: Duration = Duration::from_secs(18);

/// SIGTERM and a new start of each node, while calls arrive all the time. In a cluster, somebody completes each of them.
pub fn rolling(stage: &mut Stage) -> Result<()> {
    let nodes: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    let alone = !stage.is_cluster();
    for id in nodes {
        stage.event_under_load(CALL_RATE, |bed| {
            let node = bed.node(id)?;
            node.terminate()?;
            if alone { node.start() } else { Ok(()) }
        })?;
        if !alone {
            stage.event_under_load(CALL_RATE, |bed| bed.node(id)?.start())?;
        }
        stage.restore()?;
    }
    if alone {
        return Ok(());
    }
    stage.expect_no_failures()
}

/// A drained node owns nothing, and then is restarted; what was its share comes back. Somebody completes each call.
pub fn drain(stage: &mut Stage) -> Result<()> {
    let nodes: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    for id in nodes {
        stage.event_under_load(CALL_RATE, |bed| order(bed, "drain", id, |groups| groups == 0))?;
        stage.event_under_load(CALL_RATE, |bed| {
            bed.node(id)?.terminate()?;
            bed.node(id)?.start()
        })?;
        stage.restore()?;
        stage.event_under_load(CALL_RATE, |bed| order(bed, "undrain", id, |groups| groups > 0))?;
        stage.restore()?;
    }
    stage.expect_no_failures()
}

/// Gives an order about a node and waits until it owns as many groups as is wanted.
pub(super) fn order(bed: &mut Bed, order: &str, id: u8, wanted: impl Fn(u32) -> bool) -> Result<()> {
    bed.node(id)?.ask(&["cluster", order, &id.to_string()])?;
    let deadline = Instant::now() + ORDER_LIMIT;
    loop {
        let view = bed.view()?;
        let groups = view
            .nodes
            .iter()
            .find(|member| member.id == id)
            .map(|member| member.groups);
        if groups.is_some_and(&wanted) && view.groups_moved == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Unmet(format!(
                "{order} {id}: not done within {} s: {view:?}",
                ORDER_LIMIT.as_secs()
            )));
        }
        std::thread::sleep(POLL);
    }
}

/// Every process at once; the logs on the disks are all that is left.
pub fn power(stage: &mut Stage) -> Result<()> {
    let dark = LONGEST_DARK.mul_f64(stage.rng.random_range(0.2..1.0));
    let sabotage = stage.setting.sabotage;
    stage.note(format!("dark for {:.1} s", dark.as_secs_f64()));
    stage.event(|bed| {
        // All signals first: nobody may see another die.
        for node in bed.nodes.values() {
            node.signal(Signal::SIGKILL)?;
        }
        for node in bed.nodes.values_mut() {
            node.reap()?;
        }
        std::thread::sleep(dark);
        if sabotage {
            bed.nodes.values().try_for_each(Node::lose_data)?;
        }
        for node in bed.nodes.values_mut() {
            node.spawn()?;
        }
        for node in bed.nodes.values_mut() {
            node.wait_ready()?;
        }
        Ok(())
    })?;
    stage.restore()
}
