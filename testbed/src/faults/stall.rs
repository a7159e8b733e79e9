//! A node that stands still for a while, as if its host had been suspended.

use std::net::UdpSocket;
use std::time::Duration;

use holdfast::api::StatusReport;

use super::Setting;
use super::error::{Error, Outcome, ensure};
use super::node_api;
use super::site::{Site, ensure_undisturbed};
use crate::node_config::Settings;
use crate::simulator::Command;

const SESSIONS: u32 = 200;
const TUNNELS: u32 = 10;
const ROUNDS: u64 = 3;
/// Datagrams that a stranger sends meanwhile.
const STRANGE: u64 = 100;
/// How long the node stands still: well over the 200 ms that it takes for a stall.
const STALL: Duration = Duration::from_secs(1);
/// Data for a tunnel that does not exist: who looks at it counts it as such.
const UNKNOWN: [u8; 8] = [0, 2, 0x12, 0x34, 0, 1, 0xff, 3];

/// Three times SIGSTOP, datagrams, and SIGCONT. The LACs send HELLOs meanwhile, which must come again to be answered.
pub fn thrice(setting: &Setting) -> Result<Outcome, Error> {
    let mut site = Site::start(setting, &Settings::default())?;
    let plan = site.plan(TUNNELS, SESSIONS);
    let mut simulator = site.dial(&plan, SESSIONS)?;
    let stranger = UdpSocket::bind("127.0.0.1:0")?;
    for _ in 0..ROUNDS {
        let before = drops(&site.status()?, "backlog");
        let daemon = &site.node().daemon;
        daemon.freeze()?;
        simulator.ask(&Command::Hello)?;
        for _ in 0..STRANGE {
            stranger.send_to(&UNKNOWN, plan.target)?;
        }
        std::thread::sleep(STALL);
        daemon.thaw()?;
        site.wait("the backlog thrown away", |status| {
            drops(status, "backlog") >= before + STRANGE
        })?;
        ensure_undisturbed(&mut simulator, SESSIONS)?;
    }
    let status = site.status()?;
    let looked_at = drops(&status, "unknown_tunnel");
    ensure(looked_at == 0, || {
        format!("{looked_at} datagrams were handled that had waited through a stall")
    })?;
    Ok(Outcome::Held(format!(
        "{ROUNDS} times, {} datagrams thrown away in {} stalls of packet threads; {SESSIONS} sessions undisturbed",
        drops(&status, "backlog"),
        node_api::counter(&status, "shard_stalls_total")
    )))
}

/// Packets dropped for this reason, by all shards.
fn drops(status: &StatusReport, reason: &str) -> u64 {
    let rows = status.counters.iter().filter(|row| {
        row.name == "shard_drops_total" && row.labels.get("reason").is_some_and(|label| label == reason)
    });
    rows.map(|row| row.value).sum()
}
