//! Which shard carries what.

use std::time::Duration;

use super::error::{Error, Outcome, ensure};
use super::site::{Site, ensure_undisturbed};
use super::{Setting, node_api};
use crate::node_config::Settings;
use crate::simulator::Command;

const SHARDS: usize = 4;
const TUNNELS: u32 = 100;
const SESSIONS: u32 = 400;
/// How long the data flow.
const FLOW: Duration = Duration::from_secs(4);

/// 100 tunnels over 4 shards with data both ways.
pub fn spread(setting: &Setting) -> Result<Outcome, Error> {
    let settings = Settings {
        shards: SHARDS,
        ..Settings::default()
    };
    let mut site = Site::start(setting, &settings)?;
    let plan = crate::simulator::Plan {
        lacs: 10,
        ..site.plan(TUNNELS, SESSIONS)
    };
    let mut simulator = site.dial(&plan, SESSIONS)?;
    let before = site.status()?;
    simulator.ask(&Command::Ping {
        interval_ms: 50,
        host: None,
        fast_sessions: 0,
        fast_interval_us: 0,
    })?;
    std::thread::sleep(FLOW);
    let after = site.status()?;
    ensure_undisturbed(&mut simulator, SESSIONS)?;

    let tunnels: Vec<_> = after.shards.iter().map(|shard| shard.tunnels).collect();
    let even = u64::from(TUNNELS) / SHARDS as u64;
    ensure(tunnels == vec![even; SHARDS], || {
        format!("tunnels of the shards: {tunnels:?}")
    })?;
    let handed_over = node_api::counter(&after, "shard_handed_over_total")
        - node_api::counter(&before, "shard_handed_over_total");
    ensure(handed_over == 0, || {
        format!("{handed_over} datagrams arrived at another shard than their tunnel's")
    })?;
    // Each shard has a quarter of the sessions, so it must have a quarter of their datagrams.
    let received = |index: usize| after.shards[index].rx_packets - before.shards[index].rx_packets;
    let all: u64 = (0..SHARDS).map(received).sum();
    for index in 0..SHARDS {
        let (of_shard, fair) = (
            received(index),
            all * after.shards[index].sessions / u64::from(SESSIONS),
        );
        ensure(of_shard.abs_diff(fair) <= fair / 20, || {
            format!("shard {index} received {of_shard} datagrams of {all}, its sessions sent about {fair}")
        })?;
    }
    Ok(Outcome::Held(format!(
        "{TUNNELS} tunnels as {tunnels:?}; {all} datagrams, each at its tunnel's shard, none handed over"
    )))
}
