//! Case 2: the moments at which a kill hurts most.

use std::time::Duration;

use rand::RngExt;

use super::super::error::Result;
use super::super::stage::{EXTRA, Stage};
use crate::simulator::{Command, HangUp, Moment};

/// Kills at each kind of moment.
const ROUNDS: u32 = 2;
/// Calls in a round in which not their number but the moment counts.
const FEW: u32 = 40;
/// How long the calls that are to be cleared may take to come up.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// A dead node comes back within this time.
const LONGEST_DOWN: Duration = Duration::from_secs(1);

/// What was promised to a LAC or a client in the millisecond before must hold.
pub fn acknowledged(stage: &mut Stage) -> Result<()> {
    for _ in 0..ROUNDS {
        for moment in [
            Moment::HelloAcknowledged,
            Moment::CallTaken,
            Moment::CallConnected,
            Moment::CallCleared,
            Moment::Opened,
        ] {
            at(stage, moment)?;
        }
    }
    Ok(())
}

fn at(stage: &mut Stage, moment: Moment) -> Result<()> {
    let victim = stage.owner()?;
    let count = stage.rng.random_range(1..=u64::from(FEW / 5));
    let permanent = stage.setting.sessions;
    if moment == Moment::CallCleared {
        stage.simulator.dial(FEW, None)?;
        stage
            .simulator
            .wait_until("the calls to be cleared", DIAL_TIMEOUT, |report| {
                report.sessions_pending == 0
            })?;
    }
    stage.event_at(
        (moment, count, Duration::ZERO),
        victim,
        |simulator| match moment {
            // They leave all the time.
            Moment::HelloAcknowledged => Ok(()),
            Moment::CallCleared => {
                simulator.ask(&Command::HangUp {
                    from: permanent,
                    sessions: None,
                    by: HangUp::Disconnect,
                })?;
                Ok(())
            }
            _ => Ok(simulator.dial(FEW, None)?),
        },
    )?;
    stage.restore()
}

/// What the LAC saw established is there; what it did not, its retransmission completes or fails cleanly.
pub fn burst(stage: &mut Stage) -> Result<()> {
    for _ in 0..ROUNDS {
        let victim = stage.owner()?;
        let count = stage.rng.random_range(1..=u64::from(EXTRA / 5));
        let delay = Duration::from_micros(stage.rng.random_range(0..30_000));
        stage.event_at((Moment::ControlSent, count, delay), victim, |simulator| {
            Ok(simulator.dial_paced(EXTRA, f64::from(EXTRA) / 0.1)?)
        })?;
        stage.sleep(LONGEST_DOWN);
        stage.restore()?;
    }
    Ok(())
}
