//! The Arbiters: one a shard, watched; one that dies is replaced, and its tunnels are born from their rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use actix::prelude::*;
use tokio::sync::{Mutex, oneshot};

use crate::actors::context::Shared;
use crate::actors::shard::{Inbox, ShardActor, bear_all};
use crate::metrics::Counter;

/// Keeps one Arbiter a shard alive.
#[derive(Debug)]
pub struct Supervisor {
    stopping: Arc<AtomicBool>,
    watchers: Vec<tokio::task::JoinHandle<()>>,
}

impl Supervisor {
    /// Starts all shards.
    pub fn start(shared: &Arc<Shared>, inboxes: Vec<Arc<Mutex<Inbox>>>) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let watchers = inboxes
            .into_iter()
            .enumerate()
            .map(|(index, inbox)| tokio::spawn(watch(shared.clone(), index, inbox, stopping.clone())))
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
async fn watch(shared: Arc<Shared>, index: usize, inbox: Arc<Mutex<Inbox>>, stopping: Arc<AtomicBool>) {
    let mut reclaim = false;
    while !stopping.load(Relaxed) {
        bear_all(&shared, index, reclaim).await;
        let arbiter = Arbiter::new();
        let (alive, ended) = oneshot::channel();
        let (node, inbox, seed) = (shared.clone(), inbox.clone(), rand::random());
        arbiter.spawn_fn(move || {
            ShardActor::new(node, index, seed, inbox, alive).start();
        });
        // The sender is dropped with the actor: by a panic, or because its Arbiter ended.
        let _ = ended.await;
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
