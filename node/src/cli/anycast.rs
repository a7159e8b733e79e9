//! `holdfast anycast`: what the BGP speaker beside the node needs to know.

use std::path::Path;

use super::{CliError, output};
use crate::anycast::bird;
use crate::config::Config;

/// Prints BIRD's configuration for the node that runs with `file`.
pub fn bird_config(file: &Path) -> Result<(), CliError> {
    let config = Config::load(file)?;
    let text = bird::configuration(&config)
        .map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))?;
    output::print(text)
}
