//! The moments at which a kill hurts most, each hit again and again.

use std::time::Duration;

use rand::RngExt;

use super::stage::{Error, Setting, Stage};
use super::verdict::Verdict;
use crate::simulator::{Command, HangUp, Moment};

/// Subscribers besides the established ones, for the calls of a round.
const EXTRA: u32 = 200;
/// How long a moment may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// The node stays away for a random time up to this.
const LONGEST_DOWN: Duration = Duration::from_secs(1);
/// Calls of a round in which not the number but the moment counts.
const FEW: u32 = 40;

/// When to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardMoment {
    /// A burst of messages is out and none, or few, of them acknowledged.
    Unacknowledged,
    /// A HELLO has just been acknowledged.
    Hello,
    /// Within 200 calls placed in 0.1 s.
    Burst,
    /// Clients hold their Configure-Ack, or the node holds its own until the session is durable.
    Held,
    /// A client has just seen IPCP open: from now on the session must never be lost.
    Opened,
}

impl HardMoment {
    fn name(self) -> &'static str {
        match self {
            Self::Unacknowledged => "unacknowledged",
            Self::Hello => "hello",
            Self::Burst => "burst",
            Self::Held => "held",
            Self::Opened => "opened",
        }
    }
}

/// Kills the node at `moment` `setting.rounds` times; between the rounds the calls come up and end again.
pub fn hard_moment(moment: HardMoment, setting: &Setting) -> Result<Verdict, Error> {
    let mut stage = Stage::open(setting, EXTRA)?;
    for round in 0..setting.rounds {
        match moment {
            HardMoment::Unacknowledged => kill_unacknowledged(&mut stage)?,
            HardMoment::Hello => kill_after_hello(&mut stage, setting.tunnels)?,
            HardMoment::Burst => kill_in_burst(&mut stage)?,
            HardMoment::Held if round % 2 == 0 => kill_while_client_holds(&mut stage)?,
            HardMoment::Held => kill_while_node_holds(&mut stage)?,
            HardMoment::Opened => kill_after_opening(&mut stage)?,
        }
        stage.sleep(LONGEST_DOWN);
        stage.start()?;
        stage.simulator.ask(&Command::Hold { on: false })?;
        stage.settle()?;
        stage.simulator.ask(&Command::HangUp {
            from: setting.sessions,
            sessions: None,
            by: HangUp::Disconnect,
        })?;
        stage.breathe()?;
    }
    stage.finish(moment.name(), setting)
}

fn kill_unacknowledged(stage: &mut Stage) -> Result<(), Error> {
    let (count, delay) = (
        stage.rng.random_range(1..=u64::from(FEW)),
        random_micros(stage, 1500),
    );
    arm(stage, Moment::ControlSent, count, delay)?;
    stage.simulator.dial(FEW, None)?;
    stage.await_kill(PATIENCE)
}

fn kill_after_hello(stage: &mut Stage, tunnels: u32) -> Result<(), Error> {
    let (count, delay) = (
        stage.rng.random_range(1..=u64::from(tunnels)),
        random_micros(stage, 300),
    );
    arm(stage, Moment::HelloAcknowledged, count, delay)?;
    stage.simulator.ask(&Command::Hello)?;
    stage.await_kill(PATIENCE)
}

fn kill_in_burst(stage: &mut Stage) -> Result<(), Error> {
    let (count, delay) = (
        stage.rng.random_range(1..=u64::from(EXTRA)),
        random_micros(stage, 30_000),
    );
    arm(stage, Moment::ControlSent, count, delay)?;
    stage.simulator.dial_paced(EXTRA, f64::from(EXTRA) / 0.1)?;
    stage.await_kill(PATIENCE)
}

fn kill_while_client_holds(stage: &mut Stage) -> Result<(), Error> {
    stage.simulator.ask(&Command::Hold { on: true })?;
    arm(stage, Moment::Held, u64::from(FEW), Duration::ZERO)?;
    stage.simulator.dial(FEW, None)?;
    stage.await_kill(PATIENCE)
}

fn kill_while_node_holds(stage: &mut Stage) -> Result<(), Error> {
    let (count, delay) = (
        stage.rng.random_range(1..=u64::from(FEW)),
        random_micros(stage, 1000),
    );
    arm(stage, Moment::AddressAcknowledged, count, delay)?;
    stage.simulator.dial(FEW, None)?;
    stage.await_kill(PATIENCE)
}

fn kill_after_opening(stage: &mut Stage) -> Result<(), Error> {
    let count = stage.rng.random_range(1..=u64::from(FEW));
    arm(stage, Moment::Opened, count, Duration::ZERO)?;
    stage.simulator.dial(FEW, None)?;
    stage.await_kill(PATIENCE)
}

/// Arms the kill, done by the simulator itself so that nothing comes between.
fn arm(stage: &mut Stage, moment: Moment, count: u64, delay: Duration) -> Result<(), Error> {
    let pid = stage.pid();
    stage.simulator.ask(&Command::Disarm)?;
    Ok(stage.simulator.arm(moment, count, delay, Some(pid))?)
}

fn random_micros(stage: &mut Stage, longest: u64) -> Duration {
    Duration::from_micros(stage.rng.random_range(0..=longest))
}
