//! Sections of the file that a member with an older program does not know: it would drop what they bring from the rows that it writes.
//!
//! The table's version tells: it rises once every member's program knows the next one. A session that is granted before keeps going where a
//! newer program owns it, so this is said, not refused.

use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::limits::ORDERS_FROM;

use crate::actors::context::Shared;
use crate::config::Config;

/// A cluster that starts as a whole agrees on the version within this time.
const AGREEMENT: Duration = Duration::from_secs(30);

/// To be spawned when a node starts: says it once.
pub(super) async fn look(shared: Arc<Shared>) {
    tokio::time::sleep(AGREEMENT).await;
    warn(&shared, &shared.config.load());
}

/// Says it if there is something to say about this file.
pub(super) fn warn(shared: &Shared, config: &Config) {
    let version = shared.table.published().version();
    let sections = sections(config);
    if shared.members.is_some() && version < ORDERS_FROM && !sections.is_empty() {
        tracing::warn!(
            version,
            sections = sections.join(", "),
            "not all members run a program that knows these sections: one that does not drops what they bring whenever it writes a \
             session's row; take them out until `holdfast cluster status` shows version {ORDERS_FROM}"
        );
    }
}

fn sections(config: &Config) -> Vec<&'static str> {
    let ipv6 =
        |pool: &crate::config::PoolConfig| !pool.ipv6.link.is_empty() || !pool.ipv6.delegated.is_empty();
    [
        ("[[radius]]", !config.radius.is_empty()),
        ("[[policy]]", !config.policies.is_empty()),
        ("[[filter]]", !config.filters.is_empty()),
        ("IPv6 in [[pool]]", config.pools.iter().any(ipv6)),
    ]
    .into_iter()
    .filter_map(|(section, is_there)| is_there.then_some(section))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(pool: &str, more: &str) -> Vec<&'static str> {
        let text = format!(
            "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\n{pool}\n[[lac]]\nname = \"any\"\nhost_name = \"*\"\n{more}"
        );
        let config = Config::parse(Path::new("h.toml"), &text, []).expect("a good configuration");
        sections(&config)
    }

    #[test]
    fn sections_that_an_older_program_does_not_know() {
        assert_eq!(of("", ""), [""; 0]);
        let ipv6 = "link_prefixes = [\"2001:db8::/48\"]";
        let filter = "[[filter]]\nname = \"f\"\nrules = [\"deny in tcp from any to any 25\"]";
        assert_eq!(of(ipv6, filter), ["[[filter]]", "IPv6 in [[pool]]"]);
        let radius = "[[radius]]\naddress = \"192.0.2.9\"\nsecret = \"of the server\"";
        let policy = "[[policy]]\nname = \"slow\"\nrate_up = \"1M\"";
        assert_eq!(
            of("", &format!("{radius}\n{policy}")),
            ["[[radius]]", "[[policy]]"]
        );
    }
}
