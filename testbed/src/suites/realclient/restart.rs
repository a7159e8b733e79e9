//! The daemon dies under a real client, comes back, and the client never knows.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{connect, explain, ping_host_behind, subscriber};
use crate::lab::dialup::{Client, Interface};
use crate::lab::error::{LabError, Result, expect_that};
use crate::lab::image::Image;
use crate::lab::server::{Server, Settings};
use crate::lab::{BEHIND_ADDRESS, Lab};

/// How long the daemon stays dead: longer than xl2tpd's and pppd's first retransmissions.
const DEAD: Duration = Duration::from_secs(4);
/// Long enough after the restart for a renegotiation to show.
const WATCHED: Duration = Duration::from_secs(5);
/// SIGTERM must be fast: nothing is taken down.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// The daemon writes its counters so often; those of the last moments may be lost with it.
const CHECKPOINT: Duration = Duration::from_secs(11);

pub fn kill(image: &Image) -> Result<()> {
    survives(image, "ping -i 0.2 -W 1", |server| {
        server.kill();
        Ok(())
    })
}

pub fn terminate(image: &Image) -> Result<()> {
    survives(image, "ping -i 0.2 -W 1", |server| {
        let (status, took) = server.terminate()?;
        expect_that(status.success(), || {
            format!("SIGTERM: {status}\n{}", server.log())
        })?;
        expect_that(took < STOP_LIMIT, || format!("SIGTERM took {took:?}"))
    })
}

pub fn kill_in_flood(image: &Image) -> Result<()> {
    survives(image, "ping -f", |server| {
        server.kill();
        Ok(())
    })
}

/// Pings without a pause while the daemon stops as told, stays away, and comes back.
fn survives(image: &Image, ping: &str, stop: impl Fn(&mut Server) -> Result<()>) -> Result<()> {
    let lab = Lab::build(image)?;
    let mut server = Server::start(&lab, &Settings::default())?;
    let guest = lab.boot_guest()?;
    let mut dialup = subscriber(0);
    dialup.ppp_options = vec!["lcp-echo-interval 1".into(), "lcp-echo-failure 20".into()];
    let (client, interface) = connect(&guest, &server, &dialup)?;
    explain(&server, ping_host_behind(&guest))?;
    let before = Seen::now(&client, &interface)?;

    guest.start(&format!("{ping} -w 60 {BEHIND_ADDRESS} >/dev/null"))?;
    thread::sleep(CHECKPOINT);
    let old = only_session(&server)?;
    stop(&mut server)?;
    thread::sleep(DEAD);
    server.resume()?;
    explain(&server, ping_host_behind(&guest))?;
    let resumed = only_session(&server)?;
    thread::sleep(WATCHED);
    explain(&server, ping_host_behind(&guest))?;
    let new = only_session(&server)?;

    explain(&server, client.expect_undisturbed())?;
    explain(&server, before.expect_same(&Seen::now(&client, &interface)?))?;
    expect_counters_go_on(&old, &resumed)?;
    expect_counters_go_on(&resumed, &new)?;
    let (earlier, later) = (total(&resumed), total(&new));
    expect_that(later > earlier, || {
        format!("the counters stand still: {earlier} then {later}")
    })
}

/// What a client would notice.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    interface_index: u32,
    configure_requests: usize,
}

impl Seen {
    fn now(client: &Client, interface: &Interface) -> Result<Self> {
        Ok(Self {
            interface_index: client.interface_index(interface)?,
            configure_requests: client.configure_requests(),
        })
    }

    fn expect_same(&self, later: &Self) -> Result<()> {
        expect_that(self == later, || {
            format!("the client noticed the restart: {self:?} became {later:?}")
        })
    }
}

fn only_session(server: &Server) -> Result<Value> {
    let mut sessions = server.sessions()?;
    match (sessions.pop(), sessions.is_empty()) {
        (Some(session), true) => Ok(session),
        (last, _) => Err(LabError::unmet(format!(
            "one session expected, not {last:?} and {sessions:?}"
        ))),
    }
}

/// No counter of a session ever goes back.
fn expect_counters_go_on(old: &Value, new: &Value) -> Result<()> {
    for (name, value) in counters(old) {
        let now = counters(new)
            .into_iter()
            .find(|(other, _)| *other == name)
            .map_or(0, |(_, value)| value);
        expect_that(now >= value, || format!("{name} went back from {value} to {now}"))?;
    }
    Ok(())
}

/// The traffic counters of a session, by name.
fn counters(session: &Value) -> Vec<(String, u64)> {
    let fields = session.as_object().into_iter().flatten();
    let traffic = fields.filter(|(name, _)| name.contains("octets") || name.contains("packets"));
    traffic
        .filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)))
        .collect()
}

fn total(session: &Value) -> u64 {
    counters(session).iter().map(|(_, value)| value).sum()
}
