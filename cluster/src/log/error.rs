//! What can go wrong with the data folder, in words for whoever has to mend it.

use std::io;
use std::path::{Path, PathBuf};

use crate::table::RestoreError;

/// An error of the log. None of them can be retried: what the disk holds is no longer known.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The data folder cannot be written.
    #[error(
        "the data folder {path} cannot be written: {source}. \
         Give the user that Holdfast runs as write access, or name another folder"
    )]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("the data folder {path} is in use by process {pid}. Stop that one first, or name another folder")]
    Locked {
        /// The folder.
        path: PathBuf,
        /// As the lock file says; `?` where it does not.
        pid: String,
    },
    /// Written by a newer Holdfast.
    #[error(
        "{path} has version {found}, this Holdfast knows versions up to {known}. Start the version that wrote it"
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The folder belongs to another node.
    #[error(
        "the data folder {path} belongs to node {found}, and the configuration is that of node {expected}: no \
         node may speak from another one's memory. Remedy: name the folder of node {expected} ([node] data_dir), or, if this is \
         the host of node {found}, put its id back ([node] id)"
    )]
    OtherNode {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: u64,
        /// Who we are.
        expected: u64,
    },
    /// Something that was durably committed is gone.
    #[error(
        "{path} is damaged at offset {offset}: {what}. This was durably committed, so Holdfast does not start \
         without it. Remedy, alone: put back a copy of the data folder; or, to give up all sessions, move the folder \
         away and start with an empty one, and every subscriber dials again. In a cluster no session is lost: move the \
         folder away and start; the node then says how it rejoins as a new member"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it, in octets.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The disk is full and the reserve is used up.
    #[error(
        "no space for the log in {path}, and the reserve is used up. Free space on that file system and start again"
    )]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// A record is larger than the log takes.
    #[error("a record of {octets} octets is larger than the log takes")]
    RecordTooLarge {
        /// Its size.
        octets: usize,
    },
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                path: path.to_path_buf(),
            },
            _ => Self::Io {
                action,
                path: path.to_path_buf(),
                source,
            },
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            offset,
            what: what.into(),
        }
    }

    pub(crate) fn from_restore(path: &Path, error: RestoreError) -> Self {
        match error {
            RestoreError::Version { found } => {
                let known = crate::limits::SNAPSHOT_VERSION;
                Self::NewerVersion {
                    path: path.to_path_buf(),
                    found,
                    known,
                }
            }
            other => Self::damaged(path, 0, other.to_string()),
        }
    }
}
