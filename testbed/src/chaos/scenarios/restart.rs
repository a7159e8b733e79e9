//! Cases 3 and 4: nodes are restarted one after the other, or all at once.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::RngExt;

use super::super::error::Result;
use super::super::stage::Stage;

/// Calls a second.
const CALL_RATE: f64 = 40.0;
/// All nodes are away for this long at most.
const LONGEST_DARK: Duration = Duration::from_secs(18);

/// SIGTERM and a new start of each node, while calls arrive all the time.
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
    Ok(())
}

/// Every process at once; the logs on the disks are all that is left.
pub fn power(stage: &mut Stage) -> Result<()> {
    let dark = LONGEST_DARK.mul_f64(stage.rng.random_range(0.2..1.0));
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
