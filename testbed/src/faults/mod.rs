//! What a node must bear: panics inside it, standing still, orders to stop, hostile peers, a broken disk, a wrong start.
//!
//! Each scenario has a node of its own. Sessions that were established must not be lost or renegotiated by any of it;
//! where the node cannot go on or refuses something, it must name the thing and the remedy.

mod datagrams;
mod disk;
mod error;
mod flood;
pub(crate) mod node_api;
mod panics;
mod peers;
mod private_mount;
mod shards;
mod site;
mod stall;
mod startup;
mod stopping;
mod stored_log;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

pub use error::Error;
use error::Outcome;

use crate::node_program;

/// A scenario: its name, what it shows, and how it is played.
type Scenario = (&'static str, &'static str, fn(&Setting) -> Result<Outcome, Error>);

const SCENARIOS: &[Scenario] = &[
    (
        "panics",
        "20 panics each in a session, a tunnel and a shard disturb nobody",
        panics::twenty_each,
    ),
    (
        "panic-loop",
        "a session and a tunnel that keep panicking are closed and counted",
        panics::endless,
    ),
    (
        "shards",
        "each tunnel's uplink stays on its shard; 100 tunnels spread evenly over 4",
        shards::spread,
    ),
    (
        "sigterm",
        "SIGTERM again and again while calls arrive loses no session",
        stopping::sigterm_storm,
    ),
    (
        "disconnect",
        "shutdown --disconnect ends every session properly and leaves none behind",
        stopping::disconnect,
    ),
    (
        "stall",
        "a node that stood still throws away what waited for it; sessions stay",
        stall::thrice,
    ),
    ("secret", "a wrong tunnel secret", peers::wrong_secret),
    ("lac", "a LAC that no profile allows", peers::unknown_lac),
    (
        "garbage",
        "malformed packets from the tunnels' own address",
        peers::garbage,
    ),
    ("pool", "a full pool", peers::full_pool),
    (
        "address",
        "the pools hand out addresses that are in use; the session table refuses them",
        peers::address_in_use,
    ),
    (
        "flood-one",
        "half-open tunnels from one source; others still come in",
        flood::one_source,
    ),
    (
        "flood-many",
        "half-open tunnels from a hundred sources; calls still come in",
        flood::many_sources,
    ),
    (
        "disk-full",
        "a full disk under load, with a restart in between",
        disk::full,
    ),
    (
        "disk-read-only",
        "a data folder that cannot be written",
        disk::read_only,
    ),
    ("port", "a port in use", startup::port_in_use),
    (
        "second",
        "a second daemon on the same data",
        startup::second_daemon,
    ),
    (
        "tun-denied",
        "no right to make the TUN device",
        startup::tun_denied,
    ),
    ("tun-missing", "no /dev/net/tun", startup::tun_missing),
    (
        "log-damaged",
        "an octet of the durable log has flipped",
        stored_log::damaged,
    ),
    (
        "log-torn",
        "a torn write behind the durable log",
        stored_log::torn,
    ),
    ("log-newer", "a log of a newer version", stored_log::newer),
];

/// Options of `faults`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Plays these alone; absent: all of them.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
    /// Repeats the random choices of an earlier run; absent: new ones.
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps data and logs of the nodes.
    #[arg(long)]
    keep: bool,
    /// The `holdfast` program; absent: built from this workspace.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// What a scenario is played with.
#[derive(Clone, Debug)]
struct Setting {
    /// The `holdfast` program.
    program: PathBuf,
    /// The `holdfast-testbed` program, of which simulators become processes.
    testbed: PathBuf,
    seed: u64,
    keep: bool,
}

impl Options {
    /// Plays the scenarios one after the other. Exit code 1 if one of them found a violation.
    pub fn run(self) -> Result<ExitCode, Box<dyn std::error::Error>> {
        if self.list {
            for (name, what, _) in SCENARIOS {
                println!("{name:<15} {what}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let known = |name: &String| SCENARIOS.iter().any(|(known, ..)| known == name);
        if let Some(name) = self.scenario.iter().find(|name| !known(name)) {
            return Err(format!("there is no scenario {name}; see --list").into());
        }
        let setting = Setting {
            program: node_program::find_or_build(self.program.as_deref())?,
            testbed: std::env::current_exe()?,
            seed: self.seed.unwrap_or_else(rand::random),
            keep: self.keep,
        };
        let mut passed = true;
        for scenario in SCENARIOS {
            if self.scenario.is_empty() || self.scenario.iter().any(|name| name == scenario.0) {
                passed &= play(scenario, &setting);
            }
        }
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Plays one scenario and prints its line; whether nothing was wrong.
fn play((name, _, scenario): &Scenario, setting: &Setting) -> bool {
    let begun = Instant::now();
    match scenario(setting) {
        Ok(Outcome::Held(what)) => println!("ok   {name}: {what} ({:.1} s)", begun.elapsed().as_secs_f64()),
        Ok(Outcome::Skipped(why)) => println!("skip {name}: {why}"),
        Err(error) => {
            println!("FAIL {name}: {error} (seed {})", setting.seed);
            return false;
        }
    }
    true
}
