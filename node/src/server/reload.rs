//! SIGHUP: takes over what can change while running, and says what changed and what needs a restart.

use std::sync::Arc;

use super::start::admission_limits;
use holdfast_cluster::records::SessionRow;

use crate::aaa::{Filters, LocalUsers, Policies};
use crate::actors::context::Shared;
use crate::actors::reach::PoolNetworks;
use crate::api::ReloadReport;
use crate::config::{Config, MemberConfig, Reload};
use crate::logging::{Escaped, LogControl};
use crate::metrics::Counter;

/// Carries a reload out. Sessions that are up keep what they have; users, secrets and limits count from their next use.
///
/// # Errors
/// Why the members of the file cannot be those of a cluster that runs; nothing has changed then.
pub fn apply(shared: &Shared, log: &LogControl, file: &Config) -> Result<ReloadReport, String> {
    let Reload {
        config,
        mut applied,
        mut needs_restart,
    } = Reload::between(&shared.config.load(), file);
    if let Some(members) = &shared.members {
        let own = config.node.id;
        let group = members.group();
        let stays = |node| group.contains(node) && !members.is_removed(own);
        if let Some(why) = contradiction(own, &shared.config.load().members, &config.members, stays) {
            return Err(why);
        }
    }
    if let Some(why) = filter_in_use(shared, &config) {
        return Err(why);
    }
    {
        let mut pools = shared.pools.lock().expect("nothing panics with the pools locked");
        pools.configure(&config.pools, &config.users);
        let mut prefixes = shared
            .prefixes
            .lock()
            .expect("nothing panics with the prefixes locked");
        prefixes.configure(&config.pools, &config.users);
    }
    let networks = PoolNetworks::of(&config);
    if networks != PoolNetworks::of(&shared.config.load()) && !shared.table.set_pools(networks) {
        needs_restart
            .push("pool: the session table is too busy to change what is routed: reload again".to_owned());
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
    shared.radius.configure(config.radius_settings());
    let policies = Policies::new(&config.policies, &config.filters);
    shared.policies.store(Arc::new(policies));
    let filters = Arc::new(Filters::new(&config.filters, &shared.filters.load()));
    shared.filters.store(filters.clone());
    if !shared.table.set_filters(filters) {
        needs_restart.push("filter: the session table is too busy to take them: reload again".to_owned());
    }
    shared.users.store(Arc::new(LocalUsers::new(&config.users)));
    if let Some(members) = &shared.members {
        members.reconfigure(&config);
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
    super::too_early::warn(shared, &config);
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
    Ok(ReloadReport {
        applied,
        needs_restart,
    })
}

/// A filter that would be gone while sessions have it: nothing of theirs would pass.
fn filter_in_use(shared: &Shared, config: &Config) -> Option<String> {
    let is_kept = |name: &str| config.filters.iter().any(|filter| filter.name == name);
    let gone: Vec<String> = shared
        .config
        .load()
        .filters
        .iter()
        .map(|filter| filter.name.clone())
        .collect();
    let gone: Vec<String> = gone.into_iter().filter(|name| !is_kept(name)).collect();
    if gone.is_empty() {
        return None;
    }
    let gone_of = |row: &SessionRow| {
        let service = row.ppp.as_ref()?.service.as_ref()?;
        service.filters.iter().find(|name| gone.contains(name)).cloned()
    };
    let (_, row) = shared
        .directory
        .select(1, |_, row| gone_of(row).is_some())
        .pop()?;
    let name = gone_of(&row)?;
    Some(format!(
        "filter: there is no [[filter]] \"{name}\" any more, but sessions have it, that of user \"{}\" for one: keep it, with rules = [] to let \
         everything pass, until the last has ended or been changed",
        Escaped(row.user().unwrap_or_default())
    ))
}

/// What is wrong with the members as they would be, `own` being this node: who `stays` in the Raft group must stay in the list.
fn contradiction(
    own: u64,
    running: &[MemberConfig],
    members: &[MemberConfig],
    stays: impl Fn(u64) -> bool,
) -> Option<String> {
    let is_listed = |id: u64| members.iter().any(|member| member.id == id);
    let missing = running
        .iter()
        .find(|member| !is_listed(member.id) && stays(member.id));
    if let Some(MemberConfig { id, address, .. }) = missing {
        return Some(format!(
            "member: there is no [[member]] with id = {id} ({address}) any more, but node {id} belongs to the cluster: write it as it \
             was, or give the order \"holdfast cluster remove {id}\" first"
        ));
    }
    // The file's own addresses differ from each other; that of this node may not be in use yet.
    let of_own = members.iter().find(|member| member.id == own)?.address;
    let taken = members
        .iter()
        .find(|member| member.id != own && member.address == of_own)?;
    Some(format!(
        "member: {of_own} is this node's address until it is started again, and node {} cannot have it before",
        taken.id
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, host: u8) -> MemberConfig {
        MemberConfig {
            id,
            address: ([10, 0, 0, host], 1710).into(),
            witness: false,
        }
    }

    #[test]
    fn who_belongs_to_the_cluster_stays_in_the_list() {
        let running = [member(1, 1), member(2, 2), member(3, 3)];
        let mistyped = [member(1, 1), member(2, 2), member(33, 3)];
        let why = contradiction(1, &running, &mistyped, |id| id <= 3).expect("a mistake");
        assert!(why.contains("no [[member]] with id = 3 (10.0.0.3:1710)"), "{why}");
        assert!(why.contains("holdfast cluster remove 3"), "{why}");
        assert_eq!(contradiction(1, &running, &mistyped, |id| id < 3), None);
        let grown = [member(1, 1), member(2, 2), member(3, 9), member(4, 4)];
        assert_eq!(contradiction(1, &running, &grown, |id| id <= 3), None);
    }

    #[test]
    fn nobody_takes_an_address_that_this_node_has() {
        let running = [member(1, 1), member(2, 2)];
        let swapped = [member(1, 1), member(2, 1)];
        let why = contradiction(1, &running, &swapped, |_| true).expect("a mistake");
        assert!(why.contains("10.0.0.1:1710 is this node's address"), "{why}");
    }
}
