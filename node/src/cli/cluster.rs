//! `holdfast cluster init`: certificates for the members of a new cluster, and the sections of each one's file.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};
use rand::RngExt;
use time::OffsetDateTime;

use super::certificate::{self, CertificateArgs};
use super::recover::{self, RecoverArgs};
use super::{CliError, NodeArgs, cluster_orders, output};
use crate::api::ClusterOrder;
use crate::config::{STANDARD_PEER_PORT, is_cluster_id};
use crate::peers::issue::{Authority, Validity};

/// What can be done about a cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make certificates and the configuration of the members of a new cluster
    Init(InitArgs),
    /// Make or renew a member's certificate under the cluster's CA
    Certificate(CertificateArgs),
    /// Show the members, who leads, and who owns how much
    Status(Asked),
    /// Have the other nodes take over everything that a node owns
    Drain(OfNode),
    /// Give a drained or returned node its share back
    Undrain(OfNode),
    /// Make a node a member
    ///
    /// It must be in the configuration of all members, and run with "join = true" in its [cluster]. It gets the whole table
    /// first, then a vote. "undrain" gives it groups.
    Add(OfNode),
    /// Have a node, dead or alive, be no member any more
    ///
    /// The others take over what it owns first. Stop it then, and take it out of the configuration of all members.
    Remove(OfNode),
    /// Give each living node its share
    Rebalance(Asked),
    /// Have a stopped node go on as a cluster of its own, when the quorum is gone for good
    ///
    /// What the lost nodes decided without this one is lost. They must not come back with their data: each is to be added
    /// anew. Without --force it only says what it would do. While any other member's cluster address takes connections it is
    /// refused, with --force too: with a majority there is nothing to recover, and fewer are to be stopped first.
    Recover(RecoverArgs),
}

/// Which running node is asked.
#[derive(Debug, Args)]
pub struct Asked {
    #[command(flatten)]
    node: NodeArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What an order is about.
#[derive(Debug, Args)]
pub struct OfNode {
    /// Id of the node
    #[arg(value_name = "NODE")]
    id: u64,
    #[command(flatten)]
    asked: Asked,
}

/// Does it.
pub fn run(command: ClusterCommand) -> Result<(), CliError> {
    let (order, asked) = match command {
        ClusterCommand::Init(args) => return init(&args),
        ClusterCommand::Certificate(args) => return certificate::certificate(&args),
        ClusterCommand::Recover(args) => return recover::recover(&args),
        ClusterCommand::Status(asked) => (ClusterOrder::Show, asked),
        ClusterCommand::Drain(OfNode { id, asked }) => (ClusterOrder::Drain { node: id }, asked),
        ClusterCommand::Undrain(OfNode { id, asked }) => (ClusterOrder::Undrain { node: id }, asked),
        ClusterCommand::Add(OfNode { id, asked }) => (ClusterOrder::Add { node: id }, asked),
        ClusterCommand::Remove(OfNode { id, asked }) => (ClusterOrder::Remove { node: id }, asked),
        ClusterCommand::Rebalance(asked) => (ClusterOrder::Rebalance, asked),
    };
    cluster_orders::order(&asked.node, order, asked.json)
}

/// What the cluster is to be.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder to write to; nothing in it is overwritten
    dir: PathBuf,
    /// A member: its [node] id, and where the others reach it; to be repeated
    #[arg(long = "member", value_name = "ID=ADDRESS:PORT", required = true)]
    members: Vec<MemberArg>,
    /// A member that votes and serves nobody; may be repeated
    #[arg(long = "witness", value_name = "ID")]
    witnesses: Vec<u64>,
    /// Name of the cluster [default: random]
    #[arg(long, value_name = "TEXT")]
    id: Option<String>,
    /// Folder in which the members will keep these files
    #[arg(long, value_name = "DIR", default_value = "/etc/holdfast")]
    install: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemberArg {
    id: u64,
    address: SocketAddr,
}

/// A file to be written.
struct Planned {
    name: String,
    text: zeroize::Zeroizing<String>,
    mode: u32,
}

/// Writes everything or, if one of the files exists, nothing.
fn init(args: &InitArgs) -> Result<(), CliError> {
    check(args)?;
    let id = args.id.clone().unwrap_or_else(random_id);
    let validity = Validity::starting_at(OffsetDateTime::now_utc());
    let files = plan(args, &id, validity)
        .map_err(|error| CliError::Failure(format!("cannot make certificates: {error}")))?;
    write(&args.dir, &files)?;
    output::print(instructions(args, &id, validity))
}

fn check(args: &InitArgs) -> Result<(), CliError> {
    let usage = |text: String| Err(CliError::Usage(text));
    for (index, member) in args.members.iter().enumerate() {
        for earlier in &args.members[..index] {
            if earlier.id == member.id {
                return usage(format!("--member {} is given twice", member.id));
            }
            if earlier.address == member.address {
                return usage(format!("two members cannot have one address: {}", member.address));
            }
        }
    }
    let is_member = |id: &u64| args.members.iter().any(|member| member.id == *id);
    if let Some(id) = args.witnesses.iter().find(|id| !is_member(id)) {
        return usage(format!("--witness {id}: there is no --member {id}=..."));
    }
    if args
        .members
        .iter()
        .all(|member| args.witnesses.contains(&member.id))
    {
        return usage("all members are witnesses; one at least must serve".to_owned());
    }
    match &args.id {
        Some(id) if !is_cluster_id(id) => usage(format!(
            "--id must have 1 to 64 letters, digits, \"-\", \".\" and \"_\", not \"{id}\""
        )),
        _ if !args.install.is_absolute() => usage(format!(
            "--install must be an absolute path, not {}",
            args.install.display()
        )),
        _ => Ok(()),
    }
}

/// 64 bits: enough that two clusters of one operator never have the same.
fn random_id() -> String {
    format!("{:016x}", rand::rng().random::<u64>())
}

fn plan(args: &InitArgs, id: &str, validity: Validity) -> Result<Vec<Planned>, rcgen::Error> {
    let file = |name: String, text: zeroize::Zeroizing<String>, mode| Planned { name, text, mode };
    let authority = Authority::new(id, validity)?;
    let ca = authority.issued();
    let mut files = vec![
        file("ca.pem".to_owned(), ca.certificate.into(), 0o644),
        file("ca.key".to_owned(), ca.key, 0o600),
    ];
    for member in &args.members {
        let node = member.id;
        let issued = authority.issue(node, validity)?;
        files.push(file(format!("node-{node}.pem"), issued.certificate.into(), 0o644));
        files.push(file(format!("node-{node}.key"), issued.key, 0o600));
        let text = sections(args, id, *member);
        files.push(file(format!("node-{node}.toml"), text.into(), 0o644));
    }
    Ok(files)
}

/// What one member's configuration needs.
fn sections(args: &InitArgs, id: &str, own: MemberArg) -> String {
    let node = own.id;
    let path = |name: String| quoted(&args.install.join(name).display().to_string());
    let mut text = format!(
        "# For node {node} alone: to be added to its configuration, with [node] id = {node}.\n\
         [cluster]\nid = \"{id}\"\nlisten = \"{}\"\nca = {}\ncertificate = {}\nkey = {}\n",
        own.address,
        path("ca.pem".to_owned()),
        path(format!("node-{node}.pem")),
        path(format!("node-{node}.key")),
    );
    for member in &args.members {
        write!(
            text,
            "\n[[member]]\nid = {}\naddress = \"{}\"\n",
            member.id, member.address
        )
        .expect("a String takes everything");
        if args.witnesses.contains(&member.id) {
            text.push_str("witness = true\n");
        }
    }
    text
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn write(dir: &Path, files: &[Planned]) -> Result<(), CliError> {
    if let Some(existing) = files
        .iter()
        .map(|file| dir.join(&file.name))
        .find(|path| path.exists())
    {
        return Err(CliError::Failure(format!(
            "{} exists and is left as it is, and nothing was written; name another folder, or remove it first",
            existing.display()
        )));
    }
    let failed = |path: &Path, error| CliError::Failure(format!("cannot write {}: {error}", path.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| failed(dir, error))?;
    for file in files {
        let path = dir.join(&file.name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(&path)
            .and_then(|mut handle| {
                handle.write_all(file.text.as_bytes())?;
                handle.sync_all()
            });
        written.map_err(|error| failed(&path, error))?;
    }
    fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| failed(dir, error))
}

fn instructions(args: &InitArgs, id: &str, validity: Validity) -> String {
    let (dir, install) = (args.dir.display(), args.install.display());
    let mut text = format!(
        "Cluster {id}: certificates of {} members in {dir}, valid until {}.\nCopy to {install} of each member, readable \
         by holdfast alone:\n",
        args.members.len(),
        validity.ends(),
    );
    for member in &args.members {
        let MemberArg { id, address } = member;
        writeln!(
            text,
            "  node {id} ({address}): ca.pem node-{id}.pem node-{id}.key"
        )
        .expect("a String takes everything");
    }
    let voters = args.members.len();
    if voters.is_multiple_of(2) {
        writeln!(
            text,
            "An even number of members gains nothing: {voters} survive the loss of {}, as {} would.",
            (voters - 1) / 2,
            voters - 1
        )
        .expect("a String takes everything");
    }
    text + "Append node-N.toml to the configuration of node N, then: holdfast check --config FILE\n\
            Keep ca.key away from the members: who has it can make members."
}

impl FromStr for MemberArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("must be ID=ADDRESS:PORT, such as 1=10.0.0.1:{STANDARD_PEER_PORT}");
        let (id, address) = text.split_once('=').ok_or_else(form)?;
        let id = id
            .parse()
            .ok()
            .filter(|id| (1..=u64::from(u32::MAX)).contains(id));
        let address: SocketAddr = address.parse().map_err(|_| form())?;
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            return Err(format!("{address} is no address that others can reach"));
        }
        Ok(Self {
            id: id.ok_or_else(form)?,
            address,
        })
    }
}
