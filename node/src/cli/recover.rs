//! `holdfast cluster recover`: a stopped node goes on as a cluster of its own when the quorum is gone for good.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use holdfast_cluster::log::DiskLog;
use holdfast_cluster::replica::{Others, RecoverError, Survivor};
use rand::RngExt;
use serde_json::json;

use super::{CliError, output};
use crate::config::Config;

/// The files of the session table in a data folder begin with one of these.
const TABLE_FILES: [&str; 2] = ["segment-", "snapshot-"];

/// How long a member's cluster address may take to answer: one lost packet is sent again after a second.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Which node goes on.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Configuration of the node that goes on; it must be stopped
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Do it; without this it is only said what would be done
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the node's log tells.
struct Plan {
    node: u64,
    folder: PathBuf,
    /// The others of the group that is given up.
    lost: Vec<u64>,
    /// Those of them that run, as it seems, and where.
    answering: BTreeMap<u64, SocketAddr>,
    /// What that means.
    others: Others,
    term: u64,
    index: u64,
    tunnels: usize,
    sessions: usize,
}

/// Says what is going to be done and what may be lost; does it where `--force` is given.
pub fn recover(args: &RecoverArgs) -> Result<(), CliError> {
    let config = Config::load(&args.config)?;
    let folder = config.node.data_dir.clone();
    if config.cluster.is_none() {
        let text = format!(
            "{} has no [cluster] section: a node alone has no quorum to lose",
            args.config.display()
        );
        return Err(CliError::Usage(text));
    }
    if !folder.is_dir() {
        return Err(failure(&folder, &"there is no such folder"));
    }
    let survivor = DiskLog::open(&folder)
        .map_err(RecoverError::from)
        .and_then(|log| Survivor::read(log, config.node.id))
        .map_err(|error| failure(&folder, &error))?;
    let plan = plan(&config, &survivor)?;
    if !args.force {
        show(args, &plan, None)?;
        plan.refuse_if_others_run()?;
        return Err(CliError::Failure(
            "nothing was changed: it is done with --force".to_owned(),
        ));
    }
    plan.refuse_if_others_run()?;
    if !args.json {
        output::print(plan.text())?;
    }
    let backup = back_up(&folder)?;
    let generation = survivor.begin_alone(rand::rng().random());
    let generation = generation.map_err(|error| failure(&folder, &error))?;
    show(args, &plan, Some((generation, &backup)))
}

fn failure(folder: &Path, error: &dyn std::fmt::Display) -> CliError {
    CliError::Failure(format!("cannot recover from {}: {error}", folder.display()))
}

fn plan(config: &Config, survivor: &Survivor<DiskLog>) -> Result<Plan, CliError> {
    let node = config.node.id;
    let members = survivor.members();
    let all = [&members.voters, &members.learners, &members.outgoing];
    let lost: BTreeSet<u64> = all.into_iter().flatten().copied().collect();
    let lost: Vec<u64> = lost.into_iter().filter(|member| *member != node).collect();
    let answering = who_answers(&addresses(config, &lost)?);
    let (term, index) = survivor.last();
    Ok(Plan {
        node,
        folder: config.node.data_dir.clone(),
        lost,
        others: survivor.others(&answering.keys().copied().collect()),
        answering,
        term,
        index,
        tunnels: survivor.table().tunnel_count(),
        sessions: survivor.table().session_count(),
    })
}

/// Where the others are. Of whom nobody knows that, nobody can tell whether it runs.
fn addresses(config: &Config, nodes: &[u64]) -> Result<BTreeMap<u64, SocketAddr>, CliError> {
    let address = |node: &u64| {
        let member = config.members.iter().find(|member| member.id == *node);
        member.map(|member| (*node, member.address)).ok_or_else(|| {
            CliError::Failure(format!(
                "cannot look whether node {node} still runs: it is a member by the log of node {}, and no [[member]] has its \
                 address. Put that back; it has to stay after the recovery, too",
                config.node.id
            ))
        })
    };
    nodes.iter().map(address).collect()
}

/// Those whose cluster address takes a connection, all asked at once.
fn who_answers(addresses: &BTreeMap<u64, SocketAddr>) -> BTreeMap<u64, SocketAddr> {
    let connects = |address: &SocketAddr| TcpStream::connect_timeout(address, ANSWER_PATIENCE).is_ok();
    thread::scope(|scope| {
        let asked: Vec<_> = addresses
            .iter()
            .map(|(node, address)| (*node, *address, scope.spawn(move || connects(address))))
            .collect();
        let answered = asked
            .into_iter()
            // Who cannot be asked is not known to be silent.
            .filter_map(|(node, address, asked)| asked.join().unwrap_or(true).then_some((node, address)));
        answered.collect()
    })
}

impl Plan {
    fn lost(&self) -> String {
        let ids: Vec<String> = self.lost.iter().map(ToString::to_string).collect();
        ids.join(", ")
    }

    /// A group of which members still run is not recovered from under them.
    fn refuse_if_others_run(&self) -> Result<(), CliError> {
        let node = self.node;
        let answering: Vec<String> = self
            .answering
            .iter()
            .map(|(node, address)| format!("node {node} answers at {address}"))
            .collect();
        let answering = answering.join(", ");
        let why = match self.others {
            Others::Silent => return Ok(()),
            Others::Quorum => format!(
                "the quorum is not lost, and a recovery would end it: {answering}, and with node {node} that is a majority. \
                 Start node {node}, nothing has to be recovered"
            ),
            Others::Running => format!(
                "{answering}: stop what runs there first. Of the nodes that are left, recover the one whose log reaches furthest"
            ),
        };
        Err(CliError::Failure(format!("nothing was changed: {why}")))
    }

    fn text(&self) -> String {
        let Self {
            node, term, index, ..
        } = self;
        format!(
            "Node {node} becomes a cluster of its own, with the {} tunnels and {} sessions of its log ({}).\n\
             - Its group had also: {}. They are members no more, and must never start again with the data they have.\n\
             - What they decided without this node is lost: its log ends at entry {index} of term {term}. Where another node's\n  \
             data is left, look there with \"holdfast cluster recover\" first: the higher term counts, then the higher entry.\n\
             - Do this on one node only.",
            self.tunnels,
            self.sessions,
            self.folder.display(),
            self.lost(),
        )
    }

    fn next_steps(&self, backup: &Path) -> String {
        let node = self.node;
        let lost = self.lost();
        let one = self.lost.first().copied().unwrap_or_default();
        format!(
            "Done. What was there before is in {}.\n\
             Next:\n\
             1. Start node {node}. It takes all groups, and its sessions are served again.\n\
             2. Leave the [[member]] of each lost node ({lost}) in its configuration for now: one that comes back with its old\n   \
             data learns there that it must not go on, and ends.\n\
             3. Move the data folder of each lost node away, set [cluster] join = true in its configuration, and start it;\n   \
             then, on node {node}: holdfast cluster add {one}, holdfast cluster rebalance",
            backup.display(),
        )
    }
}

fn show(args: &RecoverArgs, plan: &Plan, done: Option<(u64, &Path)>) -> Result<(), CliError> {
    if args.json {
        return output::print_json(&json!({
            "node": plan.node,
            "lost": plan.lost,
            "answering": plan.answering.keys().collect::<Vec<_>>(),
            "last_term": plan.term,
            "last_index": plan.index,
            "tunnels": plan.tunnels,
            "sessions": plan.sessions,
            "recovered": done.is_some(),
            "generation": done.map(|(generation, _)| generation),
            "backup": done.map(|(_, backup)| backup),
        }));
    }
    match done {
        None => output::print(plan.text()),
        Some((_, backup)) => output::print(plan.next_steps(backup)),
    }
}

/// Copies what is about to be replaced to a folder beside it, durably.
fn back_up(folder: &Path) -> Result<PathBuf, CliError> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let backup = folder.join(format!("before-recovery-{}", unix.as_secs()));
    let copied = || -> std::io::Result<()> {
        fs::create_dir(&backup)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if TABLE_FILES.iter().any(|prefix| text.starts_with(prefix)) {
                let copy = backup.join(&name);
                fs::copy(entry.path(), &copy)?;
                File::open(copy)?.sync_all()?;
            }
        }
        File::open(&backup)?.sync_all()?;
        File::open(folder)?.sync_all()
    };
    copied().map_err(|error| {
        let text = format!(
            "nothing was changed: cannot keep a copy in {}: {error}",
            backup.display()
        );
        CliError::Failure(text)
    })?;
    Ok(backup)
}
