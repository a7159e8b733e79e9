//! Case 1: a node dies or hangs.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::super::bed::Bed;
use super::super::error::Result;
use super::super::stage::Stage;

/// A hung node stays so for this long.
const HANG: Duration = Duration::from_secs(30);

pub fn owner(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    kill(stage, victim)
}

pub fn leader(stage: &mut Stage) -> Result<()> {
    let victim = stage.leader()?;
    kill(stage, victim)
}

pub fn forwarder(stage: &mut Stage) -> Result<()> {
    let victim = stage.bystander()?;
    kill(stage, victim)
}

pub fn each(stage: &mut Stage) -> Result<()> {
    let nodes: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    nodes.into_iter().try_for_each(|victim| kill(stage, victim))
}

/// The process and BIRD stop running in the same instant; the links stay up, so only silence tells.
pub fn machine(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    stage.note(format!("node {victim}"));
    stage.event(|bed| {
        let node = bed.node(victim)?;
        node.signal_speaker(Signal::SIGSTOP)?;
        node.signal(Signal::SIGSTOP)
    })?;
    let node = stage.bed.node(victim)?;
    node.kill_speaker();
    node.kill()?;
    stage.restore()
}

/// SIGSTOP reaches no BIRD: only what watches over the process can withdraw the routes.
pub fn stop(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    stage.note(format!("node {victim}"));
    stage.event_for(HANG, |bed| bed.node(victim)?.signal(Signal::SIGSTOP))?;
    stage.event(|bed| bed.node(victim)?.signal(Signal::SIGCONT))?;
    stage.restore()
}

fn kill(stage: &mut Stage, victim: u8) -> Result<()> {
    stage.note(format!("node {victim}"));
    let alone = !stage.is_cluster();
    stage.event(|bed: &mut Bed| {
        let node = bed.node(victim)?;
        node.kill()?;
        // Nobody else takes over: it has to come back itself.
        if alone { node.start() } else { Ok(()) }
    })?;
    stage.restore()
}
