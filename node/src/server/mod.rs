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
mod belonging;
pub mod checkpoint;
mod cluster;
mod cluster_orders;
mod cluster_status;
mod coa;
mod expiry;
mod goodbye;
mod handover;
mod leader_orders;
mod membership;
mod ownership;
pub mod past;
mod reload;
mod shards;
pub mod sheet;
mod space;
mod start;
mod stop;
mod too_early;
mod waiting;
mod way;

pub use checkpoint::Checkpoint;
pub use sheet::Totals;
pub use space::Space;
pub use start::StartError;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::actors::accounting::{self, Servers};
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
        // Before anything can be seen from outside: whoever sees the node may want to stop it.
        let mut signals = Signals::install();
        let (stop, stops) = mpsc::channel(4);
        let mut node = tokio::select! {
            node = Node::start(config, stop.clone(), leash) => node?,
            () = signals.stop() => return Ok(ExitCode::SUCCESS),
        };
        let listener = node.listener.take().expect("taken once");
        let backend = Arc::new(NodeBackend::new(node.shared.clone(), stop.clone(), source, log));
        let serving = {
            let (backend, metrics) = (backend.clone(), node.shared.metrics.clone());
            tokio::spawn(async move { api::serve(&listener, backend, metrics).await })
        };
        let hand_overs = tokio::spawn(handover::serve(node.shared.clone()));
        let cluster = [
            tokio::spawn(leader_orders::serve(node.shared.clone())),
            tokio::spawn(belonging::keep(node.shared.clone())),
            tokio::spawn(expiry::keep(node.shared.clone())),
        ];
        let checkpoints = tokio::spawn(checkpoint::keep(node.shared.clone()));
        let servers = Arc::new(Servers::new(node.shared.clone()));
        let accounting = tokio::spawn(accounting::keep(node.shared.clone(), servers));
        let announcing = node.presence.clone().map(|presence| {
            let shared = node.shared.clone();
            tokio::spawn(announce::keep(shared, presence))
        });
        let orders = coa::start(&node.shared, std::mem::take(&mut node.coa));
        let looking = tokio::spawn(way::keep(node.shared.clone()));
        let measuring = tokio::spawn(space::keep(node.shared.clone()));
        let early = tokio::spawn(too_early::look(node.shared.clone()));
        let why = wait(&backend, &mut signals, stops).await;
        checkpoints.abort();
        looking.abort();
        orders.iter().for_each(tokio::task::JoinHandle::abort);
        measuring.abort();
        early.abort();
        cluster.iter().for_each(tokio::task::JoinHandle::abort);
        if let Some(announcing) = announcing {
            announcing.abort();
        }
        let code = node.stop(why).await;
        accounting.abort();
        hand_overs.abort();
        serving.abort();
        Ok(code)
    })
}

/// What the operating system may want of the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> Self {
        let handler = |kind| signal(kind).expect("the process may install signal handlers");
        Self {
            terminate: handler(SignalKind::terminate()),
            interrupt: handler(SignalKind::interrupt()),
            hangup: handler(SignalKind::hangup()),
        }
    }

    /// SIGTERM or SIGINT.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves signals until something says stop.
async fn wait(backend: &NodeBackend, signals: &mut Signals, mut stops: mpsc::Receiver<Stop>) -> Stop {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Stop::Keep,
            _ = signals.interrupt.recv() => return Stop::Keep,
            _ = signals.hangup.recv() => {
                // What changed is logged by the reload itself.
                let _ = backend.reload_now().await;
            }
            stop = stops.recv() => return stop.unwrap_or(Stop::Keep),
        }
    }
}

/// How long the end of the sessions may take before the process ends all the same.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(40);
