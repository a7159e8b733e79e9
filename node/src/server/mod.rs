//! Puts the node together: starts it from its configuration, watches its parts, reloads it, stops it.
//!
//! ```text
//!   open log and table -> TUN, sockets -> packet threads -> table thread -> Take -> Arbiters -> operator's socket
//! ```
//!
//! The forwarding tables are filled from the session table before anything else runs, so after a restart data flows again
//! before the first actor is born.

mod announce;
mod backend;
mod checkpoint;
mod reload;
mod shards;
mod start;
mod stop;

pub use checkpoint::Checkpoint;
pub use start::StartError;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::anycast::Leash;
use crate::api;
use crate::config::Config;
use crate::io::host;
use crate::logging::LogControl;
use backend::NodeBackend;
use start::Node;

/// Where the configuration came from, so that it can be read again.
pub type ConfigSource = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// What makes a node stop.
#[derive(Debug)]
pub enum Stop {
    /// Keep the sessions for the next start.
    Keep,
    /// End all sessions properly first.
    Disconnect,
    /// The session table's disk failed: nothing more may be promised.
    Broken(String),
}

/// Runs a node until it is told to stop. `leash` leads to the parent process, if there is one.
///
/// # Errors
/// What kept it from starting, in words for the operator.
pub fn run(
    config: Config,
    source: ConfigSource,
    log: LogControl,
    leash: Option<Leash>,
) -> Result<ExitCode, StartError> {
    host::keep_files_private();
    let system = actix::System::new();
    system.block_on(async move {
        let (stop, stops) = mpsc::channel(4);
        let node = Node::start(config, stop.clone(), leash).await?;
        let listener = node.api_listener()?;
        let backend = Arc::new(NodeBackend::new(node.shared.clone(), stop.clone(), source, log));
        let serving = {
            let (backend, metrics) = (backend.clone(), node.shared.metrics.clone());
            tokio::spawn(async move { api::serve(&listener, backend, metrics).await })
        };
        let checkpoints = tokio::spawn(checkpoint::keep(node.shared.clone()));
        let announcing = node.presence.clone().map(|presence| {
            let shared = node.shared.clone();
            tokio::spawn(announce::keep(shared, presence))
        });
        let why = wait(&backend, stops).await;
        checkpoints.abort();
        if let Some(announcing) = announcing {
            announcing.abort();
        }
        let code = node.stop(why).await;
        serving.abort();
        Ok(code)
    })
}

/// Serves signals until something says stop.
async fn wait(backend: &NodeBackend, mut stops: mpsc::Receiver<Stop>) -> Stop {
    let handler = |kind| signal(kind).expect("the process may install signal handlers");
    let mut terminate = handler(SignalKind::terminate());
    let mut interrupt = handler(SignalKind::interrupt());
    let mut hangup = handler(SignalKind::hangup());
    loop {
        tokio::select! {
            _ = terminate.recv() => return Stop::Keep,
            _ = interrupt.recv() => return Stop::Keep,
            _ = hangup.recv() => {
                // What changed is logged by the reload itself.
                let _ = backend.reload_now().await;
            }
            stop = stops.recv() => return stop.unwrap_or(Stop::Keep),
        }
    }
}

/// How long the end of the sessions may take before the process ends all the same.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(40);
