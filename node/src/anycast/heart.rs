//! The child's side of the watch: beats for the parent as long as the threads that matter get on with their work.
//!
//! A thread that matters holds a [`Pulse`] and says [`Pulse::beat`] each time round its loop, which must come round at least every
//! 100 ms. The heart's own thread sends one beat for all, and none while any of them is late: a node whose table hangs on a
//! disk is as silent as one that is stopped. So it also never reports a thread that has ended on purpose: dropping the
//! pulse signs it off.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::parent::Leash;
use super::watch::BEAT;
use crate::io::TunLink;
use crate::io::clock;

/// Threads that are watched at once: every shard and a few more.
const MAX_PULSES: usize = 512;

/// The heart; dropped, it says farewell and stops.
#[derive(Debug)]
pub struct Heart {
    pulses: Arc<Pulses>,
    restored: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where the threads sign on.
#[derive(Debug, Default)]
pub struct Pulses(Mutex<Vec<Arc<Watched>>>);

#[derive(Debug)]
struct Watched {
    name: String,
    limit: Duration,
    /// Of the last beat, milliseconds since boot.
    last: AtomicU64,
    over: AtomicBool,
}

/// One thread's; cheap enough for a packet thread.
#[derive(Debug)]
pub struct Pulse(Arc<Watched>);

impl Pulse {
    /// The thread gets on. One store.
    pub fn beat(&self, now: Duration) {
        self.0.last.store(milliseconds(now), Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        // A thread that panics has not ended on purpose.
        if !std::thread::panicking() {
            self.0.over.store(true, Ordering::Relaxed);
        }
    }
}

impl Pulses {
    /// From now on the thread `name` beats at least every `limit`, or the node counts as hung. Beyond [`MAX_PULSES`] threads
    /// further ones are not watched.
    pub fn sign_on(&self, name: &str, limit: Duration, now: Duration) -> Pulse {
        let watched = Arc::new(Watched {
            name: name.to_owned(),
            limit,
            last: AtomicU64::new(milliseconds(now)),
            over: AtomicBool::new(false),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MAX_PULSES {
            all.push(watched.clone());
        } else {
            tracing::warn!(thread = name, "too many threads to watch them all");
        }
        Pulse(watched)
    }

    /// The first thread that is late, and by how much it is silent.
    fn late(&self, now: Duration) -> Option<(String, Duration)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|watched| !watched.over.load(Ordering::Relaxed));
        all.iter().find_map(|watched| {
            let last = Duration::from_millis(watched.last.load(Ordering::Relaxed));
            let silent = now.saturating_sub(last);
            (silent > watched.limit).then(|| (watched.name.clone(), silent))
        })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn one_late_thread_silences_the_heart() {
        let pulses = Pulses::default();
        let table = pulses.sign_on("table", LIMIT, at(0));
        let shard = pulses.sign_on("shard-0", LIMIT, at(0));
        table.beat(at(100));
        assert_eq!(pulses.late(at(200)), None);
        assert_eq!(pulses.late(at(250)), Some(("shard-0".into(), at(250))));
        shard.beat(at(260));
        assert_eq!(pulses.late(at(300)), None);
        assert_eq!(pulses.late(at(301)), Some(("table".into(), at(201))));
    }

    #[test]
    fn a_thread_that_ends_is_signed_off_and_one_that_panics_is_not() {
        let pulses = Arc::new(Pulses::default());
        drop(pulses.sign_on("ends", LIMIT, at(0)));
        assert_eq!(pulses.late(at(1000)), None);
        let of_thread = pulses.clone();
        let ended = std::thread::spawn(move || {
            let _pulse = of_thread.sign_on("panics", LIMIT, at(0));
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(ended.join().is_err());
        assert_eq!(pulses.late(at(1000)), Some(("panics".into(), at(1000))));
    }
}
