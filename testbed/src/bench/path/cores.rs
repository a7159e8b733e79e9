//! Which cores the server under test has, and which the load and everything else.

use std::fmt;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::lab::error::{LabError, Result};

/// A division of the cores that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The server's alone, where there are enough.
    pub server: Vec<usize>,
    /// Of generator, receivers and simulator. Never empty.
    pub others: Vec<usize>,
}

impl Cores {
    /// Gives the server the last `wanted` of the cores that this process had at its start, `all`.
    pub fn divide(all: &[usize], wanted: usize) -> Self {
        let first = all.len().saturating_sub(wanted);
        let server = all[first..].to_vec();
        // With one core there is nothing to divide; the figures then say little, but they come.
        let others = if first == 0 { all } else { &all[..first] };
        Self {
            server,
            others: others.to_vec(),
        }
    }

    /// The server's cores as taskset takes them.
    pub fn server_list(&self) -> String {
        let names: Vec<String> = self.server.iter().map(ToString::to_string).collect();
        names.join(",")
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server on {:?}, the rest on {:?}", self.server, self.others)
    }
}

/// The cores that the calling thread may use.
pub fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|error| LabError::io("cores", error.into()))?;
    Ok((0..CpuSet::count())
        .filter(|core| set.is_set(*core).unwrap_or(false))
        .collect())
}

/// Pins the calling thread; those it starts inherit it.
pub fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)
            .map_err(|error| LabError::io("cores", error.into()))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| LabError::io("pinning", error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_has_cores_of_its_own_while_there_are_any() {
        let divided = |all: &[usize], wanted| {
            let cores = Cores::divide(all, wanted);
            (cores.server, cores.others)
        };
        assert_eq!(divided(&[0, 1, 2, 3], 1), (vec![3], vec![0, 1, 2]));
        assert_eq!(divided(&[0, 1, 2, 3], 3), (vec![1, 2, 3], vec![0]));
        assert_eq!(divided(&[4, 6], 2), (vec![4, 6], vec![4, 6]));
        assert_eq!(divided(&[0], 1), (vec![0], vec![0]));
    }
}
