//! Chaos in the lab: real nodes in namespaces behind real routers, and LACs that notice everything.
//!
//! ```text
//!   Stage ── Simulator   LACs and subscribers in a namespace of their own: what they see is all that counts
//!     └──── Bed          routers, nodes, core
//!            ├── Node    the `holdfast` process, its BIRD, its namespace
//!            └── Mesh    the network between the nodes, which can lose, delay and cut
//! ```
//!
//! A scenario does one thing at a time to the bed, and each time the simulator measures from a mark on. Scenarios share
//! one bed and leave it whole. What is written down: nothing here asserts a time.

mod bed;
mod error;
mod intruder;
mod membership;
mod mesh;
mod node;
mod real_client;
mod relay;
mod scenarios;
mod slow_disk;
mod speaker;
mod stage;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

pub use bed::{ANYCAST, Bed, CORE, Settings};
pub use error::{Error, Result};
pub use node::{Member, View};
pub use scenarios::{Needs, Scenario};
pub use stage::{Setting, Stage};
pub use verdict::{Spread, Summary, Verdict};

use crate::lab::image::Image;
use crate::lab::{apt, cleanup};
use crate::node_program;

/// Programs that the lab calls and the packages that bring them.
pub const NEEDED: &[(&str, &str)] = &[("ip", "iproute2"), ("bird", "bird2"), ("cc", "gcc")];

/// The same for the real client's image.
const NEEDED_BY_CLIENT: &[(&str, &str)] = &[("dpkg-deb", "dpkg"), ("tar", "tar"), ("chroot", "coreutils")];

/// Two nodes that serve, and the witness.
const WITH_WITNESS: u8 = 3;

/// Options of `chaos`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// What to do; `--list` names the scenarios.
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["list", "all"])]
    scenario: Vec<String>,
    /// Names the scenarios.
    #[arg(long)]
    list: bool,
    /// Plays every one.
    #[arg(long, conflicts_with = "scenario")]
    all: bool,
    /// Repeats the random choices of an earlier run; absent: new ones.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints one JSON object as the last line.
    #[arg(long)]
    json: bool,
    #[arg(long, default_value_t = 1000)]
    sessions: u32,
    #[arg(long, default_value_t = 20)]
    tunnels: u32,
    /// A single node is no cluster: it is started again right after it is killed.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Milliseconds between two BFD packets; a neighbour is gone after three.
    #[arg(long, default_value_t = 100)]
    bfd_ms: u32,
    /// In `power` the disks are lost too: it must fail then, or it finds nothing.
    #[arg(long)]
    sabotage: bool,
    /// The LACs demand numbers in data messages, which only a session's owner may give.
    #[arg(long)]
    sequencing: bool,
    /// Leaves out the real client, a guest with xl2tpd and pppd.
    #[arg(long)]
    without_client: bool,
    /// The `holdfast` program; absent: built from this workspace.
    #[arg(long)]
    program: Option<PathBuf>,
}

impl Options {
    /// Plays the scenarios one after the other. Exit code 1 if a subscriber noticed more than silence.
    pub fn run(self) -> std::result::Result<ExitCode, Box<dyn std::error::Error>> {
        if self.list {
            for scenario in scenarios::ALL {
                println!("{:<18} {}", scenario.name, scenario.about);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let chosen = self.chosen()?;
        prepare()?;
        let program = node_program::find_or_build(self.program.as_deref())?;
        let image = if self.without_client {
            None
        } else {
            apt::install_missing(NEEDED_BY_CLIENT)?;
            Some(Image::prepare()?)
        };
        let seed = self.seed.unwrap_or_else(rand::random);
        let setting = Setting {
            sessions: self.sessions,
            tunnels: self.tunnels,
            seed,
            sabotage: self.sabotage,
            sequencing: self.sequencing,
        };
        let upgrade = chosen.iter().any(|scenario| scenario.needs == Needs::Upgrade);
        let next_program = if upgrade {
            println!(
                "building the stand-in for a later release: one field more in its rows, its table one version higher"
            );
            Some(node_program::build_next()?)
        } else {
            None
        };
        let mut verdicts = Vec::new();
        for kind in [
            BedKind::Standing,
            BedKind::Upgraded,
            BedKind::WithWitness,
            BedKind::WithRadius,
        ] {
            let fit: Vec<_> = chosen
                .iter()
                .filter(|scenario| BedKind::of(scenario.needs) == kind)
                .copied()
                .collect();
            if fit.is_empty() {
                continue;
            }
            let witness = kind == BedKind::WithWitness;
            let setting = match kind {
                BedKind::WithRadius => setting.small(),
                _ => setting,
            };
            let bed = Bed::build(&Settings {
                program: program.clone(),
                next_program: next_program.clone(),
                nodes: if witness { WITH_WITNESS } else { self.nodes },
                witness,
                bfd_ms: self.bfd_ms,
                radius: kind == BedKind::WithRadius,
                seed,
            })?;
            let mut stage = Stage::open(bed, setting, image.clone())?;
            verdicts.extend(play_all(&mut stage, &fit)?);
        }
        if verdicts.len() > 1 {
            print!("{}", verdict::table(&verdicts));
        }
        if self.json {
            println!("{}", json(&verdicts)?);
        }
        let passed = verdicts.iter().all(Verdict::passed);
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn chosen(&self) -> std::result::Result<Vec<Scenario>, String> {
        let fits = |scenario: &&Scenario| self.nodes > 1 || scenario.needs == Needs::Anything;
        if self.all {
            return Ok(scenarios::ALL.iter().filter(fits).copied().collect());
        }
        let find = |name: &String| {
            let known = scenarios::ALL.iter().find(|scenario| scenario.name == *name);
            let known = known.ok_or_else(|| format!("there is no scenario {name}; see --list"))?;
            let fitting = Some(*known).filter(|scenario| fits(&scenario));
            fitting.ok_or_else(|| format!("{name} needs more than one node"))
        };
        self.scenario.iter().map(find).collect()
    }
}

/// What a [`Bed`] needs of the machine.
///
/// # Errors
/// Without root, and if a package cannot be installed.
pub fn prepare() -> std::result::Result<(), Box<dyn std::error::Error>> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err("the lab is made of network namespaces: run this as root".into());
    }
    cleanup::install()?;
    apt::install_missing(NEEDED)?;
    Ok(())
}

/// Scenarios that share a bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BedKind {
    Standing,
    Upgraded,
    WithWitness,
    WithRadius,
}

impl BedKind {
    fn of(needs: Needs) -> Self {
        match needs {
            Needs::Anything | Needs::Cluster => Self::Standing,
            Needs::Upgrade => Self::Upgraded,
            Needs::Witness => Self::WithWitness,
            Needs::Radius => Self::WithRadius,
        }
    }
}

/// Plays scenarios on one stage and prints a line for each.
pub fn play_all(stage: &mut Stage, chosen: &[Scenario]) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for scenario in chosen {
        stage.begin()?;
        let outcome = (scenario.play)(stage);
        let broken = outcome.is_err();
        let mut verdict = stage.finish(scenario.name, outcome)?;
        // Whatever it was, the next scenario begins with a whole bed, if there can be one.
        let hopeless = broken.then(|| stage.restore().err()).flatten();
        if let Some(error) = &hopeless {
            verdict
                .broken
                .push(format!("the lab cannot be restored, all ends here: {error}"));
        }
        println!("{verdict}");
        verdicts.push(verdict);
        if hopeless.is_some() {
            break;
        }
    }
    Ok(verdicts)
}

/// One scenario is its own object; several are summed up.
fn json(verdicts: &[Verdict]) -> serde_json::Result<String> {
    match verdicts {
        [verdict] => serde_json::to_string(verdict),
        several => serde_json::to_string(&Summary::of(several)),
    }
}
