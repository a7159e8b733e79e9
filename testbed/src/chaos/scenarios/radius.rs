//! RADIUS: the moments at which a kill hurts most, judged by what FreeRADIUS has written down.

use std::time::{Duration, Instant};

use super::super::error::{Error, Result};
use super::super::radius::{Held, Living, name_of};
use super::super::stage::Stage;
use crate::node_config::USER;
use crate::simulator::{Command, HangUp, SessionState};

/// Calls on their way when the owner is killed.
const CALLS: u32 = 60;
/// How long the server may take to be asked by the node that is to be killed. Interims come within a minute and its jitter.
const ASKED_LIMIT: Duration = Duration::from_secs(90);
/// Requests under way may take so long to be all there.
const GATHER: Duration = Duration::from_millis(500);
/// How long reports may take to reach the server once all is calm: a lost one is repeated after seconds.
const REPORTED_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A kill between a request and what follows it.
#[derive(Clone, Copy, Debug)]
struct Moment {
    what: &'static str,
    held: Held,
    /// Absent: the answer is under way when the node dies. Present: it has had the answer for at most so long.
    answered: Option<Duration>,
}

const MOMENTS: &[Moment] = &[
    Moment {
        what: "between Access-Request and Accept",
        held: Held::Access,
        answered: None,
    },
    Moment {
        what: "as the Accepts arrive",
        held: Held::Access,
        answered: Some(Duration::from_millis(2)),
    },
    Moment {
        what: "between Accept and IPCP",
        held: Held::Access,
        answered: Some(Duration::from_millis(10)),
    },
    Moment {
        what: "after Start",
        held: Held::Start,
        answered: None,
    },
    Moment {
        what: "amid an interim",
        held: Held::Interim,
        answered: None,
    },
];

/// Kills the owner at each of them: no second grant, no second Start, no counter that falls, no Stop of who is in.
pub fn kills(stage: &mut Stage) -> Result<()> {
    for moment in MOMENTS {
        at(stage, *moment)?;
        stage.restore()?;
        judge(stage, moment.what)?;
    }
    stage.expect_no_failures()?;
    // What the interims said is in the Stops.
    stage.simulator.ask(&Command::HangUp {
        from: 0,
        sessions: Some(stage.setting.sessions / 4 * 3),
        by: HangUp::Terminate,
    })?;
    judge(stage, "at the end")
}

fn at(stage: &mut Stage, moment: Moment) -> Result<()> {
    let victim = owner_of_most_tunnels(stage)?;
    stage.bed.radius()?.relay.hold(moment.held);
    if moment.held != Held::Interim {
        stage.simulator.dial(CALLS, None)?;
    }
    let asked = wait_until_asked(stage, victim, moment)?;
    let delay = moment
        .answered
        .map(|longest| longest.mul_f64(rand::RngExt::random(&mut stage.rng)));
    let found = stage.event(|bed| {
        // Who is answered after the node's death has to be asked for again.
        match delay {
            Some(delay) => {
                bed.radius()?.relay.release();
                std::thread::sleep(delay);
                bed.node(victim)?.kill()
            }
            None => {
                bed.node(victim)?.kill()?;
                bed.radius()?.relay.release();
                Ok(())
            }
        }
    });
    stage.bed.radius()?.relay.release();
    stage.note(format!(
        "{}: node {victim} killed with {asked} under way",
        moment.what
    ));
    found
}

/// Waits until answers to this node are withheld; how many.
fn wait_until_asked(stage: &Stage, node: u8, moment: Moment) -> Result<usize> {
    let deadline = Instant::now() + ASKED_LIMIT;
    let relay = &stage.bed.radius()?.relay;
    while relay.waiting_for(node).is_empty() {
        if Instant::now() > deadline {
            let history = relay.history();
            let tail: Vec<_> = history.lines().rev().take(40).collect();
            relay.release();
            return Err(Error::Unmet(format!(
                "{}: node {node} has not asked the server; the last that passed, backwards:\n{}",
                moment.what,
                tail.join("\n")
            )));
        }
        std::thread::sleep(POLL);
    }
    std::thread::sleep(GATHER);
    Ok(relay.waiting_for(node).len())
}

/// The calls to come are spread over the tunnels.
pub fn owner_of_most_tunnels(stage: &Stage) -> Result<u8> {
    let mut most = (0, 0);
    for (id, node) in &stage.bed.nodes {
        most = most.max((node.tunnels()?.len(), *id));
    }
    Ok(most.1)
}

/// Who is in, as they see it themselves.
pub fn living(stage: &mut Stage) -> Result<Living> {
    let sessions = stage.simulator.sessions()?;
    let open = sessions
        .into_iter()
        .filter(|session| session.state == SessionState::Open);
    let mut living: Living = open
        .filter_map(|session| Some((name_of(session.subscriber), session.address?.to_string())))
        .collect();
    if let Ok(client) = stage.real_client() {
        living.insert(USER.into(), client.address().to_string());
    }
    Ok(living)
}

/// Waits until the server has heard all that it is to hear, and judges what it has heard; and what is in the nodes' tables.
pub fn judge(stage: &mut Stage, when: &str) -> Result<()> {
    let deadline = Instant::now() + REPORTED_LIMIT;
    let mut found = loop {
        let living = living(stage)?;
        let mut found = stage.bed.radius()?.missing(&living);
        found.extend(in_tables(stage, &living)?);
        if found.is_empty() || Instant::now() > deadline {
            found.extend(stage.bed.radius()?.wrong(&living));
            break found;
        }
        std::thread::sleep(POLL * 4);
    };
    found.dedup();
    for what in found {
        stage.breach(format!("{when}: {what}"));
    }
    let folder = stage.bed.folder().to_owned();
    stage.bed.radius()?.write_down(&folder)
}

/// What is in a node's table and should not be, or is not and should.
fn in_tables(stage: &Stage, living: &Living) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for node in stage.bed.nodes.values() {
        let sessions = node.sessions()?;
        for session in &sessions {
            let address = session.address.clone().unwrap_or_default();
            if living.get(&session.user) != Some(&address) {
                wrong.push(format!(
                    "node {}: {}/{} of {:?} with {address:?} ({}), who has {:?}",
                    node.id,
                    session.tunnel_id,
                    session.session_id,
                    session.user,
                    session.state,
                    living.get(&session.user)
                ));
            }
        }
        for user in living.keys() {
            let count = sessions.iter().filter(|session| session.user == *user).count();
            if count != 1 {
                wrong.push(format!("node {}: {user} has {count} sessions", node.id));
            }
        }
    }
    Ok(wrong)
}
