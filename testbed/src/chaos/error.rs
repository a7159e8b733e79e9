//! Why a scenario could not be played to its end.

use crate::lab::LabError;
use crate::{daemon, simulator};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    #[error(transparent)]
    Simulator(#[from] simulator::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Something that had to happen did not.
    #[error("{0}")]
    Unmet(String),
}

pub type Result<T> = std::result::Result<T, Error>;
