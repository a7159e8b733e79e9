//! Puts the node together: starts it from its configuration, watches its parts, reloads it, stops it.

use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Config;
use crate::logging::LogControl;

/// Where the configuration came from, so that it can be read again.
pub type ConfigSource = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Runs a node until it is told to stop.
///
/// # Errors
/// What kept it from starting, in words for the operator.
pub fn run(config: Config, _source: ConfigSource, _log: LogControl) -> Result<ExitCode, String> {
    Err(format!("node {}: this build serves nobody yet", config.node.name))
}
