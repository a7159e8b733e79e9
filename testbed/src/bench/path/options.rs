//! `bench` without `--setup`, `--hold` and `--cluster`: what of the data path is measured, and where the results go.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cell::{self, Sending};
use super::results::{Document, FORMAT, Machine, Results, comparisons};
use super::run::{self, Plan};
use super::server::Kind;
use super::udp::Times;
use super::{l2tpns, table};
use crate::lab::error::{LabError, Result};
use crate::lab::{apt, cleanup, process};

/// Programs that the bench calls and the packages that bring them.
const NEEDED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("iperf3", "iperf3"),
    ("dpkg-deb", "dpkg"),
    ("taskset", "util-linux"),
];

const QUICK: Times = Times {
    step: Duration::from_millis(150),
    steady: Duration::from_millis(500),
};
const FULL: Times = Times {
    step: Duration::from_millis(250),
    steady: Duration::from_secs(1),
};

/// See the module.
#[derive(Clone, Debug, clap::Args)]
pub struct PathOptions {
    /// Six cells of the data path instead of all: 64 and 1400 octets up and down, TCP up and down.
    #[arg(long)]
    pub quick: bool,
    /// Of the data path only the cells whose name contains one of these, between commas.
    #[arg(long, value_name = "PATTERN", default_value = "", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Times that each server is measured, in turn.
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    /// The load of the quick cells.
    #[arg(long, value_enum, default_value_t = Sending::Plain)]
    pub load: Sending,
    /// LACs over which 1,000 sessions are spread; up to 100 always come from one.
    #[arg(long, default_value_t = 10)]
    pub lacs: u16,
    /// Datagrams that reach the server's interface back to back in plain load, as from a network card that interrupts once for
    /// so many; 1: each by itself.
    #[arg(long, default_value_t = 16)]
    pub train: usize,
    /// Measure this server alone; may be given twice.
    #[arg(long, value_enum, value_name = "SERVER")]
    pub server: Vec<Kind>,
}

impl PathOptions {
    /// Measures and prints; `json` is the file for the results.
    pub fn run(&self, program: &Path, json: Option<&Path>) -> Result<ExitCode> {
        if !nix::unistd::Uid::effective().is_root() {
            return Err(LabError::unmet(
                "the data path is measured in network namespaces: run the bench as root",
            ));
        }
        cleanup::install().map_err(|source| LabError::io("signals", source))?;
        apt::install_missing(NEEDED)?;
        let plan = self.plan(program);
        let versions = versions(&plan)?;
        let (results, settings) = run::run(&plan)?;
        println!("\n{}", table::render(results.rows()));
        print!("{}", table::render_comparisons(&comparisons(results.rows())));
        if let Some(file) = json {
            let document = document(results, settings, versions);
            let text = serde_json::to_string_pretty(&document).expect("a document is plain data");
            fs::write(file, text).map_err(|source| LabError::io(file, source))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn plan(&self, program: &Path) -> Plan {
        let mut stages = if self.quick {
            cell::quick(self.load)
        } else {
            cell::full()
        };
        stages.iter_mut().for_each(|stage| stage.keep(&self.only));
        let servers = if self.server.is_empty() {
            vec![Kind::Holdfast, Kind::L2tpns]
        } else {
            self.server.clone()
        };
        Plan {
            program: program.to_owned(),
            stages,
            rounds: self.rounds,
            times: if self.quick { QUICK } else { FULL },
            tcp_seconds: if self.quick { 2 } else { 5 },
            latency: Duration::from_secs(if self.quick { 1 } else { 3 }),
            train: self.train,
            servers,
            lacs: self.lacs,
        }
    }
}

fn versions(plan: &Plan) -> Result<Vec<(Kind, String)>> {
    let mut versions = Vec::new();
    if plan.servers.contains(&Kind::Holdfast) {
        let text = process::run(Command::new(&plan.program).arg("--version"))?;
        versions.push((Kind::Holdfast, text.trim().to_owned()));
    }
    if plan.servers.contains(&Kind::L2tpns) {
        versions.push((Kind::L2tpns, l2tpns::version()?));
    }
    for (kind, version) in &versions {
        println!("{kind}: {version}");
    }
    Ok(versions)
}

fn document(results: Results, settings: Vec<String>, versions: Vec<(Kind, String)>) -> Document {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    Document {
        format: FORMAT,
        time,
        machine: machine(),
        versions,
        settings,
        rows: results.rows().to_vec(),
        comparisons: comparisons(results.rows()),
    }
}

fn machine() -> Machine {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    Machine {
        processor: model.to_owned(),
        cores: super::cores::allowed().map_or(0, |cores| cores.len()),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}
