//! SIGHUP: takes over what can change while running, and says what changed and what needs a restart.

use std::sync::Arc;

use super::start::admission_limits;
use crate::aaa::LocalUsers;
use crate::actors::agreement::Agreement;
use crate::actors::context::Shared;
use crate::api::ReloadReport;
use crate::config::{Config, Reload};
use crate::logging::LogControl;
use crate::metrics::Counter;

/// Carries a reload out. Sessions that are up keep what they have; users, secrets and limits count from their next use.
pub fn apply(shared: &Shared, log: &LogControl, file: &Config) -> ReloadReport {
    let Reload {
        config,
        mut applied,
        mut needs_restart,
    } = Reload::between(&shared.config.load(), file);
    {
        let mut pools = shared.pools.lock().expect("nothing panics with the pools locked");
        pools.configure(&config.pools, &config.users);
    }
    {
        let mut admission = shared
            .admission
            .lock()
            .expect("nothing panics with the admission locked");
        admission.set_limits(admission_limits(&config));
    }
    if let Err(error) = log.set_level(&config.log.level) {
        tracing::warn!(%error, "the log level could not be changed");
    }
    shared.users.store(Arc::new(LocalUsers::new(&config.users)));
    if let Some(members) = &shared.members {
        members.reconfigure(Agreement::of(&config));
        match config
            .cluster
            .as_ref()
            .map(|cluster| members.peers().renew(cluster))
        {
            Some(Ok(true)) => applied.push(
                "cluster.certificate: renewed, for connections made from now on; those that stand stay"
                    .to_owned(),
            ),
            Some(Err(text)) => needs_restart.push(format!(
                "cluster.certificate: the earlier one stays in use: {text}"
            )),
            Some(Ok(false)) | None => {}
        }
    }
    shared.config.store(Arc::new(config));
    shared.link_configs.clear();
    shared.publish_limits();
    shared.metrics.count(Counter::Reloads);
    for change in &applied {
        tracing::info!("reload: {change}");
    }
    for change in &needs_restart {
        tracing::warn!("reload: needs a restart: {change}");
    }
    if applied.is_empty() && needs_restart.is_empty() {
        tracing::info!("reload: nothing has changed");
    }
    ReloadReport {
        applied,
        needs_restart,
    }
}
