//! Looks again and again how much space the data folder's volume has left, and warns before the log needs its reserve.
//!
//! It is a warning only: while segments can be allocated the node serves as well as any other, and nodes that share a volume would
//! all step aside at once. A member steps aside when a segment could not be allocated (`cluster/src/liveness/aside.rs`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio::time::{MissedTickBehavior, interval};

use crate::actors::context::Shared;
use crate::metrics::{Limit, Metrics};

/// Less free space is worth a warning: room for 16 segments of the log.
const FREE_SPACE_MIN_MIB: u64 = 256;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// What the last look found.
#[derive(Debug)]
pub struct Space {
    /// `u64::MAX` while nothing is known.
    free_mib: AtomicU64,
}

impl Default for Space {
    fn default() -> Self {
        Self {
            free_mib: AtomicU64::new(u64::MAX),
        }
    }
}

/// To be spawned; ends with its task.
pub async fn keep(shared: Arc<Shared>) {
    let folder = shared.config.load().node.data_dir.clone();
    shared.metrics.set_limit(Limit::FreeSpace, FREE_SPACE_MIN_MIB);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = folder.clone();
        // A network's file system may keep who asks waiting.
        if let Ok(Some(free_mib)) = tokio::task::spawn_blocking(move || free_mib(&asked)).await {
            shared.space.handle_look(free_mib, &shared.metrics);
        }
    }
}

fn free_mib(folder: &Path) -> Option<u64> {
    let found = statvfs(folder).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()) >> 20)
}

impl Space {
    fn handle_look(&self, free_mib: u64, metrics: &Metrics) {
        let was_low = self.is_low();
        self.free_mib.store(free_mib, Relaxed);
        metrics.set_current(Limit::FreeSpace, free_mib);
        match (was_low, self.warning()) {
            (false, Some(warning)) => {
                metrics.hit(Limit::FreeSpace);
                tracing::warn!("{warning}");
            }
            (true, None) => tracing::info!(free_mib, "the volume of the data folder has space again"),
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn is_low(&self) -> bool {
        self.free_mib.load(Relaxed) < FREE_SPACE_MIN_MIB
    }

    /// That the space runs out, and what to do.
    pub fn warning(&self) -> Option<String> {
        self.is_low().then(|| {
            format!(
                "the volume of this node's data folder has {} MiB left, less than {FREE_SPACE_MIN_MIB} MiB: free some space there; once \
                 it is full this node refuses new calls, and in a cluster steps aside",
                self.free_mib.load(Relaxed)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_space_is_a_warning_until_there_is_more() {
        let (space, metrics) = (Space::default(), Metrics::default());
        let hits = || metrics.limits().iter().map(|row| row.hits).sum::<u64>();
        assert_eq!(space.warning(), None);
        space.handle_look(FREE_SPACE_MIN_MIB, &metrics);
        assert_eq!((space.warning(), hits()), (None, 0));
        for free_mib in [FREE_SPACE_MIN_MIB - 1, 3, 0] {
            space.handle_look(free_mib, &metrics);
            let warning = space.warning().expect("a warning");
            assert!(warning.contains(&format!("has {free_mib} MiB left")), "{warning}");
            // Once for each time that it ran out.
            assert_eq!(hits(), 1);
        }
        space.handle_look(FREE_SPACE_MIN_MIB, &metrics);
        assert_eq!(space.warning(), None);
        space.handle_look(0, &metrics);
        assert_eq!(hits(), 2);
    }

    #[test]
    fn the_volume_of_a_folder_has_a_size() {
        assert!(free_mib(Path::new("/")).is_some());
        assert_eq!(free_mib(Path::new("/no/such/folder")), None);
    }
}
