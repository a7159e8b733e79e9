//! What is wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file could not be read.
    Read {
        /// As given by the operator.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// All mistakes, in the order of their lines; never empty.
    Mistakes(Vec<Mistake>),
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where to mend it.
    pub place: Place,
    /// Such as `ppp.mru` or `user[2].password`, lists counted from 0; empty when the file is no TOML at all.
    pub key: String,
    /// What is wrong and, where it helps, what would be right. Never a secret.
    pub text: String,
}

/// Where a mistake was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file; a missing section has no line.
    File {
        /// As given by the operator.
        path: PathBuf,
        /// Counted from 1.
        line: Option<usize>,
    },
    /// In an environment variable, by its name.
    Environment(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.place, self.text),
            key => write!(f, "{}: {key}: {}", self.place, self.text),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
                write!(
                    f,
                    "there is no file {0}; \"holdfast init {0}\" writes one to start from",
                    path.display()
                )
            }
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Mistakes(mistakes) => {
                let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Mistakes(_) => None,
        }
    }
}
