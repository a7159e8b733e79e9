//! Case 11: RADIUS servers while nodes die. What the server heard is judged after each death ([`heard`]).

mod heard;
mod kills;
mod orders;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub use kills::kills;
pub use orders::orders;

use super::super::bed::CORE;
use super::super::error::{Error, Result};
use super::super::stage::Stage;
use crate::lab::freeradius::SECRET;
use crate::simulator::SessionState;
use heard::Living;

/// Subscriber names, `%` being a number, and what they all have in common.
pub const USER: &str = "r%";
pub const PASSWORD: &str = "known to RADIUS alone";
/// The shortest interim interval is a minute.
const GRANTED: &str = "    Class = 0x676f6c64,\n    Acct-Interim-Interval = 60\n";
/// Every so many subscribers one has an address of the server's, outside all pools; the first of those addresses.
const FIXED_EVERY: u32 = 4;
const FIRST_FIXED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const FIXED: u32 = 70;

/// An interim comes within a minute and its jitter.
const LIMIT: Duration = Duration::from_secs(100);
/// How long reports may take to reach the server once all is calm: a lost one is repeated after seconds.
const REPORTED_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// The port of CoA and Disconnect.
const COA_PORT: u16 = 3799;

/// What the nodes' configurations say of it. The other scenarios' subscribers are local ones.
pub fn sections() -> String {
    format!(
        "[aaa]\nlocal = \"first\"\n\n[[radius]]\naddress = \"{CORE}\"\nsecret = \"{SECRET}\"\ntimeout = \"1s\"\n\n\
         [coa]\nlisten = [\"0.0.0.0:{COA_PORT}\"]\n\n[[coa_client]]\naddress = \"{CORE}\"\nsecret = \"{SECRET}\"\n\n"
    )
}

/// The server's `users` file.
pub fn users() -> String {
    let mut text = String::new();
    for number in 0..FIXED {
        let (name, address) = (
            name_of(number * FIXED_EVERY),
            Ipv4Addr::from(u32::from(FIRST_FIXED) + number),
        );
        writeln!(
            text,
            "{name} Cleartext-Password := \"{PASSWORD}\"\n    Framed-IP-Address = {address},\n{GRANTED}"
        )
        .expect("writing to a string cannot fail");
    }
    text + &format!("DEFAULT Cleartext-Password := \"{PASSWORD}\"\n{GRANTED}")
}

fn name_of(subscriber: u32) -> String {
    USER.replace('%', &subscriber.to_string())
}

/// Who is in, as they see it themselves.
fn living(stage: &mut Stage) -> Result<Living> {
    let sessions = stage.simulator.sessions()?;
    let open = sessions
        .into_iter()
        .filter(|session| session.state == SessionState::Open);
    Ok(open
        .filter_map(|session| Some((name_of(session.subscriber), session.address?.to_string())))
        .collect())
}

/// Waits until the server has heard all that it is to hear and all tables agree with the subscribers, and judges what was heard.
fn judge(stage: &mut Stage, when: &str) -> Result<()> {
    let deadline = Instant::now() + REPORTED_LIMIT;
    let mut found = loop {
        let living = living(stage)?;
        let mut found = heard::missing(&of_subscribers(stage)?, &living);
        found.extend(in_tables(stage, &living)?);
        if found.is_empty() || Instant::now() > deadline {
            break found;
        }
        std::thread::sleep(POLL * 20);
    };
    found.extend(heard::faults(&of_subscribers(stage)?));
    let told = stage.bed.radius()?.accounting();
    let on = told
        .iter()
        .filter(|record| record["Acct-Status-Type"] == "Accounting-On")
        .count();
    if on > 1 {
        found.push(format!(
            "{on} times Accounting-On: the cluster was founded once, nodes were restarted"
        ));
    }
    for what in found {
        stage.breach(format!("{when}: {what}"));
    }
    Ok(())
}

/// What is in a node's table and should not be, or is not and should.
fn in_tables(stage: &Stage, living: &Living) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for node in stage.bed.nodes.values() {
        let mut sessions = node.sessions()?;
        sessions.retain(|session| session.user.is_empty() || session.user.starts_with('r'));
        for session in &sessions {
            let address = session.address.clone().unwrap_or_default();
            if living.get(&session.user) != Some(&address) {
                let (id, user, state) = (node.id, &session.user, &session.state);
                wrong.push(format!(
                    "node {id} has a session ({state}) of {user:?} with {address:?}, who says that he has {:?}",
                    living.get(user)
                ));
            }
        }
        for user in living.keys() {
            let count = sessions.iter().filter(|session| session.user == *user).count();
            if count != 1 {
                wrong.push(format!("node {} has {count} sessions of {user}", node.id));
            }
        }
    }
    Ok(wrong)
}

/// What the server has been told of our subscribers.
fn of_subscribers(stage: &Stage) -> Result<Vec<heard::Record>> {
    let mut records = stage.bed.radius()?.accounting();
    records.retain(|record| record.get("User-Name").is_some_and(|user| user.starts_with('r')));
    Ok(records)
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
