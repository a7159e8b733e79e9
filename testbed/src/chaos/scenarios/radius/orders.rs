//! CoA and Disconnect at nodes that do not own the session, while nodes die.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use holdfast::api::types::SessionInfo;
use rand::RngExt;

use super::super::super::bed::Bed;
use super::super::super::error::{Error, Result};
use super::super::super::stage::Stage;
use super::{COA_PORT, judge, of_subscribers, until};
use crate::lab::freeradius::{Record, SECRET};
use crate::lab::radclient;
use crate::simulator::{Command, Impairment};

/// Sessions that orders are about.
const FEW: u32 = 60;
const DIAL_LIMIT: Duration = Duration::from_secs(30);
/// From node to node, each way: an order takes some of these.
const MESH_DELAY_MS: u64 = 15;
/// Within this time of an order's sending a node is killed. Later it has been carried out.
const MIDDLE: Duration = Duration::from_millis(120);
/// Seconds for which `radclient` repeats a packet, one a second: a node is started again meanwhile, or a session taken over.
const TRIES: u32 = 20;
/// What every change in whose middle a node dies says.
const NEW_CLASS: &str = "0x6c617465";

/// A change, and how its session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Each half of it is seen in the Stop: it ends the session at once, for that reason.
    Ending,
    /// The session goes on until a Disconnect.
    Lasting,
}

/// Orders at every node for sessions that others own, and while nodes die.
pub fn orders(stage: &mut Stage) -> Result<()> {
    stage.simulator.ask(&Command::Mark)?;
    // Those who are here to stay are not disconnected.
    stage.simulator.dial(FEW, None)?;
    stage
        .simulator
        .wait_until("the calls", DIAL_LIMIT, |report| report.sessions_pending == 0)?;
    let nodes: Vec<u8> = stage.bed.nodes.keys().copied().collect();
    for node in nodes {
        at(stage, node)?;
    }
    for change in [Change::Ending, Change::Lasting] {
        owner_dies(stage, change)?;
        owner_dies(stage, change)?;
        told_dies(stage, change)?;
    }
    judge(stage, "after the orders")
}

/// A change, one that cannot be, and the end; each is seen at all nodes and by the server.
fn at(stage: &mut Stage, node: u8) -> Result<()> {
    let session = session_of_another(stage, node)?;
    let user = &session.user;
    let order = |kind: &str, more: &str| order(stage, node, kind, &attributes(user, more));
    let change = "Class=0x73696c766572,WISPr-Bandwidth-Max-Down=2000000";
    expect(&order("coa", change)?, "Received CoA-ACK")?;
    expect(
        &order("coa", "Class=0x626164,Framed-Pool=x")?,
        "Unsupported-Attribute",
    )?;
    expect(&order("disconnect", "")?, "Received Disconnect-ACK")?;
    if stage.bed.nodes[&node]
        .sessions()?
        .iter()
        .any(|found| found.user == *user)
    {
        stage.breach(format!(
            "{user} was disconnected at node {node}, which still has his session"
        ));
    }
    let stop = stop_of(stage, &session)?;
    expect_of(&stop, "Class", "0x73696c766572")?;
    expect_of(&stop, "Acct-Terminate-Cause", "Admin-Reset")?;
    expect(
        &self::order(stage, node, "disconnect", &attributes(user, ""))?,
        "Session-Context-Not-Found",
    )
}

/// The owner dies in the middle of an order that another node was given.
fn owner_dies(stage: &mut Stage, change: Change) -> Result<()> {
    let told = *stage.bed.nodes.keys().next().expect("there are three");
    let session = session_of_another(stage, told)?;
    let victim = owner_of(stage, &session.user)?;
    dies(stage, &session, change, (told, victim))
}

/// The node that was given the order dies in the middle of it, and is asked again by the same packet once it is back.
fn told_dies(stage: &mut Stage, change: Change) -> Result<()> {
    let told = *stage.bed.nodes.keys().next_back().expect("there are three");
    let session = session_of_another(stage, told)?;
    dies(stage, &session, change, (told, told))
}

/// Whatever the moment: in the end all of the order was carried out or nothing, and the answer says which.
fn dies(stage: &mut Stage, session: &SessionInfo, change: Change, (told, victim): (u8, u8)) -> Result<()> {
    let user = &session.user;
    let delay = MIDDLE.mul_f64(stage.rng.random());
    stage.bed.mesh.impair_all(Impairment {
        delay_ms: MESH_DELAY_MS,
        ..Impairment::default()
    });
    let (timeout, cause) = match change {
        Change::Ending => (1, "Session-Timeout"),
        Change::Lasting => (3600, "Admin-Reset"),
    };
    let wanted = attributes(user, &format!("Class={NEW_CLASS},Session-Timeout={timeout}"));
    let Bed {
        nodes, core, mesh, ..
    } = &mut stage.bed;
    let said = std::thread::scope(|scope| {
        let asking = scope.spawn(|| radclient::repeat(core, coa(told), "coa", &wanted, SECRET, TRIES));
        // It starts before the packet leaves; what precedes the packet is the moment, too.
        std::thread::sleep(delay);
        let node = nodes.get_mut(&victim).expect("it owns a session or was told");
        node.kill()?;
        mesh.heal();
        if told == victim {
            node.start()?;
        }
        Ok::<_, Error>(asking.join().expect("it does not panic")?)
    })?;
    stage.restore()?;
    let when = format!(
        "{change:?}: node {told} told to change {user}, node {victim} killed {:.0} ms later",
        delay.as_secs_f64() * 1000.0
    );
    let word = if said.contains("Received CoA-ACK") {
        "ACK"
    } else if change == Change::Ending && said.contains("Session-Context-Not-Found") {
        // True as well: the order was carried out, and the session over, before the node that answers looked.
        "NAK, the session is gone"
    } else {
        return Err(Error::Unmet(format!("{when}: the answer was\n{said}")));
    };
    stage.note(format!("{when}: {word}"));
    if change == Change::Lasting {
        expect(
            &order(stage, told, "disconnect", &attributes(user, ""))?,
            "Received Disconnect-ACK",
        )?;
    }
    let stop =
        stop_of(stage, session).map_err(|error| Error::Unmet(format!("{when}: {word}, but {error}")))?;
    for (name, value) in [("Class", NEW_CLASS), ("Acct-Terminate-Cause", cause)] {
        expect_of(&stop, name, value).map_err(|error| Error::Unmet(format!("{when}: {word}: {error}")))?;
    }
    Ok(())
}

fn attributes(user: &str, more: &str) -> String {
    let separator = if more.is_empty() { "" } else { "," };
    format!("User-Name={user}{separator}{more}")
}

/// The node's address on the core's side.
fn coa(node: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 2, node, 2), COA_PORT).into()
}

fn order(stage: &Stage, node: u8, kind: &str, attributes: &str) -> Result<String> {
    let core = Some(&stage.bed.core);
    Ok(radclient::order(core, coa(node), kind, attributes, SECRET)?)
}

/// The Stop of a session, once there is one.
fn stop_of(stage: &mut Stage, session: &SessionInfo) -> Result<Record> {
    let (id, user) = (&session.acct_session_id, &session.user);
    let find = |stage: &Stage| -> Result<Option<Record>> {
        let mut records = of_subscribers(stage)?;
        records.retain(|record| record["Acct-Status-Type"] == "Stop" && record["Acct-Session-Id"] == *id);
        Ok(records.pop())
    };
    until(stage, &format!("the Stop of {user}, session {id}"), |stage| {
        Ok(find(stage)?.is_some())
    })?;
    find(stage)?.ok_or_else(|| Error::Unmet(format!("no Stop of {user}")))
}

fn expect(said: &str, words: &str) -> Result<()> {
    match said.contains(words) {
        true => Ok(()),
        false => Err(Error::Unmet(format!("no \"{words}\" in\n{said}"))),
    }
}

fn expect_of(record: &Record, name: &str, value: &str) -> Result<()> {
    match record.get(name).is_some_and(|found| found == value) {
        true => Ok(()),
        false => Err(Error::Unmet(format!("no {name} = {value} in {record:?}"))),
    }
}

/// The node that owns a user's session.
fn owner_of(stage: &Stage, user: &str) -> Result<u8> {
    for node in stage.bed.nodes.values() {
        if sessions_of(stage, node.id)?
            .iter()
            .any(|found| found.user == user)
        {
            return Ok(node.id);
        }
    }
    Err(Error::Unmet(format!("nobody owns the session of {user}")))
}

/// Sessions that `node` owns and that may be disturbed.
fn sessions_of(stage: &Stage, node: u8) -> Result<Vec<SessionInfo>> {
    let node = &stage.bed.nodes[&node];
    let tunnels: Vec<u16> = node.tunnels()?.iter().map(|tunnel| tunnel.tunnel_id).collect();
    let stays = |user: &str| {
        let number = user.strip_prefix('r').and_then(|number| number.parse().ok());
        number.is_none_or(|number: u32| number < stage.setting.sessions)
    };
    let is_meant = |session: &SessionInfo| {
        session.state == "open" && !stays(&session.user) && tunnels.contains(&session.tunnel_id)
    };
    let mut sessions = node.sessions()?;
    sessions.retain(is_meant);
    Ok(sessions)
}

fn session_of_another(stage: &Stage, node: u8) -> Result<SessionInfo> {
    for other in stage.bed.nodes.keys().filter(|id| **id != node) {
        if let Some(session) = sessions_of(stage, *other)?.pop() {
            return Ok(session);
        }
    }
    Err(Error::Unmet(format!("no node but {node} owns a session")))
}
