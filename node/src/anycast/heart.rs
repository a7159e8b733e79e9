//! The child's side of the watch: beats for the parent as long as the threads that matter get on with their work.
//!
//! A thread that matters signs on to the [`Pulses`]. The heart's own thread sends one beat for all, and none while any of them is
//! late: a node whose table hangs on a disk is as silent as one that is stopped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::parent::Leash;
use super::watch::BEAT;
use crate::io::TunLink;
use crate::io::{Pulses, clock};

/// The heart; dropped, it says farewell and stops.
#[derive(Debug)]
pub struct Heart {
    pulses: Arc<Pulses>,
    restored: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    /// Begins to beat for the parent at the other end of `leash`, and restores `link` when that has set it down.
    ///
    /// # Errors
    /// No thread.
    pub fn start(leash: Leash, link: TunLink) -> io::Result<Self> {
        let pulses = Arc::new(Pulses::default());
        let restored = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let mut beating = Beating {
            leash,
            link,
            pulses: pulses.clone(),
            restored: restored.clone(),
            down: false,
            late: false,
        };
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("heart".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                beating.once(clock::since_boot());
                std::thread::park_timeout(BEAT);
            }
            beating.leash.farewell();
        })?;
        Ok(Self {
            pulses,
            restored,
            stop,
            thread: Some(thread),
        })
    }

    /// Where threads sign on.
    pub fn pulses(&self) -> Arc<Pulses> {
        self.pulses.clone()
    }

    /// How often the link has been restored: its routes are to be made again then.
    pub fn restored(&self) -> Arc<AtomicU64> {
        self.restored.clone()
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Beating {
    leash: Leash,
    link: TunLink,
    pulses: Arc<Pulses>,
    restored: Arc<AtomicU64>,
    /// The parent has set the link down and we have not set it up again.
    down: bool,
    /// Some thread was late the last time: said once.
    late: bool,
}

impl Beating {
    fn once(&mut self, now: Duration) {
        if let Some((thread, silent)) = self.pulses.late(now) {
            if !self.late {
                tracing::error!(thread, ?silent, "hangs; no beat for the parent process");
            }
            self.late = true;
            return;
        }
        self.late = false;
        self.leash.beat(self.link.index());
        // The parent's word counts, not our own lateness: it may have set the link down just before this beat.
        self.down |= self.leash.link_was_set_down();
        if !self.down {
            return;
        }
        match self.link.restore() {
            Ok(()) => {
                self.down = false;
                self.restored.fetch_add(1, Ordering::Release);
                tracing::warn!("we were held up, and the parent process set the link down; it is up again");
            }
            Err(error) => tracing::error!("the link that the parent process set down stays down: {error}"),
        }
    }
}
