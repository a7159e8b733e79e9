//! Many sessions, new calls all the time, kills at random moments, one after the other.

use std::time::Duration;

use rand::RngExt;

use super::stage::{Error, Setting, Stage};
use super::verdict::Verdict;
use crate::simulator::{Command, HangUp};

/// Subscribers besides the established ones, for the calls that arrive meanwhile.
const EXTRA: u32 = 400;
/// Calls that arrive in each round, and how fast: some are always on their way.
const CALLS: u32 = 60;
const CALL_RATE: f64 = 40.0;
/// Calls that end in each round.
const HANG_UPS: u32 = 30;
/// Up and down times are drawn between nothing and this; now and then a kill catches the node while it starts.
const LONGEST_UP: Duration = Duration::from_millis(2500);
const LONGEST_DOWN: Duration = Duration::from_millis(600);
/// A long absence, of those that an operator causes.
const ABSENCE: Duration = Duration::from_secs(8);
/// One round in so many has such an absence.
const ABSENCE_EVERY: u32 = 10;

/// `setting.sessions` sessions on `setting.tunnels` tunnels while new calls arrive; the node is killed
/// `setting.rounds` times in a row.
pub fn restart_storm(setting: &Setting) -> Result<Verdict, Error> {
    let mut stage = Stage::open(setting, EXTRA)?;
    for round in 0..setting.rounds {
        stage.simulator.dial_paced(CALLS, CALL_RATE)?;
        stage.sleep(LONGEST_UP);
        stage.kill()?;
        let absent = round % ABSENCE_EVERY == ABSENCE_EVERY - 1;
        stage.sleep(if absent { ABSENCE } else { LONGEST_DOWN });
        if stage.rng.random_bool(0.5) {
            stage.simulator.ask(&Command::HangUp {
                from: setting.sessions,
                sessions: Some(HANG_UPS),
                by: HangUp::Disconnect,
            })?;
        }
        stage.spawn()?;
        stage.breathe()?;
    }
    stage.finish("storm", setting)
}
