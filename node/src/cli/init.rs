//! `holdfast init`: a commented configuration file with random secrets.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::RngExt;

use super::{CliError, output};
use crate::config::starter;

/// Without the letters and digits that look alike, for a secret is sometimes typed.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// 24 letters of 56 are 139 bits.
const SECRET_LETTERS: usize = 24;

/// Writes `file`, which must not exist.
pub fn init(file: &Path) -> Result<(), CliError> {
    let text = starter(&random_secret(), &random_secret());
    let shown = file.display();
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let mut handle = created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::Failure(format!(
            "{shown} exists and is left as it is; name another file, or remove it first"
        )),
        _ => CliError::Failure(format!("cannot create {shown}: {error}")),
    })?;
    let written = handle.write_all(text.as_bytes()).and_then(|()| handle.sync_all());
    written.map_err(|error| CliError::Failure(format!("cannot write {shown}: {error}")))?;
    output::print(format_args!(
        "{shown} written, with random secrets, readable by you alone.\nEdit it, then:\n  \
         holdfast check --config {shown}\n  holdfast run --config {shown}"
    ))
}

/// A secret that needs escaping nowhere.
pub fn random_secret() -> String {
    let mut random = rand::rng();
    (0..SECRET_LETTERS)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}
