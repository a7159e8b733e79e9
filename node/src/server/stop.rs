//! The end of a node: at once, keeping the sessions, or after every session has been ended properly.

use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use holdfast_protocol::avp::ResultCode;
use holdfast_protocol::iana::stop_result;

use super::start::Node;
use super::{DISCONNECT_PATIENCE, Stop, checkpoint, goodbye, handover, membership};
use crate::actors::shard::ShardInput;
use crate::actors::tunnel::Order;
use crate::lns::terminate_cause;

/// How often the end of the tunnels is looked for.
const LOOK: Duration = Duration::from_millis(50);

impl Node {
    /// Stops everything. The process may end then.
    pub async fn stop(mut self, why: Stop) -> ExitCode {
        let keeps = matches!(why, Stop::Keep);
        // In a cluster that goes on no LAC shall hear that this node does not.
        if !keeps || self.shared.members.is_none() {
            self.shared.closing.store(true, Relaxed);
        }
        if let Some(members) = &self.shared.members {
            members.announce_stop();
        }
        // The routers first: what they still send meanwhile is served.
        if let Some(presence) = self.presence.clone() {
            let _ = tokio::task::spawn_blocking(move || presence.withdraw()).await;
        }
        if let Some(members) = self.shared.members.as_ref().filter(|_| keeps) {
            handover::leave(&self.shared, members).await;
            self.shared.closing.store(true, Relaxed);
        }
        let code = match why {
            Stop::Keep => {
                tracing::info!(
                    sessions = self.shared.directory.sessions(),
                    "stopping; the sessions are kept for the next start"
                );
                ExitCode::SUCCESS
            }
            Stop::Disconnect => {
                self.disconnect_all().await;
                goodbye::tell_servers(&self.shared).await;
                ExitCode::SUCCESS
            }
            Stop::Broken(why) => {
                tracing::error!(
                    "the session table cannot go on: {why}; the sessions are kept as last written, start the node again"
                );
                ExitCode::FAILURE
            }
        };
        checkpoint::write(&self.shared).await;
        self.shards.stop().await;
        if self.shared.members.is_some() {
            // So that no election is needed.
            if let Some(leader) = membership::hand_over(&self.shared).await {
                tracing::info!(leader, "passed the lead on");
            }
        }
        self.shared.table.stop();
        if let Some(thread) = self.table_thread.take() {
            // A panic of that thread has been reported already.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        let dataplane = self.shared.dataplane.clone();
        let _ = tokio::task::spawn_blocking(move || dataplane.shutdown()).await;
        code
    }

    /// StopCCN on every tunnel of this node, which clears its sessions, then waits until the LACs have acknowledged or were given up.
    async fn disconnect_all(&self) {
        let sessions = self.own_sessions();
        tracing::info!(sessions, "ending all sessions of this node");
        let published = self.shared.table.published();
        let live = self.shared.directory.live_tunnels();
        for tunnel in live.into_iter().filter(|tunnel| published.owns(*tunnel)) {
            let result = ResultCode::new(stop_result::SHUTTING_DOWN);
            let order = Order::Close(result, terminate_cause::NAS_REBOOT);
            self.shared
                .shard_of(tunnel)
                .send(ShardInput::Tunnel { tunnel, order });
        }
        let deadline = tokio::time::Instant::now() + DISCONNECT_PATIENCE;
        while tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
            if self.everyone_has_heard() {
                return;
            }
        }
        tracing::warn!("some LACs did not acknowledge the end of their tunnels");
    }

    /// Whether no session of ours is left and every StopCCN of ours is acknowledged.
    fn everyone_has_heard(&self) -> bool {
        let published = self.shared.table.published();
        self.own_sessions() == 0 && self.shared.directory.all_quiet(|tunnel| published.owns(tunnel))
    }

    /// In a cluster the others keep theirs.
    fn own_sessions(&self) -> usize {
        let published = self.shared.table.published();
        let sessions = self.shared.directory.all_sessions();
        sessions
            .iter()
            .filter(|(tunnel, _)| published.owns(*tunnel))
            .count()
    }
}
