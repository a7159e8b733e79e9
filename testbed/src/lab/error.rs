//! What can go wrong in the lab.

use std::fmt::Display;
use std::process::ExitStatus;
use std::time::Duration;

/// A failure of the lab or of what is tested in it; the text is what the person reads under the test's name.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("`{command}`: {status}\n{output}")]
    Command {
        command: String,
        status: ExitStatus,
        output: String,
    },
    #[error("{what}: not seen within {} s", after.as_secs_f32())]
    Timeout { what: String, after: Duration },
    #[error("{0}")]
    Unmet(String),
}

pub type Result<T> = std::result::Result<T, LabError>;

impl LabError {
    /// An input or output error, with what was being read or written.
    pub fn io(what: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.as_ref().display().to_string(),
            source,
        }
    }

    /// An expectation that did not hold.
    pub fn unmet(what: impl Display) -> Self {
        Self::Unmet(what.to_string())
    }
}

/// Fails with `what` unless `holds`.
pub fn expect_that(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(LabError::Unmet(what()))
    }
}
