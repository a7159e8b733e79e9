//! What comes of a scenario.

use holdfast::api::ClientError;

use crate::{daemon, simulator};

/// How a scenario ended well.
#[derive(Debug)]
pub enum Outcome {
    /// What held, in a sentence.
    Held(String),
    /// It cannot be played here.
    Skipped(&'static str),
}

/// How a scenario ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node did what it must not.
    #[error("{0}")]
    Violation(String),
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    #[error(transparent)]
    Simulator(#[from] simulator::Error),
    #[error(transparent)]
    Api(#[from] ClientError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A violation unless `holds`.
pub fn ensure(holds: bool, violation: impl FnOnce() -> String) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Violation(violation()))
    }
}

/// A violation unless `text` has each of `wanted`.
pub fn ensure_says(text: &str, wanted: &[&str]) -> Result<(), Error> {
    let missing: Vec<_> = wanted.iter().filter(|part| !text.contains(**part)).collect();
    ensure(missing.is_empty(), || {
        format!("nothing says {missing:?}; what was said:\n{text}")
    })
}
