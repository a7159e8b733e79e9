//! `holdfast check`: every mistake of a configuration file, or what it amounts to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::{CliError, human, output};
use crate::config::{Config, LoadError, Mistake, Place, host_count};
use crate::peers::credentials;

/// Checks `file` with the environment.
pub fn check(file: &Path, json: bool) -> Result<(), CliError> {
    let result = Config::load(file);
    if json {
        let mistakes = match &result {
            Ok(_) => Vec::new(),
            Err(LoadError::Mistakes(mistakes)) => mistakes.iter().map(mistake_json).collect(),
            Err(error) => vec![json!({ "file": file, "text": error.to_string() })],
        };
        output::print_json(&json!({ "mistakes": mistakes }))?;
    }
    let config = result?;
    warn(file, &config);
    if json {
        return Ok(());
    }
    output::print(summary(file, &config))
}

/// Says what is allowed and hardly meant.
pub fn warn(file: &Path, config: &Config) {
    warn_of_readers(file);
    for warning in config.warnings() {
        eprintln!("holdfast: {warning}");
    }
    let Some(cluster) = &config.cluster else { return };
    warn_of_readers(&cluster.key);
    if let Some(warning) = credentials::ends_soon(cluster, config.node.id) {
        eprintln!("holdfast: {warning}");
    }
}

/// Says so if others than the owner can read the secrets in `file`.
fn warn_of_readers(file: &Path) {
    let mode = fs::metadata(file).map_or(0, |file| file.permissions().mode());
    if mode & 0o077 != 0 {
        eprintln!(
            "holdfast: {0} holds secrets and others can read it; chmod 0600 {0}",
            file.display()
        );
    }
}

fn summary(file: &Path, config: &Config) -> String {
    let count = |number: usize, noun| human::count(number as u64, noun);
    let addresses: u64 = config
        .pools
        .iter()
        .flat_map(|pool| &pool.prefixes)
        .map(|prefix| host_count(*prefix))
        .sum();
    let members = match config.members.len() {
        0 => String::new(),
        number => format!(", {}", count(number, "member")),
    };
    format!(
        "{}: no mistakes. {}, {} of {addresses} addresses, {}, {}{members}.",
        file.display(),
        count(config.node.listen.len(), "listener"),
        count(config.pools.len(), "pool"),
        count(config.lacs.len(), "LAC profile"),
        count(config.users.len(), "user"),
    )
}

fn mistake_json(mistake: &Mistake) -> serde_json::Value {
    let Mistake { place, key, text } = mistake;
    match place {
        Place::File { path, line } => json!({ "file": path, "line": line, "key": key, "text": text }),
        Place::Environment(variable) => json!({ "variable": variable, "key": key, "text": text }),
    }
}
