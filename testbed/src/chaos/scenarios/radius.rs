//! Case 11: RADIUS servers while nodes die. What the server heard is judged in the end ([`heard`]).

mod heard;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use holdfast::api::types::{SessionInfo, StatusReport};
use nix::sys::signal::Signal;
use rand::RngExt;

use super::super::bed::CORE;
use super::super::error::{Error, Result};
use super::super::stage::Stage;
use crate::lab::freeradius::SECRET;
use crate::lab::radclient;
use crate::simulator::{Command, HangUp, Moment};

/// Subscriber names, `%` being a number, and what they all have in common.
pub const USER: &str = "r%";
pub const PASSWORD: &str = "known to RADIUS alone";
pub const USERS: &str = "DEFAULT Cleartext-Password := \"known to RADIUS alone\"\n    Class = 0x676f6c64,\n    Acct-Interim-Interval = 60\n";

/// Calls in a round.
const FEW: u32 = 40;
/// The shortest interim interval is a minute.
const LIMIT: Duration = Duration::from_secs(100);
const POLL: Duration = Duration::from_millis(1);
/// The port of CoA and Disconnect.
const COA_PORT: u16 = 3799;

/// What the nodes' configurations say of it. The other scenarios' subscribers are local ones.
pub fn sections() -> String {
    format!(
        "[aaa]\nlocal = \"first\"\n\n[[radius]]\naddress = \"{CORE}\"\nsecret = \"{SECRET}\"\ntimeout = \"500ms\"\n\n\
         [coa]\nlisten = [\"0.0.0.0:{COA_PORT}\"]\n\n[[coa_client]]\naddress = \"{CORE}\"\nsecret = \"{SECRET}\"\n\n"
    )
}

/// kill -9 at each of the moments, and then what the server has heard of it all.
pub fn kills(stage: &mut Stage) -> Result<()> {
    unanswered(stage)?;
    let count = stage.rng.random_range(1..=u64::from(FEW / 5));
    let victim = stage.owner()?;
    stage.event_at(
        (Moment::Authenticated, count, Duration::ZERO),
        victim,
        |simulator| Ok(simulator.dial(FEW, None)?),
    )?;
    stage.restore()?;
    started(stage)?;
    interim(stage)?;
    stage.expect_no_failures()?;
    judge(stage)
}

/// Between Access-Request and Accept: the server holds its answers until the owner is dead.
fn unanswered(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    stage.simulator.ask(&Command::Mark)?;
    stage.bed.radius()?.signal(Signal::SIGSTOP)?;
    stage.simulator.dial(FEW, None)?;
    until(stage, "the owner's Access-Requests", |stage| {
        Ok(outstanding(stage, victim, "access")? > 0)
    })?;
    stage.bed.node(victim)?.kill()?;
    stage.bed.radius()?.signal(Signal::SIGCONT)?;
    stage.conclude()?;
    stage.restore()
}

/// Right after the first Start of a call.
fn started(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    let starts = |stage: &Stage| count(stage, "Start");
    stage.simulator.ask(&Command::Mark)?;
    let before = starts(stage)?;
    stage.simulator.dial(FEW, None)?;
    until(stage, "a Start", |stage| Ok(starts(stage)? > before))?;
    stage.bed.node(victim)?.kill()?;
    stage.conclude()?;
    stage.restore()
}

/// An interim is under way, and nobody has answered it.
fn interim(stage: &mut Stage) -> Result<()> {
    let victim = stage.owner()?;
    stage.simulator.ask(&Command::Mark)?;
    let before = count(stage, "Interim-Update")?;
    stage.bed.radius()?.signal(Signal::SIGSTOP)?;
    until(stage, "the owner's interims", |stage| {
        Ok(outstanding(stage, victim, "accounting")? > 0)
    })?;
    stage.bed.node(victim)?.kill()?;
    stage.bed.radius()?.signal(Signal::SIGCONT)?;
    until(stage, "an interim of each session", |stage| {
        let since = count(stage, "Interim-Update")?.saturating_sub(before);
        Ok(since >= stage.setting.sessions as usize)
    })?;
    stage.restore()
}

/// All hang up; when the server has heard of every end, it has heard nothing wrong.
fn judge(stage: &mut Stage) -> Result<()> {
    stage.simulator.ask(&Command::HangUp {
        from: 0,
        sessions: None,
        by: HangUp::Disconnect,
    })?;
    let ended = until(stage, "a Stop for each Start", |stage| {
        Ok(heard::open(&of_subscribers(stage)?).is_empty())
    });
    // Beside the nodes' logs, for whoever looks into a failure.
    std::fs::write(stage.bed.folder().join("records"), stage.bed.radius()?.records())?;
    let records = of_subscribers(stage)?;
    for fault in heard::faults(&records) {
        stage.breach(fault);
    }
    let named = |status: &str| {
        records
            .iter()
            .filter(|record| record["Acct-Status-Type"] == status)
            .count()
    };
    let (starts, interims, stops) = (named("Start"), named("Interim-Update"), named("Stop"));
    stage.note(format!("{starts} Starts, {interims} interims, {stops} Stops"));
    ended
}

/// Orders at every node for sessions that others own, and while nodes die.
pub fn orders(stage: &mut Stage) -> Result<()> {
    stage.simulator.ask(&Command::Mark)?;
    // Those who are here to stay are not disconnected.
    stage.simulator.dial(FEW, None)?;
    stage
        .simulator
        .wait_until("the calls", LIMIT, |report| report.sessions_pending == 0)?;
    let nodes: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    for node in nodes {
        let user = user_of_another(stage, node)?;
        expect(
            order(stage, node, "coa", &user, "Class=0x73696c766572")?,
            "Received CoA-ACK",
        )?;
        expect(
            order(stage, node, "coa", &user, "Framed-Pool=x")?,
            "Unsupported-Attribute",
        )?;
        expect(
            order(stage, node, "disconnect", &user, "")?,
            "Received Disconnect-ACK",
        )?;
        let gone = stage.bed.nodes[&node].ask(&["sessions"])?;
        if sessions(gone)?.iter().any(|session| session.user == user) {
            stage.breach(format!(
                "{user} was disconnected at node {node}, which still has his session"
            ));
        }
        until(stage, "the Stop", |stage| {
            let records = of_subscribers(stage)?;
            let stop = records
                .iter()
                .rev()
                .find(|record| record["Acct-Status-Type"] == "Stop");
            Ok(stop.is_some_and(|stop| {
                stop["User-Name"] == user
                    && stop["Class"] == "0x73696c766572"
                    && stop["Acct-Terminate-Cause"] == "Admin-Reset"
            }))
        })?;
    }
    owner_dies(stage)?;
    told_dies(stage)?;
    judge(stage)
}

/// The owner holds still, so that the order is under way, and dies: who takes its place carries it out.
fn owner_dies(stage: &mut Stage) -> Result<()> {
    let owner = stage.owner()?;
    let told = *stage
        .bed
        .nodes
        .keys()
        .find(|id| **id != owner)
        .expect("there are three");
    let user = user_of(stage, owner)?;
    stage.bed.node(owner)?.signal(Signal::SIGSTOP)?;
    let said = std::thread::scope(|scope| {
        let bed = &stage.bed;
        let asking = scope.spawn(|| {
            radclient::order(
                Some(&bed.core),
                coa(told),
                "coa",
                &attributes(&user, "Class=0x6c617465"),
                SECRET,
            )
        });
        std::thread::sleep(Duration::from_millis(200));
        bed.nodes[&owner].signal(Signal::SIGKILL)?;
        let said = asking.join().expect("it does not panic");
        Ok::<_, Error>(said?)
    })?;
    stage.bed.node(owner)?.reap()?;
    expect(said, "Received CoA-ACK")?;
    stage.restore()
}

/// Whoever was told dies before it answers: the server asks another node, and the change is made once or twice, to the same.
fn told_dies(stage: &mut Stage) -> Result<()> {
    let owner = stage.owner()?;
    let user = user_of(stage, owner)?;
    let change = attributes(&user, "Class=0x6c6174657374");
    let others: Vec<u8> = stage
        .bed
        .nodes
        .keys()
        .copied()
        .filter(|id| *id != owner)
        .collect();
    let [told, another] = others[..] else {
        return Err(Error::Unmet("this needs three nodes".into()));
    };
    std::thread::scope(|scope| {
        let bed = &stage.bed;
        let asking = scope.spawn(|| radclient::order(Some(&bed.core), coa(told), "coa", &change, SECRET));
        bed.nodes[&told].signal(Signal::SIGKILL)?;
        let said = asking.join().expect("it does not panic")?;
        expect(said, "No reply")
    })?;
    stage.bed.node(told)?.reap()?;
    let said = radclient::order(Some(&stage.bed.core), coa(another), "coa", &change, SECRET)?;
    expect(said, "Received CoA-ACK")?;
    stage.restore()
}

fn attributes(user: &str, more: &str) -> String {
    let separator = if more.is_empty() { "" } else { "," };
    format!("User-Name={user}{separator}{more}")
}

/// The node's address on the core's side.
fn coa(node: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 2, node, 2), COA_PORT).into()
}

fn order(stage: &Stage, node: u8, kind: &str, user: &str, more: &str) -> Result<String> {
    let said = radclient::order(
        Some(&stage.bed.core),
        coa(node),
        kind,
        &attributes(user, more),
        SECRET,
    )?;
    Ok(said)
}

fn expect(said: String, words: &str) -> Result<()> {
    match said.contains(words) {
        true => Ok(()),
        false => Err(Error::Unmet(format!("no \"{words}\" in\n{said}"))),
    }
}

fn sessions(value: serde_json::Value) -> Result<Vec<SessionInfo>> {
    serde_json::from_value(value).map_err(|error| Error::Unmet(format!("sessions: {error}")))
}

/// A subscriber whose session `node` owns.
fn user_of(stage: &Stage, node: u8) -> Result<String> {
    let tunnels: Vec<u16> = stage.bed.nodes[&node]
        .tunnels()?
        .iter()
        .map(|tunnel| tunnel.tunnel_id)
        .collect();
    let all = sessions(stage.bed.nodes[&node].ask(&["sessions"])?)?;
    let stays = |user: &str| {
        let number = user.strip_prefix('r').and_then(|number| number.parse().ok());
        number.is_none_or(|number: u32| number < stage.setting.sessions)
    };
    let is_meant = |session: &&SessionInfo| {
        session.state == "open" && !stays(&session.user) && tunnels.contains(&session.tunnel_id)
    };
    let found = all.iter().find(is_meant).map(|session| session.user.clone());
    found.ok_or_else(|| Error::Unmet(format!("node {node} owns no session")))
}

fn user_of_another(stage: &Stage, node: u8) -> Result<String> {
    let others = stage.bed.nodes.keys().filter(|id| **id != node);
    let found = others.map(|id| user_of(stage, *id)).find(Result::is_ok);
    found.unwrap_or_else(|| Err(Error::Unmet("nobody else owns a session".into())))
}

/// What a node has asked the server and not been answered.
fn outstanding(stage: &Stage, node: u8, purpose: &str) -> Result<u64> {
    let status = stage.bed.nodes[&node].ask(&["status"])?;
    let status: StatusReport =
        serde_json::from_value(status).map_err(|error| Error::Unmet(format!("status: {error}")))?;
    let servers = status.radius.iter().filter(|server| server.purpose == purpose);
    Ok(servers.map(|server| server.outstanding).sum())
}

/// What the server has been told of our subscribers.
fn of_subscribers(stage: &Stage) -> Result<Vec<heard::Record>> {
    let mut records = stage.bed.radius()?.accounting();
    records.retain(|record| record.get("User-Name").is_some_and(|user| user.starts_with('r')));
    Ok(records)
}

fn count(stage: &Stage, status: &str) -> Result<usize> {
    let records = of_subscribers(stage)?;
    Ok(records
        .iter()
        .filter(|record| record["Acct-Status-Type"] == status)
        .count())
}

fn until(stage: &mut Stage, what: &str, holds: impl Fn(&Stage) -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !holds(stage)? {
        if Instant::now() > deadline {
            return Err(Error::Unmet(format!(
                "{what}: waited for in vain for {} s",
                LIMIT.as_secs()
            )));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
