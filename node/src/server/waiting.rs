//! The operator's socket of a node that is not ready yet: every command is told what it waits for.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use crate::actors::members::Members;
use crate::api::{
    self, ApiError, Backend, ClusterOrder, ClusterStatus, ErrorCode, Fault, Listener, Page, ReloadReport,
    SessionInfo, StatusReport, Target, TunnelInfo,
};
use crate::metrics::Metrics;

/// See the module.
struct Waiting {
    node: u64,
    members: Option<Arc<Members>>,
}

/// Answers for as long as it is awaited.
pub async fn answer(
    listener: &Listener,
    node: u64,
    members: Option<Arc<Members>>,
    metrics: Arc<Metrics>,
) -> Infallible {
    let backend = Arc::new(Waiting { node, members });
    let ended = api::serve(listener, backend, metrics).await;
    tracing::warn!(
        ?ended,
        "the operator's socket does not answer before the node is ready"
    );
    pending().await
}

/// What keeps a node that starts from being ready, and what to do about it.
pub fn waits_for(node: u64, members: Option<&Members>) -> String {
    match members {
        Some(members) if members.is_removed(node) && members.group().contains(node) => format!(
            "waiting to be added: this node was removed from the cluster while it did not run; \"holdfast cluster add {node}\" at \
             another node, or stop it and take it out of the configuration of all members"
        ),
        Some(members) if !members.group().contains(node) => {
            format!(
                "waiting to be added to the cluster: \"holdfast cluster add {node}\" at one of its members"
            )
        }
        _ => {
            "waiting for a quorum of the cluster: start the other members, or see why they cannot be reached"
                .to_owned()
        }
    }
}

impl Waiting {
    fn refusal<T>(&self) -> Result<T, ApiError> {
        let what = waits_for(self.node, self.members.as_deref());
        let text = format!("node {} is not ready: {what}", self.node);
        Err(ApiError::new(ErrorCode::Unavailable, text))
    }
}

impl Backend for Waiting {
    async fn status(&self, _counters: bool) -> Result<StatusReport, ApiError> {
        self.refusal()
    }

    async fn tunnels(&self, _after: Option<Target>, _limit: usize) -> Result<Page<TunnelInfo>, ApiError> {
        self.refusal()
    }

    async fn sessions(
        &self,
        _user: Option<&str>,
        _after: Option<Target>,
        _limit: usize,
    ) -> Result<Page<SessionInfo>, ApiError> {
        self.refusal()
    }

    async fn disconnect(&self, _id: Target) -> Result<u64, ApiError> {
        self.refusal()
    }

    async fn shutdown(&self, _disconnect: bool) -> Result<u64, ApiError> {
        self.refusal()
    }

    async fn reload(&self) -> Result<ReloadReport, ApiError> {
        self.refusal()
    }

    async fn cluster(&self, _order: ClusterOrder) -> Result<ClusterStatus, ApiError> {
        self.refusal()
    }

    async fn inject(&self, _fault: Fault) -> Result<(), ApiError> {
        self.refusal()
    }
}
