//! The Arbiters: one a shard, watched; one that dies is replaced, and its tunnels are born from their rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{Mutex, oneshot};

use crate::actors::context::Shared;
use crate::actors::shard::{Inbox, ShardActor, bear_all};
use crate::io::{Pulses, clock};
use crate::metrics::Counter;

/// A control thread that handles nothing for this long hangs, and be it the timers that it looks at every 10 ms. Much to do
/// between two of these is no hang: actors of a takeover, all the tunnels born at once.
const PULSE_LIMIT: Duration = Duration::from_secs(2);

/// Keeps one Arbiter a shard alive.
#[derive(Debug)]
pub struct Supervisor {
    stopping: Arc<AtomicBool>,
    watchers: Vec<tokio::task::JoinHandle<()>>,
}

impl Supervisor {
    /// Starts all shards.
    pub fn start(
        shared: &Arc<Shared>,
        inboxes: Vec<Arc<Mutex<Inbox>>>,
        pulses: Option<&Arc<Pulses>>,
    ) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let watchers = inboxes
            .into_iter()
            .enumerate()
            .map(|(index, inbox)| {
                let watching = watch(shared.clone(), index, inbox, stopping.clone(), pulses.cloned());
                tokio::spawn(watching)
            })
            .collect();
        Self { stopping, watchers }
    }

    /// Ends all shards' actors. Nothing is sent to any peer.
    pub async fn stop(self) {
        self.stopping.store(true, Relaxed);
        for watcher in self.watchers {
            watcher.abort();
        }
    }
}

/// Starts a shard's Arbiter and waits for its root actor's end, again and again.
async fn watch(
    shared: Arc<Shared>,
    index: usize,
    inbox: Arc<Mutex<Inbox>>,
    stopping: Arc<AtomicBool>,
    pulses: Option<Arc<Pulses>>,
) {
    let mut reclaim = false;
    while !stopping.load(Relaxed) {
        bear_all(&shared, index, reclaim).await;
        let arbiter = Arbiter::new();
        let (alive, ended) = oneshot::channel();
        let (node, inbox, seed) = (shared.clone(), inbox.clone(), rand::random());
        let sign_on = |pulses: &Arc<Pulses>| {
            let name = format!("control-{index}");
            Arc::new(pulses.sign_on(&name, PULSE_LIMIT, clock::since_boot()))
        };
        let pulse = pulses.as_ref().map(sign_on);
        let of_actor = pulse.clone();
        arbiter.spawn_fn(move || {
            ShardActor::new(node, index, seed, inbox, alive, of_actor).start();
        });
        // The sender is dropped with the actor: by a panic, or because its Arbiter ended.
        let _ = ended.await;
        if let Some(pulse) = pulse {
            pulse.sign_off();
        }
        if stopping.load(Relaxed) {
            return;
        }
        shared.metrics.count(Counter::ArbiterRestarts);
        tracing::error!(
            shard = index,
            "the shard's control thread died; its tunnels are born again from their rows"
        );
        arbiter.stop();
        // Its actors must be gone before their successors are born.
        let _ = tokio::task::spawn_blocking(move || arbiter.join()).await;
        reclaim = true;
    }
}
