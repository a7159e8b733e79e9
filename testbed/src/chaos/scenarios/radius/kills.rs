//! The owner dies between a request and what follows it.

use std::time::Duration;

use rand::RngExt;

use super::super::super::error::{Error, Result};
use super::super::super::relay::Held;
use super::super::super::stage::Stage;
use super::{judge, of_subscribers, until};
use crate::simulator::{Command, HangUp, Moment};

/// Calls in a round.
const FEW: u32 = 60;
/// Requests under way may take so long to be all there.
const GATHER: Duration = Duration::from_millis(500);
/// The longest that a node lives with answers to all its requests at once: so long they take it to carry out, by and by.
const ANSWERED: Duration = Duration::from_millis(10);

/// kill -9 at each of the moments, and each time what the server has heard of it.
pub fn kills(stage: &mut Stage) -> Result<()> {
    unanswered(stage, Held::Access, "between Access-Request and Accept")?;
    accepted(stage)?;
    authenticated(stage)?;
    unanswered(stage, Held::Start, "right after Start")?;
    unanswered(stage, Held::Interim, "amid an interim")?;
    stage.expect_no_failures()?;
    // What the interims have said is in the Stops; who is in has none.
    stage.simulator.ask(&Command::HangUp {
        from: 0,
        sessions: Some(stage.setting.sessions / 4 * 3),
        by: HangUp::Terminate,
    })?;
    judge(stage, "after the end of most sessions")?;
    let records = of_subscribers(stage)?;
    let counts = ["Start", "Interim-Update", "Stop"].map(|status| {
        let of_it = records
            .iter()
            .filter(|record| record["Acct-Status-Type"] == status);
        of_it.count()
    });
    stage.note(format!(
        "{} Starts, {} interims, {} Stops, copies included",
        counts[0], counts[1], counts[2]
    ));
    Ok(())
}

/// The server has had the owner's requests, and its answers are withheld until the owner is dead.
fn unanswered(stage: &mut Stage, held: Held, when: &str) -> Result<()> {
    let victim = ask(stage, held, when)?;
    let found = stage.event(|bed| {
        bed.node(victim)?.kill()?;
        bed.relay()?.release();
        Ok(())
    });
    finish(stage, found, when)
}

/// All answers leave at once, and the owner dies before it has carried all of them out.
fn accepted(stage: &mut Stage) -> Result<()> {
    let when = "between Accept and IPCP";
    let victim = ask(stage, Held::Access, when)?;
    let delay = ANSWERED.mul_f64(stage.rng.random());
    let found = stage.event(|bed| {
        bed.relay()?.release();
        std::thread::sleep(delay);
        bed.node(victim)?.kill()
    });
    finish(stage, found, when)
}

/// In the instant in which a client hears that it is let in.
fn authenticated(stage: &mut Stage) -> Result<()> {
    let count = stage.rng.random_range(1..=u64::from(FEW / 10));
    let victim = owner_of_most_tunnels(stage)?;
    let found = stage.event_at(
        (Moment::Authenticated, count, Duration::ZERO),
        victim,
        |simulator| Ok(simulator.dial(FEW, None)?),
    );
    finish(stage, found, "as a client is let in")
}

/// Withholds answers of a kind until some are on their way to a node with calls under way, which is returned.
fn ask(stage: &mut Stage, held: Held, when: &str) -> Result<u8> {
    let victim = owner_of_most_tunnels(stage)?;
    stage.bed.relay()?.hold(held);
    if held != Held::Interim {
        stage.simulator.dial(FEW, None)?;
    }
    let asked = until(stage, &format!("{when}: requests of node {victim}"), |stage| {
        Ok(!stage.bed.relay()?.waiting_for(victim).is_empty())
    });
    if asked.is_err() {
        stage.bed.relay()?.release();
        // Else it is taken to be the cluster's fault that nobody comes in from here on.
    }
    asked?;
    std::thread::sleep(GATHER);
    let users = stage.bed.relay()?.waiting_for(victim);
    stage.note(format!(
        "{when}: node {victim}, with answers for {} users under way",
        users.len()
    ));
    Ok(victim)
}

fn finish(stage: &mut Stage, found: Result<()>, when: &str) -> Result<()> {
    stage.bed.relay()?.release();
    found.map_err(|error| Error::Unmet(format!("{when}: {error}")))?;
    stage.restore()?;
    judge(stage, when)
}

/// The calls to come are spread over the tunnels.
fn owner_of_most_tunnels(stage: &Stage) -> Result<u8> {
    let mut most = (0, 0);
    for (id, node) in &stage.bed.nodes {
        most = most.max((node.tunnels()?.len(), *id));
    }
    Ok(most.1)
}
