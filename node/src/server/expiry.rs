//! Says in the log, once a day, that this node's certificate is about to end.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::context::Shared;
use crate::peers::credentials;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(86_400);

/// To be spawned; ends with its task.
pub async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let config = shared.config.load();
        let Some(cluster) = &config.cluster else { return };
        if let Some(text) = credentials::ends_soon(cluster, config.node.id) {
            tracing::warn!("{text}");
        }
    }
}
