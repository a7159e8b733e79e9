//! Finds the node's socket.

use std::path::{Path, PathBuf};

use super::{CliError, NodeArgs};
use crate::api::Client;
use crate::config::{Config, STANDARD_SOCKET, dev};

/// Connects to the node that the arguments name.
pub fn connect(args: &NodeArgs) -> Result<Client, CliError> {
    Ok(Client::connect(&socket(args)?)?)
}

/// The user's home folder, for `--dev`.
pub fn home() -> Result<PathBuf, CliError> {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute())
        .ok_or_else(|| CliError::Usage("HOME is not set; name a folder with --data DIR".to_owned()))
}

fn socket(args: &NodeArgs) -> Result<PathBuf, CliError> {
    if let Some(socket) = &args.socket {
        return Ok(socket.clone());
    }
    if let Some(file) = &args.config {
        return Ok(Config::load(file)?.api.socket);
    }
    if let Some(data) = &args.data {
        return Ok(dev::socket(data));
    }
    if let Some(socket) = std::env::var_os("HOLDFAST_API__SOCKET").filter(|_| !args.dev) {
        return Ok(socket.into());
    }
    let standard = Path::new(STANDARD_SOCKET);
    if !args.dev && standard.exists() {
        return Ok(standard.to_owned());
    }
    match home() {
        // Who tries it out has one node, and need not say which.
        Ok(home) => {
            let dev = dev::socket(&dev::data_dir(&home));
            Ok(if args.dev || dev.exists() {
                dev
            } else {
                standard.to_owned()
            })
        }
        Err(error) if args.dev => Err(error),
        Err(_) => Ok(standard.to_owned()),
    }
}
