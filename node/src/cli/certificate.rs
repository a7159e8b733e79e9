//! `holdfast cluster certificate`: another certificate of the cluster's CA, for a new member or in the place of an old one.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{CliError, output};
use crate::peers::credentials;
use crate::peers::issue::{Authority, Validity};

/// For whom, and where the CA is.
#[derive(Debug, Args)]
pub struct CertificateArgs {
    /// Folder that "cluster init" wrote, with ca.pem and ca.key; the new files go there
    dir: PathBuf,
    /// A member's id, new or not; may be repeated
    #[arg(long = "node", value_name = "ID", required = true, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Vec<u32>,
    /// Put the new files in the place of existing ones
    #[arg(long)]
    replace: bool,
    /// How long the certificates are valid, in days [default: ten years]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
}

/// Writes a certificate and a key for each node; if one of the files exists and may not be replaced, nothing.
pub fn certificate(args: &CertificateArgs) -> Result<(), CliError> {
    let existing = args
        .nodes
        .iter()
        .flat_map(|node| names(*node))
        .map(|name| args.dir.join(name))
        .find(|path| path.exists());
    if let Some(existing) = existing.filter(|_| !args.replace) {
        return Err(CliError::Failure(format!(
            "{} exists and is left as it is, and nothing was written; a new one takes its place with --replace",
            existing.display()
        )));
    }
    let authority = open(&args.dir)?;
    let now = OffsetDateTime::now_utc();
    let validity = args
        .days
        .map_or_else(|| Validity::starting_at(now), |days| Validity::lasting(now, days));
    for node in &args.nodes {
        let issued = authority
            .issue((*node).into(), validity)
            .map_err(|error| CliError::Failure(format!("cannot make a certificate: {error}")))?;
        let ca = args.dir.join("ca.pem");
        credentials::is_issued_by(&ca, &issued.certificate, (*node).into()).map_err(|text| {
            let dir = args.dir.display();
            CliError::Failure(format!("{dir}/ca.key is not the key of {dir}/ca.pem: {text}"))
        })?;
        let [certificate, key] = names(*node).map(|name| args.dir.join(name));
        put(&key, issued.key.as_bytes(), 0o600)?;
        put(&certificate, issued.certificate.as_bytes(), 0o644)?;
    }
    output::print(instructions(args, validity))
}

fn names(node: u32) -> [String; 2] {
    [format!("node-{node}.pem"), format!("node-{node}.key")]
}

fn open(dir: &Path) -> Result<Authority, CliError> {
    let (ca, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let id = credentials::cluster_of_ca(&ca).map_err(CliError::Failure)?;
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            CliError::Failure(format!(
                "cannot read {path}: {error}; name the folder that \"holdfast cluster init\" wrote, with the CA and its key"
            ))
        })
    };
    let pem = Zeroizing::new(read(&key)?);
    Authority::open(&id, read(&ca)?, &pem)
        .map_err(|error| CliError::Failure(format!("{} holds no private key: {error}", key.display())))
}

/// Beside it first, so that there is never half a file.
fn put(path: &Path, octets: &[u8], mode: u32) -> Result<(), CliError> {
    let beside = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|error| CliError::Failure(format!("cannot write {}: {error}", path.display())))
}

fn instructions(args: &CertificateArgs, validity: Validity) -> String {
    let dir = args.dir.display();
    let mut text = format!(
        "Valid until {}. Copy, readable by holdfast alone:\n",
        validity.ends()
    );
    for node in &args.nodes {
        text += &format!("  node {node}: {dir}/ca.pem {dir}/node-{node}.pem {dir}/node-{node}.key\n");
    }
    text + "A node that runs takes them at \"holdfast reload\", without losing a connection. A new member needs a [[member]] in the \
            configuration of all members too, [cluster] join = true in its own, and then \"holdfast cluster add\"."
}
