//! Signs of life of the threads without which the node is of no use.
//!
//! A thread that matters holds a [`Pulse`] and says [`Pulse::beat`] each time round its loop. Who watches
//! ([`crate::anycast`]'s heart, for the parent process) looks whether any of them is late. A thread that has ended on purpose is
//! not: dropping the pulse signs it off.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Threads that are watched at once: every shard and a few more.
const MAX_PULSES: usize = 512;

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

    /// The thread is watched no more, however it ends.
    pub fn sign_off(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        // A thread that panics has not ended on purpose.
        if !std::thread::panicking() {
            self.sign_off();
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
    pub fn late(&self, now: Duration) -> Option<(String, Duration)> {
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

    #[test]
    fn who_replaces_a_thread_that_panicked_signs_it_off() {
        let pulses = Arc::new(Pulses::default());
        let pulse = Arc::new(pulses.sign_on("panics", LIMIT, at(0)));
        let of_thread = pulse.clone();
        let ended = std::thread::spawn(move || {
            let _pulse = of_thread;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(ended.join().is_err());
        assert!(pulses.late(at(1000)).is_some());
        pulse.sign_off();
        assert_eq!(pulses.late(at(1000)), None);
    }
}
